//! Who may write into the folder of a run: the one process that trains in it, or that takes it away.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::error::RunError;
use crate::record::{Differences, Extension, RunRecord};
use crate::run_folder::{RunFolder, visible_entries};
use panacea_files::{self as files, FileError};

const LOCK: &str = ".lock";

/// A run's folder while this process trains in it: no other process can do so until this is dropped.
///
/// Dropping it before `run.toml` is written removes the folder again, so that a training that never
/// started leaves nothing behind.
#[derive(Debug)]
pub struct TrainingRun {
    folder: RunFolder,
    /// Closed before the folder is looked at on drop; the operating system gives the lock back with it,
    /// also when the process is killed.
    lock: Option<File>,
    /// The steps that are to be added to the run when it goes on.
    extension: Option<Extension>,
}

impl TrainingRun {
    /// Makes the folder of a new run. One that holds something already is refused, but for what a training left that
    /// failed or was killed before its first step was finished: its name is free, and what it left is taken away.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        refuse_occupied(path)?;
        fs::create_dir_all(path).map_err(RunError::io("create the folder", path))?;
        let lock = lock(path)?;
        let run = Self {
            folder: RunFolder {
                path: path.to_path_buf(),
            },
            lock: Some(lock),
            extension: None,
        };
        // Another process may have been first, between the look and the lock.
        refuse_occupied(path)?;
        run.folder.clear_before_a_step()?;
        Ok(run)
    }

    /// Goes on with an existing run, and clears away what a killed process left half-written.
    pub fn resume(path: &Path) -> Result<Self, RunError> {
        let folder = RunFolder::open(path)?;
        let lock = lock(path)?;
        files::recover(path)?;
        files::recover(&folder.checkpoints())?;
        Ok(Self {
            folder,
            lock: Some(lock),
            extension: None,
        })
    }

    /// The folder of a new run, or, to `resume` it, that of an old one, where `record` computes the same; with what may
    /// differ and is worth a word.
    pub fn create_or_resume(
        path: &Path,
        record: &RunRecord,
        resume: bool,
    ) -> Result<(Self, Vec<String>), RunError> {
        if !resume {
            return Ok((Self::create(path)?, Vec::new()));
        }
        let mut run = Self::resume(path)?;
        let Differences { notes, longer, .. } = run.folder.record()?.check_resume(record, path)?;
        if let Some((from, to)) = longer {
            let checkpoint = run.folder.latest_checkpoint()?;
            if checkpoint.is_none() && run.folder.adapter().exists() {
                return Err(RunError::NothingToExtend {
                    path: path.to_path_buf(),
                });
            }
            let is_one_training = record.plan.training_count() == 1;
            let at = is_one_training.then(|| checkpoint.map_or(0, |checkpoint| checkpoint.step));
            run.extension = Some(Extension { at, from, to });
        }
        Ok((run, notes))
    }

    /// The steps that are to be added to a run that goes on with more of them than it had.
    pub fn extension(&self) -> Option<Extension> {
        self.extension
    }

    /// Writes `run.toml` into a new run, and the steps that are added into that of one which goes on with more. It is the
    /// last thing before training: a run that could not start leaves no folder behind, and one that could not go on is as
    /// it was.
    pub fn begin(&self, record: &RunRecord) -> Result<(), RunError> {
        let path = self.folder.run_toml();
        if !path.exists() {
            return record.write(&path);
        }
        let Some(extension) = self.extension else {
            return Ok(());
        };
        // With an adapter it would be finished.
        let adapter = self.folder.adapter();
        if adapter.exists() {
            let kept = self.folder.adapter_of(extension.from);
            files::remove_folder(&kept)?;
            fs::rename(&adapter, &kept).map_err(RunError::io("rename", &adapter))?;
        }
        RunRecord::extend(&path, extension)
    }

    /// The folder, to read from.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Saves the state after `step` finished steps: `write` fills a folder, which becomes a checkpoint
    /// when it is whole. Then the oldest ones beyond the last `keep` are removed.
    pub fn save_checkpoint<E: From<RunError> + From<FileError>>(
        &self,
        step: usize,
        keep: usize,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let target = self.folder.checkpoints().join(format!("{step:06}"));
        files::write_folder(&target, write)?;
        let whole = self.folder.whole_checkpoints()?;
        for checkpoint in whole.iter().rev().skip(keep.max(1)) {
            files::remove_folder(&checkpoint.path)?;
        }
        Ok(target)
    }

    /// Saves the result: `write` fills a folder, which becomes `adapter/` when it is whole.
    pub fn save_adapter<E: From<RunError> + From<FileError>>(
        &self,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let target = self.folder.adapter();
        files::write_folder(&target, write)?;
        Ok(target)
    }
}

impl Drop for TrainingRun {
    fn drop(&mut self) {
        self.lock = None;
        if !self.folder.run_toml().exists() {
            // Best effort: `remove_dir` takes empty folders only, so nothing of worth can go.
            let _ = fs::remove_file(self.folder.path.join(LOCK));
            let _ = fs::remove_dir(&self.folder.path);
        }
    }
}

fn refuse_occupied(path: &Path) -> Result<(), RunError> {
    let folder = RunFolder {
        path: path.to_path_buf(),
    };
    if folder.run_toml().exists() {
        if folder.never_began()? {
            return Ok(());
        }
        let progress = match folder.latest_checkpoint()? {
            Some(checkpoint) => format!("its last checkpoint is of step {}", checkpoint.step),
            None => "without a checkpoint yet".to_owned(),
        };
        return Err(RunError::RunExists {
            path: path.to_path_buf(),
            progress,
        });
    }
    match visible_entries(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RunError::io("read the folder", path)(error)),
        Ok(entries) => match entries.into_iter().next() {
            None => Ok(()),
            Some(found) => Err(RunError::NotARun {
                path: path.to_path_buf(),
                found,
            }),
        },
    }
}

impl RunFolder {
    /// The number of the process that trains in the folder now, empty where it is not known; nothing where nobody does.
    pub fn writer(&self) -> Result<Option<String>, RunError> {
        let path = self.path.join(LOCK);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(RunError::io("read", &path))?,
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Ok(Some(holder(&mut file))),
            Err(TryLockError::Error(error)) if error.kind() != io::ErrorKind::Unsupported => {
                Err(RunError::io("lock", &path)(error))
            }
            Ok(()) | Err(TryLockError::Error(_)) => Ok(None),
        }
    }

    /// Takes the run away with all that is in its folder, unless somebody trains in it.
    pub fn remove(self) -> Result<(), RunError> {
        let _held = lock(&self.path)?;
        // A removal that is cut short leaves no half of a run under its name.
        let leaving = self
            .path
            .with_file_name(format!(".{}.removed", self.name()));
        files::remove_folder(&leaving)?;
        fs::rename(&self.path, &leaving).map_err(RunError::io("remove", &self.path))?;
        Ok(files::remove_folder(&leaving)?)
    }
}

/// Who holds a lock. Where the text cannot be read, messages go without it.
fn holder(file: &mut File) -> String {
    let mut holder = String::new();
    let _ = file.read_to_string(&mut holder);
    holder.trim().to_owned()
}

/// Takes the lock of a run, and writes this process's number into it for others to show.
fn lock(run: &Path) -> Result<File, RunError> {
    let path = run.join(LOCK);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(RunError::io("write", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(RunError::RunLocked {
                path: run.to_path_buf(),
                holder: match holder(&mut file).as_str() {
                    "" => String::new(),
                    process => format!(" (process {process})"),
                },
            });
        }
        // Some network file systems have no locks. Training there is worth more than the guard.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(RunError::io("lock", &path)(error)),
    }
    let write_holder = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write_holder(&mut file).map_err(RunError::io("write", &path))?;
    Ok(file)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn started(path: &Path) -> TrainingRun {
        let run = TrainingRun::create(path).unwrap();
        files::write_file(&run.folder().run_toml(), b"seed = 1\n").unwrap();
        run
    }

    pub(crate) fn save(run: &TrainingRun, step: usize, keep: usize) {
        run.save_checkpoint(step, keep, |folder| -> Result<(), RunError> {
            Ok(files::write_file(
                &folder.join("state"),
                step.to_string().as_bytes(),
            )?)
        })
        .unwrap();
    }

    pub(crate) fn steps(run: &TrainingRun) -> Vec<usize> {
        let whole = run.folder().whole_checkpoints().unwrap();
        whole.iter().map(|checkpoint| checkpoint.step).collect()
    }

    #[test]
    fn a_run_that_exists_is_refused_with_the_way_on() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("first");
        let run = started(&path);
        save(&run, 50, 2);
        drop(run);
        let message = TrainingRun::create(&path).unwrap_err().to_string();
        assert!(
            message.contains("last checkpoint is of step 50"),
            "{message}"
        );
        assert!(
            message.contains("--resume") && message.contains("--run"),
            "{message}"
        );
    }

    #[test]
    fn a_folder_with_other_things_is_refused_and_untouched() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("thesis.tex"), "").unwrap();
        let message = TrainingRun::create(place.path()).unwrap_err().to_string();
        assert!(message.contains("thesis.tex"), "{message}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_training_that_never_started_leaves_no_folder() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("runs/first");
        drop(TrainingRun::create(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn two_trainings_in_one_folder_are_impossible() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("first");
        let run = started(&path);
        let message = TrainingRun::resume(&path).unwrap_err().to_string();
        let process = format!("(process {})", std::process::id());
        assert!(message.contains(&process), "{message}");
        drop(run);
        TrainingRun::resume(&path).unwrap();
    }

    #[test]
    fn resuming_nothing_says_what_is_missing() {
        let place = tempfile::tempdir().unwrap();
        let absent = TrainingRun::resume(&place.path().join("absent")).unwrap_err();
        assert!(absent.to_string().contains("no such folder"), "{absent}");
        let empty = TrainingRun::resume(place.path()).unwrap_err();
        assert!(empty.to_string().contains("no run.toml"), "{empty}");
    }

    #[test]
    fn a_checkpoint_that_fails_leaves_the_ones_before() {
        let place = tempfile::tempdir().unwrap();
        let run = started(&place.path().join("first"));
        save(&run, 50, 1);
        let failed = run.save_checkpoint(100, 1, |folder| {
            fs::write(folder.join("half"), "half").unwrap();
            let full = io::Error::from(io::ErrorKind::StorageFull);
            Err(RunError::io("write", folder)(full))
        });
        assert!(failed.unwrap_err().to_string().contains("free some space"));
        assert_eq!(steps(&run), [50]);
        let left = fs::read_dir(run.folder().checkpoints()).unwrap().count();
        assert_eq!(left, 1);
    }

    #[test]
    fn saving_a_step_again_replaces_it() {
        let place = tempfile::tempdir().unwrap();
        let run = started(&place.path().join("first"));
        save(&run, 50, 2);
        save(&run, 50, 2);
        assert_eq!(steps(&run), [50]);
    }

    #[test]
    fn a_training_without_a_step_leaves_its_name_free() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("first");
        // As a process leaves it that was killed in its first step, and one that takes several trainings.
        for folder in [path.clone(), path.join("members/00")] {
            drop(started(&folder));
            fs::write(folder.join("metrics.jsonl"), "{\"kind\": \"tra").unwrap();
            fs::create_dir(folder.join("tensorboard")).unwrap();
            fs::write(folder.join("tensorboard/events"), "header").unwrap();
            fs::create_dir_all(folder.join("checkpoints/.000010.partial")).unwrap();
        }
        let run = TrainingRun::create(&path).unwrap();
        assert_eq!(visible_entries(&path).unwrap(), [""; 0]);
        drop(run);
        assert!(!path.exists());
    }

    #[test]
    fn whatever_somebody_may_want_keeps_the_name() {
        let place = tempfile::tempdir().unwrap();
        for (name, file) in [
            ("a", "metrics.jsonl"),
            ("b", "checkpoints/000010/state"),
            ("c", "notes.txt"),
            ("d", "adapter/adapter.safetensors"),
            ("e", "members/01/metrics.jsonl"),
            ("f", "profiles/me/profile.jsonl"),
        ] {
            let path = place.path().join(name);
            drop(started(&path));
            fs::create_dir_all(path.join(file).parent().unwrap()).unwrap();
            fs::write(path.join(file), "a line\n").unwrap();
            let error = TrainingRun::create(&path).unwrap_err();
            assert!(matches!(error, RunError::RunExists { .. }), "{error}");
            assert!(path.join(file).exists() && path.join("run.toml").exists());
        }
    }

    #[test]
    fn a_run_is_removed_unless_somebody_trains_in_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("first");
        let run = started(&path);
        save(&run, 10, 1);
        let folder = run.folder().clone();
        let process = std::process::id().to_string();
        assert_eq!(folder.writer().unwrap(), Some(process));
        let error = folder.clone().remove().unwrap_err();
        assert!(matches!(error, RunError::RunLocked { .. }), "{error}");
        assert_eq!(steps(&run), [10]);
        drop(run);
        assert_eq!(folder.writer().unwrap(), None);
        folder.remove().unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_training_in_its_first_step_is_not_taken_over() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("first");
        let run = started(&path);
        let error = TrainingRun::create(&path).unwrap_err();
        assert!(matches!(error, RunError::RunLocked { .. }), "{error}");
        assert!(run.folder().run_toml().exists());
    }
}
