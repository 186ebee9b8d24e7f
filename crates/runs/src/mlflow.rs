//! A run in the folder that MLflow's file store reads (`mlflow ui --backend-store-uri FOLDER`): text files, one a metric.
//!
//! ```text
//! FOLDER/
//!   EXPERIMENT/meta.yaml          the experiment `panacea`
//!   EXPERIMENT/RUN/meta.yaml      name, status, times
//!   EXPERIMENT/RUN/metrics/NAME   lines `milliseconds value step`
//!   EXPERIMENT/RUN/params/NAME    a value of the configuration
//!   EXPERIMENT/RUN/artifacts/     empty, but MLflow wants it there
//!   EXPERIMENT/RUN/tags/NAME      where our own run lies, among others
//! ```
//!
//! Source: MLflow's `store/tracking/file_store.py`, whose own files look like these.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use panacea_config::Plan;
use panacea_files as files;
use toml::{Table, Value};

use crate::error::RunError;
use crate::record::not_toml;
use crate::run_folder::MLFLOW_RUN;

/// The name of the experiment.
const EXPERIMENT: &str = "panacea";

/// How a run stands, by MLflow's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Running = 1,
    Finished = 3,
    Failed = 4,
    Killed = 5,
}

/// Writes a run into MLflow's store. Where it is dropped before [`finish`](Self::finish) or [`stop`](Self::stop), the run has
/// failed.
#[derive(Debug)]
pub struct MlflowRun {
    folder: PathBuf,
    name: String,
    started: u128,
    has_ended: bool,
}

impl MlflowRun {
    /// Begins the run of `run_folder` in `store`, or goes on with it after `step` finished steps: what it has of later steps is cut
    /// off, since these are computed again. Its parameters are the keys of `plan`. In another store than before, it begins there with
    /// the next step.
    ///
    /// # Errors
    /// Where a file cannot be read or written, or is not what this wrote.
    pub fn open(
        store: &Path,
        run_folder: &Path,
        plan: &Plan,
        step: usize,
    ) -> Result<Self, RunError> {
        let absolute = fs::canonicalize(run_folder);
        let absolute = absolute.map_err(RunError::io("find", run_folder))?;
        let store = std::path::absolute(store).map_err(RunError::io("find", store))?;
        let note = run_folder.join(MLFLOW_RUN);
        let before = fs::read_to_string(&note).ok().map(PathBuf::from);
        let before = before
            .filter(|folder| folder.starts_with(&store) && folder.join("meta.yaml").is_file());
        let folder = match &before {
            Some(folder) => folder.clone(),
            None => experiment(&store)?.join(new_id()),
        };
        let started = match &before {
            Some(folder) => start_time(&folder.join("meta.yaml"))?,
            None => milliseconds(),
        };
        let run = Self {
            folder,
            name: name_of(&absolute),
            started,
            has_ended: false,
        };
        if before.is_some() {
            cut(&run.folder.join("metrics"), step)?;
        } else {
            files::write_file(&note, run.folder.to_string_lossy().as_bytes())?;
        }
        // MLflow takes no folder for a run that lacks one of these.
        for kind in ["metrics", "params", "artifacts"] {
            let folder = run.folder.join(kind);
            fs::create_dir_all(&folder).map_err(RunError::io("create the folder", &folder))?;
        }
        for (name, value) in parameters(plan)? {
            run.put("params", &name, &value)?;
        }
        run.put("tags", "mlflow.runName", &run.name)?;
        run.put("tags", "panacea.folder", &absolute.to_string_lossy())?;
        run.put("tags", "panacea.version", env!("CARGO_PKG_VERSION"))?;
        run.write_meta(Status::Running)?;
        Ok(run)
    }

    /// Writes the scalars of a step; they are in the files when this returns.
    pub fn write(&mut self, step: usize, scalars: &[(String, f64)]) -> Result<(), RunError> {
        let now = milliseconds();
        for (tag, value) in scalars {
            let path = self.place("metrics", tag)?;
            let line = format!("{now} {value} {step}\n");
            let file = File::options().append(true).create(true).open(&path);
            file.and_then(|mut file| file.write_all(line.as_bytes()))
                .map_err(RunError::io("write", &path))?;
        }
        Ok(())
    }

    /// All steps are done.
    pub fn finish(mut self) -> Result<(), RunError> {
        self.has_ended = true;
        self.write_meta(Status::Finished)
    }

    /// Somebody asked it to stop; it may be resumed.
    pub fn stop(mut self) -> Result<(), RunError> {
        self.has_ended = true;
        self.write_meta(Status::Killed)
    }

    fn put(&self, kind: &str, name: &str, value: &str) -> Result<(), RunError> {
        let path = self.place(kind, name)?;
        fs::write(&path, value).map_err(RunError::io("write", &path))
    }

    /// The file for a name, in a folder that is there.
    fn place(&self, kind: &str, name: &str) -> Result<PathBuf, RunError> {
        let path = self.folder.join(kind).join(file_name(name));
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(RunError::io("create the folder", folder))?;
        Ok(path)
    }

    fn write_meta(&self, status: Status) -> Result<(), RunError> {
        let end = match status {
            Status::Running => "null".to_owned(),
            _ => milliseconds().to_string(),
        };
        let id = last_part(&self.folder);
        let experiment = self.folder.parent().map_or_else(String::new, last_part);
        let text = format!(
            "artifact_uri: {}\nend_time: {end}\nentry_point_name: ''\nexperiment_id: '{experiment}'\nlifecycle_stage: active\n\
             run_id: '{id}'\nrun_name: {}\nrun_uuid: '{id}'\nsource_name: ''\nsource_type: 4\nsource_version: ''\n\
             start_time: {}\nstatus: {}\ntags: []\nuser_id: panacea\n",
            quoted(&uri(&self.folder.join("artifacts"))),
            quoted(&self.name),
            self.started,
            status as u8,
        );
        Ok(files::write_file(
            &self.folder.join("meta.yaml"),
            text.as_bytes(),
        )?)
    }
}

impl Drop for MlflowRun {
    fn drop(&mut self) {
        if !self.has_ended {
            // The failure itself is told by whoever met it.
            let _ = self.write_meta(Status::Failed);
        }
    }
}

/// The folder of our experiment, which is made where it is absent. A new store also has the experiment that MLflow's own programs
/// take where they are told none.
fn experiment(store: &Path) -> Result<PathBuf, RunError> {
    if !store.exists() {
        write_experiment(&store.join("0"), "Default")?;
    }
    for name in files::folder_names(store)? {
        let meta = store.join(&name).join("meta.yaml");
        let is_ours = |line: &str| line.strip_prefix("name:").map(str::trim) == Some(EXPERIMENT);
        if fs::read_to_string(&meta).is_ok_and(|text| text.lines().any(is_ours)) {
            return Ok(store.join(name));
        }
    }
    let id = fresh() % 1_000_000_000_000_000_000;
    let folder = store.join(format!("{id:018}"));
    write_experiment(&folder, EXPERIMENT)?;
    Ok(folder)
}

fn write_experiment(folder: &Path, name: &str) -> Result<(), RunError> {
    fs::create_dir_all(folder).map_err(RunError::io("create the folder", folder))?;
    let now = milliseconds();
    let text = format!(
        "artifact_location: {}\ncreation_time: {now}\nexperiment_id: '{}'\nlast_update_time: {now}\nlifecycle_stage: active\n\
         name: {name}\n",
        quoted(&uri(folder)),
        last_part(folder),
    );
    let meta = folder.join("meta.yaml");
    Ok(files::write_file(&meta, text.as_bytes())?)
}

/// Drops the lines of steps behind `step` of every metric below `folder`, and a last line that a killed process left unfinished.
fn cut(folder: &Path, step: usize) -> Result<(), RunError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(RunError::io("read the folder", folder))?,
    };
    for entry in entries {
        let path = entry
            .map_err(RunError::io("read the folder", folder))?
            .path();
        if path.is_dir() {
            cut(&path, step)?;
            continue;
        }
        let text = files::read_text(&path)?;
        let mut kept = String::with_capacity(text.len());
        for (index, line) in text.split_inclusive('\n').enumerate() {
            if !line.ends_with('\n') {
                break;
            }
            let at = line
                .split_whitespace()
                .nth(2)
                .and_then(|at| at.parse::<usize>().ok());
            let at = at.ok_or_else(|| RunError::BrokenLine {
                path: path.clone(),
                line: index + 1,
                message: "not a line `milliseconds value step`".to_owned(),
                advice: "something else changed the file; remove this line, or move the file away",
            })?;
            if at <= step {
                kept.push_str(line);
            }
        }
        if kept.len() != text.len() {
            files::write_file(&path, kept.as_bytes())?;
        }
    }
    Ok(())
}

/// Every value of a plan by its dotted key, such as `adapter.rank` and `objective.0.name`.
fn parameters(plan: &Plan) -> Result<Vec<(String, String)>, RunError> {
    fn collect(key: &str, value: &Value, found: &mut Vec<(String, String)>) {
        match value {
            Value::Table(table) => {
                for (name, value) in table {
                    collect(&format!("{key}.{name}"), value, found);
                }
            }
            Value::Array(elements) if elements.iter().any(Value::is_table) => {
                for (index, element) in elements.iter().enumerate() {
                    collect(&format!("{key}.{index}"), element, found);
                }
            }
            Value::String(text) => found.push((key.to_owned(), text.clone())),
            value => found.push((key.to_owned(), value.to_string())),
        }
    }
    let mut found = Vec::new();
    for (key, value) in &Table::try_from(plan.to_spec()).map_err(not_toml)? {
        collect(key, value, &mut found);
    }
    Ok(found)
}

/// When a run began, by its `meta.yaml`.
fn start_time(meta: &Path) -> Result<u128, RunError> {
    let text = files::read_text(meta)?;
    let mut lines = text.lines();
    let started = lines.find_map(|line| line.strip_prefix("start_time:")?.trim().parse().ok());
    Ok(started.unwrap_or_else(milliseconds))
}

/// The file of a metric: MLflow's names have letters, digits, `_`, `-`, `.`, blanks and slashes. A comma becomes a blank, and any
/// other character its number, so that no two names are one.
fn file_name(name: &str) -> String {
    let part = |part: &str| -> String {
        if matches!(part, "" | "." | "..") {
            return format!("_{}_", part.len());
        }
        part.chars()
            .map(|c| match c {
                ',' => " ".to_owned(),
                c if c.is_alphanumeric() || "_-. ".contains(c) => c.to_string(),
                c => format!("_u{:x}_", u32::from(c)),
            })
            .collect()
    };
    name.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// `first`, or `soup/01` for one of the trainings that make up a run.
fn name_of(run: &Path) -> String {
    let members = run.parent().filter(|parent| parent.ends_with("members"));
    match members.and_then(Path::parent) {
        Some(whole) => format!("{}/{}", last_part(whole), last_part(run)),
        None => last_part(run),
    }
}

fn last_part(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// A text in YAML: JSON's quotes are YAML's, too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `file:///…`, with what is no part of a path in it as percent and number.
fn uri(path: &Path) -> String {
    let mut uri = "file://".to_owned();
    for &byte in path.to_string_lossy().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

fn new_id() -> String {
    format!("{:016x}{:016x}", fresh(), fresh())
}

/// A number that no other run has. It names a folder and decides nothing else.
fn fresh() -> u64 {
    RandomState::new().hash_one((std::process::id(), milliseconds()))
}

fn milliseconds() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_millis()
}

#[cfg(test)]
mod tests {
    use panacea_config::{Overrides, Spec};

    use super::*;

    fn plan() -> Plan {
        let text = "model.path = \"m\"\ndata.train = \"t.jsonl\"\n[[objective]]\nname = \"a/b\"\nscore = \"s\"";
        Plan::resolve(Spec::from_toml(text, "test"), &Overrides::default()).unwrap()
    }

    fn scalars(loss: f64) -> Vec<(String, f64)> {
        vec![
            ("loss/helpfulness".to_owned(), loss),
            ("eval_value/a:b/1.00,0.00".to_owned(), -1e-7),
        ]
    }

    /// The lines of a metric without their times, which are all numbers.
    fn lines(run: &MlflowRun, name: &str) -> Vec<String> {
        let text = fs::read_to_string(run.folder.join("metrics").join(name)).unwrap();
        let without_time = |line: &str| {
            let (time, rest) = line.split_once(' ').unwrap();
            assert!(time.parse::<u64>().unwrap() > 1_500_000_000_000);
            rest.to_owned()
        };
        text.lines().map(without_time).collect()
    }

    fn meta(run: &Path, key: &str) -> String {
        let text = fs::read_to_string(run.join("meta.yaml")).unwrap();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        value
            .unwrap_or_else(|| panic!("{key} in {text}"))
            .to_owned()
    }

    #[test]
    fn the_files_are_those_of_mlflows_store() {
        let place = tempfile::tempdir().unwrap();
        let (store, runs) = (place.path().join("ml runs"), place.path().join("first"));
        fs::create_dir(&runs).unwrap();
        let mut run = MlflowRun::open(&store, &runs, &plan(), 0).unwrap();
        run.write(1, &scalars(0.5)).unwrap();
        run.write(2, &scalars(0.25)).unwrap();
        assert_eq!(lines(&run, "loss/helpfulness"), ["0.5 1", "0.25 2"]);
        assert_eq!(
            lines(&run, "eval_value/a_u3a_b/1.00 0.00"),
            ["-0.0000001 1", "-0.0000001 2"]
        );
        let read = |name: &str| fs::read_to_string(run.folder.join(name)).unwrap();
        assert!(run.folder.join("artifacts").is_dir());
        assert_eq!(meta(&store.join("0"), "name"), "Default");
        assert_eq!(read("params/adapter.rank"), "8");
        assert_eq!(read("params/objective.0.name"), "a/b");
        assert_eq!(read("tags/mlflow.runName"), "first");
        let place_of_run = fs::canonicalize(&runs).unwrap();
        assert_eq!(read("tags/panacea.folder"), place_of_run.to_str().unwrap());

        let (folder, experiment) = (run.folder.clone(), run.folder.parent().unwrap().to_owned());
        assert_eq!(meta(&experiment, "name"), "panacea");
        assert_eq!(
            meta(&experiment, "experiment_id"),
            format!("'{}'", last_part(&experiment))
        );
        let location = meta(&experiment, "artifact_location");
        assert!(
            location.starts_with("\"file:///") && location.contains("/ml%20runs/"),
            "{location}"
        );
        let id = last_part(&folder);
        assert!(id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()));
        assert_eq!(meta(&folder, "run_id"), format!("'{id}'"));
        assert_eq!(meta(&folder, "run_name"), "\"first\"");
        assert_eq!(
            [meta(&folder, "status"), meta(&folder, "end_time")],
            ["1", "null"]
        );
        run.finish().unwrap();
        assert_eq!(meta(&folder, "status"), "3");
        assert!(meta(&folder, "end_time").parse::<u64>().unwrap() > 0);

        // A second run stands beside it, in the same experiment.
        let other = place.path().join("soup/members/01");
        fs::create_dir_all(&other).unwrap();
        let second = MlflowRun::open(&store, &other, &plan(), 0).unwrap();
        assert_eq!(second.folder.parent().unwrap(), experiment);
        let folder = second.folder.clone();
        assert_eq!(meta(&folder, "run_name"), "\"soup/01\"");
        drop(second);
        assert_eq!(meta(&folder, "status"), "4");
    }

    #[test]
    fn a_resumed_run_goes_on_in_its_place_without_a_line_twice() {
        let place = tempfile::tempdir().unwrap();
        let (store, runs) = (place.path().join("mlruns"), place.path().join("first"));
        fs::create_dir(&runs).unwrap();
        let mut run = MlflowRun::open(&store, &runs, &plan(), 0).unwrap();
        for step in 1..=3 {
            run.write(step, &scalars(0.5)).unwrap();
        }
        let (folder, started) = (run.folder.clone(), run.started);
        run.stop().unwrap();
        assert_eq!(meta(&folder, "status"), "5");

        let file = folder.join("metrics/loss/helpfulness");
        let mut text = fs::read_to_string(&file).unwrap();
        text.push_str("17957 0.1");
        fs::write(&file, text).unwrap();
        let mut run = MlflowRun::open(&store, &runs, &plan(), 2).unwrap();
        assert_eq!((&run.folder, run.started), (&folder, started));
        run.write(3, &scalars(0.125)).unwrap();
        assert_eq!(
            lines(&run, "loss/helpfulness"),
            ["0.5 1", "0.5 2", "0.125 3"]
        );
        assert_eq!(meta(&folder, "status"), "1");
        drop(run);

        let other = place.path().join("other");
        let moved = MlflowRun::open(&other, &runs, &plan(), 2).unwrap();
        assert!(moved.folder.starts_with(&other), "{moved:?}");
        drop(moved);
        let again = MlflowRun::open(&other, &runs, &plan(), 2).unwrap();
        let note = fs::read_to_string(runs.join(MLFLOW_RUN)).unwrap();
        assert_eq!(again.folder.to_str().unwrap(), note);
        drop(again);
        fs::write(runs.join(MLFLOW_RUN), folder.to_str().unwrap()).unwrap();

        fs::write(&file, "1 0.5\n").unwrap();
        let message = MlflowRun::open(&store, &runs, &plan(), 2)
            .unwrap_err()
            .to_string();
        assert!(message.contains("helpfulness:1"), "{message}");
    }
}
