//! Model cards, letter by letter.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use panacea_config::{Overrides, Plan, Spec};
use panacea_evaluator::{Front, MeasuredRun, MethodPoints, PointRecords, Provenance};
use panacea_export::{
    Base, Card, LlamaForm, write_gguf, write_llama_lora, write_merged, write_peft, write_peft_parts,
};
use panacea_methods::Trained;
use panacea_model::Steering;
use panacea_objectives::Preference;
use panacea_pretrained::{GgufType, Pretrained};
use panacea_runs::{RunFacts, RunRecord};
use panacea_svd_lora::{Adapters, SvdLoraConfig};
use panacea_test_support::TinyModel;
use serde_json::json;

/// Names as people have them: with what YAML, Markdown and tables take for their own.
const OBJECTIVES: [&str; 2] = ["help: \"kindly\"", "terse|*no*"];
const CONFIG: &str = r#"
[model]
path = "base"
[data]
train = "FOLDER/train.jsonl"
eval = "FOLDER/absent.jsonl"
[[objective]]
name = 'help: "kindly"'
score = "helpfulness"
[[objective]]
name = "terse|*no*"
rule = "shorter"
[adapter]
rank = 2
alpha = 4
modules = ["q_proj"]
[optimizer]
steps = 30
batch_size = 3
learning_rate = 1e-3
"#;

/// A run in a folder, with its base model.
struct Desk {
    folder: tempfile::TempDir,
    model: Pretrained,
    record: RunRecord,
    steering: Steering,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base");
        fs::create_dir(&base).unwrap();
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 272, "hidden_size": 16,
            "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
            "head_dim": 8, "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": true,
            "bos_token_id": 0, "eos_token_id": 3
        });
        TinyModel::well_behaved(config, 0.5).write(&base);
        let model = Pretrained::open(&base).unwrap();
        let fingerprint = model.fingerprint().unwrap();
        let origin = json!({"repository": "owner/tiny", "revision": "0123abc", "license": "mit", "fingerprint": fingerprint});
        fs::write(base.join("origin.json"), origin.to_string()).unwrap();

        let train = folder.path().join("train.jsonl");
        let line =
            json!({"prompt": "a", "responses": ["b", "cc"], "scores": {"helpfulness": [1, 2]}});
        fs::write(&train, format!("{line}\n{line}\n")).unwrap();
        let config = CONFIG.replace("FOLDER", folder.path().to_str().unwrap());
        let plan =
            Plan::resolve(Spec::from_toml(&config, "run.toml"), &Overrides::default()).unwrap();
        let data_fingerprints = [
            (train.clone(), panacea_data::fingerprint(&train).unwrap()),
            (folder.path().join("absent.jsonl"), "feed".to_owned()),
        ];
        let facts = RunFacts {
            panacea: "0.1.0".to_owned(),
            burn: String::new(),
            model_fingerprint: "cafe".to_owned(),
            tokenizer_fingerprint: None,
            template_fingerprint: None,
            records: None,
            started_in: None,
            extensions: Vec::new(),
            data_fingerprints: data_fingerprints.into(),
            gone: Vec::new(),
        };
        let config = SvdLoraConfig {
            base_model: "base".into(),
            base_fingerprint: String::new(),
            rank: 2,
            objectives: OBJECTIVES.map(str::to_owned).into(),
            alpha: 4.0,
            target_modules: vec!["q_proj".to_owned()],
        };
        let shapes = [("layers.0.q_proj".to_owned(), [16, 16])];
        let device = panacea_devices::of_environment();
        let adapters = Adapters::init(config, &shapes, 0.3, 1, &device);
        Self {
            folder,
            model,
            record: RunRecord { plan, facts },
            steering: Steering {
                adapters: Arc::new(adapters),
                preference: vec![0.25, 0.75],
            },
        }
    }

    fn out(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn front() -> Front {
    let point = |weight: f64| PointRecords {
        lambda: vec![weight, 1.0 - weight],
        records: vec![
            vec![weight - 1.0, weight - 0.8],
            vec![-weight, 0.2 - weight],
        ],
        ..PointRecords::default()
    };
    let objectives = OBJECTIVES.map(str::to_owned);
    let points = [1.0, 0.25, 0.0].map(point).to_vec();
    let method =
        MethodPoints::from_records("panacea-linear", &objectives, points, None, None).unwrap();
    let mut front = Front::new(objectives.to_vec(), vec![method], None, None).unwrap();
    front.provenance = Some(Provenance {
        panacea: "0.1.0".to_owned(),
        command: "panacea eval-front".to_owned(),
        runs: vec![MeasuredRun {
            run: "first".to_owned(),
            steps: None,
            by: "records".to_owned(),
            records: 2,
            origin: "held-out".to_owned(),
            files: Vec::new(),
            yardstick: String::new(),
            reward_scales: Vec::new(),
        }],
    });
    front
}

fn readme(folder: &Path) -> String {
    fs::read_to_string(folder.join("README.md")).unwrap()
}

/// `WRITE_CARDS=1` writes it anew.
fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cards")
        .join(name);
    if std::env::var_os("WRITE_CARDS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert_eq!(text, expected, "{}", path.display());
}

#[test]
fn a_measured_run_at_one_preference() {
    let desk = Desk::new();
    let base = Base::of(&desk.model, None).unwrap();
    let card = Card::of("first_run", &desk.record).with_front(Some(front()));
    write_peft(&desk.out("peft"), &base, &desk.steering, Some(&card)).unwrap();
    assert_golden("peft.md", &readme(&desk.out("peft")));
    let picture = fs::read(desk.out("peft/front.png")).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    write_peft(&desk.out("again"), &base, &desk.steering, Some(&card)).unwrap();
    assert_eq!(readme(&desk.out("peft")), readme(&desk.out("again")));
    assert_eq!(picture, fs::read(desk.out("again/front.png")).unwrap());
}

#[test]
fn every_preference_of_a_run_that_was_not_measured() {
    let desk = Desk::new();
    let base = Base::of(&desk.model, Some("owner/other")).unwrap();
    let datasets = vec!["owner/data".to_owned(), "yes".to_owned()];
    let card = Card::of("first", &desk.record).with_terms(None, datasets);
    let trained = Trained::Panacea(desk.steering.adapters.clone());
    let uniform = Preference::uniform(2);
    write_peft_parts(&desk.out("parts"), &base, &trained, &uniform, Some(&card)).unwrap();
    assert_golden("peft-parts.md", &readme(&desk.out("parts")));
    assert!(!desk.out("parts/front.png").exists());

    let llama = desk.out("llama");
    let text = write_llama_lora(
        &llama,
        &base,
        &trained,
        LlamaForm::Parts,
        &uniform,
        Some(&card),
    )
    .unwrap();
    let readme = readme(&llama);
    assert!(
        readme.starts_with("---\nbase_model: owner/other\nbase_model_relation: adapter\n# TODO"),
        "{readme}"
    );
    assert!(
        readme.contains(&format!("## How to load it\n\n{}", text.trim_end())),
        "{readme}"
    );
    assert!(readme.contains("\n    llama-server --model"), "{readme}");
}

#[test]
fn whole_models() {
    let desk = Desk::new();
    let base = Base::of(&desk.model, None).unwrap();
    let card =
        Card::of("first", &desk.record).with_terms(Some("other: \"mine\"".to_owned()), Vec::new());
    write_merged(&desk.out("merged"), &base, &desk.steering, Some(&card)).unwrap();
    assert_golden("merged.md", &readme(&desk.out("merged")));
    Pretrained::open(&desk.out("merged"))
        .unwrap()
        .check()
        .unwrap();

    // A file has its card where it is alone, and leaves other people's alone.
    let write = |name: &str| {
        write_gguf(
            &desk.out(name),
            &base,
            &desk.steering,
            GgufType::F16,
            Some(&card),
        )
        .unwrap()
    };
    assert!(write("new/a model.gguf"));
    let text = readme(&desk.out("new"));
    assert!(
        text.contains("llama-server --model 'a model.gguf'"),
        "{text}"
    );
    assert!(!write("new/b.gguf"));
    assert_eq!(readme(&desk.out("new")), text);
    assert!(!write("b.gguf") && !desk.out("README.md").exists());
}
