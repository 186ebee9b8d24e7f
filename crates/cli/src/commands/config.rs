//! `config`: what a configuration may say, files to begin with, whether one can be trained, and a schema for editors.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Subcommand};
use panacea_config::{BEGINNINGS, Beginning, Overrides, OwnFiles, Plan, Proposal, Spec};
use panacea_data::{ObjectiveSpec, Survey};
use panacea_trainer::{Preparation, open_scorers};

use super::plan_arguments::PlanArguments;
use crate::session::on_device;
use crate::shell;

/// The model of configurations to begin with, as `fetch` knows it.
const USUAL_MODEL: &str = "smollm2-135m-instruct";

/// Find the keys of a configuration, begin one, and check it.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask config keys
  cargo xtask config keys adapter
  cargo xtask config keys optimizer.steps
  cargo xtask config init --from dpo my.toml
  cargo xtask config init --from dpo my.toml --train my.jsonl --model models/smollm2-135m-instruct
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
        /// Your records: their columns are looked at, and what they could be judged by becomes objectives.
        #[arg(long, num_args = 1..)]
        train: Vec<PathBuf>,
        /// Your held-out records. Default: those of --train, on which a front flatters.
        #[arg(long, num_args = 1..)]
        eval: Vec<PathBuf>,
        /// The model to adapt.
        #[arg(long)]
        model: Option<PathBuf>,
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
            Command::Init {
                from,
                file,
                train,
                eval,
                model,
            } => init(&from, file, OwnFiles { model, train, eval })?,
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
    let typed = over.as_typed();
    let plan = Plan::resolve(Spec::read(file)?, &over.overrides())?;
    let prepared = Preparation::of(plan, None)?;
    // Programs are started and reward models are read.
    on_device(Some(prepared.plan.device()), || {
        Ok(open_scorers(&prepared.plan, &prepared.base()?)?)
    })?;
    let records = prepared.train.examples.len();
    say!(
        "fine      {}: {} steps on {records} records",
        file.display(),
        prepared.plan.optimizer().total_steps(records)
    );
    say!(
        "next      {} train --config {}{typed}",
        shell::program(),
        shell::word(file)
    );
    Ok(())
}

/// A new configuration, for somebody's own records if there are any.
fn init(from: &str, file: Option<PathBuf>, own: OwnFiles) -> Result<()> {
    let beginning = BEGINNINGS.iter().find(|beginning| beginning.name == from);
    let beginning = beginning.context("no such beginning")?;
    if let Some(model) = own.model.as_ref().filter(|model| !model.exists()) {
        bail!(
            "--model {}: there is no such file or folder",
            model.display()
        );
    }
    let mut records = own.train.iter().chain(&own.eval);
    if let Some(last) = records.find(|file| file.extension().is_some_and(|end| end == "toml")) {
        bail!(
            "{} is no file of records: --train and --eval take all names behind them, so that the new configuration stands in front",
            last.display()
        );
    }
    // What is there already is somebody's work.
    if let Some(path) = file.as_ref().filter(|path| path.exists()) {
        bail!(
            "cannot write {}, which is to be a new file, and is there already: give another name, or move it away",
            path.display()
        );
    }
    let begun = Begun::of(beginning, own)?;
    let Some(path) = file else {
        say!("{}", begun.text.trim_end());
        return Ok(());
    };
    let mut file = File::create_new(&path)
        .with_context(|| format!("cannot write {}, which is to be a new file", path.display()))?;
    file.write_all(begun.text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))?;
    say!("config    {}", path.display());
    begun.say(&path)
}

/// A configuration to begin with, and what was found for it.
struct Begun {
    text: String,
    plan: Plan,
    /// Where somebody's own records were looked at.
    found: Option<(Survey, Vec<Proposal>)>,
    /// Whether records were held out.
    is_held_out: bool,
}

impl Begun {
    fn of(beginning: &Beginning, mut own: OwnFiles) -> Result<Self> {
        let is_held_out = !own.eval.is_empty();
        let found = match &own.train[..] {
            [] => None,
            _ if !beginning.is_of_pairs => bail!(
                "--train: pairs of answers are looked at for objectives, with --from dpo or reward-model; with --from {} leave it \
                 out, and name your files and objectives in the configuration",
                beginning.name
            ),
            files => {
                let survey = Survey::of(files)?;
                let proposals = beginning.proposals(&survey);
                Some((survey, proposals))
            }
        };
        if !is_held_out {
            own.eval.clone_from(&own.train);
        }
        let of_records = found
            .as_ref()
            .map(|(survey, proposals)| (survey, &proposals[..]));
        let text = beginning.file_for(&own, of_records)?;
        let plan = Plan::resolve(Spec::from_toml(&text, "it"), &Overrides::default())?;
        Ok(Self {
            text,
            plan,
            found,
            is_held_out,
        })
    }

    /// Says what was found, and what to do next with the configuration at `path`.
    fn say(&self, path: &Path) -> Result<()> {
        let Some((survey, proposals)) = &self.found else {
            say!(
                "edit      data.train and data.eval, which stand for your files, and the objectives"
            );
            return self.say_next(path);
        };
        let formats: BTreeSet<&str> = survey.formats.iter().map(|format| format.name()).collect();
        let formats = formats.into_iter().collect::<Vec<_>>().join(", ");
        say!(
            "records   {} with two answers that differ ({formats})",
            survey.records
        );
        for proposal in proposals {
            let title = match proposal.is_taken {
                true => "objective",
                false => "left out",
            };
            let ObjectiveSpec { name, source, .. } = &proposal.objective;
            say!("{title:<10}{name} ({source}): {}", proposal.remark);
        }
        for (column, why) in &survey.others {
            say!("no use    of column {column}: {why}");
        }
        if !self.is_held_out {
            say!(
                "held out  nothing: the front will be that of the very records that are trained on, which flatters; \
                 --eval FILE, or data.eval, names others"
            );
        }
        let optimizer = self.plan.optimizer();
        say!(
            "steps     {} of {} records each: optimizer.epochs says how often all records are read",
            optimizer.total_steps(survey.records),
            optimizer.batch_size
        );
        self.say_next(path)
    }

    fn say_next(&self, path: &Path) -> Result<()> {
        let program = shell::program();
        let check = format!("{program} config check {}", shell::word(path));
        match self.plan.model().exists() {
            true => say!("next      {check}"),
            false => {
                say!("next      {program} fetch {USUAL_MODEL}");
                say!("then      {check}");
            }
        }
        Ok(())
    }
}
