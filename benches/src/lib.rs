//! Random models with real shapes, and the work that is measured.

pub mod side_by_side;

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::Result;
use burn_tensor::{Device, FloatDType};
use clap::ValueEnum;
use panacea_data::{Example, Judgement, Source};
use panacea_model::{Decoder, PROJECTIONS};
use panacea_objectives::{Dpo, DpoLoss, Loss};
use panacea_pretrained::ModelConfig;
use panacea_svd_lora::{Adapters, SvdLoraConfig};
use panacea_trainer::{TrainerError, response_log_probs};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
#[cfg(unix)]
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// The seconds that a bench counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Seconds {
    /// Those that pass.
    Clock,
    /// Those for which a CPU computed for this program. Two programs on one core at the same time, each counting its own,
    /// meet the same neighbours: so small differences show on a machine that others share.
    #[cfg(unix)]
    Cpu,
}

impl Seconds {
    /// Seconds since some moment.
    pub fn now(self) -> f64 {
        match self {
            Self::Clock => {
                static START: LazyLock<Instant> = LazyLock::new(Instant::now);
                START.elapsed().as_secs_f64()
            }
            #[cfg(unix)]
            Self::Cpu => {
                let time = clock_gettime(ClockId::ProcessCPUTime);
                time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
            }
        }
    }
}

/// A model of the Llama family.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Tokens that it knows.
    pub vocabulary: usize,
    /// Width.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key heads.
    pub kv_heads: usize,
}

/// SmolLM2-135M.
pub const SMOLLM2_135M: Shape = Shape {
    vocabulary: 49_152,
    hidden: 576,
    intermediate: 1_536,
    layers: 30,
    heads: 9,
    kv_heads: 3,
};

/// A small one, for benches that repeat often.
pub const SMALL: Shape = Shape {
    vocabulary: 8_192,
    hidden: 256,
    intermediate: 704,
    layers: 4,
    heads: 4,
    kv_heads: 2,
};

/// Llama 3.2 1B's widths.
pub const LLAMA_1B: Shape = Shape {
    vocabulary: 128_256,
    hidden: 2_048,
    intermediate: 8_192,
    layers: 16,
    heads: 32,
    kv_heads: 8,
};

/// Llama 3.1 8B's, with the embedding for its head.
pub const LLAMA_8B: Shape = Shape {
    vocabulary: 128_256,
    hidden: 4_096,
    intermediate: 14_336,
    layers: 32,
    heads: 32,
    kv_heads: 8,
};

/// The model whose shapes are asked for.
#[derive(Clone, Copy, ValueEnum)]
pub enum Model {
    /// [`SMOLLM2_135M`].
    #[value(name = "smollm2-135m")]
    Smollm2_135m,
    /// [`LLAMA_1B`].
    #[value(name = "llama-1b")]
    Llama1b,
    /// [`LLAMA_8B`].
    #[value(name = "llama-8b")]
    Llama8b,
}

impl Model {
    /// Its shapes.
    pub fn shape(self) -> Shape {
        match self {
            Self::Smollm2_135m => SMOLLM2_135M,
            Self::Llama1b => LLAMA_1B,
            Self::Llama8b => LLAMA_8B,
        }
    }
}

impl Shape {
    /// Weights of all products that a token goes through in the layers, the head aside.
    pub fn layer_weights(self) -> usize {
        let head_dim = self.hidden / self.heads;
        let attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.kv_heads * head_dim;
        self.layers * (attention + 3 * self.hidden * self.intermediate)
    }
}

/// A model of `shape` with random weights.
pub fn random_model(shape: Shape, device: &str) -> Result<Decoder> {
    let device = panacea_devices::select(device)?;
    random_model_in(shape, &device, FloatDType::F32)
}

/// [`random_model`] with weights of a type.
pub fn random_model_in(shape: Shape, device: &Device, weights: FloatDType) -> Result<Decoder> {
    let config = json!({
        "model_type": "llama", "vocab_size": shape.vocabulary, "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate, "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.hidden / shape.heads, "hidden_act": "silu", "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "tie_word_embeddings": true, "bos_token_id": 1,
        "eos_token_id": 2
    });
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("config.json"), config.to_string())?;
    let config = ModelConfig::from_folder(dir.path())?;
    Ok(Decoder::random(config, device, weights, 5)?)
}

/// New adapters on every projection: rank 8, two objectives.
pub fn adapters(model: &Decoder) -> Result<Adapters> {
    adapters_of(model, 8, 2)
}

/// New adapters on every projection; alpha / rank is 8.
pub fn adapters_of(model: &Decoder, rank: usize, objectives: usize) -> Result<Adapters> {
    let config = SvdLoraConfig {
        base_model: "random".into(),
        base_fingerprint: String::new(),
        rank,
        objectives: (1..=objectives).map(|i| format!("objective {i}")).collect(),
        alpha: 8.0 * rank as f64,
        target_modules: PROJECTIONS.map(str::to_owned).to_vec(),
    };
    let shapes = model.adapted_shapes(&config.target_modules)?;
    Ok(Adapters::init(config, &shapes, 0.02, 1, model.device()))
}

/// Pairs of random tokens, with labels of two objectives that disagree.
pub fn pairs(count: usize, prompt: usize, response: usize, vocabulary: usize) -> Vec<Example> {
    pairs_of(2, count, prompt, response, vocabulary)
}

/// Pairs of random tokens; every second objective prefers the first response.
pub fn pairs_of(
    objectives: usize,
    count: usize,
    prompt: usize,
    response: usize,
    vocabulary: usize,
) -> Vec<Example> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut tokens = |n: usize| -> Vec<u32> {
        (0..n)
            .map(|_| rng.random_range(100..vocabulary as u32))
            .collect()
    };
    let labels: Vec<Option<f64>> = (0..objectives)
        .map(|i| Some(((i + 1) % 2) as f64))
        .collect();
    (0..count)
        .map(|line| Example {
            source: Source {
                file: PathBuf::from("random"),
                line,
            },
            prompt: tokens(prompt),
            responses: vec![tokens(response), tokens(response)],
            judgements: vec![Judgement::pair(0, 1, labels.clone())],
            scores: Vec::new(),
            words: panacea_data::Words::default(),
        })
        .collect()
}

/// n points of the positive part of the unit sphere in m dimensions: none of them dominates another.
pub fn on_the_sphere(n: usize, m: usize) -> Vec<Vec<f64>> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let point = |_| {
        // The directions of independent normal numbers are uniform (Muller, 1959); Box and Muller's transform.
        let normal = |_| -> f64 {
            let (a, b): (f64, f64) = (rng.random(), rng.random());
            ((-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()).abs()
        };
        let point: Vec<f64> = (0..m).map(normal).collect();
        let norm = point.iter().map(|x| x * x).sum::<f64>().sqrt();
        point.into_iter().map(|x| x / norm).collect()
    };
    (0..n).map(point).collect()
}

/// DPO as most people run it.
pub fn dpo() -> Loss {
    let loss = DpoLoss::Sigmoid {
        label_smoothing: 0.0,
    };
    Loss::Dpo(Dpo::new(0.1, loss, 0.0).expect("usual settings"))
}

/// log π_ref of every response of every example, which a step finds already computed.
pub fn references(model: &Decoder, examples: &[Example]) -> Result<Vec<Vec<f64>>, TrainerError> {
    let reference = |example| response_log_probs(model, None, example);
    examples.iter().map(reference).collect()
}

/// The value in the middle; of an even number the upper one of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
