//! The folder of a run: what is where, and which checkpoint is the last whole one.
//!
//! ```text
//! runs/NAME/
//!   run.toml             the plan as it was resolved (see `RunRecord`)
//!   metrics.jsonl        one JSON object a step (see `StepMetrics`)
//!   tensorboard/         the same numbers as event files
//!   checkpoints/000100/  a state to go on from, named by the optimizer steps that are finished
//!   adapter/             the result
//!   adapter-000100/      what it had come to after its last step, before it went on with more of them
//!   members/00/          one of several trainings that make up the run: a folder like this one
//!   evaluations/001/     what was measured of it (see `EvaluationFolder`)
//!   mlflow-run           where the run lies in MLflow's store, if it has a place there
//!   .lock                held by the process that trains
//! ```

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Local};

use crate::error::RunError;
use crate::record::RunRecord;
use panacea_files as files;

/// A run's folder, to read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    pub(crate) path: PathBuf,
}

/// The file that says where the run lies in MLflow's store.
pub(crate) const MLFLOW_RUN: &str = "mlflow-run";

/// What a training makes before its first step is finished.
const BEFORE_A_STEP: [&str; 6] = [
    "tensorboard",
    "members",
    "checkpoints",
    "metrics.jsonl",
    MLFLOW_RUN,
    "run.toml",
];

/// A whole checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Optimizer steps that are finished.
    pub step: usize,
    /// Its folder.
    pub path: PathBuf,
}

impl RunFolder {
    /// The place of the run of this name in `runs`. Nothing is looked up yet.
    ///
    /// # Errors
    /// [`RunError::RunName`] for what is no name of one folder: a path, an empty text, what begins with a dot or a dash, or
    /// holds control characters.
    pub fn locate(runs: &Path, name: &str) -> Result<PathBuf, RunError> {
        let reason = if name.trim().is_empty() {
            "it is empty"
        } else if name.contains(['/', '\\']) {
            "it holds a slash, as a path does"
        } else if name.starts_with(['.', '-']) {
            "it begins with a dot or a dash"
        } else if name.chars().any(char::is_control) {
            "it holds a control character"
        } else {
            return Ok(runs.join(name));
        };
        Err(RunError::RunName {
            name: name.to_owned(),
            reason,
        })
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
            advice: "check the name; `runs list` lists those that there are",
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
        let newest = Self::all(runs)?.into_iter().next();
        newest.ok_or_else(|| RunError::NoRun {
            path: runs.to_path_buf(),
            missing: "no folder in it has a run.toml".to_owned(),
            advice: "train one first, or name one with --run",
        })
    }

    /// Every run in `runs`, the one that was written to last first.
    pub fn all(runs: &Path) -> Result<Vec<Self>, RunError> {
        let mut found = Vec::new();
        // Names come sorted: of two equally new runs the later name comes first. A hidden folder is what a removal left.
        let names = files::folder_names(runs)?.into_iter().rev();
        for name in names.filter(|name| !name.starts_with('.')) {
            let Ok(folder) = Self::open(&runs.join(name)) else {
                continue; // Some other folder: not a run.
            };
            found.push((folder.last_written()?, folder));
        }
        found.sort_by_key(|(written, _)| Reverse(*written));
        Ok(found.into_iter().map(|(_, folder)| folder).collect())
    }

    pub(crate) fn last_written(&self) -> Result<SystemTime, RunError> {
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

    /// `adapter-000100/`: what the run had come to after its last step, before it went on with more of them.
    pub fn adapter_of(&self, step: usize) -> PathBuf {
        self.path.join(format!("adapter-{step:06}"))
    }

    /// `members/00`: one of several trainings that make up the run.
    pub fn member(&self, index: usize) -> PathBuf {
        self.path.join("members").join(format!("{index:02}"))
    }

    /// The trainings that make up the run, as far as they were begun; none where it is one training.
    pub fn members(&self) -> Result<Vec<Self>, RunError> {
        let members = self.path.join("members");
        let names = files::folder_names(&members)?.into_iter();
        let folders = names.map(|name| Self {
            path: members.join(name),
        });
        Ok(folders.collect())
    }

    /// Optimizer steps, over all of its trainings, of what the run serves: those of the last checkpoints. Where these were taken away
    /// they are those of the plan, if that is known.
    pub fn served_steps(&self, record: &RunRecord) -> Result<Option<usize>, RunError> {
        let folders = match record.plan.training_count() {
            1 => vec![self.clone()],
            count => (0..count)
                .map(|index| Self::open(&self.member(index)))
                .collect::<Result<_, _>>()?,
        };
        let mut steps = Some(0);
        for folder in folders {
            let checkpoint = folder.latest_checkpoint()?;
            let of_this = checkpoint.map(|checkpoint| checkpoint.step);
            let of_this = of_this.or_else(|| record.total_steps());
            steps = steps.zip(of_this).map(|(sum, steps)| sum + steps);
        }
        Ok(steps)
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

    /// Whether no training here has finished a step, and nothing else is in the folder that somebody may want.
    pub fn never_began(&self) -> Result<bool, RunError> {
        let entries = visible_entries(&self.path).map_err(RunError::io("read", &self.path))?;
        if entries
            .iter()
            .any(|entry| !BEFORE_A_STEP.contains(&entry.as_str()))
        {
            return Ok(false);
        }
        let metrics = match fs::read(self.metrics()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(RunError::io("read", &self.metrics()))?,
        };
        // A killed process may have left the beginning of a line.
        if metrics.contains(&b'\n') || self.latest_checkpoint()?.is_some() {
            return Ok(false);
        }
        for member in self.members()? {
            if !member.never_began()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes away what a training made that never finished a step; `run.toml` goes last, so that the folder is one of such
    /// a training for as long as anything is left.
    pub(crate) fn clear_before_a_step(&self) -> Result<(), RunError> {
        for name in BEFORE_A_STEP {
            let path = self.path.join(name);
            match path.is_dir() {
                true => files::remove_folder(&path)?,
                false if path.exists() => {
                    fs::remove_file(&path).map_err(RunError::io("remove", &path))?;
                }
                false => {}
            }
        }
        Ok(())
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

/// Names in a folder, without those that begin with a dot: locks, temporary files, a desktop's notes.
pub(crate) fn visible_entries(path: &Path) -> io::Result<Vec<String>> {
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

#[cfg(test)]
mod tests {
    use std::fs::File;

    use chrono::TimeZone;

    use super::*;
    use crate::training_run::TrainingRun;
    use crate::training_run::tests::{save, started, steps};

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
        // What a removal left that was cut short.
        fs::create_dir(place.path().join(".c.removed")).unwrap();
        fs::write(place.path().join(".c.removed/run.toml"), "").unwrap();
        assert_eq!(RunFolder::newest(place.path()).unwrap().name(), "b");
        let all = RunFolder::all(place.path()).unwrap();
        let names: Vec<String> = all.iter().map(RunFolder::name).collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn names_become_places() {
        let runs = Path::new("runs");
        for name in ["first", "a b", "ä.b-c", "7"] {
            assert_eq!(RunFolder::locate(runs, name).unwrap(), runs.join(name));
        }
        for bad in [
            "",
            "  ",
            ".",
            "..",
            "/",
            "../..",
            "out/first",
            "out\\first",
            "/tmp/first",
            ".hidden",
            "--resume",
            "a\nb",
            "a\u{7f}",
        ] {
            let error = RunFolder::locate(runs, bad).unwrap_err();
            assert!(matches!(error, RunError::RunName { .. }), "{bad:?}");
            let message = error.to_string();
            assert!(
                message.contains("a name is that of one folder")
                    && !message.contains(char::is_control),
                "{message}"
            );
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
