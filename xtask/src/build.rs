//! Builds a binary of the workspace in release and says where it lies.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// Builds `panacea` with these cargo features and returns its path.
pub fn panacea(features: &BTreeSet<&'static str>) -> Result<PathBuf, Failure> {
    release("panacea-cli", "panacea", features)
}

/// Builds the programs that are compared with those of other people, and returns the path of the one that calls
/// them.
pub fn benches(binary: &str, features: &BTreeSet<&'static str>) -> Result<PathBuf, Failure> {
    release("panacea-benches", binary, features)
}

/// Builds a package in release and returns the path of one of its binaries.
///
/// Standard output stays untouched, for commands print JSON there. Cargo's progress is shown on standard error,
/// and nothing at all when the binary is fresh.
fn release(
    package: &str,
    binary: &str,
    features: &BTreeSet<&'static str>,
) -> Result<PathBuf, Failure> {
    let mut cargo = cargo();
    // Not by changing the folder: a relative CARGO_TARGET_DIR counts from where the user stands.
    cargo
        .args([
            "build",
            "--release",
            "--package",
            package,
            "--manifest-path",
        ])
        .arg(workspace().join("Cargo.toml"));
    if !features.is_empty() {
        let features: Vec<_> = features.iter().copied().collect();
        cargo.arg("--features").arg(features.join(","));
    }
    // A pipe would hide colours and progress, which cargo shows to terminals only.
    if io::stderr().is_terminal() {
        cargo.env("CARGO_TERM_COLOR", "always");
        cargo.env("CARGO_TERM_PROGRESS_WHEN", "always");
        cargo.env("CARGO_TERM_PROGRESS_WIDTH", "80");
    }
    let mut building = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| cannot_start(&cargo, &error))?;
    let progress = building.stderr.take().expect("standard error is piped");
    show_without_closing_line(progress, io::stderr())
        .map_err(|error| Failure::new(format!("cannot show the progress of cargo: {error}")))?;
    let status = building
        .wait()
        .map_err(|error| Failure::new(format!("cannot wait for cargo: {error}")))?;
    if !status.success() {
        // Cargo has said why.
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        return Err(Failure::new(format!(
            "{package} was not built: see the messages of cargo above"
        ))
        .with_code(code.unwrap_or(1)));
    }
    beside_xtask(binary)
}

/// Cargo, the one that runs `xtask`.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in a folder of the workspace")
}

pub fn cannot_start(program: &Command, error: &io::Error) -> Failure {
    let program = program.get_program().to_string_lossy();
    Failure::new(format!("cannot start {program}: {error}")).with_code(127)
}

/// A binary in the target folder that this very program was built into, so that every way of choosing that folder
/// (`CARGO_TARGET_DIR`, a cargo configuration, a build target) is honoured without being looked up again:
/// `target/debug/xtask` → `target/release/panacea`.
fn beside_xtask(name: &str) -> Result<PathBuf, Failure> {
    built("release", name)
}

/// The binary that the tests of the workspace call.
pub fn built_for_tests(name: &str) -> Result<PathBuf, Failure> {
    built("debug", name)
}

/// The path of `xtask` itself.
pub fn this_program() -> Result<PathBuf, Failure> {
    env::current_exe()
        .map_err(|error| Failure::new(format!("cannot find the path of xtask itself: {error}")))
}

fn built(profile: &str, name: &str) -> Result<PathBuf, Failure> {
    let xtask = this_program()?;
    let target = xtask.ancestors().nth(2).unwrap_or(Path::new(""));
    let binary = target
        .join(profile)
        .join(format!("{name}{}", env::consts::EXE_SUFFIX));
    if !binary.is_file() {
        let place = binary.display();
        return Err(Failure::new(match profile {
            "debug" => format!(
                "there is no {place}: `cargo build --workspace` makes the programs, and `cargo test --workspace --no-run` the examples"
            ),
            _ => {
                format!("cargo built {name}, but it is not at {place}: call xtask as `cargo xtask`")
            }
        }));
    }
    Ok(binary)
}

/// Copies cargo's messages as they come, except for the line with which it says that all is built.
fn show_without_closing_line(messages: impl Read, mut screen: impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    for byte in BufReader::new(messages).bytes() {
        line.push(byte?);
        // A carriage return ends one state of the progress bar.
        if line.ends_with(b"\n") || line.ends_with(b"\r") {
            show(&line, &mut screen)?;
            line.clear();
        }
    }
    show(&line, &mut screen)
}

fn show(line: &[u8], screen: &mut impl Write) -> io::Result<()> {
    const CLEAR_LINE: &[u8] = b"\x1b[K";
    let text = String::from_utf8_lossy(line.strip_prefix(CLEAR_LINE).unwrap_or(line));
    if without_colours(&text)
        .trim_start()
        .starts_with("Finished `")
    {
        // The progress bar before it still has to go.
        if line.starts_with(CLEAR_LINE) {
            screen.write_all(CLEAR_LINE)?;
        }
    } else {
        screen.write_all(line)?;
    }
    screen.flush()
}

/// `text` without the escape sequences `ESC [ … letter`.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| {
        plain
            + part
                .trim_start_matches(|c: char| !c.is_ascii_alphabetic())
                .get(1..)
                .unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(messages: &str, expected: &str) {
        let mut shown = Vec::new();
        show_without_closing_line(messages.as_bytes(), &mut shown).unwrap();
        assert_eq!(String::from_utf8(shown).unwrap(), expected);
    }

    #[test]
    fn a_fresh_build_shows_nothing() {
        check(
            "    Finished `release` profile [optimized] target(s) in 0.31s\n",
            "",
        );
        check(
            "\x1b[1m\x1b[92m    Finished\x1b[0m `release` profile [optimized] target(s) in 0.31s\n",
            "",
        );
    }

    #[test]
    fn progress_and_errors_are_shown_as_they_are() {
        let compiling = "\x1b[1m\x1b[92m   Compiling\x1b[0m panacea v0.1.0\n";
        let bar = "    Building [====>   ] 1/2\r";
        let error = "error: could not compile `panacea`\nFinished reading";
        check(compiling, compiling);
        check(error, error);
        check(
            &format!("{bar}\x1b[K{compiling}{bar}\x1b[K    Finished `release` profile\n"),
            &format!("{bar}\x1b[K{compiling}{bar}\x1b[K"),
        );
    }
}
