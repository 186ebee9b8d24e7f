//! `cargo xtask reproduce`: runs again what the documentation reports, and writes its tables and pictures.

mod elicit;
mod quickstart;
mod rewards;
mod trainings;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use elicit::Elicit;
use trainings::Trainings;

#[derive(Parser)]
#[command(
    name = "reproduce",
    bin_name = "cargo xtask reproduce",
    about = "Run again what the documentation reports"
)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The world with a known front: every method with 2, 3, 5 and 10 objectives, and one setting changed at a time with 2 and
    /// 5 (groups m2, m3, m5, m10, ablation2, ablation5).
    Quickstart(Trainings),
    /// The same world by reinforcement learning, with a critic and without, with 2 and 3 objectives (groups m2, m3).
    Rewards(Trainings),
    Elicit(Elicit),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().what {
        What::Quickstart(trainings) => trainings.run(&quickstart::TABLE),
        What::Rewards(trainings) => trainings.run(&rewards::TABLE),
        What::Elicit(elicit) => elicit.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
