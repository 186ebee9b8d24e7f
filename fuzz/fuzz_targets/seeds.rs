//! No target: writes what the others begin with into `corpus`, a folder for each, with small valid files of every kind. It is
//! built as a target so that nothing is compiled twice.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
};

use libfuzzer_sys::fuzz_target;
use panacea_fuzz::{CONFIG, Scratch, tiny};
use panacea_test_support::{CHAT_TEMPLATE, golden, tokenizer_config, tokenizer_json};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../crates/pretrained/tests/models/tiny.rs"]
mod models;

use models::{Gguf, Meta, text};

fuzz_target!(init: write_all(), |_bytes: &[u8]| {});

fn write_all() {
    ggufs();
    weights();
    configs();
    tokenizers();
    templates();
    records();
    parquets();
    points();
    profiles();
}

/// Writes one seed.
fn seed(target: &str, name: &str, contents: impl AsRef<[u8]>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&folder).expect("the folder is writable");
    fs::write(folder.join(name), contents).expect("the folder is writable");
}

fn ggufs() {
    for architecture in ["llama", "qwen2", "qwen3"] {
        let model = tiny(architecture);
        let mut gguf = Gguf::of(&model);
        // The tests' models have more heads than this one, whose query and key rows need no other order.
        for (name, tensor) in [("blk.0.attn_q.weight", "q"), ("blk.0.attn_k.weight", "k")] {
            let (_, data) =
                &model.tensors[&format!("model.layers.0.self_attn.{tensor}_proj.weight")];
            gguf.tensor(name).3 = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        }
        seed("gguf", architecture, gguf.bytes());

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
        seed("gguf", &format!("{architecture}-pieces"), gguf.bytes());

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
        seed("gguf", &format!("{architecture}-keys"), gguf.bytes());
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
        seed("gguf", &format!("{architecture}-blocks"), gguf.bytes());
    }
}

fn weights() {
    let mut config: Value = serde_json::from_str(CONFIG).expect("it is JSON");
    config["vocab_size"] = json!(2);
    let model = panacea_test_support::TinyModel::new(config, |_| 0.5);
    let folder = Scratch::new();
    model.write_without_tokenizer(folder.path());
    let file = fs::read(folder.path().join("model.safetensors")).expect("it was written");
    seed("safetensors", "one-file", [&[0], &file[..]].concat());
    let map: serde_json::Map<String, Value> = (model.tensors.keys())
        .map(|name| (name.clone(), json!("a.safetensors")))
        .collect();
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
    let length = (index.len() as u16).to_le_bytes();
    seed(
        "safetensors",
        "shards",
        [&[1], &length[..], index.as_bytes(), &file].concat(),
    );
    for dtype in ["F16", "BF16", "F64", "F8_E4M3", "I64"] {
        let header = format!(
            r#"{{"model.norm.weight": {{"dtype": "{dtype}", "shape": [2], "data_offsets": [0, 4]}}}}"#
        );
        let length = (header.len() as u64).to_le_bytes();
        seed(
            "safetensors",
            dtype,
            [&[0], &length[..], header.as_bytes(), &[0; 4]].concat(),
        );
    }
}

fn configs() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 64});
    for model_type in ["llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3"] {
        let mut config = tiny(model_type).config;
        seed("config_json", model_type, config.to_string());
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
        seed(
            "config_json",
            &format!("{model_type}-more"),
            config.to_string(),
        );
    }
}

/// A tokenizer of a few tokens with this model and these steps around it.
fn tokenizer(
    model: Value,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
) -> String {
    let added = |id: usize, content: &str, special: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": true,
               "normalized": !special, "special": special})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0, "<s>", true), added(1, "</s>", true), added(9, "word", false)],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": decoder,
        "model": model
    })
    .to_string()
}

fn tokenizers() {
    seed("tokenizer_json", "bytes", tokenizer_json().to_string());
    let vocabulary = json!({"<s>": 0, "</s>": 1, "h": 2, "e": 3, "he": 4, "l": 5, "##l": 6, "▁": 7, "<0x0A>": 8});
    let scores = json!([
        ["<s>", 0.0],
        ["</s>", 0.0],
        ["h", -1.0],
        ["e", -2.0],
        ["he", -1.5],
        ["▁", -3.0],
        ["<0x0A>", -4.0]
    ]);
    let models = [
        json!({"type": "BPE", "dropout": null, "unk_token": "<s>", "continuing_subword_prefix": "##",
               "end_of_word_suffix": "</w>", "fuse_unk": true, "byte_fallback": true, "ignore_merges": true,
               "vocab": vocabulary, "merges": [["h", "e"]]}),
        json!({"type": "BPE", "dropout": 0.0, "unk_token": null, "vocab": vocabulary, "merges": ["h e"]}),
        json!({"type": "Unigram", "unk_id": 0, "vocab": scores, "byte_fallback": true}),
        json!({"type": "WordPiece", "unk_token": "<s>", "continuing_subword_prefix": "##",
               "max_input_chars_per_word": 100, "vocab": vocabulary}),
        json!({"type": "WordLevel", "unk_token": "<s>", "vocab": vocabulary}),
    ];
    let normalizers = [
        json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKD"}, {"type": "Lowercase"},
               {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
               {"type": "Prepend", "prepend": "▁"}, {"type": "StripAccents"}]}),
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}),
        json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}),
        json!({"type": "Replace", "pattern": {"Regex": "a+|\\s{2,}"}, "content": "x"}),
        json!({"type": "Strip", "strip_left": true, "strip_right": false}),
        json!({"type": "Nmt"}),
        json!({"type": "ByteLevel"}),
        Value::Null,
    ];
    let pre_tokenizers = [
        json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"},
               {"type": "Digits", "individual_digits": true}]}),
        json!({"type": "Split", "pattern": {"Regex": "(?i:'s|'t)|\\p{L}+|\\s+(?!\\S)"}, "behavior": "MergedWithNext", "invert": true}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}),
        json!({"type": "BertPreTokenizer"}),
        json!({"type": "CharDelimiterSplit", "delimiter": "l"}),
        json!({"type": "UnicodeScripts"}),
        json!({"type": "FixedLength", "length": 2}),
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
    ];
    let post_processors = [
        json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
               "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
               "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}),
        json!({"type": "BertProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0]}),
        json!({"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": true}),
        json!({"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}]}),
    ];
    let decoders = [
        json!({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
               {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}),
        json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        json!({"type": "BPEDecoder", "suffix": "</w>"}),
        json!({"type": "CTC", "pad_token": "<s>", "word_delimiter_token": "h", "cleanup": true}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
    ];
    for place in 0..8 {
        let of = |choices: &[Value]| choices[place % choices.len()].clone();
        let file = tokenizer(
            of(&models),
            of(&normalizers),
            of(&pre_tokenizers),
            of(&post_processors),
            of(&decoders),
        );
        seed("tokenizer_json", &format!("kinds-{place}"), file);
    }
    seed("tokenizer_config", "usual", tokenizer_config().to_string());
    let more = json!({
        "bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "[PAD]", "additional_special_tokens": ["<|im_end|>", "<x>"],
        "added_tokens_decoder": {"270": {"content": "<new>", "lstrip": true, "rstrip": true, "single_word": true, "normalized": true, "special": false}},
        "chat_template": [{"name": "default", "template": CHAT_TEMPLATE}, {"name": "tool_use", "template": "x"}]
    });
    seed("tokenizer_config", "more", more.to_string());
}

fn templates() {
    let golden: Value = golden("templates.json");
    for (place, family) in golden["families"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        seed(
            "chat_template",
            &format!("family-{place}"),
            family["template"].as_str().unwrap_or_default(),
        );
    }
    for (place, case) in golden["expressions"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        seed(
            "chat_template",
            &format!("expression-{place}"),
            case[0].as_str().unwrap_or_default(),
        );
    }
    seed("chat_template", "chatml", CHAT_TEMPLATE);
}

fn records() {
    let turns = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [{"type": "text", "text": "Yo"}]}]);
    let other = json!([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "No"}]);
    let rows = [
        json!({"prompt": "a", "responses": ["b", "cc"], "scores": {"a": [1, 2.5]}}),
        json!({"prompt": "a", "response_0": "b", "response_1": "c", "better_response_id": 0, "safer_response_id": 1, "a": 1}),
        json!({"chosen_messages": turns, "rejected_messages": other}),
        json!({"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "b"}, "rejected": {"from": "gpt", "value": "c"}}),
        json!({"chosen": "\n\nHuman: Hi\n\nAssistant: b", "rejected": "\n\nHuman: Hi\n\nAssistant: c"}),
        json!({"prompt": "a", "chosen": "b", "rejected": "c", "a": true, "system": "s"}),
        json!({"messages": turns, "a": ["a"]}),
        json!({"prompt": "a", "completion": "b", "a": 0.5}),
        json!({"instruction": "a", "input": "b", "output": "c"}),
        json!({"prompt": turns}),
    ];
    for (format, row) in rows.iter().enumerate() {
        let lines = format!("{row}\n{row}\n");
        for kind in [0, 1, 2, 3, 20, 41] {
            let head = [if kind % 2 == 0 { 255 } else { format as u8 }, kind as u8];
            seed(
                "records",
                &format!("{format}-{kind}"),
                [&head[..], lines.as_bytes()].concat(),
            );
        }
        seed(
            "records",
            &format!("{format}-array"),
            [&[255, 12], json!([row, row]).to_string().as_bytes()].concat(),
        );
    }
}

/// Files of two rows, plain and compressed, with texts, lists and numbers, some of them absent.
fn parquets() {
    let texts =
        |values: [Option<&str>; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let mut responses = ListBuilder::new(StringBuilder::new());
    for _ in 0..2 {
        responses.append_value([Some("b"), Some("c")]);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("prompt", texts([Some("a"), Some("a")])),
        ("chosen", texts([Some("b"), None])),
        ("rejected", texts([Some("c"), Some("d")])),
        ("responses", Arc::new(responses.finish())),
        ("a", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("b", Arc::new(BooleanArray::from(vec![true, false]))),
    ];
    for (name, compression) in [
        ("plain", Compression::UNCOMPRESSED),
        ("snappy", Compression::SNAPPY),
        ("gzip", Compression::GZIP(GzipLevel::default())),
    ] {
        for (kind, columns) in [("pair", &columns[..3]), ("list", &columns[..])] {
            let batch =
                RecordBatch::try_from_iter(columns.iter().cloned()).expect("columns of two rows");
            let properties = WriterProperties::builder()
                .set_compression(compression)
                .build();
            let mut bytes = Vec::new();
            let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))
                .expect("known types");
            writer
                .write(&batch)
                .and_then(|()| writer.close())
                .expect("it is kept in memory");
            seed(
                "parquet",
                &format!("{kind}-{name}"),
                [&[255, 0], &bytes[..]].concat(),
            );
        }
    }
}

fn points() {
    seed("points", "csv", "helpful, concise\n1,-2.5\n\n0.3,4e2\n");
    seed("points", "json", " [[1, -2.5],\n [0.3, 4]]");
}

fn profiles() {
    let objectives = ["a", "b"].map(str::to_owned).to_vec();
    let mut session =
        panacea_elicit::Session::new(objectives, panacea_elicit::Settings::lasting(), 7)
            .expect("the settings are fine");
    seed("profile", "empty", session.to_text());
    let candidate = |id: &str, scores: [f64; 2]| panacea_elicit::Candidate {
        id: id.to_owned(),
        preference: None,
        scores: scores.to_vec(),
    };
    let candidates = [
        candidate("x", [0.1, 0.9]),
        candidate("y", [0.8, 0.2]),
        candidate("z", [0.5, 0.5]),
    ];
    for answer in [panacea_elicit::Answer::Left, panacea_elicit::Answer::Skip] {
        let question = session
            .ask(panacea_elicit::Criterion::InformationGain, &candidates)
            .expect("they fit");
        let Some(question) = question else { break };
        let (left, right) = (&candidates[question.left], &candidates[question.right]);
        session
            .answer(left, right, answer, None)
            .expect("it may be asked");
    }
    seed("profile", "asked", session.to_text());
}
