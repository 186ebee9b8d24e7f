//! # What a run serves, in the forms that other people's software loads
//!
//! The update of an SVD-LoRA adapter is linear in the preference:
//!
//! > ΔW(λ) = c · U_k diag(σ) V_k + Σ_i λ_i · (c·s) u_i v_iᵀ
//!
//! so that an adapter is a set of ordinary LoRAs, and λ are their scales. What can set scales at run time gets the set
//! ([`Split`]) and keeps every λ: llama.cpp ([`write_llama_lora`]) and PEFT ([`write_peft_parts`]). What cannot gets one λ:
//! as a LoRA ([`write_peft`]), or merged into the weights ([`write_merged`], [`write_gguf`]). With a [`Card`] every form has a
//! model card beside it.
//!
//! ```no_run
//! use std::path::Path;
//! use burn_tensor::Device;
//! use panacea_export::{Base, LlamaForm, Split, write_llama_lora};
//! use panacea_model::Decoder;
//! use panacea_objectives::Preference;
//! use panacea_runs::RunFolder;
//! use panacea_pretrained::Pretrained;
//! use panacea_serving::Policy;
//!
//! let pretrained = Pretrained::open_language_model("models/smollm2-135m-instruct".as_ref())?;
//! let decoder = Decoder::load(&pretrained, &Device::flex())?;
//! let policy = Policy::open(&RunFolder::open("runs/first".as_ref())?, &decoder)?;
//! let preference = Preference::new(vec![0.3, 0.7])?;
//! let out = Path::new("adapters");
//! let base = Base::of(&pretrained, None)?;
//! let text = write_llama_lora(out, &base, policy.trained(), LlamaForm::Parts, &preference, None)?;
//! println!("{text}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ## Is this for you?
//! Yes, if you have an adapter and want files of it. The formats themselves, of models and of GGUF files, are written by
//! `panacea-pretrained`; the splitting of one matrix is that of `panacea-svd-lora`.

mod base;
mod card;
mod classifier;
mod error;
mod llama_cpp;
mod lora;
mod merge;
mod peft;
mod whole;

pub use base::Base;
pub use card::Card;
pub use classifier::write_classifier;
pub use error::ExportError;
pub use llama_cpp::{LlamaForm, llama_notes, write_llama_lora};
pub use lora::{Lora, Split};
pub use merge::merged;
pub use peft::{write_peft, write_peft_parts};
pub use whole::{write_gguf, write_merged};
