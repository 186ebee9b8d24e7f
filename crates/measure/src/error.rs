//! Why a run cannot be measured.

use panacea_data::DataError;
use panacea_devices::DeviceError;
use panacea_evaluator::EvaluatorError;
use panacea_evaluator::exact::KlError;
use panacea_model::ModelError;
use panacea_pretrained::PretrainedError;
use panacea_reward_models::RewardModelError;
use panacea_runs::RunError;
use panacea_serving::ServingError;
use panacea_trainer::TrainerError;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The folder of the run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The model's files.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// What the run has trained.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// The files of the records.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The network, or a request that it cannot answer.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The base model.
    #[error(transparent)]
    Base(#[from] RewardModelError),
    /// The records, or what was asked of them.
    #[error(transparent)]
    Trainer(#[from] TrainerError),
    /// The numbers.
    #[error(transparent)]
    Evaluator(#[from] EvaluatorError),
    /// The problem that the records pose.
    #[error(transparent)]
    Problem(#[from] KlError),
    /// A run that is to be measured like one with other objectives.
    #[error(
        "run {run} was trained on the objectives {own}, and is to be measured like a run on {others}: they have to be the same"
    )]
    OtherObjectives {
        /// The run.
        run: String,
        /// Its objectives.
        own: String,
        /// Those of the other run.
        others: String,
    },
    /// There is nothing to measure on.
    #[error("run {run} was trained without held-out files: give some with --eval")]
    NoHeldOut {
        /// The run.
        run: String,
    },
    /// There is nothing that scores answers.
    #[error(
        "run {run} has no rewards to score answers by: --by rewards is for runs with method.loss = \"rlhf\""
    )]
    NoRewards {
        /// The run.
        run: String,
    },
    /// The judges said nothing readable.
    #[error(
        "run {run}: every prompt has an answer at some λ of which a judge said nothing readable; see what it replies, or let a number count with `on_unreadable`"
    )]
    NothingScored {
        /// The run.
        run: String,
    },
    /// A response that nobody has scored.
    #[error(
        "{record}: found no score on every objective for response {response}, expected scored responses, by which this front is measured; \
         --by rewards measures answers that the run writes instead"
    )]
    NoScore {
        /// Where the record stands.
        record: String,
        /// Which of its responses, from 1.
        response: usize,
    },
}
