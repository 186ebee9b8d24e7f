//! Generation and a forward pass on the shapes of a real model, for the side by side with
//! `peers/torch_generate.py`: one JSON line {"measure", "tokens_per_second", …} a measure.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use burn_tensor::Device;
use clap::Parser;
use panacea_benches::{Model, Seconds, adapters, median, pairs, random_model_in};
use panacea_devices::Precision;
use panacea_model::{
    Bits, Decoder, PackedBatch, Request, Sampling, Sequence, Steering, compute_on_this_thread,
};
use panacea_pretrained::Pretrained;
use panacea_svd_lora::Adapters;

#[derive(Parser)]
struct Arguments {
    /// Rows that are continued together; may be given often.
    #[arg(long, default_values_t = [1, 8])]
    rows: Vec<usize>,
    /// Tokens of a prompt.
    #[arg(long, default_value_t = 64)]
    prompt: usize,
    /// Tokens of a continuation.
    #[arg(long, default_value_t = 64)]
    new_tokens: usize,
    /// Tokens of the forward pass.
    #[arg(long, default_value_t = 256)]
    forward: usize,
    /// Times that each is measured.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// The model whose shapes it has.
    #[arg(long, value_enum, default_value_t = Model::Smollm2_135m)]
    shape: Model,
    /// A model's file or folder, in place of random weights.
    #[arg(long, conflicts_with = "shape")]
    model: Option<PathBuf>,
    /// Tokens are drawn at this temperature; 0 takes the likeliest.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Drawn from the smallest set of the likeliest tokens that has this probability.
    #[arg(long, default_value_t = 1.0, requires = "temperature")]
    top_p: f64,
    /// Drawn from so many of the likeliest tokens; 0 for all.
    #[arg(long, default_value_t = 0, requires = "temperature")]
    top_k: usize,
    /// Only the measures whose names have this in them.
    #[arg(long, default_value = "")]
    only: String,
    /// The seconds that are counted.
    #[arg(long, value_enum, default_value_t = Seconds::Clock)]
    seconds: Seconds,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long, default_value = "flex")]
    device: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    compute_on_this_thread();
    let shape = arguments.shape.shape();
    let device = panacea_devices::select(&arguments.device)?;
    let weights = Precision::Auto.on(&device)?;
    let pretrained = arguments.model.as_deref().map(Pretrained::open);
    let pretrained = pretrained.transpose()?;
    let mut model = match &pretrained {
        Some(pretrained) => Decoder::load_in(pretrained, &device, weights)?,
        None => random_model_in(shape, &device, weights)?,
    };
    let adapters = Arc::new(adapters(&model)?);
    let vocabulary =
        (pretrained.as_ref()).map_or(shape.vocabulary, |model| model.config().vocab_size);
    let tokens = |rows: usize, length: usize| -> Vec<Vec<u32>> {
        let examples = pairs(rows, length, 1, vocabulary);
        examples.into_iter().map(|e| e.prompt).collect()
    };

    let prompt = tokens(1, arguments.forward).remove(0);
    let batch = PackedBatch::new(&[Sequence {
        prompt: &prompt,
        responses: vec![],
        preference: &[],
    }])?;
    let all: Vec<usize> = (0..arguments.forward).collect();
    let forward = || Ok(model.logits(&batch, None, &all).map(|_| ())?);
    arguments.report("forward", 1, arguments.forward, forward)?;

    for &rows in &arguments.rows {
        let prompts = tokens(rows, arguments.prompt);
        let one = vec![vec![0.5, 0.5]; rows];
        let own: Vec<Vec<f64>> = (0..rows)
            .map(|row| {
                let weight = (row as f64 + 0.5) / rows as f64;
                vec![weight, 1.0 - weight]
            })
            .collect();
        let new_tokens = arguments.new_tokens;
        let base = || arguments.generate(&model, None, &prompts, &one);
        let steered = || arguments.generate(&model, Some(&adapters), &prompts, &one);
        let mixed = || arguments.generate(&model, Some(&adapters), &prompts, &own);
        arguments.report("generate_base", rows, new_tokens, base)?;
        arguments.report("generate_one_preference", rows, new_tokens, steered)?;
        arguments.report("generate_own_preferences", rows, new_tokens, mixed)?;
    }

    // What has few bits is read by kernels for the CPU.
    if device != Device::flex() {
        return Ok(());
    }
    let of_file = pretrained.as_ref().map(|_| "file");
    for bits in ["8", "4"].into_iter().chain(of_file) {
        match (bits, &pretrained) {
            ("file", Some(pretrained)) => {
                model = Decoder::load_as_stored(pretrained, &device)?;
                let forward = || Ok(model.logits(&batch, None, &all).map(|_| ())?);
                arguments.report("forward_file_bits", 1, arguments.forward, forward)?;
            }
            ("8", _) => drop(model.pack(Bits::Eight)?),
            _ => drop(model.pack(Bits::Four)?),
        }
        for &rows in &arguments.rows {
            let prompts = tokens(rows, arguments.prompt);
            let one = vec![vec![0.5, 0.5]; rows];
            let new_tokens = arguments.new_tokens;
            for (who, adapters) in [("base", None), ("one_preference", Some(&adapters))] {
                let measure = format!("generate_{who}_{bits}_bits");
                let run = || arguments.generate(&model, adapters, &prompts, &one);
                arguments.report(&measure, rows, new_tokens, run)?;
            }
        }
    }
    Ok(())
}

impl Arguments {
    fn generate(
        &self,
        model: &Decoder,
        adapters: Option<&Arc<Adapters>>,
        prompts: &[Vec<u32>],
        preferences: &[Vec<f64>],
    ) -> Result<()> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            ..Sampling::greedy()
        };
        let rows = prompts.iter().zip(preferences).enumerate();
        let requests = rows.map(|(row, (prompt, preference))| Request {
            steering: adapters.map(|adapters| Steering {
                adapters: Arc::clone(adapters),
                preference: preference.clone(),
            }),
            sampling: sampling.clone(),
            seed: row as u64,
            ..Request::greedy(&prompt[..], self.new_tokens)
        });
        let generated = model.generate(requests)?;
        assert!(generated.iter().all(|g| g.tokens.len() == self.new_tokens));
        Ok(())
    }

    /// Runs it once for warmth, then as often as it is to be measured.
    fn report(
        &self,
        measure: &str,
        rows: usize,
        tokens: usize,
        run: impl Fn() -> Result<()>,
    ) -> Result<()> {
        if !measure.contains(&self.only) {
            return Ok(());
        }
        run()?;
        let mut seconds = Vec::new();
        for _ in 0..self.repeats {
            let started = self.seconds.now();
            run()?;
            seconds.push(self.seconds.now() - started);
        }
        println!(
            "{}",
            serde_json::json!({
                "measure": measure,
                "rows": rows,
                "tokens": tokens,
                "sampling": [self.temperature, self.top_p, self.top_k as f64],
                "seconds": seconds,
                "tokens_per_second": (rows * tokens) as f64 / median(&seconds),
            })
        );
        Ok(())
    }
}
