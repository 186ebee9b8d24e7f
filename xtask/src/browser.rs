//! The page of the server in a browser: Chromium, which `node` drives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::build::{built_for_tests, workspace};
use crate::dependencies::{cannot, read, run, tools};
use crate::system::{self, which};

/// What Chromium is called: by Debian, by others, and the browser that is made of it.
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The check, with the browser and the packages that it needs in place.
pub fn page() -> Result<Command, Failure> {
    let folder = workspace().join("integrations").join("page");
    let modules = tools().join("page");
    install_modules(&folder, &modules)?;
    let chromium = chromium()?;
    let mut check = Command::new("node");
    check
        .arg(folder.join("check.mjs"))
        .arg(modules)
        .arg(built_for_tests("panacea")?)
        .arg(chromium)
        .arg(workspace().join("target").join("page"));
    Ok(check)
}

/// What `package-lock.json` names, in `modules`.
fn install_modules(folder: &Path, modules: &Path) -> Result<(), Failure> {
    let lock = read(&folder.join("package-lock.json"))?;
    // Written when all is in place.
    let installed = modules.join("installed.json");
    if fs::read_to_string(&installed).ok().as_ref() == Some(&lock) {
        return Ok(());
    }
    fs::create_dir_all(modules).map_err(|error| cannot("create", modules, &error))?;
    for file in ["package.json", "package-lock.json"] {
        let copy = modules.join(file);
        fs::copy(folder.join(file), &copy).map_err(|error| cannot("write", &copy, &error))?;
    }
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    if which("node").is_none() || which(npm).is_none() {
        return Err(Failure::new(
            "there is no node or no npm, which look at the page of the server: install Node.js 18 or newer, with npm"
                .to_owned(),
        ));
    }
    let mut install = Command::new(npm);
    install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    run(install.arg("--prefix").arg(modules))?;
    fs::write(&installed, lock).map_err(|error| cannot("write", &installed, &error))
}

/// Chromium's path; in CI it is installed where there is none.
fn chromium() -> Result<PathBuf, Failure> {
    let found = || CHROMIUM.into_iter().find_map(which);
    system::found_or_installed(found, "chromium")?.ok_or_else(|| {
        Failure::new(format!(
            "there is no Chromium, which looks at the page of the server: install one that is called {} (Debian: \
             apt-get install chromium)",
            CHROMIUM.join(" or ")
        ))
    })
}
