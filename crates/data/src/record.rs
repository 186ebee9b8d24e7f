//! What the crate hands on: records in words, examples in tokens, and where each came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use panacea_objectives::Judgement;
use panacea_pretrained::{Answer, JsonObject, Message};
use serde::Serialize;

/// Where a record stands in the user's files, so that every message can name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Source {
    /// The file as the user named it.
    pub file: PathBuf,
    /// The line (JSON Lines) or the number of the record (JSON array, Parquet), from 1.
    pub line: usize,
}

impl Source {
    /// The record at `line` of `file`.
    pub fn new(file: &Path, line: usize) -> Self {
        Self {
            file: file.to_owned(),
            line,
        }
    }
}

/// `train.jsonl:12`: the form that terminals and editors take for a place in a file.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One training record in words.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// Where it was read.
    pub source: Source,
    /// The conversation up to the response; the last turn is never the assistant's.
    pub prompt: Vec<Message>,
    /// The same turns as they stand before the record's other answer, where objects in them have their keys in another order.
    pub respelt: Option<Vec<Message>>,
    /// What the chat template sees beside the conversation, such as `tools`.
    pub variables: JsonObject,
    /// Two or more (pairs), one (SFT) or any number (KTO, RLHF): see [`RecordKind`](crate::RecordKind).
    pub responses: Vec<Answer>,
    /// Whether the network reads them. For RLHF they may be there for their words alone, which answers are compared with.
    pub reads_responses: bool,
    /// What the objectives say about them; at least one entry, where they are what is trained on.
    pub judgements: Vec<Judgement>,
    /// RLHF: the record's own scores of each response.
    pub scores: Vec<Scores>,
    /// RLHF: reference answers, by the columns that rewards name.
    pub references: BTreeMap<String, String>,
}

impl Record {
    /// The responses that the network reads.
    pub fn read_responses(&self) -> &[Answer] {
        match self.reads_responses {
            true => &self.responses,
            false => &[],
        }
    }

    /// Bytes of its texts.
    pub(crate) fn text_bytes(&self) -> usize {
        let turns = self.prompt.iter().chain(self.respelt.iter().flatten());
        let prompt = turns.map(|turn| turn.text().len());
        let responses = self.responses.iter().map(|answer| answer.text().len());
        prompt.chain(responses).sum()
    }
}

/// What a record itself gives to one of its responses: a score for every objective, `None` where the objective asks for
/// none or the record has none.
pub type Scores = Vec<Option<f64>>;

/// What an example is in words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Words {
    /// The conversation up to the response; whole, also where its tokens are cut.
    pub prompt: Vec<Message>,
    /// As in [`Record::variables`].
    pub variables: JsonObject,
    /// Each response of a record without judgements; whole, also where its tokens are cut. Of responses that are judged, only
    /// the tokens are asked for, and they may be very long: none is kept.
    pub responses: Vec<Answer>,
    /// As in [`Record::references`].
    pub references: BTreeMap<String, String>,
}

impl Words {
    /// What is kept of a record; its judged responses, too, where `with_judged`.
    pub(crate) fn of(record: Record, with_judged: bool) -> Self {
        Self {
            prompt: record.prompt,
            variables: record.variables,
            responses: match record.judgements.is_empty() || with_judged {
                true => record.responses,
                false => Vec::new(),
            },
            references: record.references,
        }
    }
}

/// One training record in tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Where it was read.
    pub source: Source,
    /// Chat template up to and including the header of the answer.
    pub prompt: Vec<u32>,
    /// Each response that is read, with its end-of-turn token, unless it was truncated. Behind those of records for KTO stands
    /// a response to another prompt, where [`Loader::examples`](crate::Loader::examples) made them.
    pub responses: Vec<Vec<u32>>,
    /// As in [`Record::judgements`].
    pub judgements: Vec<Judgement>,
    /// As in [`Record::scores`].
    pub scores: Vec<Scores>,
    /// The record that it was made of, in words.
    pub words: Words,
}

impl Example {
    /// The objective that this example is labelled or scored on, where it is a single one.
    pub fn only_objective(&self) -> Option<usize> {
        let marks = marks(&self.judgements, &self.scores);
        let labels = marks.flat_map(|marks| marks.iter().enumerate());
        let mut labelled = labels.filter_map(|(i, label)| label.map(|_| i));
        let first = labelled.next()?;
        labelled.all(|i| i == first).then_some(first)
    }

    /// Tokens of the prompt and of all responses: what a network that shares the prompt computes.
    pub fn rows(&self) -> usize {
        self.prompt.len() + self.responses.iter().map(Vec::len).sum::<usize>()
    }
}

/// What is said about responses, objective by objective: labels, and scores.
pub(crate) fn marks<'a>(
    judgements: &'a [Judgement],
    scores: &'a [Scores],
) -> impl Iterator<Item = &'a [Option<f64>]> {
    let labels = judgements.iter().map(|judgement| &judgement.labels[..]);
    labels.chain(scores.iter().map(|scores| &scores[..]))
}
