//! `train`: one adapter for every preference.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use panacea_config::{Overrides, Plan, Spec};
use panacea_runs::{EXIT_INTERRUPTED, Extension, Interrupt, RunFolder, TrainingRun};
use panacea_trainer::{Outcome, Preparation, References, Schedule, Work, computed_by};

use super::dry_run::dry_run;
use super::plan_arguments::PlanArguments;
use super::quickstart;
use crate::session::{RUNS, on_device};
use crate::shell;

/// Train an adapter for every preference at once.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask train
  cargo xtask train --config configs/smollm2-helpsteer2.toml --model models/smollm2-135m-instruct \\
      --train train.jsonl --eval test.jsonl --run first
  cargo xtask train --dry-run
  cargo xtask train --run first --resume
  cargo xtask train --run first --resume --steps 400
  cargo xtask train --print-config > my.toml
  cargo xtask train --config my.toml --set optimizer.steps=200 --set adapter.rank=16

Ctrl-C finishes the step, saves a checkpoint and stops; --resume goes on from there. With more --steps than the run had, finished
or not, it goes on to that many; the learning rate is from there on that of a run of so many steps, as in Hugging Face's Trainer.
Whatever else decides the numbers has to stay.")]
pub struct Arguments {
    /// The configuration file. Default: the quickstart, which is written into the folder `quickstart` where there is no
    /// configs/quickstart.toml; with --resume, what the run began with.
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    over: PlanArguments,
    /// The run's name, a folder under --runs. Default: date, time and the configuration's name.
    #[arg(long)]
    run: Option<String>,
    /// Go on with the run from its last checkpoint, or with more --steps beyond its end.
    #[arg(long, requires = "run")]
    resume: bool,
    /// Where runs are kept.
    #[arg(long, default_value = RUNS)]
    runs: PathBuf,
    /// Print a configuration in which every key stands with what it does: what --config and the flags say, and the
    /// default of every other key. Nothing is trained.
    #[arg(long, conflicts_with_all = ["run", "resume"])]
    print_config: bool,
    /// Read the data and do a few steps, and say what the training and its evaluation will take on this machine: time,
    /// memory, parameters. Nothing is written.
    #[arg(long, conflicts_with_all = ["run", "resume", "print_config"])]
    dry_run: bool,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let overrides = self.over.overrides();
        if self.print_config {
            return print_config(self.config.as_deref(), &overrides);
        }
        let named = self.run.as_ref();
        let named = named.map(|name| RunFolder::locate(&self.runs, name));
        let named = named.transpose()?;
        let resumed = named.as_deref().filter(|_| self.resume);
        let (config, spec) = match (&self.config, resumed) {
            (None, Some(path)) => {
                let record = RunFolder::open(path)?.record()?;
                (path.to_owned(), record.plan.to_spec())
            }
            (given, _) => {
                let config = given.clone().map_or_else(quickstart::configuration, Ok)?;
                let spec = Spec::read(&config)?;
                (config, spec)
            }
        };
        let prepared = Preparation::of(Plan::resolve(spec, &overrides)?, resumed)?;
        let record = prepared.record()?;
        let device = Some(record.plan.device());
        if self.dry_run {
            return on_device(device, || dry_run(&prepared, &record, &self.runs));
        }
        let path = named.unwrap_or_else(|| {
            let stem = config.file_stem();
            let stem = stem.map_or_else(|| "run".into(), |stem| stem.to_string_lossy());
            RunFolder::fresh(&self.runs, &stem, chrono::Local::now())
        });
        let (run, notes) = TrainingRun::create_or_resume(&path, &record, self.resume)?;
        for note in notes {
            note!("note: {note}");
        }
        if let Some(extension) = run.extension() {
            note!("{}", extended(run.folder(), extension, &record.plan));
        }
        note!(
            "run {} in {}",
            run.folder().name(),
            run.folder().path().display()
        );

        let fingerprint = &record.facts.model_fingerprint;
        let references = match record.plan.method().learning.needs_reference() {
            true => References::open(
                &self.runs,
                fingerprint,
                &computed_by(record.plan.device(), prepared.weights),
            )?,
            false => References::in_memory(),
        };
        let (folder, plan) = (run.folder(), &record.plan);
        let carry_out = |work: Work<'_>| -> Result<Outcome> {
            let interrupt = Interrupt::install()?;
            Ok(Work { interrupt, ..work }.carry_out(&record, &run)?)
        };
        match on_device(device, || prepared.with_work(references, carry_out))? {
            Outcome::Finished => {
                say!("run       {}", folder.path().display());
                say!("next      {}", shell::measure(folder, plan, &self.runs));
                if plan.evaluation_files(&[]).is_empty() {
                    say!("          FILE stands for records that it was not trained on");
                }
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Interrupted { step } => {
                reply!(
                    "stopped after step {step}; go on with {} train{} --resume",
                    shell::program(),
                    shell::run(folder, &self.runs)
                );
                Ok(ExitCode::from(EXIT_INTERRUPTED as u8))
            }
        }
    }
}

/// Prints `config` with every key; without one, the default of each.
fn print_config(config: Option<&Path>, overrides: &Overrides) -> Result<ExitCode> {
    let spec = match config {
        Some(path) => {
            let spec = Spec::read(path)?;
            for warning in Plan::resolve(spec.clone(), overrides)?.warnings() {
                warn!("{warning}");
            }
            spec
        }
        None => Spec::default(),
    };
    say!("{}", spec.with_every_key(overrides)?.trim());
    Ok(ExitCode::SUCCESS)
}

/// What more steps than a run had do to its learning rate.
fn extended(run: &RunFolder, extension: Extension, plan: &Plan) -> String {
    let Extension { at, from, to } = extension;
    let optimizer = plan.optimizer();
    let going_on = match at {
        Some(at) => format!("going on from step {at}"),
        None => "each of its trainings".to_owned(),
    };
    let mut text = format!("extended    from {from} to {to} steps, {going_on}\n");
    let rates = at.filter(|&at| at > 0).map(|at| {
        let rate = |steps: usize, finished: usize| {
            optimizer.learning_rate * Schedule::of(optimizer, steps).factor(finished)
        };
        format!(
            ": step {at} had {:.3e}, step {} has {:.3e}",
            rate(from, at - 1),
            at + 1,
            rate(to, at)
        )
    });
    text += &format!(
        "            the learning rate is from here on that of a run of {to} steps{}",
        rates.unwrap_or_default()
    );
    if run.adapter().exists() {
        let kept = run.adapter_of(from);
        text += &format!(
            "\n            what it had come to is kept in {}",
            kept.display()
        );
    }
    text
}
