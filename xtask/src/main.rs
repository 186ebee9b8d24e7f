//! `cargo xtask …`: the one door to the workspace.
//!
//! ```text
//! cargo xtask train --device cuda --config FILE
//!   │  features   the arguments name a device: which cargo features does that take?                → [cuda]
//!   │  build      cargo build --release -p panacea-cli --features cuda          (progress on standard error)
//!   └─ launch     becomes target/release/panacea train --device cuda …      (same folder, input, output, signals)
//! ```
//!
//! Whatever `xtask` does not know is a command of `panacea`, so a new command of the binary needs no change here.
//! It has no dependencies on Unix: the binary takes minutes to build, the door to it a second.

mod browser;
mod build;
mod checks;
mod clients;
mod dependencies;
mod examples;
mod features;
mod graphics;
mod guide;
mod launch;
mod system;

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

const HELP: &str = "\
Panacea: one language model, steered online by a preference vector.

Usage: cargo xtask <COMMAND> [OPTIONS]

Commands of the panacea binary (built in release first, for the --device that is asked for):
  fetch        Download a model into models/
  train        Train an adapter for every preference at once
  eval-front   Measure and draw the Pareto front of a run
  eval-reward  Measure a reward model: accuracy beside a rule of length, calibration
  generate     Answer a prompt under a preference
  serve        Answer over HTTP, each request under its own preference
  chat         A conversation in the terminal, under a preference that changes whenever you want
  elicit       Find a person's preference from a few comparisons of answers
  score        Log-probabilities of given responses
  export       Write a run for llama.cpp, PEFT or transformers, with every preference or at one
  push         Upload an exported folder to the Hugging Face hub
  runs         List runs, look at one, compare two, remove some
  config       Keys of a configuration, a file to begin with, and what training would refuse
  indicators   Hypervolume and the other indicators of a table of points
  devices      List the devices that are present
  completions  Completion of commands and options for your shell
Options of a command: cargo xtask <COMMAND> --help

Chores:
  bench peers  Run PyTorch and Panacea in turn on the same work, and print a table of ratios
  bench gpu    The same for DPO steps on a GPU
  reproduce    Run again what docs/results.md reports: quickstart, rewards, elicit
  ci           Formatting, lints, documentation and tests of the whole workspace, and what it depends on
  examples     Run the example programs of the crates, which cargo test has built
  guide        Build the guide, a book, into target/guide; with --check, run its commands too
  advisories   Renew the list of known faults of dependencies, from the folder of RustSec's database
  help         This page

Devices: --device flex (the CPU, default), wgpu, vulkan, cuda; each is compiled in when first asked for.

Examples:
  cargo xtask fetch smollm2-135m-instruct
  cargo xtask train --config configs/smollm2-helpsteer2.toml --model models/smollm2-135m-instruct \\
      --train train.jsonl --eval test.jsonl --run first
  cargo xtask eval-front --run first --eval test.jsonl
  cargo xtask generate --model models/smollm2-135m-instruct --run first --preference 0.3,0.7 --prompt 'Why is the sky blue?'
  cargo xtask serve --model models/smollm2-135m-instruct --run first
";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let outcome = match Command::of(&arguments) {
        Command::Help => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Command::Ci => checks::run(),
        Command::Examples => examples::all().map(|()| ExitCode::SUCCESS),
        Command::Guide => guide_of(&arguments[1..]),
        Command::Advisories => match &arguments[1..] {
            [folder] => dependencies::renew(Path::new(folder)).map(|()| ExitCode::SUCCESS),
            _ => Err(Failure::new(
                "cargo xtask advisories FOLDER takes a checkout of https://github.com/rustsec/advisory-db",
            )),
        },
        Command::Peers => build::benches("peers", &BTreeSet::new())
            .and_then(|binary| launch::become_program(&binary, &arguments[2..])),
        Command::Gpu => build::benches("gpu", &features::of_gpu_bench(&arguments[2..]))
            .and_then(|binary| launch::become_program(&binary, &arguments[2..])),
        Command::Reproduce => commands_of_reproduce(&arguments[1..])
            .and_then(|()| build::benches("reproduce", &BTreeSet::new()))
            .and_then(|binary| launch::become_program(&binary, &arguments[1..])),
        Command::Misspelt => Err(Failure::new(
            "cargo xtask bench takes `peers` or `gpu`, and cargo xtask ci and examples take nothing",
        )),
        Command::Panacea => build::panacea(&features::needed(&arguments))
            .and_then(|binary| launch::become_program(&binary, &arguments)),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("error: {}", failure.message);
        ExitCode::from(failure.code)
    })
}

/// `cargo xtask guide`, which prints the path of the first page, and `cargo xtask guide --check`.
fn guide_of(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    match arguments {
        [] => guide::build().map(|page| println!("{}", page.display()))?,
        [check] if check == "--check" => guide::check()?,
        _ => return Err(Failure::new("cargo xtask guide takes --check or nothing")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds `panacea` where what is reproduced types its commands, which all but simulated people do.
fn commands_of_reproduce(arguments: &[OsString]) -> Result<(), Failure> {
    if arguments.first().is_some_and(|what| what == "elicit") {
        return Ok(());
    }
    build::panacea(&BTreeSet::new()).map(|_| ())
}

/// Who answers.
#[derive(Debug, PartialEq)]
enum Command {
    Help,
    Ci,
    Examples,
    Guide,
    Advisories,
    Peers,
    Gpu,
    Reproduce,
    /// A chore with other words than it takes; it would take minutes to hear that from the binary.
    Misspelt,
    Panacea,
}

impl Command {
    fn of(arguments: &[OsString]) -> Self {
        let words: Vec<_> = arguments.iter().map(|word| word.to_str()).collect();
        match words[..] {
            [] | [Some("help" | "-h" | "--help")] => Self::Help,
            [Some("ci")] => Self::Ci,
            [Some("examples")] => Self::Examples,
            [Some("guide"), ..] => Self::Guide,
            [Some("advisories"), ..] => Self::Advisories,
            [Some("bench"), Some("peers"), ..] => Self::Peers,
            [Some("bench"), Some("gpu"), ..] => Self::Gpu,
            [Some("reproduce"), ..] => Self::Reproduce,
            [Some("bench" | "ci" | "examples"), ..] => Self::Misspelt,
            _ => Self::Panacea,
        }
    }
}

/// Why `xtask` itself could not do its part, and the exit code that says so.
/// A command that ran and failed is not a failure of `xtask`: its own exit code is passed on.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }

    fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        Command::of(&words)
    }

    #[test]
    fn only_its_own_words_stay_here() {
        for line in ["", "help", "--help", "-h"] {
            assert_eq!(command(line), Command::Help, "{line:?}");
        }
        assert_eq!(command("ci"), Command::Ci);
        assert_eq!(command("guide"), Command::Guide);
        assert_eq!(command("guide --check"), Command::Guide);
        assert_eq!(command("advisories folder"), Command::Advisories);
        assert_eq!(command("advisories"), Command::Advisories);
        assert_eq!(command("bench peers --rounds 1"), Command::Peers);
        assert_eq!(command("bench gpu --device wgpu"), Command::Gpu);
        for line in ["ci --fast", "bench", "bench peer", "examples x"] {
            assert_eq!(command(line), Command::Misspelt, "{line:?}");
        }
        assert_eq!(command("reproduce quickstart"), Command::Reproduce);
        assert_eq!(command("reproduce rewards --only m2"), Command::Reproduce);
        assert_eq!(command("reproduce elicit --users 20"), Command::Reproduce);
        for line in [
            "train",
            "train --help",
            "help train",
            "--version",
            "no-such-command",
        ] {
            assert_eq!(command(line), Command::Panacea, "{line:?}");
        }
    }
}
