//! A Panacea DPO step on the shapes of a real model, for the side by side with `peers/torch_dpo_step.py` and
//! `peers/torch_gpu.py`: one JSON line {"measure", "seconds", "median", "peak_rss_gb", "value"}. The value is the rate of
//! the model's own work, in units of 10¹² floating-point operations a second.

use anyhow::Result;
use burn_tensor::Device;
use clap::Parser;
use panacea_benches::{
    Model, Seconds, Shape, adapters, dpo, median, pairs, random_model_in, references,
};
use panacea_devices::{Precision, peak_memory_bytes};
use panacea_model::{MemoryPolicy, compute_on_this_thread};
use panacea_objectives::{Aggregation, Preference};
use panacea_trainer::{AdamW, AdamWSettings, Lanes, Objective, Prepared, batch_gradient};

#[derive(Parser)]
struct Arguments {
    /// Pairs of a step.
    #[arg(long, default_value_t = 4)]
    pairs: usize,
    /// Tokens of a prompt, and of each response.
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    /// The model whose shapes it has.
    #[arg(long, value_enum, default_value_t = Model::Smollm2_135m)]
    shape: Model,
    /// Steps that are measured.
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// Keep layer inputs only.
    #[arg(long)]
    recompute: bool,
    /// Different preferences of a step; each has as many pairs.
    #[arg(long, default_value_t = 1)]
    preferences: usize,
    /// Read the pairs under the reference policy in every step, as PEFT's steps do. A training reads each pair once.
    #[arg(long)]
    with_reference: bool,
    /// The seconds that are counted.
    #[arg(long, value_enum, default_value_t = Seconds::Clock)]
    seconds: Seconds,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long, default_value = "flex")]
    device: String,
}

/// Operations of a step's own work, by the products alone, a multiplication and an addition being two: weights of the
/// layers once forward and once for the gradient at their input, the head the same at response tokens, and attention
/// with two products forward and four backward. What is computed again is not counted, the side paths are not.
fn operations(shape: Shape, arguments: &Arguments) -> f64 {
    let (pairs, tokens) = (arguments.pairs as f64, arguments.tokens as f64);
    let rows = 3.0 * tokens * pairs;
    let targets = 2.0 * tokens * pairs;
    let layers = 4.0 * rows * shape.layer_weights() as f64;
    let head = 4.0 * targets * (shape.vocabulary * shape.hidden) as f64;
    // Every prompt token sees half of its prompt; a response token the prompt and half of its response.
    let seen = pairs * (tokens * tokens / 2.0 + 2.0 * tokens * 1.5 * tokens);
    let attention = 12.0 * (shape.layers * shape.hidden) as f64 * seen;
    layers + head + attention
}

/// The most memory of the process, or, on another device than the CPU, what its allocator has taken, which it does not
/// give back.
fn peak_bytes(device: &Device) -> Option<u64> {
    match device.memory_pool_usage() {
        Some(usage) => Some(usage.bytes_reserved),
        None => peak_memory_bytes(),
    }
}

/// What making random weights took is no part of a step. Linux alone keeps the number, and forgets it on this word.
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").ok();
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    compute_on_this_thread();
    let shape = arguments.shape.shape();
    let device = panacea_devices::select(&arguments.device)?;
    let model = random_model_in(shape, &device, Precision::Auto.on(&device)?)?;
    forget_peak();
    let mut adapters = adapters(&model)?;
    let settings = AdamWSettings {
        learning_rate: 1e-4,
        learning_rate_singular: 1e-4,
        betas: [0.9, 0.999],
        eps: 1e-8,
        weight_decay: 0.0,
        holds_s: false,
    };
    let mut optimizer = AdamW::new(settings, &adapters.factors);
    let objective = Objective {
        loss: &dpo(),
        aggregation: &Aggregation::Linear,
    };
    let examples = pairs(
        arguments.pairs,
        arguments.tokens,
        arguments.tokens,
        shape.vocabulary,
    );
    let memory = if arguments.recompute {
        MemoryPolicy::Recompute
    } else {
        MemoryPolicy::Keep
    };
    let preferences = (0..arguments.preferences)
        .map(|i| {
            let weight = (i as f64 + 0.8) / (arguments.preferences as f64 + 1.0);
            Preference::new(vec![weight, 1.0 - weight])
        })
        .collect::<Result<Vec<_>, _>>()?;

    // The reference is part of a first step only: it is computed once for every record.
    let mut known = references(&model, &examples)?;
    let mut seconds = Vec::new();
    for step in 1..=arguments.steps + 1 {
        let started = arguments.seconds.now();
        if arguments.with_reference {
            known = references(&model, &examples)?;
        }
        let batch: Vec<_> = examples
            .iter()
            .zip(&known)
            .map(|(example, reference)| Prepared { example, reference })
            .collect();
        let result = batch_gradient(
            &Lanes::one(&model, &adapters),
            objective,
            &batch,
            &preferences,
            batch.len(),
            memory,
        )?;
        optimizer.update(&mut adapters.factors, &result.gradients, step, 1.0);
        device.sync()?;
        seconds.push(arguments.seconds.now() - started);
    }
    seconds.remove(0);
    let mut measure = match (arguments.recompute, arguments.preferences) {
        (false, 1) => "panacea_dpo_step".to_owned(),
        (true, 1) => "panacea_dpo_step_recompute".to_owned(),
        (false, n) => format!("panacea_dpo_step_{n}_preferences"),
        (true, n) => format!("panacea_dpo_step_recompute_{n}_preferences"),
    };
    if arguments.with_reference {
        measure.push_str("_with_reference");
    }
    println!(
        "{}",
        serde_json::json!({
            "measure": measure,
            "seconds": seconds,
            "median": median(&seconds),
            "peak_rss_gb": peak_bytes(&device).map(|bytes| bytes as f64 / f64::powi(2.0, 30)),
            "value": operations(shape, &arguments) / median(&seconds) / 1e12,
        })
    );
    Ok(())
}
