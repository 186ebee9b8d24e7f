//! Records in JSON Lines or a JSON array, in every format and for every kind of training, from a file or gzipped.
//!
//! The first byte chooses the format, the second the kind of records, the labels and the compression.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use panacea_fuzz::{Bound, Scratch, check, load_records};

static FOLDER: LazyLock<Scratch> = LazyLock::new(Scratch::new);

const BOUND: Bound = Bound {
    constant: 1 << 20,
    times: 1000,
};

fuzz_target!(|bytes: &[u8]| {
    let [format, kind, content @ ..] = bytes else {
        return;
    };
    let name = if kind & 128 == 0 {
        "records.jsonl"
    } else {
        "records.jsonl.gz"
    };
    let path = FOLDER.write(name, content);
    check(BOUND, bytes.len(), || load_records(&path, *format, *kind));
});
