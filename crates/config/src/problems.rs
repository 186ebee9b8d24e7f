//! Mistakes of a configuration: where each one is, and what to do about it. They are gathered, so
//! that a person sees all of them at once.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Where a value of the configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of a configuration file, counted from 1.
    File {
        /// The file, as it was named.
        file: String,
        /// The line of the key.
        line: usize,
    },
    /// A flag of the command line, as it was written.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the value came from; nothing for a value that is missing.
    pub origin: Option<Origin>,
    /// The key with its section, such as `optimizer.steps`; empty where the whole file is meant.
    pub key: String,
    /// What was found, what was expected, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// A configuration file that cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}", path = path.display())]
pub struct UnreadableFile {
    /// The file.
    pub path: PathBuf,
    /// The reason that the operating system gives.
    pub source: io::Error,
}

/// Every mistake of a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", describe(.0))]
pub struct ConfigErrors(Vec<Problem>);

impl ConfigErrors {
    /// The error of these problems, or nothing where there are none.
    pub fn from_problems(problems: Vec<Problem>) -> Option<Self> {
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// The mistakes, in the order in which they were found.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

fn describe(problems: &[Problem]) -> String {
    match problems {
        [only] => format!("the configuration has a mistake: {only}"),
        many => {
            let list: Vec<String> = many.iter().map(|problem| format!("  {problem}")).collect();
            format!(
                "the configuration has {} mistakes:\n{}",
                many.len(),
                list.join("\n")
            )
        }
    }
}

/// Of the known names, the one that `name` is likely meant to be, for advice such as `did you mean "steps"?`.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Jaro-Winkler from 0.7 on catches swapped letters, plurals and missing underscores, and leaves
    // names apart that merely share a letter or two.
    const NEAR: f64 = 0.7;
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
