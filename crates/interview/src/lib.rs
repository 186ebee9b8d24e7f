//! # Finding out what a person wants, on the answers of a run
//!
//! `elicit` knows how to ask about candidates with scores. Here the candidates are a run's own answers, the scores say what the
//! run was trained for, and what comes out is kept beside the run as a profile, which serves its λ from then on.
//!
//! ```text
//! Yardstick   what scores an answer, and what a front's values are worth beside such scores
//! Criteria    the yardstick, opened on the model: answers in, r ∈ R^m of each out
//! Pool        answers to one prompt, written at λ spread over the simplex, with their scores
//! Measured    the front that was measured of the run
//! Profile     Session + the run's measured front, on disk; asks about a pool, learns, gives the λ to serve
//! ```
//!
//! | run | r_i of an answer y to x |
//! |---|---|
//! | RLHF | its reward, normalised as the run's own rewards were while it learnt |
//! | any other | log π(y given x; λ = e_i) − log π_base(y given x), in nats: DPO's implicit reward, but for its factor β |
//!
//! A profile is a folder in the run's:
//!
//! ```text
//! runs/NAME/profiles/ANNA/
//!   profile.jsonl       every question with its scores and its answer (`elicit` replays it)
//!   preferences.jsonl   what was preferred, as preference records that a training reads
//! ```

mod criteria;
mod error;
mod measured;
mod pool;
mod profile;
mod yardstick;

pub use criteria::Criteria;
pub use error::InterviewError;
pub use measured::Measured;
pub use pool::{Pool, Prompt, Writing, WrittenAnswer, spread, write_answers};
pub use profile::{Profile, Profiles, USUAL_ANSWERS};
pub use yardstick::Yardstick;
