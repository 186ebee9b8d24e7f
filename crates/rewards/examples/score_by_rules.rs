//! Scores answers by two rules, as objectives of a training would.
//!
//!     cargo run -p panacea-rewards --example score_by_rules -- "Please do come in." "No."

use std::env;
use std::error::Error;

use panacea_rewards::{Sample, ScorerSpec, Scorers};

const RULES: [&str; 2] = [
    "rule = \"conciseness\"\ntokens = 3",
    "rule = \"keywords\"\nwords = [\"please\", \"thank you\"]",
];

fn main() -> Result<(), Box<dyn Error>> {
    let answers: Vec<String> = env::args().skip(1).collect();
    let mut scorers = Vec::new();
    for rule in RULES {
        scorers.push(toml::from_str::<ScorerSpec>(rule)?.build()?);
    }
    let samples: Vec<Sample<'_>> = (answers.iter())
        .map(|answer| Sample {
            prompt: "May I come in?",
            turns: &[],
            variables: None,
            response: answer,
            // A tokenizer would say so.
            response_tokens: answer.split_whitespace().count(),
            reference: None,
            references: &[],
            known: &[],
            origin: "the command line",
        })
        .collect();
    let verdicts = Scorers::new(scorers).score(&samples)?;
    for (place, answer) in answers.iter().enumerate() {
        let scores = verdicts.iter().map(|row| &row[place]);
        let scores: Vec<f64> = scores.filter_map(|verdict| verdict.score()).collect();
        println!(
            "conciseness {:.2}, politeness {:.2}: {answer}",
            scores[0], scores[1]
        );
    }
    Ok(())
}
