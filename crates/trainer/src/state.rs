//! What changes while training: all that a checkpoint holds.

use std::path::Path;

use panacea_config::{Advantages, Learning, Plan, Rlhf};
use panacea_files::read;
use panacea_model::{Decoder, ValueHead};
use panacea_runs::RunError;
use panacea_svd_lora::{Adapters, SvdLoraConfig};
use serde::{Deserialize, Serialize};

use crate::error::TrainerError;
use crate::optimizer::{AdamW, AdamWSettings};
use crate::rlhf::critic::Critic;
use crate::rlhf::reward_memory::RewardMemory;

/// Mixed into the run's seed, so that the critic's adapter starts from other numbers than the policy's.
const CRITIC_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

const STATE_FILE: &str = "state.json";

/// What changes while training: all that a checkpoint holds. Everything else follows from the plan and
/// the step.
#[derive(Debug, Clone)]
pub struct TrainingState {
    /// U, V, σ, s.
    pub adapters: Adapters,
    /// The optimiser's moments.
    pub optimizer: AdamW,
    /// RLHF with a critic: the critic.
    pub critic: Option<Critic>,
    /// RLHF: what is remembered of the rewards.
    pub rewards: RewardMemory,
    /// RLHF whose price of KL follows a target: β after the steps that are finished.
    pub beta: Option<f64>,
    /// Finished optimizer steps.
    pub step: usize,
}

/// What of a checkpoint is no tensor.
#[derive(Serialize, Deserialize)]
struct StateFile {
    step: usize,
    #[serde(default)]
    rewards: RewardMemory,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    beta: Option<f64>,
}

impl StateFile {
    fn read(dir: &Path) -> Result<Self, TrainerError> {
        let path = dir.join(STATE_FILE);
        let text = read(&path)?;
        let state = serde_json::from_slice(&text).map_err(|error| RunError::BrokenRun {
            path,
            message: error.to_string(),
        })?;
        Ok(state)
    }
}

impl TrainingState {
    /// A new adapter on `model`. Where s is learned it changes nothing yet, and hardly anything where s is held.
    pub fn new(plan: &Plan, model: &Decoder, base_fingerprint: &str) -> Result<Self, TrainerError> {
        let config = SvdLoraConfig {
            base_model: plan.model().display().to_string(),
            base_fingerprint: base_fingerprint.to_owned(),
            rank: plan.adapter().rank,
            objectives: plan.objective_names(),
            alpha: plan.adapter().alpha,
            target_modules: plan.adapter().modules.clone(),
        };
        let shapes = model.adapted_shapes(&config.target_modules)?;
        let std = plan.adapter().init_std as f32;
        let mut adapters = Adapters::init(config, &shapes, std, plan.seed(), model.device());
        if let Some(s) = plan.adapter().fixed_s {
            for factors in adapters.factors.0.values_mut() {
                factors.s = factors.s.ones_like() * s;
            }
        }
        if plan.method().is_reward_model() {
            let (outputs, hidden) = (plan.objectives().len(), model.config().hidden_size);
            let head = ValueHead::zeros(outputs, hidden, model.device());
            let name = ValueHead::NAME.to_owned();
            adapters.factors.0.insert(name, head.into_factors());
        }
        let optimizer = AdamW::new(AdamWSettings::from(plan), &adapters.factors);
        Ok(Self {
            critic: critic_settings(plan).map(|settings| {
                let seed = plan.seed() ^ CRITIC_SEED;
                let config = adapters.config.clone();
                let adapters = Adapters::init(config, &shapes, std, seed, model.device());
                Critic::new(model, adapters, settings)
            }),
            adapters,
            optimizer,
            rewards: RewardMemory::default(),
            beta: None,
            step: 0,
        })
    }

    /// Writes a checkpoint into `dir`.
    pub fn save(&self, dir: &Path) -> Result<(), TrainerError> {
        self.adapters.save(dir)?;
        self.optimizer.save(dir)?;
        if let Some(critic) = &self.critic {
            critic.save(dir)?;
        }
        let path = dir.join(STATE_FILE);
        let state = StateFile {
            step: self.step,
            rewards: self.rewards.clone(),
            beta: self.beta,
        };
        let json = serde_json::to_vec(&state).expect("numbers are JSON");
        std::fs::write(&path, json).map_err(TrainerError::io("write", &path))
    }

    /// What the checkpoint in the folder `dir` remembers of its rewards.
    pub fn rewards_of(dir: &Path) -> Result<RewardMemory, TrainerError> {
        Ok(StateFile::read(dir)?.rewards)
    }

    /// Reads a checkpoint.
    pub fn load(plan: &Plan, model: &Decoder, dir: &Path) -> Result<Self, TrainerError> {
        let state = StateFile::read(dir)?;
        let adapters = Adapters::load(dir, model.device())?;
        if plan.method().is_reward_model() {
            ValueHead::among(&adapters.factors).ok_or(TrainerError::NoHead)?;
        } else {
            adapters.check(&model.adapted_shapes(&adapters.config.target_modules)?)?;
        }
        let settings = AdamWSettings::from(plan);
        let optimizer = AdamW::load(settings, dir, model.device())?;
        Ok(Self {
            critic: critic_settings(plan)
                .map(|settings| Critic::load(model, settings, dir))
                .transpose()?,
            adapters,
            optimizer,
            rewards: state.rewards,
            beta: state.beta,
            step: state.step,
        })
    }
}

/// The optimiser's settings of the critic, where the plan has one.
fn critic_settings(plan: &Plan) -> Option<AdamWSettings> {
    let Learning::Rlhf(Rlhf {
        advantages: Advantages::Gae { learning_rate, .. },
        ..
    }) = plan.method().learning
    else {
        return None;
    };
    Some(AdamWSettings {
        learning_rate,
        learning_rate_singular: learning_rate,
        holds_s: false,
        ..AdamWSettings::from(plan)
    })
}
