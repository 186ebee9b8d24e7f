//! # The operations of a decoder, each with its gradient
//!
//! Matrix products that add to what is there, AdamW, RMSNorm, SwiGLU and GeGLU, rotary positions, attention over packed
//! segments, and the log-probabilities of a language-model head. Every operation exists in several forms that
//! tests hold against each other:
//!
//! - on the CPU (`flex`) as one pass over memory on all cores, with vectorised exponentials and without
//!   zeroing what is overwritten anyway;
//! - on any other device, composed of burn's tensor operations; on GPUs as products and kernels of our own, one launch for
//!   each operation beside its products (feature `wgpu`, `vulkan` or `cuda`).
//!
//! The caller sees neither: functions take tensors and return tensors. There is no tape; whoever calls an
//! operation forward keeps what its gradient asks for.
//!
//! Every operation checks shapes and indices before it begins, and panics with its name, the argument, the axis, what
//! it found and what it expected; each says so under "Panics".
//!
//! ## Is this for you?
//! Yes, if you write the backward pass of a transformer by hand on burn tensors and want it to be fast on a
//! CPU. For a whole decoder see `panacea-model`.
//!
//! ```
//! use burn_tensor::{Device, Tensor};
//! use panacea_kernels::{Gate, gated, gated_backward};
//!
//! let device = Device::flex();
//! let gate = Tensor::<2>::from_floats([[0.0, 2.0]], &device);
//! let up = Tensor::<2>::from_floats([[3.0, 1.0]], &device);
//! let y = gated(Gate::Silu, &gate, &up);                                 // silu(gate) ⊙ up
//! let (d_gate, d_up) = gated_backward(Gate::Silu, gate, up, y.ones_like());
//! assert_eq!(d_gate.dims(), d_up.dims());
//! ```

mod adamw;
mod attention;
mod blocks;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "flex")]
mod fresh;
mod gated;
#[cfg(feature = "gpu")]
mod gpu;
mod head;
#[cfg(feature = "flex")]
mod host;
#[cfg(feature = "flex")]
mod integers;
#[cfg(feature = "flex")]
mod interleaved;
mod lanes;
#[cfg(feature = "gpu")]
mod launch;
mod matmul;
mod norm;
mod packed;
mod panels;
#[cfg(feature = "flex")]
mod prefetch;
mod rotary;
#[cfg(feature = "flex")]
mod rounded;
mod several;
mod shape;
mod squares;
mod steer;
#[cfg(feature = "flex")]
mod team;
#[cfg(all(test, feature = "flex"))]
mod test_support;
#[cfg(feature = "flex")]
mod thin;
mod vocabulary;
mod weights;
#[cfg(all(feature = "flex", target_arch = "x86_64"))]
mod x86;

pub use adamw::{AdamWStep, AdamWUpdate, adamw};
pub use attention::{
    CacheRow, CacheRows, Heads, Segment, Visibility, attention, attention_backward,
    attention_decode, write_cache,
};
pub use blocks::Blocks;
pub use gated::{Gate, gated, gated_backward};
pub use head::head_log_probs;
pub use matmul::{matmul, matmul_add};
pub use norm::{rms_norm, rms_norm_backward};
pub use packed::{Bits, PackedMatrix};
pub use rotary::Rotation;
pub use several::{add_each, scale_each};
pub use squares::sum_of_squares;
pub use steer::{Steered, steer, steer_backward};
pub use vocabulary::{LOGIT_BLOCK, logit_blocks, select_logit_blocks};
pub use weights::{Weight, is_thin, linear_add, linear_backward, linear_each};

/// Makes the calling thread one of those that compute on the CPU, to be called once when a program starts. A thread
/// outside the pool hands every operation over and sleeps until it is done, which for small operations takes longer
/// than the operation.
pub fn compute_on_this_thread() {
    #[cfg(feature = "flex")]
    {
        let pool = rayon::ThreadPoolBuilder::new().use_current_thread();
        // Where a pool is there already, it does the work as it is.
        pool.build_global().ok();
    }
}

/// Runs `work`, a stretch of small operations, during which the threads that compute on the CPU do not sleep.
///
/// Meanwhile these threads do no other work, so `work` must not wait for something that another thread computes on
/// them. A call inside `work` only runs its argument.
pub fn stay_awake<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(feature = "flex")]
    return team::stay_awake(work);
    #[cfg(not(feature = "flex"))]
    work()
}
