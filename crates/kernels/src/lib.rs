//! # The operations of a decoder, each with its gradient
//!
//! Matrix products that add to what is there, RMSNorm, SwiGLU, rotary positions, attention over packed
//! segments, and the log-softmax of a language-model head. Every operation exists in two forms that
//! tests hold against each other:
//!
//! - on the CPU (`flex`) as one pass over memory on all cores, with vectorised exponentials and without
//!   zeroing what is overwritten anyway;
//! - on any other device, composed of burn's tensor operations.
//!
//! The caller sees neither: functions take tensors and return tensors. There is no tape; whoever calls an
//! operation forward keeps what its gradient asks for.
//!
//! ## Is this for you?
//! Yes, if you write the backward pass of a transformer by hand on burn tensors and want it to be fast on a
//! CPU. For a whole decoder see `panacea-model`.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use panacea_kernels::{swiglu, swiglu_backward};
//!
//! let device = Device::flex();
//! let gate = Tensor::<2>::from_floats([[0.0, 2.0]], &device);
//! let up = Tensor::<2>::from_floats([[3.0, 1.0]], &device);
//! let y = swiglu(&gate, &up);                                 // silu(gate) ⊙ up
//! let (d_gate, d_up) = swiglu_backward(gate, up, y.ones_like());
//! assert_eq!(d_gate.dims(), d_up.dims());
//! ```

mod attention;
#[cfg(feature = "flex")]
mod host;
mod matmul;
mod norm;
mod rotary;
mod softmax;
mod swiglu;
#[cfg(all(test, feature = "flex"))]
mod test_support;
#[cfg(feature = "flex")]
mod thin;

pub use attention::{
    CacheRow, Heads, Segment, Visibility, attention, attention_backward, attention_decode,
    write_cache,
};
pub use matmul::{matmul, matmul_add, matmul_each};
pub use norm::{rms_norm, rms_norm_backward};
pub use rotary::Rotation;
pub use softmax::log_softmax_at;
pub use swiglu::{swiglu, swiglu_backward};

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
