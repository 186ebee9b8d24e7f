//! `cargo xtask ci`: what has to hold before a change goes in. This is the only list of it: the test command
//! of README and the project's CI call it.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::build::{cannot_start, cargo, this_program, workspace};
use crate::{Failure, browser, clients, dependencies, graphics};

struct Check {
    name: &'static str,
    program: Program,
    /// What it is called with. All calls of cargo but that for CUDA are about the whole workspace with WGPU in it, so that all of
    /// them find the same features and nothing is compiled twice for the sake of others.
    arguments: &'static str,
    environment: Option<(&'static str, &'static str)>,
}

const CHECKS: &[Check] = &[
    Check {
        name: "formatting",
        program: Program::Cargo,
        arguments: "fmt --all --check",
        environment: None,
    },
    Check {
        name: "lints",
        program: Program::Cargo,
        arguments: "clippy --workspace --all-targets --features panacea-cli/wgpu --locked -- -D warnings",
        environment: None,
    },
    Check {
        name: "documentation",
        program: Program::Cargo,
        arguments: "doc --workspace --no-deps --features panacea-cli/wgpu --locked",
        environment: Some(("RUSTDOCFLAGS", "-D warnings")),
    },
    Check {
        name: "build",
        program: Program::Cargo,
        arguments: "test --workspace --features panacea-cli/wgpu --locked --no-run",
        environment: None,
    },
    Check {
        name: "tests",
        program: Program::Cargo,
        arguments: "test --workspace --features panacea-cli/wgpu --locked",
        environment: None,
    },
    Check {
        name: "WGPU",
        program: Program::CargoOnWgpu,
        arguments: "test --workspace --features panacea-cli/wgpu --locked --test devices",
        environment: None,
    },
    Check {
        name: "examples",
        program: Program::Xtask,
        arguments: "examples",
        environment: None,
    },
    Check {
        name: "packages",
        program: Program::Cargo,
        arguments: "package --workspace --exclude xtask --exclude panacea-benches --exclude panacea-device-suite \
                    --exclude panacea-fuzzing --exclude panacea-test-support --no-verify --allow-dirty --locked --quiet",
        environment: None,
    },
    Check {
        name: "newcomer",
        program: Program::Newcomer,
        arguments: "",
        environment: None,
    },
    Check {
        name: "clients",
        program: Program::Integration("openai"),
        arguments: "",
        environment: None,
    },
    Check {
        name: "llama.cpp",
        program: Program::Integration("llama_cpp"),
        arguments: "",
        environment: None,
    },
    Check {
        name: "vLLM",
        program: Program::Integration("vllm"),
        arguments: "",
        environment: None,
    },
    Check {
        name: "page",
        program: Program::Browser,
        arguments: "",
        environment: None,
    },
    Check {
        name: "guide",
        program: Program::Xtask,
        arguments: "guide --check",
        environment: None,
    },
    // What is compiled for CUDA only, by its types: the variable keeps the build scripts below from asking for LLVM.
    Check {
        name: "CUDA",
        program: Program::Cargo,
        arguments: "clippy --package panacea-devices --package panacea-kernels --package panacea-benches --bins --lib \
                    --features panacea-benches/cuda --locked -- -D warnings",
        environment: Some(("DOCS_RS", "1")),
    },
    // The crate for libFuzzer has a lock file of its own. What it calls is tested above, and that it calls it: nothing is compiled.
    Check {
        name: "fuzzing",
        program: Program::Cargo,
        arguments: "tree --manifest-path fuzz/Cargo.toml --locked --depth 0",
        environment: None,
    },
    Check {
        name: "dependencies",
        program: Program::CargoDeny,
        arguments: "--offline check",
        environment: None,
    },
];

#[derive(Clone, Copy)]
enum Program {
    Cargo,
    /// Likewise, on a device of WGPU, whose driver is fetched where there is none.
    CargoOnWgpu,
    /// The folder of `integrations` that needs nothing but Python.
    Newcomer,
    /// Not one of cargo's own: it is fetched when it is first called.
    CargoDeny,
    /// Likewise; a folder of `integrations`.
    Integration(&'static str),
    /// Likewise.
    Browser,
    /// This program.
    Xtask,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cargo => f.write_str("cargo"),
            Self::CargoOnWgpu => f.write_str("PANACEA_DEVICE=wgpu cargo"),
            Self::Newcomer => f.write_str("integrations/newcomer/check.py"),
            Self::CargoDeny => f.write_str("cargo-deny"),
            Self::Integration(name) => write!(f, "integrations/{name}/check.py"),
            Self::Browser => f.write_str("integrations/page/check.mjs"),
            Self::Xtask => f.write_str("cargo xtask"),
        }
    }
}

impl Check {
    /// Whether it passes.
    fn run(&self) -> Result<bool, Failure> {
        let mut program = match self.program {
            Program::Cargo => cargo(),
            Program::CargoOnWgpu => graphics::on_wgpu()?,
            Program::Newcomer => clients::newcomer()?,
            Program::CargoDeny => dependencies::cargo_deny()?,
            Program::Integration(name) => clients::integration(name)?,
            Program::Browser => browser::page()?,
            Program::Xtask => Command::new(this_program()?),
        };
        program
            .args(self.arguments.split_whitespace())
            .env_remove("RUSTDOCFLAGS")
            .envs(self.environment)
            .current_dir(workspace());
        let status = program.status();
        let status = status.map_err(|error| cannot_start(&program, &error))?;
        Ok(status.success())
    }
}

/// Runs every check to its end, so that one call shows all that is wrong, and says how long each took.
pub fn run() -> Result<ExitCode, Failure> {
    let mut failed = Vec::new();
    let mut summary = String::new();
    for check in CHECKS {
        eprintln!(
            "\n==> {}: {} {}",
            check.name, check.program, check.arguments
        );
        let start = Instant::now();
        let passed = check.run().unwrap_or_else(|failure| {
            eprintln!("error: {}", failure.message);
            false
        });
        let seconds = start.elapsed().as_secs();
        let verdict = if passed { "" } else { "  FAILED" };
        summary += &format!("    {:<14} {seconds:>5} s{verdict}\n", check.name);
        if !passed {
            failed.push(check.name);
        }
    }
    eprint!("\n==> how long it took\n{summary}");
    let gigabytes = size(&workspace().join("target")) as f64 / 1e9;
    eprintln!("==> target holds {gigabytes:.1} GB at most");
    if failed.is_empty() {
        eprintln!("==> all checks passed");
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::new(format!("failed: {}", failed.join(", "))))
    }
}

/// The bytes of all files below `folder`: one with several names, as cargo gives to programs, counts for each; one that vanishes
/// meanwhile for nothing.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
