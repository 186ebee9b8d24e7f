//! Opens other people's language models: their configuration, weights, tokenizer and chat template, whatever files they
//! come in, under one set of names.
//!
//! # Is this for me?
//!
//! Yes, if you want the numbers of a decoder of the Llama family or a relative (Llama 1–3, SmolLM2, Mistral, Qwen2 and 2.5,
//! Qwen3, text models of Gemma 3, Phi-3 without "longrope") as plain `f32` tensors, without a tensor library. A model is
//! either
//!
//! - a folder in Hugging Face layout: `config.json`, `*.safetensors` (one file, or shards with an index), `tokenizer.json`, and a
//!   chat template in `tokenizer_config.json` or `chat_template.jinja`;
//! - such a folder of a sequence classifier (`LlamaForSequenceClassification` and its like): the form in which reward models
//!   are published. Its outputs are named in [`ModelConfig::labels`], and its head is the tensor `score.weight`; or
//! - one GGUF file (version 2 or 3), quantised or not, with its tokenizer and template inside. Mistral's sliding window is
//!   usually not in such files, as llama.cpp has no use for it. Files of Gemma 3 and Phi-3 are not read in this form.
//!
//! No, if you want to run the model: this crate computes nothing. It reads models ([`Pretrained`]), turns conversations
//! into tokens and back ([`ChatTokenizer`]), writes a model back for other tools ([`write_model`],
//! [`write_classifier`], [`write_gguf`],
//! [`write_gguf_adapter`]), and downloads ([`fetch`]).
//!
//! # Example
//!
//! ```no_run
//! use std::path::Path;
//! use panacea_pretrained::{Message, Pretrained};
//!
//! let model = Pretrained::open(Path::new("models/smollm2-135m-instruct"))?;
//! model.check()?;
//! let queries = model.tensor("model.layers.0.self_attn.q_proj.weight")?;
//! assert_eq!(queries.shape, [576, 576]);
//!
//! let tokenizer = model.tokenizer()?;
//! let question = Message::new("user", "Name three colours.");
//! let prompt = tokenizer.prompt(&[question])?;
//! let answered = tokenizer.answered(&prompt, &["Red, green and blue.".into()])?;
//! assert_eq!(answered.responses[0].last(), Some(&tokenizer.end_of_turn()));
//! # Ok::<(), panacea_pretrained::PretrainedError>(())
//! ```
//!
//! # Names, shapes and order
//!
//! Tensors have Hugging Face's names and shapes (`[out_features, in_features]`), also those of GGUF files, and the query and
//! key rows of every model are in Hugging Face's order: rotary position *p* turns dimensions *j* and *j + d/2* of a head by
//!
//! > p · ω_j,  ω_j = θ^(−2j/d)
//!
//! ([`Rope::inverse_frequencies`]). A quantised weight is *w = d · q + m* with the scale *d* and minimum *m* of its block.
//!
//! # What is checked
//!
//! Files are input like any other: no length or offset is believed before it has been compared with the file's size, and every
//! error ([`PretrainedError`]) names the file, the field or tensor, what was found and what was expected.

mod beginnings;
mod chat_options;
mod config;
mod config_json;
mod conversation;
mod dates;
mod ending;
mod error;
mod export;
mod export_gguf;
mod families;
pub mod fetch;
mod floats;
mod foreign;
mod gguf;
mod json;
mod json_style;
mod lfs;
mod mapped;
mod message;
mod names;
mod origin;
mod partial;
mod pretrained;
mod python;
mod room;
mod rope;
mod safetensors;
mod talk;
mod template;
mod tensor;
mod tensors;
mod text_stream;
mod tokenizer;
mod watched;

pub use chat_options::{ChatOptions, TemplateValue};
pub use config::{Activation, LayerAttention, ModelConfig, SUPPORTED_MODEL_TYPES};
pub use conversation::{Answered, Prompt};
pub use error::PretrainedError;
pub use export::{write_classifier, write_model};
pub use export_gguf::{GgufType, LoraMatrices, convert_to_gguf, write_gguf, write_gguf_adapter};
pub use message::{Answer, Content, JsonObject, Message, ROLES, are_spelt_alike, role};
pub use names::is_repository;
pub use origin::{Origin, Provenance};
pub use pretrained::Pretrained;
pub use rope::{Rope, RopeScaling};
pub use talk::UnreadKey;
pub use tensor::{QuantisedMatrix, TensorF32};
pub use text_stream::TextStream;
pub use tokenizer::ChatTokenizer;
