//! The losses of judged records: what each contributes to an objective, and its derivative.

mod bradley_terry;
mod dpo;
mod kto;
mod sft;

pub use bradley_terry::{BradleyTerry, BradleyTerryError};
pub use dpo::{Dpo, DpoError, DpoLoss, PairLogProbs};
pub use kto::{Kto, KtoError, mismatched_kl};
pub use sft::Sft;

use crate::{Judgement, Record, RecordKind};

/// A loss of judged records, the same for every objective. Adding one is a file beside this one and a variant here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Direct preference optimisation, on pairs.
    Dpo(Dpo),
    /// Kahneman–Tversky optimisation, on responses that are good or bad by themselves.
    Kto(Kto),
    /// Supervised fine-tuning, on single responses.
    Sft(Sft),
    /// A reward model's, on pairs.
    BradleyTerry(BradleyTerry),
}

/// What a loss takes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// log π(y|x), summed over its tokens.
    LogProb,
    /// A reward for every objective, of a reward model.
    Rewards,
}

/// What one judgement contributes to one objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// ℓ.
    pub loss: f64,
    /// ∂ℓ/∂output of the response that is judged, and of the one that it is compared with (0 where there is none).
    pub gradient: [f64; 2],
    /// How far the outputs lean to the preferred response, in units of reward: above 0 where the model agrees with
    /// the label. `None` where the label prefers none.
    pub margin: Option<f64>,
}

impl Term {
    /// Whether the model leans to the preferred response; `None` where the label prefers none.
    #[must_use]
    pub fn is_correct(&self) -> Option<bool> {
        self.margin.map(|margin| margin > 0.0)
    }
}

/// Turns the margin of response 0 into that of the response that the label prefers; `None` for a label of ½.
fn towards_preferred(margin: f64, label: f64) -> Option<f64> {
    (label != 0.5).then(|| margin * (label - 0.5).signum())
}

/// The terms of a judgement on every objective, `None` where it has no label.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgementTerms {
    /// The response that is judged, and the one that it is compared with.
    pub(crate) responses: [Option<usize>; 2],
    /// One an objective.
    pub(crate) terms: Vec<Option<Term>>,
}

/// The terms of a record: one a judgement and objective.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordTerms {
    /// Numbers that the model has put out for the record.
    pub(crate) outputs: usize,
    /// Numbers a response.
    pub(crate) width: usize,
    pub(crate) judgements: Vec<JudgementTerms>,
}

impl RecordTerms {
    /// The terms of objective `i`, in the order of the judgements that have a label on it.
    pub fn of(&self, i: usize) -> impl Iterator<Item = &Term> {
        (self.judgements.iter()).filter_map(move |judgement| judgement.terms[i].as_ref())
    }
}

impl Loss {
    /// The kind of records that it is a function of.
    #[must_use]
    pub fn record_kind(&self) -> RecordKind {
        match self {
            Self::Dpo(_) | Self::BradleyTerry(_) => RecordKind::Pair,
            Self::Kto(_) => RecordKind::Unpaired,
            Self::Sft(_) => RecordKind::Sft,
        }
    }

    /// Whether it compares the policy with a reference.
    #[must_use]
    pub fn needs_reference(&self) -> bool {
        match self {
            Self::Dpo(_) | Self::Kto(_) => true,
            Self::Sft(_) | Self::BradleyTerry(_) => false,
        }
    }

    /// Whether it compares a record with how far the policy has moved from the reference on the whole: [`Record::kl`].
    #[must_use]
    pub fn needs_kl(&self) -> bool {
        match self {
            Self::Kto(_) => true,
            Self::Dpo(_) | Self::Sft(_) | Self::BradleyTerry(_) => false,
        }
    }

    /// What it takes of a response.
    #[must_use]
    pub fn outputs(&self) -> Outputs {
        match self {
            Self::Dpo(_) | Self::Kto(_) | Self::Sft(_) => Outputs::LogProb,
            Self::BradleyTerry(_) => Outputs::Rewards,
        }
    }

    /// Numbers that it takes of a response.
    #[must_use]
    pub fn width(&self, objectives: usize) -> usize {
        match self.outputs() {
            Outputs::LogProb => 1,
            Outputs::Rewards => objectives,
        }
    }

    /// A number that no policy's loss is below under this label: the entropy of the label for DPO's sigmoid (the
    /// cross-entropy of a label is never below its entropy), min(p·w_D, (1−p)·w_U) for KTO under the label p, and 0 for others.
    #[must_use]
    pub fn lowest(&self, label: f64) -> f64 {
        match self {
            Self::Dpo(dpo) => dpo.lowest(label),
            Self::Kto(kto) => kto.lowest(label),
            Self::Sft(_) | Self::BradleyTerry(_) => 0.0,
        }
    }

    /// The terms of a record.
    ///
    /// # Panics
    /// When a judgement is about a response that is not there, the record is not of this loss's
    /// [kind](Self::record_kind), or has no reference where one is [needed](Self::needs_reference).
    #[must_use]
    pub fn terms(&self, record: &Record<'_>) -> RecordTerms {
        let judgement = |judgement: &Judgement| {
            let labels = judgement.labels.iter().enumerate();
            JudgementTerms {
                responses: [Some(judgement.response), judgement.against],
                terms: labels
                    .map(|(i, label)| label.map(|label| self.term(record, judgement, i, label)))
                    .collect(),
            }
        };
        RecordTerms {
            outputs: record.outputs.len(),
            width: self.width(record.objectives()),
            judgements: record.judgements.iter().map(judgement).collect(),
        }
    }

    /// The term of a judgement on objective `i`, on which it has this label.
    fn term(&self, record: &Record<'_>, judgement: &Judgement, i: usize, label: f64) -> Term {
        let first = judgement.response;
        let pair = || {
            let second = judgement.against;
            [first, second.expect("a loss of pairs reads pairs")]
        };
        match self {
            Self::Dpo(dpo) => {
                let pair = PairLogProbs {
                    policy: pair().map(|response| record.outputs[response]),
                    reference: pair().map(|response| record.reference[response]),
                    tokens: pair().map(|response| record.tokens[response]),
                };
                dpo.term(&pair, label)
            }
            Self::Kto(kto) => {
                let log_ratio = record.outputs[first] - record.reference[first];
                kto.term(log_ratio, record.kl, label)
            }
            Self::Sft(sft) => sft.term(record.outputs[first], record.tokens[first]),
            Self::BradleyTerry(loss) => {
                let width = judgement.labels.len();
                let rewards = pair().map(|response| record.outputs[response * width + i]);
                loss.term(rewards, label)
            }
        }
    }
}
