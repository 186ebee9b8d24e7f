//! What the scores of a run's answers are.

use panacea_config::{Learning, Plan, Rlhf};
use panacea_methods::Trainings;
use panacea_rewards::{Rule, ScorerSpec};
use panacea_runs::RunFolder;
use panacea_trainer::{RewardMemory, TrainingState, scorer_specs};

use crate::error::InterviewError;

/// What the answers of a run are scored by.
#[derive(Debug, Clone)]
pub struct Yardstick {
    pub(crate) kind: Kind,
    /// Whether scores are waited for: a program or an endpoint says some of them.
    pub waits: bool,
    /// Why it is not the run's own rewards, where a person should know.
    pub note: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// log π(λ = e_i) − log π_base.
    LogRatios,
    /// Rewards, as learning took them.
    Rewards {
        memory: Box<RewardMemory>,
        rlhf: Box<Rlhf>,
    },
}

impl Yardstick {
    /// That of a run: its own rewards where it has some for new texts and remembers their scale, and else log-ratios.
    ///
    /// # Errors
    /// When the run's checkpoint cannot be read.
    pub fn of(run: &RunFolder, plan: &Plan) -> Result<Self, InterviewError> {
        let Learning::Rlhf(rlhf) = &plan.method().learning else {
            return Ok(Self {
                kind: Kind::LogRatios,
                waits: false,
                note: None,
            });
        };
        let instead = |reason: &str| {
            Ok(Self {
                kind: Kind::LogRatios,
                waits: false,
                note: Some(format!(
                    "answers are compared by log-ratios, not by the run's rewards: {reason}"
                )),
            })
        };
        let of_records = |spec: &ScorerSpec| {
            let compares = matches!(
                spec,
                ScorerSpec::Rule(Rule::Similarity { .. } | Rule::ExactMatch { .. })
            );
            compares || spec.record_score().is_some() || spec.reference_column().is_some()
        };
        if scorer_specs(plan).any(of_records) {
            return instead("some of them are known beside a record only");
        }
        if plan.trainings() != Trainings::One {
            return instead("each of its trainings had a scale of its own for them");
        }
        let Some(checkpoint) = run.latest_checkpoint()? else {
            return instead("their scale was in its checkpoints, and there is none");
        };
        let memory = TrainingState::rewards_of(&checkpoint.path)?;
        if memory.scales().len() != plan.objectives().len() {
            return instead("its checkpoint remembers none yet");
        }
        Ok(Self {
            kind: Kind::Rewards {
                memory: Box::new(memory),
                rlhf: Box::new(rlhf.clone()),
            },
            waits: scorer_specs(plan)
                .any(|spec| matches!(spec, ScorerSpec::Program { .. } | ScorerSpec::Endpoint(_))),
            note: None,
        })
    }

    /// What the scores are, as a profile has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::LogRatios => "log-ratios in nats",
            Kind::Rewards { .. } => "rewards",
        }
    }

    /// The smallest range of scores, over the answers to a prompt, that says anything; and the smallest unit of a profile, so
    /// that a first prompt with short answers is no measure for long ones.
    pub(crate) fn smallest(&self) -> (f64, f64) {
        match self.kind {
            // A specialist that thinks a whole answer a tenth more probable is none; one that thinks it e times as probable is
            // the least that is noticed.
            Kind::LogRatios => (0.1, 1.0),
            // A deviation of the run's own rewards, where they are normalised, is about 1; others may be of any size.
            Kind::Rewards { .. } => (1e-9, 1e-9),
        }
    }

    /// J_i of a measured front in the unit of the scores, but for what all points have in common.
    pub(crate) fn front_value(&self, objective: usize, value: f64) -> f64 {
        match &self.kind {
            Kind::Rewards { memory, rlhf } if rlhf.normalise => {
                let scale = memory.scales().nth(objective);
                match scale {
                    Some(scale) if scale.deviation > 0.0 => value / scale.deviation,
                    _ => value,
                }
            }
            _ => value,
        }
    }
}
