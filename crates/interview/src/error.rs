//! Why a question cannot be asked or an answer not be kept.

use std::path::PathBuf;

use panacea_elicit::{ElicitError, ProfileError};
use panacea_evaluator::EvaluatorError;
use panacea_files::FileError;
use panacea_model::ModelError;
use panacea_pretrained::PretrainedError;
use panacea_rewards::ScoreError;
use panacea_runs::RunError;
use panacea_serving::ServingError;
use panacea_trainer::TrainerError;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum InterviewError {
    /// A name that cannot be a folder's.
    #[error(
        "`{name}` cannot be the name of a profile: it has 1 to 64 letters, digits, dots, dashes or underscores, and begins with a letter or digit"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// There is no profile of that name.
    #[error(
        "there is no profile `{name}` of run {run}{}; cargo xtask elicit --run {run} --profile {name} makes one",
        listed(known)
    )]
    NoProfile {
        /// The name.
        name: String,
        /// The run.
        run: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The file is no profile.
    #[error("{path}: {source}", path = path.display())]
    Profile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ProfileError,
    },
    /// The profile is of something else.
    #[error(
        "{path}: {what} are {found} there, but {expected} for run {run}; take another name for a new profile",
        path = path.display()
    )]
    OtherProfile {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the profile has.
        found: String,
        /// What the run has.
        expected: String,
        /// The run.
        run: String,
    },
    /// Somebody else wrote to the profile.
    #[error("{path} was changed meanwhile; this answer is not kept: ask again", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The answers have nearly the same scores.
    #[error(
        "the answers of run {run} have nearly the same scores at every preference ({range:.2} apart at most; {scores}): no comparison of them says what a person wants; train it longer, or try another prompt"
    )]
    NoDifference {
        /// The run.
        run: String,
        /// The largest range of an objective's scores.
        range: f64,
        /// What the scores are.
        scores: &'static str,
    },
    /// The scores are much further apart than those that the profile began with.
    #[error(
        "these answers differ far more than those that the profile began with ({source}): write shorter ones, or take another name for a new profile"
    )]
    FarApart {
        /// By how much.
        source: ElicitError,
    },
    /// The answers in the profile do not lead to what it says of them.
    #[error(
        "{path}: the answers in it lead to weights that are {drift:.1e} from those that stand beside them: it was edited, or written by another version; take another name for a new profile",
        path = path.display()
    )]
    Edited {
        /// The file.
        path: PathBuf,
        /// The largest difference of a weight.
        drift: f64,
    },
    /// There are no two answers.
    #[error(
        "of the answers of run {run} to this prompt no two differ and have a score: try another prompt, a higher temperature or longer answers, and see that its judges, if it has any, say a score"
    )]
    OneAnswer {
        /// The run.
        run: String,
    },
    /// Its rewards come from somebody who has to be waited for.
    #[error(
        "a program or an endpoint says the rewards of run {run}, and a server does not wait for it; cargo xtask elicit --run {run} does"
    )]
    Waits {
        /// The run.
        run: String,
    },
    /// What was measured is of something else.
    #[error("{path}: {problem}; measure it again: cargo xtask eval-front --run {run}", path = path.display())]
    Front {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// The run.
        run: String,
    },
    /// The belief, or the front.
    #[error(transparent)]
    Elicit(#[from] ElicitError),
    /// The measured front.
    #[error(transparent)]
    Evaluator(#[from] EvaluatorError),
    /// The folder of the run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What the run serves.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// Its scorers or checkpoint.
    #[error(transparent)]
    Trainer(#[from] TrainerError),
    /// A scorer.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
}

impl InterviewError {
    /// Whether other answers may be asked about all the same.
    #[must_use]
    pub fn is_of_these_answers(&self) -> bool {
        matches!(
            self,
            Self::OneAnswer { .. } | Self::NoDifference { .. } | Self::FarApart { .. }
        )
    }
}

fn listed(known: &[String]) -> String {
    match known {
        [] => ", which has none yet".to_owned(),
        known => format!(" (it has {})", known.join(", ")),
    }
}
