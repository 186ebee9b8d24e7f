//! A few steps of whole trainings on the quickstart's world.

use std::fs;
use std::path::Path;

use burn_tensor::Device;
use panacea_config::{Overrides, Plan, Spec};
use panacea_model::Decoder;
use panacea_runs::{Interrupt, ProgressMode, TrainingRun};
use panacea_trainer::{Outcome, Preparation, References, TrainerError, Work};
use serde_json::Value;

use crate::near::assert_close;
use crate::{Check, named};

pub const CHECKS: &[Check] = named!["training":
    four_steps_of_dpo_have_the_losses_of_the_cpu,
    dpo_that_is_interrupted_goes_on_bit_by_bit,
    a_reward_model_that_is_interrupted_goes_on_bit_by_bit,
    reinforcement_learning_that_is_interrupted_goes_on_bit_by_bit,
];

/// Objectives by scores that the records have.
const SCORES: &str = r#"
    [[objective]]
    name = "brevity"
    score = "brevity"
    [[objective]]
    name = "detail"
    score = "detail"
"#;

const DPO: &str = "[preference]\ngroups = 2";

const REWARD_MODEL: &str = "[method]\nname = \"reward-model\"";

/// The same scores, as rewards of answers.
const REWARDS: &str = r#"
    [[objective]]
    name = "brevity"
    reward = { score = "brevity", otherwise = -3.0 }
    [[objective]]
    name = "detail"
    reward = { score = "detail", otherwise = -3.0 }
"#;

/// Answers that are written, scored and learned from, with a critic.
const RLHF: &str = r#"
    [method]
    loss = "rlhf"
    beta = 0.5
    [rlhf]
    advantages = "gae"
    samples = 2
    epochs = 2
    [preference]
    groups = 2
"#;

/// A training of `steps` steps in the quickstart's world, which is written into `folder`.
fn prepared(objectives: &str, method: &str, steps: usize, folder: &Path) -> Preparation {
    let world = panacea_quickstart::write(folder).expect("a folder for the world");
    let text = format!(
        r#"
        [model]
        path = {:?}
        [data]
        train = {:?}
        max_response_tokens = 80
        [adapter]
        rank = 8
        alpha = 64.0
        s = 1.0
        {objectives}
        {method}
        [optimizer]
        steps = {steps}
        batch_size = 2
        learning_rate = 2e-3
        [checkpoint]
        every = 1
        keep = 1
        "#,
        world.model, world.records
    );
    let spec = Spec::from_toml(&text, "suite.toml");
    let plan = Plan::resolve(spec, &Overrides::default()).expect("it is right");
    Preparation::of(plan, None).expect("the world has what it names")
}

/// Trains on `device` in `folder`, or goes on there.
fn train(
    prepared: &Preparation,
    device: &Device,
    folder: &Path,
    interrupt: Interrupt,
) -> Result<Outcome, TrainerError> {
    let record = prepared.record()?;
    let (run, _) = TrainingRun::create_or_resume(folder, &record, folder.exists())?;
    let model = Decoder::load(&prepared.pretrained, device)?;
    prepared.with_work(References::in_memory(), |work| {
        let work = Work {
            model: &model,
            interrupt,
            progress: ProgressMode::Hidden,
            ..work
        };
        work.carry_out(&record, &run)
    })
}

/// What the metrics say of every step, without what time and memory say.
fn metrics(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).expect("every run has them");
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("a line of JSON");
        let said = value.as_object_mut().expect("an object");
        for key in ["seconds", "tokens_per_s", "peak_memory_bytes"] {
            said.remove(key);
        }
        value
    };
    text.lines().map(line).collect()
}

fn four_steps_of_dpo_have_the_losses_of_the_cpu(device: &Device) {
    let place = tempfile::tempdir().expect("a folder for a world and runs");
    let prepared = prepared(SCORES, DPO, 4, &place.path().join("world"));
    let losses = |name: &str, device: &Device| -> Vec<f64> {
        let folder = place.path().join(name);
        let outcome = train(&prepared, device, &folder, Interrupt::manual());
        assert_eq!(outcome.expect("it trains"), Outcome::Finished);
        let of_step = |line: &Value| ["aggregate", "grad_norm"].map(|key| line[key].as_f64());
        let said = metrics(&folder);
        let numbers: Vec<f64> = said.iter().flat_map(of_step).flatten().collect();
        assert_eq!(numbers.len(), 8, "two numbers of each step");
        numbers
    };
    let found: Vec<f32> = losses("here", device)
        .into_iter()
        .map(|x| x as f32)
        .collect();
    let on_the_cpu = losses("cpu", &Device::flex());
    assert_close("losses and norms", &found, &on_the_cpu, 1e-4);
}

/// One training in one go, and one that is stopped after its first step: the same metrics and the same adapter.
fn assert_goes_on_bit_by_bit(objectives: &str, method: &str, steps: usize, device: &Device) {
    let place = tempfile::tempdir().expect("a folder for a world and runs");
    let prepared = prepared(objectives, method, steps, &place.path().join("world"));
    let [whole, stopped] = ["whole", "stopped"].map(|name| place.path().join(name));
    let go_on = |folder: &Path, stop: bool| {
        let interrupt = Interrupt::manual();
        if stop {
            interrupt.request();
        }
        train(&prepared, device, folder, interrupt).expect("it trains")
    };
    assert_eq!(go_on(&whole, false), Outcome::Finished);
    assert_eq!(go_on(&stopped, true), Outcome::Interrupted { step: 1 });
    assert_eq!(go_on(&stopped, false), Outcome::Finished);
    assert_eq!(metrics(&stopped), metrics(&whole));
    let adapter = |folder: &Path| {
        let file = fs::read(folder.join("adapter").join("adapter.safetensors"));
        file.expect("every finished run has one")
    };
    assert!(
        adapter(&stopped) == adapter(&whole),
        "not the same adapter after {steps} steps"
    );
}

fn dpo_that_is_interrupted_goes_on_bit_by_bit(device: &Device) {
    assert_goes_on_bit_by_bit(SCORES, DPO, 4, device);
}

fn a_reward_model_that_is_interrupted_goes_on_bit_by_bit(device: &Device) {
    assert_goes_on_bit_by_bit(SCORES, REWARD_MODEL, 2, device);
}

fn reinforcement_learning_that_is_interrupted_goes_on_bit_by_bit(device: &Device) {
    assert_goes_on_bit_by_bit(REWARDS, RLHF, 2, device);
}
