//! `score`: log-probabilities of given responses.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use panacea_model::{PackedBatch, Sequence};
use serde::Deserialize;

use crate::prompts::Prompt;
use crate::session::ModelArguments;

/// Log-probabilities of given responses: a JSON line {"sum_logprob", "tokens"} for each record.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask score --model models/smollm2-135m-instruct --input pairs.jsonl
  cargo xtask score --model M --run first --preference 0.5,0.5 --input pairs.jsonl

A record is {\"prompt\": TEXT or a list of messages, \"response\": TEXT}; the prompt goes through the chat
template, and so does the response: what the template writes for it, up to the end-of-turn token, is counted.")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A JSON Lines file.
    #[arg(long)]
    input: PathBuf,
}

#[derive(Deserialize)]
struct Record {
    prompt: Prompt,
    response: String,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let records = self.read()?;
        let steered = self.model.open()?;
        let tokenizer = steered.tokenizer()?;
        let (adapters, preference) = match &steered.steering {
            Some(steering) => (Some(&*steering.adapters), &steering.preference[..]),
            None => (None, &[][..]),
        };
        let mut said = Vec::new();
        for (line, record) in records {
            let place = || format!("{}:{line}", self.input.display());
            let prompt = tokenizer
                .prompt(&record.prompt.messages())
                .with_context(place)?;
            let answered = tokenizer
                .answered(&prompt, &[&record.response])
                .with_context(place)?;
            let response = &answered.responses[0];
            for note in answered.notes {
                if !said.contains(&note) {
                    eprintln!("{}: {note}", place());
                    said.push(note);
                }
            }
            let sequence = Sequence {
                prompt: &answered.prompt,
                responses: vec![response],
                preference,
            };
            let batch = PackedBatch::new(&[sequence]).with_context(place)?;
            let log_probs = steered
                .decoder
                .log_probs(&batch, adapters)
                .with_context(place)?;
            let sum: f64 = log_probs.iter().sum();
            say!(
                "{}",
                serde_json::json!({ "sum_logprob": sum, "tokens": response.len() })
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    /// All records with their lines, checked before any work is done.
    fn read(&self) -> Result<Vec<(usize, Record)>> {
        let input = self.input.display();
        let file = File::open(&self.input).with_context(|| format!("cannot open {input}"))?;
        let mut records = Vec::new();
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let number = index + 1;
            let line = line.with_context(|| format!("{input}:{number}"))?;
            if line.trim().is_empty() {
                continue;
            }
            let record: Record = serde_json::from_str(&line).with_context(|| {
                format!("{input}:{number}: expected {{\"prompt\": …, \"response\": …}}")
            })?;
            if record.response.is_empty() {
                bail!("{input}:{number}: \"response\" is empty: there is nothing to score");
            }
            records.push((number, record));
        }
        if records.is_empty() {
            bail!(
                "{input} has no record: expected a line {{\"prompt\": …, \"response\": …}} for each"
            );
        }
        Ok(records)
    }
}
