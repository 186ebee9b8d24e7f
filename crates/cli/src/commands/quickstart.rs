//! What `train` does without a configuration, in any folder: a small world that is part of the binary.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// The configuration in the folder of the project.
const OF_PROJECT: &str = "configs/quickstart.toml";

/// Where all of it is put elsewhere.
const FOLDER: &str = "quickstart";

/// The configuration that is trained where none is named. Outside of the project it is written into the present folder, with its
/// model and its records, and that is said: they are there to be read and changed, and the run needs them later.
pub fn configuration() -> Result<PathBuf> {
    let of_project = PathBuf::from(OF_PROJECT);
    if of_project.exists() {
        return Ok(of_project);
    }
    let written = panacea_quickstart::write(Path::new(FOLDER))?;
    for path in &written.changed {
        warn!(
            "{} is not as this version has it; it is used as it is",
            path.display()
        );
    }
    let configuration = written.configuration;
    note!(
        "the quickstart, its model and its records are in {FOLDER}; {} says what is trained",
        configuration.display()
    );
    Ok(configuration)
}
