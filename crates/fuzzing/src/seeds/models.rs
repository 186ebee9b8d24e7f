//! Models: GGUF files, weights, configurations.

use std::fs;

use panacea_test_support::TinyModel;
use serde_json::{Value, json};

use super::{CONFIG, Seeds, tiny};
use crate::scratch::Scratch;

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../../pretrained/tests/models/tiny.rs"]
mod gguf;

use gguf::{Gguf, Meta, text};

pub(super) fn ggufs(seeds: &mut Seeds) {
    for architecture in ["llama", "qwen2", "qwen3"] {
        let model = tiny(architecture);
        let mut gguf = Gguf::of(&model);
        // The tests' models have more heads than this one, whose query and key rows need no other order.
        for (name, tensor) in [("blk.0.attn_q.weight", "q"), ("blk.0.attn_k.weight", "k")] {
            let (_, data) =
                &model.tensors[&format!("model.layers.0.self_attn.{tensor}_proj.weight")];
            gguf.tensor(name).3 = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        }
        seeds.add(architecture, gguf.bytes());

        let tokens = [
            "<unk>", "<s>", "</s>", "<0x0A>", "▁", "a", "b", "ab", "▁ab", "[PAD9]",
        ];
        let tokens: Vec<String> = tokens.map(str::to_owned).to_vec();
        gguf.set("tokenizer.ggml.model", text("llama"));
        gguf.set(
            "tokenizer.ggml.token_type",
            Meta::I32s(vec![2, 3, 3, 6, 1, 1, 1, 4, 1, 5]),
        );
        gguf.set(
            "tokenizer.ggml.scores",
            Meta::F32s((0..tokens.len()).map(|id| -(id as f32)).collect()),
        );
        gguf.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
        gguf.set("tokenizer.ggml.unknown_token_id", Meta::U32(0));
        gguf.set("tokenizer.ggml.add_eos_token", Meta::Bool(true));
        gguf.set("tokenizer.ggml.add_space_prefix", Meta::Bool(false));
        gguf.set(
            "tokenizer.chat_template",
            text("{% for m in messages %}{{ m.content }}</s>{% endfor %}"),
        );
        seeds.add(format!("{architecture}-pieces"), gguf.bytes());

        gguf.remove("tokenizer.ggml.merges");
        gguf.set("general.alignment", Meta::U32(64));
        gguf.set(&format!("{architecture}.rope.scaling.type"), text("linear"));
        gguf.set(
            &format!("{architecture}.rope.scaling.factor"),
            Meta::F32(2.0),
        );
        gguf.set(
            &format!("{architecture}.attention.head_count"),
            Meta::I32s(vec![1]),
        );
        seeds.add(format!("{architecture}-keys"), gguf.bytes());
        // A row of each format's blocks, in a tensor that such a model does not have.
        for (number, bytes) in [(1, 2), (2, 18), (3, 20), (6, 22), (7, 24), (8, 34), (30, 2)] {
            let row = if [1, 30].contains(&number) { 1 } else { 32 };
            gguf.tensors.push((
                format!("extra.{number}"),
                vec![row, 2],
                number,
                vec![7; 2 * bytes],
            ));
        }
        for (number, bytes) in [(12, 144), (13, 176), (14, 210)] {
            gguf.tensors.push((
                format!("extra.{number}"),
                vec![256, 1],
                number,
                vec![7; bytes],
            ));
        }
        gguf.tensors.push((
            "rope_freqs.weight".to_owned(),
            vec![1],
            0,
            2.0_f32.to_le_bytes().to_vec(),
        ));
        gguf.remove(&format!("{architecture}.rope.scaling.type"));
        seeds.add(format!("{architecture}-blocks"), gguf.bytes());
    }
}

pub(super) fn weights(seeds: &mut Seeds) {
    let mut config: Value = serde_json::from_str(CONFIG).expect("it is JSON");
    config["vocab_size"] = json!(2);
    let model = TinyModel::new(config, |_| 0.5);
    let folder = Scratch::new();
    model.write_without_tokenizer(folder.path());
    let file = fs::read(folder.path().join("model.safetensors")).expect("it was written");
    seeds.add("one-file", [&[0], &file[..]].concat());
    let map: serde_json::Map<String, Value> = (model.tensors.keys())
        .map(|name| (name.clone(), json!("a.safetensors")))
        .collect();
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
    let length = (index.len() as u16).to_le_bytes();
    seeds.add(
        "shards",
        [&[1], &length[..], index.as_bytes(), &file].concat(),
    );
    for dtype in ["F16", "BF16", "F64", "F8_E4M3", "I64"] {
        let header = format!(
            r#"{{"model.norm.weight": {{"dtype": "{dtype}", "shape": [2], "data_offsets": [0, 4]}}}}"#
        );
        let length = (header.len() as u64).to_le_bytes();
        seeds.add(
            dtype,
            [&[0], &length[..], header.as_bytes(), &[0; 4]].concat(),
        );
    }
}

pub(super) fn configs(seeds: &mut Seeds) {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 64});
    for model_type in ["llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3"] {
        let mut config = tiny(model_type).config;
        seeds.add(model_type, config.to_string());
        for (key, value) in [
            ("sliding_window", json!(4)),
            ("use_sliding_window", json!(true)),
            ("layer_types", json!(["sliding_attention"])),
            ("rope_scaling", llama3.clone()),
            ("eos_token_id", json!([1, 2])),
            ("bos_token_id", json!(1)),
            ("architectures", json!(["LlamaForSequenceClassification"])),
            ("id2label", json!({"0": "a", "1": "b"})),
            ("num_labels", json!(2)),
        ] {
            config[key] = value;
        }
        seeds.add(format!("{model_type}-more"), config.to_string());
    }
}
