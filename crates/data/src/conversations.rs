//! Conversations of a file without objectives: what is scored, or answered.

use std::path::Path;

use panacea_pretrained::{Answer, JsonObject, Message};

use crate::RecordKind;
use crate::error::{DataError, RecordProblem, Trouble};
use crate::readers::fields::Row;
use crate::readers::{Format, packed};
use crate::record::Source;
use crate::rows::{FileKind, for_each_row};

/// A conversation, and what its record has as answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// Where it was read.
    pub source: Source,
    /// The conversation up to the answer.
    pub prompt: Vec<Message>,
    /// What the chat template sees beside it, such as `tools`.
    pub variables: JsonObject,
    /// The answers of the record; any number of them.
    pub responses: Vec<Answer>,
}

/// Whether records must have answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Responses {
    /// At least one.
    Needed,
    /// A prompt is enough.
    Optional,
}

/// The conversations of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversations {
    /// In their order, at least one.
    pub all: Vec<Conversation>,
    /// What is to be known of how they were read, each a sentence.
    pub notes: Vec<String>,
}

impl Conversations {
    /// Whether a file has the name of one that can be read.
    pub fn are_in(file: &Path) -> bool {
        FileKind::of(file).is_ok()
    }

    /// Reads a file in any format that training reads, told by the columns of its first record. A record that cannot be read is
    /// an error. `as_written` is that of [`Loader`](crate::Loader::as_written).
    pub fn read(file: &Path, responses: Responses, as_written: bool) -> Result<Self, DataError> {
        let mut read = Self::default();
        let mut format = None;
        for_each_row(file, &mut |source, row| {
            let row = row.map_err(|problem| problem.of(source.clone()))?;
            match read.conversation(&source, row, responses, as_written, &mut format) {
                Ok(conversation) => {
                    read.all.push(conversation);
                    Ok(())
                }
                Err(Trouble::Load(error)) => Err(error),
                Err(Trouble::Record(problem)) => Err(problem.of(source).into()),
            }
        })?;
        Ok(read)
    }

    fn conversation(
        &mut self,
        source: &Source,
        row: &Row,
        responses: Responses,
        as_written: bool,
        format: &mut Option<Format>,
    ) -> Result<Conversation, Trouble> {
        let unpacked = match as_written {
            true => None,
            false => packed::unpacked(row).map_err(RecordProblem::Field)?,
        };
        let notes = unpacked.iter().flat_map(|unpacked| &unpacked.notes);
        notes.for_each(|note| self.note(note));
        let row = unpacked.as_ref().map_or(row, |unpacked| &unpacked.row);
        let kind = match responses {
            Responses::Needed => RecordKind::Unpaired,
            Responses::Optional => RecordKind::Prompt,
        };
        let format = match *format {
            Some(format) => format,
            None => *format.insert(Format::detect(source, row, kind)?),
        };
        let reading = match responses {
            Responses::Needed => format.read(row),
            Responses::Optional => format.read_prompt(row),
        };
        let reading = reading.map_err(RecordProblem::Field)?;
        reading.note.iter().for_each(|note| self.note(note));
        if reading.respelt.is_some() {
            self.note(
                "the turns before two answers have the keys of an object in another order: both are read with those of the first",
            );
        }
        Ok(Conversation {
            source: source.clone(),
            prompt: reading.prompt,
            variables: reading.variables,
            responses: reading.responses,
        })
    }

    fn note(&mut self, note: &str) {
        if !self.notes.iter().any(|known| known == note) {
            self.notes.push(note.to_owned());
        }
    }
}
