//! `export`: one preference as a PEFT adapter or a merged model.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use burn_tensor::Tensor;
use clap::{Args, ValueEnum};
use panacea_config::Plan;
use panacea_model::{Decoder, Steering, ValueHead};
use panacea_objectives::Preference;
use panacea_pretrained::{Pretrained, TensorF32};
use panacea_runs::{RunFolder, write_folder};
use panacea_serving::{RewardModelRun, open_language_model};
use panacea_svd_lora::{Adapters, lora_pair};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

use crate::session::{RUNS, open_at, say_aside};

/// Write the model at one preference in a form that other tools load.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask export --run first --preference 0.5,0.5 --format peft
  cargo xtask export --run first --preference 1,0 --format merged --out models/first-helpful
  cargo xtask export --run reward-model --format merged")]
pub struct Arguments {
    /// The run; the newest one by default.
    #[arg(long)]
    run: Option<String>,
    /// Weights on the run's objectives, in their order, such as 0.3,0.7. A reward model has none.
    #[arg(long)]
    preference: Option<Preference>,
    /// peft: an adapter folder for transformers + PEFT. merged: a whole Hugging Face model; of a reward model, a sequence
    /// classifier.
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
        let run = RunFolder::find(&self.runs, self.run.as_deref())?;
        let plan = run.record()?.plan;
        let base = self.model.as_deref().unwrap_or(plan.model());
        let (form, preference) = self.form(&run, &plan)?;
        let pretrained = open_language_model(base)?;
        if matches!(form, Form::Peft) && pretrained.config().joined_projections {
            bail!(
                "{} holds q, k and v of a layer as one matrix, beside which PEFT's adapter cannot stand: use --format merged",
                base.display()
            );
        }
        let decoder = Decoder::load(&pretrained, &panacea_devices::select(&self.device)?)?;
        let out = self.out.clone().unwrap_or_else(|| {
            let weights: Vec<_> = (preference.weights().iter())
                .map(|w| format!("-{w}"))
                .collect();
            run.path().join(match form {
                Form::Peft => format!("export-peft{}", weights.concat()),
                Form::Merged => format!("export-merged{}", weights.concat()),
                Form::Classifier => "export-merged".to_owned(),
            })
        });
        if out.exists() {
            bail!(
                "{} exists already: remove it, or give another --out",
                out.display()
            );
        }
        match form {
            Form::Peft => {
                let steering = open_at(&run, &preference, &decoder)?;
                write_peft(&out, base, &decoder, &steering)?;
            }
            Form::Merged => {
                let steering = open_at(&run, &preference, &decoder)?;
                let weights = &steering.preference;
                let merged = merged(&pretrained, &decoder, &steering.adapters, weights)?;
                panacea_pretrained::write_model(&out, &pretrained, &merged)?;
            }
            Form::Classifier => {
                let RewardModelRun { adapters, notes } = RewardModelRun::open(&run, &decoder)?;
                say_aside(&notes);
                write_classifier(&out, &pretrained, &decoder, adapters, &preference)?;
            }
        }
        say!("{}", out.display());
        Ok(ExitCode::SUCCESS)
    }

    /// What is to be written, and the preference it is written at.
    fn form(&self, run: &RunFolder, plan: &Plan) -> Result<(Form, Preference)> {
        let is_reward_model = plan.method().is_reward_model();
        Ok(match (is_reward_model, self.format, &self.preference) {
            (true, Format::Merged, None) => {
                let trained_at = Preference::uniform(plan.objectives().len());
                (Form::Classifier, trained_at)
            }
            (true, Format::Merged, Some(_)) => bail!(
                "run {} is a reward model, which no preference steers: leave --preference out",
                run.name()
            ),
            (true, Format::Peft, _) => bail!(
                "run {} is a reward model: --format merged writes it as a sequence classifier, which transformers opens",
                run.name()
            ),
            (false, _, None) => bail!(
                "--preference is missing: the objectives of run {} are {}",
                run.name(),
                plan.objective_names().join(", ")
            ),
            (false, Format::Peft, Some(preference)) => (Form::Peft, preference.clone()),
            (false, Format::Merged, Some(preference)) => (Form::Merged, preference.clone()),
        })
    }
}

/// What is written.
#[derive(Clone, Copy)]
enum Form {
    Peft,
    Merged,
    Classifier,
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
fn write_peft(out: &Path, base: &Path, decoder: &Decoder, steering: &Steering) -> Result<()> {
    let adapters = &steering.adapters;
    let row = adapters.preference_row(&steering.preference, decoder.device());
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

/// W(λ) = W₀ + ΔW(λ) for every adapted W₀, by Hugging Face's names.
fn merged(
    pretrained: &Pretrained,
    decoder: &Decoder,
    adapters: &Adapters,
    preference: &[f64],
) -> Result<BTreeMap<String, TensorF32>> {
    let row = adapters.preference_row(preference, decoder.device());
    let mut merged = BTreeMap::new();
    for name in adapters.factors.0.keys() {
        let layer = adapters
            .get(name)
            .context("a name of the set is in the set")?;
        let delta = values(layer.delta(&row))?;
        let key = format!("{}.weight", hugging_face_name(name));
        let TensorF32 { shape, mut data } = pretrained.tensor(&key)?;
        for (weight, change) in data.iter_mut().zip(delta) {
            *weight += change;
        }
        merged.insert(key, TensorF32 { shape, data });
    }
    Ok(merged)
}

/// A Hugging Face sequence classifier: the merged layers under the head that reads rewards.
fn write_classifier(
    out: &Path,
    pretrained: &Pretrained,
    decoder: &Decoder,
    mut adapters: Adapters,
    preference: &Preference,
) -> Result<()> {
    let head = ValueHead::among(&adapters.factors).context("a reward model has a head")?;
    adapters.factors.0.remove(ValueHead::NAME);
    let merged = merged(pretrained, decoder, &adapters, preference.weights())?;
    let score = TensorF32 {
        shape: head.weight.dims().to_vec(),
        data: values(head.weight)?,
    };
    let outputs = &adapters.config.objectives;
    panacea_pretrained::write_classifier(out, pretrained, &merged, outputs, &score)?;
    for (output, bias) in outputs.iter().zip(values(head.bias)?) {
        eprintln!(
            "{output}: a classifier's head has no bias, so every reward is {bias:.4} less than here; differences are the same"
        );
    }
    Ok(())
}

fn values(tensor: Tensor<2>) -> Result<Vec<f32>> {
    Ok(tensor.into_data().convert::<f32>().try_to_vec()?)
}
