//! What happened to the data on its way in: nothing is skipped without being counted and named.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::Judgement;
use crate::error::RecordProblem;
use crate::readers::Format;
use crate::record::{Record, Scores, Source, marks};

/// Counts of everything that was read, labelled, skipped and truncated. Its [`Display`] form
/// is a short table for people.
///
/// [`Display`]: fmt::Display
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DataReport {
    /// The files, in the order they were read.
    pub files: Vec<FileReport>,
    /// Rows read from all files.
    pub read: usize,
    /// Records that are left; a pair read for SFT can make two.
    pub kept: usize,
    /// What each objective found.
    pub objectives: Vec<ObjectiveReport>,
    /// Every row that was skipped, and why.
    pub skipped: Vec<Skipped>,
    /// Prompts cut at the left, of kept records.
    pub truncated_prompts: usize,
    /// Responses cut at the right, of kept records.
    pub truncated_responses: usize,
    /// What is to be known of the boundary between prompts and responses, and how many records it is so of.
    pub boundaries: BTreeMap<String, usize>,
    /// What is to be known of how records were read, and how many it is so of.
    pub notes: BTreeMap<String, usize>,
    /// What kept records have of which nothing is made.
    pub unread: Unread,
    /// Kept records whose texts hold a special token, which the template does not mean to be there, and the token.
    pub stray_tokens: Vec<(Source, String)>,
    /// Lengths in tokens, once the records are tokenised.
    pub tokens: Option<TokenReport>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileReport {
    /// Its path.
    pub file: PathBuf,
    /// The shape of its records.
    pub format: Format,
    /// The number of its records.
    pub records: usize,
    /// The objective whose own data set it is.
    pub objective: Option<String>,
    /// Columns that hold something which nobody reads, and in how many records it is so.
    pub unread_columns: BTreeMap<String, usize>,
}

impl FileReport {
    /// The columns that nobody reads; those that are read in other records with how many it is so in.
    fn not_read(&self) -> String {
        let columns = self.unread_columns.iter();
        let named = columns.map(|(column, &records)| match records == self.records {
            true => format!("`{column}`"),
            false => format!("`{column}` ({records})"),
        });
        named.collect::<Vec<_>>().join(", ")
    }
}

/// Keys of turns, and variables beside conversations, that neither a reader nor the chat template uses where they stand: each
/// record is asked for itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Unread {
    /// How many records have any.
    pub records: usize,
    /// How many records have each.
    pub names: BTreeMap<String, usize>,
}

impl Unread {
    /// Adds those of a record.
    pub(crate) fn add(&mut self, names: BTreeSet<String>) {
        self.records += usize::from(!names.is_empty());
        for name in names {
            *self.names.entry(name).or_default() += 1;
        }
    }
}

/// What an objective found in the rows that it could have been labelled in
/// (identical responses aside): labelled + ties + missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ObjectiveReport {
    /// Its name.
    pub name: String,
    /// Pairs of responses (SFT, KTO, RLHF: single responses) with a label.
    pub labelled: usize,
    /// Pairs of equally good responses, which have no label.
    pub ties: usize,
    /// Pairs, or single responses, of which the row does not say.
    pub missing: usize,
    /// Labelled records among those that are left.
    pub used: usize,
}

/// A row that is not used.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Skipped {
    /// Which one.
    pub source: Source,
    /// Why.
    pub reason: SkipReason,
}

/// Why a row is not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// All responses are the same text.
    IdenticalResponses,
    /// No objective has a label for it.
    Unlabelled,
    /// An objective has no label for it, and records are to be [labelled by all](crate::LabelledBy::All).
    PartlyLabelled,
    /// The prompt has more tokens than allowed.
    OverlongPrompt,
    /// In every judged pair, truncation makes the two responses equal.
    EqualAfterTruncation,
    /// It cannot be used, and bad records are to be skipped. Only these count against
    /// [`Tolerance::max_skipped`](crate::Tolerance::max_skipped): nothing is wrong with the others.
    Refused(RecordProblem),
}

impl SkipReason {
    /// What helps against it, if a setting does.
    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::PartlyLabelled => Some("set `labelled_by = \"any\"`"),
            Self::OverlongPrompt | Self::EqualAfterTruncation => Some(
                "raise `max_prompt_tokens` or `max_response_tokens`, or set `overlong_prompts = \"truncate\"`",
            ),
            Self::IdenticalResponses | Self::Unlabelled | Self::Refused(_) => None,
        }
    }

    /// The reason in words, without what differs from record to record.
    fn words(&self) -> &'static str {
        match self {
            Self::IdenticalResponses => "identical responses",
            Self::Unlabelled => "no objective labels them",
            Self::PartlyLabelled => "not every objective labels them",
            Self::OverlongPrompt => "prompt too long",
            Self::EqualAfterTruncation => "responses equal after truncation",
            Self::Refused(problem) => problem.words(),
        }
    }
}

/// Lengths of the kept examples in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct TokenReport {
    /// Sum over the prompts.
    pub prompt: usize,
    /// Sum over the responses.
    pub response: usize,
    /// The longest prompt.
    pub longest_prompt: usize,
    /// The longest response.
    pub longest_response: usize,
}

impl DataReport {
    /// Skipped rows by reason: number, and the first of them.
    fn skipped_by_reason(&self) -> BTreeMap<&'static str, Vec<&Skipped>> {
        let mut reasons: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for skipped in &self.skipped {
            reasons
                .entry(skipped.reason.words())
                .or_default()
                .push(skipped);
        }
        reasons
    }

    /// Counts a record of which something is to be said.
    pub(crate) fn note(&mut self, note: &str) {
        match self.notes.get_mut(note) {
            Some(records) => *records += 1,
            None => _ = self.notes.insert(note.to_owned(), 1),
        }
    }

    /// Counts the labels and scores of what is kept.
    pub(crate) fn count_used(&mut self, judgements: &[Judgement], scores: &[Scores]) {
        for (i, objective) in self.objectives.iter_mut().enumerate() {
            objective.used += marked(judgements, scores, i);
        }
    }

    /// Takes the labels and scores of what was kept until now out of the count.
    pub(crate) fn count_dropped(&mut self, record: &Record) {
        for (i, objective) in self.objectives.iter_mut().enumerate() {
            objective.used -= marked(&record.judgements, &record.scores, i);
        }
    }

    /// How many rows were skipped because they cannot be used; one that made two records is one.
    pub(crate) fn refused(&self) -> usize {
        let is_refused = |row: &&Skipped| matches!(row.reason, SkipReason::Refused(_));
        let mut sources: Vec<&Source> = (self.skipped.iter().filter(is_refused))
            .map(|row| &row.source)
            .collect();
        sources.dedup();
        sources.len()
    }

    /// Why rows cannot be used, a line for each reason and one for the first of its kind.
    pub(crate) fn refusals(&self) -> String {
        let mut lines = String::new();
        for (reason, rows) in self.skipped_by_reason() {
            if let SkipReason::Refused(problem) = &rows[0].reason {
                lines += &format!("  {}\n    the first: {problem}\n", named(reason, &rows));
            }
        }
        lines
    }

    /// `12 prompt too long, 3 identical responses`.
    pub(crate) fn reasons(&self) -> String {
        let reasons: Vec<String> = self
            .skipped_by_reason()
            .iter()
            .map(|(reason, rows)| format!("{} {reason}", rows.len()))
            .collect();
        reasons.join(", ")
    }

    /// What helps against the reasons, each behind a semicolon.
    pub(crate) fn remedies(&self) -> String {
        let remedies = self.skipped.iter().filter_map(|row| row.reason.remedy());
        let remedies: BTreeSet<&str> = remedies.collect();
        remedies
            .iter()
            .map(|remedy| format!("; {remedy}"))
            .collect()
    }
}

/// As many rows are named for each reason; the rest is counted.
const NAMED: usize = 3;

/// `4: identical responses (a.jsonl:1, a.jsonl:2, a.jsonl:7, …)`.
fn named(reason: &str, rows: &[&Skipped]) -> String {
    let first = rows.iter().take(NAMED);
    let first: Vec<String> = first.map(|row| row.source.to_string()).collect();
    let more = if rows.len() > NAMED { ", …" } else { "" };
    format!("{}: {reason} ({}{more})", rows.len(), first.join(", "))
}

/// How many labels and scores there are on objective `i`.
fn marked(judgements: &[Judgement], scores: &[Scores], i: usize) -> usize {
    marks(judgements, scores)
        .filter(|marks| marks[i].is_some())
        .count()
}

impl fmt::Display for DataReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            write!(f, "file        {}", file.file.display())?;
            write!(f, " ({}, {} records", file.format, file.records)?;
            match &file.objective {
                Some(name) => writeln!(f, ", only for {name})")?,
                None => writeln!(f, ")")?,
            }
            if !file.unread_columns.is_empty() {
                writeln!(f, "            not read: {}", file.not_read())?;
            }
        }
        writeln!(f, "records     {} read, {} kept", self.read, self.kept)?;
        for (reason, rows) in self.skipped_by_reason() {
            writeln!(f, "skipped     {}", named(reason, &rows))?;
            if let SkipReason::Refused(problem) = &rows[0].reason {
                writeln!(f, "            the first: {problem}")?;
            }
        }
        let has_objectives = !self.objectives.is_empty();
        if let Some(tokens) = &self.tokens {
            // Where nothing is trained, nothing is cut.
            if has_objectives {
                writeln!(
                    f,
                    "truncated   {} prompts, {} responses",
                    self.truncated_prompts, self.truncated_responses
                )?;
            }
            writeln!(
                f,
                "tokens      {} in prompts (longest {}), {} in responses (longest {})",
                tokens.prompt, tokens.longest_prompt, tokens.response, tokens.longest_response
            )?;
        }
        for (note, records) in &self.notes {
            writeln!(f, "reading     {records} records: {note}")?;
        }
        if self.unread.records > 0 {
            let names: Vec<String> = (self.unread.names.iter())
                .map(|(name, records)| format!("`{name}` ({records})"))
                .collect();
            writeln!(
                f,
                "warning     {} records have turns or variables with keys that neither reader nor template uses: {}",
                self.unread.records,
                names.join(", ")
            )?;
        }
        for (note, records) in &self.boundaries {
            writeln!(f, "template    {records} records: {note}")?;
        }
        if !self.stray_tokens.is_empty() {
            let named: Vec<String> = (self.stray_tokens.iter().take(NAMED))
                .map(|(source, token)| format!("{source} has {token:?}"))
                .collect();
            let more = if self.stray_tokens.len() > NAMED {
                ", …"
            } else {
                ""
            };
            writeln!(
                f,
                "warning     {} records hold special tokens as text, and the template writes its own around them: {}{more}; \
                 with data.rendered = true texts are taken as they are",
                self.stray_tokens.len(),
                named.join(", ")
            )?;
        }
        if !has_objectives {
            return Ok(());
        }
        let width = self
            .objectives
            .iter()
            .map(|objective| objective.name.chars().count())
            .chain(["objective".len()])
            .max()
            .unwrap_or(0);
        writeln!(
            f,
            "{:<width$}  {:>8}  {:>8}  {:>8}  {:>8}",
            "objective", "labelled", "ties", "missing", "used"
        )?;
        for objective in &self.objectives {
            writeln!(
                f,
                "{:<width$}  {:>8}  {:>8}  {:>8}  {:>8}",
                objective.name,
                objective.labelled,
                objective.ties,
                objective.missing,
                objective.used
            )?;
        }
        Ok(())
    }
}
