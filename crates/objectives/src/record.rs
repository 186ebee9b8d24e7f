//! What a loss sees of a record.

use serde::{Deserialize, Serialize};

/// What a method trains on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordKind {
    /// Two or more responses to one prompt, and which of two each objective prefers (DPO, reward models).
    Pair,
    /// One response to a prompt, and the objectives that it is an example of (SFT).
    Sft,
    /// Responses that are good or bad by themselves (KTO). Behind them stands one to another prompt, which no judgement is
    /// about: how much its probability changes shows how far the policy has moved on the whole.
    Unpaired,
    /// A prompt that is answered anew, and, if the record has them, responses with its own scores of each (RLHF).
    Prompt,
}

/// What the objectives say about one response, or about two.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// The index of the response that is judged.
    pub response: usize,
    /// The index of the response that it is compared with; `None` where responses are judged alone.
    pub against: Option<usize>,
    /// Per objective: the probability that `response` is preferred to `against`, or `None` where
    /// the record says nothing about it. SFT: `Some(1.0)` where it is an example of the objective.
    /// KTO: the probability that it is desirable.
    pub labels: Vec<Option<f64>>,
}

impl Judgement {
    /// A comparison of two responses.
    #[must_use]
    pub fn pair(response: usize, against: usize, labels: Vec<Option<f64>>) -> Self {
        Self {
            response,
            against: Some(against),
            labels,
        }
    }

    /// A single response.
    #[must_use]
    pub fn single(labels: Vec<Option<f64>>) -> Self {
        Self {
            response: 0,
            against: None,
            labels,
        }
    }

    /// The responses that it is about.
    pub fn responses(&self) -> impl Iterator<Item = usize> {
        [Some(self.response), self.against].into_iter().flatten()
    }
}

/// A record, as a [loss](crate::Loss) sees it. What a response costs the network does not depend on how many others it is
/// compared with: outputs are per response, judgements are about them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// What the model puts out for each response: log π(y|x), summed over its tokens; or, of a reward model, a reward for
    /// every objective, `[responses × m]`.
    pub outputs: &'a [f64],
    /// log π_ref(y|x) of each response; empty for losses without a reference.
    pub reference: &'a [f64],
    /// z₀ of the records that it belongs to: [`Batch::kl`](crate::Batch::kl). 0 for losses that need none.
    pub kl: f64,
    /// Tokens of each response, the end-of-turn token included.
    pub tokens: &'a [usize],
    /// What the objectives say about the responses.
    pub judgements: &'a [Judgement],
}

impl Record<'_> {
    /// m; 1 where nothing is judged.
    pub(crate) fn objectives(&self) -> usize {
        self.judgements.first().map_or(1, |j| j.labels.len())
    }
}
