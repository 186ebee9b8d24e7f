//! Why a run cannot be opened to answer.

use std::path::PathBuf;

use panacea_methods::NotServed;
use panacea_model::ModelError;
use panacea_objectives::PreferenceError;
use panacea_pretrained::PretrainedError;
use panacea_runs::RunError;
use panacea_svd_lora::AdapterError;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// The model's files.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// The folder of the run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The run has trained nothing yet.
    #[error(
        "{run} has no adapter and no checkpoint yet: train it first, or go on with --resume",
        run = run.display()
    )]
    NothingTrained {
        /// The run.
        run: PathBuf,
    },
    /// The files of its adapter.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The files of its last checkpoint, which stands in for its adapter while it is not finished.
    #[error("{source}{way_back}")]
    Checkpoint {
        /// What is wrong with them.
        source: AdapterError,
        /// What to do about it.
        way_back: String,
    },
    /// The adapter is one of another model.
    #[error("{run} was trained on {base_model}: {source}", run = run.display())]
    OtherModel {
        /// The run.
        run: PathBuf,
        /// What it was trained on.
        base_model: String,
        /// What differs.
        source: AdapterError,
    },
    /// The network cannot take such an adapter.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The run is one of a method that writes no answers.
    #[error("run {run}: {reason}; see cargo xtask eval-reward --run {run}")]
    NotServed {
        /// The run's name.
        run: String,
        /// Why.
        reason: NotServed,
    },
    /// The adapter of a reward model reads no rewards.
    #[error(
        "{run}: the adapter has no head that reads rewards; take one that was trained with method.name = \"reward-model\"",
        run = run.display()
    )]
    NoHead {
        /// The run.
        run: PathBuf,
    },
    /// A preference with other objectives than the run's.
    #[error("the objectives of run {run} are {objectives}: {source}")]
    Preference {
        /// The run's name.
        run: String,
        /// Its objectives.
        objectives: String,
        /// What is wrong.
        source: PreferenceError,
    },
}
