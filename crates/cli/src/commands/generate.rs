//! `generate`: answers prompts, under a preference where a run is given.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use panacea_model::Request;
use panacea_pretrained::Message;

use crate::session::{FewBits, ModelArguments, SamplingArguments, parse_bits};

/// Answer prompts, steered by a preference.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask generate --model models/smollm2-135m-instruct --prompt 'Name three colours.' --greedy
  cargo xtask generate --model M --run first --preference 0.2,0.8 --prompt 'Why is the sky blue?'
  cargo xtask generate --model M --run first --profile anna --prompt 'Why is the sky blue?'
  cargo xtask generate --model M --bits 8 --prompt 'Why is the sky blue?'
  cargo xtask generate --model M --prompt 'The capital of France is' --raw --greedy --max-new-tokens 24")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// What the user says; given several times, the prompts are answered in one batch.
    #[arg(long, required = true)]
    prompt: Vec<String>,
    /// What the system message says.
    #[arg(long)]
    system: Option<String>,
    /// The text as it is, without the chat template.
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    #[command(flatten)]
    sampling: SamplingArguments,
    /// Decode from weights of 8 or 4 bits instead of 32, or from the blocks of a GGUF file as they are, on the CPU: faster,
    /// and a little less exact, since what they are multiplied with is rounded to 8 bits. Prompts are read exactly. With
    /// `file`, the weights take the memory that they take in the file; with 8 or 4, those of 32 bits are kept beside them.
    #[arg(long, value_name = "8|4|file", value_parser = parse_bits)]
    bits: Option<FewBits>,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let steered = self.model.open_in(self.bits)?;
        let tokenizer = steered.tokenizer()?;
        let mut prompts = Vec::with_capacity(self.prompt.len());
        for text in &self.prompt {
            if text.is_empty() {
                bail!("--prompt is empty: give it some text");
            }
            let ids = if self.raw {
                tokenizer.encode(text, false)?
            } else {
                let message = |role: &str, content: &str| Message {
                    role: role.into(),
                    content: content.into(),
                };
                let system = self.system.iter().map(|content| message("system", content));
                let messages: Vec<_> = system.chain([message("user", text)]).collect();
                tokenizer.encode_prompt(&messages)?
            };
            prompts.push(ids);
        }
        let sampling = self.sampling.sampling();
        let requests = (prompts.into_iter())
            .zip(self.sampling.seed..)
            .map(|(prompt, seed)| Request {
                max_new_tokens: (self.sampling.max_new_tokens)
                    .min(steered.decoder.room_after(&prompt)),
                prompt,
                steering: steered.steering.clone(),
                sampling: sampling.clone(),
                stop: tokenizer.stop_ids().to_vec(),
                seed,
                likelihoods: None,
            });
        let answers = steered.decoder.generate(requests)?;
        for answer in answers {
            say!("{}", tokenizer.decode(&answer.tokens, true)?);
        }
        Ok(ExitCode::SUCCESS)
    }
}
