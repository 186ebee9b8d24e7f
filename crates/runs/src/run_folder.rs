//! The folder of a run: what is where, who may write, and which checkpoint is the last whole one.
//!
//! ```text
//! runs/NAME/
//!   run.toml             the plan as it was resolved (see `RunRecord`)
//!   metrics.jsonl        one JSON object a step (see `StepMetrics`)
//!   tensorboard/         the same numbers as event files
//!   checkpoints/000100/  a state to go on from, named by the optimizer steps that are finished
//!   adapter/             the result
//!   .lock                held by the process that trains
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Local};

use crate::error::RunError;
use crate::record::RunRecord;
use panacea_files::{self as files, FileError};

const LOCK: &str = ".lock";

/// A run's folder, to read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

/// A whole checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Optimizer steps that are finished.
    pub step: usize,
    /// Its folder.
    pub path: PathBuf,
}

impl RunFolder {
    /// The place of a run: a plain name stands for a folder in `runs`, anything with a separator for the
    /// path that it is. Nothing is looked up yet.
    pub fn locate(runs: &Path, name: &str) -> Result<PathBuf, RunError> {
        let refuse = |reason| {
            Err(RunError::RunName {
                name: name.to_owned(),
                reason,
            })
        };
        let path = Path::new(name);
        if name.trim().is_empty() {
            return refuse("it is empty");
        }
        if path.file_name().is_none() {
            return refuse("it names no folder of its own");
        }
        if path.components().count() > 1 {
            return Ok(path.to_path_buf());
        }
        if name.starts_with('.') || name.starts_with('-') {
            return refuse("it starts with a dot or a dash");
        }
        if name.chars().any(char::is_control) {
            return refuse("it holds a control character");
        }
        Ok(runs.join(name))
    }

    /// A free place for a run that nobody named: date, time and the stem of its configuration file.
    pub fn fresh(runs: &Path, config_stem: &str, now: DateTime<Local>) -> PathBuf {
        let stem: String = config_stem
            .chars()
            .map(|c| {
                if c.is_alphanumeric() || "-_.".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        let name = format!("{}-{stem}", now.format("%Y%m%d-%H%M%S"));
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        std::iter::once(name.clone())
            .chain(numbered)
            .map(|name| runs.join(name))
            .find(|path| !path.exists())
            .unwrap_or_else(|| runs.join(name))
    }

    /// Opens an existing run.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let folder = Self {
            path: path.to_path_buf(),
        };
        if folder.run_toml().is_file() {
            return Ok(folder);
        }
        Err(RunError::NoRun {
            path: path.to_path_buf(),
            missing: if path.is_dir() {
                "there is no run.toml in it".to_owned()
            } else {
                "there is no such folder".to_owned()
            },
            advice: "check the name after --run; to start a new run, leave --resume out",
        })
    }

    /// The run of this name in `runs`, or, without one, that which was written to last.
    pub fn find(runs: &Path, name: Option<&str>) -> Result<Self, RunError> {
        match name {
            Some(name) => Self::open(&Self::locate(runs, name)?),
            None => Self::newest(runs),
        }
    }

    /// The run in `runs` that was written to last.
    pub fn newest(runs: &Path) -> Result<Self, RunError> {
        let mut newest: Option<(SystemTime, Self)> = None;
        for name in files::folder_names(runs)? {
            let Ok(folder) = Self::open(&runs.join(name)) else {
                continue; // Some other folder: not a run.
            };
            let written = folder.last_written()?;
            // Names come sorted, so that of two equally new runs the later name wins.
            if newest.as_ref().is_none_or(|(time, _)| written >= *time) {
                newest = Some((written, folder));
            }
        }
        newest
            .map(|(_, folder)| folder)
            .ok_or_else(|| RunError::NoRun {
                path: runs.to_path_buf(),
                missing: "no folder in it has a run.toml".to_owned(),
                advice: "train one first, or name one with --run",
            })
    }

    fn last_written(&self) -> Result<SystemTime, RunError> {
        let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
        let started = modified(&self.run_toml()).map_err(RunError::io("read", &self.run_toml()))?;
        // A run that was stopped before its first step has no metrics.
        Ok(modified(&self.metrics()).map_or(started, |written| written.max(started)))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name: the last part of its path.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// `run.toml`.
    pub fn run_toml(&self) -> PathBuf {
        self.path.join("run.toml")
    }

    /// What `run.toml` says.
    pub fn record(&self) -> Result<RunRecord, RunError> {
        RunRecord::read(&self.run_toml())
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `tensorboard/`.
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// `checkpoints/`.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// `adapter/`.
    pub fn adapter(&self) -> PathBuf {
        self.path.join("adapter")
    }

    /// `members/00`: one of several trainings that make up the run.
    pub fn member(&self, index: usize) -> PathBuf {
        self.path.join("members").join(format!("{index:02}"))
    }

    /// Every whole checkpoint, the oldest first. Half-written ones have other names and are left out.
    pub fn whole_checkpoints(&self) -> Result<Vec<Checkpoint>, RunError> {
        let checkpoints = self.checkpoints();
        let mut whole: Vec<Checkpoint> = files::folder_names(&checkpoints)?
            .into_iter()
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            .filter_map(|name| {
                Some(Checkpoint {
                    step: name.parse().ok()?,
                    path: checkpoints.join(name),
                })
            })
            .filter(|checkpoint| has_visible_entry(&checkpoint.path))
            .collect();
        whole.sort_by_key(|checkpoint| checkpoint.step);
        Ok(whole)
    }

    /// The last whole checkpoint, if there is one yet.
    pub fn latest_checkpoint(&self) -> Result<Option<Checkpoint>, RunError> {
        Ok(self.whole_checkpoints()?.pop())
    }

    /// What to do about a checkpoint whose files turn out to be damaged: the end of a sentence that says so.
    pub fn way_back(&self, damaged: &Checkpoint) -> Result<String, RunError> {
        let whole = self.whole_checkpoints()?;
        let mut earlier = whole.iter().rev().filter(|one| one.step < damaged.step);
        Ok(match earlier.next() {
            Some(earlier) => format!(
                "; to go on from the checkpoint of step {} before it, remove {}",
                earlier.step,
                damaged.path.display()
            ),
            None => "; there is no checkpoint before it: start the training again".to_owned(),
        })
    }
}

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
}

impl TrainingRun {
    /// Makes the folder of a new run. One that holds something already is refused.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        refuse_occupied(path)?;
        fs::create_dir_all(path).map_err(RunError::io("create the folder", path))?;
        let lock = lock(path)?;
        let run = Self {
            folder: RunFolder {
                path: path.to_path_buf(),
            },
            lock: Some(lock),
        };
        // Another process may have been first, between the look and the lock.
        refuse_occupied(path)?;
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
        let run = Self::resume(path)?;
        let notes = run.folder.record()?.check_resume(record, path)?;
        Ok((run, notes))
    }

    /// Writes `run.toml` into a new run. It is the last thing before training: a run that could not start leaves
    /// no folder behind.
    pub fn begin(&self, record: &RunRecord) -> Result<(), RunError> {
        let path = self.folder.run_toml();
        match path.exists() {
            true => Ok(()),
            false => record.write(&path),
        }
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

/// Names in a folder, without those that begin with a dot: locks, temporary files, a desktop's notes.
fn visible_entries(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn has_visible_entry(path: &Path) -> bool {
    visible_entries(path).is_ok_and(|names| !names.is_empty())
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
            let mut holder = String::new();
            // Where the text cannot be read, the message goes without it.
            let _ = file.read_to_string(&mut holder);
            return Err(RunError::RunLocked {
                path: run.to_path_buf(),
                holder: match holder.trim() {
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
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn started(path: &Path) -> TrainingRun {
        let run = TrainingRun::create(path).unwrap();
        files::write_file(&run.folder().run_toml(), b"seed = 1\n").unwrap();
        run
    }

    fn save(run: &TrainingRun, step: usize, keep: usize) {
        run.save_checkpoint(step, keep, |folder| -> Result<(), RunError> {
            Ok(files::write_file(
                &folder.join("state"),
                step.to_string().as_bytes(),
            )?)
        })
        .unwrap();
    }

    fn steps(run: &TrainingRun) -> Vec<usize> {
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
    fn the_last_checkpoints_are_kept_and_half_written_ones_ignored() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("first");
        let run = started(&path);
        assert_eq!(run.folder().latest_checkpoint().unwrap(), None);
        for step in [50, 100, 150] {
            save(&run, step, 2);
        }
        assert_eq!(steps(&run), [100, 150]);

        let checkpoints = run.folder().checkpoints();
        for name in [".000200.partial", "000300", "notes"] {
            fs::create_dir(checkpoints.join(name)).unwrap();
        }
        let latest = run.folder().latest_checkpoint().unwrap().unwrap();
        assert_eq!(
            (latest.step, latest.path),
            (150, checkpoints.join("000150"))
        );

        drop(run);
        let run = TrainingRun::resume(&path).unwrap();
        assert!(!checkpoints.join(".000200.partial").exists());
        assert_eq!(steps(&run), [100, 150]);
    }

    #[test]
    fn a_million_steps_sort_by_number() {
        let place = tempfile::tempdir().unwrap();
        let run = started(&place.path().join("long"));
        save(&run, 999_950, 9);
        save(&run, 1_000_000, 9);
        assert_eq!(
            run.folder().latest_checkpoint().unwrap().unwrap().step,
            1_000_000
        );
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
    fn the_newest_run_is_the_one_written_to_last() {
        let place = tempfile::tempdir().unwrap();
        let message = RunFolder::newest(place.path()).unwrap_err().to_string();
        assert!(message.contains("train one first"), "{message}");

        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        for (name, seconds) in [("b", 1000), ("a", 2000)] {
            let run = started(&place.path().join(name));
            let file = File::options()
                .write(true)
                .open(run.folder().run_toml())
                .unwrap();
            file.set_modified(at(seconds)).unwrap();
        }
        fs::create_dir(place.path().join("zzz-not-a-run")).unwrap();
        assert_eq!(RunFolder::newest(place.path()).unwrap().name(), "a");

        let metrics = File::create(place.path().join("b/metrics.jsonl")).unwrap();
        metrics.set_modified(at(3000)).unwrap();
        assert_eq!(RunFolder::newest(place.path()).unwrap().name(), "b");
    }

    #[test]
    fn names_become_places() {
        let runs = Path::new("runs");
        assert_eq!(
            RunFolder::locate(runs, "first").unwrap(),
            Path::new("runs/first")
        );
        assert_eq!(
            RunFolder::locate(runs, "out/first").unwrap(),
            Path::new("out/first")
        );
        for bad in ["", "  ", ".", "..", "/", "../..", ".hidden", "--resume"] {
            assert!(RunFolder::locate(runs, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_fresh_place_has_date_time_and_stem_and_is_free() {
        let place = tempfile::tempdir().unwrap();
        let now = Local.with_ymd_and_hms(2026, 3, 9, 14, 5, 7).unwrap();
        let first = RunFolder::fresh(place.path(), "my config", now);
        assert_eq!(first, place.path().join("20260309-140507-my-config"));
        fs::create_dir(&first).unwrap();
        let second = RunFolder::fresh(place.path(), "my config", now);
        assert_eq!(second, place.path().join("20260309-140507-my-config-2"));
    }
}
