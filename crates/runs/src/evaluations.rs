//! What was measured of a run: `evaluations/001`, `002` and so on, none of which is ever written over.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::RunError;
use crate::run_folder::RunFolder;
use panacea_files::{self as files, FileError};

/// What a policy's evaluation holds; that of a reward model holds the other.
const FRONT: &str = "front.json";
const CALIBRATION: &str = "calibration.json";

/// The folder of one evaluation of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationFolder {
    /// Its number. Versions that kept one evaluation wrote it into the run's folder itself, without a number.
    pub number: Option<usize>,
    /// Where it is.
    pub path: PathBuf,
}

impl EvaluationFolder {
    /// `front.json`, which an evaluation of a reward model does not have.
    pub fn front(&self) -> PathBuf {
        self.path.join(FRONT)
    }

    fn is_there(&self) -> bool {
        let files = [FRONT, CALIBRATION];
        files.iter().any(|file| self.path.join(file).exists())
    }
}

impl RunFolder {
    /// Everything that was measured of the run, the oldest first.
    pub fn evaluations(&self) -> Result<Vec<EvaluationFolder>, RunError> {
        let folder = self.evaluations_folder();
        let names = files::folder_names(&folder)?.into_iter();
        let mut all: Vec<EvaluationFolder> = names
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            .filter_map(|name| {
                Some(EvaluationFolder {
                    number: Some(name.parse().ok()?),
                    path: folder.join(name),
                })
            })
            .chain([EvaluationFolder {
                number: None,
                path: self.path().to_path_buf(),
            }])
            .filter(EvaluationFolder::is_there)
            .collect();
        all.sort_by_key(|evaluation| evaluation.number);
        Ok(all)
    }

    /// The `front.json` that was written last, if there is one.
    pub fn newest_front(&self) -> Result<Option<PathBuf>, RunError> {
        let fronts = self.evaluations()?.into_iter().map(|one| one.front());
        Ok(fronts.rev().find(|front| front.exists()))
    }

    /// Keeps an evaluation: `write` fills a folder, which becomes the next one of `evaluations/` when it is whole.
    pub fn save_evaluation<E: From<FileError>>(
        &self,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let folder = self.evaluations_folder();
        let unnamed = folder.join(format!(".{}", std::process::id()));
        files::write_folder(&unnamed, write)?;
        Ok(name_by_number(&unnamed, &folder)?)
    }

    fn evaluations_folder(&self) -> PathBuf {
        self.path().join("evaluations")
    }
}

/// Gives a folder the number behind the greatest in `parent`. What has a number is never replaced, also where several processes
/// are at it at the same time.
fn name_by_number(unnamed: &Path, parent: &Path) -> Result<PathBuf, FileError> {
    let names = files::folder_names(parent)?;
    let greatest = names.iter().filter_map(|name| name.parse().ok()).max();
    let mut number: usize = greatest.unwrap_or(0) + 1;
    loop {
        let target = parent.join(format!("{number:03}"));
        if !target.exists() {
            // A folder with content is not replaced by one that gets its name.
            match fs::rename(unnamed, &target) {
                Ok(()) => return Ok(target),
                Err(_) if target.exists() => {}
                Err(error) => return Err(FileError::of("write", &target)(error)),
            }
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_front_is_that_of_the_greatest_number() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("run.toml"), "").unwrap();
        let run = RunFolder::open(place.path()).unwrap();
        assert_eq!(run.newest_front().unwrap(), None);

        // Where a version wrote it that knew no numbers.
        let old = place.path().join(FRONT);
        fs::write(&old, "old").unwrap();
        assert_eq!(run.newest_front().unwrap(), Some(old));

        let save = |text: &str| {
            run.save_evaluation(|folder| files::write_file(&folder.join(FRONT), text.as_bytes()))
                .unwrap()
        };
        let first = save("first");
        assert!(first.ends_with("evaluations/001"));
        fs::create_dir(first.with_file_name("1000")).unwrap();
        fs::write(first.with_file_name("1000").join(FRONT), "thousandth").unwrap();
        let next = save("next");
        assert!(next.ends_with("evaluations/1001"));
        // Something else, and one that was begun and never whole.
        for name in ["notes", ".77", "..77.partial"] {
            fs::create_dir(first.with_file_name(name)).unwrap();
        }
        let numbers: Vec<_> = run.evaluations().unwrap();
        let numbers: Vec<_> = numbers.iter().map(|one| one.number).collect();
        assert_eq!(numbers, [None, Some(1), Some(1000), Some(1001)]);
        assert_eq!(run.newest_front().unwrap(), Some(next.join(FRONT)));
        assert_eq!(fs::read_to_string(first.join(FRONT)).unwrap(), "first");
    }
}
