//! `config`: what a configuration may say, files to begin with, whether one can be trained, and a schema for editors.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Subcommand};
use panacea_config::{BEGINNINGS, Plan, Spec};
use panacea_trainer::{Preparation, open_scorers};

use super::plan_arguments::PlanArguments;
use crate::shell;

/// Find the keys of a configuration, begin one, and check it.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask config keys
  cargo xtask config keys adapter
  cargo xtask config keys optimizer.steps
  cargo xtask config init --from dpo my.toml
  cargo xtask config check my.toml --train train.jsonl
  cargo xtask config schema > panacea.schema.json")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keys with their defaults and values: all of them, or those of a section, or one, with what they do.
    Keys {
        /// A section such as adapter, or a key such as adapter.rank.
        name: Option<String>,
    },
    /// A configuration to begin with, in which every key stands with what it does.
    Init {
        /// What is to be trained.
        #[arg(long, value_parser = PossibleValuesParser::new(BEGINNINGS.map(|beginning| {
            PossibleValue::new(beginning.name).help(beginning.about)
        })))]
        from: String,
        /// The new file; printed if not given.
        file: Option<PathBuf>,
    },
    /// All that training would refuse, without training: the configuration, the device, the model and its weights, every record,
    /// and what scores answers.
    Check {
        /// The configuration.
        file: PathBuf,
        #[command(flatten)]
        over: PlanArguments,
    },
    /// A JSON Schema of configurations, for editors that know TOML: the first line of a file names it,
    /// `#:schema ./panacea.schema.json`.
    Schema,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Keys { name: None } => say!("{}", panacea_config::keys().trim_end()),
            Command::Keys { name: Some(name) } => {
                say!("{}", panacea_config::about(&name)?.trim_end());
            }
            Command::Init { from, file } => init(&from, file)?,
            Command::Check { file, over } => check(&file, over)?,
            Command::Schema => {
                say!(
                    "{}",
                    serde_json::to_string_pretty(&panacea_config::json_schema())?
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn check(file: &Path, over: PlanArguments) -> Result<()> {
    let plan = Plan::resolve(Spec::read(file)?, &over.overrides())?;
    let prepared = Preparation::of(plan, None)?;
    let base = prepared.base()?;
    // Programs are started and reward models are read.
    open_scorers(&prepared.plan, &base)?;
    let records = prepared.train.examples.len();
    say!(
        "fine      {}: {} steps on {records} records",
        file.display(),
        prepared.plan.optimizer().total_steps(records)
    );
    Ok(())
}

fn init(from: &str, file: Option<PathBuf>) -> Result<()> {
    let beginning = BEGINNINGS.iter().find(|beginning| beginning.name == from);
    let text = beginning.context("no such beginning")?.file()?;
    let Some(path) = file else {
        say!("{}", text.trim_end());
        return Ok(());
    };
    // What is there already is somebody's work.
    let mut file = File::create_new(&path)
        .with_context(|| format!("cannot write {}, which is to be a new file", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    say!("config    {}", path.display());
    say!(
        "next      {} train --config {}",
        shell::program(),
        shell::word(&path)
    );
    Ok(())
}
