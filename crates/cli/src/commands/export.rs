//! `export`: one preference as a PEFT adapter or a merged model.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use panacea_model::{Decoder, select_device};
use panacea_objectives::Preference;
use panacea_pretrained::{Pretrained, TensorF32};
use panacea_svd_lora::{Adapters, lora_pair};
use panacea_trainer::write_folder;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

use crate::session::{RUNS, locate_run, open_at, open_plan};

/// Write the model at one preference in a form that other tools load.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask export --run first --preference 0.5,0.5 --format peft
  cargo xtask export --run first --preference 1,0 --format merged --out models/first-helpful")]
pub struct Arguments {
    /// The run; the newest one by default.
    #[arg(long)]
    run: Option<String>,
    /// Weights on the run's objectives, in their order, such as 0.3,0.7.
    #[arg(long)]
    preference: Preference,
    /// peft: an adapter folder for transformers + PEFT. merged: a whole Hugging Face model.
    #[arg(long)]
    format: Format,
    /// The new folder. Default: export-FORMAT-PREFERENCE in the run's folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The base model, where it is no longer at the path that the run was trained on.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Where runs are kept.
    #[arg(long, default_value = RUNS)]
    runs: PathBuf,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long, default_value = "flex")]
    device: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Peft,
    Merged,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let run = locate_run(&self.runs, self.run.as_deref())?;
        let plan = open_plan(&run)?;
        let base = self.model.as_deref().unwrap_or(plan.model());
        let pretrained = Pretrained::open(base)?;
        let decoder = Decoder::load(&pretrained, &select_device(&self.device)?)?;
        let adapters = open_at(&run, &self.preference, &decoder)?;
        let name = match self.format {
            Format::Peft => "peft",
            Format::Merged => "merged",
        };
        let out = self.out.clone().unwrap_or_else(|| {
            let weights: Vec<_> = self
                .preference
                .weights()
                .iter()
                .map(|w| format!("{w}"))
                .collect();
            run.path()
                .join(format!("export-{name}-{}", weights.join("-")))
        });
        if out.exists() {
            bail!(
                "{} exists already: remove it, or give another --out",
                out.display()
            );
        }
        match self.format {
            Format::Peft => write_peft(&out, base, &decoder, &adapters, &self.preference)?,
            Format::Merged => {
                write_merged(&out, &pretrained, &decoder, &adapters, &self.preference)?
            }
        }
        say!("{}", out.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// Hugging Face's name of an adapted matrix: `layers.0.q_proj` → `model.layers.0.self_attn.q_proj`.
fn hugging_face_name(name: &str) -> String {
    let (layer, projection) = name.rsplit_once('.').unwrap_or(("", name));
    let block = if matches!(projection, "gate_proj" | "up_proj" | "down_proj") {
        "mlp"
    } else {
        "self_attn"
    };
    format!("model.{layer}.{block}.{projection}")
}

/// A PEFT adapter folder: A = Vᵀ, B = c · U · diag(σ, s·λ). PEFT multiplies B A by lora_alpha / r, so both
/// are k + m.
fn write_peft(
    out: &Path,
    base: &Path,
    decoder: &Decoder,
    adapters: &Adapters,
    preference: &Preference,
) -> Result<()> {
    let row = adapters.preference_row(preference.weights(), decoder.device());
    let mut buffers = Vec::new();
    for name in adapters.factors.0.keys() {
        let layer = adapters
            .get(name)
            .context("a name of the set is in the set")?;
        let (a, b) = lora_pair(layer, &row);
        for (letter, (shape, values)) in [("A", a), ("B", b)] {
            let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
            let key = format!(
                "base_model.model.{}.lora_{letter}.weight",
                hugging_face_name(name)
            );
            buffers.push((key, shape.to_vec(), bytes));
        }
    }
    let views = buffers
        .iter()
        .map(|(key, shape, bytes)| {
            Ok((
                key.as_str(),
                TensorView::new(Dtype::F32, shape.clone(), bytes)?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let tensors = safetensors::serialize(views, Some(metadata))?;
    let columns = adapters.config.columns();
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.display().to_string(),
        "r": columns,
        "lora_alpha": columns,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "target_modules": adapters.config.target_modules,
    });
    write_folder(out, |dir| -> Result<()> {
        fs::write(dir.join("adapter_model.safetensors"), tensors)?;
        fs::write(
            dir.join("adapter_config.json"),
            serde_json::to_vec_pretty(&config)?,
        )?;
        Ok(())
    })
}

/// A Hugging Face model with W(λ) = W₀ + ΔW(λ) in place of every adapted W₀.
fn write_merged(
    out: &Path,
    pretrained: &Pretrained,
    decoder: &Decoder,
    adapters: &Adapters,
    preference: &Preference,
) -> Result<()> {
    let row = adapters.preference_row(preference.weights(), decoder.device());
    let mut merged = BTreeMap::new();
    for name in adapters.factors.0.keys() {
        let layer = adapters
            .get(name)
            .context("a name of the set is in the set")?;
        let delta = layer
            .delta(&row)
            .into_data()
            .convert::<f32>()
            .try_to_vec::<f32>()?;
        let key = format!("{}.weight", hugging_face_name(name));
        let TensorF32 { shape, mut data } = pretrained.tensor(&key)?;
        for (weight, change) in data.iter_mut().zip(delta) {
            *weight += change;
        }
        merged.insert(key, TensorF32 { shape, data });
    }
    panacea_pretrained::write_model(out, pretrained, &merged)?;
    Ok(())
}
