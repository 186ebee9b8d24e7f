//! `panacea`: train one adapter for every preference, steer it at run time, draw its Pareto front.
//!
//! One file a command in `commands/`; what several commands share is in `session`.

/// `println!`, except that a closed pipe (`panacea score … | head`) is an error and not a panic.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write;
        writeln!(std::io::stdout().lock(), $($arg)*)?
    }};
}

/// Tells what a person may want to know, on standard error.
macro_rules! note {
    ($($arg:tt)*) => { panacea_runs::tell(panacea_runs::Level::Note, &format!($($arg)*)) };
}

/// Tells what a person asked for in a conversation, beside the answers on standard output.
macro_rules! reply {
    ($($arg:tt)*) => { panacea_runs::tell(panacea_runs::Level::Reply, &format!($($arg)*)) };
}

/// Tells what is surely not meant.
macro_rules! warn {
    ($($arg:tt)*) => { panacea_runs::tell(panacea_runs::Level::Warning, &format!($($arg)*)) };
}

mod commands;
mod evaluation;
mod input;
mod session;
mod shell;
mod terminal;

use std::env;
use std::process::ExitCode;

use panacea_runs::{Level, tell};

fn main() -> ExitCode {
    leave_wayland_alone();
    let command = commands::parse();
    panacea_model::compute_on_this_thread();
    match command.run() {
        Ok(code) => code,
        // Whoever reads our output has seen enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tell(Level::Error, &message(&error));
            ExitCode::FAILURE
        }
    }
}

/// Mesa's choice among Vulkan devices asks Wayland for the screen, and where there is none (a server, a container), that
/// library prints an error, again and again. Nothing is drawn here, so it need not ask.
fn leave_wayland_alone() {
    if env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: `main` calls this first, when there is no other thread that could read the environment.
        unsafe { env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// An error and its causes on one line; a cause that an error quotes in its own text is not said again.
fn message(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let quoting = anyhow::anyhow!("no such file").context("cannot read a.toml: no such file");
        assert_eq!(message(&quoting), "cannot read a.toml: no such file");
        let plain = Err::<(), _>(anyhow::anyhow!("no such file")).context("cannot read a.toml");
        assert_eq!(
            message(&plain.unwrap_err()),
            "cannot read a.toml: no such file"
        );
    }
}
