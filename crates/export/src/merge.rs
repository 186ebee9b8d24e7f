//! Adapters added to the weights.

use std::collections::BTreeMap;

use panacea_pretrained::{Pretrained, TensorF32};
use panacea_svd_lora::{Adapters, Factors, SvdLora};

use crate::ExportError;
use crate::lora::weight_name;

/// W₀ + ΔW(λ) for every adapted W₀, by Hugging Face's names. With the weights 0 it is the part that every λ has.
pub fn merged(
    pretrained: &Pretrained,
    adapters: &Adapters,
    preference: &[f64],
) -> Result<BTreeMap<String, TensorF32>, ExportError> {
    let scale = adapters.config.scale();
    let merge = |(name, factors): (&String, &Factors)| {
        let name = weight_name(name);
        let mut weight = pretrained.tensor(&name)?;
        let update = SvdLora { factors, scale }.update(preference);
        for (weight, change) in weight.data.iter_mut().zip(update) {
            *weight += change;
        }
        Ok((name, weight))
    };
    adapters.factors.0.iter().map(merge).collect()
}
