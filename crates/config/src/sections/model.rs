//! `[model]` and `[precision]`: the network, and the type of its weights.

use std::path::PathBuf;

use panacea_devices::Precision;

use crate::resolver::Resolver;

section! {
    /// The language model that is adapted.
    ModelSpec at "model." {
        /// A folder in Hugging Face layout, or a GGUF file.
        path: PathBuf, default "required, here or as `--model`";
    }
}

section! {
    /// The types of numbers.
    PrecisionSpec at "precision." {
        /// The type of the model's frozen weights, in which products with them are computed; `"auto"` is `"bf16"` where the
        /// device computes in it, `"f32"` elsewhere. Adapters, gradients, norms and softmax have 32 bits.
        base: Precision = Precision::Auto;
    }
}

impl Resolver {
    pub(crate) fn model(&mut self, spec: &ModelSpec) -> PathBuf {
        match self.take_if_given(spec.path()) {
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
