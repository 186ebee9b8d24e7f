//! Folders that appear whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use crate::PretrainedError;

/// A folder beside its final place; removed with all it holds unless it is finished.
#[derive(Debug)]
pub(crate) struct PartialFolder {
    path: PathBuf,
    target: PathBuf,
}

impl PartialFolder {
    /// Makes an empty hidden folder beside `target`, which must not exist yet or be an empty folder.
    pub fn beside(target: &Path) -> Result<Self, PretrainedError> {
        let refuse = |problem: &str| {
            Err(PretrainedError::Export {
                path: target.to_path_buf(),
                problem: problem.to_owned(),
            })
        };
        let Some(name) = target.file_name().and_then(|name| name.to_str()) else {
            return refuse("the path does not end with a folder's name");
        };
        if target.symlink_metadata().is_ok() && !is_empty_folder(target) {
            return refuse("it exists already; remove it or choose another folder");
        }
        let parent = match target.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(PretrainedError::io(parent, "create the folder"))?;
        let path = parent.join(format!(".{name}.partial-{}", std::process::id()));
        // Of a process that was killed: in a container all have the same number.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).map_err(PretrainedError::io(&path, "create the folder"))?;
        Ok(Self {
            path,
            target: target.to_path_buf(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the folder to its place.
    pub fn finish(self) -> Result<(), PretrainedError> {
        if is_empty_folder(&self.target) {
            fs::remove_dir(&self.target).map_err(PretrainedError::io(
                &self.target,
                "replace the empty folder",
            ))?;
        }
        // Dropping finds nothing left to remove.
        fs::rename(&self.path, &self.target).map_err(PretrainedError::io(
            &self.target,
            "move the finished folder to",
        ))
    }
}

impl Drop for PartialFolder {
    fn drop(&mut self) {
        // Either it has been moved away, or an error is on its way to the user already.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn is_empty_folder(path: &Path) -> bool {
    path.is_dir() && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}
