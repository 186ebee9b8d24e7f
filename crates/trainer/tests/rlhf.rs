//! Reinforcement learning of a tiny model: rewards rise, λ decides which, and nothing depends on interruptions.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use burn::tensor::Device;
use panacea_data::{BoxError, Example, Source};
use panacea_model::Decoder;
use panacea_pretrained::Pretrained;
use panacea_rewards::{Sample, ScoreError, Scorer, Scorers};
use panacea_test_support::TinyModel;
use panacea_trainer::{
    Interrupt, Judges, Outcome, Overrides, Plan, ProgressMode, References, Spec, TrainerError,
    Training, TrainingRun, TrainingState,
};
use serde_json::{Value, json};

const STOP: u32 = 2;

fn model() -> Decoder {
    let config = json!({
        "model_type": "llama", "vocab_size": 12, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
        "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": STOP
    });
    let dir = tempfile::tempdir().unwrap();
    TinyModel::well_behaved(config, 0.3).write_without_tokenizer(dir.path());
    Decoder::load(&Pretrained::open(dir.path()).unwrap(), &Device::flex()).unwrap()
}

fn prompts() -> Vec<Example> {
    let example = |line: usize| Example {
        source: Source {
            file: "prompts".into(),
            line,
        },
        prompt: vec![1, 3 + line as u32, 4],
        responses: Vec::new(),
        judgements: Vec::new(),
    };
    (1..=6).map(example).collect()
}

fn plan(rlhf: &str, steps: usize) -> Plan {
    let text = format!(
        r#"
        [model]
        path = "tiny"
        [data]
        train = "prompts"
        [[objective]]
        name = "a"
        reward = {{ rule = "keywords", words = ["t5"] }}
        [[objective]]
        name = "b"
        reward = {{ rule = "keywords", words = ["t6"] }}
        [adapter]
        rank = 3
        [method]
        loss = "rlhf"
        beta = 0.02
        [rlhf]
        max_new_tokens = 5
        {rlhf}
        [preference]
        groups = 2
        vertex_probability = 1.0
        [optimizer]
        steps = {steps}
        batch_size = 6
        micro_batch_size = 4
        learning_rate = 2e-2
        schedule = "constant"
        [checkpoint]
        every = 2
        keep = 10
        "#
    );
    Plan::resolve(Spec::from_toml(&text, "test.toml"), &Overrides::default()).unwrap()
}

/// The share of an answer's tokens that are its own; fails at a call of its choice.
struct Share {
    token: &'static str,
    fails_at: usize,
    calls: usize,
}

impl Scorer for Share {
    fn name(&self) -> &str {
        self.token
    }

    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<f64>, ScoreError> {
        self.calls += 1;
        if self.calls == self.fails_at {
            return Err(ScoreError::new(self.token, Some(&samples[0]), "is tired"));
        }
        let share = |sample: &Sample<'_>| {
            let words = sample.response.split_whitespace();
            let (own, all) = words.fold((0, 0), |(own, all), word| {
                (own + usize::from(word == self.token), all + 1)
            });
            f64::from(own as u32) / f64::from(all.max(1))
        };
        Ok(samples.iter().map(share).collect())
    }
}

fn words(tokens: &[u32]) -> Result<String, BoxError> {
    let tokens = tokens.iter().filter(|&&token| token != STOP);
    let words: Vec<String> = tokens.map(|token| format!("t{token}")).collect();
    Ok(words.join(" "))
}

fn train(
    plan: &Plan,
    folder: &Path,
    interrupt: &Interrupt,
    fails_at: usize,
) -> Result<Outcome, TrainerError> {
    let model = model();
    let run = if folder.exists() {
        TrainingRun::resume(folder)?
    } else {
        TrainingRun::create(folder)?
    };
    let state = match run.folder().latest_checkpoint()? {
        Some(checkpoint) => TrainingState::load(plan, &model, &checkpoint.path)?,
        None => TrainingState::new(plan, &model, "fingerprint")?,
    };
    fs::write(run.folder().run_toml(), "").unwrap();
    let train = prompts();
    let share = |token, fails_at| -> Box<dyn Scorer> {
        Box::new(Share {
            token,
            fails_at,
            calls: 0,
        })
    };
    let judges = Judges {
        scorers: Mutex::new(Scorers::new(vec![share("t5", fails_at), share("t6", 0)])),
        own_scores: vec![None, None],
        prompts: (train.iter().map(|e| (e.source.clone(), "?".to_owned())))
            .collect::<HashMap<_, _>>(),
        decode: &words,
        stop: &[STOP],
    };
    Training {
        plan,
        model: &model,
        train: &train,
        eval: &[],
        references: &References::in_memory(),
        judges: Some(&judges),
    }
    .run(state, &run, interrupt, ProgressMode::Hidden)
}

fn metrics(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const FORMS: [&str; 3] = [
    "advantages = \"gae\"\nsamples = 4\ngae_lambda = 1.0",
    "advantages = \"rloo\"\nsamples = 4",
    "advantages = \"grpo\"\nsamples = 4",
];

#[test]
fn rewards_rise_and_follow_the_preference() {
    for form in FORMS {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("run");
        train(&plan(form, 60), &folder, &Interrupt::manual(), 0).unwrap();
        let lines = metrics(&folder);
        // Every answer is written for one of the two objectives alone, so that a policy that follows its λ gives each
        // reward to half of them, and one that does not cannot have both.
        let total = |lines: &[Value]| {
            let rewards = lines.iter().map(|line| {
                let of = |name: &str| line["objectives"][name]["reward"].as_f64().unwrap();
                of("a") + of("b")
            });
            rewards.sum::<f64>() / lines.len() as f64
        };
        let (first, last) = (total(&lines[..5]), total(&lines[55..]));
        assert!(last > first + 0.3, "{form}: from {first} to {last}");
        let follows: Vec<f64> = (lines[40..].iter())
            .filter_map(|line| line["objectives"]["a"]["reward_by_lambda"].as_f64())
            .collect();
        let mean = follows.iter().sum::<f64>() / follows.len() as f64;
        assert!(mean > 0.5, "{form}: correlation {mean}");
        let kl = lines[59]["kl"].as_f64().unwrap();
        assert!(kl > 0.0 && kl.is_finite(), "{form}: {kl}");
    }
}

#[test]
fn resume_equals_an_uninterrupted_run() {
    for form in FORMS {
        let place = tempfile::tempdir().unwrap();
        let (whole, parts) = (place.path().join("whole"), place.path().join("parts"));
        let plan = plan(form, 5);
        train(&plan, &whole, &Interrupt::manual(), 0).unwrap();
        let interrupt = Interrupt::manual();
        interrupt.request();
        let stopped = train(&plan, &parts, &interrupt, 0).unwrap();
        assert_eq!(stopped, Outcome::Interrupted { step: 1 });
        train(&plan, &parts, &Interrupt::manual(), 0).unwrap();
        let adapter = |folder: &Path| fs::read(folder.join("adapter/adapter.safetensors")).unwrap();
        assert_eq!(adapter(&whole), adapter(&parts), "{form}");
    }
}

#[test]
fn a_scorer_that_fails_stops_the_run_with_its_name_after_a_checkpoint() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    let plan = plan(FORMS[1], 6);
    let error = train(&plan, &folder, &Interrupt::manual(), 4)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("t5") && error.contains("prompts:"),
        "{error}"
    );
    assert!(error.contains("is tired"), "{error}");
    let run = panacea_trainer::RunFolder::open(&folder).unwrap();
    assert_eq!(run.latest_checkpoint().unwrap().unwrap().step, 3);
    // It goes on from there once the scorer is back.
    assert_eq!(
        train(&plan, &folder, &Interrupt::manual(), 0).unwrap(),
        Outcome::Finished
    );
}

#[test]
fn a_policy_far_from_its_reference_stops_the_run() {
    let place = tempfile::tempdir().unwrap();
    let form = format!("{}\nmax_kl = 0.05", FORMS[1]);
    let folder = place.path().join("run");
    let error = train(&plan(&form, 60), &folder, &Interrupt::manual(), 0).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("rlhf.max_kl = 0.05"), "{message}");
    assert!(matches!(error, TrainerError::Collapsed(_)));
}
