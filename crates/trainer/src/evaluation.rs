//! Every objective's value on held-out records, under one preference.

use panacea_data::Example;
use panacea_model::Decoder;
use panacea_objectives::Preference;
use panacea_svd_lora::Adapters;

use crate::metrics::ObjectiveValue;
use crate::step::{Prepared, RecordTerm, Terms, read_example, record_terms};
use crate::{Loss, References, TrainerError};

/// log π_ref of every response of every example: what DPO compares with. Losses without a reference have none.
pub fn references<'a>(
    known: &References,
    model: &Decoder,
    loss: &Loss,
    examples: impl IntoIterator<Item = &'a Example>,
    mut done: impl FnMut(),
) -> Result<Vec<Vec<f64>>, TrainerError> {
    let reference = |example: &Example| -> Result<Vec<f64>, TrainerError> {
        let sums = match loss {
            Loss::Dpo(_) => known.of(model, example)?,
            Loss::Rlhf(_) => known.of(model, example)?,
            Loss::Sft(_) | Loss::BradleyTerry(_) => Vec::new(),
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
    pub policy: Vec<f64>,
    /// The terms of every judgement.
    pub terms: Vec<Terms>,
}

/// Every example under `preference`.
pub fn evaluate(
    model: &Decoder,
    adapters: &Adapters,
    loss: &Loss,
    examples: &[Example],
    references: &[Vec<f64>],
    preference: &Preference,
    mut done: impl FnMut(),
) -> Result<Vec<Evaluated>, TrainerError> {
    let terms = |(example, reference): (&Example, &Vec<f64>)| -> Result<_, TrainerError> {
        let policy = read_example(model, adapters, loss, preference, example)?;
        done();
        let terms = record_terms(loss, Prepared { example, reference }, &policy);
        Ok(Evaluated { policy, terms })
    };
    examples.iter().zip(references).map(terms).collect()
}

/// J_i of every record that is labelled on objective i: the mean of −loss over its judgements.
pub fn record_values(records: &[Evaluated], i: usize) -> Vec<f64> {
    let value = |record: &Evaluated| {
        let losses: Vec<f64> = (record.terms.iter())
            .filter_map(|terms| Some(-terms[i].as_ref()?.loss))
            .collect();
        mean(&losses)
    };
    records.iter().filter_map(value).collect()
}

/// J_i, the mean over records, with its standard error; accuracy and mean margin over all judgements.
pub fn summarise(names: &[String], records: &[Evaluated]) -> Vec<ObjectiveValue> {
    let summary = |(i, name): (usize, &String)| {
        let labelled: Vec<&RecordTerm> = records
            .iter()
            .flat_map(|record| &record.terms)
            .filter_map(|terms| terms[i].as_ref())
            .collect();
        let values = record_values(records, i);
        let margins: Vec<f64> = labelled.iter().filter_map(|term| term.margin).collect();
        let correct: Vec<f64> = labelled
            .iter()
            .filter_map(|term| term.correct)
            .map(|c| f64::from(u8::from(c)))
            .collect();
        ObjectiveValue {
            name: name.clone(),
            value: mean(&values),
            stderr: standard_error(&values),
            labelled: values.len(),
            margin: mean(&margins),
            accuracy: mean(&correct),
        }
    };
    names.iter().enumerate().map(summary).collect()
}

pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard error of the mean, from the sample variance (n − 1).
fn standard_error(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let n = values.len() as f64;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
    Some((variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_means_over_labelled_records_with_their_error() {
        let term = |loss: f64, correct| {
            let (margin, correct) = (Some(-loss), Some(correct));
            Some(RecordTerm {
                loss,
                d_policy: vec![],
                margin,
                correct,
            })
        };
        let record = |term| Evaluated {
            policy: vec![],
            terms: vec![vec![term, None]],
        };
        let records = [record(term(1.0, true)), record(term(3.0, false))];
        let values = summarise(&["a".into(), "b".into()], &records);
        assert_eq!((values[0].value, values[0].stderr), (Some(-2.0), Some(1.0)));
        assert_eq!((values[0].labelled, values[0].accuracy), (2, Some(0.5)));
        assert_eq!(
            (values[1].value, values[1].stderr, values[1].labelled),
            (None, None, 0)
        );
    }
}
