//! A step of reinforcement learning: answers, what they are worth, and the epochs of learning from them.

use panacea_config::{Advantages, Rlhf};
use panacea_data::Example;
use panacea_objectives::{Preference, clipped_value_term, explained_variance, mean};
use panacea_rewards::{ScorerSpec, Verdict};
use panacea_runs::{NearestVertex, ObjectiveMetrics, RlhfMetrics};
use panacea_svd_lora::FactorSet;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::divergence::{Collapse, CollapseReason, Quantity};
use crate::error::TrainerError;
use crate::lanes::Lane;
use crate::rlhf::advantages::{estimate_advantages, token_term, whiten_advantages};
use crate::rlhf::critic::Critic;
use crate::rlhf::judges::{Scored, scorer_specs};
use crate::rlhf::kl_control::next_beta;
use crate::rlhf::reward_memory::{EQUAL_STEPS, RewardMemory};
use crate::rlhf::rollout::{Answer, Pass, Rollout, Writing, answers, answers_mut};
use crate::state::TrainingState;
use crate::training::{Stepped, Training};

#[cfg(test)]
mod against_exact;

/// The stream of the answers' random numbers.
const ANSWER_STREAM: u64 = 2 << 32;

/// The answers of a step, with all that learning needs to know of them.
struct Experience<'a> {
    rollouts: Vec<Rollout<'a>>,
    /// What is remembered of the rewards, these included.
    memory: RewardMemory,
    /// How many answers each objective's scorer said nothing readable of.
    unreadable: Vec<usize>,
    /// The critic's for the first epoch; empty without a critic.
    critic_gradients: FactorSet,
}

impl Training<'_> {
    /// One step of reinforcement learning on the prompts of `records`, which are dealt to `preferences`.
    pub(crate) fn rlhf_step(
        &self,
        state: &mut TrainingState,
        rlhf: &Rlhf,
        records: &[&Example],
        preferences: &[Preference],
        factor: f64,
    ) -> Result<Stepped, TrainerError> {
        let step = state.step + 1;
        let rlhf = &Rlhf {
            beta: beta_of_step(rlhf, state),
            ..rlhf.clone()
        };
        let prompts: Vec<(&Example, &Preference)> = records
            .iter()
            .zip(preferences.iter().cycle())
            .map(|(&example, preference)| (example, preference))
            .collect();
        let Experience {
            rollouts,
            memory,
            unreadable,
            mut critic_gradients,
        } = self.experience(state, rlhf, &prompts, self.answer_seed(state.step))?;
        let collapse = |reason| Collapse { step, reason };
        self.check(rlhf, &rollouts, &memory).map_err(collapse)?;
        // Only now: a step that is refused above must not change the remembered rewards.
        state.rewards = memory;

        let (mut last, mut tokens) = (PolicyPass::default(), 0);
        let (mut grad_norm, mut critic_grad_norm) = (0.0, None);
        for epoch in 1..=rlhf.epochs {
            let update = state.step * rlhf.epochs + epoch;
            if epoch > 1 {
                critic_gradients = self.critic_gradients(state, rlhf, &rollouts)?;
            }
            last = self.policy_pass(state, rlhf, &rollouts)?;
            tokens += last.tokens;
            let gradients = std::mem::take(&mut last.gradients);
            if let Some(critic) = &state.critic {
                let norm = self.clip_norm(&mut critic_gradients, critic.trained_parts());
                (self.guard()).check_norm(step, Quantity::CriticGradientNorm, norm)?;
                critic_grad_norm = Some(norm);
            }
            grad_norm = self.apply(state, gradients, step, update, factor)?;
            if let Some(critic) = &mut state.critic {
                critic.update(&critic_gradients, update, factor);
            }
        }
        let said = rlhf_metrics(rlhf, &rollouts, &last, critic_grad_norm);
        state.beta = (rlhf.kl_control).map(|control| next_beta(control, rlhf.beta, said.kl));
        Ok(Stepped {
            objectives: self.reward_metrics(
                rlhf,
                &rollouts,
                preferences,
                &unreadable,
                &state.rewards,
            ),
            aggregate: last.loss,
            token_loss: None,
            grad_norm,
            tokens,
            rlhf: Some(said),
        })
    }

    /// Has every prompt answered under its λ, and finds out what the answers are worth. Changes nothing of the state.
    fn experience<'e>(
        &self,
        state: &TrainingState,
        rlhf: &Rlhf,
        prompts: &[(&'e Example, &'e Preference)],
        seed: u64,
    ) -> Result<Experience<'e>, TrainerError> {
        let judges = self.judges.ok_or(TrainerError::NoJudges)?;
        let writing = Writing {
            samples: rlhf.samples,
            max_new_tokens: rlhf.max_new_tokens,
            seed,
        };
        let mut rollouts = self.write(state, prompts, writing, judges.stop)?;
        let scored = judges.score(&written(&rollouts))?;
        leave_out_unscored(rlhf, &mut rollouts, &scored);
        if rollouts.is_empty() {
            let read = scored.iter().filter(|answer| answer.rewards().is_some());
            return Err(TrainerError::TooFewScored {
                step: state.step + 1,
                read: read.count(),
                of: scored.len(),
            });
        }
        let mut memory = state.rewards.clone();
        memory.take_in(rlhf, state.step + 1, &rollouts);
        for answer in answers_mut(&mut rollouts) {
            answer.credits = memory.credits(rlhf, &answer.rewards);
        }
        let critic_gradients = self.appraise(state, rlhf, &mut rollouts)?;
        Ok(Experience {
            rollouts,
            memory,
            unreadable: unreadable(&scored),
            critic_gradients,
        })
    }

    /// Has every prompt answered under its λ; each device answers a run of prompts.
    fn write<'e>(
        &self,
        state: &TrainingState,
        prompts: &[(&'e Example, &'e Preference)],
        writing: Writing,
        stop: &[u32],
    ) -> Result<Vec<Rollout<'e>>, TrainerError> {
        let lanes = self.lanes(&state.adapters);
        let run = prompts.len().div_ceil(lanes.count());
        let mut rollouts = Vec::with_capacity(prompts.len());
        let answer =
            |lane: &Lane<'_>, (index, prompts): (usize, &[(&'e Example, &'e Preference)])| {
                let writing = writing.after(index * run);
                Rollout::write(lane.model, &lane.adapters, prompts, writing, stop)
            };
        lanes.deal(prompts.chunks(run).enumerate(), answer, |of_run| {
            rollouts.extend(of_run)
        })?;
        Ok(rollouts)
    }

    /// The seed of a step's answers, from the run's seed and the steps that are finished.
    fn answer_seed(&self, finished: usize) -> u64 {
        let mut rng = ChaCha8Rng::seed_from_u64(self.plan.seed());
        rng.set_stream(ANSWER_STREAM + finished as u64);
        rng.random()
    }

    /// Fills in log π_ref and the advantages of every token of every answer, and with a critic values and returns.
    /// Returns the critic's gradient for the first epoch, since the same pass computes its values.
    fn appraise(
        &self,
        state: &TrainingState,
        rlhf: &Rlhf,
        rollouts: &mut [Rollout<'_>],
    ) -> Result<FactorSet, TrainerError> {
        let share = share(rollouts);
        let mut gradients = FactorSet::default();
        // The critic's adapter; without a critic no adapter is used here.
        let critic = state.critic.as_ref().map(Critic::adapters);
        let lanes = self.lanes(critic.unwrap_or(&state.adapters));
        let appraise = |lane: &Lane<'_>, micro: &mut [Rollout<'_>]| {
            let pass = Pass::new(micro)?;
            let reference = lane.model.log_probs(&pass.batch, None)?;
            for (answer, place) in answers_mut(micro).zip(&pass.places) {
                answer.reference_log_probs = reference[place.clone()].to_vec();
            }
            if critic.is_none() {
                estimate_advantages(rlhf, micro);
                return Ok(FactorSet::default());
            }
            let memory = self.memory_for(lane.model, pass.batch.rows());
            let slopes = |values: &[f64]| {
                for (answer, place) in answers_mut(micro).zip(&pass.places) {
                    answer.values = values[place.clone()].to_vec();
                }
                estimate_advantages(rlhf, micro);
                value_slopes(rlhf, micro, &pass, values, share)
            };
            Critic::gradient(lane, &pass.batch, memory, slopes)
        };
        let micro_batches = rollouts.chunks_mut(self.plan.optimizer().micro_batch_size);
        lanes.deal(micro_batches, appraise, |of_micro| {
            gradients.add(lanes.bring_home(of_micro))
        })?;
        whiten_advantages(rlhf, rollouts);
        Ok(gradients)
    }

    /// The gradient of the critic's loss on answers whose returns are known; empty without a critic.
    fn critic_gradients(
        &self,
        state: &TrainingState,
        rlhf: &Rlhf,
        rollouts: &[Rollout<'_>],
    ) -> Result<FactorSet, TrainerError> {
        let share = share(rollouts);
        let mut gradients = FactorSet::default();
        let Some(critic) = &state.critic else {
            return Ok(gradients);
        };
        let lanes = self.lanes(critic.adapters());
        let work = |lane: &Lane<'_>, micro: &[Rollout<'_>]| {
            let pass = Pass::new(micro)?;
            let memory = self.memory_for(lane.model, pass.batch.rows());
            let slopes = |values: &[f64]| value_slopes(rlhf, micro, &pass, values, share);
            Critic::gradient(lane, &pass.batch, memory, slopes)
        };
        let micro_batches = rollouts.chunks(self.plan.optimizer().micro_batch_size);
        lanes.deal(micro_batches, work, |of_micro| {
            gradients.add(lanes.bring_home(of_micro))
        })?;
        Ok(gradients)
    }

    /// The policy's loss on answers whose advantages are known, and its gradient.
    fn policy_pass(
        &self,
        state: &TrainingState,
        rlhf: &Rlhf,
        rollouts: &[Rollout<'_>],
    ) -> Result<PolicyPass, TrainerError> {
        let share = share(rollouts);
        let lanes = self.lanes(&state.adapters);
        let work = |lane: &Lane<'_>, micro: &[Rollout<'_>]| {
            let mut sum = PolicyPass::default();
            let with_own = rlhf.ptx_weight > 0.0;
            let pass = if with_own { Pass::with_own } else { Pass::new };
            let Pass { batch, places, own } = pass(micro)?;
            let memory = self.memory_for(lane.model, batch.rows());
            let forward = lane.model.forward(&batch, &lane.adapters, memory)?;
            let mut coefficients = vec![0.0; batch.targets()];
            for (answer, place) in answers(micro).zip(places) {
                for (token, target) in place.enumerate() {
                    let term = token_term(rlhf, answer, token, forward.log_probs[target]);
                    sum.clipped += usize::from(term.clipped);
                    sum.loss += share * term.loss;
                    coefficients[target] += share * term.d_policy;
                }
            }
            // The SFT loss: the mean over a response's tokens, and over the records of the step.
            for place in own {
                let weight = 1.0 / (rollouts.len() * place.len()) as f64;
                for target in place {
                    sum.ptx_loss -= weight * forward.log_probs[target];
                    coefficients[target] -= rlhf.ptx_weight * weight;
                }
            }
            sum.tokens += batch.rows();
            let tape = forward.tape;
            sum.gradients = (lane.model).backward(&batch, &lane.adapters, tape, &coefficients)?;
            Ok(sum)
        };
        let mut sum = PolicyPass::default();
        let micro_batches = rollouts.chunks(self.plan.optimizer().micro_batch_size);
        lanes.deal(micro_batches, work, |of_micro: PolicyPass| {
            sum.gradients.add(lanes.bring_home(of_micro.gradients));
            sum.loss += of_micro.loss;
            sum.ptx_loss += of_micro.ptx_loss;
            sum.clipped += of_micro.clipped;
            sum.tokens += of_micro.tokens;
        })?;
        sum.loss += rlhf.ptx_weight * sum.ptx_loss;
        Ok(sum)
    }

    /// Checks that the policy has not collapsed: KL, repetition and equal rewards of a step's answers.
    fn check(
        &self,
        rlhf: &Rlhf,
        rollouts: &[Rollout<'_>],
        memory: &RewardMemory,
    ) -> Result<(), CollapseReason> {
        let (kl, limit) = (
            mean(answers(rollouts).map(Answer::kl)).unwrap_or(0.0),
            rlhf.max_kl,
        );
        if kl > limit {
            return Err(CollapseReason::Kl { kl, limit });
        }
        let limit = rlhf.max_repetition;
        if let Some(share) = repetition(rollouts).filter(|&share| share > limit) {
            return Err(CollapseReason::Repetition { share, limit });
        }
        if let Some(rewards) = memory.equal_for_too_long() {
            let names = self.plan.objective_names().into_iter();
            return Err(CollapseReason::EqualRewards {
                steps: EQUAL_STEPS,
                rewards: names.zip(rewards.iter().copied()).collect(),
            });
        }
        Ok(())
    }

    fn reward_metrics(
        &self,
        rlhf: &Rlhf,
        rollouts: &[Rollout<'_>],
        preferences: &[Preference],
        unreadable: &[usize],
        memory: &RewardMemory,
    ) -> Vec<ObjectiveMetrics> {
        let is_judge: Vec<bool> = scorer_specs(self.plan)
            .map(|spec| matches!(spec, ScorerSpec::Endpoint(_)))
            .collect();
        let names = self.plan.objective_names().into_iter().enumerate();
        let metrics = |(i, name): (usize, String)| {
            let of = |rollout: &Rollout<'_>| -> Vec<[f64; 2]> {
                let weight = rollout.preference.weights()[i];
                rollout
                    .answers
                    .iter()
                    .map(|a| [weight, a.rewards[i]])
                    .collect()
            };
            let pairs: Vec<[f64; 2]> = rollouts.iter().flat_map(of).collect();
            let weights = preferences.iter().map(|p| p.weights()[i]);
            let under = |preference: &Preference| {
                let follow = rollouts
                    .iter()
                    .filter(|rollout| rollout.preference == preference);
                let answers = follow.flat_map(|rollout| &rollout.answers);
                let reward = mean(answers.map(|answer| answer.rewards[i]));
                (preference.weights()[i], reward)
            };
            let of_each: Vec<(f64, Option<f64>)> = preferences.iter().map(under).collect();
            ObjectiveMetrics {
                name,
                nearest: NearestVertex::among(&of_each),
                weight: weights.sum::<f64>() / preferences.len() as f64,
                labelled: pairs.len(),
                reward: Some(mean(pairs.iter().map(|[_, reward]| *reward)).unwrap_or(0.0)),
                normalised_reward: (rlhf.normalise).then(|| {
                    mean(answers(rollouts).map(|answer| answer.credits[i])).unwrap_or(0.0)
                }),
                reward_by_lambda: correlation(&pairs),
                scale: memory.scales().nth(i),
                // Nobody else says what cannot be read.
                unreadable: is_judge[i].then_some(unreadable[i]),
                ..ObjectiveMetrics::default()
            }
        };
        names.map(metrics).collect()
    }
}

/// β of a step: the plan's, unless it follows a target and has moved.
fn beta_of_step(rlhf: &Rlhf, state: &TrainingState) -> f64 {
    let moved = rlhf.kl_control.and(state.beta);
    moved.unwrap_or(rlhf.beta)
}

/// Whether every record has what the run needs of it.
pub(crate) fn check_records(rlhf: &Rlhf, records: &[Example]) -> Result<(), TrainerError> {
    let has_own = |record: &&Example| record.responses.first().is_some_and(|r| !r.is_empty());
    let lacking = records.iter().find(|record| !has_own(record));
    match lacking.filter(|_| rlhf.ptx_weight > 0.0) {
        None => Ok(()),
        Some(record) => Err(TrainerError::NoOwnResponse {
            record: record.source.to_string(),
            weight: rlhf.ptx_weight,
        }),
    }
}

/// Every answer with its record.
fn written<'a>(rollouts: &'a [Rollout<'_>]) -> Vec<(&'a Example, &'a [u32])> {
    let of = |rollout: &'a Rollout<'_>| {
        let tokens = rollout
            .answers
            .iter()
            .map(|answer| answer.tokens.as_slice());
        tokens.map(|tokens| (rollout.example, tokens))
    };
    rollouts.iter().flat_map(of).collect()
}

/// How many of the answers each objective's scorer said nothing readable of.
fn unreadable(scored: &[Scored]) -> Vec<usize> {
    let objectives = scored.first().map_or(0, |scored| scored.verdicts.len());
    let is_unreadable = |i: usize| {
        let said = scored.iter().map(move |scored| scored.verdicts[i]);
        said.filter(|verdict| matches!(verdict, Verdict::Unreadable(_)))
    };
    (0..objectives).map(|i| is_unreadable(i).count()).collect()
}

/// Gives the answers their rewards. Those that have none go, and prompts where too few are left to learn from.
fn leave_out_unscored(rlhf: &Rlhf, rollouts: &mut Vec<Rollout<'_>>, scored: &[Scored]) {
    let mut scored = scored.iter();
    for rollout in rollouts.iter_mut() {
        rollout.answers.retain_mut(|answer| {
            let rewards = scored.next().and_then(Scored::rewards);
            let is_scored = rewards.is_some();
            answer.rewards = rewards.unwrap_or_default();
            is_scored
        });
    }
    let least = match rlhf.advantages {
        Advantages::Gae { .. } => 1,
        // They compare the answers to a prompt.
        Advantages::Rloo | Advantages::Grpo | Advantages::Gdpo { .. } => 2,
    };
    rollouts.retain(|rollout| rollout.answers.len() >= least);
}

/// What a pass of the policy over the answers of a step came to.
#[derive(Default)]
struct PolicyPass {
    gradients: FactorSet,
    /// Both terms.
    loss: f64,
    /// The SFT loss on the records' own responses, without its weight; 0 where it is not asked for.
    ptx_loss: f64,
    /// Tokens whose slope was cut to 0.
    clipped: usize,
    /// Rows that went through the network forward and backward.
    tokens: usize,
}

/// The weight of an answer in the losses of a step.
fn share(rollouts: &[Rollout<'_>]) -> f64 {
    1.0 / answers(rollouts).count() as f64
}

/// The slopes of the critic's loss at the values of a pass; none without a critic.
fn value_slopes(
    rlhf: &Rlhf,
    rollouts: &[Rollout<'_>],
    pass: &Pass,
    values: &[f64],
    share: f64,
) -> Vec<f64> {
    let mut slopes = vec![0.0; values.len()];
    let Advantages::Gae { value_clip, .. } = rlhf.advantages else {
        return slopes;
    };
    for (answer, place) in answers(rollouts).zip(&pass.places) {
        let known = answer.values.iter().zip(&answer.returns);
        for (target, (old, target_value)) in place.clone().zip(known) {
            let term = clipped_value_term(values[target], *old, *target_value, value_clip);
            slopes[target] += share * term.d_value;
        }
    }
    slopes
}

/// What the answers of a step, and the last pass over them, say.
fn rlhf_metrics(
    rlhf: &Rlhf,
    rollouts: &[Rollout<'_>],
    last: &PolicyPass,
    critic_grad_norm: Option<f64>,
) -> RlhfMetrics {
    let tokens = || answers(rollouts).flat_map(|a| a.old_log_probs.iter());
    let flat = |of: fn(&Answer) -> &[f64]| -> Vec<f64> {
        answers(rollouts)
            .flat_map(|a| of(a).iter().copied())
            .collect()
    };
    let returns = flat(|a| &a.returns);
    RlhfMetrics {
        kl: mean(answers(rollouts).map(Answer::kl)).unwrap_or(0.0),
        beta: rlhf.beta,
        entropy: mean(tokens().map(|log_prob| -log_prob)).unwrap_or(0.0),
        answer_tokens: mean(answers(rollouts).map(|a| a.tokens.len() as f64)).unwrap_or(0.0),
        repetition: repetition(rollouts),
        clip_fraction: last.clipped as f64 / tokens().count().max(1) as f64,
        explained_variance: explained_variance(&flat(|a| &a.values), &returns),
        critic_grad_norm,
        ptx_loss: (rlhf.ptx_weight > 0.0).then_some(last.ptx_loss),
    }
}

/// The mean share of repeated 4-grams in the answers that are long enough to have one.
fn repetition(rollouts: &[Rollout<'_>]) -> Option<f64> {
    let shares: Vec<f64> = answers(rollouts).filter_map(Answer::repetition).collect();
    mean(shares)
}

/// Pearson's correlation of the two columns; `None` where one of them does not vary.
fn correlation(pairs: &[[f64; 2]]) -> Option<f64> {
    let means = [0, 1].map(|column| mean(pairs.iter().map(|pair| pair[column])).unwrap_or(0.0));
    let sum = |a: usize, b: usize| -> f64 {
        let product = |pair: &[f64; 2]| (pair[a] - means[a]) * (pair[b] - means[b]);
        pairs.iter().map(product).sum()
    };
    let spread = (sum(0, 0) * sum(1, 1)).sqrt();
    (spread > 1e-12).then(|| sum(0, 1) / spread)
}
