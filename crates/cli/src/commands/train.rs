//! `train`: one adapter for every preference.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use panacea_config::{Learning, Overrides, Plan, Spec};
use panacea_data::Example;
use panacea_model::Decoder;
use panacea_pretrained::Pretrained;
use panacea_runs::{
    EXIT_INTERRUPTED, Interrupt, ProgressMode, RunFacts, RunFolder, RunRecord, TrainingRun,
};
use panacea_trainer::{Judges, Outcome, References, Work, computed_by};

use super::preparation::{PlanArguments, Prepared};
use super::quickstart;
use crate::session::RUNS;
use crate::shell;

/// The version that the workspace pins.
const BURN_VERSION: &str = "0.22.1";

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
    /// The configuration file. Default: the quickstart, which is written into the folder `quickstart` where there is no
    /// configs/quickstart.toml; with --resume, what the run began with.
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    over: PlanArguments,
    /// The run's name, a folder under --runs. Default: date, time and the configuration's name.
    #[arg(long)]
    run: Option<String>,
    /// Go on with the run from its last checkpoint.
    #[arg(long, requires = "run")]
    resume: bool,
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
        let overrides = self.over.overrides();
        if self.print_config {
            return print_config(self.config.as_deref(), &overrides);
        }
        let (config, spec) = match (&self.config, &self.run) {
            (None, Some(name)) if self.resume => {
                let path = RunFolder::locate(&self.runs, name)?;
                let record = RunFolder::open(&path)?.record()?;
                (path, record.plan.to_spec())
            }
            (given, _) => {
                let config = given.clone().map_or_else(quickstart::configuration, Ok)?;
                let spec = Spec::read(&config)?;
                (config, spec)
            }
        };
        let resumed = self.run.as_ref().filter(|_| self.resume);
        let resumed = resumed
            .map(|name| RunFolder::locate(&self.runs, name))
            .transpose()?;
        let prepared = Prepared::of(Plan::resolve(spec, &overrides)?, resumed.as_deref())?;
        note!("positions   {}", positions(&prepared.train.examples));
        let tokenizer = prepared.pretrained.tokenizer()?;

        let record = RunRecord {
            plan: prepared.plan.clone(),
            facts: facts(&prepared.plan, &prepared.pretrained)?,
        };
        let stem = config
            .file_stem()
            .map_or_else(|| "run".into(), |s| s.to_string_lossy());
        let path = match &self.run {
            Some(name) => RunFolder::locate(&self.runs, name)?,
            None => RunFolder::fresh(&self.runs, &stem, chrono::Local::now()),
        };
        let (run, notes) = TrainingRun::create_or_resume(&path, &record, self.resume)?;
        for note in notes {
            note!("note: {note}");
        }
        note!(
            "run {} in {}",
            run.folder().name(),
            run.folder().path().display()
        );

        let base = prepared.base()?;
        let weights = prepared.weights;
        let replicas = (prepared.devices[1..].iter())
            .map(|device| Decoder::load_in(&base.pretrained, device, weights))
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
                    note!(
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
            train: &prepared.train.examples,
            eval: (prepared.eval.as_ref()).map_or(&[], |loaded| &loaded.examples[..]),
            references,
            interrupt: Interrupt::install()?,
            progress: ProgressMode::Auto,
            note: &|note| note!("{note}"),
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
                    "next      {} {command} --run {}{runs}",
                    shell::program(),
                    shell::word(run.folder().name())
                );
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Interrupted { step } => {
                reply!(
                    "stopped after step {step}; go on with {} train --run {}{runs} --resume",
                    shell::program(),
                    shell::word(run.folder().name())
                );
                Ok(ExitCode::from(EXIT_INTERRUPTED as u8))
            }
        }
    }
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
                warn!("{warning}");
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
        started_in: env::current_dir()
            .ok()
            .filter(|folder| folder.to_str().is_some()),
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
