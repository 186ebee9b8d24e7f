//! One batch: losses of every objective, their aggregate under λ, and the gradient.

use panacea_data::{Example, Judgement};
use panacea_model::{Decoder, MemoryPolicy, PackedBatch, Sequence, Tape, ValueHead, ValueTape};
use panacea_objectives::{Aggregate, Aggregation, ObjectiveBatch, PairLogProbs, Preference, Term};
use panacea_svd_lora::{Adapters, FactorSet};

use crate::{Lane, Lanes, Loss, TrainerError};

/// A record of a batch, with the reference's log-probabilities of its responses (summed over tokens).
#[derive(Debug, Clone, Copy)]
pub struct Prepared<'a> {
    /// Its tokens and labels.
    pub example: &'a Example,
    /// log π_ref of each response; empty for losses without a reference.
    pub reference: &'a [f64],
}

/// What a judgement contributes to one objective.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordTerm {
    /// ℓ.
    pub loss: f64,
    /// ∂ℓ/∂log π of each response that is judged; of a reward model ∂ℓ/∂r.
    pub d_policy: Vec<f64>,
    /// DPO and reward models: the reward margin towards the preferred response, where the label prefers one.
    pub margin: Option<f64>,
    /// Whether that margin is above 0.
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

/// The terms of each judgement of a record, from what was read of its responses: log π of each, or, for a reward
/// model, r_i of every objective `[responses × m]`. What a response costs the network does not depend on how many
/// others it is compared with.
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
    let second = || (judgement.against).expect("the loss reads pairs: what a loader checks");
    // A label of ½ prefers neither: there is nothing to lean to.
    let prefers = |label: f64| label != 0.5;
    let term = |(i, label): (usize, f64)| match loss {
        Loss::Dpo(dpo) => {
            let second = second();
            let pair = PairLogProbs {
                policy: [policy[first], policy[second]],
                reference: [reference[first], reference[second]],
                tokens: [tokens(first), tokens(second)],
            };
            let term = dpo.term(&pair, label);
            Some(RecordTerm {
                loss: term.loss,
                d_policy: term.d_policy.to_vec(),
                margin: prefers(label).then_some(term.margin),
                correct: prefers(label).then_some(term.correct),
            })
        }
        Loss::BradleyTerry(pairs) => {
            let objectives = judgement.labels.len();
            let reward = |response: usize| policy[response * objectives + i];
            let term = pairs.term([reward(first), reward(second())], label);
            Some(RecordTerm {
                loss: term.loss,
                d_policy: term.d_reward.to_vec(),
                margin: prefers(label).then_some(term.margin),
                correct: prefers(label).then_some(term.correct),
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
    let labels = judgement.labels.iter().enumerate();
    labels
        .map(|(i, label)| label.and_then(|label| term((i, label))))
        .collect()
}

/// What a backward pass needs, by what was read of the responses.
enum Pass {
    LogProbs(Box<Tape>),
    Rewards(Box<(ValueHead, ValueTape)>),
}

/// One number per response, or one per response and objective, read in a forward pass: see [`record_terms`].
fn forward(
    model: &Decoder,
    adapters: &Adapters,
    loss: &Loss,
    packed: &PackedBatch,
    memory: MemoryPolicy,
) -> Result<(Vec<f64>, Pass), TrainerError> {
    if let Loss::BradleyTerry(_) = loss {
        let head = reward_head(adapters)?;
        let (rewards, tape) = model.values_forward(packed, adapters, &head, memory)?;
        return Ok((rewards, Pass::Rewards(Box::new((head, tape)))));
    }
    let forward = model.forward(packed, adapters, memory)?;
    Ok((
        packed.sums(&forward.log_probs),
        Pass::LogProbs(Box::new(forward.tape)),
    ))
}

/// The gradient of Σ coefficient · (what [`forward`] read).
fn backward(
    model: &Decoder,
    adapters: &Adapters,
    packed: &PackedBatch,
    pass: Pass,
    coefficients: &[f64],
) -> Result<FactorSet, TrainerError> {
    match pass {
        Pass::LogProbs(tape) => {
            Ok(model.backward(packed, adapters, *tape, &packed.spread(coefficients))?)
        }
        Pass::Rewards(kept) => {
            let (head, tape) = *kept;
            let (mut gradients, d_head) =
                model.values_backward(packed, adapters, &head, tape, coefficients)?;
            let name = ValueHead::NAME.to_owned();
            gradients.0.insert(name, d_head.into_factors());
            Ok(gradients)
        }
    }
}

/// What [`forward`] reads, with nothing kept; `None` is the base model.
fn read(
    model: &Decoder,
    adapters: Option<&Adapters>,
    loss: &Loss,
    packed: &PackedBatch,
) -> Result<Vec<f64>, TrainerError> {
    match (loss, adapters) {
        (Loss::BradleyTerry(_), Some(adapters)) => {
            Ok(model.values(packed, Some(adapters), &reward_head(adapters)?)?)
        }
        _ => Ok(packed.sums(&model.log_probs(packed, adapters)?)),
    }
}

fn pack(loss: &Loss, sequences: &[Sequence<'_>]) -> Result<PackedBatch, TrainerError> {
    Ok(match loss {
        Loss::BradleyTerry(_) => PackedBatch::ends(sequences)?,
        _ => PackedBatch::new(sequences)?,
    })
}

fn reward_head(adapters: &Adapters) -> Result<ValueHead, TrainerError> {
    ValueHead::among(&adapters.factors).ok_or(TrainerError::NoHead)
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
    /// What was read of every response of every record: [`record_terms`].
    pub policy: Vec<Vec<f64>>,
    /// Rows that went through the network.
    pub tokens: usize,
}

/// The aggregate of `batch` and its gradient. Record r follows `preferences[r % groups]`; each group is
/// aggregated by its own λ, and the groups' aggregates are averaged.
///
/// The batch goes through the network in micro-batches of `micro_batch_size` records, dealt to the devices of `lanes`.
/// Label counts and, under Tchebycheff, the worst objective are those of the whole batch: where they depend on losses
/// that are not known yet, a first pass without gradients finds them.
pub fn batch_gradient(
    lanes: &Lanes<'_>,
    objective: Objective<'_>,
    batch: &[Prepared<'_>],
    preferences: &[Preference],
    micro_batch_size: usize,
    memory: MemoryPolicy,
) -> Result<BatchResult, TrainerError> {
    let groups = Groups::deal(preferences, batch);
    let starts: Vec<usize> = (0..batch.len()).step_by(micro_batch_size).collect();
    let micro = |start: usize| start..(start + micro_batch_size).min(batch.len());

    let aggregates = match objective.aggregation {
        Aggregation::Linear => {
            Some(groups.aggregate(objective.aggregation, &groups.labelled_zeros()))
        }
        Aggregation::Tchebycheff { .. } if starts.len() > 1 => {
            let mut terms = Vec::with_capacity(batch.len());
            let read_terms = |lane: &Lane<'_>, start: usize| {
                let packed = groups.pack(objective.loss, batch, micro(start))?;
                let sums = read(lane.model, Some(&lane.adapters), objective.loss, &packed)?;
                Ok(split_terms(objective.loss, &batch[micro(start)], &sums).0)
            };
            lanes.deal(starts.iter().copied(), read_terms, |of| terms.extend(of))?;
            Some(groups.aggregate(objective.aggregation, &groups.losses(&terms)))
        }
        // One micro-batch: its losses are those of the batch.
        Aggregation::Tchebycheff { .. } => None,
    };

    let mut gradients = FactorSet::default();
    let (mut terms, mut policy) = (
        Vec::with_capacity(batch.len()),
        Vec::with_capacity(batch.len()),
    );
    let mut tokens = 0;
    let work = |lane: &Lane<'_>, start: usize| {
        let (model, adapters, range) = (lane.model, &*lane.adapters, micro(start));
        let packed = groups.pack(objective.loss, batch, range.clone())?;
        let (sums, pass) = forward(model, adapters, objective.loss, &packed, memory)?;
        let (terms, policy) = split_terms(objective.loss, &batch[range.clone()], &sums);
        let aggregates = aggregates
            .clone()
            .unwrap_or_else(|| groups.aggregate(objective.aggregation, &groups.losses(&terms)));
        let width = objective.loss.numbers(groups.objectives());
        let coefficients = groups.coefficients(&aggregates, &batch[range], &terms, start, width);
        let gradients = backward(model, adapters, &packed, pass, &coefficients)?;
        Ok((gradients, terms, policy, packed.rows()))
    };
    lanes.deal(
        starts,
        work,
        |(of_micro, micro_terms, micro_policy, rows)| {
            gradients.add(lanes.bring_home(of_micro));
            terms.extend(micro_terms);
            policy.extend(micro_policy);
            tokens += rows;
        },
    )?;

    // The weights are those that were used; the value is that of the losses now known.
    let losses = groups.losses(&terms);
    let values = groups.aggregate(objective.aggregation, &losses);
    let used = aggregates.as_ref().unwrap_or(&values);
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
        loss: &Loss,
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
        pack(loss, &sequences)
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
    /// Σ_i w_{g,i} / n_{g,i} · ∂ℓ_i/∂log π, over the number of groups. With a `width` of m, of a reward model, each
    /// objective has a number of its own, and nothing is added up.
    fn coefficients(
        &self,
        aggregates: &[Aggregate],
        records: &[Prepared<'_>],
        terms: &[Vec<Terms>],
        start: usize,
        width: usize,
    ) -> Vec<f64> {
        let mut coefficients = Vec::new();
        for (offset, (record, terms)) in records.iter().zip(terms).enumerate() {
            let group = self.of(start + offset);
            let mut of_record = vec![0.0; record.example.responses.len() * width];
            for (judgement, terms) in record.example.judgements.iter().zip(terms) {
                for (i, term) in terms.iter().enumerate() {
                    let weight = aggregates[group].weights[i];
                    let Some(term) = term.as_ref().filter(|_| weight != 0.0) else {
                        continue;
                    };
                    let share =
                        weight / self.counts[group][i] as f64 / self.preferences.len() as f64;
                    for (response, d) in judgement.responses().zip(&term.d_policy) {
                        of_record[response * width + i % width] += share * d;
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

/// What `loss` reads of every response of one example ([`record_terms`]), which goes through the network alone.
pub(crate) fn read_example(
    model: &Decoder,
    adapters: &Adapters,
    loss: &Loss,
    preference: &Preference,
    example: &Example,
) -> Result<Vec<f64>, TrainerError> {
    let packed = pack(loss, &[sequence(example, preference.weights())])?;
    read(model, Some(adapters), loss, &packed)
}

/// The terms of each record of a packed batch, and what was read of its responses, which stands one after the other.
fn split_terms(
    loss: &Loss,
    records: &[Prepared<'_>],
    sums: &[f64],
) -> (Vec<Vec<Terms>>, Vec<Vec<f64>>) {
    let mut rest = sums;
    let mut terms = Vec::with_capacity(records.len());
    let mut policy = Vec::with_capacity(records.len());
    for &record in records {
        let objectives = (record.example.judgements.first()).map_or(1, |j| j.labels.len());
        let numbers = record.example.responses.len() * loss.numbers(objectives);
        let (own, others) = rest.split_at(numbers);
        rest = others;
        terms.push(record_terms(loss, record, own));
        policy.push(own.to_vec());
    }
    (terms, policy)
}
