//! `score`: log-probabilities of given responses.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use panacea_data::{Conversations, Responses};
use panacea_model::{PackedBatch, Sequence};
use serde_json::{Value, json};

use crate::prompts::unread_note;
use crate::session::{ModelArguments, say_aside};

/// Log-probabilities of given responses: a JSON line {"sum_logprob", "tokens"} for each record.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask score --model models/smollm2-135m-instruct --input pairs.jsonl
  cargo xtask score --model M --run first --preference 0.5,0.5 --input pairs.jsonl

Records are JSON Lines, JSON or Parquet in any format that `train` reads, told by their columns, such as {\"prompt\": TEXT or a
list of messages, \"response\": TEXT}. What a run says in [data] is not used: a record that cannot be read is an error.
The prompt goes through the chat template, and so does the response: what the template writes for it, up to the end-of-turn
token, is counted. A record with several responses has a list under each name, in their order.")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A file of records.
    #[arg(long)]
    input: PathBuf,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let steered = self.model.open()?;
        let tokenizer = steered.tokenizer()?;
        // All of them, before the first is scored.
        let as_written = !tokenizer.has_template();
        let Conversations { all, notes } =
            Conversations::read(&self.input, Responses::Needed, as_written)?;
        say_aside(&notes);
        let (adapters, preference) = match &steered.steering {
            Some(steering) => (Some(&*steering.adapters), &steering.preference[..]),
            None => (None, &[][..]),
        };
        let mut said = Vec::new();
        for record in all {
            let place = || record.source.to_string();
            let prompt = tokenizer
                .prompt_with(&record.prompt, &record.variables)
                .with_context(place)?;
            let answered = tokenizer
                .answered(&prompt, &record.responses)
                .with_context(place)?;
            let unread = answered.unread.iter().map(|key| unread_note(key));
            for note in answered.notes.iter().cloned().chain(unread) {
                if !said.contains(&note) {
                    eprintln!("{}: {note}", place());
                    said.push(note);
                }
            }
            let sequence = Sequence {
                prompt: &answered.prompt,
                responses: answered.responses.iter().map(Vec::as_slice).collect(),
                preference,
            };
            let batch = PackedBatch::new(&[sequence]).with_context(place)?;
            let log_probs = steered
                .decoder
                .log_probs(&batch, adapters)
                .with_context(place)?;
            let mut rest = &log_probs[..];
            let (mut sums, mut tokens) = (Vec::<Value>::new(), Vec::<Value>::new());
            for response in &answered.responses {
                let (own, behind) = rest.split_at(response.len());
                sums.push(own.iter().sum::<f64>().into());
                tokens.push(response.len().into());
                rest = behind;
            }
            say!(
                "{}",
                json!({ "sum_logprob": one_or_all(sums), "tokens": one_or_all(tokens) })
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A single value as it is, several as a list.
fn one_or_all(mut values: Vec<Value>) -> Value {
    match values.len() {
        1 => values.remove(0),
        _ => values.into(),
    }
}
