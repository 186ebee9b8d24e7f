//! Log-probabilities under the reference policy: computed once for every record, kept for later runs.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use burn_tensor::{DType, FloatDType};
use panacea_data::Example;
use panacea_model::Decoder;
use panacea_runs::RunError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::TrainerError;
use crate::step::response_log_probs;

/// The folder, among those of the runs, in which they are kept.
const FOLDER: &str = "reference-log-probs";

/// The device and the type of the weights as one name: log-probabilities under different names are stored separately.
pub fn computed_by(device: &str, weights: FloatDType) -> String {
    // Of several devices the first computes them.
    let device = device.split(',').next().unwrap_or(device);
    match weights {
        FloatDType::F32 => device.to_owned(),
        other => format!("{device}-{}", DType::from(other).name()),
    }
}

/// log π_ref of every response of the records that were asked for so far.
///
/// They depend on the model, the device, the type of the weights and the tokens of the record, and are stored under
/// these: a record with the same tokens is not computed again, whatever data set, template or run it comes from. A
/// file holds the records of one model on one device with one type of weights, one JSON object a line.
#[derive(Debug)]
pub struct References(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    log_probs: HashMap<String, Vec<f64>>,
    /// Where new ones are appended.
    file: Option<(PathBuf, File)>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    /// SHA-256 of the tokens of prompt and responses.
    record: String,
    log_probs: Vec<f64>,
}

impl References {
    /// Kept for as long as this value lives.
    pub fn in_memory() -> Self {
        Self(Mutex::default())
    }

    /// Those that are kept in `runs` of the model with this fingerprint on this device; new ones are added to
    /// them.
    pub fn open(runs: &Path, fingerprint: &str, device: &str) -> Result<Self, TrainerError> {
        let folder = runs.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(TrainerError::io("create the folder", &folder))?;
        let path = path(runs, fingerprint, device);
        let mut known = Known::read(&path)?;
        let file = append_behind_last_line(&path).map_err(TrainerError::io("write", &path))?;
        known.file = Some((path, file));
        Ok(Self(Mutex::new(known)))
    }

    /// As [`References::open`], but nothing is written.
    pub fn read(runs: &Path, fingerprint: &str, device: &str) -> Result<Self, TrainerError> {
        let known = Known::read(&path(runs, fingerprint, device))?;
        Ok(Self(Mutex::new(known)))
    }

    /// log π_ref of every response of `example`, summed over its tokens.
    pub fn of(&self, model: &Decoder, example: &Example) -> Result<Vec<f64>, TrainerError> {
        self.get_or_compute(key(example), || {
            let log_probs = response_log_probs(model, None, example)?;
            // Kept, they would stand in the way of every later run.
            match log_probs.iter().find(|value| !value.is_finite()) {
                None => Ok(log_probs),
                Some(&value) => Err(TrainerError::NoReference {
                    record: example.source.to_string(),
                    value,
                }),
            }
        })
    }

    /// Whether [`References::of`] computes nothing for `example`.
    pub fn knows(&self, example: &Example) -> bool {
        self.known().log_probs.contains_key(&key(example))
    }

    fn get_or_compute(
        &self,
        key: String,
        compute: impl FnOnce() -> Result<Vec<f64>, TrainerError>,
    ) -> Result<Vec<f64>, TrainerError> {
        if let Some(log_probs) = self.known().log_probs.get(&key) {
            return Ok(log_probs.clone());
        }
        let log_probs = compute()?;
        self.known().keep(key, log_probs.clone())?;
        Ok(log_probs)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

impl Known {
    fn read(path: &Path) -> Result<Self, TrainerError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(TrainerError::io("read", path)(error)),
        };
        let mut log_probs = HashMap::new();
        let whole: Vec<&str> = text.lines().collect();
        for (index, line) in whole.iter().enumerate() {
            match serde_json::from_str::<Line>(line) {
                Ok(line) => {
                    log_probs.insert(line.record, line.log_probs);
                }
                // The last line of a process that was killed while it wrote.
                Err(_) if index + 1 == whole.len() && !text.ends_with('\n') => {}
                Err(error) => {
                    return Err(RunError::BrokenLine {
                        path: path.to_path_buf(),
                        line: index + 1,
                        message: error.to_string(),
                        advice: "delete the file: what it holds is computed again",
                    }
                    .into());
                }
            }
        }
        Ok(Self {
            log_probs,
            file: None,
        })
    }

    fn keep(&mut self, key: String, log_probs: Vec<f64>) -> Result<(), TrainerError> {
        if let Some((path, file)) = &mut self.file {
            let line = Line {
                record: key.clone(),
                log_probs: log_probs.clone(),
            };
            let mut line = serde_json::to_string(&line).expect("text and numbers are JSON");
            line.push('\n');
            file.write_all(line.as_bytes())
                .map_err(TrainerError::io("write", path))?;
        }
        self.log_probs.insert(key, log_probs);
        Ok(())
    }
}

/// Opens a file of lines to append to it; what a killed process left of its last line is cut off.
fn append_behind_last_line(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let written = std::fs::read(path)?;
    let whole = written
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    if whole < written.len() {
        file.set_len(whole as u64)?;
    }
    Ok(file)
}

/// `runs/reference-log-probs/0123456789abcdef-flex.jsonl`
fn path(runs: &Path, fingerprint: &str, device: &str) -> PathBuf {
    let model = fingerprint.get(..16).unwrap_or(fingerprint);
    let device = device.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    runs.join(FOLDER).join(format!("{model}-{device}.jsonl"))
}

fn key(example: &Example) -> String {
    let mut hasher = Sha256::new();
    for tokens in std::iter::once(&example.prompt).chain(&example.responses) {
        hasher.update(tokens.len().to_le_bytes());
        for token in tokens {
            hasher.update(token.to_le_bytes());
        }
    }
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(references: &References, key: &str, computed: Option<f64>) -> f64 {
        let compute = || Ok(vec![computed.expect("it is known")]);
        references.get_or_compute(key.to_owned(), compute).unwrap()[0]
    }

    #[test]
    fn what_one_run_computed_the_next_one_knows_bit_for_bit() {
        let runs = tempfile::tempdir().unwrap();
        let open = || References::open(runs.path(), "0123456789abcdef0123", "flex").unwrap();
        let value = -123.456_789_012_345_67 / 3.0;
        let first = open();
        assert_eq!(get(&first, "a", Some(value)), value);
        assert_eq!(get(&first, "a", None), value);
        drop(first);
        assert_eq!(get(&open(), "a", None), value);
        let read = References::read(runs.path(), "0123456789abcdef0123", "flex").unwrap();
        assert_eq!(get(&read, "a", None), value);
        // Reading keeps what it computes to itself, and another device knows nothing.
        assert_eq!(get(&read, "b", Some(1.0)), 1.0);
        assert_eq!(get(&open(), "b", Some(2.0)), 2.0);
        let other = References::open(runs.path(), "0123456789abcdef0123", "cuda:1").unwrap();
        assert_eq!(get(&other, "a", Some(3.0)), 3.0);
    }

    #[test]
    fn half_a_line_is_computed_again_and_a_broken_one_is_named() {
        let runs = tempfile::tempdir().unwrap();
        let open = || References::open(runs.path(), "0123456789abcdef", "flex");
        get(&open().unwrap(), "a", Some(1.0));
        let file = path(runs.path(), "0123456789abcdef", "flex");
        let whole = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{whole}{}", &whole[..whole.len() / 2])).unwrap();
        get(&open().unwrap(), "b", Some(2.0));
        let references = open().unwrap();
        assert_eq!(get(&references, "a", None), 1.0);
        assert_eq!(get(&references, "b", None), 2.0);

        std::fs::write(&file, format!("{whole}nonsense\n{whole}")).unwrap();
        let message = open().unwrap_err().to_string();
        assert!(message.contains(".jsonl:2: "), "{message}");
        assert!(message.contains("delete the file"), "{message}");
    }
}
