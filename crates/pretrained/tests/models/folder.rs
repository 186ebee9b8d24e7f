//! Hugging Face folders.

use std::fs;
use std::path::Path;

use half::{bf16, f16};
use panacea_pretrained::{Pretrained, PretrainedError};
use panacea_test_support::{TinyModel, write_json, write_safetensors};
use serde_json::json;

use crate::tiny::tiny_model;

const FAMILIES: [&str; 5] = ["llama", "mistral", "qwen2", "qwen3", "gemma3_text"];

/// What opening and checking a folder says; the change is made to a good model's folder.
fn refusal(change: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    tiny_model("llama").write(folder.path());
    change(folder.path());
    let checked = Pretrained::open(folder.path()).and_then(|model| model.check());
    checked.expect_err("must be refused").to_string()
}

fn assert_names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

/// Rewrites the weights after a change.
fn with_tensors(folder: &Path, change: impl FnOnce(&mut TinyModel)) {
    let mut model = tiny_model("llama");
    change(&mut model);
    write_safetensors(&folder.join("model.safetensors"), model.tensors.iter());
}

#[test]
fn every_family_opens_with_its_tensors() {
    for family in FAMILIES {
        let tiny = tiny_model(family);
        let folder = tempfile::tempdir().unwrap();
        tiny.write(folder.path());
        let model = Pretrained::open(folder.path()).unwrap();
        model.check().unwrap();
        assert_eq!(
            model.tensor_names(),
            tiny.tensors.keys().cloned().collect::<Vec<_>>()
        );
        for (name, (shape, data)) in &tiny.tensors {
            let tensor = model.tensor(name).unwrap();
            assert_eq!(
                (&tensor.shape, &tensor.data),
                (shape, data),
                "{family} {name}"
            );
        }
    }
}

/// Phi-3's files hold q, k and v as one matrix, one below the other, and gate and up as another.
#[test]
fn joined_matrices_are_read_one_by_one() {
    let tiny = tiny_model("phi3");
    let folder = tempfile::tempdir().unwrap();
    tiny.write(folder.path());
    let model = Pretrained::open(folder.path()).unwrap();
    model.check().unwrap();
    for (whole, parts) in [
        (
            "self_attn.qkv_proj",
            &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"][..],
        ),
        ("mlp.gate_up_proj", &["mlp.gate_proj", "mlp.up_proj"][..]),
    ] {
        let name = |module: &str| format!("model.layers.1.{module}.weight");
        let parts = parts.iter().map(|part| model.tensor(&name(part)).unwrap());
        let (rows, data): (Vec<usize>, Vec<Vec<f32>>) =
            parts.map(|part| (part.shape[0], part.data)).unzip();
        let (shape, expected) = &tiny.tensors[&name(whole)];
        assert_eq!(rows.iter().sum::<usize>(), shape[0]);
        assert_eq!(&data.concat(), expected);
        assert!(model.tensor(&name(whole)).is_err());
        assert!(model.has_tensor(&name("self_attn.k_proj")));
    }
    let mut short = tiny;
    let name = "model.layers.0.self_attn.qkv_proj.weight";
    let (shape, data) = short.tensors.get_mut(name).unwrap();
    shape[0] -= 1;
    data.truncate(shape[0] * shape[1]);
    short.write(folder.path());
    let message = Pretrained::open(folder.path())
        .unwrap()
        .check()
        .unwrap_err();
    assert_names(&message.to_string(), &[name, "[63, 32]", "[64, 32]"]);
}

#[test]
fn a_model_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Pretrained>();
    shared::<PretrainedError>();
}

#[test]
fn a_tied_head_needs_no_tensor() {
    let folder = tempfile::tempdir().unwrap();
    tiny_model("llama").tied().write(folder.path());
    let model = Pretrained::open(folder.path()).unwrap();
    model.check().unwrap();
    assert!(!model.has_tensor("lm_head.weight"));

    // A copy of the embedding, as some checkpoints carry it, does no harm.
    let mut copied = tiny_model("llama");
    copied.config["tie_word_embeddings"] = json!(true);
    copied.write(folder.path());
    Pretrained::open(folder.path()).unwrap().check().unwrap();
}

#[test]
fn half_precision_is_widened() {
    let tiny = tiny_model("llama");
    for (dtype, narrow) in [
        (
            safetensors::Dtype::F16,
            (|value| f16::from_f32(value).to_le_bytes()) as fn(f32) -> [u8; 2],
        ),
        (safetensors::Dtype::BF16, |value| {
            bf16::from_f32(value).to_le_bytes()
        }),
    ] {
        let folder = tempfile::tempdir().unwrap();
        tiny.write(folder.path());
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tiny
            .tensors
            .iter()
            .map(|(name, (shape, data))| {
                (
                    name.clone(),
                    shape.clone(),
                    data.iter().flat_map(|&v| narrow(v)).collect(),
                )
            })
            .collect();
        let views = bytes.iter().map(|(name, shape, bytes)| {
            (
                name,
                safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).unwrap(),
            )
        });
        safetensors::serialize_to_file(views, None, &folder.path().join("model.safetensors"))
            .unwrap();
        let model = Pretrained::open(folder.path()).unwrap();
        for (name, (_, data)) in &tiny.tensors {
            // The weights of tiny models are exact in 16 bits.
            assert_eq!(&model.tensor(name).unwrap().data, data, "{dtype:?} {name}");
        }
    }
}

/// The tiny model with a head of two outputs in place of the language model's.
fn classifier() -> TinyModel {
    let mut tiny = tiny_model("llama");
    tiny.config["architectures"] = json!(["LlamaForSequenceClassification"]);
    tiny.config["id2label"] = json!({"0": "helpful", "1": "concise"});
    tiny.tensors.remove("lm_head.weight");
    let weight = (0..2 * 32).map(|i| i as f32).collect();
    let score = ("score.weight".to_owned(), (vec![2, 32], weight));
    tiny.tensors.extend([score]);
    tiny
}

#[test]
fn a_classifier_has_a_head_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut tiny = classifier();
    tiny.write(folder.path());
    let model = Pretrained::open(folder.path()).unwrap();
    model.check().unwrap();
    assert_eq!(
        model.config().labels,
        Some(vec!["helpful".to_owned(), "concise".to_owned()])
    );
    let score = model.tensor("score.weight").unwrap();
    assert_eq!((&score.shape, &score.data), {
        let (shape, data) = &tiny.tensors["score.weight"];
        (shape, data)
    });
    assert!(matches!(
        model.tensor("lm_head.weight"),
        Err(PretrainedError::MissingTensor { .. })
    ));

    // Transformers would ignore a bias, and compute something else than whoever trained it.
    let bias = ("score.bias".to_owned(), (vec![2], vec![1.0, 2.0]));
    tiny.tensors.extend([bias]);
    tiny.write(folder.path());
    let message = Pretrained::open(folder.path())
        .unwrap()
        .check()
        .unwrap_err();
    assert_names(
        &message.to_string(),
        &["`score.bias` is not part of a llama model"],
    );

    // The labels are part of what the model is.
    let fingerprint = |tiny: &TinyModel| {
        tiny.write(folder.path());
        Pretrained::open(folder.path())
            .unwrap()
            .fingerprint()
            .unwrap()
    };
    let tiny = classifier();
    let mut renamed = tiny.clone();
    renamed.config["id2label"]["1"] = json!("short");
    assert_ne!(fingerprint(&tiny), fingerprint(&renamed));
}

#[test]
fn a_head_of_another_size_than_its_labels_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut tiny = classifier();
    tiny.config["id2label"] = json!({"0": "helpful"});
    tiny.write(folder.path());
    let message = Pretrained::open(folder.path())
        .unwrap()
        .check()
        .unwrap_err();
    assert_names(
        &message.to_string(),
        &["`score.weight` has shape [2, 32]", "[1, 32]"],
    );
}

/// Splits the weights into two shards; what goes wrong with shards is done to the index afterwards.
fn shard(folder: &Path) {
    let tiny = tiny_model("llama");
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let file = |name: &str| {
        if name.contains("layers.1") {
            "model-00002-of-00002.safetensors"
        } else {
            "model-00001-of-00002.safetensors"
        }
    };
    for shard in [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ] {
        write_safetensors(
            &folder.join(shard),
            tiny.tensors.iter().filter(|(name, _)| file(name) == shard),
        );
    }
    let weight_map: serde_json::Map<_, _> = tiny
        .tensors
        .keys()
        .map(|name| (name.clone(), json!(file(name))))
        .collect();
    write_json(
        &folder.join("model.safetensors.index.json"),
        &json!({"metadata": {}, "weight_map": weight_map}),
    );
}

#[test]
fn shards_are_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = tiny_model("llama");
    tiny.write(folder.path());
    let single = Pretrained::open(folder.path())
        .unwrap()
        .fingerprint()
        .unwrap();
    shard(folder.path());
    let model = Pretrained::open(folder.path()).unwrap();
    model.check().unwrap();
    for (name, (_, data)) in &tiny.tensors {
        assert_eq!(&model.tensor(name).unwrap().data, data, "{name}");
    }
    assert_eq!(model.fingerprint().unwrap(), single);
}

#[test]
fn fingerprints_tell_models_apart() {
    let fingerprint = |change: &dyn Fn(&mut TinyModel)| {
        let folder = tempfile::tempdir().unwrap();
        let mut tiny = tiny_model("llama");
        change(&mut tiny);
        tiny.write(folder.path());
        Pretrained::open(folder.path())
            .unwrap()
            .fingerprint()
            .unwrap()
    };
    let plain = fingerprint(&|_| ());
    assert_eq!(plain, fingerprint(&|_| ()));
    // The same as ever: runs name their base model by it.
    assert_eq!(
        plain,
        "99f7163541822d9e679149d585795becf786a841bfdc33884d6f337928905268"
    );
    let weight: &dyn Fn(&mut TinyModel) =
        &|tiny| tiny.tensors.get_mut("model.norm.weight").unwrap().1[3] += 1.0;
    let theta: &dyn Fn(&mut TinyModel) = &|tiny| tiny.config["rope_theta"] = json!(2e5);
    assert_ne!(plain, fingerprint(weight));
    assert_ne!(plain, fingerprint(theta));
}

#[test]
fn paths_that_hold_no_model_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| {
        Pretrained::open(path)
            .expect_err("must be refused")
            .to_string()
    };
    assert_names(
        &refused(&folder.path().join("none")),
        &["none", "no such file or folder"],
    );
    assert_names(&refused(folder.path()), &["config.json"]);
    fs::write(folder.path().join("weights.bin"), b"abc").unwrap();
    assert_names(
        &refused(&folder.path().join("weights.bin")),
        &["weights.bin", "not a GGUF file"],
    );
    fs::write(folder.path().join("a.gguf"), b"").unwrap();
    fs::write(folder.path().join("b.gguf"), b"").unwrap();
    assert_names(&refused(folder.path()), &["2 GGUF files"]);
}

#[test]
fn configurations_that_cannot_be_used_are_refused() {
    let config = |change: &dyn Fn(&mut serde_json::Value)| {
        refusal(|folder| {
            let mut tiny = tiny_model("llama");
            change(&mut tiny.config);
            write_json(&folder.join("config.json"), &tiny.config);
        })
    };
    let message = config(&|config| config["model_type"] = json!("mamba"));
    assert_names(
        &message,
        &[
            "config.json",
            "model_type",
            "mamba",
            "llama, mistral, qwen2, qwen3, gemma3_text, phi3",
        ],
    );
    let message = config(&|config| config["rope_scaling"] = json!({"type": "yarn", "factor": 2.0}));
    assert_names(&message, &["rope_scaling.type", "yarn"]);
    let message = refusal(|folder| {
        fs::write(folder.join("config.json"), "{\n  \"model_type\": llama\n}").unwrap()
    });
    assert_names(&message, &["config.json", "not valid JSON", "line 2"]);
    let message = refusal(|folder| fs::write(folder.join("config.json"), "[1]").unwrap());
    assert_names(&message, &["config.json", "a JSON object"]);
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_all_named() {
    let message = refusal(|folder| {
        with_tensors(folder, |tiny| {
            tiny.tensors.remove("model.layers.1.mlp.up_proj.weight");
        });
    });
    assert_names(
        &message,
        &["`model.layers.1.mlp.up_proj.weight` is missing"],
    );

    let message = refusal(|folder| {
        with_tensors(folder, |tiny| {
            tiny.tensors.remove("model.layers.1.mlp.up_proj.weight");
            tiny.tensors.get_mut("model.norm.weight").unwrap().0 = vec![4, 8];
            tiny.tensors.insert(
                "model.layers.0.mlp.router.weight".to_owned(),
                (vec![1], vec![0.0]),
            );
        });
    });
    assert_names(
        &message,
        &[
            "3 problems",
            "`model.layers.1.mlp.up_proj.weight` is missing",
            "`model.norm.weight` has shape [4, 8]",
            "[32]",
            "router",
        ],
    );

    let folder = tempfile::tempdir().unwrap();
    tiny_model("llama").write(folder.path());
    with_tensors(folder.path(), |tiny| {
        tiny.tensors.get_mut("model.norm.weight").unwrap().0 = vec![4, 8]
    });
    let model = Pretrained::open(folder.path()).unwrap();
    assert!(matches!(
        model.tensor("model.norm.weight"),
        Err(PretrainedError::Shape { .. })
    ));
    assert!(matches!(
        model.tensor("model.nothing"),
        Err(PretrainedError::MissingTensor { .. })
    ));
}

#[test]
fn pointers_of_git_lfs_are_called_so() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 538090408\n";
    for file in [
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        let folder = tempfile::tempdir().unwrap();
        tiny_model("llama").write(folder.path());
        fs::write(folder.path().join(file), pointer).unwrap();
        let opened = Pretrained::open(folder.path());
        let used = opened.and_then(|model| model.tokenizer().map(drop));
        let message = used.expect_err("must be refused").to_string();
        assert_names(&message, &[file, "a Git LFS pointer", "git lfs pull"]);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    fs::write(&file, pointer).unwrap();
    for path in [folder.path(), &file] {
        let message = Pretrained::open(path)
            .expect_err("must be refused")
            .to_string();
        assert_names(&message, &["model.gguf", "a Git LFS pointer"]);
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_with_their_place() {
    for (value, found) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let folder = tempfile::tempdir().unwrap();
        tiny_model("llama").write(folder.path());
        let name = "model.layers.1.mlp.down_proj.weight";
        let mut columns = 0;
        with_tensors(folder.path(), |tiny| {
            let (shape, data) = tiny.tensors.get_mut(name).unwrap();
            columns = shape[1];
            data[2 * columns + 3] = value;
        });
        let model = Pretrained::open(folder.path()).unwrap();
        let message = model.tensor(name).expect_err("must be refused").to_string();
        assert_names(&message, &[name, &format!("holds {found} at [2, 3]")]);
        model.tensor("model.norm.weight").unwrap();
    }
}

#[test]
fn damaged_weights_are_refused_wherever_they_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    tiny_model("llama").write(folder.path());
    let path = folder.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    for length in (0..=header).step_by(97).chain([
        7,
        8,
        9,
        header - 1,
        header,
        header + 5,
        whole.len() / 2,
        whole.len() - 1,
    ]) {
        fs::write(&path, &whole[..length]).unwrap();
        let message = Pretrained::open(folder.path())
            .expect_err("must be refused")
            .to_string();
        assert_names(&message, &["model.safetensors", "truncated or damaged"]);
    }
    // A header that claims to be longer than any memory.
    let mut long = whole.clone();
    long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&path, &long).unwrap();
    let message = Pretrained::open(folder.path())
        .expect_err("must be refused")
        .to_string();
    assert_names(
        &message,
        &["the header should have 18446744073709551615 bytes"],
    );
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let header = |entry: &str| {
        let entry = entry.to_owned();
        refusal(move |folder| {
            let text = format!("{{\"model.norm.weight\": {entry}}}");
            let bytes = [
                &(text.len() as u64).to_le_bytes()[..],
                text.as_bytes(),
                &[0; 128],
            ]
            .concat();
            fs::write(folder.join("model.safetensors"), bytes).unwrap();
        })
    };
    for entry in [
        r#"{"dtype": "F32", "shape": [32], "data_offsets": [0, 64]}"#,
        r#"{"dtype": "F32", "shape": [32], "data_offsets": [64, 0]}"#,
        r#"{"dtype": "F32", "shape": [32], "data_offsets": [64, 192]}"#,
        r#"{"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 128]}"#,
        r#"{"dtype": "F32", "shape": [-1], "data_offsets": [0, 128]}"#,
        r#"{"dtype": "F32"}"#,
    ] {
        assert_names(
            &header(entry),
            &["model.safetensors", "`model.norm.weight`"],
        );
    }

    let folder = tempfile::tempdir().unwrap();
    tiny_model("llama").write(folder.path());
    let text =
        r#"{"model.norm.weight": {"dtype": "I32", "shape": [32], "data_offsets": [0, 128]}}"#;
    let bytes = [
        &(text.len() as u64).to_le_bytes()[..],
        text.as_bytes(),
        &[0; 128],
    ]
    .concat();
    fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let error = Pretrained::open(folder.path())
        .unwrap()
        .tensor("model.norm.weight")
        .unwrap_err()
        .to_string();
    assert_names(&error, &["`model.norm.weight`", "I32", "F32, F16, BF16"]);
}

#[test]
fn missing_weights_and_shards_are_named() {
    let message = refusal(|folder| fs::remove_file(folder.join("model.safetensors")).unwrap());
    assert_names(
        &message,
        &["model.safetensors", "model.safetensors.index.json"],
    );
    let message = refusal(|folder| {
        fs::rename(
            folder.join("model.safetensors"),
            folder.join("pytorch_model.bin"),
        )
        .unwrap()
    });
    assert_names(&message, &["PyTorch"]);

    let message = refusal(|folder| {
        shard(folder);
        fs::remove_file(folder.join("model-00002-of-00002.safetensors")).unwrap();
    });
    assert_names(
        &message,
        &[
            "model-00002-of-00002.safetensors",
            "shard is missing",
            "model.layers.1",
        ],
    );

    let index = |weight_map: serde_json::Value| {
        refusal(|folder| {
            shard(folder);
            write_json(
                &folder.join("model.safetensors.index.json"),
                &json!({"weight_map": weight_map}),
            );
        })
    };
    let message = index(json!({"model.norm.weight": "../../etc/passwd"}));
    assert_names(&message, &["weight_map.model.norm.weight", "same folder"]);
    let message = index(json!({"model.norm.weight": "model-00002-of-00002.safetensors"}));
    assert_names(
        &message,
        &[
            "model-00002-of-00002.safetensors",
            "`model.norm.weight` is missing",
        ],
    );
    assert_names(&index(json!(3)), &["weight_map", "index.json"]);
}
