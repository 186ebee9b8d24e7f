//! What training needs before its first step: a plan, a model's files and records, all of them checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use panacea_config::{Overrides, Plan};
use panacea_data::Part;
use panacea_devices::{Device, FloatDType};
use panacea_model::Decoder;
use panacea_pretrained::Pretrained;
use panacea_reward_models::Base;
use panacea_runs::RunFolder;
use panacea_serving::open_model_of;
use panacea_trainer::Records;

use crate::session::say_aside;

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
        if let Some(eval) = &eval {
            note!("held-out records\n{}", eval.report);
        }
        Ok(Self {
            plan,
            devices,
            weights,
            pretrained,
            train,
            eval,
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

/// The plan on the day on which its run began, for the chat template: today, unless `resumed` goes on.
fn on_its_day(plan: Plan, resumed: Option<&Path>) -> Result<Plan> {
    let began = match resumed {
        Some(run) => RunFolder::open(run)?.record()?.plan.chat().date.clone(),
        None => None,
    };
    Ok(plan.on_day(|| began.unwrap_or_else(|| chrono::Local::now().format("%F").to_string())))
}
