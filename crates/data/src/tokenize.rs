//! From records in words to examples in tokens.
//!
//! The boundary between prompt and response lies in token space and is the same in training, scoring and generation:
//! `prompt ++ response` is what the model sees.

use std::collections::BTreeSet;

use panacea_pretrained::{Answer, Answered, ChatTokenizer, Content, JsonObject, Message, Prompt};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{BoxError, DataError, RecordProblem};
use crate::record::{Example, Record, Words};
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
            (record.read_responses().iter()).map(|answer| self.without_end_of_turn(answer.text()));
        let found = prompt
            .chain(responses)
            .find_map(|text| self.special_token_in(text));
        found.map(str::to_owned)
    }
}

/// A tokenizer for records whose prompts already are what a chat template would write.
#[derive(Debug, Clone, Copy)]
pub struct Rendered<'a>(pub &'a ChatTokenizer);

impl TextEncoder for Rendered<'_> {
    type Prompt = Prompt;

    fn prompt(&self, messages: &[Message], variables: &JsonObject) -> Result<Prompt, BoxError> {
        let [only] = messages else {
            let problem = format!(
                "found {} turns, expected one text with all of them, since data.rendered = true",
                messages.len()
            );
            return Err(problem.into());
        };
        Ok(self.0.rendered_prompt(only, variables)?)
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
    let tokenized: Vec<Result<Tokenized, RecordProblem>> = records
        .par_iter()
        .map(|record| tokenize_record(record, encoder, limits))
        .collect();

    let mut examples = Vec::with_capacity(records.len());
    let mut tokens = TokenReport::default();
    for (record, tokenized) in records.iter().zip(tokenized) {
        match tokenized {
            Ok(Tokenized::Example {
                example,
                is_prompt_cut,
                responses_cut,
                notes,
                unread,
            }) => {
                tokens.add(&example);
                for note in notes {
                    *report.boundaries.entry(note).or_default() += 1;
                }
                if let Some(token) = encoder.stray_token(record) {
                    report.stray_tokens.push((record.source.clone(), token));
                }
                report.unread.add(unread);
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

enum Tokenized {
    Example {
        example: Box<Example>,
        is_prompt_cut: bool,
        responses_cut: usize,
        /// Of the boundary between prompt and responses.
        notes: Vec<String>,
        /// Keys and variables of which nothing is made.
        unread: BTreeSet<String>,
    },
    Skipped(SkipReason),
}

fn tokenize_record(
    record: &Record,
    encoder: &impl TextEncoder,
    limits: &TokenLimits,
) -> Result<Tokenized, RecordProblem> {
    let refused = |part: &'static str| {
        move |error: BoxError| RecordProblem::Encode {
            part,
            message: error.to_string(),
        }
    };
    check_spelling(record, encoder).map_err(refused("prompt"))?;
    let fitting = fitting(&record.prompt, &record.variables, encoder, limits);
    let Some((prompt, is_prompt_cut)) = fitting.map_err(refused("prompt"))? else {
        return Ok(Tokenized::Skipped(SkipReason::OverlongPrompt));
    };
    let Answered {
        prompt,
        mut responses,
        notes,
        unread,
    } = encoder
        .answered(&prompt, record.read_responses())
        .map_err(refused("response"))?;
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
            source: record.source.clone(),
            prompt,
            responses,
            judgements,
            scores: record.scores.clone(),
            words: Words {
                prompt: record.prompt.clone(),
                variables: record.variables.clone(),
                responses: record.responses.clone(),
                references: record.references.clone(),
            },
        }),
        is_prompt_cut,
        responses_cut,
        notes,
        unread,
    })
}

/// The prompt in tokens, and whether it was cut; nothing where it has too many and is to be skipped.
pub(crate) fn fitting<E: TextEncoder>(
    messages: &[Message],
    variables: &JsonObject,
    encoder: &E,
    limits: &TokenLimits,
) -> Result<Option<(E::Prompt, bool)>, BoxError> {
    let whole = encoder.prompt(messages, variables)?;
    let most = limits.max_prompt_tokens;
    if whole.as_ref().len() <= most {
        return Ok(Some((whole, false)));
    }
    match limits.overlong_prompts {
        OverlongPrompts::Skip => Ok(None),
        OverlongPrompts::Truncate => {
            let cut = cut_prompt(messages, variables, encoder, most)?;
            Ok(cut.map(|prompt| (prompt, true)))
        }
    }
}

/// Of a pair of conversations one is taken as the prompt of both. Where the other has the keys of an object in another order,
/// the template must write the same for it.
fn check_spelling(record: &Record, encoder: &impl TextEncoder) -> Result<(), BoxError> {
    let Some(other) = &record.respelt else {
        return Ok(());
    };
    let [own, other] =
        [&record.prompt, other].map(|turns| encoder.prompt(turns, &record.variables));
    match own?.as_ref() == other?.as_ref() {
        true => Ok(()),
        false => Err(
            "found the same turns before both answers, but with the keys of an object in another order, which the template \
             writes; expected the same text before both: give them the same order"
                .into(),
        ),
    }
}

/// The longest end of a conversation whose prompt fits: whole turns if a user's turn can begin
/// it, otherwise the end of the last turn. `None` where the template alone is too long.
fn cut_prompt<E: TextEncoder>(
    messages: &[Message],
    variables: &JsonObject,
    encoder: &E,
    max_tokens: usize,
) -> Result<Option<E::Prompt>, BoxError> {
    let system = messages
        .iter()
        .take_while(|message| matches!(message.role.as_str(), "system" | "developer"))
        .count();
    let (kept, turns) = messages.split_at(system);
    let fitting = |turns: &[Message]| -> Result<Option<E::Prompt>, BoxError> {
        let prompt = encoder.prompt(&[kept, turns].concat(), variables)?;
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
