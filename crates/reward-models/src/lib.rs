//! Reward models: a decoder that reads one number, or several, behind the last token of a response.
//!
//! # Is this for you?
//! Yes, if you have a reward model (a run of `cargo xtask train` with `method.name = "reward-model"`, or a
//! `LlamaForSequenceClassification` and its like in Hugging Face layout) and want its numbers for responses, in a program
//! of your own ([`RewardModel::rewards`]) or as a scorer among others ([`RewardModels::scorer`]). Its training is in
//! `panacea-trainer`, its loss in `panacea-objectives`.
//!
//! ```no_run
//! use burn_tensor::Device;
//! use panacea_pretrained::Message;
//! use panacea_reward_models::{Conversation, RewardModel};
//!
//! let model = RewardModel::open("runs/helpful".as_ref(), &Device::flex(), None)?;
//! let prompt = [Message::new("user", "What is the capital of France?")];
//! let answers = ["Paris.", "I do not like questions."].map(|response| Conversation { prompt: &prompt, variables: None, response });
//! let rewards = model.rewards(&answers)?; // one row an answer, one number an output
//! assert_eq!(rewards[0].len(), model.outputs().len());
//! # Ok::<(), panacea_reward_models::RewardModelError>(())
//! ```

mod reward_model;
mod scorer;

pub use reward_model::{Base, Conversation, RewardModel, RewardModelError};
pub use scorer::{ModelScorerError, RewardModels};
