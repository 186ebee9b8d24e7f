//! `train`: one adapter for every preference.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use panacea_data::Part;
use panacea_model::{Decoder, select_device};
use panacea_pretrained::Pretrained;
use panacea_trainer::{
    EXIT_INTERRUPTED, Interrupt, Outcome, Overrides, Plan, ProgressMode, RunFacts, RunFolder,
    RunRecord, Spec, Training, TrainingRun, TrainingState,
};

use crate::session::{RUNS, load_examples};

/// The version that the workspace pins.
const BURN_VERSION: &str = "0.22.1";

/// Train an adapter for every preference at once.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask train --config configs/smollm2-helpsteer2.toml --model models/smollm2-135m-instruct \\
      --train train.jsonl --eval test.jsonl --run first
  cargo xtask train --config configs/smollm2-helpsteer2.toml --run first --resume
  cargo xtask train --config my.toml --set optimizer.steps=200 --set adapter.rank=16

Ctrl-C finishes the step, saves a checkpoint and stops; --resume goes on from there.")]
pub struct Arguments {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// The model to adapt, in place of model.path.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Files to train on, in place of data.train.
    #[arg(long, num_args = 1..)]
    train: Vec<PathBuf>,
    /// Held-out files, in place of data.eval.
    #[arg(long, num_args = 1..)]
    eval: Vec<PathBuf>,
    /// The run's name, a folder under --runs. Default: date, time and the configuration's name.
    #[arg(long)]
    run: Option<String>,
    /// Go on with the run from its last checkpoint.
    #[arg(long, requires = "run")]
    resume: bool,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long)]
    device: Option<String>,
    /// The seed of every random choice.
    #[arg(long)]
    seed: Option<u64>,
    /// Optimizer steps.
    #[arg(long)]
    steps: Option<usize>,
    /// Any other value, as SECTION.KEY=VALUE in TOML's syntax; may be given often.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where runs are kept.
    #[arg(long, default_value = RUNS)]
    runs: PathBuf,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let overrides = Overrides {
            model: self.model,
            train: self.train,
            eval: self.eval,
            device: self.device,
            seed: self.seed,
            steps: self.steps,
            set: self.set,
        };
        let plan = Plan::resolve(Spec::read(&self.config)?, &overrides)?;
        for warning in plan.warnings() {
            eprintln!("warning: {warning}");
        }

        let device = select_device(plan.device())?;
        let pretrained = Pretrained::open(plan.model())?;
        let tokenizer = pretrained.tokenizer()?;
        let train = load_examples(&plan, Part::Train, &plan.data().train, tokenizer)?;
        eprintln!("training records\n{}", train.report);
        let eval =
            if plan.data().eval.is_empty() && plan.objectives().iter().all(|o| o.eval.is_empty()) {
                None
            } else {
                let eval = load_examples(&plan, Part::Eval, &plan.data().eval, tokenizer)?;
                eprintln!("held-out records\n{}", eval.report);
                Some(eval)
            };

        let facts = facts(&plan, &pretrained)?;
        let base_fingerprint = facts.model_fingerprint.clone();
        let record = RunRecord { plan, facts };
        let stem = self
            .config
            .file_stem()
            .map_or_else(|| "run".into(), |s| s.to_string_lossy());
        let path = match &self.run {
            Some(name) => RunFolder::locate(&self.runs, name)?,
            None => RunFolder::fresh(&self.runs, &stem, chrono::Local::now()),
        };
        let run = if self.resume {
            let run = TrainingRun::resume(&path)?;
            for note in RunRecord::read(&run.folder().run_toml())?.check_resume(&record, &path)? {
                eprintln!("note: {note}");
            }
            run
        } else {
            TrainingRun::create(&path)?
        };

        let model = Decoder::load(&pretrained, &device)?;
        let plan = &record.plan;
        let checkpoint = if self.resume {
            run.folder().latest_checkpoint()?
        } else {
            None
        };
        let state = match checkpoint {
            Some(checkpoint) => TrainingState::load(plan, &model, &checkpoint.path)
                .with_context(|| format!("cannot go on from {}", checkpoint.path.display()))?,
            None => TrainingState::new(plan, &model, &base_fingerprint)?,
        };
        if !self.resume {
            record.write(&run.folder().run_toml())?;
        }
        eprintln!(
            "run {} in {}",
            run.folder().name(),
            run.folder().path().display()
        );

        let eval = eval.map(|loaded| loaded.examples).unwrap_or_default();
        let training = Training {
            plan,
            model: &model,
            train: &train.examples,
            eval: &eval,
        };
        match training.run(state, &run, &Interrupt::install()?, ProgressMode::Auto)? {
            Outcome::Finished => {
                say!("adapter   {}", run.folder().adapter().display());
                say!("metrics   {}", run.folder().metrics().display());
                say!(
                    "next      cargo xtask eval-front --run {}",
                    run.folder().name()
                );
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Interrupted { step } => {
                eprintln!(
                    "stopped after step {step}; go on with the same command and --run {} --resume",
                    run.folder().name()
                );
                Ok(ExitCode::from(EXIT_INTERRUPTED as u8))
            }
        }
    }
}

fn facts(plan: &Plan, pretrained: &Pretrained) -> Result<RunFacts> {
    let mut data_fingerprints = BTreeMap::new();
    let own = plan
        .objectives()
        .iter()
        .flat_map(|o| o.train.iter().chain(&o.eval));
    for file in plan.data().train.iter().chain(&plan.data().eval).chain(own) {
        data_fingerprints.insert(file.clone(), panacea_data::fingerprint(file)?);
    }
    Ok(RunFacts {
        panacea: env!("CARGO_PKG_VERSION").to_owned(),
        burn: BURN_VERSION.to_owned(),
        model_fingerprint: pretrained.fingerprint()?,
        data_fingerprints,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_the_workspace_pins() {
        let workspace = include_str!("../../../../Cargo.toml");
        assert!(workspace.contains(&format!("\"={BURN_VERSION}\"")));
    }
}
