//! `cargo xtask ci`: what has to hold before a change goes in, cheapest first. This is the only list of it: the test command
//! of README and the project's CI call it.

use std::process::ExitCode;
use std::time::Instant;

use crate::Failure;
use crate::build::{cannot_start, cargo, workspace};

struct Check {
    name: &'static str,
    /// What cargo is called with. All calls are about the whole workspace, so that all of them find the same features and
    /// nothing is compiled twice for the sake of others.
    arguments: &'static str,
    rustdoc_flags: &'static str,
}

const CHECKS: [Check; 5] = [
    Check {
        name: "formatting",
        arguments: "fmt --all --check",
        rustdoc_flags: "",
    },
    Check {
        name: "lints",
        arguments: "clippy --workspace --all-targets --locked -- -D warnings",
        rustdoc_flags: "",
    },
    Check {
        name: "documentation",
        arguments: "doc --workspace --no-deps --locked",
        rustdoc_flags: "-D warnings",
    },
    Check {
        name: "build",
        arguments: "test --workspace --locked --no-run",
        rustdoc_flags: "",
    },
    // Without the flags of the documentation: they would count for the examples in it.
    Check {
        name: "tests",
        arguments: "test --workspace --locked",
        rustdoc_flags: "",
    },
];

/// Runs every check to its end, so that one call shows all that is wrong, and says how long each took.
pub fn run() -> Result<ExitCode, Failure> {
    let mut failed = Vec::new();
    let mut summary = String::new();
    for check in CHECKS {
        eprintln!("\n==> {}: cargo {}", check.name, check.arguments);
        let start = Instant::now();
        let mut program = cargo();
        program
            .args(check.arguments.split(' '))
            .env("RUSTDOCFLAGS", check.rustdoc_flags)
            .current_dir(workspace());
        let status = program
            .status()
            .map_err(|error| cannot_start(&program, &error))?;
        let seconds = start.elapsed().as_secs();
        let verdict = if status.success() { "" } else { "  FAILED" };
        summary += &format!("    {:<14} {seconds:>5} s{verdict}\n", check.name);
        if !status.success() {
            failed.push(check.name);
        }
    }
    eprint!("\n==> how long it took\n{summary}");
    if failed.is_empty() {
        eprintln!("==> all checks passed");
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::new(format!("failed: {}", failed.join(", "))))
    }
}
