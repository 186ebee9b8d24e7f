//! One batch: losses of every objective, their aggregate under λ, and the gradient.

use panacea_data::{Example, Judgement};
use panacea_model::{Decoder, MemoryPolicy, PackedBatch, Sequence};
use panacea_objectives::{Aggregate, Aggregation, ObjectiveBatch, PairLogProbs, Preference, Term};
use panacea_svd_lora::{Adapters, FactorSet};

use crate::{Loss, TrainerError};

/// A record of a batch, with the reference's log-probabilities of its responses (summed over tokens).
#[derive(Debug, Clone, Copy)]
pub struct Prepared<'a> {
    /// Its tokens and labels.
    pub example: &'a Example,
    /// log π_ref of each response; empty for SFT, which has no reference.
    pub reference: &'a [f64],
}

/// What a judgement contributes to one objective.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordTerm {
    /// ℓ.
    pub loss: f64,
    /// ∂ℓ/∂log π of each response that is judged.
    pub d_policy: Vec<f64>,
    /// DPO: the reward margin towards the preferred response, where the label prefers one.
    pub margin: Option<f64>,
    /// DPO: whether the policy leans to the preferred response more than the reference does.
    pub correct: Option<bool>,
}

impl Term for RecordTerm {
    fn loss(&self) -> f64 {
        self.loss
    }

    fn d_policy(&self) -> &[f64] {
        &self.d_policy
    }
}

/// The terms of a judgement on every objective, `None` where it has no label.
pub type Terms = Vec<Option<RecordTerm>>;

/// The terms of each judgement of a record, from log π of its responses. What a response costs the network
/// does not depend on how many others it is compared with.
pub fn record_terms(loss: &Loss, record: Prepared<'_>, policy: &[f64]) -> Vec<Terms> {
    let judgements = record.example.judgements.iter();
    judgements
        .map(|judgement| judgement_terms(loss, record, judgement, policy))
        .collect()
}

fn judgement_terms(
    loss: &Loss,
    record: Prepared<'_>,
    judgement: &Judgement,
    policy: &[f64],
) -> Terms {
    let Prepared { example, reference } = record;
    let first = judgement.response;
    let tokens = |response: usize| example.responses[response].len();
    let term = |label: f64| match loss {
        Loss::Dpo(dpo) => {
            let second = (judgement.against).expect("DPO reads pairs: what a loader checks");
            let pair = PairLogProbs {
                policy: [policy[first], policy[second]],
                reference: [reference[first], reference[second]],
                tokens: [tokens(first), tokens(second)],
            };
            let term = dpo.term(&pair, label);
            // A label of ½ prefers neither: there is nothing to lean to.
            let prefers = label != 0.5;
            Some(RecordTerm {
                loss: term.loss,
                d_policy: term.d_policy.to_vec(),
                margin: prefers.then_some(term.margin),
                correct: prefers.then_some(term.correct),
            })
        }
        // What RLHF learns from is written by the policy; a record's own scores are no loss.
        Loss::Rlhf(_) => None,
        Loss::Sft(sft) => {
            let term = sft.term(policy[first], tokens(first));
            Some(RecordTerm {
                loss: term.loss,
                d_policy: term.d_policy.to_vec(),
                margin: None,
                correct: None,
            })
        }
    };
    let labels = judgement.labels.iter();
    labels.map(|label| label.and_then(term)).collect()
}

/// What is asked of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Objective<'a> {
    /// The loss of each objective.
    pub loss: &'a Loss,
    /// How losses become one number.
    pub aggregation: &'a Aggregation,
}

/// What a batch came to.
#[derive(Debug)]
pub struct BatchResult {
    /// ∂(aggregate)/∂(U, V, σ, s).
    pub gradients: FactorSet,
    /// The aggregate that was minimised: the mean over the groups.
    pub aggregate: f64,
    /// ∂(aggregate)/∂L_i of every objective, the mean over the groups.
    pub weights: Vec<f64>,
    /// The terms of every judgement of every record.
    pub terms: ObjectiveBatch<RecordTerm>,
    /// log π of every response of every record.
    pub policy: Vec<Vec<f64>>,
    /// Rows that went through the network.
    pub tokens: usize,
}

/// The aggregate of `batch` and its gradient. Record r follows `preferences[r % groups]`; each group is
/// aggregated by its own λ, and the groups' aggregates are averaged.
///
/// The batch goes through the network in micro-batches of `micro_batch_size` records. Label counts and,
/// under Tchebycheff, the worst objective are those of the whole batch: where they depend on losses that
/// are not known yet, a first pass without gradients finds them.
pub fn batch_gradient(
    model: &Decoder,
    adapters: &Adapters,
    objective: Objective<'_>,
    batch: &[Prepared<'_>],
    preferences: &[Preference],
    micro_batch_size: usize,
    memory: MemoryPolicy,
) -> Result<BatchResult, TrainerError> {
    let groups = Groups::deal(preferences, batch);
    let starts: Vec<usize> = (0..batch.len()).step_by(micro_batch_size).collect();
    let micro = |start: usize| start..(start + micro_batch_size).min(batch.len());

    let mut aggregates = match objective.aggregation {
        Aggregation::Linear => {
            Some(groups.aggregate(objective.aggregation, &groups.labelled_zeros()))
        }
        Aggregation::Tchebycheff { .. } if starts.len() > 1 => {
            let mut terms = Vec::with_capacity(batch.len());
            for &start in &starts {
                let packed = groups.pack(batch, micro(start))?;
                let sums = packed.sums(&model.log_probs(&packed, Some(adapters))?);
                terms.extend(split_terms(objective.loss, &batch[micro(start)], &sums).0);
            }
            Some(groups.aggregate(objective.aggregation, &groups.losses(&terms)))
        }
        Aggregation::Tchebycheff { .. } => None,
    };

    let mut gradients = FactorSet::default();
    let (mut terms, mut policy) = (
        Vec::with_capacity(batch.len()),
        Vec::with_capacity(batch.len()),
    );
    let mut tokens = 0;
    for &start in &starts {
        let packed = groups.pack(batch, micro(start))?;
        let forward = model.forward(&packed, adapters, memory)?;
        let sums = packed.sums(&forward.log_probs);
        let (micro_terms, micro_policy) = split_terms(objective.loss, &batch[micro(start)], &sums);
        let aggregates = aggregates.get_or_insert_with(|| {
            groups.aggregate(objective.aggregation, &groups.losses(&micro_terms))
        });
        let coefficients =
            groups.coefficients(aggregates, &batch[micro(start)], &micro_terms, start);
        let micro_gradients = model.backward(
            &packed,
            adapters,
            forward.tape,
            &packed.spread(&coefficients),
        )?;
        gradients.add(micro_gradients);
        tokens += packed.rows();
        terms.extend(micro_terms);
        policy.extend(micro_policy);
    }

    // The weights are those that were used; the value is that of the losses now known.
    let used = aggregates.unwrap_or_default();
    let losses = groups.losses(&terms);
    let values = groups.aggregate(objective.aggregation, &losses);
    let count = groups.preferences.len() as f64;
    let objectives = groups.objectives();
    let weights = (0..objectives)
        .map(|i| used.iter().map(|a| a.weights[i]).sum::<f64>() / count)
        .collect();
    Ok(BatchResult {
        gradients,
        aggregate: values.iter().map(|a| a.value).sum::<f64>() / count,
        weights,
        terms: ObjectiveBatch::new(objectives, terms.into_iter().flatten().collect()),
        policy,
        tokens,
    })
}

/// Records dealt to preferences.
struct Groups<'a> {
    preferences: &'a [Preference],
    /// n_{g,i}: judgements of group g that are labelled on objective i.
    counts: Vec<Vec<usize>>,
}

impl<'a> Groups<'a> {
    fn deal(preferences: &'a [Preference], batch: &[Prepared<'_>]) -> Self {
        // More preferences than records would leave groups without a record.
        let preferences = &preferences[..preferences.len().min(batch.len())];
        let mut counts = vec![vec![0; preferences[0].len()]; preferences.len()];
        for (record, prepared) in batch.iter().enumerate() {
            let counts = &mut counts[record % preferences.len()];
            for judgement in &prepared.example.judgements {
                for (count, label) in counts.iter_mut().zip(&judgement.labels) {
                    *count += usize::from(label.is_some());
                }
            }
        }
        Self {
            preferences,
            counts,
        }
    }

    fn objectives(&self) -> usize {
        self.preferences[0].len()
    }

    fn of(&self, record: usize) -> usize {
        record % self.preferences.len()
    }

    fn pack(
        &self,
        batch: &[Prepared<'_>],
        range: std::ops::Range<usize>,
    ) -> Result<PackedBatch, TrainerError> {
        let sequences: Vec<Sequence<'_>> = range
            .map(|record| {
                sequence(
                    batch[record].example,
                    self.preferences[self.of(record)].weights(),
                )
            })
            .collect();
        Ok(PackedBatch::new(&sequences)?)
    }

    /// A loss of 0 wherever a group has a label: enough for weights that do not depend on losses.
    fn labelled_zeros(&self) -> Vec<Vec<Option<f64>>> {
        let zeros = |counts: &Vec<usize>| counts.iter().map(|&n| (n > 0).then_some(0.0)).collect();
        self.counts.iter().map(zeros).collect()
    }

    /// L_{g,i}: the mean over the labelled judgements of group g, from the terms of the whole batch.
    fn losses(&self, terms: &[Vec<Terms>]) -> Vec<Vec<Option<f64>>> {
        let mut sums = vec![vec![0.0; self.objectives()]; self.preferences.len()];
        for (record, terms) in terms.iter().enumerate() {
            let sums = &mut sums[self.of(record)];
            for terms in terms {
                for (sum, term) in sums.iter_mut().zip(terms) {
                    *sum += term.as_ref().map_or(0.0, |term| term.loss);
                }
            }
        }
        let mean = |(sums, counts): (Vec<f64>, &Vec<usize>)| {
            let each = sums.into_iter().zip(counts);
            each.map(|(sum, &n)| (n > 0).then(|| sum / n as f64))
                .collect()
        };
        sums.into_iter().zip(&self.counts).map(mean).collect()
    }

    fn aggregate(&self, aggregation: &Aggregation, losses: &[Vec<Option<f64>>]) -> Vec<Aggregate> {
        let each = self.preferences.iter().zip(losses);
        each.map(|(preference, losses)| aggregation.aggregate(preference, losses))
            .collect()
    }

    /// ∂(mean of the groups' aggregates)/∂log π of every response of the records from `start` on:
    /// Σ_i w_{g,i} / n_{g,i} · ∂ℓ_i/∂log π, over the number of groups.
    fn coefficients(
        &self,
        aggregates: &[Aggregate],
        records: &[Prepared<'_>],
        terms: &[Vec<Terms>],
        start: usize,
    ) -> Vec<f64> {
        let mut coefficients = Vec::new();
        for (offset, (record, terms)) in records.iter().zip(terms).enumerate() {
            let group = self.of(start + offset);
            let mut of_record = vec![0.0; record.example.responses.len()];
            for (judgement, terms) in record.example.judgements.iter().zip(terms) {
                for (i, term) in terms.iter().enumerate() {
                    let weight = aggregates[group].weights[i];
                    let Some(term) = term.as_ref().filter(|_| weight != 0.0) else {
                        continue;
                    };
                    let share =
                        weight / self.counts[group][i] as f64 / self.preferences.len() as f64;
                    for (response, d) in judgement.responses().zip(&term.d_policy) {
                        of_record[response] += share * d;
                    }
                }
            }
            coefficients.extend(of_record);
        }
        coefficients
    }
}

fn sequence<'a>(example: &'a Example, preference: &'a [f64]) -> Sequence<'a> {
    let responses = example.responses.iter().map(Vec::as_slice).collect();
    Sequence {
        prompt: &example.prompt,
        responses,
        preference,
    }
}

/// log π of every response of one example, summed over its tokens; `None` is the base model. The example
/// goes through the network alone, so that the numbers do not depend on its neighbours.
pub fn response_log_probs(
    model: &Decoder,
    steered: Option<(&Adapters, &Preference)>,
    example: &Example,
) -> Result<Vec<f64>, TrainerError> {
    let preference = steered.map_or(&[][..], |(_, preference)| preference.weights());
    let packed = PackedBatch::new(&[sequence(example, preference)])?;
    Ok(packed.sums(&model.log_probs(&packed, steered.map(|(adapters, _)| adapters))?))
}

/// Terms and log π of each record of a packed batch, whose responses' sums stand one after the other.
fn split_terms(
    loss: &Loss,
    records: &[Prepared<'_>],
    sums: &[f64],
) -> (Vec<Vec<Terms>>, Vec<Vec<f64>>) {
    let mut rest = sums;
    let mut terms = Vec::with_capacity(records.len());
    let mut policy = Vec::with_capacity(records.len());
    for &record in records {
        let (own, others) = rest.split_at(record.example.responses.len());
        rest = others;
        terms.push(record_terms(loss, record, own));
        policy.push(own.to_vec());
    }
    (terms, policy)
}
