//! What the tests and benches of several crates share: reference values of other people's software, and tiny
//! models that are written on the spot. It knows file formats only, so that every crate can use it.

mod golden;
mod tiny_model;
mod tokenizer;

pub use golden::{TinyLlama, floats, golden, golden_path};
pub use tiny_model::{Noise, TinyModel, tiny_config, write_json, write_safetensors};
pub use tokenizer::{
    CHAT_TEMPLATE, MERGES, SPECIAL_TOKENS, tokenizer_config, tokenizer_json, tokens,
};
