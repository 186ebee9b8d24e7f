//! One batch: losses of every objective, their aggregate under λ, and the gradient.

use panacea_data::Example;
use panacea_model::{
    Decoder, MemoryPolicy, PackedBatch, Sequence, Steering, Tape, ValueHead, ValueTape,
};
use panacea_objectives::{Aggregation, Batch, Loss, Outputs, Preference, Record, RecordTerms};
use panacea_svd_lora::{Adapters, FactorSet};

use crate::error::TrainerError;
use crate::lanes::{Lane, Lanes};

/// A record of a batch, with the reference's log-probabilities of its responses (summed over tokens).
#[derive(Debug, Clone, Copy)]
pub struct Prepared<'a> {
    /// Its tokens and labels.
    pub example: &'a Example,
    /// log π_ref of each response; empty for losses without a reference.
    pub reference: &'a [f64],
}

/// What `loss` says about a record, from what was read of its responses and the z₀ of the records that it belongs to.
pub(crate) fn record_terms(
    loss: &Loss,
    record: Prepared<'_>,
    outputs: &[f64],
    kl: f64,
) -> RecordTerms {
    let Prepared { example, reference } = record;
    let tokens: Vec<usize> = example.responses.iter().map(Vec::len).collect();
    loss.terms(&Record {
        outputs,
        reference,
        kl,
        tokens: &tokens,
        judgements: &example.judgements,
    })
}

/// What a backward pass needs, by what was read of the responses.
enum Pass {
    LogProbs(Box<Tape>),
    Rewards(Box<(ValueHead, ValueTape)>),
}

/// What the loss takes of every response ([`Record::outputs`]), read in a forward pass.
fn forward(
    model: &Decoder,
    adapters: &Adapters,
    loss: &Loss,
    packed: &PackedBatch,
    memory: MemoryPolicy,
) -> Result<(Vec<f64>, Pass), TrainerError> {
    match loss.outputs() {
        Outputs::LogProb => {
            let forward = model.forward(packed, adapters, memory)?;
            let pass = Pass::LogProbs(Box::new(forward.tape));
            Ok((packed.sums(&forward.log_probs), pass))
        }
        Outputs::Rewards => {
            let head = reward_head(adapters)?;
            let (rewards, tape) = model.values_forward(packed, adapters, &head, memory)?;
            Ok((rewards, Pass::Rewards(Box::new((head, tape)))))
        }
    }
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

/// What [`forward`] reads, with nothing kept.
fn read(
    model: &Decoder,
    adapters: &Adapters,
    loss: &Loss,
    packed: &PackedBatch,
) -> Result<Vec<f64>, TrainerError> {
    match loss.outputs() {
        Outputs::LogProb => Ok(packed.sums(&model.log_probs(packed, Some(adapters))?)),
        Outputs::Rewards => Ok(model.values(packed, Some(adapters), &reward_head(adapters)?)?),
    }
}

fn pack(loss: &Loss, sequences: &[Sequence<'_>]) -> Result<PackedBatch, TrainerError> {
    Ok(match loss.outputs() {
        Outputs::LogProb => PackedBatch::new(sequences)?,
        Outputs::Rewards => PackedBatch::ends(sequences)?,
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
    /// L_i under each of the preferences, of the group of records that follow it; `None` without a label.
    pub losses: Vec<Vec<Option<f64>>>,
    /// The terms of every record.
    pub terms: Vec<RecordTerms>,
    /// What was read of the responses of every record: [`Record::outputs`].
    pub outputs: Vec<Vec<f64>>,
    /// Rows that went through the network.
    pub tokens: usize,
}

/// The aggregate of `batch` and its gradient. Record r follows `preferences[r % groups]`; each group is
/// aggregated by its own λ, and the groups' aggregates are averaged.
///
/// The batch goes through the network in micro-batches of `micro_batch_size` records, dealt to the devices of `lanes`.
/// Label counts and, under Tchebycheff, the worst objective are those of the whole batch: where they depend on losses
/// that are not known yet, a first pass without gradients finds them. So is KTO's z₀ of every group.
pub fn batch_gradient(
    lanes: &Lanes<'_>,
    objective: Objective<'_>,
    batch: &[Prepared<'_>],
    preferences: &[Preference],
    micro_batch_size: usize,
    memory: MemoryPolicy,
) -> Result<BatchResult, TrainerError> {
    let judgements = (batch.iter()).map(|record| &record.example.judgements[..]);
    let dealt = Batch::deal(preferences, judgements);
    let starts: Vec<usize> = (0..batch.len()).step_by(micro_batch_size).collect();
    let micro = |start: usize| start..(start + micro_batch_size).min(batch.len());
    let packed_responses = |start: usize, is_mismatched: bool| {
        let sequences = micro(start).map(|record| {
            let example = batch[record].example;
            let preference = dealt.preference(record).weights();
            let (own, mismatched) = split_responses(objective.loss, example);
            let responses = if is_mismatched { mismatched } else { own };
            sequence(&example.prompt, responses, preference)
        });
        pack(objective.loss, &sequences.collect::<Vec<_>>())
    };
    let packed = |start: usize| packed_responses(start, false);
    let aggregate = |terms: &[RecordTerms]| {
        let losses = dealt.losses(terms);
        dealt.aggregate(objective.aggregation, &losses)
    };

    // z₀ of every group, by a pass without gradients over the responses to other prompts.
    let mut kl = vec![0.0; dealt.groups()];
    if objective.loss.needs_kl() {
        let mut log_ratios = Vec::with_capacity(batch.len());
        let read_ratios = |lane: &Lane<'_>, start: usize| {
            let packed = packed_responses(start, true)?;
            let outputs = read(lane.model, &lane.adapters, objective.loss, &packed)?;
            let records = batch[micro(start)].iter();
            Ok(records
                .zip(outputs)
                .map(|(record, output)| log_ratio(*record, output))
                .collect::<Vec<_>>())
        };
        lanes.deal(starts.iter().copied(), read_ratios, |of| {
            log_ratios.extend(of)
        })?;
        kl = dealt.kl(&log_ratios);
    }
    let split_terms = |start: usize, outputs: &[f64]| {
        let kl = micro(start).map(|record| kl[dealt.group(record)]);
        split_terms(objective.loss, &batch[micro(start)], outputs, kl)
    };

    let mut beforehand = dealt.aggregate_beforehand(objective.aggregation);
    // Of one micro-batch the losses are those of the batch.
    if beforehand.is_none() && starts.len() > 1 {
        let mut terms = Vec::with_capacity(batch.len());
        let read_terms = |lane: &Lane<'_>, start: usize| {
            let packed = packed(start)?;
            let outputs = read(lane.model, &lane.adapters, objective.loss, &packed)?;
            Ok(split_terms(start, &outputs).0)
        };
        lanes.deal(starts.iter().copied(), read_terms, |of| terms.extend(of))?;
        beforehand = Some(aggregate(&terms));
    }

    let mut gradients = FactorSet::default();
    let (mut terms, mut outputs) = (
        Vec::with_capacity(batch.len()),
        Vec::with_capacity(batch.len()),
    );
    let mut tokens = 0;
    let work = |lane: &Lane<'_>, start: usize| {
        let (model, adapters) = (lane.model, &*lane.adapters);
        let packed = packed(start)?;
        let (outputs, pass) = forward(model, adapters, objective.loss, &packed, memory)?;
        let (terms, outputs) = split_terms(start, &outputs);
        let aggregates = beforehand.clone().unwrap_or_else(|| aggregate(&terms));
        let coefficients = dealt.coefficients(&aggregates, start, &terms);
        let gradients = backward(model, adapters, &packed, pass, &coefficients)?;
        Ok((gradients, terms, outputs, packed.rows()))
    };
    lanes.deal(
        starts,
        work,
        |(of_micro, micro_terms, micro_outputs, rows)| {
            gradients.add(lanes.bring_home(of_micro));
            terms.extend(micro_terms);
            outputs.extend(micro_outputs);
            tokens += rows;
        },
    )?;

    // The weights are those that were used; the value is that of the losses now known.
    let losses = dealt.losses(&terms);
    let values = dealt.aggregate(objective.aggregation, &losses);
    let used = beforehand.as_ref().unwrap_or(&values);
    let count = dealt.groups() as f64;
    let weights = (0..dealt.objectives())
        .map(|i| used.iter().map(|a| a.weights[i]).sum::<f64>() / count)
        .collect();
    Ok(BatchResult {
        gradients,
        aggregate: values.iter().map(|a| a.value).sum::<f64>() / count,
        weights,
        losses,
        terms,
        outputs,
        tokens,
    })
}

fn sequence<'a>(
    prompt: &'a [u32],
    responses: &'a [Vec<u32>],
    preference: &'a [f64],
) -> Sequence<'a> {
    Sequence {
        prompt,
        responses: responses.iter().map(Vec::as_slice).collect(),
        preference,
    }
}

/// A record's own responses, and, for a loss that needs it, the one to another prompt that stands behind them.
fn split_responses<'a>(loss: &Loss, example: &'a Example) -> (&'a [Vec<u32>], &'a [Vec<u32>]) {
    let responses = &example.responses;
    responses.split_at(responses.len() - usize::from(loss.needs_kl()))
}

/// log π(y'|x) − log π_ref(y'|x) of a record's last response, which is one to another prompt.
pub(crate) fn log_ratio(record: Prepared<'_>, output: f64) -> f64 {
    output - record.reference[record.example.responses.len() - 1]
}

/// log π of every response of one example, summed over its tokens; `None` is the base model. The example
/// goes through the network alone, so that the numbers do not depend on its neighbours.
pub fn response_log_probs(
    model: &Decoder,
    steering: Option<&Steering>,
    example: &Example,
) -> Result<Vec<f64>, TrainerError> {
    let preference = steering.map_or(&[][..], |steering| &steering.preference);
    let packed = PackedBatch::new(&[sequence(&example.prompt, &example.responses, preference)])?;
    let adapters = steering.map(|steering| &*steering.adapters);
    Ok(packed.sums(&model.log_probs(&packed, adapters)?))
}

/// What `loss` takes of every response of one example ([`Record::outputs`]), which goes through the network alone.
pub(crate) fn read_example(
    model: &Decoder,
    steering: &Steering,
    loss: &Loss,
    example: &Example,
) -> Result<Vec<f64>, TrainerError> {
    let sequence = sequence(&example.prompt, &example.responses, &steering.preference);
    let packed = pack(loss, &[sequence])?;
    read(model, &steering.adapters, loss, &packed)
}

/// The terms of each record of a packed batch, and what was read of its responses, which stands one after the other.
fn split_terms(
    loss: &Loss,
    records: &[Prepared<'_>],
    outputs: &[f64],
    kl: impl Iterator<Item = f64>,
) -> (Vec<RecordTerms>, Vec<Vec<f64>>) {
    let mut rest = outputs;
    let split = records.iter().zip(kl).map(|(&record, kl)| {
        let judgements = &record.example.judgements;
        let objectives = judgements.first().map_or(1, |j| j.labels.len());
        let (own, others) =
            rest.split_at(split_responses(loss, record.example).0.len() * loss.width(objectives));
        rest = others;
        (record_terms(loss, record, own, kl), own.to_vec())
    });
    split.unzip()
}
