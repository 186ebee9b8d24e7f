//! Reinforcement learning from rewards: what stands between log-probabilities and coefficients.
//!
//! ```text
//! max_π  E[ Σ_i λ_i r_i(x, y) ] − β KL(π ‖ π_ref)              one KL term, whatever λ (Panacea, eq. 16)
//!
//! with a critic   token_rewards, generalised_advantages, whiten        clipped_policy_term, clipped_value_term
//! RLOO            token_rewards of each sample, leave_one_out_by_token                  clipped_policy_term
//! GRPO            group_relative_advantages: objectives weighed, then normalised        clipped_policy_term
//! GDPO            decoupled_group_advantages: normalised, then weighed; whiten          clipped_policy_term
//! ```
//!
//! A term is the loss of one token, and its derivative with respect to what the network gave for that
//! token. How terms are averaged, over the tokens of a batch or first over those of a response, is the
//! caller's: the coefficient of a token is its derivative times its share in the average.

mod advantages;
mod group;
mod moments;
#[cfg(test)]
mod policy_gradient;
mod ppo;
mod rewards;

pub use advantages::{Advantages, explained_variance, generalised_advantages, whiten};
pub use group::{
    decoupled_group_advantages, group_relative_advantages, leave_one_out_advantages,
    leave_one_out_by_token,
};
pub use ppo::{PolicyTerm, ValueTerm, clipped_policy_term, clipped_value_term};
pub use rewards::{KlEstimate, kl_estimate, scalarise, sequence_return, token_rewards};
