//! A reward model as a Hugging Face sequence classifier.

use std::path::Path;

use panacea_model::ValueHead;
use panacea_objectives::Preference;
use panacea_pretrained::{Pretrained, TensorF32};
use panacea_svd_lora::Adapters;

use crate::error::refuse_existing;
use crate::{ExportError, merged};

/// Writes the layers of a reward model, merged, under the head that reads its rewards. Returns what a classifier cannot say:
/// the bias of each output, which is missing from every reward that it gives.
///
/// # Errors
/// For adapters without a head.
pub fn write_classifier(
    out: &Path,
    pretrained: &Pretrained,
    mut adapters: Adapters,
) -> Result<Vec<(String, f32)>, ExportError> {
    refuse_existing(out)?;
    let head = ValueHead::among(&adapters.factors).ok_or(ExportError::NoHead)?;
    adapters.factors.0.remove(ValueHead::NAME);
    let outputs = adapters.config.objectives.clone();
    // What it was trained at.
    let preference = Preference::uniform(outputs.len());
    let merged = merged(pretrained, &adapters, preference.weights())?;
    let shape = head.weight.dims();
    let (weight, biases) = head.into_numbers();
    let score = TensorF32 {
        shape: shape.to_vec(),
        data: weight,
    };
    panacea_pretrained::write_classifier(out, pretrained, &merged, &outputs, &score)?;
    Ok(outputs.into_iter().zip(biases).collect())
}
