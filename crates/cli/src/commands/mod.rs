//! The commands, one file each.

mod chat;
mod config;
mod devices;
mod elicit;
mod eval_front;
mod eval_reward;
mod export;
mod fetch;
mod generate;
mod indicators;
mod preparation;
mod push;
mod score;
mod serve;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// One language model, steered online by a preference vector.
#[derive(Parser)]
#[command(version, bin_name = "cargo xtask")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(train::Arguments),
    EvalFront(eval_front::Arguments),
    EvalReward(eval_reward::Arguments),
    Generate(generate::Arguments),
    Chat(chat::Arguments),
    Score(score::Arguments),
    Serve(serve::Arguments),
    Elicit(elicit::Arguments),
    Export(export::Arguments),
    Push(push::Arguments),
    Indicators(indicators::Arguments),
    Config(config::Arguments),
    Fetch(fetch::Arguments),
    Devices(devices::Arguments),
}

impl Cli {
    /// Runs the command that was asked for.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Train(arguments) => arguments.run(),
            Command::EvalFront(arguments) => arguments.run(),
            Command::EvalReward(arguments) => arguments.run(),
            Command::Generate(arguments) => arguments.run(),
            Command::Chat(arguments) => arguments.run(),
            Command::Score(arguments) => arguments.run(),
            Command::Serve(arguments) => arguments.run(),
            Command::Elicit(arguments) => arguments.run(),
            Command::Export(arguments) => arguments.run(),
            Command::Push(arguments) => arguments.run(),
            Command::Indicators(arguments) => arguments.run(),
            Command::Config(arguments) => arguments.run(),
            Command::Fetch(arguments) => arguments.run(),
            Command::Devices(arguments) => arguments.run(),
        }
    }
}
