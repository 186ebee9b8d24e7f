//! Models written as Hugging Face folders and opened again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use panacea_pretrained::{Pretrained, TensorF32, write_classifier, write_model};
use panacea_test_support::write_json;
use serde_json::{Value, json};

use crate::tiny::{Gguf, Meta, tiny_model};

fn none() -> BTreeMap<String, TensorF32> {
    BTreeMap::new()
}

fn assert_same(one: &Pretrained, two: &Pretrained) {
    assert_eq!(one.config(), two.config());
    for (name, _) in one.config().tensors() {
        assert_eq!(
            one.tensor(&name).unwrap(),
            two.tensor(&name).unwrap(),
            "{name}"
        );
    }
    let (one, two) = (one.tokenizer().unwrap(), two.tokenizer().unwrap());
    for text in ["hello world", "<|im_start|>user\nhello<|im_end|>\n", "é 12"] {
        assert_eq!(
            one.encode(text, true).unwrap(),
            two.encode(text, true).unwrap()
        );
    }
    assert_eq!(
        one.render(&[], true).unwrap(),
        two.render(&[], true).unwrap()
    );
    assert_eq!(one.stop_ids(), two.stop_ids());
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_exported_model_is_the_same_model() {
    for family in ["llama", "mistral", "qwen2", "qwen3"] {
        for tiny in [tiny_model(family), tiny_model(family).tied()] {
            let folder = tempfile::tempdir().unwrap();
            let source = folder.path().join("source");
            fs::create_dir(&source).unwrap();
            tiny.write(&source);
            let from_folder = Pretrained::open(&source).unwrap();
            let from_gguf = Pretrained::open(&Gguf::of(&tiny).write(folder.path())).unwrap();
            for (name, model) in [("a", &from_folder), ("deeper/b", &from_gguf)] {
                let target = folder.path().join(name);
                write_model(&target, model, &none()).unwrap();
                let reopened = Pretrained::open(&target).unwrap();
                reopened.check().unwrap();
                assert_same(model, &reopened);
                assert_eq!(json(&target.join("config.json"))["torch_dtype"], "float32");
                // The reference implementation of the format reads it too.
                let bytes = fs::read(target.join("model.safetensors")).unwrap();
                let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
                assert_eq!(tensors.len(), tiny.tensors.len());
            }
        }
    }
}

/// Models that no GGUF file is read of; of joined matrices, parts are replaced one by one.
#[test]
fn gemma_and_phi_are_exported_as_they_are_stored() {
    for family in ["gemma3_text", "phi3"] {
        let tiny = tiny_model(family);
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir(&source).unwrap();
        tiny.write(&source);
        let model = Pretrained::open(&source).unwrap();
        let target = folder.path().join("same");
        write_model(&target, &model, &none()).unwrap();
        let reopened = Pretrained::open(&target).unwrap();
        reopened.check().unwrap();
        assert_same(&model, &reopened);
        let bytes = fs::read(target.join("model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let names: Vec<&String> = tiny.tensors.keys().collect();
        let mut found = tensors.names();
        found.sort();
        assert_eq!(found, names);

        let name = "model.layers.1.self_attn.k_proj.weight";
        let mut replaced = model.tensor(name).unwrap();
        replaced.data.fill(0.5);
        let target = folder.path().join("replaced");
        let overrides = BTreeMap::from([(name.to_owned(), replaced.clone())]);
        write_model(&target, &model, &overrides).unwrap();
        let reopened = Pretrained::open(&target).unwrap();
        assert_eq!(reopened.tensor(name).unwrap(), replaced);
        for other in ["q_proj", "v_proj"] {
            let other = format!("model.layers.1.self_attn.{other}.weight");
            assert_eq!(
                reopened.tensor(&other).unwrap(),
                model.tensor(&other).unwrap()
            );
        }
    }
}

#[test]
fn overrides_replace_tensors_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = Pretrained::open(&Gguf::of(&tiny_model("llama")).write(folder.path())).unwrap();
    let name = "model.layers.1.self_attn.q_proj.weight";
    let shape = vec![32, 32];
    let replacement = TensorF32 {
        data: (0..32 * 32).map(|i| i as f32).collect(),
        shape,
    };
    let target = folder.path().join("merged");
    write_model(
        &target,
        &model,
        &BTreeMap::from([(name.to_owned(), replacement.clone())]),
    )
    .unwrap();
    let merged = Pretrained::open(&target).unwrap();
    assert_eq!(merged.tensor(name).unwrap(), replacement);
    let other = "model.layers.0.self_attn.q_proj.weight";
    assert_eq!(merged.tensor(other).unwrap(), model.tensor(other).unwrap());

    let refused = |name: &str, tensor: TensorF32| {
        let overrides = BTreeMap::from([(name.to_owned(), tensor)]);
        write_model(&folder.path().join("refused"), &model, &overrides)
            .unwrap_err()
            .to_string()
    };
    let message = refused("model.layers.9.x", replacement.clone());
    assert!(message.contains("model.layers.9.x"), "{message}");
    let message = refused(
        name,
        TensorF32 {
            shape: vec![16, 64],
            ..replacement.clone()
        },
    );
    assert!(
        message.contains("[16, 64]") && message.contains("[32, 32]"),
        "{message}"
    );
    let message = refused(
        name,
        TensorF32 {
            data: vec![0.0; 3],
            ..replacement
        },
    );
    assert!(message.contains("3 values"), "{message}");
    assert_eq!(entries(folder.path()), ["merged", "tiny.gguf"]);
}

#[test]
fn a_folder_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let model = Pretrained::open(&Gguf::of(&tiny_model("llama")).write(folder.path())).unwrap();
    let target = folder.path().join("out");

    // An empty folder may be filled, one with contents is left alone.
    fs::create_dir(&target).unwrap();
    write_model(&target, &model, &none()).unwrap();
    let before = entries(&target);
    let message = write_model(&target, &model, &none())
        .unwrap_err()
        .to_string();
    assert!(message.contains("exists already"), "{message}");
    assert_eq!(entries(&target), before);

    // A file where the parent should be.
    fs::write(folder.path().join("file"), b"").unwrap();
    let message = write_model(&folder.path().join("file/out"), &model, &none())
        .unwrap_err()
        .to_string();
    assert!(message.contains("file"), "{message}");

    // A model with a missing tensor writes nothing.
    let mut broken = Gguf::of(&tiny_model("llama"));
    broken
        .tensors
        .retain(|tensor| tensor.0 != "blk.0.attn_v.weight");
    let broken = Pretrained::open(&broken.write(folder.path())).unwrap();
    write_model(&folder.path().join("broken"), &broken, &none()).unwrap_err();
    assert_eq!(entries(folder.path()), ["file", "out", "tiny.gguf"]);
}

#[test]
fn llama3_factors_become_its_rule() {
    let folder = tempfile::tempdir().unwrap();
    let mut tiny = tiny_model("llama");
    tiny.config["rope_scaling"] = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192
    });
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    tiny.write(&source);
    let exact = Pretrained::open(&source).unwrap();
    let scaled = exact.config().attention[0].rope.inverse_frequencies(8);
    let factors: Vec<f32> = (0..4)
        .map(|j| 1e5_f32.powf(-(2.0 * j as f32) / 8.0) / scaled[j])
        .collect();
    assert!(factors[0] == 1.0 && factors[3] > 1.0, "{factors:?}");

    let mut gguf = Gguf::of(&tiny);
    let bytes = |factors: &[f32]| {
        factors
            .iter()
            .flat_map(|factor| factor.to_le_bytes())
            .collect()
    };
    gguf.tensors
        .push(("rope_freqs.weight".to_owned(), vec![4], 0, bytes(&factors)));
    let stored = Pretrained::open(&gguf.write(folder.path())).unwrap();
    let target = folder.path().join("out");
    write_model(&target, &stored, &none()).unwrap();
    let reopened = Pretrained::open(&target).unwrap();
    for (found, expected) in reopened.config().attention[0]
        .rope
        .inverse_frequencies(8)
        .iter()
        .zip(&scaled)
    {
        assert!(
            (found - expected).abs() <= 1e-5 * expected,
            "{found} {expected}"
        );
    }

    *gguf.tensor("rope_freqs.weight") = (
        "rope_freqs.weight".to_owned(),
        vec![4],
        0,
        bytes(&[1.0, 5.0, 2.0, 1.0]),
    );
    let odd = Pretrained::open(&gguf.write(folder.path())).unwrap();
    let message = write_model(&folder.path().join("odd"), &odd, &none())
        .unwrap_err()
        .to_string();
    assert!(message.contains("rope_freqs.weight"), "{message}");
}

#[test]
fn a_model_without_tokenizer_is_written_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    tiny_model("llama").write_without_tokenizer(&source);
    write_model(
        &folder.path().join("out"),
        &Pretrained::open(&source).unwrap(),
        &none(),
    )
    .unwrap();
    assert_eq!(
        entries(&folder.path().join("out")),
        ["config.json", "model.safetensors"]
    );

    let mut gguf = Gguf::of(&tiny_model("llama"));
    gguf.metadata
        .retain(|(key, _)| !key.starts_with("tokenizer."));
    gguf.set("tokenizer.ggml.eos_token_id", Meta::U32(1));
    let model = Pretrained::open(&gguf.write(folder.path())).unwrap();
    write_model(&folder.path().join("from-gguf"), &model, &none()).unwrap();
    assert!(!folder.path().join("from-gguf/tokenizer.json").exists());
}

fn labels() -> Vec<String> {
    vec!["helpful".to_owned(), "concise".to_owned()]
}

/// A head of two outputs.
fn score() -> TensorF32 {
    TensorF32 {
        shape: vec![2, 32],
        data: (0..64).map(|i| i as f32).collect(),
    }
}

#[test]
fn a_language_model_becomes_a_classifier() {
    for (family, architecture) in [
        ("llama", "LlamaForSequenceClassification"),
        ("mistral", "MistralForSequenceClassification"),
        ("qwen2", "Qwen2ForSequenceClassification"),
        ("qwen3", "Qwen3ForSequenceClassification"),
        ("gemma3_text", "Gemma3TextForSequenceClassification"),
        ("phi3", "Phi3ForSequenceClassification"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir(&source).unwrap();
        tiny_model(family).write(&source);
        let from_folder = Pretrained::open(&source).unwrap();
        let mut models = vec![("a", from_folder)];
        if !["gemma3_text", "phi3"].contains(&family) {
            let gguf = Gguf::of(&tiny_model(family)).write(folder.path());
            models.push(("b", Pretrained::open(&gguf).unwrap()));
        }
        let name = "model.layers.1.mlp.up_proj.weight";
        let merged = TensorF32 {
            shape: vec![64, 32],
            data: vec![0.5; 64 * 32],
        };
        let overrides = BTreeMap::from([(name.to_owned(), merged.clone())]);
        for (target, model) in &models {
            let target = folder.path().join(target);
            write_classifier(&target, model, &overrides, &labels(), &score()).unwrap();
            let classifier = Pretrained::open(&target).unwrap();
            classifier.check().unwrap();
            assert_eq!(classifier.config().labels, Some(labels()));
            assert_eq!(classifier.tensor("score.weight").unwrap(), score());
            assert_eq!(classifier.tensor(name).unwrap(), merged);
            assert!(!classifier.has_tensor("lm_head.weight"));
            let other = "model.layers.0.self_attn.q_proj.weight";
            assert_eq!(
                classifier.tensor(other).unwrap(),
                model.tensor(other).unwrap()
            );

            let config = json(&target.join("config.json"));
            assert_eq!(config["architectures"], json!([architecture]));
            assert_eq!(config["label2id"], json!({"helpful": 0, "concise": 1}));
            // `</s>`, which ends no turn of this template.
            assert_eq!(config["pad_token_id"], 1);
            let tokenizer = json(&target.join("tokenizer_config.json"));
            assert_eq!(tokenizer["pad_token"], "</s>");

            // Another head on the same layers.
            let again = folder.path().join(format!("{}-again", target.display()));
            let one = TensorF32 {
                shape: vec![1, 32],
                data: vec![1.0; 32],
            };
            write_classifier(&again, &classifier, &none(), &labels()[..1], &one).unwrap();
            let again = Pretrained::open(&again).unwrap();
            assert_eq!(again.config().labels, Some(labels()[..1].to_vec()));
            assert_eq!(again.tensor("score.weight").unwrap(), one);
            assert_eq!(again.tensor(name).unwrap(), merged);
        }
    }
}

#[test]
fn padding_is_never_what_a_text_ends_with() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let padding = |named: Value, config: &dyn Fn(&mut Value)| {
        let mut tiny = tiny_model("llama");
        // As SmolLM2 has it: filled up with what ends a turn.
        tiny.config["pad_token_id"] = json!(3);
        tiny.write(&source);
        let mut tokenizer = json(&source.join("tokenizer_config.json"));
        tokenizer["pad_token"] = named.clone();
        config(&mut tokenizer);
        write_json(&source.join("tokenizer_config.json"), &tokenizer);
        let map = json!({"pad_token": named});
        write_json(&source.join("special_tokens_map.json"), &map);
        let target = folder.path().join("target");
        let model = Pretrained::open(&source).unwrap();
        write_classifier(&target, &model, &none(), &labels(), &score()).unwrap();
        let id = json(&target.join("config.json"))["pad_token_id"].clone();
        let token = json(&target.join("tokenizer_config.json"))["pad_token"].clone();
        assert_eq!(
            json(&target.join("special_tokens_map.json"))["pad_token"],
            token
        );
        fs::remove_dir_all(&target).unwrap();
        (id, token)
    };
    let as_it_is: &dyn Fn(&mut Value) = &|_| ();
    assert_eq!(
        padding(json!("<|im_end|>"), as_it_is),
        (json!(1), json!("</s>"))
    );
    // Named well, whatever the form.
    assert_eq!(
        padding(json!({"content": "hello"}), as_it_is).1,
        json!("hello")
    );
    // Without a template a text ends with `</s>`.
    let plain: &dyn Fn(&mut Value) = &|tokenizer| tokenizer["chat_template"] = Value::Null;
    assert_eq!(
        padding(json!("</s>"), plain),
        (json!(2), json!("<|im_start|>"))
    );
}

#[test]
fn a_classifier_without_tokenizer_reads_one_text_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let mut tiny = tiny_model("llama");
    tiny.config["pad_token_id"] = json!(1);
    tiny.write_without_tokenizer(&source);
    let target = folder.path().join("target");
    let model = Pretrained::open(&source).unwrap();
    write_classifier(&target, &model, &none(), &labels(), &score()).unwrap();
    assert_eq!(
        json(&target.join("config.json"))["pad_token_id"],
        Value::Null
    );
}

#[test]
fn heads_that_do_not_fit_their_labels_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = Pretrained::open(&Gguf::of(&tiny_model("llama")).write(folder.path())).unwrap();
    let refused = |labels: &[String], score: &TensorF32| {
        let target = folder.path().join("refused");
        write_classifier(&target, &model, &none(), labels, score)
            .unwrap_err()
            .to_string()
    };
    let message = refused(&labels()[..1], &score());
    assert!(
        message.contains("`score.weight`")
            && message.contains("[2, 32]")
            && message.contains("[1, 32]"),
        "{message}"
    );
    assert!(refused(&[], &score()).contains("at least one"));
    let twice = vec!["a".to_owned(); 2];
    assert!(refused(&twice, &score()).contains("no name twice"));
    assert_eq!(entries(folder.path()), ["tiny.gguf"]);
}
