//! What `train` does without a configuration, in any folder: a small world that is part of the binary.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use panacea_files::write_file;

/// The configuration in the folder of the project.
const OF_PROJECT: &str = "configs/quickstart.toml";

/// Where its model and its records lie in the project.
const WORLD: &str = "datasets/quickstart";

/// Where all of it is put elsewhere.
const FOLDER: &str = "quickstart";

macro_rules! world {
    ($($name:literal)*) => {
        [$(($name, include_bytes!(concat!("../../../../datasets/quickstart/", $name)) as &[u8])),*]
    };
}

/// The files of the world.
const FILES: [(&str, &[u8]); 7] = world![
    "base/chat_template.jinja" "base/config.json" "base/generation_config.json" "base/model.safetensors"
    "base/tokenizer.json" "base/tokenizer_config.json" "menus.jsonl"
];

const CONFIGURATION: &str = include_str!("../../../../configs/quickstart.toml");

/// The configuration that is trained where none is named. Outside of the project it is written into the present folder, with its
/// model and its records, and that is said: they are there to be read and changed, and the run needs them later.
pub fn configuration() -> Result<PathBuf> {
    let of_project = PathBuf::from(OF_PROJECT);
    if of_project.exists() {
        return Ok(of_project);
    }
    let configuration = CONFIGURATION.replace(WORLD, FOLDER);
    let path = Path::new(FOLDER).join("quickstart.toml");
    put(&path, configuration.as_bytes())?;
    for (name, bytes) in FILES {
        put(&Path::new(FOLDER).join(name), bytes)?;
    }
    note!(
        "the quickstart, its model and its records are in {FOLDER}; {} says what is trained",
        path.display()
    );
    Ok(path)
}

/// Writes a file that is not there yet. One that somebody has changed stays as it is.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    match fs::read(path) {
        Ok(found) if found == bytes => Ok(()),
        Ok(_) => {
            warn!(
                "{} is not as this version has it; it is used as it is",
                path.display()
            );
            Ok(())
        }
        Err(_) => {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            Ok(write_file(path, bytes)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_files_that_are_part_of_the_binary() {
        let named: Vec<&str> = (CONFIGURATION.split('"'))
            .filter_map(|part| part.strip_prefix("datasets/quickstart/"))
            .collect();
        assert_eq!(named, ["base", "menus.jsonl", "menus.jsonl"]);
        for part in named {
            assert!(
                FILES.iter().any(|(name, _)| name.starts_with(part)),
                "{part}"
            );
        }
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(WORLD)
            .join("base");
        for entry in fs::read_dir(shipped).unwrap() {
            let name = format!("base/{}", entry.unwrap().file_name().display());
            assert!(FILES.iter().any(|(known, _)| *known == name), "{name}");
        }
    }
}
