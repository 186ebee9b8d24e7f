//! `config.json`: what people wrote, and the validated configuration made of it.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::json::{self, Fields};
use crate::{PretrainedError, Rope, RopeScaling};

/// The architectures that can be opened, by their Hugging Face `model_type`.
pub const SUPPORTED_MODEL_TYPES: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

/// The shape of a decoder of the Llama family, validated.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelConfig {
    /// One of [`SUPPORTED_MODEL_TYPES`].
    pub model_type: String,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Dimensions of one head; even.
    pub head_dim: usize,
    /// ε of every RMS norm.
    pub rms_norm_eps: f64,
    /// The rotary position embedding.
    pub rope: Rope,
    /// The output head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// The query, key and value projections have a bias (the output projection never has).
    pub attention_bias: bool,
    /// Queries and keys are RMS-normalised per head.
    pub qk_norm: bool,
    /// Each position sees only this many last positions, itself included.
    pub sliding_window: Option<usize>,
    /// The longest context that the model is meant for, in tokens.
    pub max_position_embeddings: usize,
    /// The tokens that end a text; may be empty.
    pub eos_token_ids: Vec<u32>,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The names of the numbers that a sequence classifier (`LlamaForSequenceClassification` and its like, the form in
    /// which reward models are published) reads from the last token's hidden state, output by output; `None` for a
    /// language model. A classifier has `score.weight` `[labels, hidden]` in place of `lm_head.weight`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
}

impl ModelConfig {
    /// Reads `config.json` of a folder, and the end-of-text tokens of `generation_config.json` if there is one.
    pub fn from_folder(folder: &Path) -> Result<Self, PretrainedError> {
        let path = folder.join("config.json");
        let mut config = Self::from_json(&path, &json::read_object(&path)?)?;
        let path = folder.join("generation_config.json");
        if let Some(generation) = json::read_object_if_present(&path)? {
            for id in Fields::new(&path, &generation).token_ids("eos_token_id")? {
                if !config.eos_token_ids.contains(&id) {
                    config.eos_token_ids.push(id);
                }
            }
        }
        Ok(config)
    }

    /// Validates the contents of a `config.json`; `path` is for error messages.
    pub(crate) fn from_json(
        path: &Path,
        object: &Map<String, Value>,
    ) -> Result<Self, PretrainedError> {
        let fields = Fields::new(path, object);
        let family = Family::of(&fields)?;
        refuse_unsupported(&fields)?;

        let num_hidden_layers = fields.required_count("num_hidden_layers")?;
        let num_attention_heads = fields.required_count("num_attention_heads")?;
        let max_position_embeddings = match fields.count("max_position_embeddings")? {
            Some(length) => length,
            None => family.default_context(),
        };
        let hidden_size = fields.required_count("hidden_size")?;
        let head_dim = match (fields.count("head_dim")?, family) {
            (Some(head_dim), _) => head_dim,
            (None, Family::Qwen3) => 128,
            (None, _) if hidden_size % num_attention_heads == 0 => {
                hidden_size / num_attention_heads
            }
            (None, _) => {
                return Err(fields.wrong(
                    "num_attention_heads",
                    format!("a divisor of hidden_size = {hidden_size}"),
                ));
            }
        };
        let config = Self {
            model_type: family.model_type().to_owned(),
            vocab_size: fields.required_count("vocab_size")?,
            hidden_size,
            intermediate_size: fields.required_count("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: family.key_value_heads(&fields, num_attention_heads)?,
            head_dim,
            rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6),
            rope: rope(&fields, max_position_embeddings)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", false)?,
            attention_bias: family.attention_bias(&fields)?,
            qk_norm: family == Family::Qwen3,
            sliding_window: family.sliding_window(&fields, num_hidden_layers)?,
            max_position_embeddings,
            eos_token_ids: fields.token_ids("eos_token_id")?,
            bos_token_id: fields.token_ids("bos_token_id")?.first().copied(),
            labels: labels(&fields)?,
        };
        config.validate(path)?;
        Ok(config)
    }

    /// What must hold between the fields, whatever file they came from.
    pub(crate) fn validate(&self, path: &Path) -> Result<(), PretrainedError> {
        let (heads, key_value_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if heads % key_value_heads != 0 {
            let expected = format!("a divisor of num_attention_heads = {heads}");
            return Err(PretrainedError::field(
                path,
                "num_key_value_heads",
                key_value_heads,
                expected,
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            let expected = "an even number, since dimensions are rotated in pairs";
            return Err(PretrainedError::field(
                path,
                "head_dim",
                self.head_dim,
                expected,
            ));
        }
        for (field, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_attention_heads", heads),
            ("head_dim", self.head_dim),
            ("num_hidden_layers", self.num_hidden_layers),
        ] {
            // Far above any real model, and low enough that products of three sizes cannot overflow 64 bits.
            const LARGEST: usize = 1 << 20;
            if value > LARGEST {
                return Err(PretrainedError::field(
                    path,
                    field,
                    value,
                    format!("at most {LARGEST}"),
                ));
            }
        }
        Ok(())
    }

    /// Every tensor that the model is made of: its Hugging Face name and its shape.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let hidden = self.hidden_size;
        let queries = self.num_attention_heads * self.head_dim;
        let keys = self.num_key_value_heads * self.head_dim;

        let mut tensors = vec![(
            "model.embed_tokens.weight".to_owned(),
            vec![self.vocab_size, hidden],
        )];
        for layer in 0..self.num_hidden_layers {
            let mut add = |name: &str, shape: &[usize]| {
                tensors.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
            };
            add("input_layernorm.weight", &[hidden]);
            for (projection, rows) in [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)] {
                add(&format!("self_attn.{projection}.weight"), &[rows, hidden]);
                if self.attention_bias {
                    add(&format!("self_attn.{projection}.bias"), &[rows]);
                }
            }
            if self.qk_norm {
                add("self_attn.q_norm.weight", &[self.head_dim]);
                add("self_attn.k_norm.weight", &[self.head_dim]);
            }
            add("self_attn.o_proj.weight", &[hidden, queries]);
            add("post_attention_layernorm.weight", &[hidden]);
            add("mlp.gate_proj.weight", &[self.intermediate_size, hidden]);
            add("mlp.up_proj.weight", &[self.intermediate_size, hidden]);
            add("mlp.down_proj.weight", &[hidden, self.intermediate_size]);
        }
        tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
        if let Some(labels) = &self.labels {
            tensors.push((SCORE.to_owned(), vec![labels.len(), hidden]));
        } else if !self.tie_word_embeddings {
            tensors.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        tensors
    }
}

/// The head of a sequence classifier, `[labels, hidden]`. Transformers' has no bias.
pub(crate) const SCORE: &str = "score.weight";

/// What differs between the architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

impl Family {
    fn of(fields: &Fields) -> Result<Self, PretrainedError> {
        match fields.text("model_type")? {
            Some("llama") => Ok(Self::Llama),
            Some("mistral") => Ok(Self::Mistral),
            Some("qwen2") => Ok(Self::Qwen2),
            Some("qwen3") => Ok(Self::Qwen3),
            Some(other) => Err(PretrainedError::UnknownModelType {
                path: fields.path.to_path_buf(),
                field: "model_type",
                found: other.to_owned(),
                supported: SUPPORTED_MODEL_TYPES.join(", "),
            }),
            None => Err(fields.wrong(
                "model_type",
                format!("one of {}", SUPPORTED_MODEL_TYPES.join(", ")),
            )),
        }
    }

    fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The default of transformers' configuration classes.
    fn default_context(self) -> usize {
        match self {
            Self::Llama => 2048,
            Self::Mistral => 4096 * 32,
            Self::Qwen2 | Self::Qwen3 => 32768,
        }
    }

    /// The number of key and value heads. `null`, and for Llama absence, means one for each query head; transformers'
    /// other defaults are constants of one model size, so that here the field must be written out.
    fn key_value_heads(self, fields: &Fields, heads: usize) -> Result<usize, PretrainedError> {
        const FIELD: &str = "num_key_value_heads";
        match fields.count(FIELD)? {
            Some(count) => Ok(count),
            None if self == Self::Llama || fields.object.contains_key(FIELD) => Ok(heads),
            None => Err(fields.wrong(FIELD, "a whole number above 0")),
        }
    }

    /// Qwen2 always has biases on q, k and v, whatever its configuration says. Where Llama's and Qwen3's configuration
    /// asks for biases, the output projection has one too, and no published model does.
    fn attention_bias(self, fields: &Fields) -> Result<bool, PretrainedError> {
        if self == Self::Qwen2 {
            return Ok(true);
        }
        match fields.flag("attention_bias", false)? {
            false => Ok(false),
            true => Err(fields.wrong(
                "attention_bias",
                format!("false for a {} model", self.model_type()),
            )),
        }
    }

    fn sliding_window(
        self,
        fields: &Fields,
        layers: usize,
    ) -> Result<Option<usize>, PretrainedError> {
        match self {
            Self::Llama => Ok(None),
            // transformers: 4096 where the field is absent, none where it is null.
            Self::Mistral if !fields.object.contains_key("sliding_window") => Ok(Some(4096)),
            Self::Mistral => fields.count("sliding_window"),
            Self::Qwen2 | Self::Qwen3 => qwen_sliding_window(fields, layers),
        }
    }
}

/// Qwen's layers from `max_window_layers` on have the window, or those that `layer_types` names. Only all or none are
/// implemented.
fn qwen_sliding_window(fields: &Fields, layers: usize) -> Result<Option<usize>, PretrainedError> {
    if !fields.flag("use_sliding_window", false)? {
        return Ok(None);
    }
    let Some(window) = fields.count("sliding_window")? else {
        return Ok(None);
    };
    if let Some(types) = fields.get("layer_types") {
        let types = types
            .as_array()
            .ok_or_else(|| fields.wrong("layer_types", "a list of strings"))?;
        let all = |kind: &str| types.iter().all(|found| found.as_str() == Some(kind));
        return if all("full_attention") {
            Ok(None)
        } else if all("sliding_attention") {
            Ok(Some(window))
        } else {
            Err(fields.wrong("layer_types", "the same attention in every layer"))
        };
    }
    match fields
        .get("max_window_layers")
        .map_or(Some(28), Value::as_u64)
    {
        Some(0) => Ok(Some(window)),
        Some(first) if first >= layers as u64 => Ok(None),
        _ => {
            let expected = format!("0 (a window in every layer) or at least {layers} (in none)");
            Err(fields.wrong("max_window_layers", expected))
        }
    }
}

/// Fields that change what the network computes and that are not implemented.
fn refuse_unsupported(fields: &Fields) -> Result<(), PretrainedError> {
    if !matches!(fields.text("hidden_act")?, None | Some("silu" | "swish")) {
        return Err(fields.wrong("hidden_act", "\"silu\""));
    }
    if fields.flag("mlp_bias", false)? {
        return Err(fields.wrong("mlp_bias", "false"));
    }
    if fields.get("quantization_config").is_some() {
        let expected = "a model with plain F32, F16 or BF16 weights (or a GGUF file)";
        return Err(fields.wrong("quantization_config", expected));
    }
    refuse_partial_rotation(fields)
}

/// The outputs of a sequence classifier: the names in `id2label`; without it `LABEL_0` and so on, `num_labels` of them,
/// and without either two (`PreTrainedConfig` of transformers 5.23, which does not write the default of two either).
fn labels(fields: &Fields) -> Result<Option<Vec<String>>, PretrainedError> {
    let architectures = match fields.get("architectures") {
        None => return Ok(None),
        Some(list) => list
            .as_array()
            .ok_or_else(|| fields.wrong("architectures", "a list of strings"))?,
    };
    let is_classifier = architectures
        .iter()
        .filter_map(Value::as_str)
        .any(|name| name.ends_with("ForSequenceClassification"));
    if !is_classifier {
        return Ok(None);
    }
    let count = fields.count("num_labels")?;
    let Some(names) = fields.get("id2label") else {
        let count = count.unwrap_or(2);
        if count > MOST_LABELS {
            return Err(fields.wrong("num_labels", format!("at most {MOST_LABELS}")));
        }
        return Ok(Some((0..count).map(|i| format!("LABEL_{i}")).collect()));
    };
    let named = names.as_object().filter(|names| !names.is_empty());
    let in_order = named.and_then(|names| {
        let name = |i: usize| names.get(&i.to_string())?.as_str().map(str::to_owned);
        (0..names.len()).map(name).collect::<Option<Vec<_>>>()
    });
    let Some(labels) = in_order else {
        let expected =
            r#"a name for every output from 0 on, as in {"0": "helpful", "1": "concise"}"#;
        return Err(fields.wrong("id2label", expected));
    };
    // Versions of transformers disagree on which of the two counts.
    if count.is_some_and(|count| count != labels.len()) {
        let expected = format!("{}, the number of names in `id2label`", labels.len());
        return Err(fields.wrong("num_labels", expected));
    }
    Ok(Some(labels))
}

/// Far above any real classifier: a file cannot ask for gigabytes of names.
const MOST_LABELS: usize = 1 << 16;

fn refuse_partial_rotation(fields: &Fields) -> Result<(), PretrainedError> {
    match fields.positive("partial_rotary_factor")? {
        None | Some(1.0) => Ok(()),
        Some(_) => Err(fields.wrong("partial_rotary_factor", "1")),
    }
}

/// `rope_parameters` (transformers 5), or `rope_theta` with `rope_scaling` (before).
fn rope(fields: &Fields, max_position_embeddings: usize) -> Result<Rope, PretrainedError> {
    const DEFAULT_THETA: f64 = 10_000.0;
    let top_level_theta = fields.positive("rope_theta")?;
    let nested = match fields.nested("rope_parameters", "rope_parameters.")? {
        Some(nested) => Some(nested),
        None => fields.nested("rope_scaling", "rope_scaling.")?,
    };
    let Some(nested) = nested else {
        return Ok(Rope {
            theta: top_level_theta.unwrap_or(DEFAULT_THETA),
            scaling: RopeScaling::None,
        });
    };
    refuse_partial_rotation(&nested)?;
    let theta = nested
        .positive("rope_theta")?
        .or(top_level_theta)
        .unwrap_or(DEFAULT_THETA);
    // `type` is the older name of `rope_type`.
    let name = if nested.get("rope_type").is_some() {
        "rope_type"
    } else {
        "type"
    };
    let scaling = match nested.text(name)? {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear {
            factor: nested.required_positive("factor")?,
        },
        Some("llama3") => {
            let low_freq_factor = nested.required_positive("low_freq_factor")?;
            let high_freq_factor = nested.required_positive("high_freq_factor")?;
            if high_freq_factor <= low_freq_factor {
                return Err(nested.wrong(
                    "high_freq_factor",
                    format!("more than low_freq_factor = {low_freq_factor}"),
                ));
            }
            RopeScaling::Llama3 {
                factor: nested.required_positive("factor")?,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: nested
                    .count("original_max_position_embeddings")?
                    .unwrap_or(max_position_embeddings),
            }
        }
        Some(_) => return Err(nested.wrong(name, "one of default, linear, llama3")),
    };
    Ok(Rope { theta, scaling })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Result<ModelConfig, PretrainedError> {
        let Value::Object(object) = value else {
            panic!("an object")
        };
        ModelConfig::from_json(Path::new("m/config.json"), &object)
    }

    fn small(model_type: &str) -> Value {
        json!({
            "model_type": model_type, "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 128, "rms_norm_eps": 1e-5
        })
    }

    fn with(mut base: Value, changes: Value) -> Value {
        for (key, value) in changes.as_object().expect("an object") {
            base[key] = value.clone();
        }
        base
    }

    /// The whole message of a refusal.
    fn refused(value: Value) -> String {
        parse(value).expect_err("must be refused").to_string()
    }

    #[test]
    fn families_differ_as_their_authors_say() {
        let llama = parse(small("llama")).unwrap();
        assert_eq!(
            (
                llama.head_dim,
                llama.attention_bias,
                llama.qk_norm,
                llama.sliding_window
            ),
            (8, false, false, None)
        );
        let mistral = parse(with(small("mistral"), json!({"sliding_window": 16}))).unwrap();
        assert_eq!(mistral.sliding_window, Some(16));
        assert_eq!(
            parse(with(small("mistral"), json!({"sliding_window": null})))
                .unwrap()
                .sliding_window,
            None
        );
        assert_eq!(parse(small("mistral")).unwrap().sliding_window, Some(4096));
        assert!(parse(small("qwen2")).unwrap().attention_bias);
        let qwen3 = parse(with(small("qwen3"), json!({"head_dim": 16}))).unwrap();
        assert_eq!(
            (qwen3.head_dim, qwen3.attention_bias, qwen3.qk_norm),
            (16, false, true)
        );
    }

    #[test]
    fn qwen_windows_are_all_or_nothing() {
        let qwen = |changes: Value| parse(with(small("qwen2"), changes));
        assert_eq!(
            qwen(json!({"sliding_window": 8})).unwrap().sliding_window,
            None
        );
        let on = json!({"use_sliding_window": true, "sliding_window": 8});
        let windows = |changes| qwen(with(on.clone(), changes)).map(|config| config.sliding_window);
        assert_eq!(windows(json!({"max_window_layers": 0})).unwrap(), Some(8));
        assert_eq!(windows(json!({"max_window_layers": 2})).unwrap(), None);
        assert!(
            windows(json!({"max_window_layers": 1}))
                .unwrap_err()
                .to_string()
                .contains("max_window_layers")
        );
        let types = json!({"layer_types": ["sliding_attention", "full_attention"]});
        assert!(
            windows(types)
                .unwrap_err()
                .to_string()
                .contains("layer_types")
        );
    }

    #[test]
    fn old_and_new_spellings_of_rope_agree() {
        let llama3 = json!({
            "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64
        });
        let old = with(llama3.clone(), json!({"rope_type": "llama3"}));
        let older = with(llama3.clone(), json!({"type": "llama3"}));
        let new = with(llama3, json!({"rope_type": "llama3", "rope_theta": 5e5}));
        let old = parse(with(
            small("llama"),
            json!({"rope_theta": 5e5, "rope_scaling": old}),
        ))
        .unwrap();
        let older = parse(with(
            small("llama"),
            json!({"rope_theta": 5e5, "rope_scaling": older}),
        ))
        .unwrap();
        let new = parse(with(small("llama"), json!({"rope_parameters": new}))).unwrap();
        assert_eq!(old, new);
        assert_eq!(older, new);
        assert_eq!(new.rope.theta, 5e5);

        let default = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 123.0}});
        let default = parse(with(small("llama"), default)).unwrap();
        assert_eq!(
            default.rope,
            Rope {
                theta: 123.0,
                scaling: RopeScaling::None
            }
        );
    }

    #[test]
    fn end_of_text_is_one_token_or_several() {
        let eos = |value: Value| {
            parse(with(small("llama"), json!({"eos_token_id": value})))
                .unwrap()
                .eos_token_ids
        };
        assert_eq!(eos(json!(2)), [2]);
        assert_eq!(eos(json!([2, 5])), [2, 5]);
        assert!(eos(Value::Null).is_empty());
    }

    #[test]
    fn classifiers_name_their_outputs() {
        let labels = |changes: Value| {
            parse(with(small("qwen2"), changes))
                .unwrap()
                .labels
                .map(|labels| labels.join(" "))
        };
        // A language model's configuration may name labels; they mean nothing.
        let names = json!({"1": "concise", "0": "helpful"});
        assert_eq!(labels(json!({})), None);
        assert_eq!(
            labels(json!({"architectures": ["Qwen2ForCausalLM"], "id2label": names})),
            None
        );
        let classifier = |changes: Value| {
            let base = json!({"architectures": ["Qwen2ForSequenceClassification"]});
            labels(with(base, changes)).expect("a classifier")
        };
        assert_eq!(classifier(json!({})), "LABEL_0 LABEL_1");
        assert_eq!(classifier(json!({"num_labels": 1})), "LABEL_0");
        assert_eq!(classifier(json!({"id2label": names})), "helpful concise");
        let both = json!({"id2label": names, "num_labels": 2});
        assert_eq!(classifier(both), "helpful concise");

        for tied in [true, false] {
            let changes = json!({
                "architectures": ["Qwen2ForSequenceClassification"], "num_labels": 3, "tie_word_embeddings": tied
            });
            let tensors = parse(with(small("qwen2"), changes)).unwrap().tensors();
            assert_eq!(
                tensors.last(),
                Some(&("score.weight".to_owned(), vec![3, 32]))
            );
            assert!(tensors.iter().all(|(name, _)| name != "lm_head.weight"));
        }
    }

    #[test]
    fn labels_that_cannot_be_understood_are_refused() {
        for (changes, field, hint) in [
            (
                json!({"id2label": {"0": "a", "2": "b"}}),
                "id2label",
                "every output from 0 on",
            ),
            (json!({"id2label": {}}), "id2label", "every output"),
            (json!({"id2label": {"0": 7}}), "id2label", "7"),
            (json!({"id2label": ["a"]}), "id2label", "[\"a\"]"),
            (
                json!({"id2label": {"0": "a"}, "num_labels": 2}),
                "num_labels",
                "expected 1",
            ),
            (json!({"num_labels": 0}), "num_labels", "above 0"),
            (json!({"num_labels": 1u64 << 40}), "num_labels", "at most"),
            (
                json!({"architectures": "LlamaForSequenceClassification"}),
                "architectures",
                "a list",
            ),
        ] {
            let base = json!({"architectures": ["LlamaForSequenceClassification"]});
            let message = refused(with(small("llama"), with(base, changes)));
            for part in ["config.json", &format!("`{field}`"), hint] {
                assert!(message.contains(part), "{message:?} lacks {part:?}");
            }
        }
    }

    #[test]
    fn refusals_name_the_file_and_the_field() {
        for (changes, field, hint) in [
            (
                json!({"model_type": "gpt2"}),
                "model_type",
                "llama, mistral, qwen2, qwen3",
            ),
            (json!({"hidden_act": "gelu"}), "hidden_act", "\"gelu\""),
            (json!({"mlp_bias": true}), "mlp_bias", "expected false"),
            (
                json!({"attention_bias": true}),
                "attention_bias",
                "expected false",
            ),
            (
                json!({"quantization_config": {"quant_method": "gptq"}}),
                "quantization_config",
                "gptq",
            ),
            (
                json!({"partial_rotary_factor": 0.5}),
                "partial_rotary_factor",
                "0.5",
            ),
            (
                json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
                "rope_scaling.rope_type",
                "yarn",
            ),
            (
                json!({"rope_scaling": {"rope_type": "linear"}}),
                "rope_scaling.factor",
                "nothing",
            ),
            (json!({"hidden_size": null}), "hidden_size", "null"),
            (json!({"hidden_size": -4}), "hidden_size", "-4"),
            (json!({"hidden_size": "32"}), "hidden_size", "\"32\""),
            (json!({"vocab_size": 1u64 << 40}), "vocab_size", "at most"),
            (
                json!({"num_attention_heads": 5}),
                "num_attention_heads",
                "divisor of hidden_size = 32",
            ),
            (
                json!({"num_key_value_heads": 3}),
                "num_key_value_heads",
                "divisor of num_attention_heads = 4",
            ),
            (json!({"head_dim": 7}), "head_dim", "even"),
            (json!({"eos_token_id": "</s>"}), "eos_token_id", "</s>"),
            (json!({"rms_norm_eps": 0}), "rms_norm_eps", "above 0"),
        ] {
            let message = refused(with(small("llama"), changes));
            for part in ["config.json", &format!("`{field}`"), hint] {
                assert!(message.contains(part), "{message:?} lacks {part:?}");
            }
        }
    }
}
