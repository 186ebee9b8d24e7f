//! `metrics.jsonl`: its lines are written, cut back where a run is resumed, and added up.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use panacea_files as files;
use serde::Deserialize;

use crate::error::RunError;
use crate::metrics::MetricsLine;

/// `metrics.jsonl`, open for the lines to come.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Starts the file of a new run.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        files::write_file(path, b"")?;
        Self::append(path)
    }

    /// Goes on after `step` finished steps: the lines of later steps, which are about to be computed
    /// again, are dropped, and so is a last line that a killed process left unfinished.
    pub fn resume(path: &Path, step: usize) -> Result<Self, RunError> {
        let content = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::create(path),
            read => read.map_err(RunError::io("read", path))?,
        };
        let mut kept = Vec::with_capacity(content.len());
        for (line, summary) in summaries(path, &content)? {
            if summary.step <= step {
                kept.extend_from_slice(line);
            }
        }
        if kept.len() != content.len() {
            files::write_file(path, &kept)?;
        }
        Self::append(path)
    }

    fn append(path: &Path) -> Result<Self, RunError> {
        let file = File::options()
            .append(true)
            .open(path)
            .map_err(RunError::io("write", path))?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
        })
    }

    /// Writes one line; it is in the file when this returns.
    pub fn write(&mut self, line: &MetricsLine) -> Result<(), RunError> {
        let mut text = serde_json::to_string(line)
            .map_err(|error| RunError::io("write", &self.path)(error.into()))?;
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(RunError::io("write", &self.path))
    }
}

/// What all steps of a training took together, over every resumption.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TrainingTotals {
    /// Seconds of the steps.
    pub seconds: f64,
    /// Tokens that went through the network for the gradient.
    pub tokens: usize,
}

/// The totals of a `metrics.jsonl`.
pub fn training_totals(path: &Path) -> Result<TrainingTotals, RunError> {
    let content = fs::read(path).map_err(RunError::io("read", path))?;
    let mut totals = TrainingTotals::default();
    for (_, summary) in summaries(path, &content)? {
        if summary.kind == "train" {
            totals.seconds += summary.seconds.unwrap_or(0.0);
            totals.tokens += summary.tokens.unwrap_or(0);
        }
    }
    Ok(totals)
}

/// What is read back of a line.
#[derive(Deserialize)]
struct Summary {
    kind: String,
    step: usize,
    seconds: Option<f64>,
    tokens: Option<usize>,
}

/// Every line with its line feed, and what it says.
fn summaries<'a>(path: &Path, content: &'a [u8]) -> Result<Vec<(&'a [u8], Summary)>, RunError> {
    let mut found = Vec::new();
    for (index, line) in content.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break; // The process was killed while it wrote this one.
        }
        let summary = serde_json::from_slice(line).map_err(|error| RunError::BrokenLine {
            path: path.to_path_buf(),
            line: index + 1,
            message: format!("not a line of metrics: {error}"),
            advice: "something else changed the file; remove this line, or move the file away",
        })?;
        found.push((line, summary));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::tests::{eval_metrics, step_metrics};

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("metrics.jsonl");
        (place, path)
    }

    #[test]
    fn a_line_holds_every_key_with_null_for_what_is_missing_or_not_finite() {
        let (_place, path) = place();
        let mut log = MetricsLog::create(&path).unwrap();
        log.write(&MetricsLine::Train(step_metrics(1))).unwrap();
        log.write(&MetricsLine::Eval(eval_metrics(1))).unwrap();
        let lines = lines(&path);
        assert_eq!(
            lines[0],
            json!({
                "kind": "train", "step": 1, "lambda": [0.25, 0.75],
                "objectives": {
                    "helpfulness": {
                        "loss": 0.5, "weight": 0.25, "labelled": 3, "margin": 0.125, "accuracy": 1.0,
                        "log_prob": {
                            "policy_chosen": -1.5, "policy_rejected": null,
                            "reference_chosen": null, "reference_rejected": null
                        }
                    },
                    "conciseness": {
                        "loss": null, "weight": 0.75, "labelled": 0, "margin": null, "accuracy": null,
                        "log_prob": {
                            "policy_chosen": null, "policy_rejected": null,
                            "reference_chosen": null, "reference_rejected": null
                        }
                    }
                },
                "aggregate": null, "grad_norm": 2.0, "lr": 1e-3, "lr_singular": 2e-3,
                "tokens": 600, "tokens_per_s": 300.0, "seconds": 2.0, "peak_memory_bytes": null
            })
        );
        assert_eq!(lines[1]["kind"], "eval");
        assert_eq!(lines[1]["objectives"]["helpfulness"]["value"], -0.7);
    }

    #[test]
    fn resuming_cuts_the_file_back_to_the_checkpoint_and_goes_on() {
        let (_place, path) = place();
        let mut log = MetricsLog::create(&path).unwrap();
        for step in 1..=5 {
            log.write(&MetricsLine::Train(step_metrics(step))).unwrap();
            if step == 3 || step == 5 {
                log.write(&MetricsLine::Eval(eval_metrics(step))).unwrap();
            }
        }
        log.file.write_all(br#"{"kind":"train","st"#).unwrap();
        drop(log);

        let mut log = MetricsLog::resume(&path, 3).unwrap();
        log.write(&MetricsLine::Train(step_metrics(4))).unwrap();
        let kept: Vec<(String, u64)> = lines(&path)
            .iter()
            .map(|line| {
                (
                    line["kind"].as_str().unwrap().into(),
                    line["step"].as_u64().unwrap(),
                )
            })
            .collect();
        let expected = [
            ("train", 1),
            ("train", 2),
            ("train", 3),
            ("eval", 3),
            ("train", 4),
        ];
        assert_eq!(kept, expected.map(|(kind, step)| (kind.to_owned(), step)));
        assert_eq!(training_totals(&path).unwrap().seconds, 8.0);
    }

    #[test]
    fn a_line_that_something_else_broke_is_named() {
        let (_place, path) = place();
        let mut log = MetricsLog::create(&path).unwrap();
        log.write(&MetricsLine::Train(step_metrics(1))).unwrap();
        log.file.write_all(b"oops\n").unwrap();
        let message = MetricsLog::resume(&path, 1).unwrap_err().to_string();
        assert!(
            message.contains("metrics.jsonl:2: not a line of metrics"),
            "{message}"
        );
    }

    #[test]
    fn resuming_without_a_file_starts_one() {
        let (_place, path) = place();
        MetricsLog::resume(&path, 0).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let mut log = MetricsLog::append(Path::new("/dev/full")).unwrap();
        let message = log
            .write(&MetricsLine::Train(step_metrics(1)))
            .unwrap_err()
            .to_string();
        assert!(message.contains("cannot write /dev/full"), "{message}");
        assert!(message.contains("free some space"), "{message}");
    }
}
