//! # One language model for many tastes
//!
//! One adapter is trained once; a preference vector λ (weights on the objectives, summing to 1) is then injected at run time as
//! singular values of it, and the same model answers for every λ.
//!
//! The work is done in crates of their own, which this one has behind one name:
//!
//! | feature | modules |
//! |---|---|
//! | always | [`objectives`]: preferences, losses, advantages, dominance; plain f64 |
//! | `elicit` | [`elicit`]: a person's λ from a few comparisons of answers |
//! | `model` | [`devices`], [`kernels`], [`svd_lora`], [`pretrained`], [`model`], [`methods`]: the network, and what steers it |
//! | `train` | [`data`], [`rewards`], [`reward_models`], [`config`], [`runs`], [`trainer`]: from records to an adapter |
//! | `serve` | [`serving`], [`interview`], [`server`]: answers at any λ |
//! | `evaluate` | [`evaluator`], [`measure`]: fronts, their indicators and pictures |
//! | `export` | [`export`]: adapters for llama.cpp and PEFT, merged models |
//! | `hub` | `hub`, and models fetched by name: the network; not among the defaults |
//! | `wgpu`, `vulkan`, `cuda` | GPUs, by their names in [`devices`]; not among the defaults |
//!
//! A feature turns on those that it needs. Whoever wants one part (`default-features = false`) can as well depend on its crate,
//! `panacea-objectives` and so on.
//!
//! The quickstart trained for a few steps, and asked at two preferences:
//!
//! ```
//! use panacea::config::{Overrides, Plan, Spec};
//! use panacea::methods::Served;
//! use panacea::model::Request;
//! use panacea::objectives::Preference;
//! use panacea::pretrained::Message;
//! use panacea::runs::{RunFolder, TrainingRun};
//! use panacea::serving::Policy;
//! use panacea::trainer::{Outcome, Preparation, References, TrainerError};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let written = panacea_quickstart::write(folder.path())?;
//! # let (configuration, run) = (written.configuration, folder.path().join("runs/first"));
//! // Train …
//! let spec = Spec::read(&configuration)?;
//! let plan = Plan::resolve(spec, &Overrides { steps: Some(3), ..Overrides::default() })?;
//! let preparation = Preparation::of(plan, None)?;
//! let record = preparation.record()?;
//! let (training, _notes) = TrainingRun::create_or_resume(&run, &record, false)?;
//! let base = preparation.base()?;
//! let outcome = preparation.with_work(References::in_memory(), |work| work.carry_out(&record, &training))?;
//! assert_eq!(outcome, Outcome::Finished);
//!
//! // … and ask.
//! let policy = Policy::open(&RunFolder::open(&run)?, &base.decoder)?;
//! let tokenizer = base.pretrained.tokenizer()?;
//! let question = [Message::new("user", "When does the library open?")];
//! for weights in [[1.0, 0.0], [0.0, 1.0]] {
//!     let Served::Adapter(steering) = policy.serve(&Preference::new(weights.to_vec())?)?;
//!     let prompt = tokenizer.encode_prompt(&question)?;
//!     let request = Request { steering: Some(steering), ..Request::greedy(prompt, 16) };
//!     let answers = base.decoder.generate([request])?;
//!     println!("{weights:?}: {}", tokenizer.decode(&answers[0].tokens, true)?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What a version promises
//!
//! All crates have one version and are published together. Before 1.0 a new minor version (0.1 → 0.2) may change any public item and
//! says so in the changelog, a patch version (0.1.0 → 0.1.1) none. Files are kept longer than items: runs, adapters, fronts and
//! profiles that an earlier version wrote are read, or refused with words. burn is pinned exactly, since its minor versions change
//! meaning, and a new one of it is a new minor version of ours; [`devices`] has the one type of burn that callers need. The oldest
//! compiler is the `rust-version` of the manifest; a newer one is asked for in minor versions only.

macro_rules! parts {
    ($($feature:literal: $($name:ident = $package:ident),*;)*) => {
        $($(#[cfg(feature = $feature)] #[doc(inline)] pub use $package as $name;)*)*
    };
}

pub use panacea_objectives as objectives;

parts! {
    "elicit": elicit = panacea_elicit;
    "model": devices = panacea_devices, kernels = panacea_kernels, svd_lora = panacea_svd_lora, pretrained = panacea_pretrained,
        model = panacea_model, methods = panacea_methods;
    "train": data = panacea_data, rewards = panacea_rewards, reward_models = panacea_reward_models, config = panacea_config,
        runs = panacea_runs, trainer = panacea_trainer;
    "serve": serving = panacea_serving, interview = panacea_interview, server = panacea_server;
    "evaluate": evaluator = panacea_evaluator, measure = panacea_measure;
    "export": export = panacea_export;
    "hub": hub = panacea_hub;
}
