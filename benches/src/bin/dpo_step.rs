//! A Panacea DPO step on SmolLM2-135M's shapes, for the side by side with `peers/torch_dpo_step.py`:
//! one JSON line {"measure", "seconds", "median", "peak_rss_gb"}.

use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use panacea_benches::{DPO, SMOLLM2_135M, adapters, median, pairs, random_model, references};
use panacea_model::{MemoryPolicy, compute_on_this_thread};
use panacea_objectives::{Aggregation, Preference};
use panacea_trainer::{
    AdamW, AdamWSettings, Objective, Prepared, batch_gradient, peak_memory_bytes,
};

#[derive(Parser)]
struct Arguments {
    /// Pairs of a step.
    #[arg(long, default_value_t = 4)]
    pairs: usize,
    /// Tokens of a prompt, and of each response.
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    /// Steps that are measured.
    #[arg(long, default_value_t = 3)]
    steps: usize,
    /// Keep layer inputs only.
    #[arg(long)]
    recompute: bool,
    /// Different preferences of a step; each has as many pairs.
    #[arg(long, default_value_t = 1)]
    preferences: usize,
    #[arg(long, default_value = "flex")]
    device: String,
}

/// What making random weights took is no part of a step. Linux alone keeps the number, and forgets it on this word.
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").ok();
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    compute_on_this_thread();
    let model = random_model(SMOLLM2_135M, &arguments.device)?;
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
        loss: &DPO,
        aggregation: &Aggregation::Linear,
    };
    let examples = pairs(
        arguments.pairs,
        arguments.tokens,
        arguments.tokens,
        SMOLLM2_135M.vocabulary,
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
    let references = references(&model, &examples)?;
    let batch: Vec<_> = examples
        .iter()
        .zip(&references)
        .map(|(example, reference)| Prepared { example, reference })
        .collect();
    let mut seconds = Vec::new();
    for step in 1..=arguments.steps + 1 {
        let started = Instant::now();
        let result = batch_gradient(
            &model,
            &adapters,
            objective,
            &batch,
            &preferences,
            batch.len(),
            memory,
        )?;
        optimizer.update(&mut adapters.factors, &result.gradients, step, 1.0);
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.remove(0);
    let measure = match (arguments.recompute, arguments.preferences) {
        (false, 1) => "panacea_dpo_step".to_owned(),
        (true, 1) => "panacea_dpo_step_recompute".to_owned(),
        (false, n) => format!("panacea_dpo_step_{n}_preferences"),
        (true, n) => format!("panacea_dpo_step_recompute_{n}_preferences"),
    };
    println!(
        "{}",
        serde_json::json!({
            "measure": measure,
            "seconds": seconds,
            "median": median(&seconds),
            "peak_rss_gb": peak_memory_bytes().map(|bytes| bytes as f64 / f64::powi(2.0, 30)),
        })
    );
    Ok(())
}
