//! The keys of GGUF metadata, one table for reading and writing.

/// The layout of the weights: `llama`, `qwen2` and so on. It stands before the keys of [`of_model`].
pub(crate) const ARCHITECTURE: &str = "general.architecture";
/// `model` or `adapter`.
pub(crate) const TYPE: &str = "general.type";
/// What a person calls the model.
pub(crate) const NAME: &str = "general.name";
/// A number for the format of most weights.
pub(crate) const FILE_TYPE: &str = "general.file_type";
/// The version of the layouts of quantised blocks.
pub(crate) const QUANTIZATION_VERSION: &str = "general.quantization_version";
/// Where data may begin.
pub(crate) const ALIGNMENT: &str = "general.alignment";

/// Where a model comes from. What is called its base model here is the one that it was trained from.
pub(crate) mod of_origin {
    pub(crate) use super::NAME;
    pub(crate) const ORGANIZATION: &str = "general.organization";
    pub(crate) const LICENSE: &str = "general.license";
    /// The repository of the file itself.
    pub(crate) const ADDRESS: &str = "general.repo_url";
    /// The repository of what it was converted from.
    pub(crate) const SOURCE_ADDRESS: &str = "general.source.repo_url";
    /// The same as `owner/name`, in older files.
    pub(crate) const SOURCE_REPOSITORY: &str = "general.source.huggingface.repository";
    pub(crate) const BASE_ADDRESS: &str = "general.base_model.0.repo_url";
}

/// Keys that follow the architecture and a dot.
pub(crate) mod of_model {
    pub(crate) const BLOCK_COUNT: &str = "block_count";
    pub(crate) const CONTEXT_LENGTH: &str = "context_length";
    pub(crate) const EMBEDDING_LENGTH: &str = "embedding_length";
    pub(crate) const FEED_FORWARD_LENGTH: &str = "feed_forward_length";
    pub(crate) const VOCAB_SIZE: &str = "vocab_size";
    pub(crate) const HEAD_COUNT: &str = "attention.head_count";
    pub(crate) const HEAD_COUNT_KV: &str = "attention.head_count_kv";
    pub(crate) const KEY_LENGTH: &str = "attention.key_length";
    pub(crate) const VALUE_LENGTH: &str = "attention.value_length";
    pub(crate) const NORM_EPSILON: &str = "attention.layer_norm_rms_epsilon";
    pub(crate) const SLIDING_WINDOW: &str = "attention.sliding_window";
    pub(crate) const ROPE_DIMENSIONS: &str = "rope.dimension_count";
    pub(crate) const ROPE_BASE: &str = "rope.freq_base";
    pub(crate) const ROPE_SCALING_TYPE: &str = "rope.scaling.type";
    pub(crate) const ROPE_SCALING_FACTOR: &str = "rope.scaling.factor";
}

/// Keys of the tokenizer.
pub(crate) mod of_tokenizer {
    pub(crate) const MODEL: &str = "tokenizer.ggml.model";
    pub(crate) const PRE: &str = "tokenizer.ggml.pre";
    pub(crate) const TOKENS: &str = "tokenizer.ggml.tokens";
    pub(crate) const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";
    pub(crate) const MERGES: &str = "tokenizer.ggml.merges";
    pub(crate) const SCORES: &str = "tokenizer.ggml.scores";
    pub(crate) const BEGIN: &str = "tokenizer.ggml.bos_token_id";
    /// End of text, of turn, of message.
    pub(crate) const ENDS: [&str; 3] = [
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.eom_token_id",
    ];
    pub(crate) const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
    pub(crate) const PADDING: &str = "tokenizer.ggml.padding_token_id";
    pub(crate) const ADD_BEGIN: &str = "tokenizer.ggml.add_bos_token";
    pub(crate) const ADD_END: &str = "tokenizer.ggml.add_eos_token";
    pub(crate) const ADD_SPACE: &str = "tokenizer.ggml.add_space_prefix";
    pub(crate) const TEMPLATE: &str = "tokenizer.chat_template";

    /// Values of [`TOKEN_TYPES`].
    pub(crate) mod token_type {
        pub(crate) const NORMAL: i64 = 1;
        pub(crate) const UNKNOWN: i64 = 2;
        pub(crate) const CONTROL: i64 = 3;
        pub(crate) const USER_DEFINED: i64 = 4;
        pub(crate) const UNUSED: i64 = 5;
        pub(crate) const BYTE: i64 = 6;
    }
}

/// Keys of an adapter.
pub(crate) mod of_adapter {
    pub(crate) const TYPE: &str = "adapter.type";
    pub(crate) const ALPHA: &str = "adapter.lora.alpha";
    pub(crate) const TASK: &str = "adapter.lora.task_name";
}
