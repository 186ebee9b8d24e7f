//! How an objective labels a record.
//!
//! Labels come from a score, a column, the data set's own order or a rule. Wherever it comes from, the label
//! of a pair is the probability, in [0, 1], that the first of the two responses is preferred.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Judgement;
use crate::error::FieldProblem;
use crate::objective::{LabelSource, ObjectiveSpec, Rule, Strength};
use crate::readers::fields::{Row, describe, is_unreadable};
use crate::readers::{Format, Reading};
use crate::report::SkipReason;

/// Which records are kept, by their labels. A tie is no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelledBy {
    /// Those that some objective labels.
    #[default]
    Any,
    /// Those that every objective labels which reads their file.
    All,
}

impl LabelledBy {
    /// Why a record with these labels is not kept; the objectives with the indices `readers` read its file.
    pub(crate) fn refuses(self, judgements: &[Judgement], readers: &[usize]) -> Option<SkipReason> {
        let labels = |i: &usize| judgements.iter().any(|of| of.labels[*i].is_some());
        match self {
            _ if !readers.iter().any(labels) => Some(SkipReason::Unlabelled),
            Self::All if !readers.iter().all(labels) => Some(SkipReason::PartlyLabelled),
            _ => None,
        }
    }
}

/// How data sets call the two columns of a score for the chosen and the rejected response: what stands before and behind its
/// name.
pub(crate) const SIDES: [[(&str, &str); 2]; 4] = [
    [("", "_chosen"), ("", "_rejected")],
    [("chosen_", ""), ("rejected_", "")],
    [("", "-chosen"), ("", "-rejected")],
    [("chosen-", ""), ("rejected-", "")],
];

/// The names that the two columns of the scores `name` may have, each with the other.
pub(crate) fn columns_of_sides(name: &str) -> [[String; 2]; 4] {
    SIDES.map(|sides| sides.map(|(before, after)| format!("{before}{name}{after}")))
}

/// Where a column has the scores of one side, and another column of the row those of the other: the name of these scores, and
/// whether it is that of the chosen response.
pub(crate) fn side_of<'a>(row: &Row, column: &'a str) -> Option<(&'a str, bool)> {
    let of_side = |mine: (&str, &str), other: (&str, &str)| {
        let name = column.strip_prefix(mine.0)?.strip_suffix(mine.1)?;
        let has_other = || row.contains_key(&format!("{}{name}{}", other.0, other.1));
        (!name.is_empty() && has_other()).then_some(name)
    };
    SIDES.into_iter().find_map(|[chosen, rejected]| {
        let first = of_side(chosen, rejected).map(|name| (name, true));
        first.or_else(|| of_side(rejected, chosen).map(|name| (name, false)))
    })
}

/// What an objective says about one record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Finding {
    /// P(the first response is preferred); SFT: 1.
    Label(f64),
    /// Both responses are equally good, and only who is better counts.
    Tie,
    /// The record does not say.
    Missing,
}

impl Rule {
    /// The rule's score of one response; higher is better.
    fn score(self, response: &str) -> f64 {
        let characters = response.chars().count() as f64;
        match self {
            Self::Shorter => -characters,
            Self::Longer => characters,
        }
    }
}

impl ObjectiveSpec {
    /// The record's own score of every response, where the reward is that score; nothing otherwise.
    pub(crate) fn own_scores(
        &self,
        row: &Row,
        responses: usize,
    ) -> Result<Option<Vec<Option<f64>>>, FieldProblem> {
        let LabelSource::Reward(reward) = &self.source else {
            return Ok(None);
        };
        let Some(key) = reward.record_score() else {
            return Ok(None);
        };
        let field = format!("scores.{key}");
        let value = scores_of(row, key)?;
        value
            .map(|value| numbers(value, &field, responses))
            .transpose()
    }

    /// What this objective says about the `pair` of responses with these indices.
    pub(crate) fn label_pair(
        &self,
        row: &Row,
        format: Format,
        reading: &Reading,
        pair: [usize; 2],
    ) -> Result<Finding, FieldProblem> {
        let responses = reading.responses.len();
        let finding = match &self.source {
            LabelSource::Score(key) => match scores_of(row, key)? {
                Some(value) => {
                    let scores = numbers(value, &format!("scores.{key}"), responses)?;
                    self.compare_scores(&scores, pair)
                }
                None => Finding::Missing,
            },
            LabelSource::Column(name) if !row.contains_key(name) => {
                match self.of_sides(row, reading)? {
                    Some(scores) => self.compare_scores(&scores, pair),
                    None => Finding::Missing,
                }
            }
            LabelSource::Column(name) => match rated(row, name) {
                Some(value) if format.is_unrated(name, value) => Finding::Missing,
                None => Finding::Missing,
                Some(value @ Value::Array(_)) => {
                    self.compare_scores(&numbers(value, name, responses)?, pair)
                }
                Some(value) => match side_of(row, name) {
                    None => self.read_column(name, value, responses)?,
                    // Any number up to 1 would be taken for a label.
                    Some((scores, _)) => {
                        return Err(FieldProblem {
                            field: name.to_owned(),
                            found: format!("{}, a score of one response", describe(value)),
                            expected: format!(
                                "a column about both; column = \"{scores}\" reads the two that these scores have"
                            ),
                        });
                    }
                },
            },
            LabelSource::Chosen => match reading.preferred {
                Some(index) => Finding::Label(if index == pair[0] { 1.0 } else { 0.0 }),
                None => Finding::Missing,
            },
            LabelSource::Rule(rule) => {
                self.compare(pair.map(|index| rule.score(reading.responses[index].text())))
            }
            LabelSource::Reward(_) => Finding::Missing,
        };
        Ok(match finding {
            Finding::Label(probability) if self.negate => Finding::Label(1.0 - probability),
            other => other,
        })
    }

    /// The scores of the chosen and the rejected response, where each has a column of its own. The responses are in that order.
    fn of_sides(
        &self,
        row: &Row,
        reading: &Reading,
    ) -> Result<Option<[Option<f64>; 2]>, FieldProblem> {
        if (reading.preferred, reading.responses.len()) != (Some(0), 2) {
            return Ok(None);
        }
        let Some(columns) = self.sides().find(|columns| row.contains_key(&columns[0])) else {
            return Ok(None);
        };
        let mut scores = [None; 2];
        for (score, column) in scores.iter_mut().zip(&columns) {
            let Some(value) = rated(row, column) else {
                continue;
            };
            let number = value.as_f64().ok_or_else(|| FieldProblem {
                field: column.clone(),
                found: describe(value),
                expected: format!("the score of this response, a number{}", unquoted(value)),
            })?;
            *score = Some(number);
        }
        Ok(Some(scores))
    }

    /// Where its labels may be, with a sign in front, if it found none: `columns` are those of the records.
    pub(crate) fn where_labels_are(&self, columns: &BTreeSet<String>) -> String {
        let of_sides = |name| {
            let known = |sides: &[String; 2]| sides.iter().all(|side| columns.contains(side));
            columns_of_sides(name).into_iter().find(known)
        };
        match &self.source {
            LabelSource::Chosen => {
                "; a chosen/rejected order is there in formats with `chosen` and `rejected` only"
                    .to_owned()
            }
            LabelSource::Score(name) => of_sides(name).map_or_else(String::new, |[one, other]| {
                format!("; the columns `{one}` and `{other}` are read by column = \"{name}\"")
            }),
            _ => String::new(),
        }
    }

    /// The names that the two columns of its scores may have.
    pub(crate) fn sides(&self) -> impl Iterator<Item = [String; 2]> {
        let name = match &self.source {
            LabelSource::Column(name) => Some(name),
            _ => None,
        };
        name.map(|name| columns_of_sides(name))
            .into_iter()
            .flatten()
    }

    /// Whether a record with one response is an example of this objective. The caller has
    /// refused sources that make no sense here ([`Self::check_sft`]).
    pub(crate) fn label_single(&self, row: &Row) -> Result<Finding, FieldProblem> {
        let belongs = match &self.source {
            LabelSource::Column(name) => match row.get(name) {
                None | Some(Value::Null) => return Ok(Finding::Missing),
                Some(Value::Bool(flag)) => *flag,
                Some(Value::Number(number)) => number.as_f64().is_some_and(|x| x > 0.0),
                Some(Value::String(text)) if *text == self.name => true,
                Some(value) if is_not_rated(value) => return Ok(Finding::Missing),
                Some(Value::String(_)) => false,
                Some(Value::Array(items)) => {
                    items.iter().any(|item| item.as_str() == Some(&self.name))
                }
                Some(other) => {
                    return Err(FieldProblem {
                        field: name.clone(),
                        found: describe(other),
                        expected: "true or false, a number, or the names of objectives".to_owned(),
                    });
                }
            },
            _ => true,
        };
        Ok(if belongs != self.negate {
            Finding::Label(1.0)
        } else {
            Finding::Missing
        })
    }

    /// Whether the only response of a record is desirable: KTO's label.
    pub(crate) fn label_unpaired(&self, row: &Row) -> Result<Finding, FieldProblem> {
        let LabelSource::Column(name) = &self.source else {
            return Ok(Finding::Missing); // Refused by `check_unpaired`.
        };
        let desirable = match rated(row, name) {
            None => return Ok(Finding::Missing),
            Some(Value::Bool(flag)) => Some(f64::from(u8::from(*flag))),
            Some(value) => value.as_f64().filter(|x| (0.0..=1.0).contains(x)),
        };
        let Some(desirable) = desirable else {
            return Err(FieldProblem {
                field: name.clone(),
                found: row.get(name).map_or_else(String::new, describe),
                expected: format!(
                    "true or 1 (a good response), false or 0 (a bad one), or a probability between them{}",
                    row.get(name).map_or("", unquoted)
                ),
            });
        };
        let desirable = if self.negate {
            1.0 - desirable
        } else {
            desirable
        };
        Ok(match self.strength {
            Strength::BradleyTerry => Finding::Label(desirable),
            Strength::Hard if desirable == 0.5 => Finding::Tie,
            Strength::Hard => Finding::Label(f64::from(u8::from(desirable > 0.5))),
        })
    }

    /// Compares the scores of two responses; a score may be missing.
    fn compare_scores(&self, scores: &[Option<f64>], [first, second]: [usize; 2]) -> Finding {
        match (scores[first], scores[second]) {
            (Some(first), Some(second)) => self.compare([first, second]),
            _ => Finding::Missing,
        }
    }

    fn compare(&self, [first, second]: [f64; 2]) -> Finding {
        match self.strength {
            Strength::Hard if first == second => Finding::Tie,
            Strength::Hard => Finding::Label(f64::from(u8::from(first > second))),
            Strength::BradleyTerry => Finding::Label(1.0 / (1.0 + (second - first).exp())),
        }
    }

    /// A column with one value for a pair of responses.
    fn read_column(
        &self,
        name: &str,
        value: &Value,
        responses: usize,
    ) -> Result<Finding, FieldProblem> {
        if responses > 2 {
            return Err(FieldProblem {
                field: name.to_owned(),
                found: describe(value),
                expected: format!("a list of {responses} numbers, one for each response"),
            });
        }
        if let Value::Bool(first) = value {
            return Ok(Finding::Label(if *first { 1.0 } else { 0.0 }));
        }
        if let Some(index) = value.as_f64().filter(|x| (0.0..=1.0).contains(x)) {
            return Ok(match self.strength {
                Strength::Hard if index == 0.5 => Finding::Tie,
                Strength::Hard => Finding::Label(if index < 0.5 { 1.0 } else { 0.0 }),
                Strength::BradleyTerry => Finding::Label(1.0 - index),
            });
        }
        Err(FieldProblem {
            field: name.to_owned(),
            found: describe(value),
            expected: format!(
                "the index of the preferred response (0 or 1), true (response 0), false (response 1), or a list of two scores{}",
                unquoted(value)
            ),
        })
    }
}

/// Whether a value says that nobody has rated: null, or one of the words that data sets have in its place.
fn is_not_rated(value: &Value) -> bool {
    const WORDS: [&str; 6] = ["", "n/a", "na", "nan", "none", "null"];
    match value {
        Value::Null => true,
        Value::String(text) => WORDS
            .iter()
            .any(|word| text.trim().eq_ignore_ascii_case(word)),
        _ => false,
    }
}

/// The label or the scores in a column, `None` where nobody has rated.
fn rated<'a>(row: &'a Row, name: &str) -> Option<&'a Value> {
    row.get(name).filter(|value| !is_not_rated(value))
}

/// What to do about a number, true or false that is written as a text. It is not read, since a column of texts may as well
/// hold other words.
fn unquoted(value: &Value) -> &'static str {
    let is_quoted = value.as_str().is_some_and(|text| {
        let text = text.trim().to_ascii_lowercase();
        text.parse::<f64>().is_ok() || ["true", "false"].contains(&&text[..])
    });
    match is_quoted {
        true => "; write it without quotation marks",
        false => "",
    }
}

/// `scores.KEY` of a record, `None` where nobody has rated.
fn scores_of<'a>(row: &'a Row, key: &str) -> Result<Option<&'a Value>, FieldProblem> {
    match rated(row, "scores") {
        None => Ok(None),
        Some(value @ Value::Object(scores)) if !is_unreadable(value) => Ok(rated(scores, key)),
        Some(other) => Err(FieldProblem {
            field: "scores".to_owned(),
            found: describe(other),
            expected: "an object that holds a list of numbers for each score".to_owned(),
        }),
    }
}

/// A score for each response; `None` where nobody has rated.
fn numbers(value: &Value, field: &str, responses: usize) -> Result<Vec<Option<f64>>, FieldProblem> {
    let problem = |found: String, remedy: &str| FieldProblem {
        field: field.to_owned(),
        found,
        expected: format!("a list of {responses} numbers, one for each response{remedy}"),
    };
    let Some(items) = value.as_array().filter(|items| items.len() == responses) else {
        return Err(problem(describe(value), ""));
    };
    let number = |item: &Value| match item {
        item if is_not_rated(item) => Ok(None),
        Value::Bool(flag) => Ok(Some(f64::from(u8::from(*flag)))),
        Value::Number(number) => match number.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(problem(describe(value), "")),
        },
        other => Err(problem(
            format!("a list with {}", describe(other)),
            unquoted(other),
        )),
    };
    items.iter().map(number).collect()
}

/// Compared responses, each judged by itself.
pub(crate) fn alone(
    responses: usize,
    judgements: &[Judgement],
    objectives: usize,
) -> Vec<Judgement> {
    let of_response = |response: usize| {
        let label = |objective: usize| match judgements {
            // The other one's label is the complement, soft ones included.
            [only] if responses == 2 => {
                let first = only.labels[objective]?;
                Some(match only.response == response {
                    true => first,
                    false => 1.0 - first,
                })
            }
            _ => verdict(response, judgements, objective),
        };
        Judgement {
            response,
            against: None,
            labels: (0..objectives).map(label).collect(),
        }
    };
    (0..responses)
        .map(of_response)
        .filter(|judgement| judgement.labels.iter().any(Option::is_some))
        .collect()
}

/// 1 for a response that an objective prefers to every one that it compares it with, 0 for one that it prefers to none,
/// nothing for others.
pub(crate) fn verdict(response: usize, judgements: &[Judgement], objective: usize) -> Option<f64> {
    let about =
        (judgements.iter()).filter(|judgement| judgement.responses().any(|r| r == response));
    let mut wins = about.filter_map(|judgement| {
        let label = judgement.labels[objective].filter(|&label| label != 0.5)?;
        Some((label > 0.5) == (judgement.response == response))
    });
    let first = wins.next()?;
    wins.all(|win| win == first)
        .then_some(f64::from(u8::from(first)))
}
