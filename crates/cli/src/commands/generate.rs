//! `generate`: answers prompts, under a preference where a run is given.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use panacea_data::Conversation;
use panacea_model::Request;
use panacea_pretrained::{ChatTokenizer, Message, Prompt};

use crate::prompts::{read_prompts, say_unread};
use crate::session::{FewBits, ModelArguments, SamplingArguments, parse_bits};

/// Answer prompts, steered by a preference.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask generate --model models/smollm2-135m-instruct --prompt 'Name three colours.' --greedy
  cargo xtask generate --model M --run first --preference 0.2,0.8 --prompt 'Why is the sky blue?'
  cargo xtask generate --model M --run first --profile anna --prompt 'Why is the sky blue?'
  cargo xtask generate --model M --prompts prompts.jsonl
  cargo xtask generate --model M --bits 8 --prompt 'Why is the sky blue?'
  cargo xtask generate --model M --prompt 'The capital of France is' --raw --greedy --max-new-tokens 24")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// What the user says; given several times, the prompts are answered in one batch.
    #[arg(long, required_unless_present = "prompts")]
    prompt: Vec<String>,
    /// A file of prompts, in place of --prompt: records in any format that `train` reads, told by their columns, or a text with
    /// a prompt on each line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "system", "raw"])]
    prompts: Option<PathBuf>,
    /// What the system message says.
    #[arg(long)]
    system: Option<String>,
    /// The text as it is, without the chat template.
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    #[command(flatten)]
    sampling: SamplingArguments,
    /// Decode from weights of 8 or 4 bits instead of 32, or from the blocks of a GGUF file as they are, on the CPU: faster,
    /// and a little less exact, since what they are multiplied with is rounded, too. Prompts are read exactly. With
    /// `file`, the weights take the memory that they take in the file; with 8 or 4, those of 32 bits are kept beside them.
    #[arg(long, value_name = "8|4|file", value_parser = parse_bits)]
    bits: Option<FewBits>,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let steered = self.model.open_in(self.bits)?;
        let tokenizer = steered.tokenizer()?;
        let prompts = self.prompts(tokenizer)?;
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

    /// The prompts in tokens.
    fn prompts(&self, tokenizer: &ChatTokenizer) -> Result<Vec<Vec<u32>>> {
        if let Some(file) = &self.prompts {
            let prompts = read_prompts(file, tokenizer)?.into_iter();
            let prompts = prompts.map(
                |Conversation {
                     source,
                     prompt,
                     variables,
                     ..
                 }| {
                    let place = source.to_string();
                    let prompt = tokenizer.prompt_with(&prompt, &variables);
                    let prompt = prompt.with_context(|| place.clone())?;
                    Ok((place, prompt))
                },
            );
            let prompts: Vec<(String, Prompt)> = prompts.collect::<Result<_>>()?;
            say_unread(&prompts);
            return Ok(prompts
                .into_iter()
                .map(|(_, prompt)| prompt.into_ids())
                .collect());
        }
        let prompts = self.prompt.iter().map(|text| {
            if text.is_empty() {
                bail!("--prompt is empty: give it some text");
            }
            if self.raw {
                return Ok(tokenizer.encode(text, false)?);
            }
            let system = (self.system.iter()).map(|text| Message::new("system", text.as_str()));
            let messages: Vec<_> = system
                .chain([Message::new("user", text.as_str())])
                .collect();
            let prompt = [("--system".to_owned(), tokenizer.prompt(&messages)?)];
            say_unread(&prompt);
            let [(_, prompt)] = prompt;
            Ok(prompt.into_ids())
        });
        prompts.collect()
    }
}
