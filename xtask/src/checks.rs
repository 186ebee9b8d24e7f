//! `cargo xtask ci`: what has to hold before a change goes in, cheapest first.

use std::process::ExitCode;

use crate::Failure;
use crate::build::{cannot_start, cargo, workspace};

struct Check {
    name: &'static str,
    /// What cargo is called with.
    arguments: &'static str,
    rustdoc_flags: &'static str,
}

const CHECKS: [Check; 4] = [
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
    // Without the flags of the check before: they would count for the examples in the documentation.
    Check {
        name: "tests",
        arguments: "test --workspace --locked",
        rustdoc_flags: "",
    },
];

/// Runs every check to its end, so that one call shows all that is wrong.
pub fn run() -> Result<ExitCode, Failure> {
    let mut failed = Vec::new();
    for check in CHECKS {
        eprintln!("==> {}: cargo {}", check.name, check.arguments);
        let mut program = cargo();
        program
            .args(check.arguments.split(' '))
            .env("RUSTDOCFLAGS", check.rustdoc_flags)
            .current_dir(workspace());
        let status = program
            .status()
            .map_err(|error| cannot_start(&program, &error))?;
        if !status.success() {
            failed.push(check.name);
        }
    }
    if failed.is_empty() {
        eprintln!("==> all checks passed");
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::new(format!("failed: {}", failed.join(", "))))
    }
}
