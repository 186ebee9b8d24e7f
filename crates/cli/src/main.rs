//! `panacea`: train one adapter for every preference, steer it at run time, draw its Pareto front.
//!
//! One file a command in `commands/`; what several commands share is in `session`.

mod commands;
mod session;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let command = commands::Cli::parse();
    match command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
