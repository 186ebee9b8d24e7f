//! What the records of a file could be judged by, found by looking at all of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::RecordKind;
use crate::error::{DataError, RecordProblem, Trouble};
use crate::file::{FileReader, Taker};
use crate::labels::{Finding, side_of};
use crate::objective::{LabelSource, ObjectiveSpec, Rule};
use crate::readers::fields::Row;
use crate::readers::{Format, Reading};
use crate::record::Source;
use crate::report::{DataReport, SkipReason, Skipped};
use crate::rows::Rows;
use crate::tolerance::Tolerance;

/// What was found in files of preferred and other answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// The shape of each file.
    pub formats: Vec<Format>,
    /// Records with two answers that differ.
    pub records: usize,
    /// What they could be judged by: the chosen/rejected order first, then scores and columns as they stand in the files, the
    /// rule `shorter` last.
    pub candidates: Vec<Candidate>,
    /// The columns of which no objective can be made, and why.
    pub others: BTreeMap<String, String>,
}

/// An objective that labels at least one record.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// It, named after what it is made of.
    pub objective: ObjectiveSpec,
    /// Whether it is a column of numbers between 0 and 1, which may be probabilities and may be something else.
    pub is_of_fractions: bool,
    /// For each two answers of each record, whether it prefers the first of them, if it says so.
    prefers_first: Vec<Option<bool>>,
}

impl Candidate {
    /// How many pairs of answers it has a label for.
    pub fn labelled(&self) -> usize {
        self.prefers_first.iter().flatten().count()
    }

    /// How many pairs of answers there are in all.
    pub fn pairs(&self) -> usize {
        self.prefers_first.len()
    }

    /// In how many pairs of answers it and another one prefer different ones.
    pub fn differs(&self, other: &Self) -> usize {
        let pairs = self.prefers_first.iter().zip(&other.prefers_first);
        pairs
            .filter(|pair| matches!(pair, (Some(one), Some(other)) if one != other))
            .count()
    }
}

impl Survey {
    /// Looks at every record of these files of pairs.
    ///
    /// # Errors
    /// Those of reading a file for training: a record that cannot be used, columns of no format, single answers, and none with
    /// two answers that differ.
    pub fn of(files: &[PathBuf]) -> Result<Self, DataError> {
        let mut looking = Looking::default();
        for file in files {
            let reader = FileReader {
                kind: RecordKind::Pair,
                format: None,
                tolerance: Tolerance::default(),
                as_written: false,
                objective: None,
            };
            reader.read(Rows::File(file), &mut looking)?;
        }
        let report = &looking.report;
        if report.kept == 0 {
            return Err(DataError::AllSkipped {
                file: files.first().cloned().unwrap_or_default(),
                read: report.read,
                reasons: report.reasons(),
            });
        }
        Ok(Self {
            formats: report.files.iter().map(|file| file.format).collect(),
            records: report.kept,
            candidates: looking.candidates(),
            others: looking.others,
        })
    }
}

/// The state of a survey.
#[derive(Default)]
struct Looking {
    report: DataReport,
    /// Pairs of answers until now.
    pairs: usize,
    chosen: Option<Candidate>,
    of_columns: Vec<Candidate>,
    shorter: Option<Candidate>,
    others: BTreeMap<String, String>,
}

impl Taker for Looking {
    fn report(&mut self) -> &mut DataReport {
        &mut self.report
    }

    fn reads(&self, _: &str) -> bool {
        true
    }

    fn take(
        &mut self,
        source: &Source,
        row: &Row,
        format: Format,
    ) -> Result<Option<String>, Trouble> {
        let reading = format.read(row).map_err(RecordProblem::Field)?;
        let count = reading.responses.len();
        if count < 2 {
            let format = format.name();
            return Err(RecordProblem::NeedsPairs { format }.into());
        }
        let pairs = reading.differing_pairs();
        if pairs.is_empty() {
            self.report.skipped.push(Skipped {
                source: source.clone(),
                reason: SkipReason::IdenticalResponses,
            });
            return Ok(None);
        }
        for source in sources(row, format, &reading) {
            self.know(source);
        }
        let judged = Judged {
            row,
            format,
            reading: &reading,
            pairs: &pairs,
        };
        let mut broken = Vec::new();
        for candidate in self.all() {
            if let Err(problem) = judged.add_to(candidate) {
                broken.push((candidate.objective.source.clone(), problem));
            }
        }
        for (source, problem) in broken {
            self.of_columns.retain(|one| one.objective.source != source);
            if let Some(column) = column_of(&source) {
                self.others.insert(column.to_owned(), problem);
            }
        }
        self.pairs += pairs.len();
        self.report.kept += 1;
        Ok(None)
    }
}

impl Looking {
    fn all(&mut self) -> impl Iterator<Item = &mut Candidate> {
        let own = self.chosen.iter_mut().chain(&mut self.of_columns);
        own.chain(&mut self.shorter)
    }

    /// Adds a source that was not met before.
    fn know(&mut self, source: LabelSource) {
        let is_out = column_of(&source).is_some_and(|column| self.others.contains_key(column));
        if is_out || self.all().any(|known| known.objective.source == source) {
            return;
        }
        let name = match &source {
            LabelSource::Rule(_) => "brevity",
            named => column_of(named).unwrap_or("preferred"),
        };
        let candidate = Candidate {
            objective: ObjectiveSpec::new(name, source.clone()),
            is_of_fractions: false,
            prefers_first: vec![None; self.pairs],
        };
        match source {
            LabelSource::Chosen => self.chosen = Some(candidate),
            LabelSource::Rule(_) => self.shorter = Some(candidate),
            _ => self.of_columns.push(candidate),
        }
    }

    /// Those that label something, each with a name of its own.
    fn candidates(&mut self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let all = (self.chosen.take().into_iter())
            .chain(self.of_columns.drain(..))
            .chain(self.shorter.take());
        for mut candidate in all {
            if candidate.labelled() == 0 {
                if let Some(column) = column_of(&candidate.objective.source) {
                    let why = "it prefers no answer in any record".to_owned();
                    self.others.insert(column.to_owned(), why);
                }
                continue;
            }
            let is_taken = |name: &str| {
                let mut taken = candidates.iter();
                taken.any(|other: &Candidate| other.objective.name == name)
            };
            let mut name = candidate.objective.name.clone();
            while is_taken(&name) {
                name.push_str("-2");
            }
            candidate.objective.name = name;
            candidates.push(candidate);
        }
        candidates
    }
}

/// A record with what it is judged by.
struct Judged<'a> {
    row: &'a Row,
    format: Format,
    reading: &'a Reading,
    pairs: &'a [[usize; 2]],
}

impl Judged<'_> {
    /// What the candidate says of its pairs; why it can be no objective, where it says what none may say.
    fn add_to(&self, candidate: &mut Candidate) -> Result<(), String> {
        let objective = &candidate.objective;
        if let LabelSource::Column(name) = &objective.source
            && let Some(number) = self.row.get(name).and_then(Value::as_f64)
        {
            candidate.is_of_fractions |= number.fract() != 0.0;
        }
        for &pair in self.pairs {
            let finding = objective.label_pair(self.row, self.format, self.reading, pair);
            let finding = finding.map_err(|problem| {
                format!("found {}, expected {}", problem.found, problem.expected)
            })?;
            candidate.prefers_first.push(match finding {
                Finding::Label(label) => Some(label > 0.5),
                Finding::Tie | Finding::Missing => None,
            });
        }
        Ok(())
    }
}

/// What a record could be judged by.
fn sources(row: &Row, format: Format, reading: &Reading) -> Vec<LabelSource> {
    let mut sources = Vec::new();
    if reading.preferred.is_some() {
        sources.push(LabelSource::Chosen);
    }
    let scores = row.get("scores").and_then(Value::as_object);
    let keys = scores.into_iter().flat_map(|scores| scores.keys());
    sources.extend(keys.map(|key| LabelSource::Score(key.clone())));
    let columns = row.keys().filter(|column| *column != "scores");
    let columns = columns.filter(|column| !format.reads(row, column));
    sources.extend(columns.filter_map(|column| of_column(row, column)));
    sources.push(LabelSource::Rule(Rule::Shorter));
    sources
}

/// The objective of a column. Of two columns for the chosen and the rejected answer, it is the first one's, under the name that
/// they share.
fn of_column(row: &Row, column: &str) -> Option<LabelSource> {
    match side_of(row, column) {
        None => Some(LabelSource::Column(column.to_owned())),
        Some((name, true)) => Some(LabelSource::Column(name.to_owned())),
        Some((_, false)) => None,
    }
}

/// The column or the score that a source reads, if it reads one.
fn column_of(source: &LabelSource) -> Option<&str> {
    match source {
        LabelSource::Score(name) | LabelSource::Column(name) => Some(name),
        LabelSource::Chosen | LabelSource::Rule(_) | LabelSource::Reward(_) => None,
    }
}
