//! No target: writes what the others begin with into `corpus`. It is built as one so that nothing is compiled twice.
#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(
    init: panacea_fuzzing::write_seeds(&Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).expect("the folder is writable"),
    |_input: &[u8]| {}
);
