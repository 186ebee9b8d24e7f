//! What a user of `cargo xtask` sees of the binary behind it: its output, exit code and signals, and nothing else.
//! A copy of `xtask` works in a folder of its own, where `cargo` and `panacea` are small scripts.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A target folder with `debug/xtask` in it, and stand-ins for cargo and for what cargo would build.
struct Workplace {
    folder: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

/// One test at a time: a child that another thread starts while a script is being written inherits the open file
/// for a moment, and Linux starts no program that is open for writing.
static ALONE: Mutex<()> = Mutex::new(());

impl Workplace {
    fn new(name: &str, cargo: &str, panacea: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // Of this process alone: the target folder may be that of two runs of the tests at once.
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("debug")).unwrap();
        fs::create_dir_all(folder.join("release")).unwrap();
        fs::create_dir_all(folder.join("user's folder")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_xtask"), folder.join("debug/xtask")).unwrap();
        script(&folder.join("cargo"), cargo);
        script(&folder.join("release/panacea"), panacea);
        Self {
            folder,
            _alone: alone,
        }
    }

    fn xtask(&self, arguments: &[&str]) -> Command {
        let mut xtask = Command::new(self.folder.join("debug/xtask"));
        xtask
            .args(arguments)
            .env("CARGO", self.folder.join("cargo"))
            .current_dir(self.folder.join("user's folder"));
        xtask
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.xtask(arguments).output().unwrap()
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

const FRESH: &str = "echo '    Finished `release` profile [optimized] target(s) in 0.1s' >&2";

#[test]
fn arguments_folder_output_and_exit_code_pass_through() {
    let place = Workplace::new(
        "pass",
        FRESH,
        "pwd; for word in \"$@\"; do echo \"<$word>\"; done; exit 42",
    );
    let arguments = ["score", "--prompt", "two words", "-0.1,-0.1", ""];
    let output = place.run(&arguments);
    assert_eq!(output.status.code(), Some(42));
    let folder = place.folder.join("user's folder").canonicalize().unwrap();
    let words: String = arguments.iter().map(|word| format!("<{word}>\n")).collect();
    assert_eq!(
        text(&output.stdout),
        format!("{}\n{words}", folder.display())
    );
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn cargo_is_asked_for_the_device_and_keeps_off_standard_output() {
    let cargo = format!("echo 'a build message'; echo \"$@\" >&2; {FRESH}");
    let place = Workplace::new("features", &cargo, "echo '{}'");
    let output = place.run(&["train", "--device", "cuda:0"]);
    assert_eq!(text(&output.stdout), "{}\n");
    let asked = text(&output.stderr);
    assert!(
        asked.starts_with("build --release --package panacea-cli"),
        "{asked}"
    );
    assert!(asked.ends_with("--features cuda\n"), "{asked}");

    let output = place.run(&["devices"]);
    assert!(!text(&output.stderr).contains("--features"));
}

#[test]
fn a_failed_build_keeps_cargos_code_and_starts_nothing() {
    let place = Workplace::new(
        "broken",
        "echo 'error[E0308]' >&2; exit 101",
        "echo started",
    );
    let output = place.run(&["train"]);
    assert_eq!(output.status.code(), Some(101));
    assert_eq!(text(&output.stdout), "");
    assert!(text(&output.stderr).starts_with("error[E0308]\nerror: panacea-cli was not built"));
}

#[test]
fn a_binary_that_is_not_there_is_an_error_that_names_its_path() {
    let place = Workplace::new("absent", FRESH, "");
    fs::remove_file(place.folder.join("release/panacea")).unwrap();
    let output = place.run(&["train"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("release/panacea"));
}

#[test]
fn a_signal_to_xtask_reaches_the_binary() {
    let place = Workplace::new(
        "signal",
        FRESH,
        "trap 'echo checkpoint written; exit 7' TERM; echo ready; while :; do sleep 0.05; done",
    );
    let mut running = place
        .xtask(&["train"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    // The shell's own: not every machine has a program of that name.
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -TERM {}", running.id())])
        .status()
        .unwrap();
    assert!(killed.success());
    assert_eq!(lines.next().unwrap().unwrap(), "checkpoint written");
    assert_eq!(running.wait().unwrap().code(), Some(7));
}

#[test]
fn death_by_a_signal_is_seen_as_such() {
    let place = Workplace::new("killed", FRESH, "kill -KILL $$");
    assert_eq!(place.run(&["train"]).status.signal(), Some(9));
}

#[test]
fn help_needs_no_build() {
    let place = Workplace::new("help", "exit 1", "exit 1");
    for arguments in [&["--help"][..], &[]] {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("Examples:"));
    }
}
