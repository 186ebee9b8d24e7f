//! How far a run has come, as far as its folder tells.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use crate::error::RunError;
use crate::record::RunRecord;
use crate::run_folder::RunFolder;

/// What has become of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// All its steps are done.
    Finished,
    /// It was stopped, and can go on.
    Interrupted,
    /// A process trains in it now; its number, where that is known.
    InProgress {
        /// The number of the process.
        process: Option<String>,
    },
    /// No step of it was ever finished.
    NeverBegan,
    /// Its files cannot be read.
    Broken {
        /// What is wrong with them.
        reason: String,
    },
}

/// How far a run has come.
#[derive(Debug, Clone)]
pub struct RunSummary {
    /// Its folder.
    pub folder: RunFolder,
    /// What has become of it.
    pub state: RunState,
    /// What it trains on what; nothing where `run.toml` cannot be read.
    pub record: Option<RunRecord>,
    /// Steps that are finished; where several trainings make up the run, those of all of them.
    pub steps: usize,
    /// Steps that are to be done, where that is known: runs that older versions began for a number of epochs do not say.
    pub total_steps: Option<usize>,
    /// The last line of `metrics.jsonl` that a step wrote.
    pub last_step: Option<Value>,
    /// The lines of the last measurement while it trained: one for each preference.
    pub last_measurement: Vec<Value>,
    /// When it was last written to.
    pub written: Option<SystemTime>,
    /// Bytes of all its files.
    pub bytes: u64,
}

impl RunSummary {
    /// Looks into a run's folder.
    ///
    /// # Errors
    /// When a folder cannot be listed. What is wrong with the run itself is its [`RunState::Broken`].
    pub fn of(folder: &RunFolder) -> Result<Self, RunError> {
        let bytes = size(folder.path()).map_err(RunError::io("read", folder.path()))?;
        let mut summary = Self {
            folder: folder.clone(),
            state: RunState::NeverBegan,
            record: None,
            steps: 0,
            total_steps: None,
            last_step: None,
            last_measurement: Vec::new(),
            written: folder.last_written().ok(),
            bytes,
        };
        if let Err(error) = summary.read() {
            summary.state = RunState::Broken {
                reason: error.to_string(),
            };
        }
        Ok(summary)
    }

    fn read(&mut self) -> Result<(), RunError> {
        let record = self.folder.record()?;
        let trainings = record.plan.training_count();
        self.total_steps = record.total_steps().map(|steps| steps * trainings);
        self.record = Some(record);
        let members = self.folder.members()?;
        let folders = match members.is_empty() {
            true => std::slice::from_ref(&self.folder),
            false => members.as_slice(),
        };
        let mut adapters = 0;
        for folder in folders {
            let lines = LastLines::of(&folder.metrics())?;
            let checkpoint = folder.latest_checkpoint()?.map_or(0, |one| one.step);
            let step = lines.step.as_ref().and_then(|line| line["step"].as_u64());
            self.steps += checkpoint.max(step.unwrap_or(0) as usize);
            adapters += usize::from(folder.adapter().exists());
            if lines.step.is_some() {
                (self.last_step, self.last_measurement) = (lines.step, lines.measurement);
            }
        }
        self.state = if let Some(process) = self.folder.writer()? {
            let process = Some(process).filter(|process| !process.is_empty());
            RunState::InProgress { process }
        } else if adapters == trainings {
            RunState::Finished
        } else if self.folder.never_began()? {
            RunState::NeverBegan
        } else {
            RunState::Interrupted
        };
        Ok(())
    }

    /// The number that says most about the last step, and its name: the mean reward of the answers where it learns from
    /// rewards, else the loss.
    pub fn main_metric(&self) -> Option<(&'static str, f64)> {
        let line = self.last_step.as_ref()?;
        let objectives = line["objectives"].as_object()?.values();
        let rewards: Vec<f64> = objectives
            .filter_map(|objective| objective["reward"].as_f64())
            .collect();
        match rewards.is_empty() {
            true => Some(("loss", line["aggregate"].as_f64()?)),
            false => Some(("reward", rewards.iter().sum::<f64>() / rewards.len() as f64)),
        }
    }
}

/// How a line of `metrics.jsonl` begins that a step wrote.
const OF_A_STEP: &[u8] = b"{\"kind\":\"train\"";

/// What `metrics.jsonl` ends with.
#[derive(Default)]
struct LastLines {
    step: Option<Value>,
    measurement: Vec<Value>,
}

impl LastLines {
    fn of(path: &Path) -> Result<Self, RunError> {
        let content = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            read => read.map_err(RunError::io("read", path))?,
        };
        let mut found = Self::default();
        let whole = content.iter().rposition(|&byte| byte == b'\n');
        let lines = content[..whole.unwrap_or(0)].split(|&byte| byte == b'\n');
        for (above, line) in lines.rev().enumerate() {
            if line.is_empty() {
                continue;
            }
            let is_of_an_earlier_step = found.step.is_some() && line.starts_with(OF_A_STEP);
            match is_of_an_earlier_step {
                // Where a measurement was met, those before it are no longer the last.
                true if !found.measurement.is_empty() => break,
                true => continue,
                false => {}
            }
            let line: Value =
                serde_json::from_slice(line).map_err(|error| RunError::BrokenLine {
                    path: path.to_path_buf(),
                    line: content.iter().filter(|&&byte| byte == b'\n').count() - above,
                    message: format!("not a line of metrics: {error}"),
                    advice: "something else changed the file; remove this line, or move the file away",
                })?;
            let is_of_the_measurement = (found.measurement.first())
                .is_none_or(|first: &Value| first["step"] == line["step"]);
            match line["kind"] == "eval" {
                true if is_of_the_measurement => found.measurement.insert(0, line),
                true => break,
                false => found.step = Some(line),
            }
        }
        Ok(found)
    }
}

/// Bytes of the files in a folder; what links lead to is not in it.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        bytes += match kind.is_dir() {
            true => size(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_those_of_the_last_step_and_the_last_measurement() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("metrics.jsonl");
        assert!(LastLines::of(&path).unwrap().step.is_none());
        let line = |kind: &str, step: usize, n: usize| {
            format!("{{\"kind\":\"{kind}\",\"step\":{step},\"n\":{n}}}\n")
        };
        let lines = [
            line("train", 1, 0),
            line("eval", 1, 1),
            line("train", 2, 2),
            line("eval", 2, 3),
            line("eval", 2, 4),
            line("train", 3, 5),
            line("train", 4, 6),
        ];
        fs::write(&path, lines.concat() + "{\"kind\":\"tra").unwrap();
        let last = LastLines::of(&path).unwrap();
        assert_eq!(last.step.unwrap()["n"], 6);
        let measured: Vec<_> = last.measurement.iter().map(|line| &line["n"]).collect();
        assert_eq!(measured, [3, 4]);

        fs::write(&path, lines[0].clone() + "nonsense\n" + &lines[1]).unwrap();
        let error = LastLines::of(&path).err().unwrap().to_string();
        assert!(error.contains("metrics.jsonl:2: not a line"), "{error}");
    }

    #[test]
    fn a_size_is_that_of_all_files() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("a/b")).unwrap();
        fs::write(place.path().join("a/b/c"), [0; 300]).unwrap();
        fs::write(place.path().join(".d"), [0; 5]).unwrap();
        assert_eq!(size(place.path()).unwrap(), 305);
    }
}
