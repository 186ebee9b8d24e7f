//! Git LFS pointers: what a clone holds in place of a large file that was not fetched.

use std::path::Path;

use panacea_files::is_lfs_pointer;

use crate::PretrainedError;

/// Refuses a file that is a pointer: any reader of its format would only call it damaged.
pub(crate) fn refuse_pointer(path: &Path, begin: &[u8]) -> Result<(), PretrainedError> {
    match is_lfs_pointer(begin) {
        true => Err(PretrainedError::LfsPointer {
            path: path.to_path_buf(),
        }),
        false => Ok(()),
    }
}
