//! Why a model cannot be built or asked.

/// A model that cannot be loaded, or a request that it cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The model's files.
    #[error(transparent)]
    Pretrained(#[from] panacea_pretrained::PretrainedError),
    /// The adapter's files, or an adapter of another model.
    #[error(transparent)]
    Adapter(#[from] panacea_svd_lora::AdapterError),
    /// A module name that no layer has.
    #[error("unknown module {found:?} in target_modules: expected some of {}", .known.join(", "))]
    UnknownModule {
        /// The name as given.
        found: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A token that is not in the vocabulary.
    #[error(
        "token id {id} is outside the model's vocabulary of {vocab_size}: is this the model's own tokenizer?"
    )]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// The vocabulary's size.
        vocab_size: usize,
    },
    /// A prompt, a response or an answer without a token.
    #[error("there is an empty {what}: at least one token is needed")]
    Empty {
        /// `prompt`, `response` or `answer`.
        what: &'static str,
    },
    /// A preference of the wrong length.
    #[error("there is a preference of {found} weights, but the adapter has {expected} objectives")]
    PreferenceLength {
        /// Its number of weights.
        found: usize,
        /// The adapter's number of objectives.
        expected: usize,
    },
    /// A preference that is no number.
    #[error("there is a weight of {found} in a preference, expected finite numbers")]
    PreferenceWeight {
        /// The weight.
        found: f64,
    },
    /// More positions than the model has.
    #[error(
        "{found} tokens do not fit into the model's {limit} positions: shorten the prompt or ask for fewer new tokens"
    )]
    TooLong {
        /// Tokens asked for.
        found: usize,
        /// `max_position_embeddings`.
        limit: usize,
    },
    /// A sampling parameter outside its range.
    #[error("{name} = {value}: expected {expected}")]
    Sampling {
        /// The parameter.
        name: &'static str,
        /// The value found.
        value: String,
        /// The range.
        expected: &'static str,
    },
    /// Of several rows, one cannot be answered.
    #[error("row {row}: {source}")]
    Row {
        /// Which one, from 0.
        row: usize,
        /// What is wrong with it.
        source: Box<ModelError>,
    },
    /// Weights of few bits exist on the CPU only.
    #[error(
        "weights cannot be packed on {device}: decoding from 8 or 4 bits runs on the device flex"
    )]
    NotPacked {
        /// The model's device.
        device: String,
    },
}

impl ModelError {
    /// Says which of several rows it is about.
    pub(crate) fn in_row(self, row: usize) -> Self {
        Self::Row {
            row,
            source: Box::new(self),
        }
    }
}
