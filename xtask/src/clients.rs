//! Other people's software, which has to get along with ours: the official client of OpenAI's API with the server, llama.cpp
//! with what is exported for it, and our plug-in of vLLM. Each is driven by a Python program in a folder of `integrations`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::build::{built_for_tests, workspace};
use crate::dependencies::{cannot, read, run, tools};

/// The Python that is there already.
const SYSTEM_PYTHON: &str = if cfg!(windows) { "python" } else { "python3" };

/// The check of this name, in a virtual environment that has what it needs; `python3` makes it when it is first asked for.
pub fn integration(name: &str) -> Result<Command, Failure> {
    let folder = workspace().join("integrations").join(name);
    let requirements = folder.join("requirements.txt");
    let wanted = read(&requirements)?;
    let environment = tools().join(name);
    // Written when all is in place.
    let installed = environment.join("installed.txt");
    let runs = || Command::new(python(&environment)).arg("--version").output();
    if fs::read_to_string(&installed).ok().as_ref() != Some(&wanted) || runs().is_err() {
        if environment.exists() {
            fs::remove_dir_all(&environment)
                .map_err(|error| cannot("remove", &environment, &error))?;
        }
        let mut make = Command::new(SYSTEM_PYTHON);
        run(make.args(["-m", "venv"]).arg(&environment))?;
        let mut install = Command::new(python(&environment));
        install.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
        install.args(["--only-binary", ":all:"]);
        run(install.arg("--requirement").arg(&requirements))?;
        fs::write(&installed, wanted).map_err(|error| cannot("write", &installed, &error))?;
    }
    let mut check = Command::new(python(&environment));
    check
        .arg(folder.join("check.py"))
        .arg(built_for_tests("panacea")?);
    Ok(check)
}

/// What somebody does who has just come: it takes the standard library of Python alone.
pub fn newcomer() -> Result<Command, Failure> {
    let mut check = Command::new(SYSTEM_PYTHON);
    check
        .arg(workspace().join("integrations/newcomer/check.py"))
        .arg(built_for_tests("panacea")?);
    Ok(check)
}

fn python(environment: &Path) -> PathBuf {
    let (folder, program) = match cfg!(windows) {
        true => ("Scripts", "python"),
        false => ("bin", "python3"),
    };
    environment
        .join(folder)
        .join(format!("{program}{}", env::consts::EXE_SUFFIX))
}
