//! What can be wrong with an adapter and its files.

use std::path::PathBuf;

use panacea_files::FileError;

/// An adapter that cannot be read, written or put onto a model.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// A file that cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that is there but is not what it should be.
    #[error("{path}: {problem}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// Tensors that do not fit the model or the configuration; every one of them is listed.
    #[error("the adapter does not fit the model:\n  {}", .0.join("\n  "))]
    Mismatch(Vec<String>),
}
