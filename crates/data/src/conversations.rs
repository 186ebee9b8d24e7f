//! Conversations of a file without objectives: what is scored, or answered.

use std::collections::BTreeMap;
use std::path::Path;

use panacea_pretrained::{JsonObject, Message};

use crate::RecordKind;
use crate::error::{DataError, RecordProblem, Trouble};
use crate::file::{FileReader, Taker};
use crate::readers::Format;
use crate::readers::fields::Row;
use crate::record::{Example, Record, Source};
use crate::report::DataReport;
use crate::rows::{FileKind, Rows, is_json, refuse_pointer, without_mark};
use crate::tokenize::{TextEncoder, tokenize_whole};
use crate::tolerance::Tolerance;

/// What is read of a record beside its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Responses {
    /// Its responses, at least one.
    Needed,
    /// Nothing: somebody else answers. Responses may be missing or broken.
    Unread,
}

/// How conversations are read, in any format that training reads.
#[derive(Debug, Clone, Copy)]
pub struct Conversations {
    /// What is read beside the prompts.
    pub responses: Responses,
    /// The format. `None`: told by the columns of the first record.
    pub format: Option<Format>,
    /// What to do with records that cannot be used.
    pub tolerance: Tolerance,
    /// As in [`Loader::as_written`](crate::Loader::as_written).
    pub as_written: bool,
    /// Tokens that the model reads at once, with those of the answer.
    pub context: usize,
}

impl Conversations {
    /// Whether a file has the name of one that holds records.
    pub fn are_in(file: &Path) -> bool {
        FileKind::of(file).is_ok()
    }

    /// Whether a text without a name, such as standard input, holds records: whether it begins with an object of JSON, or a list
    /// of objects.
    pub fn begin(text: &[u8]) -> bool {
        is_json(text)
    }

    /// Reads the records of a file. They are in their order, at least one, and have neither judgements nor scores.
    ///
    /// # Errors
    /// A record that cannot be used, where these are not to be skipped, or more of them than [`tolerance`](Self::tolerance)
    /// has; a file without a record that is left.
    pub fn load(
        &self,
        file: &Path,
        encoder: &impl TextEncoder,
    ) -> Result<(Vec<Example>, DataReport), DataError> {
        self.records(Rows::File(file), encoder)
    }

    /// Reads JSON that was read already, such as that of standard input; `name` is what messages call it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_json(
        &self,
        name: &Path,
        text: &[u8],
        encoder: &impl TextEncoder,
    ) -> Result<(Vec<Example>, DataReport), DataError> {
        self.records(Rows::Json(name, text), encoder)
    }

    /// Reads a text with a prompt on each line that is not empty; it is what a user says. `name` is what messages call the
    /// text.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_lines(
        &self,
        name: &Path,
        text: &[u8],
        encoder: &impl TextEncoder,
    ) -> Result<(Vec<Example>, DataReport), DataError> {
        refuse_pointer(name, text)?;
        let mut report = DataReport::default();
        let mut records = Vec::new();
        let lines = without_mark(text).split(|&byte| byte == b'\n');
        for (index, line) in lines.enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let source = Source::new(name, index + 1);
            report.read += 1;
            match std::str::from_utf8(line) {
                Ok(line) => {
                    let line = line.strip_suffix('\r').unwrap_or(line);
                    records.push(said_by_user(source, line));
                    report.kept += 1;
                }
                Err(error) => {
                    let byte = error.valid_up_to() + 1;
                    let refusal = RecordProblem::NotUtf8 { byte }.of(source);
                    self.tolerance.refuse(refusal, &mut report)?;
                }
            }
        }
        if report.read == 0 {
            return Err(DataError::NoPrompt {
                file: name.to_owned(),
            });
        }
        self.tokens(name, records, report, encoder)
    }

    fn records(
        &self,
        rows: Rows<'_>,
        encoder: &impl TextEncoder,
    ) -> Result<(Vec<Example>, DataReport), DataError> {
        let reader = FileReader {
            kind: match self.responses {
                Responses::Needed => RecordKind::Unpaired,
                Responses::Unread => RecordKind::Prompt,
            },
            format: self.format,
            tolerance: self.tolerance,
            as_written: self.as_written,
            objective: None,
        };
        let mut taker = Conversing {
            responses: self.responses,
            records: Vec::new(),
            report: DataReport::default(),
        };
        reader.read(rows, &mut taker)?;
        self.tokens(rows.name(), taker.records, taker.report, encoder)
    }

    fn tokens(
        &self,
        name: &Path,
        records: Vec<Record>,
        mut report: DataReport,
        encoder: &impl TextEncoder,
    ) -> Result<(Vec<Example>, DataReport), DataError> {
        let examples = tokenize_whole(records, encoder, self.context, self.tolerance, &mut report)?;
        match examples.is_empty() {
            true => Err(DataError::AllSkipped {
                file: name.to_owned(),
                read: report.read,
                reasons: report.reasons(),
            }),
            false => Ok((examples, report)),
        }
    }
}

/// A line of a text, as the prompt that it is.
fn said_by_user(source: Source, line: &str) -> Record {
    Record {
        source,
        prompt: vec![Message::new("user", line)],
        respelt: None,
        variables: JsonObject::new(),
        responses: Vec::new(),
        reads_responses: true,
        judgements: Vec::new(),
        scores: Vec::new(),
        references: BTreeMap::new(),
    }
}

/// Takes the conversations of rows.
struct Conversing {
    responses: Responses,
    records: Vec<Record>,
    report: DataReport,
}

impl Taker for Conversing {
    fn report(&mut self) -> &mut DataReport {
        &mut self.report
    }

    fn reads(&self, _: &str) -> bool {
        false
    }

    fn take(
        &mut self,
        source: &Source,
        row: &Row,
        format: Format,
    ) -> Result<Option<String>, Trouble> {
        let reading = match self.responses {
            Responses::Needed => format.read(row),
            Responses::Unread => format.read_prompt(row),
        };
        let mut reading = reading.map_err(RecordProblem::Field)?;
        if self.responses == Responses::Unread {
            reading.responses.clear();
            reading.respelt = None;
        }
        self.report.kept += 1;
        self.records.push(Record {
            source: source.clone(),
            prompt: reading.prompt,
            respelt: reading.respelt,
            variables: reading.variables,
            responses: reading.responses,
            reads_responses: true,
            judgements: Vec::new(),
            scores: Vec::new(),
            references: BTreeMap::new(),
        });
        Ok(reading.note)
    }
}
