//! Tiny models written by the tests themselves, opened, damaged, exported and opened again.

mod conversation;
mod export;
mod folder;
mod gguf;
mod gguf_out;
mod long;
mod origin;
mod tiny;
mod tokenizer;
