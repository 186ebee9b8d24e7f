//! # The folder of a training, and what is written into it
//!
//! [`RunFolder`] says what is where; [`RunRecord`] is `run.toml`, the plan of the run with the facts that decide whether it
//! can be repeated; [`StepMetrics`] is a line of `metrics.jsonl`, [`EventWriter`] writes the same numbers for
//! TensorBoard, and [`MlflowRun`] for MLflow. [`write_file`] and [`write_folder`] are how all of it appears whole or not at all.
//!
//! [`TrainingRun`] holds a folder against a second process. A checkpoint is whole or not there; a run killed at any moment
//! goes on from the last one, with [`MetricsLog`] cut back to it and a further event file. Ctrl-C raises an [`Interrupt`].

mod counted;
mod error;
mod evaluations;
mod interrupt;
mod metrics;
mod metrics_log;
mod mlflow;
mod progress;
mod record;
mod run_folder;
mod summary;
mod telling;
mod tensorboard;
mod training_run;

pub use counted::CountedProgress;
pub use error::RunError;
pub use evaluations::EvaluationFolder;
pub use interrupt::{EXIT_INTERRUPTED, Interrupt};
pub use metrics::{
    EvalMetrics, LogProbLevels, MetricsLine, NearestVertex, ObjectiveMetrics, ObjectiveValue,
    RewardScale, RlhfMetrics, StepMetrics,
};
pub use metrics_log::{MetricsLog, TrainingTotals, training_totals};
pub use mlflow::MlflowRun;
pub use panacea_files::{write_file, write_folder};
pub use progress::{LINE_INTERVAL, Progress, ProgressMode};
pub use record::{Differences, Extension, RunFacts, RunRecord, Unlike};
pub use run_folder::{Checkpoint, RunFolder};
pub use summary::{RunState, RunSummary};
pub use telling::{Level, LogFormat, Telling, as_called, tell, tell_so, telling};
pub use tensorboard::EventWriter;
pub use training_run::TrainingRun;
