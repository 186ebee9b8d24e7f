//! Training one adapter that is steered by a preference vector: the plan of a run, its folder, and
//! everything around the steps.
//!
//! With parameters θ (the factors U, V and the singular values σ, s), each optimizer step draws
//! preferences λ on the simplex, and a batch of records, and goes down
//!
//! ```text
//! ∇_θ A_λ(L_1(θ, λ), …, L_m(θ, λ))        L_i = −J_i, A_λ = Σ_i λ_i L_i  or  max_i λ_i (z_i + L_i)
//! ```
//!
//! by AdamW, after clipping, at the rate of the [`Schedule`].
//!
//! # Is this for me?
//!
//! - To run a training, use the `panacea` binary: `cargo xtask train --config FILE`. It is a thin shell
//!   over this crate.
//! - To write a configuration, read [`Spec`] and its sections: every key with its default.
//! - To read what a run left, see [`RunFolder`] for the files, [`RunRecord`] for `run.toml` and
//!   [`StepMetrics`] for a line of `metrics.jsonl`.
//! - The losses and the aggregation are in `panacea_objectives`, the network is in `panacea_model`.
//!
//! # From a configuration to a plan
//!
//! A [`Spec`] is what a person wrote, a [`Plan`] what a run does: every default filled in, every value
//! checked, all mistakes reported at once.
//!
//! ```
//! use panacea_trainer::{Overrides, Plan, Spec};
//!
//! let text = r#"
//!     [model]
//!     path = "models/smollm2-135m-instruct"
//!     [data]
//!     train = "train.jsonl"
//!     [[objective]]
//!     name = "helpfulness"
//!     score = "helpfulness"
//!     [optimizer]
//!     steps = 110
//!     learning_rat = 1e-3
//! "#;
//! let spec = Spec::from_toml(text, "my.toml");
//! let errors = Plan::resolve(spec, &Overrides::default()).unwrap_err();
//! assert!(errors.to_string().contains("did you mean \"learning_rate\"?"));
//!
//! let spec = Spec::from_toml(&text.replace("learning_rat ", "learning_rate "), "my.toml");
//! let plan = Plan::resolve(spec, &Overrides { seed: Some(5), ..Overrides::default() })?;
//! assert_eq!((plan.seed(), plan.optimizer().learning_rate), (5, 1e-3));
//! assert_eq!(plan.preference().sampler.vertex_probability(), 0.1);
//! # Ok::<(), panacea_trainer::ConfigErrors>(())
//! ```
//!
//! # A run, and what survives it
//!
//! [`TrainingRun`] holds the folder of a run against a second process. A checkpoint is whole or not
//! there; a run killed at any moment goes on from the last one, with [`MetricsLog`] cut back to it and a
//! further event file by [`EventWriter`]. Ctrl-C raises an [`Interrupt`]; NaN and exploding norms are
//! caught by the [`DivergenceGuard`].

mod divergence;
mod error;
mod evaluation;
mod files;
mod interrupt;
mod lanes;
mod metrics;
mod optimizer;
mod plan;
mod problems;
mod progress;
mod reading;
mod record;
mod references;
mod rlhf;
mod run_folder;
mod schedule;
mod spec;
mod step;
mod tensorboard;
mod training;

pub use divergence::{
    Collapse, CollapseReason, Divergence, DivergenceGuard, Quantity, REPETITION_TOKENS,
};
pub use error::TrainerError;
pub use evaluation::{Evaluated, evaluate, record_values, references, summarise};
pub use files::{write_file, write_folder};
pub use interrupt::{EXIT_INTERRUPTED, Interrupt};
pub use lanes::{Lane, Lanes};
pub use metrics::{
    EvalMetrics, LogProbLevels, MetricsLine, MetricsLog, ObjectiveMetrics, ObjectiveValue,
    RlhfMetrics, StepMetrics, TrainingTotals, training_totals,
};
pub use optimizer::{AdamW, AdamWSettings};
pub use plan::{
    AdapterPlan, CheckpointPlan, DataPlan, EvaluationPlan, Learning, Length, MethodPlan,
    OptimizerPlan, Plan, PreferencePlan,
};
pub use problems::{ConfigErrors, Origin, Problem};
pub use progress::{LINE_INTERVAL, Progress, ProgressMode};
pub use reading::Overrides;
pub use record::{Differences, RunFacts, RunRecord};
pub use references::References;
pub use rlhf::{Advantages, Answer, Judges, PromptText, RewardMemory, Rlhf, Rollout, Scored};
pub use run_folder::{Checkpoint, RunFolder, TrainingRun};
pub use schedule::{Schedule, ScheduleKind};
pub use spec::{
    Activations, AdapterSpec, AdvantagesName, AggregationName, CheckpointSpec, DataSpec,
    DpoLossName, EvaluationSpec, FormatChoice, LossName, MethodName, MethodSpec, ModelSpec,
    OneOrMany, OptimizerSpec, PreferenceSpec, RlhfSpec, Spec,
};
pub use step::{BatchResult, Objective, Prepared, batch_gradient, response_log_probs};
pub use tensorboard::EventWriter;
pub use training::{Outcome, Training, TrainingState};
