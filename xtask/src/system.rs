//! What the machine itself has to have: programs, drivers. In CI, as root on Debian, what is missing is installed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::dependencies::run;

/// What `find` finds, in CI after Debian's `package` was installed for it.
pub fn found_or_installed<T>(
    find: impl Fn() -> Option<T>,
    package: &str,
) -> Result<Option<T>, Failure> {
    if let Some(found) = find() {
        return Ok(Some(found));
    }
    let may_install = env::var("CI").is_ok_and(|ci| ci == "true") && is_root();
    if may_install && which("apt-get").is_some() {
        run(Command::new("apt-get").args(["update", "--quiet"]))?;
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive");
        install.args(["install", "--quiet", "--yes", "--no-install-recommends"]);
        run(install.arg(package))?;
    }
    Ok(find())
}

fn is_root() -> bool {
    let said = Command::new("id").arg("-u").output();
    said.is_ok_and(|said| said.stdout.trim_ascii() == b"0")
}

/// Where a program lies that the shell would find.
pub fn which(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    let file = match Path::new(program).extension() {
        None => format!("{program}{}", env::consts::EXE_SUFFIX),
        Some(_) => program.to_owned(),
    };
    env::split_paths(&folders)
        .map(|folder| folder.join(&file))
        .find(|path| path.is_file())
}
