//! What training needs before its first step: a plan, a model's files and records, all of them checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use panacea_config::{Learning, Overrides, Plan};
use panacea_data::Part;
use panacea_devices::{Device, FloatDType};
use panacea_model::Decoder;
use panacea_pretrained::Pretrained;
use panacea_reward_models::Base;
use panacea_runs::{Interrupt, ProgressMode, RunFolder};
use panacea_serving::open_model_of;
use panacea_trainer::{Judges, Origin, Records, References, Work};

use crate::session::say_aside;
use crate::shell;

/// What the command line says on top of a configuration.
#[derive(Args)]
pub struct PlanArguments {
    /// The model to adapt, in place of model.path.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Files to train on, in place of data.train.
    #[arg(long, num_args = 1..)]
    train: Vec<PathBuf>,
    /// Held-out files, in place of data.eval.
    #[arg(long, num_args = 1..)]
    eval: Vec<PathBuf>,
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
}

impl PlanArguments {
    /// As they are typed.
    pub fn as_typed(&self) -> String {
        let mut typed = shell::option("--model", self.model.as_deref());
        for (option, files) in [("--train", &self.train), ("--eval", &self.eval)] {
            if !files.is_empty() {
                let files: Vec<String> = files.iter().map(shell::word).collect();
                typed += &format!(" {option} {}", files.join(" "));
            }
        }
        typed += &shell::option("--device", self.device.as_deref().map(Path::new));
        for (option, number) in [
            ("--seed", self.seed.map(|seed| seed.to_string())),
            ("--steps", self.steps.map(|steps| steps.to_string())),
        ] {
            typed += &shell::option(option, number.as_deref().map(Path::new));
        }
        for set in &self.set {
            typed += &shell::option("--set", Some(Path::new(set)));
        }
        typed
    }

    pub fn overrides(self) -> Overrides {
        Overrides {
            model: self.model,
            train: self.train,
            eval: self.eval,
            device: self.device,
            seed: self.seed,
            steps: self.steps,
            set: self.set,
        }
    }
}

/// What is there before any weights are read.
pub struct Prepared {
    /// With the day and the ideal that it may have left open.
    pub plan: Plan,
    pub devices: Vec<Device>,
    /// The type of the frozen weights.
    pub weights: FloatDType,
    pub pretrained: Arc<Pretrained>,
    pub train: Records,
    pub eval: Option<Records>,
    /// The fingerprints of their files.
    pub fingerprints: BTreeMap<PathBuf, String>,
}

impl Prepared {
    /// Opens and reads what the plan names, and says on standard error what was found. `resumed` is the folder of a run that
    /// goes on.
    pub fn of(plan: Plan, resumed: Option<&Path>) -> Result<Self> {
        for warning in plan.warnings() {
            warn!("{warning}");
        }
        let devices = panacea_devices::select_all(plan.device())?;
        let weights = plan.precision().on(&devices[0])?;
        let pretrained = open_model_of(&plan, None)?;
        let plan = match pretrained.template_asks_for_the_date()? {
            true => on_its_day(plan, resumed)?,
            false => plan,
        };
        let pretrained = Arc::new(pretrained.with_chat(plan.chat().clone()));
        let tokenizer = pretrained.tokenizer()?;
        say_aside(&tokenizer.notes());
        let train = Records::load(&plan, Part::Train, &plan.data().train, tokenizer)?;
        note!("training records\n{}", train.report);
        let plan = plan.with_ideal_of(&train.examples)?;
        let eval = Records::load_held_out(&plan, &[], tokenizer)?;
        let fingerprints = fingerprints(&plan)?;
        if let Some(eval) = &eval {
            note!("{} records\n{}", origin(&plan, &fingerprints), eval.report);
        }
        Ok(Self {
            plan,
            devices,
            weights,
            pretrained,
            train,
            eval,
            fingerprints,
        })
    }

    /// The model with its weights.
    pub fn base(&self) -> Result<Base> {
        let decoder = Decoder::load_in(&self.pretrained, &self.devices[0], self.weights)?;
        Ok(Base {
            decoder: Arc::new(decoder),
            pretrained: Arc::clone(&self.pretrained),
        })
    }
}

impl Prepared {
    /// The weights on every device, and what scores answers: all that is left to be opened. `then` gets them as work to be
    /// carried out, which nothing interrupts yet.
    pub fn with_work<T>(
        &self,
        references: References,
        then: impl FnOnce(Work<'_>) -> Result<T>,
    ) -> Result<T> {
        let base = self.base()?;
        let replicas = (self.devices[1..].iter())
            .map(|device| Decoder::load_in(&base.pretrained, device, self.weights))
            .collect::<Result<Vec<_>, _>>()?;
        let tokenizer = self.pretrained.tokenizer()?;
        let decode = |tokens: &[u32]| Ok(tokenizer.decode(tokens, true)?);
        let judges = match self.plan.method().learning {
            Learning::Rlhf(_) => {
                let stop = tokenizer.stop_ids();
                let (judges, apart) = Judges::open(&self.plan, &base, &decode, stop)?;
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
        then(Work {
            judges: judges.as_ref(),
            model: &base.decoder,
            replicas: &replicas,
            train: &self.train.examples,
            eval: (self.eval.as_ref()).map_or(&[], |loaded| &loaded.examples[..]),
            references,
            interrupt: Interrupt::manual(),
            progress: ProgressMode::Auto,
            note: &|note| note!("{note}"),
        })
    }
}

/// The fingerprint of each file of records.
fn fingerprints(plan: &Plan) -> Result<BTreeMap<PathBuf, String>> {
    let mut fingerprints = BTreeMap::new();
    for file in plan
        .training_files()
        .into_iter()
        .chain(plan.evaluation_files(&[]))
    {
        if !fingerprints.contains_key(file) {
            fingerprints.insert(file.to_owned(), panacea_data::fingerprint(file)?);
        }
    }
    Ok(fingerprints)
}

/// What the records of a plan's evaluation are to its training.
fn origin(plan: &Plan, fingerprints: &BTreeMap<PathBuf, String>) -> Origin {
    let of = |files: Vec<&Path>| -> Vec<&String> {
        let files = files.into_iter();
        files.filter_map(|file| fingerprints.get(file)).collect()
    };
    Origin::of(&of(plan.evaluation_files(&[])), &of(plan.training_files()))
}

/// The plan on the day on which its run began, for the chat template: today, unless `resumed` goes on.
fn on_its_day(plan: Plan, resumed: Option<&Path>) -> Result<Plan> {
    let began = match resumed {
        Some(run) => RunFolder::open(run)?.record()?.plan.chat().date.clone(),
        None => None,
    };
    Ok(plan.on_day(|| began.unwrap_or_else(|| chrono::Local::now().format("%F").to_string())))
}
