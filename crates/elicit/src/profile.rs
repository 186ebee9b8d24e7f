//! Sessions as text: JSON Lines, a header and then a line for each question.

use panacea_objectives::Preference;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::candidates::Candidate;
use crate::choice::Answer;
use crate::error::{ElicitError, check_numbers};
use crate::settings::Settings;

/// What the first line calls the format.
pub(crate) const FORMAT: &str = "panacea-elicit";
/// The version that is written and read. It stands for every constant of the method too, since a replay depends on them.
pub(crate) const VERSION: u64 = 1;

/// What the scores of a session are, and how far they go. Whoever brings the scores says so once; all later ones must be of the
/// same kind, or what was learnt of τ would be wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// What is measured, in the words of whoever brings it.
    pub of: String,
    /// How far the scores go from bad to good, above 0: the belief sees scores divided by it.
    pub unit: f64,
}

impl Default for Scale {
    /// Scores that go about 1 from bad to good as they are.
    fn default() -> Self {
        Self {
            of: "scores".to_owned(),
            unit: 1.0,
        }
    }
}

/// The first line of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    format: String,
    version: u64,
    /// Names of the objectives, in the order of all weights and scores.
    pub objectives: Vec<String>,
    /// What the scores are.
    pub scores: Scale,
    /// What the belief was seeded with.
    pub seed: u64,
    /// What it was made with.
    pub settings: Settings,
}

impl Header {
    pub(crate) fn new(
        objectives: Vec<String>,
        scores: Scale,
        seed: u64,
        settings: Settings,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            objectives,
            scores,
            seed,
            settings,
        }
    }
}

/// A line of a profile: a question, its answer, and what was known after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number, from 1.
    pub question: usize,
    /// The left text.
    pub left: Candidate,
    /// The right text.
    pub right: Candidate,
    /// What the person said.
    pub answer: Answer,
    /// λ̂ after this answer.
    pub estimate: Preference,
    /// The expected regret after it, relative to the range of the front; nothing where no front was measured.
    #[serde(deserialize_with = "crate::candidates::present")]
    pub expected_regret: Option<f64>,
}

/// Why a text is not a profile.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// There is no line.
    #[error("the profile is empty; its first line must say the format and the objectives")]
    Empty,
    /// The first line says another format.
    #[error("line 1, field `format`: `{found}` is not a profile of this kind (`{FORMAT}`)")]
    Format {
        /// The format it says.
        found: String,
    },
    /// The version is not known here.
    #[error(
        "line 1, field `version`: version {found} is not known; this program reads version {VERSION}"
    )]
    Version {
        /// The version it says.
        found: u64,
    },
    /// A line is not what it must be.
    #[error("line {line}, field `{field}`: {message}")]
    Field {
        /// 1-based line.
        line: usize,
        /// Path of the field, as in `left.scores[1]`; `.` is the whole line.
        field: String,
        /// What is wrong with it.
        message: String,
    },
}

/// What a [`Scale::of`] is called where it is too long.
pub(crate) const KIND_OF_SCORES: &str = "what the scores are of";

/// A header, or an entry, as a line with its end.
pub(crate) fn line(of: &impl Serialize) -> String {
    let mut text = serde_json::to_string(of).expect("finite numbers and names as JSON");
    text.push('\n');
    text
}

/// The header on the first line.
pub(crate) fn read_header(text: &str) -> Result<Header, ProfileError> {
    /// What every version has.
    #[derive(Deserialize)]
    struct Kind {
        format: String,
        version: u64,
    }
    // Not `is_empty`: a text of one line end has a first line, and it is wrong.
    let first = text.lines().next().ok_or(ProfileError::Empty)?;
    let kind: Kind = parse(1, first)?;
    if kind.format != FORMAT {
        return Err(ProfileError::Format { found: kind.format });
    }
    if kind.version != VERSION {
        let found = kind.version;
        return Err(ProfileError::Version { found });
    }
    parse(1, first)
}

/// The entries below it, each with its line, for m = `objectives`.
pub(crate) fn read_entries(
    text: &str,
    objectives: usize,
) -> impl Iterator<Item = Result<(usize, Entry), ProfileError>> {
    let lines = text.lines().enumerate().skip(1);
    lines.map(move |(before, text)| {
        let line = before + 1;
        let entry: Entry = parse(line, text)?;
        if entry.question != before {
            let message = format!(
                "this is question {}, but it stands in the place of question {before}; lines are missing or moved",
                entry.question
            );
            return Err(field(line, "question", message));
        }
        let estimate = entry.estimate.weights();
        check_numbers("the estimate", estimate, objectives)
            .map_err(|error| field(line, "estimate", error.to_string()))?;
        if let Some(regret) = entry.expected_regret
            && !(regret >= 0.0 && regret.is_finite())
        {
            let message = format!("{regret} is no expected regret: there is none below 0");
            return Err(field(line, "expected_regret", message));
        }
        for (side, candidate) in [("left", &entry.left), ("right", &entry.right)] {
            candidate.check(objectives).map_err(|error| {
                let part = match error {
                    ElicitError::Preference { .. } => "preference",
                    ElicitError::TooLong { .. } => "id",
                    _ => "scores",
                };
                field(line, &format!("{side}.{part}"), error.to_string())
            })?;
        }
        Ok((line, entry))
    })
}

/// What the belief says of the header, as an error of its line.
pub(crate) fn refused_header(error: &ElicitError) -> ProfileError {
    let place = match error {
        ElicitError::Setting { setting, .. } => format!("settings.{setting}"),
        ElicitError::ObjectiveName { position, .. } => format!("objectives[{}]", position - 1),
        ElicitError::Unit(_) => "scores.unit".to_owned(),
        ElicitError::TooLong { what, .. } if *what == KIND_OF_SCORES => "scores.of".to_owned(),
        _ => "objectives".to_owned(),
    };
    field(1, &place, error.to_string())
}

/// What the belief says of an entry, as an error of its line.
pub(crate) fn refused_entry(line: usize, entry: &Entry, error: &ElicitError) -> ProfileError {
    let place = match error {
        ElicitError::ScoresChanged(id) if *id == entry.left.id => "left.scores",
        ElicitError::ScoresChanged(_) | ElicitError::ScoresApart { .. } => "right.scores",
        ElicitError::SameCandidate(_) | ElicitError::AskedBefore { .. } => "right.id",
        ElicitError::TieNotOffered => "answer",
        _ => ".",
    };
    field(line, place, error.to_string())
}

fn field(line: usize, field: &str, message: String) -> ProfileError {
    ProfileError::Field {
        line,
        field: field.to_owned(),
        message,
    }
}

/// A line as JSON, with the path of what is wrong.
fn parse<T: DeserializeOwned>(line: usize, text: &str) -> Result<T, ProfileError> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // serde_json counts lines within the text that it got, which is this one.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = error.to_string().replace(&place, "");
        field(
            line,
            &path,
            format!("{message} (column {})", error.column()),
        )
    })?;
    json.end()
        .map_err(|_| field(line, ".", "more follows after the object".to_owned()))?;
    Ok(value)
}
