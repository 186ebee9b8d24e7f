//! A whole model in one file: metadata, tensors, tokenizer and chat template.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use panacea_fuzz::{Bound, Scratch, check, use_model};
use panacea_pretrained::Pretrained;

static FOLDER: LazyLock<Scratch> = LazyLock::new(Scratch::new);

/// The constant is for what a chat template may make, of which there are two forms at a time.
const BOUND: Bound = Bound {
    constant: 160 << 20,
    times: 200,
};

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.write("model.gguf", bytes);
    check(BOUND, bytes.len(), || {
        if let Ok(model) = Pretrained::open(&path) {
            use_model(&model);
        }
    });
});
