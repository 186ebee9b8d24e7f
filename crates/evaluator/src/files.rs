//! Files that are kept are written beside their place and renamed.

use std::io::Write;
use std::path::{Path, PathBuf};

use atomic_write_file::AtomicWriteFile;

use crate::EvaluatorError;

/// Writes `contents` to `path` whole or not at all.
pub(crate) fn write(path: PathBuf, contents: &[u8]) -> Result<PathBuf, EvaluatorError> {
    let attempt = || {
        let mut file = AtomicWriteFile::open(&path)?;
        file.write_all(contents)?;
        file.commit()
    };
    match attempt() {
        Ok(()) => Ok(path),
        Err(source) => Err(EvaluatorError::Write { path, source }),
    }
}

/// The text of the file `path`.
pub(crate) fn read(path: &Path) -> Result<String, EvaluatorError> {
    std::fs::read_to_string(path).map_err(|source| EvaluatorError::Read {
        path: path.to_owned(),
        source,
    })
}
