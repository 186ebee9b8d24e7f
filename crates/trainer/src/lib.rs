//! Training one adapter that is steered by a preference vector: the steps, and the loop around them.
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
//! - Configurations and plans are in `panacea_config`, the folder of a run and what is in it in `panacea_runs`.
//! - To run one in a program of your own, [`Preparation`] opens what a plan names, and [`Work::carry_out`] trains;
//!   `examples/train_run.rs` does both.
//! - The losses and the aggregation are in `panacea_objectives`, the network is in `panacea_model`.
//!
//! NaN and exploding norms are caught by the [`DivergenceGuard`].

mod cost;
mod divergence;
mod error;
mod evaluation;
mod lanes;
mod optimizer;
mod preparation;
mod records;
mod references;
mod rlhf;
mod run;
mod schedule;
mod state;
mod step;
mod supervised;
mod training;
mod trainings;

pub use cost::{TrainingCost, seconds_per_row};
pub use divergence::{
    Collapse, CollapseReason, Divergence, DivergenceGuard, Quantity, REPETITION_TOKENS,
};
pub use error::TrainerError;
pub use evaluation::{
    Evaluated, evaluate, evaluate_untrained, record_values, references, summarise,
};
pub use lanes::{Lane, Lanes};
pub use optimizer::{AdamW, AdamWSettings};
pub use preparation::Preparation;
pub use records::{Origin, Records};
pub use references::{References, computed_by};
pub use rlhf::{Judges, PromptText, RewardMemory, Scored, open_scorers, scorer_specs};
pub use run::Outcome;
pub use schedule::Schedule;
pub use state::TrainingState;
pub use step::{BatchResult, Objective, Prepared, batch_gradient, response_log_probs};
pub use training::Training;
pub use trainings::Work;
