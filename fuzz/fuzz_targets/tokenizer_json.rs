//! `tokenizer.json`: a tokenizer of any kind, with a chat template beside it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use panacea_fuzz::{Bound, Scratch, check, open_and_use_tokenizer, tiny};

static FOLDER: LazyLock<Scratch> = LazyLock::new(|| {
    let folder = Scratch::new();
    tiny("llama").write(folder.path());
    folder
});

/// The constant is for what a chat template may make, of which there are two forms at a time.
const BOUND: Bound = Bound {
    constant: 160 << 20,
    times: 2000,
};

fuzz_target!(|bytes: &[u8]| {
    FOLDER.write("tokenizer.json", bytes);
    check(BOUND, bytes.len(), || open_and_use_tokenizer(FOLDER.path()));
});
