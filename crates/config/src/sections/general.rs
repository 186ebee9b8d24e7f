//! Keys that stand above all sections.

use crate::resolver::Resolver;
use crate::schema::Range;

const TOML_INTEGER: Range<u64> = Range {
    words: "a whole number, at most 9223372036854775807, TOML's largest",
    schema: || serde_json::json!({"maximum": i64::MAX}),
    holds: |&seed| i64::try_from(seed).is_ok(),
};

section! {
    /// Keys that stand above all sections.
    GeneralSpec at "" {
        /// The seed of every random choice.
        seed: u64 = 17, in TOML_INTEGER;
        /// The device to train on: `"flex"` (the CPU), `"wgpu"`, `"vulkan"`, `"cuda"` or `"cuda:INDEX"`; several of a
        /// kind with commas between them.
        device: String = String::from("flex");
    }
}

/// The seed, and the device by name.
pub(crate) struct General {
    pub seed: u64,
    pub device: String,
}

impl Resolver {
    pub(crate) fn general(&mut self, spec: &GeneralSpec) -> General {
        General {
            seed: self.take(spec.seed()),
            device: self.take(spec.device()),
        }
    }
}
