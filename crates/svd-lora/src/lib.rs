//! # SVD-LoRA: one adapter, steered by a preference vector
//!
//! For every adapted matrix W₀ (d_out × d_in, frozen) and a preference λ on the simplex of m objectives,
//!
//! ```text
//! W(λ) = W₀ + c · U · diag(σ_1..σ_k, s·λ_1..s·λ_m) · Vᵀ        c = alpha / k
//! U: [d_out, k+m]    V: [d_in, k+m]    σ: [k]    s: one number per matrix
//! ```
//!
//! (Zhong et al., "Panacea: Pareto Alignment via Preference Adaptation for LLMs", 2024.)
//! λ is given per row, so that rows of one batch can follow different preferences at the price of a
//! per-row diagonal: `y = x W₀ᵀ + c · ((x V) ⊙ d(λ_row)) Uᵀ`.
//!
//! ## Is this for you?
//! Yes, if you have a frozen linear layer on burn tensors and want the kernel alone: forward, its
//! gradient ([`SvdLora::backward`]), the adapter's file, merging ([`SvdLora::delta`]) and its forms as plain
//! LoRAs, of one λ ([`SvdLora::at`]) or of all ([`SvdLora::base_part`], [`SvdLora::objective_parts`],
//! [`SvdLora::specialists`]). For a language model around it see `panacea-model`.
//!
//! ```
//! use burn_tensor::{Device, Tensor};
//! use panacea_svd_lora::{Factors, SvdLora};
//!
//! let device = Device::flex();
//! let factors = Factors {
//!     u: Tensor::from_floats([[1.0, 0.0, 0.0]], &device),            // d_out = 1, k + m = 1 + 2
//!     v: Tensor::from_floats([[2.0, 0.0, 0.0]], &device),            // d_in = 1
//!     sigma: Tensor::from_floats([[0.5]], &device),
//!     s: Tensor::from_floats([[1.0]], &device),
//! };
//! let layer = SvdLora { factors: &factors, scale: 1.0 };
//! let preference = Tensor::from_floats([[0.3, 0.7]], &device);       // one row, m = 2
//! let y = layer.side_path(&Tensor::from_floats([[3.0]], &device), &preference);
//! assert_eq!(y.into_scalar::<f32>(), 3.0); // 3 · 2 · 0.5 · 1
//! ```

mod adapters;
mod config;
mod error;
mod factors;
mod file;
mod kernel;
#[cfg(test)]
mod noise;
mod plain;

pub use adapters::Adapters;
pub use config::{ADAPTER_CONFIG_FILE, ADAPTER_FILE, SvdLoraConfig};
pub use error::AdapterError;
pub use factors::{FactorSet, Factors, Part};
pub use kernel::SvdLora;
pub use plain::PlainLora;
