//! The commands, one file each.

mod chat;
mod completions;
mod config;
mod devices;
mod dry_run;
mod elicit;
mod eval_front;
mod eval_reward;
mod export;
mod fetch;
mod generate;
mod indicators;
mod plan_arguments;
mod push;
mod quickstart;
mod runs;
mod score;
mod serve;
mod train;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use panacea_runs::{LogFormat, Telling, tell_so};

use crate::session::on_device;
use crate::shell;

/// One language model, steered online by a preference vector.
#[derive(Parser)]
#[command(name = "panacea", version)]
pub struct Cli {
    /// Only results on standard output, and warnings and errors on standard error.
    #[arg(long, global = true)]
    quiet: bool,
    /// How notes, warnings and progress stand on standard error: as text, or an object of JSON on each line with time, level,
    /// event and message, and of a training step its number, the time left and the metrics.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "FORMAT"
    )]
    log_format: Format,
    /// The device that the command names.
    #[arg(skip)]
    device: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
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
    Runs(runs::Arguments),
    Config(config::Arguments),
    Fetch(fetch::Arguments),
    Completions(completions::Arguments),
    Devices(devices::Arguments),
}

/// What the command line asks for; a mistake in it ends the process with a message.
pub fn parse() -> Cli {
    let matches = command().get_matches();
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let of_command = matches.subcommand().map(|(_, of_command)| of_command);
    let device = of_command.and_then(|of| of.try_get_one::<String>("device").ok().flatten());
    cli.device = device.cloned();
    cli
}

/// All commands, with examples as this program was called.
fn command() -> clap::Command {
    let all = Cli::command().bin_name(shell::program());
    let names: Vec<String> = (all.get_subcommands())
        .map(|command| command.get_name().to_owned())
        .collect();
    names.iter().fold(all, |all, name| {
        all.mut_subcommand(name, |command| match command.get_after_help() {
            Some(examples) => {
                let examples = shell::as_called(&examples.to_string());
                command.after_help(examples)
            }
            None => command,
        })
    })
}

impl Cli {
    /// Runs the command that was asked for.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        tell_so(Telling {
            quiet: self.quiet,
            format: match self.log_format {
                Format::Text => LogFormat::Text,
                Format::Json => LogFormat::Json,
            },
            wording: shell::as_called,
        });
        on_device(self.device.as_deref(), || match self.command {
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
            Command::Runs(arguments) => arguments.run(),
            Command::Config(arguments) => arguments.run(),
            Command::Fetch(arguments) => arguments.run(),
            Command::Completions(arguments) => arguments.run(),
            Command::Devices(arguments) => arguments.run(),
        })
    }
}
