//! The crate as its users see it: files in, records, examples and errors out.

mod conversations;
mod errors;
mod formats;
mod labels;
mod parquet;
mod prompts;
mod refused;
mod spelling;
mod survey;
mod tokens;
mod turns;

use std::fs;
use std::path::{Path, PathBuf};

use panacea_data::{
    DataError, DataReport, LabelSource, ObjectiveSpec, Record, RecordKind, Rule, load,
};
use panacea_pretrained::Message;
use serde_json::Value;
use tempfile::TempDir;

/// A folder that goes away with the test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn lines(&self, name: &str, rows: &[Value]) -> PathBuf {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        self.write(name, lines.join("\n"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// An objective that labels every pair whose responses differ in length.
fn shorter() -> ObjectiveSpec {
    ObjectiveSpec::new("shorter", LabelSource::Rule(Rule::Shorter))
}

fn chosen() -> ObjectiveSpec {
    ObjectiveSpec::new("chosen", LabelSource::Chosen)
}

fn score(name: &str) -> ObjectiveSpec {
    ObjectiveSpec::new(name, LabelSource::Score(name.to_owned()))
}

fn column(name: &str) -> ObjectiveSpec {
    ObjectiveSpec::new(name, LabelSource::Column(name.to_owned()))
}

fn load_pairs(
    rows: &[Value],
    objectives: &[ObjectiveSpec],
) -> Result<(Vec<Record>, DataReport), DataError> {
    let files = Files::new();
    let file = files.lines("data.jsonl", rows);
    load(&[file], objectives, RecordKind::Pair)
}

/// The error's text with the folder of the test taken out.
fn message(error: &DataError, file: &Path) -> String {
    let folder = file.parent().unwrap().display().to_string();
    error.to_string().replace(&format!("{folder}/"), "")
}

/// `[("user", "Hi")]` as turns.
fn turns(turns: &[(&str, &str)]) -> Vec<Message> {
    turns
        .iter()
        .map(|(role, content)| Message::new(*role, *content))
        .collect()
}
