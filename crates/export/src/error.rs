//! Why something is not written.

use std::path::{Path, PathBuf};

use panacea_evaluator::EvaluatorError;
use panacea_files::FileError;
use panacea_objectives::PreferenceError;
use panacea_pretrained::PretrainedError;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The model's files, or a file in their format that cannot be written.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// The picture of the front.
    #[error(transparent)]
    Picture(#[from] EvaluatorError),
    /// Nothing is overwritten.
    #[error("{path} exists already: remove it, or give another --out", path = path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// What the base model is said to be called is no name.
    #[error(
        "--base-name {name:?}: expected OWNER/NAME of a model on the Hugging Face hub, or a folder that is there"
    )]
    BaseName {
        /// What was given.
        name: String,
    },
    /// PEFT puts adapters beside whole modules.
    #[error(
        "{path} holds q, k and v of a layer as one matrix, beside which PEFT's adapter cannot stand: use --format merged",
        path = path.display()
    )]
    Joined {
        /// The model.
        path: PathBuf,
    },
    /// Only the adapters of a grid of preferences were trained.
    #[error(
        "a discrete policy has an adapter for each preference of its grid, which no sum of scaled LoRAs is: write one \
         preference with --format peft, merged or gguf"
    )]
    NotLinear,
    /// A soup is the sum of its members and nothing else.
    #[error(
        "rewarded soups have no part that every preference shares, so that there is nothing to fold into the weights: leave --fold out"
    )]
    NothingToFold,
    /// It is no reward model.
    #[error("the adapter has no head that reads rewards, as that of a reward model has")]
    NoHead,
    /// The weights are not those of the objectives.
    #[error("the objectives are {objectives}: {source}")]
    Preference {
        /// What they are.
        objectives: String,
        /// What is wrong.
        source: PreferenceError,
    },
}

/// Refuses to write over something.
pub(crate) fn refuse_existing(path: &Path) -> Result<(), ExportError> {
    match path.exists() {
        true => Err(ExportError::Exists {
            path: path.to_owned(),
        }),
        false => Ok(()),
    }
}
