//! What people wrote in `config.json`, checked and made a [`ModelConfig`].

use std::path::Path;

use serde_json::{Map, Value};

use crate::PretrainedError;
use crate::config::{ModelConfig, check_layers};
use crate::families::{Family, refuse_partial_rotation};
use crate::json::{self, Fields};

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
        check_layers(path, "num_hidden_layers", num_hidden_layers)?;
        let num_attention_heads = fields.required_count("num_attention_heads")?;
        let max_position_embeddings = match fields.count("max_position_embeddings")? {
            Some(length) => length,
            None => family.default_context(),
        };
        let hidden_size = fields.required_count("hidden_size")?;
        let head_dim = match (fields.count("head_dim")?, family.default_head_dim()) {
            (Some(head_dim), _) | (None, Some(head_dim)) => head_dim,
            (None, None) if hidden_size % num_attention_heads == 0 => {
                hidden_size / num_attention_heads
            }
            (None, None) => {
                return Err(fields.wrong(
                    "num_attention_heads",
                    format!("a divisor of hidden_size = {hidden_size}"),
                ));
            }
        };
        let is_gemma = family == Family::Gemma3;
        let query_pre_attn_scalar = match is_gemma {
            true => fields.positive("query_pre_attn_scalar")?.unwrap_or(256.0),
            false => head_dim as f64,
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
            rms_norm_eps: fields
                .positive("rms_norm_eps")?
                .unwrap_or(family.default_epsilon()),
            attention: family.attention(&fields, num_hidden_layers, max_position_embeddings)?,
            query_pre_attn_scalar,
            tie_word_embeddings: fields.flag("tie_word_embeddings", is_gemma)?,
            attention_bias: family.attention_bias(&fields)?,
            qk_norm: matches!(family, Family::Qwen3 | Family::Gemma3),
            norm_adds_one: is_gemma,
            output_norms: is_gemma,
            activation: family.activation(&fields)?,
            scaled_embedding: is_gemma,
            final_logit_softcapping: match is_gemma {
                true => fields.positive("final_logit_softcapping")?,
                false => None,
            },
            joined_projections: family == Family::Phi3,
            max_position_embeddings,
            eos_token_ids: fields.token_ids("eos_token_id")?,
            bos_token_id: fields.token_ids("bos_token_id")?.first().copied(),
            labels: labels(&fields)?,
        };
        config.validate(path)?;
        Ok(config)
    }
}

/// Fields that change what the network computes and that are not implemented.
fn refuse_unsupported(fields: &Fields) -> Result<(), PretrainedError> {
    if fields.flag("mlp_bias", false)? {
        return Err(fields.wrong("mlp_bias", "false"));
    }
    if fields.get("quantization_config").is_some() {
        let expected = "a model with plain F32, F16 or BF16 weights (or a GGUF file)";
        return Err(fields.wrong("quantization_config", expected));
    }
    for field in ["attn_logit_softcapping", "use_bidirectional_attention"] {
        if !matches!(
            fields.get(field),
            None | Some(Value::Null | Value::Bool(false))
        ) {
            return Err(fields.wrong(field, "nothing"));
        }
    }
    if fields.get("rope_parameters").is_some() && fields.get("rope_scaling").is_some() {
        return Err(fields.wrong("rope_scaling", "nothing beside `rope_parameters`"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rope, RopeScaling};
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
                llama.attention[0].window
            ),
            (8, false, false, None)
        );
        let mistral = parse(with(small("mistral"), json!({"sliding_window": 16}))).unwrap();
        assert_eq!(mistral.attention[0].window, Some(16));
        assert_eq!(
            parse(with(small("mistral"), json!({"sliding_window": null})))
                .unwrap()
                .attention[0]
                .window,
            None
        );
        assert_eq!(
            parse(small("mistral")).unwrap().attention[0].window,
            Some(4096)
        );
        assert!(parse(small("qwen2")).unwrap().attention_bias);
        let qwen3 = parse(with(small("qwen3"), json!({"head_dim": 16}))).unwrap();
        assert_eq!(
            (qwen3.head_dim, qwen3.attention_bias, qwen3.qk_norm),
            (16, false, true)
        );
    }

    #[test]
    fn qwen_windows_are_those_of_some_layers() {
        let windows = |changes: Value| {
            let on = json!({"use_sliding_window": true, "sliding_window": 8});
            let config = parse(with(small("qwen2"), with(on, changes)));
            config.map(|config| config.attention.iter().map(|layer| layer.window).collect())
        };
        let found = |changes: Value| -> Vec<Option<usize>> { windows(changes).unwrap() };
        assert_eq!(found(json!({"use_sliding_window": false})), [None, None]);
        assert_eq!(found(json!({"max_window_layers": 0})), [Some(8), Some(8)]);
        assert_eq!(found(json!({"max_window_layers": 1})), [None, Some(8)]);
        assert_eq!(found(json!({})), [None, None]);
        let types = json!({"layer_types": ["sliding_attention", "full_attention"]});
        assert_eq!(found(types), [Some(8), None]);
        for (field, wrong) in [
            ("layer_types", json!(["sliding_attention"])),
            (
                "layer_types",
                json!(["sliding_attention", "chunked_attention"]),
            ),
            ("max_window_layers", json!(-1)),
        ] {
            let message = windows(json!({field: wrong})).unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        }
    }

    #[test]
    fn gemma_layers_are_local_but_for_one_in_a_few() {
        let gemma = |changes: Value| {
            let base = json!({"num_hidden_layers": 4, "head_dim": 8, "sliding_window": 8});
            parse(with(small("gemma3_text"), with(base, changes)))
        };
        let config = gemma(json!({
            "sliding_window_pattern": 3, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0}
        }))
        .unwrap();
        let windows: Vec<_> = config.attention.iter().map(|layer| layer.window).collect();
        assert_eq!(windows, [Some(8), Some(8), None, Some(8)]);
        let plain = |theta| Rope {
            theta,
            scaling: RopeScaling::None,
        };
        assert_eq!(config.attention[0].rope, plain(1e4));
        assert_eq!(config.attention[2].rope.theta, 1e6);
        assert_eq!(
            config.attention[2].rope.scaling,
            RopeScaling::Linear { factor: 8.0 }
        );
        assert!(config.tie_word_embeddings && config.qk_norm && config.norm_adds_one);
        assert_eq!(config.query_pre_attn_scalar, 256.0);
        for (field, wrong) in [
            ("hidden_activation", json!("gelu")),
            ("attn_logit_softcapping", json!(50.0)),
            ("use_bidirectional_attention", json!(true)),
            ("sliding_window", Value::Null),
            (
                "rope_parameters",
                json!({"rope_type": "yarn", "factor": 4.0}),
            ),
        ] {
            let message = gemma(json!({field: wrong})).unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        }
    }

    /// What fingerprints of models that are long known come of.
    #[test]
    fn the_identity_of_a_known_architecture_does_not_change() {
        let config = parse(with(
            small("mistral"),
            json!({"sliding_window": 16, "eos_token_id": 2}),
        ))
        .unwrap();
        assert_eq!(
            config.identity(),
            "ModelConfig { model_type: \"mistral\", vocab_size: 96, hidden_size: 32, intermediate_size: 64, \
             num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8, rms_norm_eps: 1e-5, \
             rope: Rope { theta: 10000.0, scaling: None }, tie_word_embeddings: false, attention_bias: false, \
             qk_norm: false, sliding_window: Some(16), max_position_embeddings: 128, eos_token_ids: [2], \
             bos_token_id: None }"
        );
        let gemma = |changes: Value| {
            parse(with(small("gemma3_text"), changes))
                .unwrap()
                .identity()
        };
        assert_ne!(
            gemma(json!({})),
            gemma(json!({"final_logit_softcapping": 30.0}))
        );
        assert_ne!(
            gemma(json!({})),
            gemma(json!({"sliding_window_pattern": 2}))
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
        assert_eq!(new.attention[0].rope.theta, 5e5);

        let default = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 123.0}});
        let default = parse(with(small("llama"), default)).unwrap();
        assert_eq!(
            default.attention[0].rope,
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
                "llama, mistral, qwen2, qwen3, gemma3_text, phi3",
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
            (
                json!({"num_hidden_layers": 1u64 << 60}),
                "num_hidden_layers",
                "at most",
            ),
            (
                json!({"rope_parameters": {"rope_theta": 1e4}, "rope_scaling": {"type": "linear", "factor": 2.0}}),
                "rope_scaling",
                "nothing beside",
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
