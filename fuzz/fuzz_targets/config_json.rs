//! `config.json`, beside the weights of a tiny model.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use panacea_fuzz::{Bound, Scratch, check, tiny, use_model};
use panacea_pretrained::Pretrained;

static FOLDER: LazyLock<Scratch> = LazyLock::new(|| {
    let folder = Scratch::new();
    tiny("llama").write_without_tokenizer(folder.path());
    folder
});

/// The constant is for the names of the tensors of as many layers as a model may have.
const BOUND: Bound = Bound {
    constant: 64 << 20,
    times: 300,
};

fuzz_target!(|bytes: &[u8]| {
    FOLDER.write("config.json", bytes);
    check(BOUND, bytes.len(), || {
        if let Ok(model) = Pretrained::open(FOLDER.path()) {
            use_model(&model);
            let rope = &model.config().attention[0].rope;
            let _ = rope.inverse_frequencies(model.config().head_dim);
        }
    });
});
