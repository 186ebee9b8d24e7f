//! # From a run to its front
//!
//! [`Opened::open`] reads a run with all that measuring it takes: its plan, its base model, its adapters, held-out records.
//! Then
//!
//! - [`Opened::measure`] measures it by the log-probabilities of the records' own responses, beside the exact front where
//!   the records pose a problem whose best policy is known;
//! - [`Opened::measure_rewards`] has it answer the records' prompts, and measures what its scorers say of the answers.
//!
//! [`Rates`] are how fast this machine is at that, and how much of it fits into a quarter of the training's time.
//!
//! Both results hold a `panacea_evaluator::Front`; that crate draws it and writes the report.

mod by_records;
mod by_rewards;
mod cost;
mod error;
mod exact;
mod opened;

pub use by_rewards::{ScoredAnswer, Writing};
pub use cost::{Asked, Rates, Sample, USUAL_PROMPTS};
pub use error::MeasureError;
pub use opened::{Choices, Measured, Opened, grid};
