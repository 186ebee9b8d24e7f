//! # A decoder-only transformer, steered by a preference vector per row
//!
//! One readable decoder for the Llama family and its relatives (Llama 1–3, SmolLM2, Mistral, Qwen2, Qwen3, Gemma 3, Phi-3)
//! with SVD-LoRA adapters on its projections. What differs between them is data (`ModelConfig`): the window and rotation of
//! each layer, norms, the gate, caps. It does four things:
//!
//! - [`Decoder::log_probs`] and [`Decoder::forward`]: log-probabilities of response tokens, each row of
//!   the batch under its own λ;
//! - [`Decoder::backward`]: the gradient of any weighted sum of those log-probabilities with respect to
//!   U, V, σ and s, written out layer by layer, without a tape;
//! - [`Decoder::values`] and its gradient: one number a token in place of a log-probability, for critics;
//! - [`Generation`]: sampling with a KV cache; requests come and go, each under its own adapter and λ.
//!   [`Decoder::generate`] answers a list of them.
//!
//! Nothing here knows a loss: an objective is handed log-probabilities and hands back the coefficients
//! ∂objective/∂log p, and [`Decoder::backward`] turns those into gradients. The
//! `[tokens × vocabulary]` logits never exist whole: the head runs over response positions, a piece of the vocabulary at a
//! time, and keeps ∂log p/∂h of each position, so that nothing is computed twice.
//!
//! A batch is packed without padding ([`PackedBatch`]): the responses to one prompt stand behind that
//! prompt, see it, and do not see each other. The prompt is computed once for all of them.

#[cfg(test)]
mod against_autodiff;
mod batch;
mod decoder;
mod error;
mod generation;
mod head;
mod layer;
mod linear;
mod load;
mod matrix;
mod packing;
mod sampling;
mod steering;

// The unit tests use helpers of `tests/common`, which refer to the crate as `panacea_model`.
#[cfg(test)]
extern crate self as panacea_model;

pub use batch::{PackedBatch, Sequence};
pub use decoder::{Decoder, Forward, Logits, MemoryPolicy, PROJECTIONS, Tape, ValueTape};
pub use error::ModelError;
pub use generation::{Generated, Generation, NewToken, Request, RequestId, StopReason};
pub use head::ValueHead;
pub use packing::{Packing, WeightMemory};
pub use panacea_kernels::{Bits, compute_on_this_thread};
pub use sampling::{Likelihood, Sampling};
pub use steering::Steering;
