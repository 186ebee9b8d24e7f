//! A reward model as a Hugging Face sequence classifier.

use std::path::Path;

use panacea_files::write_folder;
use panacea_model::ValueHead;
use panacea_objectives::Preference;
use panacea_pretrained::{TensorF32, write_classifier as write_classifier_model};
use panacea_svd_lora::Adapters;

use crate::card::Form;
use crate::error::refuse_existing;
use crate::{Base, Card, ExportError, merged};

/// Writes the layers of a reward model, merged, under the head that reads its rewards. Returns what a classifier cannot say:
/// the bias of each output, which is missing from every reward that it gives.
///
/// # Errors
/// For adapters without a head.
pub fn write_classifier(
    out: &Path,
    base: &Base,
    mut adapters: Adapters,
    card: Option<&Card>,
) -> Result<Vec<(String, f32)>, ExportError> {
    refuse_existing(out)?;
    let head = ValueHead::take_from(&mut adapters.factors).ok_or(ExportError::NoHead)?;
    let outputs = adapters.config.objectives.clone();
    // What it was trained at.
    let preference = Preference::uniform(outputs.len());
    let merged = merged(base.pretrained(), &adapters, preference.weights())?;
    let shape = head.weight.dims();
    let (weight, biases) = head.into_numbers();
    let score = TensorF32 {
        shape: shape.to_vec(),
        data: weight,
    };
    write_folder(out, |folder| -> Result<(), ExportError> {
        write_classifier_model(folder, base.pretrained(), &merged, &outputs, &score)?;
        card.map_or(Ok(()), |card| card.write(folder, base, &Form::Classifier))
    })?;
    Ok(outputs.into_iter().zip(biases).collect())
}
