//! Holding records out, by prompt.

use std::collections::HashMap;

use panacea_pretrained::Message;
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::record::Record;

/// How much is held out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HoldOut {
    /// A share of the records, between 0 and 1; rounded to the nearest number, at least 1.
    Fraction(f64),
    /// A number of records.
    Count(usize),
}

/// Parts records into (training, held out), each in its old order. All records of a prompt are
/// on one side; where several share one, a few more than asked for may be held out.
///
/// A prompt's turn to be held out is decided by a hash of seed and prompt, so that neither the
/// order of the records nor a few new ones reshuffle the rest.
pub fn split(
    records: Vec<Record>,
    hold_out: HoldOut,
    seed: u64,
) -> Result<(Vec<Record>, Vec<Record>), DataError> {
    let wanted = wanted(hold_out, records.len())?;
    let mut prompts: HashMap<[u8; 32], usize> = HashMap::new();
    let keys: Vec<[u8; 32]> = records
        .iter()
        .map(|record| hash(&record.prompt, seed))
        .collect();
    for key in &keys {
        *prompts.entry(*key).or_default() += 1;
    }
    let mut by_turn: Vec<([u8; 32], usize)> = prompts.into_iter().collect();
    by_turn.sort_unstable();
    let mut held = 0;
    let mut last_held = None;
    for (key, count) in &by_turn {
        if held >= wanted {
            break;
        }
        held += count;
        last_held = Some(*key);
    }
    if held == records.len() {
        return Err(DataError::Split {
            found: format!(
                "{wanted} of {} records with {} different prompts",
                records.len(),
                by_turn.len()
            ),
            expected: "some prompts left for training".to_owned(),
        });
    }
    let (held_out, training): (Vec<_>, Vec<_>) = records
        .into_iter()
        .zip(keys)
        .partition(|(_, key)| Some(*key) <= last_held);
    let records = |side: Vec<(Record, _)>| side.into_iter().map(|(record, _)| record).collect();
    Ok((records(training), records(held_out)))
}

fn wanted(hold_out: HoldOut, records: usize) -> Result<usize, DataError> {
    match hold_out {
        HoldOut::Count(count) if (1..records).contains(&count) => Ok(count),
        HoldOut::Count(count) => Err(DataError::Split {
            found: format!("{count} of {records} records"),
            expected: format!("a number from 1 to {}", records.saturating_sub(1)),
        }),
        HoldOut::Fraction(fraction) if fraction > 0.0 && fraction < 1.0 => {
            Ok(((fraction * records as f64).round() as usize).max(1))
        }
        HoldOut::Fraction(fraction) => Err(DataError::Split {
            found: format!("the fraction {fraction}"),
            expected: "a fraction above 0 and below 1".to_owned(),
        }),
    }
}

/// Lengths are part of the hash, so that no two conversations run together.
fn hash(prompt: &[Message], seed: u64) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    for message in prompt {
        for text in [&message.role, &message.content] {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Judgement;
    use crate::record::Source;
    use std::path::Path;

    fn records(count: usize, per_prompt: usize) -> Vec<Record> {
        (0..count)
            .map(|i| Record {
                source: Source::new(Path::new("a.jsonl"), i + 1),
                prompt: vec![Message {
                    role: "user".to_owned(),
                    content: format!("question {}", i / per_prompt),
                }],
                responses: vec![format!("answer {i}")],
                judgements: vec![Judgement::single(vec![Some(1.0)])],
            })
            .collect()
    }

    fn lines(records: &[Record]) -> Vec<usize> {
        records.iter().map(|record| record.source.line).collect()
    }

    #[test]
    fn prop_a_prompt_is_on_one_side_and_no_record_is_lost() {
        let (training, held) = split(records(300, 3), HoldOut::Fraction(0.2), 7).unwrap();
        assert_eq!(held.len(), 60);
        for record in &held {
            assert!(training.iter().all(|other| other.prompt != record.prompt));
        }
        let mut all = [lines(&training), lines(&held)].concat();
        assert!(lines(&training).is_sorted() && lines(&held).is_sorted());
        all.sort_unstable();
        assert_eq!(all, (1..=300).collect::<Vec<_>>());
    }

    #[test]
    fn the_seed_decides_and_the_order_of_records_does_not() {
        let held = |records, seed| lines(&split(records, HoldOut::Count(10), seed).unwrap().1);
        assert_eq!(held(records(50, 1), 1), held(records(50, 1), 1));
        assert_ne!(held(records(50, 1), 1), held(records(50, 1), 2));
        let mut reversed = records(50, 1);
        reversed.reverse();
        let mut held_of_reversed = held(reversed, 1);
        held_of_reversed.reverse();
        assert_eq!(held_of_reversed, held(records(50, 1), 1));
    }

    #[test]
    fn impossible_splits_are_refused() {
        for (count, hold_out) in [
            (10, HoldOut::Fraction(0.0)),
            (10, HoldOut::Fraction(1.0)),
            (10, HoldOut::Fraction(f64::NAN)),
            (10, HoldOut::Count(0)),
            (10, HoldOut::Count(10)),
            (1, HoldOut::Fraction(0.5)),
            (0, HoldOut::Count(1)),
        ] {
            assert!(
                split(records(count, 1), hold_out, 0).is_err(),
                "{hold_out:?}"
            );
        }
        let one_prompt = split(records(4, 4), HoldOut::Count(1), 0).unwrap_err();
        assert_eq!(
            one_prompt.to_string(),
            "hold-out split: found 1 of 4 records with 1 different prompts, expected some prompts left for training"
        );
    }
}
