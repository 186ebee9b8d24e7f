//! The training loop: Algorithm 1 of the Panacea paper, with what surrounds it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use panacea_data::{BatchPlan, Example};
use panacea_devices::{guarded, memory_of, peak_memory_bytes};
use panacea_model::{Decoder, MemoryPolicy, Steering, ValueHead};
use panacea_objectives::{Loss, Preference};
use panacea_svd_lora::{Adapters, FactorSet, SvdLoraConfig};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::evaluation::{evaluate, margin_and_accuracy, mean, references, summarise};
use crate::rlhf::{Advantages, Critic, Judges, RewardMemory, Rlhf};
use crate::step::{BatchResult, Objective, Prepared, batch_gradient};
use crate::{
    Activations, AdamW, AdamWSettings, DivergenceGuard, EvalMetrics, EventWriter, Interrupt, Lanes,
    Learning, LogProbLevels, MetricsLine, MetricsLog, ObjectiveMetrics, Plan, Progress,
    ProgressMode, Quantity, References, RlhfMetrics, StepMetrics, TrainerError, TrainingRun,
};

/// Streams of random numbers that a seed is split into, so that none repeats another.
const PREFERENCE_STREAM: u64 = 1 << 32;

/// What the critic's seed differs by from the policy's.
const CRITIC_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

const STATE_FILE: &str = "state.json";

/// What a run trains, on what.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    /// Every setting.
    pub plan: &'a Plan,
    /// The frozen network.
    pub model: &'a Decoder,
    /// The same network on further devices, which the micro-batches of a step are dealt to as well; may be empty.
    pub replicas: &'a [Decoder],
    /// Records to train on.
    pub train: &'a [Example],
    /// Held-out records; may be empty.
    pub eval: &'a [Example],
    /// Log-probabilities under the reference policy, where they are known.
    pub references: &'a References,
    /// What scores the policy's answers; RLHF only.
    pub judges: Option<&'a Judges<'a>>,
}

/// What one step came to.
pub(crate) struct Stepped {
    pub objectives: Vec<ObjectiveMetrics>,
    pub aggregate: f64,
    pub rlhf: Option<RlhfMetrics>,
    /// Before clipping.
    pub grad_norm: f64,
    /// Rows that went through the network forward and backward.
    pub tokens: usize,
}

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
    /// Finished optimizer steps.
    pub step: usize,
}

#[derive(Serialize, Deserialize)]
struct StateFile {
    step: usize,
    #[serde(default)]
    rewards: RewardMemory,
}

/// How a training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done; the adapter is written.
    Finished,
    /// Somebody asked it to stop; a checkpoint of this step is written.
    Interrupted {
        /// Finished steps.
        step: usize,
    },
}

impl TrainingState {
    /// A new adapter on `model`, which changes nothing yet.
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
        };
        let json = serde_json::to_vec(&state).expect("numbers are JSON");
        std::fs::write(&path, json).map_err(TrainerError::io("write", &path))
    }

    /// Reads a checkpoint.
    pub fn load(plan: &Plan, model: &Decoder, dir: &Path) -> Result<Self, TrainerError> {
        let path = dir.join(STATE_FILE);
        let text = std::fs::read(&path).map_err(TrainerError::io("read", &path))?;
        let state: StateFile =
            serde_json::from_slice(&text).map_err(|error| TrainerError::BrokenRun {
                path,
                message: error.to_string(),
            })?;
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

impl Training<'_> {
    /// Trains from `state` to the end of the plan, or until `interrupt` is requested.
    pub fn run(
        &self,
        mut state: TrainingState,
        run: &TrainingRun,
        interrupt: &Interrupt,
        progress: ProgressMode,
    ) -> Result<Outcome, TrainerError> {
        let plan = self.plan;
        let total = plan.optimizer().total_steps(self.train.len());
        let schedule = plan.optimizer().schedule(total);
        let batch_size = plan.optimizer().batch_size;
        let mut batches = BatchPlan::of_examples(self.train, batch_size, plan.seed());
        let mut log = Log::open(run, state.step)?;
        let mut progress = Progress::new(total, state.step, progress);
        let evaluation = Evaluation::prepare(self)?;
        if let Learning::Rlhf(rlhf) = &plan.method().learning {
            rlhf.check_records(self.train)?;
        }

        while state.step < total {
            let started = Instant::now();
            let step = state.step + 1;

            // Algorithm 1: a batch, a preference, the aggregated objective under it, one gradient step.
            let records = batches.batch(state.step);
            let records: Vec<&Example> = records.iter().map(|&i| &self.train[i]).collect();
            let preferences = self.sample_preferences(state.step);
            let factor = schedule.factor(state.step);
            let stepped = self.on_device(step, run, || match &plan.method().learning {
                Learning::Rlhf(rlhf) => {
                    self.rlhf_step(&mut state, rlhf, &records, &preferences, factor)
                }
                Learning::Supervised(loss) => {
                    self.loss_step(&mut state, loss, &records, &preferences, factor)
                }
            });
            // A scorer that fails, unlike a loss, may work again later; a collapsed policy is to be looked at.
            let keeps = matches!(
                &stepped,
                Err(TrainerError::Score(_) | TrainerError::Collapsed(_))
            );
            if keeps && state.step > 0 {
                run.save_checkpoint(state.step, plan.checkpoint().keep, |dir| state.save(dir))?;
            }
            let stepped = stepped?;
            state.step = step;

            let seconds = started.elapsed().as_secs_f64();
            let metrics = StepMetrics {
                step,
                lambda: preferences.iter().map(|p| p.weights().to_vec()).collect(),
                objectives: stepped.objectives,
                aggregate: stepped.aggregate,
                rlhf: stepped.rlhf,
                grad_norm: stepped.grad_norm,
                lr: plan.optimizer().learning_rate * factor,
                lr_singular: plan.optimizer().learning_rate_singular * factor,
                tokens: stepped.tokens,
                tokens_per_s: stepped.tokens as f64 / seconds,
                seconds,
                peak_memory_bytes: peak_memory_bytes(),
            };
            log.write(&MetricsLine::Train(metrics.clone()))?;
            progress.step(&metrics);

            if plan
                .evaluation()
                .every
                .is_some_and(|every| step.is_multiple_of(every))
            {
                for line in evaluation.measure(self, &state)? {
                    progress.note(&line.to_string());
                    log.write(&MetricsLine::Eval(line))?;
                }
            }
            let due = plan
                .checkpoint()
                .every
                .is_some_and(|every| step.is_multiple_of(every));
            let stop = interrupt.requested() && step < total;
            if due || stop || step == total {
                run.save_checkpoint(step, plan.checkpoint().keep, |dir| state.save(dir))?;
            }
            if stop {
                progress.finish(&format!(
                    "stopped at step {step} of {total}; its checkpoint is written"
                ));
                return Ok(Outcome::Interrupted { step });
            }
        }
        run.save_adapter(|dir| state.adapters.save(dir).map_err(TrainerError::from))?;
        progress.finish(&format!("{total} steps are done"));
        Ok(Outcome::Finished)
    }

    /// Does a step. What a device other than the CPU says when it fails becomes an error; what the step has changed in
    /// memory is lost then, the checkpoints are not.
    fn on_device<T>(
        &self,
        step: usize,
        run: &TrainingRun,
        work: impl FnOnce() -> Result<T, TrainerError>,
    ) -> Result<T, TrainerError> {
        let device = self.plan.device();
        if device.starts_with("flex") {
            return work();
        }
        guarded(work).unwrap_or_else(|failure| {
            Err(TrainerError::Device {
                device: device.to_owned(),
                step,
                failure,
                memory: guarded(|| memory_of(self.model.device())).unwrap_or(None),
                checkpoint: run
                    .folder()
                    .latest_checkpoint()?
                    .map(|checkpoint| checkpoint.step),
            })
        })
    }

    /// Algorithm 1 on labelled records: the losses of a batch, their aggregate under λ, one gradient step.
    fn loss_step(
        &self,
        state: &mut TrainingState,
        loss: &Loss,
        records: &[&Example],
        preferences: &[Preference],
        factor: f64,
    ) -> Result<Stepped, TrainerError> {
        let step = state.step + 1;
        let reference = self.references_of(records)?;
        let batch: Vec<Prepared<'_>> = records
            .iter()
            .zip(&reference)
            .map(|(&example, reference)| Prepared { example, reference })
            .collect();
        let result = self.gradient(&state.adapters, loss, &batch, preferences)?;
        let mut objectives = objective_metrics(self.plan.objective_names(), &batch, &result);
        if self.plan.method().is_reward_model() {
            // What it reads of a response is no log-probability.
            objectives
                .iter_mut()
                .for_each(|o| o.log_prob = LogProbLevels::default());
        }
        let losses = objectives.iter().map(|o| (o.name.as_str(), o.loss));
        self.guard().check_losses(step, losses, result.aggregate)?;
        let grad_norm = self.apply(state, result.gradients, step, step, factor)?;
        Ok(Stepped {
            objectives,
            aggregate: result.aggregate,
            rlhf: None,
            grad_norm,
            tokens: result.tokens,
        })
    }

    /// One step of the optimiser, its `update`-th; the norm of the gradient before clipping.
    pub(crate) fn apply(
        &self,
        state: &mut TrainingState,
        mut gradients: FactorSet,
        step: usize,
        update: usize,
        factor: f64,
    ) -> Result<f64, TrainerError> {
        let orthogonality = self.plan.adapter().orthogonality;
        gradients.add_orthogonality_gradient(orthogonality, &state.adapters.factors);
        let norm = self.clip_norm(&mut gradients);
        self.guard()
            .check_norm(step, Quantity::GradientNorm, norm)?;
        (state.optimizer).update(&mut state.adapters.factors, &gradients, update, factor);
        Ok(norm)
    }

    /// Scales the gradient down to the plan's norm, if there is one; its norm before.
    pub(crate) fn clip_norm(&self, gradients: &mut FactorSet) -> f64 {
        let norm = gradients.norm();
        let limit = self.plan.optimizer().clip_norm;
        if let Some(limit) = limit.filter(|&limit| norm > limit) {
            gradients.scale(limit / norm);
        }
        norm
    }

    pub(crate) fn guard(&self) -> DivergenceGuard {
        DivergenceGuard {
            max_grad_norm: self.plan.optimizer().max_grad_norm,
        }
    }

    /// Log-probabilities of a batch under the reference policy; each record's are computed when it is first drawn,
    /// alone, so that they do not depend on its neighbours.
    fn references_of(&self, records: &[&Example]) -> Result<Vec<Vec<f64>>, TrainerError> {
        references(
            self.references,
            self.model,
            &self.plan.method().learning,
            records.iter().copied(),
            || (),
        )
    }

    /// The preferences of the step behind `finished` steps, one a group, from the seed and the step alone.
    fn sample_preferences(&self, finished: usize) -> Vec<Preference> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.plan.seed());
        rng.set_stream(PREFERENCE_STREAM + finished as u64);
        let preference = self.plan.preference();
        if let Some(fixed) = &preference.fixed {
            return vec![fixed.clone()];
        }
        let objectives = self.plan.objectives().len();
        (0..preference.groups)
            .map(|_| preference.sampler.sample(objectives, &mut rng))
            .collect()
    }

    fn gradient(
        &self,
        adapters: &Adapters,
        loss: &Loss,
        batch: &[Prepared<'_>],
        preferences: &[Preference],
    ) -> Result<BatchResult, TrainerError> {
        let objective = Objective {
            loss,
            aggregation: &self.plan.method().aggregation,
        };
        let micro_batch_size = self.plan.optimizer().micro_batch_size;
        let memory = self.memory_policy(batch);
        batch_gradient(
            &self.lanes(adapters),
            objective,
            batch,
            preferences,
            micro_batch_size,
            memory,
        )
    }

    /// Every device of the training, under `adapters`.
    pub(crate) fn lanes<'b>(&'b self, adapters: &'b Adapters) -> Lanes<'b> {
        Lanes::new(self.model, self.replicas, adapters)
    }

    /// What a forward pass over the longest micro-batch of `batch` should keep.
    fn memory_policy(&self, batch: &[Prepared<'_>]) -> MemoryPolicy {
        let micro_batches = batch.chunks(self.plan.optimizer().micro_batch_size);
        let rows = |records: &[Prepared<'_>]| -> usize {
            records.iter().map(|record| record.example.rows()).sum()
        };
        self.memory_for(self.model, micro_batches.map(rows).max().unwrap_or(0))
    }

    /// What a forward pass over so many rows should keep. Either choice gives the same numbers, so that a run does not
    /// depend on the memory that happens to be free.
    pub(crate) fn memory_for(&self, model: &Decoder, rows: usize) -> MemoryPolicy {
        match self.plan.optimizer().activations {
            Activations::Keep => MemoryPolicy::Keep,
            Activations::Recompute => MemoryPolicy::Recompute,
            Activations::Auto => {
                let bytes = model.activation_bytes(rows);
                let memory = memory_of(model.device());
                if memory.is_some_and(|memory| bytes > memory.free / 2) {
                    MemoryPolicy::Recompute
                } else {
                    MemoryPolicy::Keep
                }
            }
        }
    }
}

/// What a step came to on every objective.
fn objective_metrics(
    names: Vec<String>,
    batch: &[Prepared<'_>],
    result: &BatchResult,
) -> Vec<ObjectiveMetrics> {
    let of_objective = |(i, name): (usize, String)| {
        let terms = || result.terms.iter().flat_map(|record| record.of(i));
        let losses: Vec<f64> = terms().map(|term| term.loss).collect();
        let (margin, accuracy) = margin_and_accuracy(terms());
        ObjectiveMetrics {
            name,
            loss: mean(&losses),
            weight: result.weights[i],
            labelled: losses.len(),
            margin,
            accuracy,
            log_prob: log_prob_levels(batch, &result.outputs, i),
            reward: None,
            normalised_reward: None,
            reward_by_lambda: None,
        }
    };
    names.into_iter().enumerate().map(of_objective).collect()
}

/// Mean log-probabilities per token of what objective `i` prefers and of what it does not.
fn log_prob_levels(batch: &[Prepared<'_>], policy: &[Vec<f64>], i: usize) -> LogProbLevels {
    let mut levels: [Vec<f64>; 4] = Default::default();
    for (record, policy) in batch.iter().zip(policy) {
        for judgement in &record.example.judgements {
            let Some(label) = judgement.labels[i] else {
                continue;
            };
            let chosen = match judgement.against {
                Some(against) if label < 0.5 => against,
                _ => judgement.response,
            };
            for response in judgement.responses() {
                let tokens = record.example.responses[response].len() as f64;
                let side = usize::from(response != chosen);
                levels[side].push(policy[response] / tokens);
                if let Some(reference) = record.reference.get(response) {
                    levels[2 + side].push(reference / tokens);
                }
            }
        }
    }
    LogProbLevels {
        policy_chosen: mean(&levels[0]),
        policy_rejected: mean(&levels[1]),
        reference_chosen: mean(&levels[2]),
        reference_rejected: mean(&levels[3]),
    }
}

/// The held-out records that are measured while training goes on.
struct Evaluation<'a> {
    examples: &'a [Example],
    references: Vec<Vec<f64>>,
}

impl<'a> Evaluation<'a> {
    fn prepare(training: &Training<'a>) -> Result<Self, TrainerError> {
        let plan = training.plan.evaluation();
        let count = if plan.every.is_some() {
            plan.records.min(training.eval.len())
        } else {
            0
        };
        let examples = &training.eval[..count];
        let references = references(
            training.references,
            training.model,
            &training.plan.method().learning,
            examples,
            || (),
        )?;
        Ok(Self {
            examples,
            references,
        })
    }

    /// Every objective's value at every vertex of the simplex and at its centre; of a reward model, which follows no
    /// preference, once.
    fn measure(
        &self,
        training: &Training<'_>,
        state: &TrainingState,
    ) -> Result<Vec<EvalMetrics>, TrainerError> {
        // Rewards of its own answers are measured when a run is finished: its plan says so.
        let Learning::Supervised(loss) = &training.plan.method().learning else {
            return Ok(Vec::new());
        };
        let m = training.plan.objectives().len();
        let vertices = (0..m).map(|i| Preference::vertex(m, i));
        let centre = (m > 1).then(|| Preference::uniform(m));
        let preferences: Vec<Preference> = match loss {
            Loss::BradleyTerry(_) => vec![Preference::uniform(m)],
            Loss::Dpo(_) | Loss::Sft(_) => vertices.chain(centre).collect(),
        };
        let adapters = Arc::new(state.adapters.clone());
        let measured = preferences.into_iter().map(|preference| {
            let started = Instant::now();
            let steering = Steering {
                adapters: Arc::clone(&adapters),
                preference: preference.weights().to_vec(),
            };
            let terms = evaluate(
                training.model,
                &steering,
                loss,
                self.examples,
                &self.references,
                || (),
            )?;
            Ok(EvalMetrics {
                step: state.step,
                lambda: preference.weights().to_vec(),
                objectives: summarise(&training.plan.objective_names(), &terms),
                seconds: started.elapsed().as_secs_f64(),
            })
        });
        measured.collect()
    }
}

/// `metrics.jsonl` and TensorBoard, written together.
struct Log {
    metrics: MetricsLog,
    events: EventWriter,
}

impl Log {
    fn open(run: &TrainingRun, step: usize) -> Result<Self, TrainerError> {
        let folder = run.folder();
        Ok(if step == 0 {
            Self {
                metrics: MetricsLog::create(&folder.metrics())?,
                events: EventWriter::create(&folder.tensorboard())?,
            }
        } else {
            Self {
                metrics: MetricsLog::resume(&folder.metrics(), step)?,
                events: EventWriter::resume(&folder.tensorboard(), step)?,
            }
        })
    }

    fn write(&mut self, line: &MetricsLine) -> Result<(), TrainerError> {
        self.metrics.write(line)?;
        self.events.write(line.step(), &line.scalars())
    }
}
