//! What commands share: opening models, runs and preferences, with errors that say what to do.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, bail};
use burn_tensor::{DType, FloatDType};
use clap::Args;
use panacea_config::Plan;
use panacea_data::{BoxError, DataReport, Example, LabelSource, Loader, Part, Source, tokenize};
use panacea_devices::Precision;
use panacea_methods::{NotServed, Served, Trained};
use panacea_model::{Decoder, Steering, ValueHead};
use panacea_objectives::Preference;
use panacea_pretrained::{ChatTokenizer, Message, Pretrained};
use panacea_reward_models::{Base, RewardModels};
use panacea_rewards::{Scorer, ScorerSpec, Scorers, Turn};
use panacea_runs::{RunFolder, RunRecord};
use panacea_svd_lora::Adapters;
use panacea_trainer::{Judges, PromptText, TrainerError};

/// Where runs are kept.
pub const RUNS: &str = "runs";

/// What log-probabilities depend on beside model and tokens: they are kept apart by it.
pub fn computed_by(device: &str, weights: FloatDType) -> String {
    // Of several devices the first computes them.
    let device = device.split(',').next().unwrap_or(device);
    match weights {
        FloatDType::F32 => device.to_owned(),
        other => format!("{device}-{}", DType::from(other).name()),
    }
}

/// A model, optionally steered by a run's adapter.
#[derive(Args)]
pub struct ModelArguments {
    /// A folder in Hugging Face layout, or a GGUF file.
    #[arg(long)]
    pub model: PathBuf,
    /// The run whose adapter steers the model; without it, the base model.
    #[arg(long, requires = "preference")]
    pub run: Option<String>,
    /// Weights on the run's objectives, in their order, such as 0.3,0.7.
    #[arg(long, requires = "run")]
    pub preference: Option<Preference>,
    /// Where runs are kept.
    #[arg(long, default_value = RUNS)]
    pub runs: PathBuf,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long, default_value = "flex")]
    pub device: String,
}

/// A model in memory, with what steers it.
pub struct Steered {
    pub pretrained: Pretrained,
    pub decoder: Decoder,
    pub steering: Option<Steering>,
}

impl ModelArguments {
    pub fn open(&self) -> Result<Steered> {
        let device = panacea_devices::select(&self.device)?;
        let pretrained = open_language_model(&self.model)?;
        let decoder = Decoder::load_in(&pretrained, &device, Precision::Auto.on(&device)?)?;
        let steering = match (&self.run, &self.preference) {
            (Some(run), Some(preference)) => {
                let run = RunFolder::open(&RunFolder::locate(&self.runs, run)?)?;
                Some(open_at(&run, preference, &decoder)?)
            }
            _ => None,
        };
        Ok(Steered {
            pretrained,
            decoder,
            steering,
        })
    }
}

impl Steered {
    pub fn tokenizer(&self) -> Result<&ChatTokenizer> {
        Ok(self.pretrained.tokenizer()?)
    }
}

/// Opens the files of a model that writes: a published classifier has lost the head for that.
pub fn open_language_model(path: &Path) -> Result<Pretrained> {
    let pretrained = Pretrained::open(path)?;
    if let Some(labels) = &pretrained.config().labels {
        bail!(
            "{} is a sequence classifier (its outputs: {}), expected a language model; as a scorer it goes into an objective: reward = {{ model = \"{}\" }}",
            path.display(),
            labels.join(", "),
            path.display()
        );
    }
    Ok(pretrained)
}

/// Opens what a run has trained.
pub fn open_trained(run: &RunFolder, plan: &Plan, decoder: &Decoder) -> Result<Trained> {
    let objectives = plan.objectives().len();
    let open = |member: Option<usize>| match member {
        None => open_adapters(run, decoder),
        Some(index) => open_adapters(&RunFolder::open(&run.member(index))?, decoder),
    };
    Trained::open(&plan.method().method, objectives, open).map_err(|error| {
        match error.downcast_ref::<NotServed>() {
            Some(reason) => anyhow!(
                "run {}: {reason}; see cargo xtask eval-reward --run {}",
                run.name(),
                run.name()
            ),
            None => error,
        }
    })
}

/// The adapter of a finished run, or that of its last checkpoint while it is not finished.
fn open_adapters(run: &RunFolder, decoder: &Decoder) -> Result<Adapters> {
    let adapters = Adapters::load(&adapter_folder(run)?, decoder.device())?;
    check_adapters(&adapters, run, decoder)?;
    Ok(adapters)
}

/// The adapter of a reward model, with its head.
pub fn open_reward_adapters(run: &RunFolder, decoder: &Decoder) -> Result<Adapters> {
    let adapters = Adapters::load(&adapter_folder(run)?, decoder.device())?;
    if ValueHead::among(&adapters.factors).is_none() {
        return Err(TrainerError::NoHead).with_context(|| run.path().display().to_string());
    }
    let mut without_head = adapters.clone();
    without_head.factors.0.remove(ValueHead::NAME);
    check_adapters(&without_head, run, decoder)?;
    Ok(adapters)
}

/// Whether an adapter fits the model.
fn check_adapters(adapters: &Adapters, run: &RunFolder, decoder: &Decoder) -> Result<()> {
    let shapes = decoder.adapted_shapes(&adapters.config.target_modules)?;
    adapters.check(&shapes).with_context(|| {
        format!(
            "{} was trained on {}",
            run.path().display(),
            adapters.config.base_model
        )
    })
}

/// Where the adapter of a finished run is, or that of its last checkpoint while it is not finished.
fn adapter_folder(run: &RunFolder) -> Result<PathBuf> {
    Ok(if run.adapter().exists() {
        run.adapter()
    } else {
        let checkpoint = run.latest_checkpoint()?.with_context(|| {
            format!(
                "{} has no adapter and no checkpoint yet: train it first, or go on with --resume",
                run.path().display()
            )
        })?;
        eprintln!(
            "run {} is not finished: using its checkpoint of step {}",
            run.name(),
            checkpoint.step
        );
        checkpoint.path
    })
}

/// What a run serves one preference with.
pub fn open_at(run: &RunFolder, preference: &Preference, decoder: &Decoder) -> Result<Steering> {
    let plan = open_plan(run)?;
    let objectives = plan.objective_names();
    preference.expect_len(objectives.len()).with_context(|| {
        format!(
            "--preference: the objectives of run {} are {}",
            run.name(),
            objectives.join(", ")
        )
    })?;
    let Served::Adapter(steering) = open_trained(run, &plan, decoder)?.serve(preference);
    Ok(steering)
}

/// The plan of an existing run.
pub fn open_plan(run: &RunFolder) -> Result<Plan> {
    Ok(RunRecord::read(&run.run_toml())?.plan)
}

/// The records of a plan in tokens, with the prompts in words, and what was read, skipped and cut.
pub struct Loaded {
    pub examples: Vec<Example>,
    pub report: DataReport,
    /// The prompts in words, in the order of the files.
    pub prompts: Vec<(Source, Vec<Message>)>,
}

/// Reads the training or evaluation files of `plan`.
pub fn load_examples(
    plan: &Plan,
    part: Part,
    files: &[PathBuf],
    tokenizer: &ChatTokenizer,
) -> Result<Loaded> {
    let mut loader = Loader::new(plan.method().learning.record_kind());
    loader.part = part;
    loader.format = plan.data().format;
    loader.bad_records = plan.data().bad_records;
    let (records, mut report) = loader.load(files, plan.objectives())?;
    let examples = tokenize(&records, tokenizer, &plan.data().limits, &mut report)?;
    if examples.is_empty() {
        bail!("no record is left of {}:\n{report}", list(files));
    }
    let prompts = records
        .into_iter()
        .map(|record| (record.source, record.prompt));
    let prompts = prompts.collect();
    Ok(Loaded {
        examples,
        report,
        prompts,
    })
}

/// A conversation in words: its only message, or all of them with their speakers.
pub fn transcript(messages: &[Message]) -> String {
    match messages {
        [only] => only.content.clone(),
        many => many
            .iter()
            .map(|m| format!("{}: {}", m.role, m.content))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

/// What scores the answers of a run to `prompts`. Programs are started and reward models are opened here; those that
/// stand on the weights of `base` share them.
pub fn judges<'a>(
    plan: &Plan,
    base: &Base,
    prompts: &[(Source, Vec<Message>)],
    decode: &'a (dyn Fn(&[u32]) -> Result<String, BoxError> + Sync),
    stop: &'a [u32],
) -> Result<Judges<'a>> {
    let rewards = rewards(plan);
    let device = base.decoder.device();
    let mut models = RewardModels::new(device, Some(base));
    let mut build = |spec: &&ScorerSpec| -> Result<Box<dyn Scorer>> {
        Ok(match spec {
            ScorerSpec::Model(model) => models.scorer(model)?,
            other => other.build()?,
        })
    };
    let scorers = rewards.iter().map(&mut build).collect::<Result<Vec<_>>>()?;
    for path in models.apart() {
        eprintln!(
            "reward model {}: weights of its own, beside the policy's",
            path.display()
        );
    }
    let own = |spec: &&ScorerSpec| spec.record_score().map(str::to_owned);
    let in_words = |(source, messages): &(Source, Vec<Message>)| {
        let turns = messages.iter().map(|message| Turn {
            role: message.role.clone(),
            content: message.content.clone(),
        });
        let prompt = PromptText {
            text: transcript(messages),
            turns: turns.collect(),
        };
        (source.clone(), prompt)
    };
    Ok(Judges {
        scorers: Mutex::new(Scorers::new(scorers)),
        own_scores: rewards.iter().map(own).collect(),
        prompts: prompts.iter().map(in_words).collect(),
        decode,
        stop,
    })
}

/// What scores the answers: the reward of each objective.
fn rewards(plan: &Plan) -> Vec<&ScorerSpec> {
    let sources = plan.objectives().iter().map(|objective| &objective.source);
    sources
        .filter_map(|source| match source {
            LabelSource::Reward(spec) => Some(spec.as_ref()),
            _ => None,
        })
        .collect()
}

/// `a.jsonl, b.jsonl`
pub fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|p| p.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// The run of a name, or the newest one.
pub fn locate_run(runs: &Path, name: Option<&str>) -> Result<RunFolder> {
    Ok(match name {
        Some(name) => RunFolder::open(&RunFolder::locate(runs, name)?)?,
        None => RunFolder::newest(runs)?,
    })
}
