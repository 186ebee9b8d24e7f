//! `train`: one adapter for every preference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use panacea_config::{Learning, Overrides, Plan, Spec};
use panacea_data::{Example, Part};
use panacea_model::Decoder;
use panacea_pretrained::Pretrained;
use panacea_reward_models::Base;
use panacea_runs::{
    EXIT_INTERRUPTED, Interrupt, ProgressMode, RunFacts, RunFolder, RunRecord, TrainingRun,
};
use panacea_serving::open_model_of;
use panacea_trainer::{Judges, Outcome, Records, References, Work, computed_by};

use crate::session::{RUNS, say_aside};
use crate::shell;

/// The version that the workspace pins.
const BURN_VERSION: &str = "0.22.1";

/// What runs without `--config`.
const QUICKSTART: &str = "configs/quickstart.toml";

/// Train an adapter for every preference at once.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask train
  cargo xtask train --config configs/smollm2-helpsteer2.toml --model models/smollm2-135m-instruct \\
      --train train.jsonl --eval test.jsonl --run first
  cargo xtask train --run first --resume
  cargo xtask train --print-config > my.toml
  cargo xtask train --config my.toml --set optimizer.steps=200 --set adapter.rank=16

Ctrl-C finishes the step, saves a checkpoint and stops; --resume goes on from there.")]
pub struct Arguments {
    /// The configuration file. Default: configs/quickstart.toml, or with --resume what the run began with.
    #[arg(long)]
    config: Option<PathBuf>,
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
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX; several of a kind with commas between them.
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
    /// Print a configuration in which every key stands with what it does: what --config and the flags say, and the
    /// default of every other key. Nothing is trained.
    #[arg(long, conflicts_with_all = ["run", "resume"])]
    print_config: bool,
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
        if self.print_config {
            return print_config(self.config.as_deref(), &overrides);
        }
        let config = self.config.clone().unwrap_or_else(|| QUICKSTART.into());
        let spec = match (&self.config, &self.run) {
            (None, Some(name)) if self.resume => {
                let path = RunFolder::locate(&self.runs, name)?;
                RunFolder::open(&path)?.record()?.plan.to_spec()
            }
            _ => Spec::read(&config)?,
        };
        let plan = Plan::resolve(spec, &overrides)?;
        for warning in plan.warnings() {
            eprintln!("warning: {warning}");
        }

        let devices = panacea_devices::select_all(plan.device())?;
        let device = &devices[0];
        let weights = plan.precision().on(device)?;
        let pretrained = open_model_of(&plan, None)?;
        let plan = match pretrained.template_asks_for_the_date()? {
            true => {
                let resumed = self.run.as_ref().filter(|_| self.resume);
                let resumed = resumed
                    .map(|name| RunFolder::locate(&self.runs, name))
                    .transpose()?;
                on_its_day(plan, resumed.as_deref())?
            }
            false => plan,
        };
        let pretrained = Arc::new(pretrained.with_chat(plan.chat().clone()));
        let tokenizer = pretrained.tokenizer()?;
        say_aside(&tokenizer.notes());
        let train = Records::load(&plan, Part::Train, &plan.data().train, tokenizer)?;
        eprintln!("training records\n{}", train.report);
        eprintln!("positions   {}", positions(&train.examples));
        let plan = plan.with_ideal_of(&train.examples)?;
        let eval = Records::load_held_out(&plan, &[], tokenizer)?;
        if let Some(eval) = &eval {
            eprintln!("held-out records\n{}", eval.report);
        }

        let facts = facts(&plan, &pretrained)?;
        let record = RunRecord { plan, facts };
        let stem = config
            .file_stem()
            .map_or_else(|| "run".into(), |s| s.to_string_lossy());
        let path = match &self.run {
            Some(name) => RunFolder::locate(&self.runs, name)?,
            None => RunFolder::fresh(&self.runs, &stem, chrono::Local::now()),
        };
        let (run, notes) = TrainingRun::create_or_resume(&path, &record, self.resume)?;
        for note in notes {
            eprintln!("note: {note}");
        }
        eprintln!(
            "run {} in {}",
            run.folder().name(),
            run.folder().path().display()
        );

        let base = Base {
            decoder: Arc::new(Decoder::load_in(&pretrained, device, weights)?),
            pretrained: Arc::clone(&pretrained),
        };
        let replicas = (devices[1..].iter())
            .map(|device| Decoder::load_in(&pretrained, device, weights))
            .collect::<Result<Vec<_>, _>>()?;
        let fingerprint = &record.facts.model_fingerprint;
        let references = match record.plan.method().learning.needs_reference() {
            true => References::open(
                &self.runs,
                fingerprint,
                &computed_by(record.plan.device(), weights),
            )?,
            false => References::in_memory(),
        };
        let decode = |tokens: &[u32]| Ok(tokenizer.decode(tokens, true)?);
        let judges = match record.plan.method().learning {
            Learning::Rlhf(_) => {
                let stop = tokenizer.stop_ids();
                let (judges, apart) = Judges::open(&record.plan, &base, &decode, stop)?;
                for path in apart {
                    eprintln!(
                        "reward model {}: weights of its own, beside the policy's",
                        path.display()
                    );
                }
                Some(judges)
            }
            Learning::Supervised(_) => None,
        };
        let work = Work {
            judges: judges.as_ref(),
            model: &base.decoder,
            replicas: &replicas,
            train: &train.examples,
            eval: &eval.map(|loaded| loaded.examples).unwrap_or_default(),
            references,
            interrupt: Interrupt::install()?,
            progress: ProgressMode::Auto,
            note: &|note| eprintln!("{note}"),
        };
        let runs = shell::runs(&self.runs);
        match work.carry_out(&record, &run)? {
            Outcome::Finished => {
                say!("run       {}", run.folder().path().display());
                let command = match record.plan.method().is_reward_model() {
                    true => "eval-reward",
                    false => "eval-front",
                };
                say!(
                    "next      cargo xtask {command} --run {}{runs}",
                    shell::word(run.folder().name())
                );
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Interrupted { step } => {
                eprintln!(
                    "stopped after step {step}; go on with cargo xtask train --run {}{runs} --resume",
                    shell::word(run.folder().name())
                );
                Ok(ExitCode::from(EXIT_INTERRUPTED as u8))
            }
        }
    }
}

/// The plan on the day on which its run began, for the chat template: today, unless `resumed` goes on.
fn on_its_day(plan: Plan, resumed: Option<&Path>) -> Result<Plan> {
    let began = match resumed {
        Some(run) => RunFolder::open(run)?.record()?.plan.chat().date.clone(),
        None => None,
    };
    Ok(plan.on_day(|| began.unwrap_or_else(|| chrono::Local::now().format("%F").to_string())))
}

/// What a pass over all records computes, and what it would without packing.
fn positions(examples: &[Example]) -> String {
    let packed: usize = examples.iter().map(Example::rows).sum();
    let apart = |example: &Example| -> usize {
        let responses = example.responses.iter().map(Vec::len);
        responses.map(|tokens| example.prompt.len() + tokens).sum()
    };
    let apart: usize = examples.iter().map(apart).sum();
    let share = 100.0 * packed as f64 / apart.max(packed) as f64;
    format!(
        "{packed}, none of them padding; {share:.0} % of what responses with a prompt each take"
    )
}

/// Prints `config` with every key; without one, the default of each.
fn print_config(config: Option<&Path>, overrides: &Overrides) -> Result<ExitCode> {
    let spec = match config {
        Some(path) => {
            let spec = Spec::read(path)?;
            for warning in Plan::resolve(spec.clone(), overrides)?.warnings() {
                eprintln!("warning: {warning}");
            }
            spec
        }
        None => Spec::default(),
    };
    say!("{}", spec.with_every_key(overrides)?.trim());
    Ok(ExitCode::SUCCESS)
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
    let [tokenizer, template] = pretrained.tokenizer()?.fingerprints();
    Ok(RunFacts {
        panacea: env!("CARGO_PKG_VERSION").to_owned(),
        burn: BURN_VERSION.to_owned(),
        model_fingerprint: pretrained.fingerprint()?,
        tokenizer_fingerprint: Some(tokenizer.to_owned()),
        template_fingerprint: Some(template.to_owned()),
        data_fingerprints,
        gone: Vec::new(),
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
