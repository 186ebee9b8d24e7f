//! # Multi-objective preference losses and Pareto maths
//!
//! A policy is aligned to m objectives at once, and a preference λ on the simplex
//! Δ_m = {λ ≥ 0, Σλ_i = 1} says how much each counts. Everything here is a closed form over a few plain
//! numbers: log-probabilities come in, the value of each objective and the coefficient
//! ∂(aggregate)/∂(log-probability) of every response go out. No tensors, no tape, no files.
//!
//! ```text
//! L_i = mean over the judgements labelled on objective i of ℓ(record, label_i)       L_i = −J_i
//! linear scalarisation   Σ_i λ_i L_i              weighted Tchebycheff   max_i λ_i (L_i + z_i)
//!                                                 or, smooth             μ log Σ_i exp(λ_i (L_i + z_i) / μ)
//! ∂aggregate/∂log π(y) = Σ_i w_i / n_i · ∂ℓ_i/∂log π(y)            w_i = ∂aggregate/∂L_i
//! ```
//!
//! ## Is this for you?
//! Yes, if you train anything with DPO, KTO or SFT on more than one objective and have the log-probabilities
//! of whole responses: [`Loss`], [`Batch`], [`Aggregation`]. Yes, if you learn from
//! several rewards by PPO, RLOO, GRPO or GDPO and have the log-probability of every token: [`token_rewards`],
//! [`generalised_advantages`], [`leave_one_out_by_token`], [`group_relative_advantages`],
//! [`decoupled_group_advantages`], [`clipped_policy_term`]. Yes, if you train a reward model on pairs: [`BradleyTerry`]. Yes, if you need points
//! of the simplex: [`Preference`], [`simplex_grid`],
//! [`PreferenceSampler`]. [`non_dominated`] says which points of a front are worth keeping; indicators and
//! plots are in `panacea-evaluator`.
//!
//! ```
//! use panacea_objectives::{Aggregation, Batch, Dpo, DpoLoss, Judgement, Loss, Record};
//!
//! let loss = Loss::Dpo(Dpo::new(0.1, DpoLoss::Sigmoid { label_smoothing: 0.0 }, 0.0)?);
//! // Response 0 is the more helpful one; nobody judged which is the more concise.
//! let judgements = [Judgement::pair(0, 1, vec![Some(1.0), None])];
//! let record = Record {
//!     outputs: &[-10.0, -12.0], // log π
//!     reference: &[-11.0, -11.0],
//!     kl: 0.0,
//!     tokens: &[8, 9],
//!     judgements: &judgements,
//! };
//!
//! let preferences = ["0.75,0.25".parse()?];
//! let batch = Batch::deal(&preferences, [&judgements[..]]);
//! let terms = [loss.terms(&record)];
//! let aggregates = batch.aggregate(&Aggregation::Linear, &batch.losses(&terms));
//! let coefficients = batch.coefficients(&aggregates, 0, &terms);
//!
//! // The preferred response is pushed up (its loss falls with its log-probability), the other down.
//! assert!(coefficients[0] < 0.0 && coefficients[1] > 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aggregation;
mod batch;
#[cfg(test)]
mod cases;
mod dominance;
mod grid;
mod log_sigmoid;
mod losses;
mod preference;
mod record;
mod rl;
mod sampler;
mod statistics;
mod weights;

pub use aggregation::{Aggregate, Aggregation};
pub use batch::Batch;
pub use dominance::{dominates, non_dominated};
pub use grid::{simplex_grid, usual_divisions};
pub use log_sigmoid::{log_sigmoid, sigmoid};
pub use losses::{
    BradleyTerry, BradleyTerryError, Dpo, DpoError, DpoLoss, Kto, KtoError, Loss, Outputs,
    PairLogProbs, RecordTerms, Sft, Term, mismatched_kl,
};
pub use preference::{Preference, PreferenceError, rounded_weight};
pub use record::{Judgement, Record, RecordKind};
pub use rl::{
    Advantages, KlEstimate, PolicyTerm, ValueTerm, clipped_policy_term, clipped_value_term,
    decoupled_group_advantages, explained_variance, generalised_advantages,
    group_relative_advantages, kl_estimate, leave_one_out_advantages, leave_one_out_by_token,
    scalarise, sequence_return, token_rewards, whiten,
};
pub use sampler::{PreferenceSampler, SamplerError};
pub use statistics::{Estimate, estimate, mean};
pub use weights::{Weights, WeightsError};
