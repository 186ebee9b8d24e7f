//! # The quickstart, as part of a program
//!
//! A world of our own, small enough to be trained in seconds: a Llama of 0.7 million parameters with its tokenizer, and menus of
//! answers with scores, of which the best that any policy can do is known for every preference. [`write()`] puts them into a folder,
//! beside a configuration that trains on them.
//!
//! ```
//! # let place = tempfile::tempdir().unwrap();
//! # let folder = place.path();
//! let written = panacea_quickstart::write(folder)?;
//! assert!(written.configuration.is_file());
//! assert!(written.model.join("model.safetensors").is_file());
//! # Ok::<(), panacea_files::FileError>(())
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use panacea_files::{FileError, write_file};

/// Where the configuration looks for the model and the records, until it is written.
const FOLDER: &str = "datasets/quickstart";

/// What trains on it; the same as `configs/quickstart.toml` of the project.
const CONFIGURATION: &str = include_str!("../quickstart.toml");

macro_rules! files {
    ($($name:literal)*) => {
        [$(($name, include_bytes!(concat!("../", $name)) as &[u8])),*]
    };
}

const FILES: [(&str, &[u8]); 7] = files![
    "base/chat_template.jinja" "base/config.json" "base/generation_config.json" "base/model.safetensors"
    "base/tokenizer.json" "base/tokenizer_config.json" "menus.jsonl"
];

/// What [`write()`] has put where.
#[derive(Debug)]
pub struct Written {
    /// The configuration, whose paths lead to the other two.
    pub configuration: PathBuf,
    /// The folder of the model.
    pub model: PathBuf,
    /// The records.
    pub records: PathBuf,
    /// Files that were there and hold something else. They are left as they are.
    pub changed: Vec<PathBuf>,
}

/// Writes the model, the records and the configuration into `folder`. A file that is there already stays as it is. The paths in the
/// configuration are those of `folder` as it is given: relative ones count from where a program stands.
///
/// # Errors
///
/// A file that cannot be read or written.
pub fn write(folder: &Path) -> Result<Written, FileError> {
    let configuration = folder.join("quickstart.toml");
    let text = CONFIGURATION.replace(FOLDER, &in_toml(folder));
    let files = FILES.map(|(name, bytes)| (folder.join(name), bytes));
    let mut changed = Vec::new();
    for (path, bytes) in [(configuration.clone(), text.as_bytes())]
        .into_iter()
        .chain(files)
    {
        if !put(&path, bytes)? {
            changed.push(path);
        }
    }
    Ok(Written {
        configuration,
        model: folder.join("base"),
        records: folder.join("menus.jsonl"),
        changed,
    })
}

/// A path as it stands between the quotes of TOML's strings.
fn in_toml(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Writes a file that is not there yet; whether it holds `bytes` now.
fn put(path: &Path, bytes: &[u8]) -> Result<bool, FileError> {
    match path.exists() {
        true => {
            let found = fs::read(path).map_err(FileError::of("read", path))?;
            Ok(found == bytes)
        }
        false => {
            let folder = path.parent().unwrap_or(path);
            fs::create_dir_all(folder).map_err(FileError::of("create", folder))?;
            write_file(path, bytes)?;
            Ok(true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    #[test]
    fn the_configuration_is_that_of_the_project() {
        let of_project = fs::read_to_string(here("../../configs/quickstart.toml")).unwrap();
        assert_eq!(
            CONFIGURATION, of_project,
            "copy configs/quickstart.toml to datasets/quickstart"
        );
    }

    #[test]
    fn every_file_of_the_model_is_written_and_every_path_leads_to_one() {
        let folder = tempfile::tempdir().unwrap();
        let written = write(folder.path()).unwrap();
        for entry in fs::read_dir(here("base")).unwrap() {
            let shipped = entry.unwrap().path();
            let copy = written.model.join(shipped.file_name().unwrap());
            assert_eq!(fs::read(&shipped).unwrap(), fs::read(&copy).unwrap());
        }
        let configuration = fs::read_to_string(&written.configuration).unwrap();
        assert!(!configuration.contains("\"datasets/"), "{configuration}");
        for path in [&written.model, &written.records] {
            let quoted = format!("\"{}\"", in_toml(path).replace("\\\\base", "/base"));
            assert!(path.exists() && (cfg!(windows) || configuration.contains(&quoted)));
        }
    }

    #[test]
    fn what_somebody_has_changed_stays() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(folder.path()).unwrap().changed.is_empty());
        let records = folder.path().join("menus.jsonl");
        fs::write(&records, "mine").unwrap();
        assert_eq!(write(folder.path()).unwrap().changed, [records.as_path()]);
        assert_eq!(fs::read_to_string(&records).unwrap(), "mine");
    }
}
