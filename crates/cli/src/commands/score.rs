//! `score`: log-probabilities of given responses.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use panacea_model::{PackedBatch, Sequence};
use serde_json::{Value, json};

use crate::input::read_records;
use crate::session::ModelArguments;

/// Log-probabilities of given responses: a JSON line {"sum_logprob", "tokens"} for each record.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask score --model models/smollm2-135m-instruct --input pairs.jsonl
  cargo xtask score --run first --preference 0.5,0.5 --input pairs.jsonl
  cargo xtask score --model M --input pairs.jsonl --set data.bad_records=skip --set model.template.enable_thinking=false
  zcat pairs.jsonl.gz | cargo xtask score --model M --input -

Records are JSON Lines, JSON or Parquet in any format that `train` reads, such as {\"prompt\": TEXT or a list of messages,
\"response\": TEXT}. They are read as the run read its own: data.format, data.rendered, data.bad_records and data.max_skipped of its
run.toml count, but for what --set says; without a run, the defaults. What is skipped is counted on standard error. All
of them are read before the model is.
The prompt goes through the chat template, and so does the response: what the template writes for it, up to the end-of-turn
token, is counted. A record with several responses has a list under each name, in their order.")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A file of records; - is standard input, as JSON.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let opened = self.model.open()?;
        let records = read_records(&self.input, &opened.input, &opened.pretrained)?;
        let steered = opened.load(None)?;
        let (adapters, preference) = match &steered.steering {
            Some(steering) => (Some(&*steering.adapters), &steering.preference[..]),
            None => (None, &[][..]),
        };
        for record in records {
            let place = || record.source.to_string();
            let sequence = Sequence {
                prompt: &record.prompt,
                responses: record.responses.iter().map(Vec::as_slice).collect(),
                preference,
            };
            let batch = PackedBatch::new(&[sequence]).with_context(place)?;
            let log_probs = steered
                .decoder
                .log_probs(&batch, adapters)
                .with_context(place)?;
            let mut rest = &log_probs[..];
            let (mut sums, mut tokens) = (Vec::<Value>::new(), Vec::<Value>::new());
            for response in &record.responses {
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
