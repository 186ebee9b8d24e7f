//! Git LFS pointers: what a clone holds in place of a large file that was not fetched.

use std::path::Path;

use crate::PretrainedError;

/// Whether a file that begins like this is a Git LFS pointer, a few lines of text that stand for a large file
/// (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>).
pub fn is_lfs_pointer(begin: &[u8]) -> bool {
    begin.starts_with(b"version https://git-lfs.github.com/spec/")
}

/// Refuses a file that is a pointer: any reader of its format would only call it damaged.
pub(crate) fn refuse_pointer(path: &Path, begin: &[u8]) -> Result<(), PretrainedError> {
    match is_lfs_pointer(begin) {
        true => Err(PretrainedError::LfsPointer {
            path: path.to_path_buf(),
        }),
        false => Ok(()),
    }
}
