//! Scorers: they turn a prompt and a response into one number, for alignment by rewards.
//!
//! # Is this for you?
//! Yes, if each objective of a training is a number that somebody or something gives to a response: a rule, a
//! program of your own, a judge behind an OpenAI-compatible endpoint, or the score that the record itself gives.
//! Higher is better. The crate has no tensors and no model: text goes in, numbers come out. Reward models, which are
//! written down here as well, are opened by `panacea-reward-models`. For preferences between two responses see
//! `panacea-data`.
//!
//! A scorer is a table of the configuration, with exactly one of `rule`, `program`, `endpoint`, `model` and `score`:
//!
//! ```toml
//! reward = { rule = "conciseness", tokens = 50 }     # see `Rule` for all of them
//! reward = { program = ["python3", "judge.py"], timeout_seconds = 30 }
//! reward = { endpoint = "http://localhost:8000/v1", model = "judge", instruction = "Rate how polite the response is." }
//! reward = { model = "runs/helpful" }                # a reward model: a run of ours, or a Hugging Face folder
//! reward = { score = "brevity", otherwise = -3.0 }   # the record's own score of a response with this very text
//! ```
//!
//! ```
//! use panacea_rewards::{Normaliser, Sample, ScorerSpec, Scorers, Verdict};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let concise: ScorerSpec = toml::from_str(r#"rule = "conciseness""#)?;
//! let polite: ScorerSpec = toml::from_str(r#"rule = "keywords"
//!                                            words = ["please", "thank you"]"#)?;
//! let mut scorers = Scorers::new(vec![concise.build()?, polite.build()?]);
//!
//! let short = Sample {
//!     prompt: "May I come in?",
//!     turns: &[],
//!     variables: None,
//!     response: "Please do!",
//!     response_tokens: 4,
//!     reference: None,
//!     references: &[],
//!     known: &[],
//!     origin: "train.jsonl:12",
//! };
//! let long = Sample { response: "You may come in, as may everybody who …", response_tokens: 100, ..short };
//! let said = scorers.score(&[short, long])?; // one row per scorer, one verdict per sample
//! assert_eq!(said, [[4.0, 3.0], [0.5, 0.0]].map(|row| row.map(Verdict::Score)));
//!
//! // Rewards of different scales become comparable, with one normaliser for each.
//! let mut conciseness = Normaliser::default();
//! conciseness.extend(said[0].iter().filter_map(|verdict| verdict.score()));
//! assert!((conciseness.normalise(4.0) - 0.5_f64.sqrt()).abs() < 1e-12);
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
#[path = "../../objectives/src/cases.rs"]
mod cases;
mod endpoint;
mod error;
mod fields;
mod judgement;
mod normaliser;
mod program;
mod reference;
mod rules;
mod scorer;
mod spec;

pub use error::{ScoreError, SpecError};
pub use normaliser::Normaliser;
pub use reference::{SCORERS, ScorerReference};
pub use scorer::{KnownResponse, Sample, Scorer, Scorers, Turn, Verdict};
pub use spec::{EndpointSpec, ModelSpec, OnUnreadable, Rule, ScorerSpec, Temperature};
