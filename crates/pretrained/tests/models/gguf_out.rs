//! GGUF files that are written, and read again.

use std::collections::BTreeMap;
use std::path::Path;

use panacea_pretrained::{
    ChatOptions, GgufType, Message, Pretrained, TemplateValue, TensorF32, convert_to_gguf,
    write_gguf,
};
use panacea_test_support::{TinyModel, tokenizer_json, write_json};
use serde_json::{Value, json};

use crate::tiny::{Gguf, Meta, text, tiny_model};

const FAMILIES: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

fn folder_of(tiny: &TinyModel, folder: &Path) -> Pretrained {
    tiny.write(folder);
    Pretrained::open(folder).unwrap()
}

fn written(model: &Pretrained, folder: &Path, dtype: GgufType) -> Pretrained {
    let path = folder.join(format!("{dtype}.gguf"));
    write_gguf(&path, model, &BTreeMap::new(), dtype).unwrap_or_else(|error| panic!("{error}"));
    let read = Pretrained::open(&path).unwrap();
    read.check().unwrap();
    read
}

#[test]
fn a_model_survives_its_gguf_file() {
    for family in FAMILIES {
        for tiny in [tiny_model(family), tiny_model(family).tied()] {
            let folder = tempfile::tempdir().unwrap();
            let model = folder_of(&tiny, folder.path());
            let read = written(&model, folder.path(), GgufType::F32);
            // The chat template shows a second token that ends a turn, which `config.json` does not name.
            let mut expected = model.config().clone();
            expected.eos_token_ids.push(3);
            assert_eq!(*read.config(), expected, "{family}");
            assert_eq!(read.tensor_names(), model.tensor_names());
            for name in model.tensor_names() {
                assert_eq!(
                    read.tensor(&name).unwrap(),
                    model.tensor(&name).unwrap(),
                    "{family} {name}"
                );
            }
            // An independent writer puts the same weights into the same places.
            let other = tempfile::tempdir().unwrap();
            let mut gguf = Gguf::of(&tiny);
            gguf.set("tokenizer.ggml.eot_token_id", Meta::U32(3));
            let other = Pretrained::open(&gguf.write(other.path())).unwrap();
            assert_eq!(read.fingerprint().unwrap(), other.fingerprint().unwrap());
        }
    }
}

#[test]
fn a_tokenizer_survives_its_gguf_file() {
    let split = |pattern: &str| {
        json!({
            "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false
        })
    };
    let bytes = |regex: bool| {
        json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": regex
        })
    };
    let sequence = |stages: &[Value]| json!({"type": "Sequence", "pretokenizers": stages});
    let qwen = [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ]
    .concat();
    let llama = qwen.replace(r"|\p{N}|", r"|\p{N}{1,3}|");
    let digits = json!({"type": "Digits", "individual_digits": true});
    let cases = [
        (Value::Null, bytes(true), false, Value::Null),
        (
            Value::Null,
            sequence(&[digits, bytes(true)]),
            false,
            Value::Null,
        ),
        (
            json!({"type": "NFC"}),
            sequence(&[split(&qwen), bytes(false)]),
            false,
            Value::Null,
        ),
        (
            Value::Null,
            sequence(&[split(&llama), bytes(false)]),
            true,
            json!({"type": "TemplateProcessing", "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
            ], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}),
        ),
    ];
    let texts = [
        "hello world 2026",
        "  it's\n\n<|im_end|>we'll e\u{301}",
        "",
        "hello",
    ];
    for (normalizer, pre_tokenizer, ignore_merges, around) in cases {
        let folder = tempfile::tempdir().unwrap();
        let tiny = tiny_model("llama");
        tiny.write(folder.path());
        let mut tokenizer = tokenizer_json();
        tokenizer["normalizer"] = normalizer;
        tokenizer["pre_tokenizer"] = pre_tokenizer;
        tokenizer["model"]["ignore_merges"] = json!(ignore_merges);
        tokenizer["post_processor"] = around;
        write_json(&folder.path().join("tokenizer.json"), &tokenizer);
        let model = Pretrained::open(folder.path()).unwrap();
        let read = written(&model, folder.path(), GgufType::F16);
        let (ours, theirs) = (model.tokenizer().unwrap(), read.tokenizer().unwrap());
        assert_eq!(ours.stop_ids(), theirs.stop_ids());
        for text in texts {
            for special in [false, true] {
                let ids = ours.encode(text, special).unwrap();
                assert_eq!(ids, theirs.encode(text, special).unwrap(), "{text:?}");
                assert_eq!(
                    ours.decode(&ids, true).unwrap(),
                    theirs.decode(&ids, true).unwrap()
                );
            }
        }
        let question = [Message::new("user", "hello?")];
        assert_eq!(
            ours.encode_prompt(&question).unwrap(),
            theirs.encode_prompt(&question).unwrap()
        );
    }
}

#[test]
fn rounded_weights_are_within_their_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder_of(&tiny_model("llama"), folder.path());
    for (dtype, most) in [
        // The weights of the tiny models are exact in 16 bits.
        (GgufType::F16, 0.0),
        (GgufType::Bf16, 0.0),
        // Half a step of blocks whose largest weight is below 1, and the rounding of the scale.
        (GgufType::Q8_0, 0.5 / 127.0 + 1.0 / 2048.0),
    ] {
        let read = written(&model, folder.path(), dtype);
        for name in model.tensor_names() {
            let (ours, theirs) = (model.tensor(&name).unwrap(), read.tensor(&name).unwrap());
            assert_eq!(ours.shape, theirs.shape);
            let most = if ours.shape.len() == 1 { 0.0 } else { most };
            for (ours, theirs) in ours.data.iter().zip(&theirs.data) {
                assert!(
                    (ours - theirs).abs() <= most,
                    "{dtype} {name}: {ours} {theirs}"
                );
            }
        }
    }
}

/// What nobody asked to change stays as it is stored, metadata that means nothing to us included.
#[test]
fn of_a_gguf_file_only_the_replaced_tensors_change() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = tiny_model("llama");
    let mut gguf = Gguf::of(&tiny);
    gguf.set("general.author", text("somebody"));
    gguf.set("llama.unheard_of", Meta::F32s(vec![0.5, 0.25]));
    // Mostly Q4_K, as llama.cpp counts: no type that is written here.
    gguf.set("general.file_type", Meta::U32(15));
    let source = gguf.write(folder.path());
    let model = Pretrained::open(&source).unwrap();
    let name = "model.layers.1.self_attn.k_proj.weight";
    let mut changed = model.tensor(name).unwrap();
    changed.data.iter_mut().for_each(|weight| *weight *= 0.5);
    let overrides = BTreeMap::from([(name.to_owned(), changed.clone())]);
    let path = folder.path().join("changed.gguf");
    write_gguf(&path, &model, &overrides, GgufType::F16).unwrap();

    let read = Pretrained::open(&path).unwrap();
    read.check().unwrap();
    assert_eq!(read.config(), model.config());
    for other in model.tensor_names() {
        let expected = match other == name {
            true => changed.clone(),
            false => model.tensor(&other).unwrap(),
        };
        assert_eq!(read.tensor(&other).unwrap(), expected, "{other}");
    }
    // All of it in another type: the weights of the tiny models are exact in 16 bits.
    let converted = folder.path().join("converted.gguf");
    convert_to_gguf(&converted, &model, GgufType::Bf16).unwrap();
    let short = Pretrained::open(&converted).unwrap();
    for name in model.tensor_names() {
        assert_eq!(short.tensor(&name).unwrap(), model.tensor(&name).unwrap());
    }
    let length = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(length(&converted) < length(&source) * 6 / 10);
    let file_type = |path: &Path| {
        let (bytes, key) = (std::fs::read(path).unwrap(), b"general.file_type");
        let place = bytes.windows(key.len()).position(|window| window == key);
        // Behind the key stand its type and its value.
        let value = place.unwrap() + key.len() + 4;
        u32::from_le_bytes(bytes[value..value + 4].try_into().unwrap())
    };
    assert_eq!((file_type(&path), file_type(&converted)), (15, 32));
    let bytes = std::fs::read(&path).unwrap();
    for kept in ["general.author", "somebody", "llama.unheard_of"] {
        assert!(
            bytes
                .windows(kept.len())
                .any(|window| window == kept.as_bytes()),
            "{kept}"
        );
    }
}

#[test]
fn llama_3_rotary_frequencies_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut tiny = tiny_model("llama");
    tiny.config["rope_scaling"] = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64
    });
    let model = folder_of(&tiny, folder.path());
    let read = written(&model, folder.path(), GgufType::F32);
    let frequencies = |model: &Pretrained| model.config().attention[0].rope.inverse_frequencies(8);
    let plain = folder_of(&tiny_model("llama"), tempfile::tempdir().unwrap().path());
    assert_ne!(frequencies(&model), frequencies(&plain));
    for (ours, theirs) in frequencies(&model).iter().zip(frequencies(&read)) {
        assert!((ours - theirs).abs() <= 1e-6 * ours, "{ours} {theirs}");
    }
}

#[test]
fn what_a_gguf_file_cannot_say_is_refused() {
    /// A change to a good tokenizer, and what the refusal must name.
    type Case<'a> = (&'a dyn Fn(&mut Value), &'a str);
    let cases: [Case<'_>; 6] = [
        (
            &|json| json["model"]["byte_fallback"] = json!(true),
            "SentencePiece",
        ),
        (
            &|json| json["decoder"] = json!({"type": "Fuse"}),
            "decoder.type",
        ),
        (
            &|json| json["pre_tokenizer"]["use_regex"] = json!(false),
            "splits words",
        ),
        (
            &|json| json["model"]["ignore_merges"] = json!(true),
            "ignore_merges",
        ),
        (
            &|json| json["added_tokens"][2]["rstrip"] = json!(true),
            "<|im_start|>",
        ),
        (
            &|json| {
                json["post_processor"] = json!({"type": "TemplateProcessing", "single": [
                {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
            ], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [2], "tokens": ["<|im_start|>"]}}})
            },
            "around every text",
        ),
    ];
    for (change, part) in cases {
        let folder = tempfile::tempdir().unwrap();
        tiny_model("llama").write(folder.path());
        let mut tokenizer = tokenizer_json();
        change(&mut tokenizer);
        write_json(&folder.path().join("tokenizer.json"), &tokenizer);
        assert_refused(
            &Pretrained::open(folder.path()).unwrap(),
            &BTreeMap::new(),
            part,
        );
    }
    for (family, part) in [
        ("phi3", "of the kind phi3"),
        ("gemma3_text", "of the kind gemma3_text"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        assert_refused(
            &folder_of(&tiny_model(family), folder.path()),
            &BTreeMap::new(),
            part,
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let model = folder_of(&tiny_model("llama"), folder.path());
    let name = "model.layers.0.mlp.up_proj.weight";
    let tensor = TensorF32 {
        shape: vec![64, 32],
        data: vec![1e9; 64 * 32],
    };
    assert_refused(
        &model,
        &BTreeMap::from([(name.to_owned(), tensor)]),
        "1000000000, which F16 cannot hold",
    );
    let tensor = TensorF32 {
        shape: vec![32, 64],
        data: vec![1.0; 64 * 32],
    };
    assert_refused(
        &model,
        &BTreeMap::from([(name.to_owned(), tensor)]),
        "expected [64, 32]",
    );
}

/// The refusal names the part, and leaves no file.
fn assert_refused(model: &Pretrained, overrides: &BTreeMap<String, TensorF32>, part: &str) {
    let place = tempfile::tempdir().unwrap();
    let refused = write_gguf(
        &place.path().join("refused.gguf"),
        model,
        overrides,
        GgufType::F16,
    );
    let message = refused.expect_err("must be refused").to_string();
    assert!(message.contains(part), "{message:?} lacks {part:?}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

/// A file carries the tokenizer and the template that stand in for the model's own. The day and the variables it cannot carry;
/// they are no fault of it, wherever they show.
#[test]
fn a_model_is_written_with_the_texts_that_it_was_trained_with() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = tiny_model("llama");
    let template = folder.path().join("mine.jinja");
    let source = "{{ strftime_now('%F') }} {{ tone }}{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}\
                  {% if add_generation_prompt %}{{ tone }}<|im_start|>{% endif %}";
    std::fs::write(&template, source).unwrap();
    // Another tokenizer: "<|other|>" is a token, which only its configuration tells.
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    tiny.write(&other);
    let config = std::fs::read_to_string(other.join("tokenizer_config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["extra_special_tokens"] = json!(["<|other|>"]);
    write_json(&other.join("tokenizer_config.json"), &config);
    let from_folder = folder.path().join("model");
    std::fs::create_dir(&from_folder).unwrap();
    tiny.write(&from_folder);
    let from_gguf = Gguf::of(&tiny).write(folder.path());
    let chat = ChatOptions {
        template: Some(template),
        date: Some("2001-02-03".to_owned()),
        variables: [("tone".to_owned(), TemplateValue::Text("dry".to_owned()))].into(),
        tokenizer: None,
    };
    let with_tokenizer = ChatOptions {
        tokenizer: Some(other),
        ..chat.clone()
    };
    let talk = [Message::new("user", "hello<|other|>")];
    for (number, source) in [from_folder, from_gguf].iter().enumerate() {
        for (kind, chat) in [&chat, &with_tokenizer].into_iter().enumerate() {
            let model = Pretrained::open(source).unwrap().with_chat(chat.clone());
            let path = folder.path().join(format!("{number}-{kind}.gguf"));
            write_gguf(&path, &model, &BTreeMap::new(), GgufType::F32)
                .unwrap_or_else(|error| panic!("{number} {kind}: {error}"));
            let told = ChatOptions {
                tokenizer: None,
                template: None,
                ..chat.clone()
            };
            let read = Pretrained::open(&path).unwrap().with_chat(told);
            let (ours, theirs) = (model.tokenizer().unwrap(), read.tokenizer().unwrap());
            let tokens = ours.encode_prompt(&talk).unwrap();
            assert_eq!(tokens, theirs.encode_prompt(&talk).unwrap());
            assert_eq!(tokens.contains(&266), kind == 1, "{tokens:?}");
            assert!(
                ours.render(&talk, true)
                    .unwrap()
                    .starts_with("2001-02-03 dry<")
            );
            let unwritten = model.unwritten().unwrap().unwrap();
            assert!(
                unwritten.contains("the date 2001-02-03, tone = \"dry\""),
                "{unwritten}"
            );
        }
    }
    let plain = Pretrained::open(&folder.path().join("0-0.gguf")).unwrap();
    assert_eq!(plain.unwritten().unwrap(), None);
}
