//! What a run remembers of its rewards from step to step.

use panacea_config::Rlhf;
use panacea_rewards::Normaliser;
use panacea_runs::RewardScale;
use serde::{Deserialize, Serialize};

use crate::rlhf::rollout::{Rollout, answers};

/// Steps of equal rewards after which a policy counts as collapsed.
pub(super) const EQUAL_STEPS: usize = 20;

/// Mean and deviation of every objective's rewards so far, and for how long all answers have been worth the same. A
/// checkpoint holds it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardMemory {
    /// One for each objective.
    normalisers: Vec<Normaliser>,
    /// r_i of every answer of the last `equal_steps` steps.
    equal: Vec<f64>,
    /// 0 where the answers of the last step differ in an objective.
    equal_steps: usize,
}

impl RewardMemory {
    /// What the rewards of each objective have been like, as many as were ever taken in. By their deviation
    /// [`credits`](Self::credits) divides, where the run normalises.
    pub fn scales(&self) -> impl ExactSizeIterator<Item = RewardScale> {
        self.normalisers.iter().map(|normaliser| RewardScale {
            answers: normaliser.count(),
            mean: normaliser.mean(),
            deviation: normaliser.deviation(),
        })
    }

    /// Takes in the rewards of the answers of `step`, counted from 1. Means and deviations that learning uses stand still
    /// after the steps that the run says.
    pub(super) fn take_in(&mut self, rlhf: &Rlhf, step: usize, rollouts: &[Rollout<'_>]) {
        let Some(first) = answers(rollouts).next() else {
            return;
        };
        let objectives = first.rewards.len();
        self.normalisers.resize(objectives, Normaliser::default());
        let moves = !rlhf.normalise || step <= rlhf.normalise_steps;
        for answer in answers(rollouts).filter(|_| moves) {
            for (normaliser, reward) in self.normalisers.iter_mut().zip(&answer.rewards) {
                normaliser.push(*reward);
            }
        }
        let all_equal = answers(rollouts).all(|answer| answer.rewards == first.rewards);
        self.equal_steps = match (all_equal, self.equal == first.rewards) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => self.equal_steps + 1,
        };
        self.equal.clone_from(&first.rewards);
    }

    /// What learning is to make of an answer's rewards: normalised and clipped, as the run has it.
    pub fn credits(&self, rlhf: &Rlhf, rewards: &[f64]) -> Vec<f64> {
        let credit = |(normaliser, &reward): (&Normaliser, &f64)| {
            let reward = if rlhf.normalise {
                normaliser.normalise(reward)
            } else {
                reward
            };
            let clip = rlhf.reward_clip.unwrap_or(f64::INFINITY);
            reward.clamp(-clip, clip)
        };
        self.normalisers.iter().zip(rewards).map(credit).collect()
    }

    /// The rewards that all answers have had for too long, if they have.
    pub(super) fn equal_for_too_long(&self) -> Option<&[f64]> {
        (self.equal_steps >= EQUAL_STEPS).then_some(&self.equal)
    }
}
