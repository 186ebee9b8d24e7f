//! From records in words to examples in tokens.
//!
//! The boundary between prompt and response lies in token space and is the same in training, scoring and generation:
//! `prompt ++ response` is what the model sees.

use std::collections::BTreeSet;

use panacea_pretrained::{Answer, Answered, ChatTokenizer, Content, JsonObject, Message, Prompt};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{BoxError, DataError, RecordProblem};
use crate::record::{Example, Record, marks};
use crate::report::{DataReport, SkipReason, Skipped, TokenReport};
use crate::tolerance::Tolerance;

/// What turns text into tokens.
pub trait TextEncoder: Sync {
    /// A conversation up to an answer.
    type Prompt: AsRef<[u32]>;

    /// The conversation through the chat template, which sees the variables beside it, with the header of the answer.
    fn prompt(
        &self,
        messages: &[Message],
        variables: &JsonObject,
    ) -> Result<Self::Prompt, BoxError>;
    /// The conversation with each of the responses as its answer, each with exactly one end-of-turn token.
    fn answered(&self, prompt: &Self::Prompt, responses: &[Answer]) -> Result<Answered, BoxError>;

    /// A special token that stands in a text of a record, where none is meant to.
    fn stray_token(&self, _record: &Record) -> Option<String> {
        None
    }

    /// Whether something is made of a key of turns, or of a variable of records.
    fn reads(&self, _name: &str) -> bool {
        false
    }
}

impl TextEncoder for ChatTokenizer {
    type Prompt = Prompt;

    fn prompt(&self, messages: &[Message], variables: &JsonObject) -> Result<Prompt, BoxError> {
        Ok(self.prompt_with(messages, variables)?)
    }

    fn answered(&self, prompt: &Prompt, responses: &[Answer]) -> Result<Answered, BoxError> {
        Ok(Self::answered(self, prompt, responses)?)
    }

    fn stray_token(&self, record: &Record) -> Option<String> {
        let prompt = record.prompt.iter().map(Message::text);
        // The end of a turn may end a response.
        let responses =
            (record.responses.iter()).map(|answer| self.without_end_of_turn(answer.text()));
        let found = prompt
            .chain(responses)
            .find_map(|text| self.special_token_in(text));
        found.map(str::to_owned)
    }

    fn reads(&self, name: &str) -> bool {
        Self::reads(self, name)
    }
}

/// A tokenizer for records whose prompts already are what a chat template would write.
#[derive(Debug, Clone, Copy)]
pub struct Rendered<'a>(pub &'a ChatTokenizer);

impl TextEncoder for Rendered<'_> {
    type Prompt = Prompt;

    fn prompt(&self, messages: &[Message], _: &JsonObject) -> Result<Prompt, BoxError> {
        let [only] = messages else {
            let problem = format!(
                "found {} turns, expected one text with all of them, since data.rendered = true",
                messages.len()
            );
            return Err(problem.into());
        };
        Ok(self.0.rendered_prompt(only.text())?)
    }

    fn answered(&self, prompt: &Prompt, responses: &[Answer]) -> Result<Answered, BoxError> {
        Ok(self.0.answered(prompt, responses)?)
    }
}

/// What happens to a prompt with more than `max_prompt_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverlongPrompts {
    /// The record is left out, since a question cut short is a different question. The default.
    #[default]
    Skip,
    /// The prompt is cut at the left, in words rather than in tokens, so that the chat template
    /// (its begin-of-text, system message and headers) stays whole: first the oldest turns go,
    /// up to a turn of the user, and then the beginning of the last turn.
    Truncate,
}

/// How long prompts and responses may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenLimits {
    /// Tokens of a prompt, chat template included.
    pub max_prompt_tokens: usize,
    /// Tokens of a response, end-of-turn token included. A longer one is cut at the right and
    /// so has no end-of-turn token: the model must not learn to stop there.
    pub max_response_tokens: usize,
    /// What happens to longer prompts.
    #[serde(default)]
    pub overlong_prompts: OverlongPrompts,
}

/// Tokenises records on all cores, in their order, and enters into `report` what was truncated
/// and skipped.
///
/// # Errors
/// A record that the tokenizer or the template refuses, where these are not to be skipped, or more of them than `tolerance`
/// has; an objective all of whose records were skipped.
pub fn tokenize(
    records: &[Record],
    encoder: &impl TextEncoder,
    limits: &TokenLimits,
    tolerance: Tolerance,
    report: &mut DataReport,
) -> Result<Vec<Example>, DataError> {
    for (field, found) in [
        ("max_prompt_tokens", limits.max_prompt_tokens),
        ("max_response_tokens", limits.max_response_tokens),
    ] {
        if found == 0 {
            return Err(DataError::Limit { field, found });
        }
    }
    let make = |record: &Record| tokenize_record(record, encoder, limits);
    let examples = tokenize_each(records, encoder, tolerance, report, make)?;
    match report
        .objectives
        .iter()
        .find(|o| o.labelled > 0 && o.used == 0)
    {
        Some(objective) => Err(DataError::NothingLeft {
            objective: objective.name.clone(),
            labelled: objective.labelled,
            reasons: report.reasons(),
        }),
        None => Ok(examples),
    }
}

/// Tokenises conversations without objectives: nothing is cut, every response counts, and what is longer than the model reads
/// with its longest response, or with one token of an answer, is refused.
pub(crate) fn tokenize_whole(
    records: &[Record],
    encoder: &impl TextEncoder,
    context: usize,
    tolerance: Tolerance,
    report: &mut DataReport,
) -> Result<Vec<Example>, DataError> {
    tokenize_each(records, encoder, tolerance, report, |record| {
        let prompt = (encoder.prompt(&record.prompt, &record.variables))
            .map_err(|error| refused("prompt", error))?;
        let answered = (encoder.answered(&prompt, &record.responses))
            .map_err(|error| refused("response", error))?;
        let longest = answered.responses.iter().map(Vec::len).max();
        let tokens = answered.prompt.len() + longest.unwrap_or(1);
        if tokens > context {
            return Err(RecordProblem::TooLong { tokens, context });
        }
        let example = Example::of(record, answered.prompt, answered.responses);
        Ok(Tokenized::Example {
            example: Box::new(example),
            is_prompt_cut: false,
            responses_cut: 0,
            notes: answered.notes,
        })
    })
}

/// Tokenises each record by `make`, and enters into `report` what came of it.
fn tokenize_each(
    records: &[Record],
    encoder: &impl TextEncoder,
    tolerance: Tolerance,
    report: &mut DataReport,
    make: impl Fn(&Record) -> Result<Tokenized, RecordProblem> + Send + Sync,
) -> Result<Vec<Example>, DataError> {
    let tokenized: Vec<_> = records.par_iter().map(make).collect();
    let mut examples = Vec::with_capacity(records.len());
    let mut tokens = TokenReport::default();
    for (record, tokenized) in records.iter().zip(tokenized) {
        match tokenized {
            Ok(Tokenized::Example {
                example,
                is_prompt_cut,
                responses_cut,
                notes,
            }) => {
                tokens.add(&example);
                for note in notes {
                    *report.boundaries.entry(note).or_default() += 1;
                }
                if let Some(token) = encoder.stray_token(record) {
                    report.stray_tokens.push((record.source.clone(), token));
                }
                report.unread.add(unread(record, encoder));
                report.count_dropped(record);
                report.count_used(&example.judgements, &example.scores);
                report.truncated_prompts += usize::from(is_prompt_cut);
                report.truncated_responses += responses_cut;
                examples.push(*example);
            }
            Ok(Tokenized::Skipped(reason)) => {
                report.drop_record(record);
                let source = record.source.clone();
                report.skipped.push(Skipped { source, reason });
            }
            Err(problem) => {
                report.drop_record(record);
                tolerance.refuse(problem.of(record.source.clone()), report)?;
            }
        }
    }
    report.tokens = Some(tokens);
    tolerance.check(report)?;
    Ok(examples)
}

enum Tokenized {
    Example {
        example: Box<Example>,
        is_prompt_cut: bool,
        responses_cut: usize,
        /// Of the boundary between prompt and responses.
        notes: Vec<String>,
    },
    Skipped(SkipReason),
}

fn tokenize_record(
    record: &Record,
    encoder: &impl TextEncoder,
    limits: &TokenLimits,
) -> Result<Tokenized, RecordProblem> {
    let whole = (encoder.prompt(&record.prompt, &record.variables))
        .map_err(|error| refused("prompt", error))?;
    let is_prompt_cut = whole.as_ref().len() > limits.max_prompt_tokens;
    let prompt = match (is_prompt_cut, limits.overlong_prompts) {
        (false, _) => Some(whole),
        (true, OverlongPrompts::Skip) => None,
        (true, OverlongPrompts::Truncate) => cut_prompt(record, encoder, limits.max_prompt_tokens)
            .map_err(|error| refused("prompt", error))?,
    };
    let Some(prompt) = prompt else {
        return Ok(Tokenized::Skipped(SkipReason::OverlongPrompt));
    };

    let Answered {
        prompt,
        mut responses,
        notes,
    } = answered(record, encoder, &prompt).map_err(|error| refused("response", error))?;
    let mut responses_cut = 0;
    for response in &mut responses {
        responses_cut += usize::from(response.len() > limits.max_response_tokens);
        response.truncate(limits.max_response_tokens);
    }
    // Two responses that the cut made equal cannot be told apart.
    let mut judgements = record.judgements.clone();
    judgements.retain(|judgement| {
        let tokens = &responses[judgement.response];
        match judgement.against {
            Some(against) => *tokens != responses[against],
            // Where others are judged beside it, each by itself.
            None => record.judgements.iter().all(|other| {
                other.response == judgement.response || *tokens != responses[other.response]
            }),
        }
    });
    if judgements.is_empty() && !record.judgements.is_empty() {
        return Ok(Tokenized::Skipped(SkipReason::EqualAfterTruncation));
    }
    Ok(Tokenized::Example {
        example: Box::new(Example {
            judgements,
            ..Example::of(record, prompt, responses)
        }),
        is_prompt_cut,
        responses_cut,
        notes,
    })
}

/// Says that the tokenizer or the template refuses a part of a record.
fn refused(part: &'static str, error: BoxError) -> RecordProblem {
    RecordProblem::Encode {
        part,
        message: error.to_string(),
    }
}

/// Keys of the record's turns, and variables beside them, of which nothing is made.
fn unread<'a>(record: &'a Record, encoder: &impl TextEncoder) -> BTreeSet<&'a str> {
    let of_turns = record.prompt.iter().map(|turn| &turn.more);
    let of_answers = record.responses.iter().map(|answer| &answer.more);
    let all = of_turns.chain(of_answers).chain([&record.variables]);
    let names = all.flat_map(|fields| fields.keys().map(String::as_str));
    names.filter(|name| !encoder.reads(name)).collect()
}

/// The conversation with the record's responses. Where nobody judges or scores them, they may be missing, and so may one that
/// cannot be tokenised.
fn answered<E: TextEncoder>(
    record: &Record,
    encoder: &E,
    prompt: &E::Prompt,
) -> Result<Answered, BoxError> {
    let is_used = marks(&record.judgements, &record.scores)
        .flatten()
        .any(Option::is_some);
    let refused = match encoder.answered(prompt, &record.responses) {
        Err(_) if !is_used && !record.responses.is_empty() => {
            "a response of the record's own cannot be tokenised, and nothing but its words is used"
        }
        other => return other,
    };
    let mut without = encoder.answered(prompt, &[])?;
    without.notes.push(refused.to_owned());
    Ok(without)
}

/// The longest end of a conversation whose prompt fits: whole turns if a user's turn can begin
/// it, otherwise the end of the last turn. `None` where the template alone is too long.
fn cut_prompt<E: TextEncoder>(
    record: &Record,
    encoder: &E,
    max_tokens: usize,
) -> Result<Option<E::Prompt>, BoxError> {
    let messages = &record.prompt;
    let system = messages
        .iter()
        .take_while(|message| matches!(message.role.as_str(), "system" | "developer"))
        .count();
    let (kept, turns) = messages.split_at(system);
    let fitting = |turns: &[Message]| -> Result<Option<E::Prompt>, BoxError> {
        let prompt = encoder.prompt(&[kept, turns].concat(), &record.variables)?;
        Ok((prompt.as_ref().len() <= max_tokens).then_some(prompt))
    };

    for start in (1..turns.len()).filter(|&start| turns[start].role == "user") {
        if let Some(prompt) = fitting(&turns[start..])? {
            return Ok(Some(prompt));
        }
    }
    // What is left is the last question alone. The most characters of its end that fit are
    // found by halving.
    let Some(last) = turns.last().filter(|last| last.role == "user") else {
        return Ok(None);
    };
    let starts: Vec<usize> = last.text().char_indices().map(|(start, _)| start).collect();
    let mut best = None;
    let (mut low, mut high) = (0, starts.len());
    while low < high {
        let middle = low.midpoint(high);
        let end_of_last = Message {
            content: Content::Text(last.text()[starts[middle]..].to_owned()),
            ..last.clone()
        };
        match fitting(&[end_of_last])? {
            Some(prompt) => {
                best = Some(prompt);
                high = middle;
            }
            None => low = middle + 1,
        }
    }
    Ok(best)
}

impl TokenReport {
    fn add(&mut self, example: &Example) {
        self.prompt += example.prompt.len();
        self.longest_prompt = self.longest_prompt.max(example.prompt.len());
        for response in &example.responses {
            self.response += response.len();
            self.longest_response = self.longest_response.max(response.len());
        }
    }
}

impl DataReport {
    /// A record that was kept until now is not.
    fn drop_record(&mut self, record: &Record) {
        self.kept -= 1;
        self.count_dropped(record);
    }
}
