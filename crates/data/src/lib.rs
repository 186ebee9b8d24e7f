//! Multi-objective preference data: from the files that people have to batches of tokens.
//!
//! A record is a prompt with responses: two or more (preference training), one (SFT) or any number (KTO, RLHF). For
//! preference training, each pair of different responses has a label for each objective that the record says something
//! about:
//!
//! ```text
//! label_i = P(the first of the two is preferred under objective i) ∈ [0, 1],  or none: tied or unknown
//! ```
//!
//! # Is this for me?
//!
//! Yes, if you have preference records in one of the usual shapes ([`Format`]), in JSON,
//! JSON Lines (both also gzipped) or Parquet, and want them labelled by several objectives at
//! once: a score, a column, the chosen/rejected order or a rule ([`LabelSource`]); all from one
//! file, or each objective from its own. Every problem is reported with file, line and field,
//! and whatever is skipped or truncated is counted and named ([`DataReport`]). No: for rollouts
//! and rewards, and for anything with tensors.
//!
//! # From a file to batches
//!
//! ```
//! use panacea_data::{
//!     BatchPlan, BoxError, LabelSource, Loader, ObjectiveSpec, OverlongPrompts, RecordKind, TextEncoder,
//!     TokenLimits, load,
//! };
//! use panacea_pretrained::{Answer, Answered, JsonObject, Message};
//!
//! /// Stands for `panacea_pretrained::ChatTokenizer`: a token a character, 0 ends a turn.
//! struct Characters;
//!
//! impl TextEncoder for Characters {
//!     type Prompt = Vec<u32>;
//!
//!     fn prompt(&self, messages: &[Message], _: &JsonObject, most: usize) -> Result<Option<Vec<u32>>, BoxError> {
//!         let ids: Vec<u32> = messages.iter().flat_map(|m| m.text().chars()).map(u32::from).collect();
//!         Ok((ids.len() <= most).then_some(ids))
//!     }
//!     fn answered(&self, prompt: &Vec<u32>, responses: &[Answer], _: usize) -> Result<Answered, BoxError> {
//!         let tokens = |answer: &Answer| answer.text().chars().map(u32::from).chain([0]).collect();
//!         let responses = responses.iter().map(tokens).collect();
//!         Ok(Answered { prompt: prompt.clone(), responses, ..Answered::default() })
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("train.jsonl");
//! std::fs::write(&file, r#"
//! {"prompt": "2 + 2?", "responses": ["4", "It is 4."], "scores": {"helpful": [2, 3], "concise": [4, 3]}}
//! {"prompt": "Capital of Peru?", "responses": ["Lima.", "No idea."], "scores": {"helpful": [4, 0]}}
//! "#)?;
//! let objectives = ["helpful", "concise"]
//!     .map(|name| ObjectiveSpec::new(name, LabelSource::Score(name.to_owned())));
//! let (records, _) = load(&[file.clone()], &objectives, RecordKind::Pair)?;
//! assert_eq!(records[0].judgements[0].labels, [Some(0.0), Some(1.0)]); // they disagree
//! assert_eq!(records[1].judgements[0].labels, [Some(1.0), None]); // nothing about conciseness
//!
//! let limits = TokenLimits {
//!     max_prompt_tokens: 128,
//!     max_response_tokens: 320,
//!     overlong_prompts: OverlongPrompts::Skip,
//! };
//! let (examples, report) = Loader::new(RecordKind::Pair).examples(&[file], &objectives, &Characters, &limits)?;
//! println!("{report}");
//!
//! let mut plan = BatchPlan::of_examples(&examples, 1, 42);
//! let batch = plan.batch(0); // indices into `examples`, the same whenever step 0 is asked for
//! assert_eq!(batch.len(), 1);
//! # Ok(())
//! # }
//! ```

mod array;
mod batches;
mod columns;
mod conversations;
mod dataset;
mod error;
mod file;
mod fingerprint;
mod labels;
mod mismatched;
mod objective;
mod pages;
mod parquet_rows;
mod readers;
mod record;
mod report;
mod rows;
mod survey;
mod tokenize;
mod tolerance;
mod visit;

pub use batches::{BatchPlan, dealt_evenly};
pub use conversations::{Conversations, Responses};
pub use dataset::{Loader, load};
pub use error::{BoxError, DataError, FieldProblem, ObjectiveError, RecordProblem, Refusal};
pub use fingerprint::fingerprint;
pub use labels::LabelledBy;
pub use objective::{LabelSource, ObjectiveSpec, Part, Rule, Strength};
pub use panacea_objectives::{Judgement, RecordKind};
pub use readers::Format;
pub use record::{Example, Record, Scores, Source, Words};
pub use report::{
    DataReport, FileReport, ObjectiveReport, SkipReason, Skipped, TokenReport, Unread,
};
pub use survey::{Candidate, Survey};
pub use tokenize::{OverlongPrompts, Rendered, TextEncoder, TokenLimits, tokenize};
pub use tolerance::{BadRecords, Tolerance};
