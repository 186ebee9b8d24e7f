//! `eval-reward`: how well a reward model predicts held-out preferences, and whether its probabilities can be believed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use panacea_config::{Learning, Plan};
use panacea_data::{Example, Judgement, Part};
use panacea_evaluator::calibration::{
    CALIBRATION_FILES, CalibrationReport, Comparison, LengthRule, ObjectiveCalibration,
};
use panacea_model::{Decoder, Steering};
use panacea_objectives::{Loss, Preference, sigmoid};
use panacea_pretrained::ChatTokenizer;
use panacea_runs::{CountedProgress, RunFolder};
use panacea_serving::{RewardModelRun, changed_since, open_model_of};
use panacea_trainer::{Evaluated, Origin, Records, evaluate};

use crate::evaluation::{keep_evaluation, refuse_occupied};
use crate::session::{RUNS, list, say_aside, say_warnings};
use crate::shell;

/// Measure a reward model on held-out pairs: accuracy against length alone, and calibration.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask eval-reward --run helpful
  cargo xtask eval-reward --run helpful --eval test.jsonl --out report")]
pub struct Arguments {
    /// The run of the reward model; the newest run by default.
    #[arg(long)]
    run: Option<String>,
    /// Held-out files. Default: those of the run.
    #[arg(long, num_args = 1..)]
    eval: Vec<PathBuf>,
    /// Held-out records that are measured. Default: all.
    #[arg(long)]
    records: Option<usize>,
    /// The base model, where it is no longer at the path that the run was trained on.
    #[arg(long)]
    model: Option<PathBuf>,
    /// The folder to write to. Default: a new one among the run's evaluations.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where runs are kept.
    #[arg(long, default_value = RUNS)]
    runs: PathBuf,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long, default_value = "flex")]
    device: String,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        if let Some(out) = &self.out {
            refuse_occupied(out, &CALIBRATION_FILES)?;
        }
        let run = RunFolder::find(&self.runs, self.run.as_deref())?;
        let plan = run.record()?.plan;
        let loss = match &plan.method().learning {
            Learning::Supervised(loss) if plan.method().is_reward_model() => loss,
            Learning::Supervised(_) | Learning::Rlhf(_) => bail!(
                "run {} is no reward model, but a policy: see cargo xtask eval-front --run {}{}",
                run.name(),
                shell::word(run.name()),
                shell::runs(&self.runs)
            ),
        };
        let pretrained = open_model_of(&plan, self.model.as_deref())?;
        say_warnings(&changed_since(&run.record()?, &pretrained));
        let files = plan.evaluation_files(&self.eval);
        let contents = files.iter().map(|file| panacea_data::fingerprint(file));
        let contents: Vec<String> = contents.collect::<Result<_, _>>()?;
        // What the records are to the run's training.
        let origin = Origin::of(&contents, &run.record()?.trained_on());
        let held_out = self.held_out(&run, &plan, pretrained.tokenizer()?, origin)?;
        let device = panacea_devices::select(&self.device)?;
        let decoder = Decoder::load_in(&pretrained, &device, plan.precision().on(&device)?)?;
        let evaluated = evaluate_rewards(&run, loss, &decoder, &held_out)?;
        let rules = length_rules(&plan, pretrained.tokenizer()?)?;

        let comparisons = |i: usize| -> Vec<Comparison> {
            let records = held_out.iter().zip(&evaluated);
            records
                .flat_map(|(example, rewards)| compare(example, rewards, i))
                .collect()
        };
        let objectives = plan.objective_names().into_iter().zip(rules).enumerate();
        let report = CalibrationReport {
            title: format!("reward model {}", run.name()),
            notes: vec![
                format!(
                    "Base model {}; {} {origin} records of {}.",
                    plan.model().display(),
                    held_out.len(),
                    list(&files)
                ),
                "The length rule is the one of the two that is right more often on the training pairs."
                    .to_owned(),
            ],
            objectives: objectives
                .map(|(i, (name, rule))| ObjectiveCalibration::new(&name, &comparisons(i), rule))
                .collect::<Result<_, _>>()?,
        };
        say!("{}\n", report.table());
        say!("{}\n", report.reliability_table());
        let write = |folder: &Path| report.write(folder).map(drop).map_err(Into::into);
        for path in keep_evaluation(&run, self.out.as_deref(), &CALIBRATION_FILES, write)? {
            say!("{}", path.display());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn held_out(
        &self,
        run: &RunFolder,
        plan: &Plan,
        tokenizer: &ChatTokenizer,
        origin: Origin,
    ) -> Result<Vec<Example>> {
        let Some(loaded) = Records::load_held_out(plan, &self.eval, tokenizer)? else {
            bail!(
                "run {} was trained without held-out files: give some with --eval",
                run.name()
            );
        };
        note!("{origin} records of run {}\n{}", run.name(), loaded.report);
        let mut examples = loaded.examples;
        examples.truncate(self.records.unwrap_or(usize::MAX));
        Ok(examples)
    }
}

/// The rewards of every response of the records.
fn evaluate_rewards(
    run: &RunFolder,
    loss: &Loss,
    decoder: &Decoder,
    examples: &[Example],
) -> Result<Vec<Evaluated>> {
    let RewardModelRun { adapters, notes } = RewardModelRun::open(run, decoder)?;
    say_aside(&notes);
    let no_references = vec![Vec::new(); examples.len()];
    let progress = CountedProgress::new(examples.len(), format!("rewards of {}", run.name()));
    let alike = Preference::uniform(adapters.config.objectives.len());
    let steering = Steering {
        adapters: Arc::new(adapters),
        preference: alike.weights().to_vec(),
    };
    let evaluated = evaluate(decoder, &steering, loss, examples, &no_references, || {
        progress.inc()
    })?;
    progress.finish();
    Ok(evaluated)
}

/// Of each objective, what length alone says about the training pairs.
fn length_rules(plan: &Plan, tokenizer: &ChatTokenizer) -> Result<Vec<LengthRule>> {
    let training = Records::load(plan, Part::Train, &plan.data().train, tokenizer)?.examples;
    let rule = |i: usize| {
        let pairs = training.iter().flat_map(|example| {
            let preferences = preferences(example, i);
            preferences.map(|(_, pair, label)| (label, lengths(example, pair)))
        });
        LengthRule::better(pairs)
    };
    Ok((0..plan.objectives().len()).map(rule).collect())
}

/// What was predicted and is known of the pairs of a record on objective `i`.
fn compare(example: &Example, rewards: &Evaluated, i: usize) -> Vec<Comparison> {
    let comparison = |(judgement, pair, label): (&Judgement, [usize; 2], f64)| {
        let objectives = judgement.labels.len();
        let [first, second] = pair.map(|response| rewards.outputs[response * objectives + i]);
        Comparison {
            probability: sigmoid(first - second),
            label,
            lengths: lengths(example, pair),
        }
    };
    preferences(example, i).map(comparison).collect()
}

/// The pairs of responses of a record of which objective `i` prefers one, with 1 where that is the first and 0 where it
/// is the second: whether a prediction is right does not depend on how strong the preference is.
fn preferences(example: &Example, i: usize) -> impl Iterator<Item = (&Judgement, [usize; 2], f64)> {
    example.judgements.iter().filter_map(move |judgement| {
        let label = judgement.labels[i].filter(|&label| label != 0.5)?;
        let label = f64::from(u8::from(label > 0.5));
        Some((judgement, [judgement.response, judgement.against?], label))
    })
}

fn lengths(example: &Example, pair: [usize; 2]) -> [usize; 2] {
    pair.map(|response| example.responses[response].len())
}
