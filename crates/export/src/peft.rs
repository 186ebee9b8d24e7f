//! Adapter folders for Hugging Face's PEFT.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use panacea_files::{FileError, write_file, write_folder};
use panacea_methods::Trained;
use panacea_model::Steering;
use panacea_objectives::Preference;
use panacea_pretrained::Pretrained;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::card::{Form, exact_arguments};
use crate::error::refuse_existing;
use crate::lora::file_names;
use crate::{Base, Card, ExportError, Lora, Split};

const EXAMPLE: &str = "load.py";
const INDEX: &str = "parts.json";

/// Writes the adapter at one λ as a PEFT adapter folder, of rank k + m.
pub fn write_peft(
    out: &Path,
    base: &Base,
    steering: &Steering,
    card: Option<&Card>,
) -> Result<(), ExportError> {
    check(out, base.pretrained())?;
    let lora = Lora::at(steering);
    write_folder(out, |folder| {
        write_adapter(folder, base, &lora)?;
        let form = Form::Peft(&steering.preference, lora.rank);
        card.map_or(Ok(()), |card| card.write(folder, base, &form))
    })
}

/// Writes an adapter for every λ: a folder for the base and for each objective, a file that says which is which, and a program
/// that loads them and sets λ, at first to `preference`. Returns the name of the program.
pub fn write_peft_parts(
    out: &Path,
    base: &Base,
    trained: &Trained,
    preference: &Preference,
    card: Option<&Card>,
) -> Result<&'static str, ExportError> {
    check(out, base.pretrained())?;
    let split = Split::parts(trained)?;
    split.check(preference)?;
    let loras = split.weighted(preference.weights());
    let names = file_names(loras.iter().map(|(name, _, _)| *name));
    write_folder(out, |folder| {
        for ((_, lora, _), name) in loras.iter().zip(&names) {
            let folder = folder.join(name);
            std::fs::create_dir(&folder).map_err(FileError::of("create the folder", &folder))?;
            write_adapter(&folder, base, lora)?;
        }
        let index = format!("{:#}\n", index(&split, &names));
        write_file(&folder.join(INDEX), index.as_bytes())?;
        let example = example(base, &split, &names, preference);
        write_file(&folder.join(EXAMPLE), example.as_bytes())?;
        let form = Form::PeftParts {
            program: EXAMPLE,
            first: preference.weights(),
            rank: loras.iter().map(|(_, lora, _)| lora.rank).sum(),
        };
        card.map_or(Ok(()), |card| card.write(folder, base, &form))
    })
    .map(|()| EXAMPLE)
}

fn check(out: &Path, pretrained: &Pretrained) -> Result<(), ExportError> {
    if pretrained.config().joined_projections {
        return Err(ExportError::Joined {
            path: pretrained.source().to_owned(),
        });
    }
    refuse_existing(out)
}

/// An adapter folder. PEFT multiplies B A by lora_alpha / r, so both are the rank.
fn write_adapter(folder: &Path, base: &Base, lora: &Lora) -> Result<(), ExportError> {
    let mut buffers = Vec::new();
    let mut modules = BTreeSet::new();
    for matrices in &lora.matrices {
        let module = matrices.weight.trim_end_matches(".weight");
        modules.insert(module.rsplit('.').next().unwrap_or(module));
        for (letter, tensor) in [("A", &matrices.a), ("B", &matrices.b)] {
            let bytes: Vec<u8> = tensor
                .data
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            let key = format!("base_model.model.{module}.lora_{letter}.weight");
            buffers.push((key, tensor.shape.clone(), bytes));
        }
    }
    let views = buffers.iter().map(|(key, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (key.as_str(), view.expect("shape and bytes belong together"))
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let tensors = safetensors::serialize(views, Some(metadata)).expect("no name appears twice");
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.name(),
        "revision": base.revision(),
        "r": lora.rank,
        "lora_alpha": lora.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "target_modules": modules,
    });
    write_file(&folder.join("adapter_model.safetensors"), &tensors)?;
    Ok(write_file(
        &folder.join("adapter_config.json"),
        format!("{config:#}\n").as_bytes(),
    )?)
}

/// The objectives by their own names, and the folders of the parts.
fn index(split: &Split, names: &[String]) -> Value {
    let (base, objectives) = names.split_at(names.len() - split.objectives.len());
    let objectives = split.names().into_iter().zip(objectives);
    let objectives: Vec<Value> = objectives
        .map(|(name, folder)| json!({"name": name, "folder": folder}))
        .collect();
    json!({"base": base.first(), "objectives": objectives})
}

/// A Python program that loads the folders and sets λ.
fn example(base: &Base, split: &Split, names: &[String], preference: &Preference) -> String {
    let objectives = names.len() - split.objectives.len()..;
    format!(
        r#"import os, torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = {names}
OBJECTIVES = {objectives}  # {meaning}, in the order of λ

model = AutoModelForCausalLM.from_pretrained({from}, dtype=torch.float32)
model = PeftModel.from_pretrained(model, os.path.join(HERE, NAMES[0]), adapter_name=NAMES[0])
for name in NAMES[1:]:
    model.load_adapter(os.path.join(HERE, name), adapter_name=name)
model.base_model.set_adapter(NAMES)


def steer(weights):
    """Sets λ, which sums to 1."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            for name, weight in zip(OBJECTIVES, weights, strict=True):
                layer.set_scale(name, weight)


steer({weights})
"#,
        from = exact_arguments(base),
        names = json!(names),
        objectives = json!(names[objectives]),
        meaning = split.names().join(", ").replace(['\n', '\r'], " "),
        weights = json!(preference.weights()),
    )
}
