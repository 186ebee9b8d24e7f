//! Tiny models written by the tests themselves, opened, damaged, exported and opened again.

mod export;
mod folder;
mod gguf;
mod tiny;
mod tokenizer;
