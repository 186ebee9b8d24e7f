//! Reinforcement learning of a tiny model: rewards rise, λ decides which, and nothing depends on interruptions.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use panacea_config::{Overrides, Plan, Spec};
use panacea_data::{BoxError, Example, Judgement, Source};
use panacea_model::Decoder;
use panacea_pretrained::Pretrained;
use panacea_rewards::{Sample, ScoreError, Scorer, ScorerSpec, Scorers, Verdict};
use panacea_runs::{Interrupt, ProgressMode, TrainingRun};
use panacea_test_support::TinyModel;
use panacea_trainer::{
    Judges, Outcome, Quantity, References, TrainerError, Training, TrainingState,
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
    Decoder::load(
        &Pretrained::open(dir.path()).unwrap(),
        &panacea_devices::of_environment(),
    )
    .unwrap()
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
        scores: Vec::new(),
        words: panacea_data::Words::default(),
    };
    (1..=6).map(example).collect()
}

fn plan(rlhf: &str, steps: usize) -> Plan {
    resolve(&plan_text(rlhf, steps))
}

fn resolve(text: &str) -> Plan {
    Plan::resolve(Spec::from_toml(text, "test.toml"), &Overrides::default()).unwrap()
}

fn plan_text(rlhf: &str, steps: usize) -> String {
    format!(
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
        init_std = 0.02
        s = "learned"
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
    )
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

    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError> {
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
        Ok(samples.iter().map(share).map(Verdict::Score).collect())
    }
}

fn words(tokens: &[u32]) -> Result<String, BoxError> {
    let tokens = tokens.iter().filter(|&&token| token != STOP);
    let words: Vec<String> = tokens.map(|token| format!("t{token}")).collect();
    Ok(words.join(" "))
}

/// How often an answer has a token.
struct Count(&'static str);

impl Scorer for Count {
    fn name(&self) -> &str {
        self.0
    }

    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError> {
        let count = |sample: &Sample<'_>| {
            let words = sample.response.split_whitespace();
            words.filter(|word| *word == self.0).count() as f64
        };
        Ok(samples.iter().map(count).map(Verdict::Score).collect())
    }
}

/// The same for every answer.
struct Flat(&'static str, f64);

impl Scorer for Flat {
    fn name(&self) -> &str {
        self.0
    }

    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError> {
        Ok(vec![Verdict::Score(self.1); samples.len()])
    }
}

/// What a scorer says, with other numbers.
fn changed(said: Vec<Verdict>, change: impl Fn(f64) -> f64) -> Vec<Verdict> {
    let scores = said.into_iter().filter_map(Verdict::score);
    scores.map(change).map(Verdict::Score).collect()
}

fn shares(fails_at: usize) -> Vec<Box<dyn Scorer>> {
    let share = |token, fails_at| -> Box<dyn Scorer> {
        Box::new(Share {
            token,
            fails_at,
            calls: 0,
        })
    };
    vec![share("t5", fails_at), share("t6", 0)]
}

fn flat(a: f64, b: f64) -> Vec<Box<dyn Scorer>> {
    vec![Box::new(Flat("a", a)), Box::new(Flat("b", b))]
}

fn train(
    plan: &Plan,
    folder: &Path,
    interrupt: &Interrupt,
    fails_at: usize,
) -> Result<Outcome, TrainerError> {
    train_on(&prompts(), shares(fails_at), plan, folder, interrupt)
}

fn train_on(
    train: &[Example],
    scorers: Vec<Box<dyn Scorer>>,
    plan: &Plan,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Outcome, TrainerError> {
    train_with(&[], train, scorers, plan, folder, interrupt)
}

/// The same with further devices.
fn train_with(
    replicas: &[Decoder],
    train: &[Example],
    scorers: Vec<Box<dyn Scorer>>,
    plan: &Plan,
    folder: &Path,
    interrupt: &Interrupt,
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
    let judges = Judges {
        scorers: Mutex::new(Scorers::new(scorers)),
        own_scores: vec![None, None],
        decode: &words,
        stop: &[STOP],
    };
    Training {
        plan,
        model: &model,
        replicas,
        train,
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

const FORMS: [&str; 7] = [
    "advantages = \"gae\"\nsamples = 4\ngae_lambda = 1.0",
    "advantages = \"rloo\"\nsamples = 4",
    "advantages = \"grpo\"\nsamples = 4",
    "advantages = \"gdpo\"\nsamples = 4",
    "advantages = \"rloo\"\nsamples = 4\nnormalise = true\nreward_clip = 2.0",
    "advantages = \"rloo\"\nsamples = 4\nnormalise = true\nnormalise_steps = 2",
    "advantages = \"gdpo\"\nsamples = 4\nkl_target = 2.0\nkl_horizon = 4",
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

/// Prompts, answers and micro-batches are dealt to three devices, and what is learned is the same.
#[test]
fn several_devices_equal_one() {
    let replicas = [model(), model()];
    for form in FORMS {
        let place = tempfile::tempdir().unwrap();
        let text = plan_text(form, 4).replace("micro_batch_size = 4", "micro_batch_size = 2");
        let lines = |replicas: &[Decoder], name: &str| {
            let folder = place.path().join(name);
            let interrupt = Interrupt::manual();
            let plan = resolve(&text);
            train_with(replicas, &prompts(), shares(0), &plan, &folder, &interrupt).unwrap();
            metrics(&folder)
        };
        // What is learned from given answers is the same bit by bit. Answers are not: as many are written at once as go to a
        // device, and products round by how many rows they have.
        let (three, one) = (lines(&replicas, "three"), lines(&[], "one"));
        assert_eq!(three.len(), 4);
        for (three, one) in three.iter().zip(&one) {
            for key in ["aggregate", "kl", "entropy", "answer_tokens", "grad_norm"] {
                let [three, one] = [three, one].map(|line| line[key].as_f64().unwrap());
                let difference = (three - one).abs();
                assert!(
                    difference < 1e-4 * one.abs().max(0.01),
                    "{form}, {key}: {three}, {one}"
                );
            }
        }
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
    let run = panacea_runs::RunFolder::open(&folder).unwrap();
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
    let form = format!("{}\nmax_kl = 0.3", FORMS[1]);
    let folder = place.path().join("run");
    let error = train(&plan(&form, 60), &folder, &Interrupt::manual(), 0).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("rlhf.max_kl = 0.3"), "{message}");
    stopped_with_a_checkpoint(&error, &folder);
}

#[test]
fn a_critic_that_diverges_stops_the_run() {
    // Advantages are whitened, so the policy's own gradient is an ordinary one.
    struct Large(Count);
    impl Scorer for Large {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError> {
            self.0
                .score(samples)
                .map(|said| changed(said, |score| 1e9 * score))
        }
    }
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    let scorers: Vec<Box<dyn Scorer>> =
        vec![Box::new(Large(Count("t5"))), Box::new(Large(Count("t6")))];
    let plan = plan(FORMS[0], 4);
    let error = train_on(&prompts(), scorers, &plan, &folder, &Interrupt::manual()).unwrap_err();
    let TrainerError::Diverged(divergence) = &error else {
        panic!("{error}");
    };
    assert_eq!(divergence.quantity, Quantity::CriticGradientNorm);
    assert!(divergence.value > 1e4, "{error}");
    let message = error.to_string();
    assert!(message.contains("rlhf.normalise"), "{message}");
}

/// The state before the step that failed is kept.
fn stopped_with_a_checkpoint(error: &TrainerError, folder: &Path) {
    let TrainerError::Collapsed(collapse) = error else {
        panic!("{error}");
    };
    let run = panacea_runs::RunFolder::open(folder).unwrap();
    let checkpoint = run.latest_checkpoint().unwrap().unwrap();
    assert_eq!(checkpoint.step + 1, collapse.step);
}

#[test]
fn rewards_that_tell_no_answers_apart_stop_the_run() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    let plan = plan(FORMS[1], 40);
    let run = |scorers| train_on(&prompts(), scorers, &plan, &folder, &Interrupt::manual());
    let error = run(flat(0.25, -3.0)).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains(
            "step 20: all answers of the last 20 steps have the same rewards, a 0.25 and b -3;"
        ),
        "{message}"
    );
    stopped_with_a_checkpoint(&error, &folder);
    // It comes to the same again, since the checkpoint remembers the steps before; with other rewards it goes on.
    assert_eq!(run(flat(0.25, -3.0)).unwrap_err().to_string(), message);
    assert_eq!(run(shares(0)).unwrap(), Outcome::Finished);
}

#[test]
fn answers_that_repeat_themselves_stop_the_run() {
    let place = tempfile::tempdir().unwrap();
    let run = |form: &str, name: &str| {
        // Every t5 is rewarded, which makes answers of few words.
        let form = format!("{}\n{form}", FORMS[1]);
        let text = plan_text(&form, 30).replace("max_new_tokens = 5", "max_new_tokens = 20");
        let text = text.replace("[preference]", "[preference]\nfixed = [1.0, 0.0]");
        let text = text
            .replace("groups = 2", "")
            .replace("vertex_probability = 1.0", "");
        let text = format!("seed = 5\n{text}");
        let folder = place.path().join(name);
        let scorers: Vec<Box<dyn Scorer>> = vec![Box::new(Count("t5")), Box::new(Count("t6"))];
        let interrupt = Interrupt::manual();
        let result = train_on(&prompts(), scorers, &resolve(&text), &folder, &interrupt);
        (result, folder)
    };
    let (result, folder) = run("max_repetition = 0.04", "stopped");
    let error = result.unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("above rlhf.max_repetition = 0.04"),
        "{message}"
    );
    stopped_with_a_checkpoint(&error, &folder);
    let (result, folder) = run("max_repetition = 1.0", "finished");
    assert_eq!(result.unwrap(), Outcome::Finished);
    let shares = metrics(&folder)
        .into_iter()
        .filter_map(|line| line["repetition"].as_f64());
    assert!(shares.fold(0.0, f64::max) > 0.04);
}

#[test]
fn normalised_rewards_do_not_depend_on_scales_and_are_logged_beside_the_raw_ones() {
    /// The shares, on another scale.
    struct Scaled(Box<dyn Scorer>, f64);
    impl Scorer for Scaled {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError> {
            let scale = |score| self.1 * score + 7.0;
            self.0.score(samples).map(|said| changed(said, scale))
        }
    }
    let place = tempfile::tempdir().unwrap();
    let lines = |form: &str, scale: f64, name: &str| {
        let folder = place.path().join(name);
        let scaled = |scorer| -> Box<dyn Scorer> { Box::new(Scaled(scorer, scale)) };
        let scorers = shares(0).into_iter().map(scaled).collect();
        // As the paper's samplers do, with weights for both objectives.
        let text =
            plan_text(form, 4).replace("vertex_probability = 1.0", "vertex_probability = 0.0");
        let interrupt = Interrupt::manual();
        train_on(&prompts(), scorers, &resolve(&text), &folder, &interrupt).unwrap();
        metrics(&folder)
    };
    let of = |line: &Value, key: &str| line["objectives"]["a"][key].as_f64();
    for form in [
        "advantages = \"gae\"\nsamples = 4\n",
        "advantages = \"rloo\"\nsamples = 4\n",
    ] {
        let normalised = format!("{form}normalise = true");
        let (one, ten) = (
            lines(&normalised, 1.0, "one"),
            lines(&normalised, 10.0, "ten"),
        );
        for (one, ten) in one.iter().zip(&ten) {
            let raw = (of(one, "reward").unwrap() - 7.0) * 10.0 + 7.0;
            assert!((raw - of(ten, "reward").unwrap()).abs() < 1e-9, "{form}");
            let [found, expected] = [ten, one].map(|line| of(line, "normalised_reward").unwrap());
            assert!(
                (found - expected).abs() < 1e-6,
                "{form}: {found}, {expected}"
            );
            let [found, expected] = [ten, one].map(|line| line["aggregate"].as_f64().unwrap());
            assert!(
                (found - expected).abs() < 1e-5,
                "{form}: {found}, {expected}"
            );
        }
        // The first step's own mean is taken away from it.
        assert!(of(&one[0], "normalised_reward").unwrap().abs() < 1e-9);
        let plain = lines(form, 1.0, "plain");
        assert_eq!(of(&plain[0], "normalised_reward"), None);
        assert_eq!(of(&plain[0], "reward"), of(&one[0], "reward"));
        assert_ne!(plain[0]["grad_norm"], one[0]["grad_norm"]);
        for name in ["one", "ten", "plain"] {
            fs::remove_dir_all(place.path().join(name)).unwrap();
        }
    }
}

/// β of every step follows from the KL of the step before, and answers come nearer to the reference where the target is low.
#[test]
fn the_price_of_kl_follows_its_target() {
    let place = tempfile::tempdir().unwrap();
    let run = |form: &str, name: &str| {
        let folder = place.path().join(name);
        let form = format!("advantages = \"rloo\"\nsamples = 8\nepochs = 1\n{form}");
        let text = plan_text(&form, 60).replace("learning_rate = 2e-2", "learning_rate = 1e-2");
        let plan = resolve(&text);
        train(&plan, &folder, &Interrupt::manual(), 0).unwrap();
        metrics(&folder)
    };
    let number = |line: &Value, key: &str| line[key].as_f64().unwrap();
    let last = |lines: &[Value]| lines[40..].iter().map(|l| number(l, "kl")).sum::<f64>() / 20.0;
    let (fixed, followed) = (
        run("", "fixed"),
        run("kl_target = 0.05\nkl_horizon = 1", "followed"),
    );
    assert!(fixed.iter().all(|line| number(line, "beta") == 0.02));
    assert_eq!(number(&followed[0], "beta"), 0.02);
    for pair in followed.windows(2) {
        let excess = (number(&pair[0], "kl") / 0.05 - 1.0).clamp(-0.2, 0.2);
        let expected = number(&pair[0], "beta") * (1.0 + excess);
        assert!((number(&pair[1], "beta") - expected).abs() < 1e-12 * expected);
    }
    let (fixed, followed) = (last(&fixed), last(&followed));
    assert!(followed < 0.5 * fixed, "{followed}, {fixed}");
}

/// Mean and deviation are those of the answers of the first steps, are logged, and stand still afterwards.
#[test]
fn what_normalises_rewards_stands_still_after_its_steps() {
    let place = tempfile::tempdir().unwrap();
    let run = |form: &str, name: &str| {
        let folder = place.path().join(name);
        let form = format!("advantages = \"rloo\"\nsamples = 4\nnormalise = true\n{form}");
        train(&plan(&form, 5), &folder, &Interrupt::manual(), 0).unwrap();
        (metrics(&folder), folder)
    };
    let of = |line: &Value, key: &str| line["objectives"]["a"][key].clone();
    let number = |line: &Value, key: &str| of(line, key).as_f64().unwrap();
    let scale = |line: &Value, key: &str| of(line, "scale")[key].as_f64().unwrap();
    let (still, folder) = run("normalise_steps = 2", "still");
    let (moving, _) = run("normalise_steps = 5", "moving");
    // 24 answers a step.
    for (k, line) in moving.iter().enumerate() {
        let rewards = moving[..=k].iter().map(|line| number(line, "reward"));
        let mean = rewards.sum::<f64>() / (k + 1) as f64;
        assert_eq!(of(line, "scale")["answers"], 24 * (k + 1));
        assert!((scale(line, "mean") - mean).abs() < 1e-12, "{line}");
    }
    assert_eq!(
        still[..2]
            .iter()
            .map(|line| of(line, "scale"))
            .collect::<Vec<_>>(),
        moving[..2]
            .iter()
            .map(|line| of(line, "scale"))
            .collect::<Vec<_>>()
    );
    for line in &still[2..] {
        assert_eq!(of(line, "scale"), of(&still[1], "scale"));
        let expected = (number(line, "reward") - scale(line, "mean")) / scale(line, "deviation");
        assert!(
            (number(line, "normalised_reward") - expected).abs() < 1e-9,
            "{line}"
        );
    }
    assert_ne!(still[4]["aggregate"], moving[4]["aggregate"]);
    // What a reader of the run is told is what the metrics say.
    let run = panacea_runs::RunFolder::open(&folder).unwrap();
    let checkpoint = run.latest_checkpoint().unwrap().unwrap();
    let memory = TrainingState::rewards_of(&checkpoint.path).unwrap();
    let told = memory.scales().next().unwrap();
    assert_eq!(told.mean, scale(&still[4], "mean"));
    assert_eq!(told.deviation, scale(&still[4], "deviation"));
}

#[test]
fn what_is_beyond_the_clip_tells_no_answers_apart() {
    let place = tempfile::tempdir().unwrap();
    let norm = |clip: &str| {
        let folder = place.path().join("run");
        let plan = plan(&format!("{}\n{clip}", FORMS[1]), 1);
        train(&plan, &folder, &Interrupt::manual(), 0).unwrap();
        let line = metrics(&folder).remove(0);
        fs::remove_dir_all(&folder).unwrap();
        line["grad_norm"].as_f64().unwrap()
    };
    // Shares are 0, or 0.2 and more: at 1e-6 hardly a difference is left of them, at 1 all of it.
    let (all, none) = (norm(""), norm("reward_clip = 1e-6"));
    assert!(none < 1e-4 * all, "{none}, {all}");
    assert_eq!(norm("reward_clip = 1.0"), all);
}

/// Prompts with a response of their own.
fn answered() -> Vec<Example> {
    let mut examples = prompts();
    for (i, example) in examples.iter_mut().enumerate() {
        let response = (0..2 + i as u32 % 3).map(|t| 5 + (t + i as u32) % 6);
        example.responses = vec![response.chain([STOP]).collect()];
        example.judgements = vec![Judgement {
            response: 0,
            against: None,
            labels: vec![Some(1.0); 2],
        }];
    }
    examples
}

/// Where no answer is better than another, what is left is the SFT loss on the records' own responses.
#[test]
fn ptx_is_supervised_fine_tuning_under_the_same_preferences() {
    let place = tempfile::tempdir().unwrap();
    let examples = answered();
    let (by_ptx, by_sft) = (place.path().join("ptx"), place.path().join("sft"));
    let text = plan_text(&format!("{}\nepochs = 1\nptx_weight = 1.0", FORMS[1]), 6);
    let text = text.replace("beta = 0.02", "beta = 1e-9");
    let interrupt = Interrupt::manual();
    train_on(
        &examples,
        flat(0.0, 0.0),
        &resolve(&text),
        &by_ptx,
        &interrupt,
    )
    .unwrap();

    let (head, rest) = text.split_once("[method]").unwrap();
    let (_, rest) = rest.split_once("[preference]").unwrap();
    let head = head
        .replace(
            "reward = { rule = \"keywords\", words = [\"t5\"] }",
            "score = \"a\"",
        )
        .replace(
            "reward = { rule = \"keywords\", words = [\"t6\"] }",
            "score = \"b\"",
        );
    let text = format!("{head}[method]\nloss = \"sft\"\nper_token = true\n[preference]{rest}");
    train_on(
        &examples,
        flat(0.0, 0.0),
        &resolve(&text),
        &by_sft,
        &interrupt,
    )
    .unwrap();

    let (ptx, sft) = (metrics(&by_ptx), metrics(&by_sft));
    for (ptx, sft) in ptx.iter().zip(&sft) {
        for (of_ptx, of_sft) in [("ptx_loss", "aggregate"), ("grad_norm", "grad_norm")] {
            let [found, expected] = [&ptx[of_ptx], &sft[of_sft]].map(|x| x.as_f64().unwrap());
            let is_close = (found - expected).abs() < 1e-4 * expected.abs();
            assert!(is_close, "{of_ptx} {found} against {expected}");
        }
        // Each objective beside what it came to under the λ that weighs it most, of the two of this step.
        for (i, name) in ["a", "b"].into_iter().enumerate() {
            for line in [ptx, sft] {
                let weights = line["lambda"].as_array().unwrap().iter();
                let most = weights
                    .map(|lambda| lambda[i].as_f64().unwrap())
                    .fold(0.0, f64::max);
                let nearest = &line["objectives"][name]["nearest"];
                assert_eq!(nearest["weight"], most, "{line}");
            }
            // Three of the six records follow each λ.
            let of = &sft["objectives"][name];
            let [all, nearest] =
                [&of["loss"], &of["nearest"]["value"]].map(|x| x.as_f64().unwrap());
            assert!(nearest > 0.0 && nearest < 2.0 * all, "{sft}");
        }
        assert!(ptx.get("token_loss").is_none() && sft["token_loss"].as_f64().unwrap() > 0.0);
    }
    // And it learns from them.
    let loss = |line: &Value| line["ptx_loss"].as_f64().unwrap();
    assert!(loss(&ptx[5]) < loss(&ptx[0]) - 0.3);
}

#[test]
fn a_record_without_a_response_cannot_be_learned_from_by_ptx() {
    let place = tempfile::tempdir().unwrap();
    let mut examples = answered();
    examples[3].responses.clear();
    let plan = plan(&format!("{}\nptx_weight = 0.5", FORMS[1]), 2);
    let folder = place.path().join("run");
    let error = train_on(&examples, shares(0), &plan, &folder, &Interrupt::manual()).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("prompts:4 has no response"), "{message}");
    assert!(message.contains("rlhf.ptx_weight = 0.5"), "{message}");
}

/// Shares, of which every so many an answer cannot be read.
struct Mumbling {
    shares: Box<dyn Scorer>,
    every: usize,
    instead: Option<f64>,
    heard: usize,
}

impl Scorer for Mumbling {
    fn name(&self) -> &str {
        "mumbling"
    }

    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError> {
        let said = self.shares.score(samples)?.into_iter().map(|verdict| {
            self.heard += 1;
            match self.heard.is_multiple_of(self.every) {
                true => Verdict::Unreadable(self.instead),
                false => verdict,
            }
        });
        Ok(said.collect())
    }
}

#[test]
fn what_judges_do_not_say_is_left_out_and_counted() {
    let place = tempfile::tempdir().unwrap();
    let judge = r#"reward = { endpoint = "http://localhost/v1", model = "m", instruction = "i" }"#;
    let run = |form: &str, every: usize, instead: Option<f64>, name: &str| {
        let text = plan_text(form, 2);
        let rule = r#"reward = { rule = "keywords", words = ["t5"] }"#;
        assert!(text.contains(rule));
        let plan = resolve(&text.replace(rule, judge));
        let mut scorers = shares(0);
        let mumbling = Mumbling {
            shares: scorers.remove(0),
            every,
            instead,
            heard: 0,
        };
        scorers.insert(0, Box::new(mumbling));
        let folder = place.path().join(name);
        let trained = train_on(&prompts(), scorers, &plan, &folder, &Interrupt::manual());
        trained.map(|_| metrics(&folder)[0].clone())
    };
    for (index, form) in FORMS.into_iter().enumerate() {
        // 6 prompts with 4 answers each.
        let line = run(form, 6, None, &format!("some-{index}")).unwrap();
        let [a, b] = ["a", "b"].map(|name| &line["objectives"][name]);
        assert_eq!((&a["unreadable"], &a["labelled"]), (&json!(4), &json!(20)));
        assert_eq!((b.get("unreadable"), &b["labelled"]), (None, &json!(20)));
        let line = run(form, 6, Some(0.25), &format!("instead-{index}")).unwrap();
        let a = &line["objectives"]["a"];
        assert_eq!((&a["unreadable"], &a["labelled"]), (&json!(4), &json!(24)));
    }
    let error = run(FORMS[0], 1, None, "none").unwrap_err().to_string();
    let said = "step 1: 0 of 24 answers have a reward";
    assert!(error.starts_with(said), "{error}");
    // Every prompt has one answer left, which has none to be compared with.
    let plan = FORMS[1].replace("samples = 4", "samples = 2");
    let error = run(&plan, 2, None, "alone").unwrap_err().to_string();
    let said = "step 1: 6 of 12 answers have a reward";
    assert!(error.starts_with(said), "{error}");
}

/// A record's own response has the record's words and its score; one that is cut is known by what is left of it.
#[test]
fn own_responses_are_known_by_their_tokens() {
    let mut example = prompts().remove(0);
    example.responses = vec![vec![5, 6], vec![7, STOP]];
    example.words.responses = vec!["five six seven".into(), "seven".into()];
    example.scores = vec![vec![Some(2.5), None], vec![Some(-1.0), None]];
    let spec = json!({"score": "warmth", "otherwise": -9.0});
    let scorer: ScorerSpec = serde_json::from_value(spec).unwrap();
    let judges = Judges {
        scorers: Mutex::new(Scorers::new(vec![scorer.build().unwrap()])),
        own_scores: vec![Some("warmth".to_owned()), None],
        decode: &words,
        stop: &[STOP],
    };
    let answers: [&[u32]; 5] = [&[5, 6], &[7], &[5, 7], &[7, STOP], &[5, 6, STOP]];
    let answers = answers.map(|tokens| (&example, tokens));
    let scored = judges.score(&answers).unwrap();
    let found: Vec<(&str, f64)> = (scored.iter())
        .map(|scored| (scored.text.as_str(), scored.rewards().unwrap()[0]))
        .collect();
    let cut = ("t5 t6", 2.5);
    assert_eq!(
        found,
        [cut, ("seven", -1.0), ("t5 t7", -9.0), ("seven", -1.0), cut]
    );
}
