//! What can go wrong with the folder of a run, in words a person can act on.

use std::io;
use std::path::{Path, PathBuf};

use panacea_config::ConfigErrors;
use panacea_files::FileError;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration has mistakes; all of them are listed.
    #[error(transparent)]
    Config(#[from] ConfigErrors),

    /// The operating system refused to read or write something.
    #[error(transparent)]
    Io(#[from] FileError),

    /// A new training was asked for in a folder that holds one already.
    #[error(
        "{path} already holds a run ({progress}); go on with it with --resume, give the new run another name with --run, or delete the folder",
        path = path.display()
    )]
    RunExists {
        /// The run's folder.
        path: PathBuf,
        /// How far that run has come.
        progress: String,
    },

    /// The folder of a new run holds files that no training wrote.
    #[error(
        "{path} is not empty ({found}) and holds no run; give the run another name with --run, or empty the folder",
        path = path.display()
    )]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// One of the things in it.
        found: String,
    },

    /// There is no run to go on with, or to read.
    #[error("{path} holds no run ({missing}); {advice}", path = path.display())]
    NoRun {
        /// The folder that was looked at.
        path: PathBuf,
        /// What a run would have there.
        missing: String,
        /// What to do.
        advice: &'static str,
    },

    /// A finished run is to go on with more steps, and has nothing to go on from.
    #[error(
        "{path} is finished and has no checkpoint left, which going on with more steps takes; start a new run with another --run",
        path = path.display()
    )]
    NothingToExtend {
        /// The run's folder.
        path: PathBuf,
    },

    /// Another process trains in the same folder.
    #[error(
        "another training{holder} is at work in {path}; wait for it, stop it, or give this run another name with --run",
        path = path.display()
    )]
    RunLocked {
        /// The run's folder.
        path: PathBuf,
        /// Who holds it: " (process 123)", or nothing where that is not known.
        holder: String,
    },

    /// A name that cannot be a folder's.
    #[error(
        "{name:?} cannot name a run: {reason}; a name is that of one folder in --runs: it has no slash, backslash or control \
         character, and begins with neither a dot nor a dash"
    )]
    RunName {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A resumed run was given a plan that computes something else.
    #[error(
        "{path} was started with another configuration:\n  {list}\ngo on with the same values, or start a new run with another --run",
        path = path.display(), list = differences.join("\n  ")
    )]
    ResumeConflict {
        /// The run's folder.
        path: PathBuf,
        /// Every key that differs, with both values.
        differences: Vec<String>,
    },

    /// A line of a file that this crate wrote cannot be read back.
    #[error("{path}:{line}: {message}; {advice}", path = path.display())]
    BrokenLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
        /// What to do.
        advice: &'static str,
    },

    /// `run.toml` cannot be read back.
    #[error("{path}: {message}", path = path.display())]
    BrokenRun {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },

    /// The handler of Ctrl-C could not be set.
    #[error("cannot listen for Ctrl-C: {0}")]
    Signal(#[from] ctrlc::Error),
}

impl RunError {
    /// Wraps an I/O error with what was tried, and on which path: `.map_err(RunError::io("write", path))`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let error = FileError::of(action, path);
        move |source| error(source).into()
    }
}
