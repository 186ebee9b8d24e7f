//! Every form of an adapter is the same model, for families whose files differ.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use panacea_export::{
    Base, ExportError, LlamaForm, Lora, Split, merged, write_llama_lora, write_peft,
    write_peft_parts,
};
use panacea_methods::{Member, Trained};
use panacea_model::Steering;
use panacea_objectives::Preference;
use panacea_pretrained::{GgufType, Pretrained, TensorF32, convert_to_gguf};
use panacea_svd_lora::{Adapters, SvdLoraConfig};
use panacea_test_support::TinyModel;
use serde_json::{Value, json};

const OBJECTIVES: [&str; 3] = ["help, kindly", "brevity", "wit"];
const RANK: usize = 2;
const MODULES: [&str; 4] = ["q_proj", "k_proj", "o_proj", "down_proj"];

fn model(model_type: &str, folder: &Path) -> Pretrained {
    let window = match model_type {
        "mistral" | "gemma3_text" => json!(16),
        _ => Value::Null,
    };
    let config = json!({
        "architectures": ["ForCausalLM"], "model_type": model_type, "vocab_size": 272, "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 8, "hidden_act": "silu", "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 1e5,
        "tie_word_embeddings": true, "sliding_window": window, "bos_token_id": 0, "eos_token_id": 3
    });
    let folder = folder.join(model_type);
    fs::create_dir(&folder).unwrap();
    TinyModel::well_behaved(config, 0.5).tied().write(&folder);
    Pretrained::open(&folder).unwrap()
}

fn adapters(model: &Pretrained, seed: u64) -> Adapters {
    let config = SvdLoraConfig {
        base_model: "tiny".into(),
        base_fingerprint: String::new(),
        rank: RANK,
        objectives: OBJECTIVES.map(str::to_owned).into(),
        alpha: 6.0,
        target_modules: MODULES.map(str::to_owned).into(),
    };
    let weights = model.config().tensors().into_iter();
    let shapes: Vec<_> = weights
        .filter_map(|(name, shape)| {
            let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
            let module = rest.strip_suffix(".weight")?.rsplit('.').next()?;
            let [rows, columns] = shape[..] else {
                return None;
            };
            let adapted = MODULES.contains(&module);
            adapted.then(|| (format!("layers.{layer}.{module}"), [rows, columns]))
        })
        .collect();
    assert_eq!(shapes.len(), 2 * MODULES.len());
    let device = panacea_devices::of_environment();
    let mut adapters = Adapters::init(config, &shapes, 0.3, seed, &device);
    for (i, factors) in adapters.factors.0.values_mut().enumerate() {
        factors.sigma = factors.sigma.ones_like() * (0.4 + 0.1 * i as f32);
        factors.s = factors.s.ones_like() * (0.9 - 0.05 * i as f32);
    }
    adapters
}

fn steering(adapters: &Arc<Adapters>, preference: &[f64]) -> Steering {
    Steering {
        adapters: adapters.clone(),
        preference: preference.to_vec(),
    }
}

/// The weights with weight · B A added.
fn add(weights: &mut BTreeMap<String, TensorF32>, lora: &Lora, weight: f64) {
    for matrices in &lora.matrices {
        let tensor = weights.get_mut(&matrices.weight).unwrap();
        let (a, b, r) = (&matrices.a, &matrices.b, lora.rank);
        let columns = tensor.shape[1];
        assert_eq!(
            (&a.shape[..], &b.shape[..]),
            (&[r, columns][..], &[tensor.shape[0], r][..])
        );
        for (i, value) in tensor.data.iter_mut().enumerate() {
            let (row, column) = (i / columns, i % columns);
            let sum: f32 = (0..r)
                .map(|k| b.data[row * r + k] * a.data[k * columns + column])
                .sum();
            *value += (weight * f64::from(sum)) as f32;
        }
    }
}

#[track_caller]
fn assert_same(found: &BTreeMap<String, TensorF32>, expected: &BTreeMap<String, TensorF32>) {
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (name, expected) in expected {
        for (found, expected) in found[name].data.iter().zip(&expected.data) {
            assert!(
                (found - expected).abs() < 1e-5,
                "{name}: {found} {expected}"
            );
        }
    }
}

fn originals(
    model: &Pretrained,
    like: &BTreeMap<String, TensorF32>,
) -> BTreeMap<String, TensorF32> {
    like.keys()
        .map(|name| (name.clone(), model.tensor(name).unwrap()))
        .collect()
}

#[test]
fn every_form_is_the_merged_model() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("llama", folder.path());
    let adapters = Arc::new(adapters(&model, 5));
    let trained = Trained::Panacea(adapters.clone());
    let parts = Split::parts(&trained).unwrap();
    let specialists = Split::specialists(&trained).unwrap();
    let ranks = |split: &Split| {
        split
            .objectives
            .iter()
            .map(|(_, lora)| lora.rank)
            .collect::<Vec<_>>()
    };
    assert_eq!(parts.base.as_ref().unwrap().rank, RANK);
    assert_eq!(
        (ranks(&parts), ranks(&specialists)),
        (vec![1; 3], vec![RANK + 1; 3])
    );
    let folded = merged(&model, &adapters, &[0.0; 3]).unwrap();
    for preference in [
        [0.2, 0.5, 0.3],
        [0.0, 0.0, 1.0],
        [0.05, 0.05, 0.9],
        [1.0, 0.0, 0.0],
    ] {
        let expected = merged(&model, &adapters, &preference).unwrap();
        let mut one = originals(&model, &expected);
        add(&mut one, &Lora::at(&steering(&adapters, &preference)), 1.0);
        assert_same(&one, &expected);

        let mut by_parts = originals(&model, &expected);
        add(&mut by_parts, parts.base.as_ref().unwrap(), 1.0);
        let (mut by_folded, mut by_specialists) = (folded.clone(), originals(&model, &expected));
        for (i, weight) in preference.into_iter().enumerate() {
            assert_eq!(
                (&*parts.objectives[i].0, &*specialists.objectives[i].0),
                (OBJECTIVES[i], OBJECTIVES[i])
            );
            add(&mut by_parts, &parts.objectives[i].1, weight);
            add(&mut by_folded, &parts.objectives[i].1, weight);
            add(&mut by_specialists, &specialists.objectives[i].1, weight);
        }
        assert_same(&by_parts, &expected);
        assert_same(&by_folded, &expected);
        assert_same(&by_specialists, &expected);
    }
}

#[test]
fn soups_are_their_members_and_a_grid_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("llama", folder.path());
    let members: Vec<Member> = (0..3)
        .map(|i| Member {
            preference: Preference::vertex(3, i),
            adapters: Arc::new(adapters(&model, i as u64)),
        })
        .collect();
    let trained = Trained::RewardedSoups(members.clone());
    let split = Split::parts(&trained).unwrap();
    assert!(split.base.is_none());
    let preference = Preference::new(vec![0.5, 0.2, 0.3]).unwrap();
    let panacea_methods::Served::Adapter(served) = trained.serve(&preference);
    let expected = merged(&model, &served.adapters, &served.preference).unwrap();
    let mut found = originals(&model, &expected);
    for ((_, lora), weight) in split.objectives.iter().zip(preference.weights()) {
        add(&mut found, lora, *weight);
    }
    assert_same(&found, &expected);

    let out = folder.path().join("folded");
    let form = LlamaForm::Folded(GgufType::F32);
    let base = Base::of(&model, None).unwrap();
    let refused = write_llama_lora(&out, &base, &trained, form, &preference, None);
    assert!(matches!(refused, Err(ExportError::NothingToFold)));
    let grid = Trained::Discrete(members);
    let refused = write_llama_lora(&out, &base, &grid, LlamaForm::Parts, &preference, None);
    assert!(matches!(refused, Err(ExportError::NotLinear)));
    assert!(!out.exists());
}

#[test]
fn a_folder_for_llama_cpp_says_how_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    for (family, form, files, base) in [
        (
            "llama",
            LlamaForm::Parts,
            &["0-base", "1-help__kindly", "2-brevity", "3-wit"][..],
            true,
        ),
        (
            "mistral",
            LlamaForm::Specialists,
            &["0-help__kindly", "1-brevity", "2-wit"][..],
            false,
        ),
        (
            "qwen2",
            LlamaForm::Folded(GgufType::Bf16),
            &["0-help__kindly", "1-brevity", "2-wit"][..],
            false,
        ),
        (
            "qwen3",
            LlamaForm::Parts,
            &["0-base", "1-help__kindly", "2-brevity", "3-wit"][..],
            true,
        ),
    ] {
        let model = model(family, folder.path());
        let adapters = Arc::new(adapters(&model, 9));
        let trained = Trained::Panacea(adapters.clone());
        let out = folder.path().join(format!("{family}-adapters"));
        let preference = Preference::new(vec![0.25, 0.5, 0.25]).unwrap();
        let base_model = Base::of(&model, None).unwrap();
        let write = |out: &Path, preference: &Preference| {
            write_llama_lora(out, &base_model, &trained, form, preference, None)
        };
        let text = write(&out, &preference).unwrap();
        let readme = fs::read_to_string(out.join("README.md")).unwrap();
        assert_eq!(readme, format!("# Every λ in llama.cpp\n\n{text}"));

        let scales = if base {
            &["1", "0.25", "0.5", "0.25"][..]
        } else {
            &["0.25", "0.5", "0.25"][..]
        };
        let list: Vec<String> = files
            .iter()
            .zip(scales)
            .map(|(file, scale)| format!("{file}.gguf:{scale}"))
            .collect();
        let command = format!(
            "llama-server --model model.gguf --lora-scaled {} --cache-ram 0",
            list.join(",")
        );
        assert!(text.contains(&command), "{text}");
        let place = format!("--out {}", out.join("model.gguf").display());
        assert_eq!(
            text.contains(&place),
            !matches!(form, LlamaForm::Folded(_)),
            "{text}"
        );
        let request = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("\"lora\": "))
            .unwrap();
        let request: Vec<Value> = serde_json::from_str(request).unwrap();
        for (id, (entry, scale)) in request.iter().zip(scales).enumerate() {
            assert_eq!(
                (entry["id"].as_u64(), entry["scale"].as_f64()),
                (Some(id as u64), scale.parse().ok())
            );
        }
        assert_eq!(
            text.contains("this model the last 16"),
            family == "mistral",
            "{text}"
        );
        for file in files {
            let bytes = fs::read(out.join(format!("{file}.gguf"))).unwrap();
            assert!(bytes.starts_with(b"GGUF"), "{file}");
        }
        let is_folded = matches!(form, LlamaForm::Folded(_));
        assert_eq!(
            fs::read_dir(&out).unwrap().count(),
            files.len() + 1 + usize::from(is_folded)
        );
        if is_folded {
            let written = Pretrained::open(&out.join("model.gguf")).unwrap();
            for (name, expected) in merged(&model, &adapters, &[0.0; 3]).unwrap() {
                for (found, expected) in written
                    .tensor(&name)
                    .unwrap()
                    .data
                    .iter()
                    .zip(expected.data)
                {
                    assert!(
                        (found - expected).abs() <= expected.abs() / 256.0,
                        "{name}: {found} {expected}"
                    );
                }
            }
        }
        let again = write(&out, &preference);
        assert!(matches!(again, Err(ExportError::Exists { .. })));
        let two = Preference::new(vec![0.5, 0.5]).unwrap();
        let wrong = write(&folder.path().join("new"), &two);
        assert!(wrong.unwrap_err().to_string().contains("brevity, wit"));
    }
}

/// What is not known of other families is an error, and leaves nothing behind.
#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (phi, gemma) = (
        model("phi3", folder.path()),
        model("gemma3_text", folder.path()),
    );
    let preference = Preference::uniform(3);
    let out = folder.path().join("out");
    for (model, kind) in [(&phi, "phi3"), (&gemma, "gemma3_text")] {
        let trained = Trained::Panacea(Arc::new(adapters(model, 1)));
        let base = Base::of(model, None).unwrap();
        let refused = write_llama_lora(&out, &base, &trained, LlamaForm::Parts, &preference, None);
        let message = refused.unwrap_err().to_string();
        assert!(
            message.contains(kind) && message.contains("not known"),
            "{message}"
        );
        assert!(!out.exists());
    }
    let trained = Trained::Panacea(Arc::new(adapters(&phi, 1)));
    assert!(matches!(
        write_peft_parts(
            &out,
            &Base::of(&phi, None).unwrap(),
            &trained,
            &preference,
            None
        ),
        Err(ExportError::Joined { .. })
    ));
    let trained = Trained::Panacea(Arc::new(adapters(&gemma, 1)));
    let two = Preference::uniform(2);
    let base = Base::of(&gemma, None).unwrap();
    let wrong = write_peft_parts(&out, &base, &trained, &two, None);
    assert!(wrong.unwrap_err().to_string().contains("brevity, wit"));
    let preference = Preference::new(vec![0.25, 0.5, 0.25]).unwrap();
    write_peft_parts(&out, &base, &trained, &preference, None).unwrap();
    for name in ["0-base", "1-help__kindly", "2-brevity", "3-wit"] {
        let config = fs::read(out.join(name).join("adapter_config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["r"], config["lora_alpha"]);
        assert_eq!(
            config["r"],
            if name == "0-base" {
                json!(RANK)
            } else {
                json!(1)
            }
        );
        assert_eq!(
            config["target_modules"].as_array().unwrap().len(),
            MODULES.len()
        );
    }
    let index: Value = serde_json::from_slice(&fs::read(out.join("parts.json")).unwrap()).unwrap();
    let named = |i: usize, folder: &str| json!({"name": OBJECTIVES[i], "folder": folder});
    let objectives = [
        named(0, "1-help__kindly"),
        named(1, "2-brevity"),
        named(2, "3-wit"),
    ];
    assert_eq!(index, json!({"base": "0-base", "objectives": objectives}));
    let program = fs::read_to_string(out.join("load.py")).unwrap();
    assert!(
        program.contains(r#"["0-base","1-help__kindly","2-brevity","3-wit"]"#),
        "{program}"
    );
    assert!(program.ends_with("\nsteer([0.25,0.5,0.25])\n"), "{program}");
}

/// A GGUF model is named by its file, also where its folder was opened; without a chat template the server's answers need
/// another path.
#[test]
fn a_gguf_model_is_named_by_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("llama", folder.path());
    let preference = Preference::uniform(3);
    let files = ["chat", "plain"].map(|name| folder.path().join(name).join("a model.gguf"));
    convert_to_gguf(&files[0], &model, GgufType::F16).unwrap();
    let config = model.source().join("tokenizer_config.json");
    let mut tokens: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    (tokens.as_object_mut().unwrap().remove("chat_template")).unwrap();
    fs::write(&config, tokens.to_string()).unwrap();
    let plain = Pretrained::open(model.source()).unwrap();
    convert_to_gguf(&files[1], &plain, GgufType::F16).unwrap();
    for (file, note) in files.iter().zip([false, true]) {
        let own = file.parent().unwrap();
        for opened in [own, file] {
            let model = Pretrained::open(opened).unwrap();
            let trained = Trained::Panacea(Arc::new(adapters(&model, 1)));
            let out = tempfile::tempdir().unwrap();
            let (llama, peft) = (out.path().join("llama"), out.path().join("peft"));
            let form = LlamaForm::Parts;
            let base = Base::of(&model, None).unwrap();
            let text = write_llama_lora(&llama, &base, &trained, form, &preference, None).unwrap();
            let command = format!("--model '{}' --lora-scaled", file.display());
            assert!(text.contains(&command), "{text}");
            assert!(!text.contains("cargo xtask"), "{text}");
            assert_eq!(text.contains("no chat template"), note, "{text}");
            write_peft_parts(&peft, &base, &trained, &preference, None).unwrap();
            let program = fs::read_to_string(peft.join("load.py")).unwrap();
            let place = format!("(\"{}\", gguf_file=\"a model.gguf\",", own.display());
            assert!(program.contains(&place), "{program}");
        }
    }
}

/// An adapter names its base model by what other people load it by, or says that nobody knows it.
#[test]
fn the_base_model_is_named_or_missed() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("llama", folder.path());
    let steering = steering(&Arc::new(adapters(&model, 3)), &[0.2, 0.5, 0.3]);
    let mut number = 0;
    let mut named = |base: &Base| {
        number += 1;
        let out = folder.path().join(format!("peft-{number}"));
        write_peft(&out, base, &steering, None).unwrap();
        let config = fs::read(out.join("adapter_config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        (
            config["base_model_name_or_path"].clone(),
            config["revision"].clone(),
        )
    };
    // A folder that nobody knows the origin of.
    let base = Base::of(&model, None).unwrap();
    assert_eq!(named(&base), (json!(model.source()), Value::Null));
    assert!(model.source().is_absolute() && base.notes()[0].contains("--base-name OWNER/NAME"));
    let given = Base::of(&model, Some("owner/tiny")).unwrap();
    assert_eq!(named(&given), (json!("owner/tiny"), Value::Null));
    assert!(given.notes().is_empty());
    for wrong in ["", "tiny", "a/b/c", "https://huggingface.co/a/b"] {
        let error = Base::of(&model, Some(wrong)).unwrap_err().to_string();
        assert!(
            error.contains("--base-name") && error.contains("OWNER/NAME"),
            "{error}"
        );
    }

    // A GGUF file that does not say what it is.
    let file = folder.path().join("tiny.gguf");
    convert_to_gguf(&file, &model, GgufType::F32).unwrap();
    let gguf = Pretrained::open(&file).unwrap();
    let base = Base::of(&gguf, None).unwrap();
    assert_eq!(named(&base), (Value::Null, Value::Null));
    assert!(base.notes()[0].contains("tiny.gguf"), "{:?}", base.notes());

    // One that was fetched.
    let fingerprint = model.fingerprint().unwrap();
    let origin = json!({"repository": "owner/tiny", "revision": "0123", "license": "mit", "fingerprint": fingerprint});
    fs::write(model.source().join("origin.json"), origin.to_string()).unwrap();
    let base = Base::of(&model, None).unwrap();
    assert_eq!(named(&base), (json!("owner/tiny"), json!("0123")));
    assert_eq!((base.license(), base.notes().len()), (Some("mit"), 0));
    let same = Base::of(&model, Some("owner/tiny")).unwrap();
    assert_eq!(named(&same), (json!("owner/tiny"), json!("0123")));
    let other = Base::of(&model, Some("owner/other")).unwrap();
    assert_eq!(named(&other), (json!("owner/other"), Value::Null));
    assert_eq!(other.license(), None);
    let out = folder.path().join("parts");
    let trained = Trained::Panacea(steering.adapters.clone());
    write_peft_parts(&out, &base, &trained, &Preference::uniform(3), None).unwrap();
    let program = fs::read_to_string(out.join("load.py")).unwrap();
    assert!(
        program.contains("(\"owner/tiny\", revision=\"0123\","),
        "{program}"
    );
}
