//! Readers: one file for each shape in which people keep such records.
//!
//! A shape is told by the columns of the first record of a file, or by `format = ".."`. Every
//! reader turns a row into the same [`Reading`] or says which field is wrong; file and line
//! are added by the caller. What all readers share is in [`fields`] (columns and prompts) and [`turns`] (turns and their
//! contents); turns that are kept as texts become turns before anything is read, in [`packed`].

mod alpaca;
mod chosen_messages;
pub(crate) mod fields;
mod hh_rlhf;
mod messages;
pub(crate) mod packed;
mod prompt;
mod prompt_completion;
mod safe_rlhf;
mod scored;
mod sharegpt;
mod trl_preference;
pub(crate) mod turns;
mod values;

use std::fmt;

use panacea_pretrained::{Answer, JsonObject, Message};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::RecordKind;
use crate::error::{DataError, FieldProblem, RecordProblem, Trouble};
use crate::record::Source;
use fields::{Row, has, non_blank};
use turns::Pair;

/// The shapes that can be read. In the configuration: `format = "hh-rlhf"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `prompt`, `responses` [a, b] and usually `scores` {name: [of a, of b]}.
    Scored,
    /// `prompt`, `response_0`, `response_1` with `better_response_id`, `safer_response_id`.
    SafeRlhf,
    /// `chosen_messages` and `rejected_messages`, whole conversations.
    ChosenMessages,
    /// `conversations` (or `messages`), `chosen` and `rejected`, one turn each; turns of `from` and `value`, or `role` and `content`.
    Sharegpt,
    /// `chosen` and `rejected` as transcripts of `Human:` and `Assistant:`.
    HhRlhf,
    /// `chosen` and `rejected`, with or without `prompt`, plain or conversational.
    TrlPreference,
    /// SFT: `messages` (or `conversations`) that end with the answer.
    Messages,
    /// SFT: `prompt` and `completion`.
    PromptCompletion,
    /// SFT: `instruction`, `input`, `output`.
    Alpaca,
    /// RLHF: `prompt` and no response.
    Prompt,
}

/// What a reader makes of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    /// The conversation up to the response.
    pub(crate) prompt: Vec<Message>,
    /// As in [`Record::respelt`](crate::Record::respelt).
    pub(crate) respelt: Option<Vec<Message>>,
    /// What the template sees beside it.
    pub(crate) variables: JsonObject,
    /// One response, or two and more.
    pub(crate) responses: Vec<Answer>,
    /// The response that the shape itself calls the better one.
    pub(crate) preferred: Option<usize>,
    /// What the report says of it.
    pub(crate) note: Option<String>,
}

impl Reading {
    /// A pair in the order chosen, rejected.
    fn chosen_first(prompt: Vec<Message>, chosen: Answer, rejected: Answer) -> Self {
        Self {
            preferred: Some(0),
            ..Self::unordered(prompt, vec![chosen, rejected])
        }
    }

    /// Two whole conversations, with the system message of their row.
    fn of_conversations(row: &Row, pair: Pair) -> Result<Self, FieldProblem> {
        let with_system = |turns| fields::with_system(row, turns);
        let prompt = with_system(pair.prompt)?;
        Ok(Self {
            respelt: pair.respelt.map(with_system).transpose()?,
            ..Self::chosen_first(prompt, pair.chosen, pair.rejected)
        })
    }

    /// Responses whose order says nothing.
    fn unordered(prompt: Vec<Message>, responses: Vec<Answer>) -> Self {
        Self {
            prompt,
            respelt: None,
            variables: JsonObject::new(),
            responses,
            preferred: None,
            note: None,
        }
    }

    /// Every two responses that differ, the earlier one first.
    pub(crate) fn differing_pairs(&self) -> Vec<[usize; 2]> {
        let count = self.responses.len();
        (0..count)
            .flat_map(|first| (first + 1..count).map(move |second| [first, second]))
            .filter(|&[first, second]| self.responses[first] != self.responses[second])
            .collect()
    }

    /// With what stands beside the conversation in its row.
    fn complete(mut self, row: &Row) -> Result<Self, FieldProblem> {
        fields::check_text_alone(row)?;
        self.variables = fields::variables(row)?;
        self.note = fields::unused_system(row, &self.prompt);
        Ok(self)
    }

    /// A single response.
    fn single(prompt: Vec<Message>, response: Answer) -> Self {
        Self::unordered(prompt, vec![response])
    }
}

impl Format {
    /// All formats, in the order in which they are tried: a shape comes before those whose
    /// columns it contains.
    pub const ALL: [Self; 10] = [
        Self::Scored,
        Self::SafeRlhf,
        Self::ChosenMessages,
        Self::Sharegpt,
        Self::HhRlhf,
        Self::TrlPreference,
        Self::Messages,
        Self::PromptCompletion,
        Self::Alpaca,
        Self::Prompt,
    ];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scored => "scored",
            Self::SafeRlhf => "safe-rlhf",
            Self::ChosenMessages => "chosen-messages",
            Self::Sharegpt => "sharegpt",
            Self::HhRlhf => "hh-rlhf",
            Self::TrlPreference => "trl-preference",
            Self::Messages => "messages",
            Self::PromptCompletion => "prompt-completion",
            Self::Alpaca => "alpaca",
            Self::Prompt => "prompt",
        }
    }

    /// The columns by which it is known.
    fn columns(self) -> &'static str {
        match self {
            Self::Scored => "prompt, responses, scores",
            Self::SafeRlhf => "prompt, response_0, response_1",
            Self::ChosenMessages => "chosen_messages, rejected_messages",
            Self::Sharegpt => "conversations, chosen, rejected",
            Self::HhRlhf => "chosen, rejected: transcripts of Human and Assistant",
            Self::TrlPreference => "chosen, rejected, prompt or not",
            Self::Messages => "messages, or conversations",
            Self::PromptCompletion => "prompt, completion",
            Self::Alpaca => "instruction, input, output",
            Self::Prompt => "prompt, question, instruction or query; for method.loss = \"rlhf\"",
        }
    }

    /// Tells the format of a file by its first record.
    pub(crate) fn detect(source: &Source, row: &Row, kind: RecordKind) -> Result<Self, Trouble> {
        let found = Self::ALL.into_iter().find(|format| match format {
            Self::Scored => scored::detect(row),
            Self::SafeRlhf => safe_rlhf::detect(row),
            Self::ChosenMessages => chosen_messages::detect(row),
            Self::Sharegpt => sharegpt::detect(row),
            Self::HhRlhf => hh_rlhf::detect(row),
            Self::TrlPreference => trl_preference::detect(row),
            Self::Messages => messages::detect(row),
            Self::PromptCompletion => prompt_completion::detect(row),
            Self::Alpaca => alpaca::detect(row),
            // Without a response nothing else can be done with them.
            Self::Prompt => kind == RecordKind::Prompt && prompt::detect(row),
        });
        let unknown = |hint: &str| RecordProblem::Columns {
            columns: row.keys().cloned().collect(),
            hint: hint.to_owned(),
            known: Self::ALL
                .map(|format| format!("`{}` ({})", format.name(), format.columns()))
                .join(", "),
        };
        match found {
            // One answer with a verdict. Taken for SFT it would teach the bad answers too, also if only this record were
            // left out.
            Some(Self::Messages | Self::PromptCompletion)
                if matches!(kind, RecordKind::Sft | RecordKind::Pair)
                    && row.get("label").is_some_and(Value::is_boolean) =>
            {
                let hint = "these are single answers with a true or false `label` (KTO): train on them with method.loss = \"kto\" and an objective with `column = \"label\"`; to train SFT on the good ones, set `format` as well";
                Err(DataError::from(unknown(hint).of(source.clone())).into())
            }
            Some(format) => Ok(format),
            None => Err(unknown("rename the columns, or set `format`").into()),
        }
    }

    /// Reads a row and checks what holds for every shape.
    pub(crate) fn read(self, row: &Row) -> Result<Reading, FieldProblem> {
        let reading = match self {
            Self::Scored => scored::read(row),
            Self::SafeRlhf => safe_rlhf::read(row),
            Self::ChosenMessages => chosen_messages::read(row),
            Self::Sharegpt => sharegpt::read(row),
            Self::HhRlhf => hh_rlhf::read(row),
            Self::TrlPreference => trl_preference::read(row),
            Self::Messages => messages::read(row),
            Self::PromptCompletion => prompt_completion::read(row),
            Self::Alpaca => alpaca::read(row),
            Self::Prompt => prompt::read(row),
        }?;
        check_prompt(&reading.prompt, self.prompt_field(row))?;
        for (index, response) in reading.responses.iter().enumerate() {
            if response.is_blank() {
                non_blank("", &self.response_field(row, index))?;
            }
        }
        reading.complete(row)
    }

    /// Reads the prompt of a row, and its first response where that can be used. Nothing else has to be right.
    pub(crate) fn read_prompt(self, row: &Row) -> Result<Reading, FieldProblem> {
        let (prompt, response) = prompt::of(self, row)?;
        check_prompt(&prompt, self.prompt_field(row))?;
        let response = response.filter(|response| !response.is_blank());
        Reading::unordered(prompt, response.into_iter().collect()).complete(row)
    }

    /// What is wrong with a record that has no response which answers could be compared with.
    pub(crate) fn lacks_response(self, row: &Row, objective: &str) -> FieldProblem {
        let field = match self {
            Self::Prompt => "(the record)".to_owned(),
            format => format.response_field(row, 0),
        };
        FieldProblem {
            field,
            found: "no response with a text that can be read".to_owned(),
            expected: format!(
                "one, since the reward of `{objective}` compares answers with it; or name a column of reference answers with `reference`"
            ),
        }
    }

    /// Whether a column of this format says in its publishers' way that nobody has rated. Null and words such as "N/A" say
    /// so in every format.
    pub(crate) fn is_unrated(self, column: &str, value: &Value) -> bool {
        self == Self::SafeRlhf && safe_rlhf::is_unrated(column, value)
    }

    /// The field to name when the prompt is wrong.
    fn prompt_field(self, row: &Row) -> &'static str {
        match self {
            Self::ChosenMessages => "chosen_messages",
            Self::Sharegpt => sharegpt::column(row),
            Self::HhRlhf => "chosen",
            Self::Messages => messages::column(row),
            Self::Alpaca => alpaca::PROMPT,
            Self::TrlPreference if !trl_preference::has_prompt(row) => "chosen",
            Self::TrlPreference
            | Self::Scored
            | Self::SafeRlhf
            | Self::PromptCompletion
            | Self::Prompt => fields::prompt_column(row).unwrap_or("prompt"),
        }
    }

    /// Whether a column of a row of this format is read.
    pub(crate) fn reads(self, row: &Row, column: &str) -> bool {
        let prompt = || fields::prompt_columns(fields::prompt_column(row).unwrap_or("prompt"));
        let with_prompt = |others: &[&'static str]| [&prompt()[..], others].concat();
        let own = match self {
            Self::Scored => with_prompt(&["responses", "scores"]),
            Self::SafeRlhf => with_prompt(&["response_0", "response_1"]),
            Self::ChosenMessages => vec!["chosen_messages", "rejected_messages"],
            Self::Sharegpt => vec![sharegpt::column(row), "chosen", "rejected"],
            Self::HhRlhf => vec!["chosen", "rejected"],
            Self::TrlPreference => with_prompt(&["chosen", "rejected"]),
            Self::Messages => vec![messages::column(row)],
            Self::PromptCompletion => with_prompt(&[prompt_completion::column(row)]),
            Self::Alpaca => [&fields::prompt_columns(alpaca::PROMPT)[..], &["output"]].concat(),
            Self::Prompt => with_prompt(&[]),
        };
        own.contains(&column) || fields::is_beside(row, column)
    }

    /// The field to name when response `index` is wrong.
    fn response_field(self, row: &Row, index: usize) -> String {
        let one_of = |pair: [&str; 2]| pair[index].to_owned();
        match self {
            Self::Scored => format!("responses[{index}]"),
            Self::SafeRlhf => format!("response_{index}"),
            Self::ChosenMessages => one_of(["chosen_messages", "rejected_messages"]),
            Self::Sharegpt | Self::HhRlhf | Self::TrlPreference => one_of(["chosen", "rejected"]),
            Self::Messages => messages::column(row).to_owned(),
            Self::PromptCompletion => prompt_completion::column(row).to_owned(),
            Self::Alpaca => "output".to_owned(),
            Self::Prompt => "(none)".to_owned(),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether an answer can follow a prompt, which stands in `field`.
pub(crate) fn check_prompt(prompt: &[Message], field: &str) -> Result<(), FieldProblem> {
    let Some(last) = prompt.last() else {
        return Err(FieldProblem {
            field: field.to_owned(),
            found: "a record without prompt".to_owned(),
            expected: "at least one turn before the answer".to_owned(),
        });
    };
    if !matches!(last.role.as_str(), "user" | "tool") {
        return Err(FieldProblem {
            field: field.to_owned(),
            found: format!("a prompt whose last turn is of `{}`", last.role),
            expected: "a turn of `user` or `tool` before the answer".to_owned(),
        });
    }
    // A tool may have nothing to say.
    match (last.role.as_str(), prompt) {
        ("user", [_]) => non_blank(last.text(), field),
        ("user", _) if last.text().trim().is_empty() => Err(FieldProblem {
            field: field.to_owned(),
            found: "an empty text as the last turn, which is of `user`".to_owned(),
            expected: "a text with at least one character that is not blank".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Whether a row has both of two columns.
fn has_both(row: &Row, first: &str, second: &str) -> bool {
    has(row, first) && has(row, second)
}
