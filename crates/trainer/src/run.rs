//! The training loop: Algorithm 1 of the Panacea paper, with what surrounds it.

use std::sync::Arc;
use std::time::Instant;

use panacea_config::{Learning, Plan};
use panacea_data::{BatchPlan, Example};
use panacea_devices::{guarded, memory_of, peak_memory_bytes};
use panacea_model::Steering;
use panacea_objectives::{Outputs, Preference};
use panacea_runs::{
    EvalMetrics, EventWriter, Interrupt, MetricsLine, MetricsLog, MlflowRun, Progress,
    ProgressMode, StepMetrics, TrainingRun,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::error::TrainerError;
use crate::evaluation::{evaluate, references, summarise};
use crate::rlhf::update::check_records;
use crate::schedule::Schedule;
use crate::state::TrainingState;
use crate::training::{Stepped, Training};

/// Streams of random numbers that a seed is split into, so that none repeats another.
const PREFERENCE_STREAM: u64 = 1 << 32;

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
        let schedule = Schedule::of(plan.optimizer(), total);
        let batch_size = plan.optimizer().batch_size;
        let mut batches = BatchPlan::of_examples(self.train, batch_size, plan.seed());
        let mut log = Log::open(run, plan, state.step)?;
        let mut progress = Progress::new(total, state.step, progress);
        let evaluation = Evaluation::prepare(self)?;
        if let Learning::Rlhf(rlhf) = &plan.method().learning {
            check_records(rlhf, self.train)?;
        }

        while state.step < total {
            let started = Instant::now();
            let step = state.step + 1;

            // Algorithm 1: a batch, a preference, the aggregated objective under it, one gradient step.
            let records = batches.batch(state.step);
            let records: Vec<&Example> = records.iter().map(|&i| &self.train[i]).collect();
            let preferences = self.sample_preferences(state.step);
            let factor = schedule.factor(state.step);
            let stepped = self.on_device(step, run, || {
                self.one_step(&mut state, &records, &preferences, factor)
            });
            // A failed scorer may work again when the run is resumed, and a judge may talk sense again; a collapsed policy is kept
            // to be inspected.
            let keeps = matches!(
                &stepped,
                Err(TrainerError::Score(_)
                    | TrainerError::TooFewScored { .. }
                    | TrainerError::Collapsed(_))
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
                token_loss: stepped.token_loss,
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
                log.mlflow.map_or(Ok(()), MlflowRun::stop)?;
                progress.finish(&format!(
                    "stopped at step {step} of {total}; its checkpoint is written"
                ));
                return Ok(Outcome::Interrupted { step });
            }
        }
        run.save_adapter(|dir| state.adapters.save(dir).map_err(TrainerError::from))?;
        log.mlflow.map_or(Ok(()), MlflowRun::finish)?;
        progress.finish(&format!("{total} steps are done"));
        Ok(Outcome::Finished)
    }

    /// Learns once from `records`, which are dealt to `preferences`, at `factor` of the learning rate.
    pub(crate) fn one_step(
        &self,
        state: &mut TrainingState,
        records: &[&Example],
        preferences: &[Preference],
        factor: f64,
    ) -> Result<Stepped, TrainerError> {
        match &self.plan.method().learning {
            Learning::Rlhf(rlhf) => self.rlhf_step(state, rlhf, records, preferences, factor),
            Learning::Supervised(loss) => self.loss_step(state, loss, records, preferences, factor),
        }
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

    /// The preferences of the step behind `finished` steps, one a group, from the seed and the step alone.
    pub(crate) fn sample_preferences(&self, finished: usize) -> Vec<Preference> {
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
}

impl<'a> Training<'a> {
    /// The held-out records that are measured while training goes on.
    pub(crate) fn measured_examples(&self) -> &'a [Example] {
        let plan = self.plan.evaluation();
        let count = plan.records.min(self.eval.len());
        match plan.every {
            Some(_) => &self.eval[..count],
            None => &[],
        }
    }

    /// What they are measured under: every vertex of the simplex and its centre, or the only preference of the training; a reward
    /// model, which follows no preference, is measured once, and rewards of own answers when a run is finished: its plan says so.
    pub(crate) fn measured_preferences(&self) -> Vec<Preference> {
        let m = self.plan.objectives().len();
        match &self.plan.method().learning {
            Learning::Rlhf(_) => Vec::new(),
            Learning::Supervised(loss) if loss.outputs() == Outputs::Rewards => {
                vec![Preference::uniform(m)]
            }
            Learning::Supervised(_) => match self.plan.only_preference() {
                Some(only) => vec![only],
                None => {
                    let vertices = (0..m).map(|i| Preference::vertex(m, i));
                    vertices.chain([Preference::uniform(m)]).collect()
                }
            },
        }
    }
}

/// The held-out records that are measured while training goes on, with what the reference policy says of them.
struct Evaluation<'a> {
    examples: &'a [Example],
    references: Vec<Vec<f64>>,
}

impl<'a> Evaluation<'a> {
    fn prepare(training: &Training<'a>) -> Result<Self, TrainerError> {
        let examples = training.measured_examples();
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

    /// Every objective's value under each preference of [`Training::measured_preferences`].
    fn measure(
        &self,
        training: &Training<'_>,
        state: &TrainingState,
    ) -> Result<Vec<EvalMetrics>, TrainerError> {
        let Learning::Supervised(loss) = &training.plan.method().learning else {
            return Ok(Vec::new());
        };
        let adapters = Arc::new(state.adapters.clone());
        let preferences = training.measured_preferences().into_iter();
        let measured = preferences.map(|preference| {
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

/// `metrics.jsonl`, TensorBoard and MLflow, written together.
struct Log {
    metrics: MetricsLog,
    events: EventWriter,
    mlflow: Option<MlflowRun>,
}

impl Log {
    fn open(run: &TrainingRun, plan: &Plan, step: usize) -> Result<Self, TrainerError> {
        let folder = run.folder();
        let store = plan.logging().mlflow.as_ref();
        let mlflow = store.map(|store| MlflowRun::open(store, folder.path(), plan, step));
        let mlflow = mlflow.transpose()?;
        Ok(Self {
            metrics: match step {
                0 => MetricsLog::create(&folder.metrics())?,
                _ => MetricsLog::resume(&folder.metrics(), step)?,
            },
            // Of a run that was killed before its first checkpoint there are events, too.
            events: EventWriter::resume(&folder.tensorboard(), step)?,
            mlflow,
        })
    }

    fn write(&mut self, line: &MetricsLine) -> Result<(), TrainerError> {
        self.metrics.write(line)?;
        let scalars = line.scalars();
        self.events.write(line.step(), &scalars)?;
        if let Some(mlflow) = &mut self.mlflow {
            mlflow.write(line.step(), &scalars)?;
        }
        Ok(())
    }
}
