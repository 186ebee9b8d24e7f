//! Everything that can be wrong with data, said with file, line and field.

use std::error::Error;
use std::path::PathBuf;

use serde::Serialize;

use crate::record::Source;

/// An error of somebody else's code: whatever the tokenizer reports.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// One field of one record that cannot be used. Readers return this; whoever knows the file
/// and the line adds them ([`Refusal`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("field `{field}`: found {found}, expected {expected}")]
pub struct FieldProblem {
    /// The field, with a path where it is nested: `chosen[2].content`.
    pub field: String,
    /// What stands there.
    pub found: String,
    /// What could be used.
    pub expected: String,
}

/// A record that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{record}: {problem}")]
pub struct Refusal {
    /// Which one.
    pub record: Source,
    /// Why.
    pub problem: RecordProblem,
}

/// Why a record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RecordProblem {
    /// A line has bytes that are no UTF-8.
    #[error(
        "found bytes that are not UTF-8, from byte {byte} of the line on; expected text in UTF-8"
    )]
    NotUtf8 {
        /// The first of these bytes, from 1.
        byte: usize,
    },
    /// A line, or the array, is not JSON.
    #[error(
        "broken JSON at column {column}: {message}; expected one JSON object per line, or one array of objects in the file"
    )]
    Json {
        /// The column in the line, from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// It is longer than a record of a gzipped file may be.
    #[error(
        "the record has more than {longest} bytes as text, which is out of proportion to the gzipped file: it is damaged, or made to fill the memory; if it is neither, gunzip it"
    )]
    TooLarge {
        /// Bytes that it may have.
        longest: usize,
    },
    /// Its columns belong to no known shape.
    #[error(
        "cannot tell the format from the columns {}: {hint}; the formats are {known}",
        list(columns)
    )]
    Columns {
        /// Its columns.
        columns: Vec<String>,
        /// What to do about it.
        hint: String,
        /// The names that `format` takes, with their columns.
        known: String,
    },
    /// A field of the record itself.
    #[error(transparent)]
    Field(FieldProblem),
    /// A label or a score.
    #[error(transparent)]
    Label(FieldProblem),
    /// There is one response where pairs are needed.
    #[error(
        "found one response (format `{format}`), expected two: this loss needs pairs; use a data set of pairs, or for single responses method.loss = \"kto\" (a column calls them good or bad) or \"sft\""
    )]
    NeedsPairs {
        /// The format it was read as.
        format: &'static str,
    },
    /// The model cannot read so much at once.
    #[error(
        "found {tokens} tokens with the answer, expected at most {context}, which is what the model reads at once; shorten it"
    )]
    TooLong {
        /// Tokens of the prompt and its longest response, or one of an answer.
        tokens: usize,
        /// Tokens that the model reads.
        context: usize,
    },
    /// The tokenizer or the chat template refuses it.
    #[error("the {part} cannot be tokenised: {message}")]
    Encode {
        /// Prompt or response.
        part: &'static str,
        /// What the tokenizer says.
        message: String,
    },
}

impl RecordProblem {
    /// The reason in words, without what differs from record to record.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. } => "the line is not UTF-8",
            Self::Json { .. } => "the line is not JSON",
            Self::TooLarge { .. } => "the record is too long",
            Self::Columns { .. } => "no format has their columns",
            Self::Field(_) => "a field cannot be used",
            Self::Label(_) => "a label or score cannot be used",
            Self::NeedsPairs { .. } => "one response where two are needed",
            Self::TooLong { .. } => "more tokens than the model reads",
            Self::Encode { .. } => "the template or tokenizer refuses them",
        }
    }

    /// This problem of `record`.
    pub(crate) fn of(self, record: Source) -> Refusal {
        Refusal {
            record,
            problem: self,
        }
    }
}

/// Why data could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file cannot be opened or read.
    #[error("{}: cannot read the file: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file's name says nothing that can be read.
    #[error(
        "{}: found {found}, expected a file whose name ends in .jsonl, .ndjson or .json (each also with .gz) or in .parquet",
        file.display()
    )]
    FileType {
        /// The path.
        file: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// What a clone of a repository holds in place of a large file.
    #[error(
        "{}: {}",
        file.display(), panacea_files::LFS_ADVICE
    )]
    LfsPointer {
        /// The file.
        file: PathBuf,
    },
    /// The Parquet file cannot be read.
    #[error("{}: cannot read the Parquet file: {message}", file.display())]
    Parquet {
        /// The file.
        file: PathBuf,
        /// What the reader says.
        message: String,
    },
    /// The file holds no record.
    #[error("{}: found no record, expected at least one", file.display())]
    EmptyFile {
        /// The file.
        file: PathBuf,
    },
    /// The text holds no prompt.
    #[error("{}: found no prompt, expected one on each line", file.display())]
    NoPrompt {
        /// The file.
        file: PathBuf,
    },
    /// Every record was skipped.
    #[error("{}: no record is left of {read}: {reasons}", file.display())]
    AllSkipped {
        /// The file.
        file: PathBuf,
        /// Records in all.
        read: usize,
        /// The reasons with their counts.
        reasons: String,
    },
    /// A record cannot be used, and bad records are errors.
    #[error(transparent)]
    Record(#[from] Refusal),
    /// Bad records are skipped, and there are too many.
    #[error(
        "{refused} of {read} records cannot be used, which is a share of {share:.2}; expected at most data.max_skipped = {max_skipped}:\n{reasons}correct these records, set `data.format` if they were read as another format, or raise `data.max_skipped` if the others are enough",
        share = *refused as f64 / *read as f64
    )]
    TooManyRefused {
        /// Records that cannot be used.
        refused: usize,
        /// Records in all.
        read: usize,
        /// The largest share that may be skipped.
        max_skipped: f64,
        /// Why, a line each.
        reasons: String,
    },
    /// Responses to other prompts are needed, and there is no other prompt.
    #[error(
        "{first}: found one prompt in all {records} records that are read with it, expected two or more: KTO compares each with a response to another prompt"
    )]
    OnePrompt {
        /// The first record.
        first: Source,
        /// The records.
        records: usize,
    },
    /// The objectives themselves are wrong.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// An objective has nothing to learn from.
    #[error(
        "objective `{objective}` has no labelled record: it reads {wanted}, and of {found} {what} {ties} tie and {missing} lack it; the columns are {columns}{scores}{note}",
        columns = list(columns),
        scores = if scores.is_empty() { String::new() } else { format!("; the keys of `scores` are {}", list(scores)) }
    )]
    NoLabel {
        /// The objective's name.
        objective: String,
        /// Where it looks for labels.
        wanted: String,
        /// What could have been labelled.
        what: &'static str,
        /// How many of these there are.
        found: usize,
        /// Of these, ties.
        ties: usize,
        /// Of these, without the label.
        missing: usize,
        /// All columns that the records have.
        columns: Vec<String>,
        /// All keys of their `scores`.
        scores: Vec<String>,
        /// What else is worth saying, starting with its own separator.
        note: String,
    },
    /// All labelled records of an objective were skipped.
    #[error(
        "objective `{objective}` has no record left: all {labelled} that are labelled were skipped ({reasons}){remedies}"
    )]
    NothingLeft {
        /// The objective's name.
        objective: String,
        /// How many records were labelled.
        labelled: usize,
        /// The reasons with their counts.
        reasons: String,
        /// What helps against them, starting with its own separator; may be empty.
        remedies: String,
    },
    /// A limit that leaves no room.
    #[error("`{field}`: found {found}, expected at least 1 token")]
    Limit {
        /// The name of the limit.
        field: &'static str,
        /// Its value.
        found: usize,
    },
}

/// What stops a row from being taken.
pub(crate) enum Trouble {
    /// The row cannot be used.
    Record(RecordProblem),
    /// Nothing can be loaded, whatever becomes of the row.
    Load(DataError),
}

impl From<RecordProblem> for Trouble {
    fn from(problem: RecordProblem) -> Self {
        Self::Record(problem)
    }
}

impl From<DataError> for Trouble {
    fn from(error: DataError) -> Self {
        Self::Load(error)
    }
}

/// Why a list of objectives cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectiveError {
    /// No objective at all.
    #[error("found no objective, expected at least one")]
    None,
    /// A name that cannot be shown.
    #[error("objective `name`: found an empty text, expected a name")]
    EmptyName,
    /// Two objectives of one name.
    #[error("objective `{0}` is there twice; expected different names")]
    Duplicate(String),
    /// No label source, or several.
    #[error(
        "objective `{name}`: found {found}, expected exactly one of `score`, `column`, `chosen = true`, `rule`, `reward` (an objective with its own `train` files may leave it out, which means `chosen = true`)"
    )]
    LabelSource {
        /// The objective's name.
        name: String,
        /// The sources that are there.
        found: String,
    },
    /// A strength where there is none.
    #[error(
        "objective `{name}`: `strength = \"bradley-terry\"` needs `score` or `column`, found {found}; only these say how much better a response is"
    )]
    Strength {
        /// The objective's name.
        name: String,
        /// Its label source.
        found: String,
    },
    /// An objective has neither its own files nor shared ones.
    #[error(
        "objective `{name}` has no data for {part}: name shared files, or its own in `{part} = [..]`"
    )]
    NoFiles {
        /// The objective's name.
        name: String,
        /// `train` or `eval`.
        part: &'static str,
    },
    /// Shared files that nobody reads.
    #[error(
        "no objective reads {}: each has its own `{part}` files; remove the one or the other",
        file.display()
    )]
    UnreadFile {
        /// The first of the shared files.
        file: PathBuf,
        /// `train` or `eval`.
        part: &'static str,
    },
    /// A rule or a score makes no sense of single responses.
    #[error(
        "objective `{name}` reads {found} of records with one response: an SFT record belongs to an objective by `column` or by `chosen = true` in the objective's own data set"
    )]
    NotForSft {
        /// The objective's name.
        name: String,
        /// Its label source.
        found: String,
    },
    /// A response is judged by itself, and the source says nothing about one alone.
    #[error(
        "objective `{name}` reads {found} of records with one response: for KTO a `column` says whether a response is good (true or 1) or bad (false or 0)"
    )]
    NotForUnpaired {
        /// The objective's name.
        name: String,
        /// Its label source.
        found: String,
    },
    /// What the policy writes is scored, not labelled.
    #[error(
        "objective `{name}` reads {found}, but with loss = \"rlhf\" the policy writes responses that no record has labelled: give it `reward = {{ .. }}`, such as `reward = {{ score = \"..\", otherwise = 0.0 }}` or `reward = {{ rule = \"conciseness\" }}`"
    )]
    NeedsReward {
        /// The objective's name.
        name: String,
        /// Its label source.
        found: String,
    },
    /// A reward is a number already.
    #[error(
        "objective `{name}`: `negate` turns labels around and does nothing to a `reward`; let the scorer give the opposite number"
    )]
    NegatedReward {
        /// The objective's name.
        name: String,
    },
    /// A reward labels no record.
    #[error(
        "objective `{name}` has a `reward`, which scores what the policy writes: set method.loss = \"rlhf\", or say how records are labelled by `score`, `column`, `chosen` or `rule`"
    )]
    RewardOnly {
        /// The objective's name.
        name: String,
    },
}

/// `a`, `b`, `c`.
pub(crate) fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "(none)".to_owned();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
