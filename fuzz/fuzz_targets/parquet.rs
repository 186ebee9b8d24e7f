//! Records in Parquet. The first two bytes are those of `records`.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use panacea_fuzz::{Bound, Scratch, check, load_records};

static FOLDER: LazyLock<Scratch> = LazyLock::new(Scratch::new);

const BOUND: Bound = Bound {
    constant: 16 << 20,
    times: 1000,
};

fuzz_target!(|bytes: &[u8]| {
    let [format, kind, content @ ..] = bytes else {
        return;
    };
    let path = FOLDER.write("records.parquet", content);
    check(BOUND, bytes.len(), || load_records(&path, *format, *kind));
});
