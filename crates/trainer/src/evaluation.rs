//! Every objective's value on held-out records, under one preference.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use panacea_config::Learning;
use panacea_data::Example;
use panacea_model::{Decoder, Steering};
use panacea_objectives::{Loss, Outputs, RecordTerms, Term, estimate, mean, mismatched_kl};
use panacea_runs::ObjectiveValue;

use crate::error::TrainerError;
use crate::references::References;
use crate::step::{Prepared, log_ratio, read_example, record_terms, response_log_probs};

/// log π_ref of every response of every example; none where no reference is [needed](Learning::needs_reference).
pub fn references<'a>(
    known: &References,
    model: &Decoder,
    learning: &Learning,
    examples: impl IntoIterator<Item = &'a Example>,
    mut done: impl FnMut(),
) -> Result<Vec<Vec<f64>>, TrainerError> {
    let reference = |example: &Example| -> Result<Vec<f64>, TrainerError> {
        let sums = match learning.needs_reference() {
            true => known.of(model, example)?,
            false => Vec::new(),
        };
        done();
        Ok(sums)
    };
    examples.into_iter().map(reference).collect()
}

/// What a policy does on one record.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// log π of every response, summed over its tokens; of a reward model r_i of every response, `[responses × m]`.
    pub outputs: Vec<f64>,
    /// What the loss says.
    pub terms: RecordTerms,
}

/// Every example under one adapter and λ.
pub fn evaluate(
    model: &Decoder,
    steering: &Steering,
    loss: &Loss,
    examples: &[Example],
    references: &[Vec<f64>],
    mut done: impl FnMut(),
) -> Result<Vec<Evaluated>, TrainerError> {
    let mut outputs = Vec::with_capacity(examples.len());
    let mut once = Once::default();
    for example in examples {
        outputs.push(once.read(example, || read_example(model, steering, loss, example))?);
        done();
    }
    Ok(evaluated(loss, examples, references, outputs))
}

/// What is read once: data sets of several objectives may have the same responses to the same prompts.
#[derive(Default)]
struct Once<'a>(HashMap<Asked<'a>, Vec<f64>>);

/// A prompt and its responses.
type Asked<'a> = (&'a [u32], &'a [Vec<u32>]);

impl<'a> Once<'a> {
    fn read<E>(
        &mut self,
        example: &'a Example,
        read: impl FnOnce() -> Result<Vec<f64>, E>,
    ) -> Result<Vec<f64>, E> {
        match self.0.entry((&example.prompt, &example.responses)) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(new) => Ok(new.insert(read()?).clone()),
        }
    }
}

/// Every example under the base model, as it was before any training.
///
/// # Errors
/// For a loss of reward models, whose head only comes with the training; and when the model fails.
pub fn evaluate_untrained(
    model: &Decoder,
    loss: &Loss,
    examples: &[Example],
    references: &[Vec<f64>],
) -> Result<Vec<Evaluated>, TrainerError> {
    if loss.outputs() == Outputs::Rewards {
        return Err(TrainerError::NoHead);
    }
    let mut once = Once::default();
    let outputs = examples.iter().zip(references);
    // Where a reference is needed, it is the base model, and known.
    let outputs = outputs.map(|(example, reference)| match reference.is_empty() {
        true => once.read(example, || response_log_probs(model, None, example)),
        false => Ok(reference.clone()),
    });
    let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
    Ok(evaluated(loss, examples, references, outputs))
}

/// What the loss says of the outputs of every example.
fn evaluated(
    loss: &Loss,
    examples: &[Example],
    references: &[Vec<f64>],
    outputs: Vec<Vec<f64>>,
) -> Vec<Evaluated> {
    let prepared = examples.iter().zip(references);
    let records: Vec<Prepared<'_>> = prepared
        .map(|(example, reference)| Prepared { example, reference })
        .collect();
    let kl = match loss.needs_kl() {
        true => kl_of(&records, &outputs),
        false => 0.0,
    };
    let evaluated = |(record, outputs): (Prepared<'_>, Vec<f64>)| Evaluated {
        terms: record_terms(loss, record, &outputs, kl),
        outputs,
    };
    records.into_iter().zip(outputs).map(evaluated).collect()
}

/// z₀ of all records together.
fn kl_of(records: &[Prepared<'_>], outputs: &[Vec<f64>]) -> f64 {
    let each = records.iter().zip(outputs);
    let log_ratios =
        each.filter_map(|(record, outputs)| Some(log_ratio(*record, *outputs.last()?)));
    mismatched_kl(log_ratios)
}

/// J_i of every record that is labelled on objective i: the mean of −loss over its judgements.
pub fn record_values(records: &[Evaluated], i: usize) -> Vec<f64> {
    let value = |record: &Evaluated| mean(record.terms.of(i).map(|term| -term.loss));
    records.iter().filter_map(value).collect()
}

/// J_i, the mean over records, with its standard error; accuracy and mean margin over all judgements.
pub fn summarise(names: &[String], records: &[Evaluated]) -> Vec<ObjectiveValue> {
    let summary = |(i, name): (usize, &String)| {
        let values = record_values(records, i);
        let terms = records.iter().flat_map(|record| record.terms.of(i));
        let (margin, accuracy) = margin_and_accuracy(terms);
        ObjectiveValue {
            name: name.clone(),
            value: mean(values.iter().copied()),
            // A single record shows no spread.
            stderr: estimate(&values)
                .filter(|_| values.len() > 1)
                .map(|of| of.stderr),
            labelled: values.len(),
            margin,
            accuracy,
        }
    };
    names.iter().enumerate().map(summary).collect()
}

/// Mean margin, and the share of terms with a margin above 0, among those whose label prefers a response.
pub(crate) fn margin_and_accuracy<'a>(
    terms: impl Iterator<Item = &'a Term>,
) -> (Option<f64>, Option<f64>) {
    let (mut margins, mut correct) = (Vec::new(), Vec::new());
    for term in terms {
        margins.extend(term.margin);
        correct.extend(term.is_correct().map(|is| f64::from(u8::from(is))));
    }
    (mean(margins.iter().copied()), mean(correct.iter().copied()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use panacea_data::{Judgement, Source, Words};
    use panacea_objectives::{Dpo, DpoLoss, Record};

    use super::*;

    #[test]
    fn the_same_responses_to_the_same_prompt_are_read_once() {
        let example = |prompt: u32, response: u32| Example {
            source: Source::new(Path::new("answers.jsonl"), 1),
            prompt: vec![prompt],
            responses: vec![vec![response]],
            judgements: Vec::new(),
            scores: Vec::new(),
            words: Words::default(),
        };
        let examples = [example(1, 2), example(1, 3), example(1, 2), example(2, 2)];
        let (mut once, mut reads) = (Once::default(), 0);
        let found = examples.iter().map(|example| {
            once.read(example, || -> Result<_, ()> {
                reads += 1;
                Ok(vec![f64::from(reads)])
            })
        });
        let found: Vec<f64> = found.map(|outputs| outputs.unwrap()[0]).collect();
        assert_eq!(found, [1.0, 2.0, 1.0, 3.0]);
    }

    #[test]
    fn values_are_means_over_labelled_records_with_their_error() {
        // IPO with a target of 5: a loss of (h − 5)².
        let loss = Loss::Dpo(Dpo::new(0.1, DpoLoss::Ipo, 0.0).unwrap());
        let record = |h: f64| {
            let record = Record {
                outputs: &[h, 0.0],
                reference: &[0.0, 0.0],
                kl: 0.0,
                tokens: &[1, 1],
                judgements: &[Judgement::pair(0, 1, vec![Some(1.0), None])],
            };
            let terms = loss.terms(&record);
            Evaluated {
                outputs: record.outputs.to_vec(),
                terms,
            }
        };
        let records = [record(4.0), record(-1.0)];
        let values = summarise(&["a".into(), "b".into()], &records);
        // Losses of 1 and 36.
        assert_eq!(
            (values[0].value, values[0].stderr),
            (Some(-18.5), Some(17.5))
        );
        assert!((values[0].margin.unwrap() - 0.15).abs() < 1e-12);
        assert_eq!((values[0].labelled, values[0].accuracy), (2, Some(0.5)));
        assert_eq!(
            (values[1].value, values[1].stderr, values[1].labelled),
            (None, None, 0)
        );
    }
}
