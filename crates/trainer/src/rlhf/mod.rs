//! Reinforcement learning from rewards: the policy answers, scorers score, and the policy moves towards what scored.
//!
//! A step, as in the paper's RLHF with linear scalarisation:
//!
//! ```text
//! draw prompts and λ;  answer every prompt under its λ;  score: r_i of every answer
//! rewards: as they are, or normalised over the run, objective by objective, and clipped
//! R = Σ λ_i r_i at an answer's last token, −β (log π − log π_ref) at every token (GRPO, GDPO: β·k3 in the loss instead)
//! advantages: by a critic that sees λ (GAE), or by the other answers to the same prompt (RLOO, GRPO, GDPO)
//! a few epochs on these answers: the clipped policy loss, and the critic's clipped squares
//! β: as it is, or up and down with the KL of these answers, for the next step
//! ptx: an SFT loss on the records' own first responses beside the policy loss
//! ```
//!
//! Each answer is read as few times as possible. log π is kept from generation; the reference reads the answer once;
//! policy and critic read it once an epoch, one after the other, so that only one tape is in memory at a time.
//!
//! λ is drawn before the answers are, and stays theirs. Reference, policy and critic are one set of base weights: the
//! reference has no adapter, and the critic one of its own.

mod advantages;
pub(crate) mod critic;
mod judges;
mod kl_control;
pub(crate) mod reward_memory;
mod rollout;
pub(crate) mod update;

pub use judges::{Judges, PromptText, Scored, open_scorers, scorer_specs};
pub use reward_memory::RewardMemory;
