//! What a scorer is, and how several of them are asked.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;

use serde_json::{Map, Value};

use crate::error::ScoreError;

/// A response to be scored, with what is known of its record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// The prompt in words.
    pub prompt: &'a str,
    /// The same as the turns of a conversation.
    pub turns: &'a [Turn],
    /// What the policy's chat template sees beside these turns, such as `tools`; nothing where there is none.
    pub variables: Option<&'a Map<String, Value>>,
    /// The response in words.
    pub response: &'a str,
    /// The length of the response in the tokens of the policy.
    pub response_tokens: usize,
    /// A response to compare with, if the record has one.
    pub reference: Option<&'a str>,
    /// Reference answers of the record, each with the name of its column.
    pub references: &'a [(String, String)],
    /// The record's own responses with their scores, if it has any.
    pub known: &'a [KnownResponse],
    /// Where the record stands, such as `train.jsonl:12`; messages name it.
    pub origin: &'a str,
}

impl<'a> Sample<'a> {
    /// What a scorer compares with: the answer in `column`, where it names one, and else the record's own response.
    #[must_use]
    pub fn reference_in(&self, column: Option<&str>) -> Option<&'a str> {
        let Some(column) = column else {
            return self.reference;
        };
        let mut references = self.references.iter();
        let found = references.find(|(name, _)| name == column);
        found.map(|(_, text)| text.as_str())
    }
}

/// One turn of a conversation as it is in JSON: `role` (`system`, `user`, `assistant`, …), `content` (a text, or null beside
/// calls of tools, or missing), and what else the turn has, such as `tool_calls`.
pub type Turn = Map<String, Value>;

/// A response that stands in a record, with the scores that the record gives to it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KnownResponse {
    /// The response.
    pub text: String,
    /// Its scores by their names.
    pub scores: BTreeMap<String, f64>,
}

/// What a scorer says of a response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// A number; higher is better.
    Score(f64),
    /// Something that could not be read as a number, and what counts in its place. Without that, the response is left out.
    Unreadable(Option<f64>),
}

impl Verdict {
    /// The number that counts; nothing where the response is left out.
    #[must_use]
    pub fn score(self) -> Option<f64> {
        match self {
            Self::Score(score) => Some(score),
            Self::Unreadable(instead) => instead,
        }
    }
}

impl From<f64> for Verdict {
    fn from(score: f64) -> Self {
        Self::Score(score)
    }
}

/// Something that gives one number to each response; higher is better.
pub trait Scorer: Send {
    /// What messages call it, such as `rule conciseness`.
    fn name(&self) -> &str;

    /// Whether it mostly waits for somebody else. Others compute, one after the other, on the calling thread.
    fn waits(&self) -> bool {
        false
    }

    /// One verdict per sample, in their order.
    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError>;
}

/// The scorers of a run, one per objective. Whatever they give is checked: as many numbers as samples, all finite.
pub struct Scorers(Vec<Box<dyn Scorer>>);

impl Scorers {
    /// These scorers, in the order of the objectives.
    #[must_use]
    pub fn new(scorers: Vec<Box<dyn Scorer>>) -> Self {
        Self(scorers)
    }

    /// What all scorers say: one row per scorer, one verdict per sample.
    ///
    /// Those that wait have a thread each; meanwhile the others compute on this one.
    pub fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Vec<Verdict>>, ScoreError> {
        thread::scope(|scope| {
            let (waiting, computing): (Vec<_>, Vec<_>) =
                (self.0.iter_mut().enumerate()).partition(|(_, scorer)| scorer.waits());
            let threads: Vec<_> = waiting
                .into_iter()
                .map(|(index, scorer)| {
                    let score = || score_checked(scorer.as_mut(), samples);
                    (index, scope.spawn(score))
                })
                .collect();
            let mut scores: Vec<_> = computing
                .into_iter()
                .map(|(index, scorer)| (index, score_checked(scorer.as_mut(), samples)))
                .collect();
            scores.extend(threads.into_iter().map(|(index, thread)| {
                let joined = thread.join();
                (index, joined.unwrap_or_else(|panic| resume_unwind(panic)))
            }));
            scores.sort_by_key(|(index, _)| *index);
            scores.into_iter().map(|(_, scores)| scores).collect()
        })
    }
}

fn score_checked(
    scorer: &mut dyn Scorer,
    samples: &[Sample<'_>],
) -> Result<Vec<Verdict>, ScoreError> {
    let scores = scorer.score(samples)?;
    if scores.len() != samples.len() {
        let problem = format!(
            "found {} scores, expected {}, one for each response; correct the scorer",
            scores.len(),
            samples.len()
        );
        return Err(ScoreError::new(scorer.name(), None, problem));
    }
    for (verdict, sample) in scores.iter().zip(samples) {
        let unfit = verdict.score().filter(|score| !score.is_finite());
        if let Some(score) = unfit {
            let problem = format!(
                "found the score {score}, expected a finite number; give a low one to responses without a meaningful score"
            );
            return Err(ScoreError::new(scorer.name(), Some(sample), problem));
        }
    }
    Ok(scores)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample<'a>(prompt: &'a str, response: &'a str) -> Sample<'a> {
        Sample {
            prompt,
            turns: &[],
            variables: None,
            response,
            response_tokens: response.split_whitespace().count(),
            reference: None,
            references: &[],
            known: &[],
            origin: "train.jsonl:12",
        }
    }

    pub(crate) fn numbers(verdicts: Vec<Verdict>) -> Vec<f64> {
        let number = |verdict: Verdict| match verdict {
            Verdict::Score(score) => score,
            Verdict::Unreadable(_) => panic!("{verdict:?}"),
        };
        verdicts.into_iter().map(number).collect()
    }

    pub(crate) fn assert_says(error: impl ToString, what: &str) {
        let error = error.to_string();
        assert!(error.contains(what), "{error}\ndoes not say: {what}");
    }

    struct Fixed {
        scores: Vec<f64>,
        waits: bool,
    }

    impl Scorer for Fixed {
        fn name(&self) -> &str {
            "fixed"
        }

        fn waits(&self) -> bool {
            self.waits
        }

        fn score(&mut self, _: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError> {
            Ok(self.scores.iter().copied().map(Verdict::from).collect())
        }
    }

    fn score(rows: &[&[f64]]) -> Result<Vec<Vec<Verdict>>, ScoreError> {
        // Every other one waits.
        let fixed = |(index, row): (usize, &&[f64])| -> Box<dyn Scorer> {
            Box::new(Fixed {
                scores: row.to_vec(),
                waits: index % 2 == 0,
            })
        };
        Scorers::new(rows.iter().enumerate().map(fixed).collect())
            .score(&[sample("a", "b"), sample("c", "d")])
    }

    #[test]
    fn scores_come_in_the_order_of_the_scorers() {
        let scores = score(&[&[1.0, 2.0], &[3.0, 4.0], &[5.0, 6.0]]).unwrap();
        assert_eq!(
            scores,
            [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]].map(|row| row.map(Verdict::Score))
        );
        assert!(score(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_wrong_number_of_scores_is_refused() {
        let error = score(&[&[1.0, 2.0], &[3.0]]).unwrap_err();
        assert_says(
            error,
            "fixed: found 1 scores, expected 2, one for each response",
        );
    }

    #[test]
    fn a_score_that_is_not_finite_is_refused_with_its_record() {
        let error = score(&[&[1.0, f64::NAN]]).unwrap_err();
        assert_says(
            error,
            "fixed, train.jsonl:12: found the score NaN, expected a finite number",
        );
    }
}
