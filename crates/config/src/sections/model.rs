//! `[model]` and `[precision]`: the network, and the type of its weights.

use std::path::PathBuf;

use panacea_devices::Precision;

use crate::resolver::Resolver;

section! {
    /// `[model]`: the language model that is adapted.
    ModelSpec {
        /// A folder in Hugging Face layout, or a GGUF file. Required, here or as `--model`.
        path: PathBuf,
    }
}

section! {
    /// `[precision]`: the types of numbers.
    PrecisionSpec {
        /// The type of the model's frozen weights, in which products with them are computed: `"f32"`, `"bf16"`, `"f16"`, or
        /// `"auto"`: `"bf16"` where the device computes in it, `"f32"` elsewhere. Adapters, gradients, norms and softmax
        /// have 32 bits. Default: `"auto"`.
        base: Precision,
    }
}

impl Resolver {
    pub(crate) fn model(&mut self, spec: ModelSpec) -> PathBuf {
        match spec.path {
            Some(path) if !path.as_os_str().is_empty() => path,
            _ => {
                self.missing(
                    "model.path",
                    "there is no model; name one with --model, or here",
                );
                PathBuf::new()
            }
        }
    }
}
