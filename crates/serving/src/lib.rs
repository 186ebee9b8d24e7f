//! # A run, opened to answer
//!
//! [`Policy::open`] reads what a run has trained, and [`Policy::serve`] gives what answers under a preference:
//!
//! ```no_run
//! use burn_tensor::Device;
//! use panacea_methods::Served;
//! use panacea_model::{Decoder, Request};
//! use panacea_objectives::Preference;
//! use panacea_runs::RunFolder;
//! use panacea_pretrained::Pretrained;
//! use panacea_serving::Policy;
//!
//! let run = RunFolder::open("runs/first".as_ref())?;
//! let pretrained = Pretrained::open_language_model("models/smollm2-135m-instruct".as_ref())?;
//! let decoder = Decoder::load(&pretrained, &Device::flex())?;
//! let policy = Policy::open(&run, &decoder)?;
//! let Served::Adapter(steering) = policy.serve(&Preference::new(vec![0.3, 0.7])?)?;
//! let prompt = pretrained.tokenizer()?.encode("The capital of France is", false)?;
//! let request = Request { steering: Some(steering), ..Request::greedy(prompt, 24) };
//! let answers = decoder.generate([request])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod open;

pub use error::ServingError;
pub use open::{Policy, RewardModelRun, changed_since, open_model_of};
