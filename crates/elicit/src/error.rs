//! What is wrong with an input.

use panacea_objectives::PreferenceError;

use crate::limits::{LARGEST_DIFFERENCE, LONGEST_NAME, MOST_OBJECTIVES, MOST_QUESTIONS};

/// Why a belief, a front, a question or an answer is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ElicitError {
    /// There is nothing to weigh against each other.
    #[error("{0} objective(s); a preference can be asked for from 2 objectives on")]
    TooFewObjectives(usize),
    /// There are more objectives than [`MOST_OBJECTIVES`].
    #[error("{0} objectives; there may be {MOST_OBJECTIVES} at most")]
    TooManyObjectives(usize),
    /// A name or an id is longer than [`LONGEST_NAME`].
    #[error("{what} has {found} bytes; there may be {LONGEST_NAME} at most")]
    TooLong {
        /// What is named.
        what: &'static str,
        /// How long its name is.
        found: usize,
    },
    /// Two objectives have the same name, or one has none.
    #[error("objective {position} is named `{name}`; names must be given and differ")]
    ObjectiveName {
        /// 1-based position of the objective.
        position: usize,
        /// Its name.
        name: String,
    },
    /// A setting is outside of its range.
    #[error("{setting} is {value}; it must lie {range}")]
    Setting {
        /// Name of the setting, as a profile has it.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
    /// The unit of the scores is none.
    #[error("the unit of the scores is {0}; it must be a finite number above 0")]
    Unit(f64),
    /// There are more or fewer numbers than objectives.
    #[error("{what} has {found} number(s), but there are {expected} objective(s)")]
    Length {
        /// What the numbers are of.
        what: String,
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
    /// A number is NaN, infinite or too large: so large that sums and differences of such numbers could be infinite.
    #[error(
        "number {position} of {what} is {value}; every one must be finite, and below 1e100 in size"
    )]
    NotFinite {
        /// What the number belongs to.
        what: String,
        /// 1-based position.
        position: usize,
        /// The number.
        value: f64,
    },
    /// The scores of two candidates are not on the scale that the taste noise is thought of in.
    #[error(
        "the scores of two candidates on objective {position} are {difference} apart, and may be {LARGEST_DIFFERENCE}; bring \
         the scores of each objective to a range of about 1, for example by the range that it has over many answers"
    )]
    ScoresApart {
        /// 1-based position of the objective.
        position: usize,
        /// How far apart they are.
        difference: f64,
    },
    /// A λ does not fit.
    #[error("the preference of {what}: {source}")]
    Preference {
        /// Whose preference it is.
        what: String,
        /// What is wrong with it.
        source: PreferenceError,
    },
    /// "About equal" was answered to a question that did not offer it.
    #[error("the answer is `about_equal`, but this session offers no ties (setting `tie`)")]
    TieNotOffered,
    /// An answer would be compared with itself.
    #[error("both sides of the question have the id `{0}`")]
    SameCandidate(String),
    /// A candidate has other scores than in an earlier question.
    #[error(
        "`{0}` had other scores in an earlier question; what was learnt from them would not be about this one"
    )]
    ScoresChanged(String),
    /// A pair was asked before, from whichever side.
    #[error(
        "`{left}` and `{right}` were asked about before; the same answer again says nothing new"
    )]
    AskedBefore {
        /// Id of the left one.
        left: String,
        /// Id of the right one.
        right: String,
    },
    /// A session is full.
    #[error("the profile has {MOST_QUESTIONS} questions; no more are learnt from")]
    TooManyQuestions,
    /// Two candidates have the same id.
    #[error("two candidates have the id `{0}`; ids say which pairs were asked already")]
    DuplicateCandidate(String),
    /// A front has no point.
    #[error("the front has no point")]
    EmptyFront,
    /// The points of a front differ by too little.
    #[error(
        "the points of the front are {0:e} apart at most; they must be 1e-100 apart, or the same"
    )]
    FrontRange(f64),
    /// A front has no such point.
    #[error("there is no point {chosen}, counted from 0, on a front of {points}")]
    NoSuchPoint {
        /// Place of the point that was asked for.
        chosen: usize,
        /// Number of points.
        points: usize,
    },
    /// A study has nothing to ask about.
    #[error("the study has no prompt")]
    NoPrompt,
    /// An untrained wish does not say of everything what it is worth.
    #[error(
        "the untrained wish has {found} worth(s) or list(s) of them for {what}, of which there are {expected}"
    )]
    Wish {
        /// What they are for.
        what: String,
        /// How many there are.
        found: usize,
        /// How many there must be.
        expected: usize,
    },
}

/// Checks that a name or an id is not too long; `what` says what it names.
pub(crate) fn check_length(what: &'static str, name: &str) -> Result<(), ElicitError> {
    match name.len() {
        found if found > LONGEST_NAME => Err(ElicitError::TooLong { what, found }),
        _ => Ok(()),
    }
}

/// Checks that no objective's scores are further apart than they may be, given the difference of two candidates.
pub(crate) fn check_differences(
    differences: impl IntoIterator<Item = f64>,
) -> Result<(), ElicitError> {
    let mut sizes = differences.into_iter().map(f64::abs).zip(1..);
    match sizes.find(|(size, _)| *size > LARGEST_DIFFERENCE) {
        None => Ok(()),
        Some((difference, position)) => Err(ElicitError::ScoresApart {
            position,
            difference,
        }),
    }
}

/// Size of a number beyond which sums and differences of scores could overflow.
const LARGEST: f64 = 1e100;

/// Checks that there is one finite number for each objective; `what` says whose they are.
pub(crate) fn check_numbers(
    what: &str,
    numbers: &[f64],
    objectives: usize,
) -> Result<(), ElicitError> {
    if numbers.len() != objectives {
        return Err(ElicitError::Length {
            what: what.to_owned(),
            found: numbers.len(),
            expected: objectives,
        });
    }
    let broken = |number: &f64| number.is_nan() || number.abs() >= LARGEST;
    match numbers.iter().position(broken) {
        None => Ok(()),
        Some(at) => Err(ElicitError::NotFinite {
            what: what.to_owned(),
            position: at + 1,
            value: numbers[at],
        }),
    }
}
