//! From records in words to examples in tokens.
//!
//! The boundary between prompt and response lies in token space and is the same in training, scoring and generation:
//! `prompt ++ response` is what the model sees.

use std::collections::BTreeSet;

use panacea_pretrained::{Answer, Answered, ChatTokenizer, Content, JsonObject, Message, Prompt};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{BoxError, DataError, RecordProblem};
use crate::readers::fields::is_of_system;
use crate::record::{Example, Record, Words};
use crate::report::{DataReport, SkipReason, Skipped, TokenReport};
use crate::tolerance::Tolerance;

/// What turns text into tokens.
pub trait TextEncoder: Sync {
    /// A conversation up to an answer.
    type Prompt: AsRef<[u32]>;

    /// The conversation through the chat template, which sees the variables beside it, with the header of the answer; nothing
    /// where these are more than `max_tokens`.
    fn prompt(
        &self,
        messages: &[Message],
        variables: &JsonObject,
        max_tokens: usize,
    ) -> Result<Option<Self::Prompt>, BoxError>;
    /// The conversation with each of the responses as its answer, each with exactly one end-of-turn token. Of one with more
    /// than `max_tokens`, the first of them are enough, if they are more than so many.
    fn answered(
        &self,
        prompt: &Self::Prompt,
        responses: &[Answer],
        max_tokens: usize,
    ) -> Result<Answered, BoxError>;

    /// A special token that stands in a text of a record, where none is meant to.
    fn stray_token(&self, _record: &Record) -> Option<String> {
        None
    }
}

impl TextEncoder for ChatTokenizer {
    type Prompt = Prompt;

    fn prompt(
        &self,
        messages: &[Message],
        variables: &JsonObject,
        max_tokens: usize,
    ) -> Result<Option<Prompt>, BoxError> {
        Ok(self.prompt_within(messages, variables, max_tokens)?)
    }

    fn answered(
        &self,
        prompt: &Prompt,
        responses: &[Answer],
        max_tokens: usize,
    ) -> Result<Answered, BoxError> {
        Ok(self.answered_within(prompt, responses, max_tokens)?)
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

    fn prompt(
        &self,
        messages: &[Message],
        variables: &JsonObject,
        max_tokens: usize,
    ) -> Result<Option<Prompt>, BoxError> {
        let [only] = messages else {
            let problem = format!(
                "found {} turns, expected one text with all of them, since data.rendered = true",
                messages.len()
            );
            return Err(problem.into());
        };
        Ok(self.0.rendered_prompt_within(only, variables, max_tokens)?)
    }

    fn answered(
        &self,
        prompt: &Prompt,
        responses: &[Answer],
        max_tokens: usize,
    ) -> Result<Answered, BoxError> {
        Ok(self.0.answered_within(prompt, responses, max_tokens)?)
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
    records: Vec<Record>,
    encoder: &impl TextEncoder,
    limits: &TokenLimits,
    tolerance: Tolerance,
    report: &mut DataReport,
) -> Result<Vec<Example>, DataError> {
    let mut tokenizing = Tokenizing::new(encoder, limits, tolerance)?;
    tokenizing.add(records, report)?;
    tokenizing.finish(report)
}

/// Tokenises conversations without objectives: nothing is cut, every response counts, and what is longer than the model reads
/// with its longest response, or with one token of an answer, is refused.
pub(crate) fn tokenize_whole(
    records: Vec<Record>,
    encoder: &impl TextEncoder,
    context: usize,
    tolerance: Tolerance,
    report: &mut DataReport,
) -> Result<Vec<Example>, DataError> {
    let mut tokenizing = Tokenizing::with(encoder, Extent::Whole { context }, tolerance);
    tokenizing.add(records, report)?;
    tokenizing.finish(report)
}

/// How much of a record is tokenised.
#[derive(Clone, Copy)]
enum Extent<'a> {
    /// What these limits leave of it.
    Within(&'a TokenLimits),
    /// All of it, or it is refused: the model reads so many tokens.
    Whole { context: usize },
}

/// Records that become examples, some at a time.
pub(crate) struct Tokenizing<'a, E> {
    encoder: &'a E,
    extent: Extent<'a>,
    tolerance: Tolerance,
    /// Whether examples keep the words of responses that are judged.
    keeps_judged: bool,
    examples: Vec<Example>,
    tokens: TokenReport,
}

impl<'a, E: TextEncoder> Tokenizing<'a, E> {
    pub(crate) fn new(
        encoder: &'a E,
        limits: &'a TokenLimits,
        tolerance: Tolerance,
    ) -> Result<Self, DataError> {
        for (field, found) in [
            ("max_prompt_tokens", limits.max_prompt_tokens),
            ("max_response_tokens", limits.max_response_tokens),
        ] {
            if found == 0 {
                return Err(DataError::Limit { field, found });
            }
        }
        Ok(Self::with(encoder, Extent::Within(limits), tolerance))
    }

    fn with(encoder: &'a E, extent: Extent<'a>, tolerance: Tolerance) -> Self {
        Self {
            encoder,
            extent,
            tolerance,
            keeps_judged: false,
            examples: Vec::new(),
            tokens: TokenReport::default(),
        }
    }

    /// Has the examples keep the words of responses that are judged.
    pub(crate) fn keep_judged(&mut self) {
        self.keeps_judged = true;
    }

    /// Tokenises the next records. Of their words, examples keep what is asked for later.
    pub(crate) fn add(
        &mut self,
        records: Vec<Record>,
        report: &mut DataReport,
    ) -> Result<(), DataError> {
        let tokenized: Vec<Result<Tokenized, RecordProblem>> = records
            .par_iter()
            .map(|record| match self.extent {
                Extent::Within(limits) => tokenize_record(record, self.encoder, limits),
                Extent::Whole { context } => whole_record(record, self.encoder, context),
            })
            .collect();
        for (record, tokenized) in records.into_iter().zip(tokenized) {
            match tokenized {
                Ok(Tokenized::Example {
                    mut example,
                    is_prompt_cut,
                    responses_cut,
                    notes,
                    unread,
                }) => {
                    self.tokens.add(&example);
                    for note in notes {
                        *report.boundaries.entry(note).or_default() += 1;
                    }
                    if let Some(token) = self.encoder.stray_token(&record) {
                        report.stray_tokens.push((record.source.clone(), token));
                    }
                    report.unread.add(unread);
                    report.count_dropped(&record);
                    report.count_used(&example.judgements, &example.scores);
                    report.truncated_prompts += usize::from(is_prompt_cut);
                    report.truncated_responses += responses_cut;
                    example.words = Words::of(record, self.keeps_judged);
                    self.examples.push(*example);
                }
                Ok(Tokenized::Skipped(reason)) => {
                    report.drop_record(&record);
                    let source = record.source;
                    report.skipped.push(Skipped { source, reason });
                }
                Err(problem) => {
                    report.drop_record(&record);
                    (self.tolerance).refuse(problem.of(record.source), report)?;
                }
            }
        }
        Ok(())
    }

    /// The examples, once there are no more records.
    pub(crate) fn finish(self, report: &mut DataReport) -> Result<Vec<Example>, DataError> {
        report.tokens = Some(self.tokens);
        self.tolerance.check(report)?;
        match report
            .objectives
            .iter()
            .find(|o| o.labelled > 0 && o.used == 0)
        {
            Some(objective) => Err(DataError::NothingLeft {
                objective: objective.name.clone(),
                labelled: objective.labelled,
                reasons: report.reasons(),
                remedies: report.remedies(),
            }),
            None => Ok(self.examples),
        }
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
    check_spelling(record, encoder).map_err(|error| refused("prompt", error))?;
    let fitting = fitting(&record.prompt, &record.variables, encoder, limits)
        .map_err(|error| refused("prompt", error))?;
    let Some((prompt, is_prompt_cut)) = fitting else {
        return Ok(Tokenized::Skipped(SkipReason::OverlongPrompt));
    };
    let Answered {
        prompt,
        mut responses,
        notes,
        unread,
    } = encoder
        .answered(&prompt, record.read_responses(), limits.max_response_tokens)
        .map_err(|error| refused("response", error))?;
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
            // Where others are judged beside it, each by itself. One that was drawn twice has one verdict, which counts twice.
            None => record.judgements.iter().all(|other| {
                other.response == judgement.response
                    || *tokens != responses[other.response]
                    || other.labels == judgement.labels
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
            words: Words::default(),
        }),
        is_prompt_cut,
        responses_cut,
        notes,
        unread,
    })
}

/// A record that no objective asks anything of, whole.
fn whole_record(
    record: &Record,
    encoder: &impl TextEncoder,
    context: usize,
) -> Result<Tokenized, RecordProblem> {
    check_spelling(record, encoder).map_err(|error| refused("prompt", error))?;
    let prompt = encoder
        .prompt(&record.prompt, &record.variables, usize::MAX)
        .map_err(|error| refused("prompt", error))?;
    let Some(prompt) = prompt else {
        return Ok(Tokenized::Skipped(SkipReason::OverlongPrompt));
    };
    let answered = encoder
        .answered(&prompt, record.read_responses(), usize::MAX)
        .map_err(|error| refused("response", error))?;
    let longest = answered.responses.iter().map(Vec::len).max();
    let tokens = answered.prompt.len() + longest.unwrap_or(1);
    if tokens > context {
        return Err(RecordProblem::TooLong { tokens, context });
    }
    Ok(Tokenized::Example {
        example: Box::new(Example {
            source: record.source.clone(),
            prompt: answered.prompt,
            responses: answered.responses,
            judgements: Vec::new(),
            scores: Vec::new(),
            words: Words::default(),
        }),
        is_prompt_cut: false,
        responses_cut: 0,
        notes: answered.notes,
        unread: answered.unread,
    })
}

/// Says that the tokenizer or the template refuses a part of a record.
fn refused(part: &'static str, error: BoxError) -> RecordProblem {
    RecordProblem::Encode {
        part,
        message: error.to_string(),
    }
}

/// The prompt in tokens, and whether it was cut; nothing where it has too many and is to be skipped.
pub(crate) fn fitting<E: TextEncoder>(
    messages: &[Message],
    variables: &JsonObject,
    encoder: &E,
    limits: &TokenLimits,
) -> Result<Option<(E::Prompt, bool)>, BoxError> {
    let most = limits.max_prompt_tokens;
    if let Some(whole) = encoder.prompt(messages, variables, most)? {
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
    let tokens = |turns: &[Message]| -> Result<_, BoxError> {
        let prompt = encoder.prompt(turns, &record.variables, usize::MAX)?;
        Ok(prompt.map(|prompt| prompt.as_ref().to_vec()))
    };
    match tokens(&record.prompt)? == tokens(other)? {
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
        .take_while(|message| is_of_system(message))
        .count();
    let (kept, turns) = messages.split_at(system);
    let fitting = |turns: &[Message]| -> Result<Option<E::Prompt>, BoxError> {
        encoder.prompt(&[kept, turns].concat(), variables, max_tokens)
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
    let text = last.text();
    let mut best = None;
    let (mut low, mut high) = (0, text.chars().count());
    while low < high {
        let middle = low.midpoint(high);
        let start = text.char_indices().nth(middle).map(|(start, _)| start);
        let end_of_last = Message {
            role: last.role.clone(),
            content: Content::Text(text[start.unwrap_or(text.len())..].into()),
            more: last.more.clone(),
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
