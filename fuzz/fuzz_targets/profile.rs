#![no_main]

use std::sync::LazyLock;

use panacea_fuzzing::Ready;

static READY: LazyLock<Ready> = LazyLock::new(|| panacea_fuzzing::target("profile").ready());

libfuzzer_sys::fuzz_target!(|input: &[u8]| panacea_fuzzing::fuzz(&READY, input));
