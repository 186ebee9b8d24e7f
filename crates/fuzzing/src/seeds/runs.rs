//! Configurations, what training and measuring leave in folders, and what people answered.

use std::fs;

use panacea_config::{Overrides, Plan, Spec};
use panacea_elicit as elicit;
use panacea_evaluator::{Cost, ExactFront, Front, FrontPoint, MethodPoints};
use panacea_runs::{RunFacts, RunRecord};
use panacea_svd_lora::{ADAPTER_CONFIG_FILE, ADAPTER_FILE, Adapters, SvdLoraConfig};

use super::Seeds;
use crate::scratch::Scratch;

pub(super) fn points(seeds: &mut Seeds) {
    seeds.add("csv", "helpful, concise\n1,-2.5\n\n0.3,4e2\n");
    seeds.add("json", " [[1, -2.5],\n [0.3, 4]]");
}

pub(super) fn fronts(seeds: &mut Seeds) {
    let point = |lambda: [f64; 2], values: [f64; 2]| FrontPoint {
        lambda: lambda.to_vec(),
        values: values.to_vec(),
        stderr: vec![0.1, 0.2],
        accuracy: Some(vec![0.5, 0.75]),
        ..FrontPoint::default()
    };
    let method = MethodPoints {
        method: "panacea-linear".to_owned(),
        points: vec![
            point([1.0, 0.0], [2.0, 0.5]),
            point([0.5, 0.5], [1.5, 1.5]),
            point([0.0, 1.0], [0.5, 2.0]),
        ],
        ordering: Vec::new(),
        effects: Vec::new(),
        cost: Some(Cost::default()),
    };
    let exact = ExactFront::new(vec![vec![2.0, 1.0], vec![1.0, 2.0]]);
    for (name, exact) in [("measured", None), ("exact", Some(exact))] {
        let objectives = ["a", "b"].map(str::to_owned).to_vec();
        let front = Front::new(objectives, vec![method.clone()], None, exact);
        let front = front.expect("two points for two objectives");
        seeds.add(name, serde_json::to_vec(&front).expect("it is plain data"));
    }
    seeds.add(
        "agreed",
        r#"{"objectives":["a"],"reference":[0.0],"methods":[{"method":"discrete","points":[{"lambda":[1.0],"values":[2.0],
        "stderr":[0.1]}],"indicators":{"hypervolume":2.0,"inner_product":2.0,"sparsity":null,"spacing":null}}]}"#,
    );
}

pub(super) fn profiles(seeds: &mut Seeds) {
    let objectives = ["a", "b"].map(str::to_owned).to_vec();
    let mut session = elicit::Session::new(objectives, elicit::Settings::lasting(), 7)
        .expect("the settings are fine");
    seeds.add("empty", session.to_text());
    let candidate = |id: &str, scores: [f64; 2]| elicit::Candidate {
        id: id.to_owned(),
        preference: None,
        scores: scores.to_vec(),
    };
    let candidates = [
        candidate("x", [0.1, 0.9]),
        candidate("y", [0.8, 0.2]),
        candidate("z", [0.5, 0.5]),
    ];
    for answer in [elicit::Answer::Left, elicit::Answer::Skip] {
        let question = session
            .ask(elicit::Criterion::InformationGain, &candidates)
            .expect("they fit");
        let Some(question) = question else { break };
        let (left, right) = (&candidates[question.left], &candidates[question.right]);
        session
            .answer(left, right, answer, None)
            .expect("it may be asked");
    }
    seeds.add("asked", session.to_text());
}

const CONFIGURATIONS: [(&str, &str); 5] = [
    (
        "minimal",
        include_str!("../../../config/tests/files/minimal.toml"),
    ),
    (
        "everything",
        include_str!("../../../config/tests/files/everything.toml"),
    ),
    ("pairs", include_str!("../../../../configs/quickstart.toml")),
    ("ppo", include_str!("../../../../configs/smollm2-ppo.toml")),
    (
        "reward",
        include_str!("../../../../configs/smollm2-reward.toml"),
    ),
];

pub(super) fn configurations(seeds: &mut Seeds) {
    for (name, text) in CONFIGURATIONS {
        seeds.add(name, text);
    }
    // As `--set` has them.
    seeds.add("assignment", "optimizer.steps=10");
    seeds.add("word", "model.path=models/tiny");
    seeds.add(
        "scorer",
        "[[objective]]\nname = 'a'\nreward = { rule = 'keywords', words = ['please'], weight = 2 }\n",
    );
}

pub(super) fn runs(seeds: &mut Seeds) {
    let metrics = "{\"kind\":\"train\",\"step\":1,\"seconds\":0.5,\"tokens\":12}\n{\"kind\":\"eval\",\"step\":1}\n";
    // Some leave these to the command line.
    let overrides = Overrides {
        model: Some("models/tiny".into()),
        train: vec!["train.jsonl".into()],
        ..Overrides::default()
    };
    for (name, text) in CONFIGURATIONS {
        let plan = Plan::resolve(Spec::from_toml(text, name), &overrides);
        let record = RunRecord {
            plan: plan.expect("they are valid"),
            facts: RunFacts {
                panacea: "0.1.0".to_owned(),
                burn: "0.22.1".to_owned(),
                model_fingerprint: "m".to_owned(),
                tokenizer_fingerprint: Some("t".to_owned()),
                template_fingerprint: None,
                started_in: None,
                data_fingerprints: [("train.jsonl".into(), "d".to_owned())].into(),
                records: Some(9),
                extensions: Vec::new(),
                gone: Vec::new(),
            },
        };
        let text = record.to_toml().expect("it can be written");
        seeds.add(name, format!("{text}\0{metrics}"));
    }
}

pub(super) fn adapters(seeds: &mut Seeds) {
    let config = SvdLoraConfig {
        base_model: "tiny".to_owned(),
        base_fingerprint: String::new(),
        rank: 2,
        objectives: ["a", "b"].map(str::to_owned).to_vec(),
        alpha: 4.0,
        target_modules: vec!["q_proj".to_owned()],
    };
    let shapes = ["layers.0.q_proj", "layers.0.v_proj"].map(|name| (name.to_owned(), [6, 3]));
    for (name, shapes) in [("one", &shapes[..1]), ("two", &shapes[..])] {
        let device = panacea_devices::of_environment();
        let adapters = Adapters::init(config.clone(), shapes, 0.02, 7, &device);
        let folder = Scratch::new();
        adapters
            .save(folder.path())
            .expect("the folder is writable");
        let read = |file: &str| fs::read(folder.path().join(file)).expect("it was written");
        let (config, tensors) = (read(ADAPTER_CONFIG_FILE), read(ADAPTER_FILE));
        let length = (config.len() as u16).to_le_bytes();
        seeds.add(name, [&length[..], &config, &tensors].concat());
    }
}
