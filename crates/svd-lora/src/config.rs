//! `svd_lora_config.json`: what stands beside the tensors of an adapter.

use serde::{Deserialize, Serialize};

/// The adapter's tensors.
pub const ADAPTER_FILE: &str = "adapter.safetensors";
/// The adapter's configuration.
pub const ADAPTER_CONFIG_FILE: &str = "svd_lora_config.json";

/// The shape of an adapter and what its preference vector means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SvdLoraConfig {
    /// The base model that the adapter was trained on, as the user named it.
    pub base_model: String,
    /// SHA-256 of the base model's configuration and weights, empty if unknown.
    #[serde(default)]
    pub base_fingerprint: String,
    /// k: learned, preference-agnostic singular values.
    pub rank: usize,
    /// Names of the m objectives, in the order of λ.
    pub objectives: Vec<String>,
    /// The side path is scaled by c = alpha / rank.
    pub alpha: f64,
    /// Names of the adapted projections (`q_proj`, …), the same in every layer.
    pub target_modules: Vec<String>,
}

impl SvdLoraConfig {
    /// c = alpha / k.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// k + m: columns of U and V.
    pub fn columns(&self) -> usize {
        // A file may say any rank; such a sum fits no tensor.
        self.rank.saturating_add(self.objectives.len())
    }
}
