//! Points of a front, as CSV or JSON, and the indicators of them.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use panacea_evaluator::read_points;
use panacea_fuzz::{Bound, Scratch, check};

static FOLDER: LazyLock<Scratch> = LazyLock::new(Scratch::new);

const BOUND: Bound = Bound {
    constant: 1 << 20,
    times: 300,
};

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.write("points.csv", bytes);
    check(BOUND, bytes.len(), || {
        let _ = read_points(&path).map_err(|error| error.to_string());
    });
});
