//! Hands the process over to the binary, so that exit codes and signals pass by nature.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::Failure;
use crate::build::cannot_start;

/// How the binary is called, for the commands that it prints; it reads this in crates/cli/src/shell.rs.
const CALLED_AS: (&str, &str) = ("PANACEA_CALLED_AS", "cargo xtask");

/// Runs `binary` in place of this process: same process id, folder, input and output.
/// Whoever waits for `cargo xtask` sees the binary's own exit code, and a signal meant for it reaches it.
#[cfg(unix)]
pub fn become_program(binary: &Path, arguments: &[OsString]) -> Result<ExitCode, Failure> {
    use std::os::unix::process::CommandExt;
    let mut program = Command::new(binary);
    program.env(CALLED_AS.0, CALLED_AS.1);
    let error = program.args(arguments).exec();
    Err(cannot_start(&program, &error))
}

/// Runs `binary` as a child, which is as near as Windows comes: Ctrl-C reaches both, and this process waits for
/// what the child makes of it.
#[cfg(not(unix))]
pub fn become_program(binary: &Path, arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let mut program = Command::new(binary);
    program.env(CALLED_AS.0, CALLED_AS.1);
    let mut running = program
        .args(arguments)
        .spawn()
        .map_err(|error| cannot_start(&program, &error))?;
    #[cfg(windows)]
    ctrlc::set_handler(|| {}).map_err(|error| {
        Failure::new(format!(
            "cannot leave Ctrl-C to {}: {error}",
            binary.display()
        ))
    })?;
    let status = running
        .wait()
        .map_err(|error| Failure::new(format!("cannot wait for {}: {error}", binary.display())))?;
    // Windows codes are wider than what Rust returns; only "not zero" survives of the others.
    let code = status
        .code()
        .map_or(1, |code| u8::try_from(code).unwrap_or(1));
    Ok(ExitCode::from(code))
}
