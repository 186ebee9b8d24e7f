//! Why a folder was not pushed.

use std::path::PathBuf;

use panacea_files::FileError;

/// Every failure of this crate. No token is in any of them, and no address with a signature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nobody is asking.
    #[error(
        "there is no token for {endpoint}: make one that may write (on the hub: Settings, Access Tokens), and set HF_TOKEN or run \
         `hf auth login`"
    )]
    NoToken {
        /// The hub.
        endpoint: String,
    },
    /// A folder, or something in it, is nothing to push.
    #[error("{path}: {problem}", path = path.display())]
    Folder {
        /// What it is.
        path: PathBuf,
        /// Why not, and what to do.
        problem: String,
    },
    /// No answer came.
    #[error(
        "{url}: cannot be reached: {reason}; run the command again: what has arrived is not sent again"
    )]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The answer is an error.
    #[error("{url}: the answer is {status}{message}: {hint}")]
    Refused {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the hub says of it, in brackets.
        message: String,
        /// What that means here, and what to do.
        hint: &'static str,
    },
    /// The answer makes no sense.
    #[error("{url}: unexpected answer: {problem}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The hub does not take the model card.
    #[error("README.md: the hub refuses its front matter: {problems}")]
    Card {
        /// Why.
        problems: String,
    },
    /// A repository that was to be private is not.
    #[error(
        "{repository} is there already and everybody can read it: make it private on its page, or leave --private out"
    )]
    Public {
        /// The repository.
        repository: String,
    },
}
