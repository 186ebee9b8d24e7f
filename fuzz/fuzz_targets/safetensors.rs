//! A folder of weights: `model.safetensors`, or an index with its shards.
//!
//! The first byte says which of the two. With an index, two bytes for its length, it and the shard follow; the index may
//! call the shard `a.safetensors` or `b.safetensors`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use panacea_fuzz::{Bound, CONFIG, Scratch, check, use_model};
use panacea_pretrained::Pretrained;

static FOLDER: LazyLock<Scratch> = LazyLock::new(|| {
    let folder = Scratch::new();
    folder.write("config.json", CONFIG.as_bytes());
    folder
});

const BOUND: Bound = Bound {
    constant: 1 << 20,
    times: 300,
};

fuzz_target!(|bytes: &[u8]| {
    match bytes {
        [0, file @ ..] => {
            FOLDER.remove("model.safetensors.index.json");
            FOLDER.write("model.safetensors", file);
        }
        [_, low, high, rest @ ..] => {
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
            let (index, shard) = rest.split_at(length);
            FOLDER.remove("model.safetensors");
            FOLDER.write("model.safetensors.index.json", index);
            FOLDER.write("a.safetensors", shard);
            FOLDER.write("b.safetensors", shard);
        }
        _ => return,
    }
    check(BOUND, bytes.len(), || {
        if let Ok(model) = Pretrained::open(FOLDER.path()) {
            use_model(&model);
        }
    });
});
