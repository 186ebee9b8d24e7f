//! Whole trainings of a tiny model: what a run leaves behind, and that nothing it leaves depends on where it was
//! interrupted.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn_tensor::{Tensor, TensorData};
use panacea_config::{Learning, Overrides, Plan, Spec};
use panacea_data::{Example, Judgement, Source};
use panacea_model::{Decoder, MemoryPolicy, Steering, ValueHead};
use panacea_objectives::{Aggregation, Loss, Preference, Sft};
use panacea_pretrained::Pretrained;
use panacea_runs::{Interrupt, ProgressMode, RunFolder, TrainingRun};
use panacea_svd_lora::{Adapters, Part};
use panacea_test_support::{Noise, TinyModel};
use panacea_trainer::{
    Lanes, Objective, Outcome, Prepared, References, Training, TrainingState, batch_gradient,
    response_log_probs,
};
use serde_json::{Value, json};

const VOCABULARY: u32 = 40;

const KTO: &str =
    "[method]\nloss = \"kto\"\nbeta = 0.4\nundesirable_weight = 0.7\n[preference]\ngroups = 2";

const REWARD_MODEL: &str = "[method]\nname = \"reward-model\"\nmargin = 0.2\ncentering = 0.1";

fn model() -> Decoder {
    let config = json!({
        "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4,
        "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2
    });
    let dir = tempfile::tempdir().unwrap();
    TinyModel::well_behaved(config, 0.4).write_without_tokenizer(dir.path());
    Decoder::load(
        &Pretrained::open(dir.path()).unwrap(),
        &panacea_devices::of_environment(),
    )
    .unwrap()
}

/// Responses of random tokens; every third record lacks the second objective.
fn examples(count: usize, responses: usize) -> Vec<Example> {
    let mut noise = Noise(11);
    let mut tokens = |count: u32| -> Vec<u32> {
        (0..count)
            .map(|_| 3 + noise.next() % (VOCABULARY - 3))
            .collect()
    };
    (0..count)
        .map(|line| Example {
            source: Source {
                file: "made-up".into(),
                line: line + 1,
            },
            prompt: tokens(3 + line as u32 % 4),
            responses: (0..responses)
                .map(|i| tokens(2 + (line + i) as u32 % 5))
                .collect(),
            judgements: judgements(line, responses),
            scores: Vec::new(),
            words: panacea_data::Words::default(),
        })
        .collect()
}

/// Responses that are good or bad by themselves, with one to another prompt behind each.
fn unpaired(count: usize) -> Vec<Example> {
    let mut examples = examples(count, 1);
    let first: Vec<Vec<u32>> = examples.iter().map(|of| of.responses[0].clone()).collect();
    for (index, example) in examples.iter_mut().enumerate() {
        example.responses.push(first[(index + 1) % count].clone());
    }
    examples
}

/// Every two responses compared, or the only one judged.
fn judgements(line: usize, responses: usize) -> Vec<Judgement> {
    let labels = |pair: usize| {
        vec![
            Some(((line + pair) % 2) as f64),
            (!line.is_multiple_of(3)).then_some(0.2 + 0.3 * (pair % 3) as f64),
        ]
    };
    if responses == 1 {
        return vec![Judgement::single(labels(0))];
    }
    (0..responses)
        .flat_map(|first| (first + 1..responses).map(move |second| (first, second)))
        .map(|(first, second)| Judgement::pair(first, second, labels(first + second)))
        .collect()
}

fn plan(more: &str) -> Plan {
    let text = format!(
        r#"
        [model]
        path = "tiny"
        [data]
        train = "made-up"
        eval = "made-up too"
        [[objective]]
        name = "first"
        score = "first"
        [[objective]]
        name = "second"
        score = "second"
        [adapter]
        rank = 3
        init_std = 0.02
        orthogonality = 1e-3
        [optimizer]
        steps = 7
        batch_size = 4
        micro_batch_size = 3
        learning_rate = 1e-2
        [evaluation]
        every = 3
        records = 4
        [checkpoint]
        every = 2
        keep = 10
        {more}"#
    );
    Plan::resolve(Spec::from_toml(&text, "test.toml"), &Overrides::default()).unwrap()
}

/// Trains in a new folder, or goes on in one that is there.
fn train(plan: &Plan, model: &Decoder, folder: &Path, interrupt: &Interrupt) -> Outcome {
    train_with(&[], plan, model, folder, interrupt)
}

/// The same with further devices.
fn train_with(
    replicas: &[Decoder],
    plan: &Plan,
    model: &Decoder,
    folder: &Path,
    interrupt: &Interrupt,
) -> Outcome {
    let run = if folder.exists() {
        TrainingRun::resume(folder).unwrap()
    } else {
        TrainingRun::create(folder).unwrap()
    };
    let state = match run.folder().latest_checkpoint().unwrap() {
        Some(checkpoint) => TrainingState::load(plan, model, &checkpoint.path).unwrap(),
        None => TrainingState::new(plan, model, "fingerprint").unwrap(),
    };
    // What marks a folder as that of a run.
    fs::write(run.folder().run_toml(), "").unwrap();
    let (mut train, mut eval) = (examples(10, 2), examples(6, 2));
    if plan.method().learning.needs_kl() {
        (train, eval) = (unpaired(10), unpaired(6));
    }
    let training = Training {
        plan,
        model,
        replicas,
        train: &train,
        eval: &eval,
        references: &References::in_memory(),
        judges: None,
    };
    training
        .run(state, &run, interrupt, ProgressMode::Hidden)
        .unwrap()
}

/// The lines of `metrics.jsonl` without what time and memory say.
fn metrics(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(RunFolder::open(folder).unwrap().metrics()).unwrap();
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        for key in ["seconds", "tokens_per_s", "peak_memory_bytes"] {
            value.as_object_mut().unwrap().remove(key);
        }
        value
    };
    text.lines().map(line).collect()
}

/// Every file below `folder`, by its path there.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let below = files(&entry.path()).into_iter();
            found.extend(below.map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
        } else {
            found.push((name, fs::read(entry.path()).unwrap()));
        }
    }
    found.sort();
    found
}

fn assert_same_result(found: &Path, expected: &Path) {
    assert_eq!(metrics(found), metrics(expected));
    for part in ["adapter", "checkpoints/000007"] {
        let (found, expected) = (files(&found.join(part)), files(&expected.join(part)));
        assert!(expected.len() >= 2, "{part} holds {} files", expected.len());
        for ((name, found), (other, expected)) in found.iter().zip(&expected) {
            assert_eq!(name, other);
            assert!(found == expected, "{part}/{name} differs");
        }
        assert_eq!(found.len(), expected.len(), "{part}");
    }
}

/// What is learned depends on the micro-batches and not on how many devices they are dealt to; with 4 records in
/// micro-batches of 1, three devices have a full round and one that is not.
#[test]
fn several_devices_equal_one() {
    let place = tempfile::tempdir().unwrap();
    let replicas = [model(), model()];
    for (more, aggregation) in [("", "linear"), ("", "tchebycheff"), (KTO, "linear")] {
        let mut set = vec![
            "optimizer.micro_batch_size=1".to_owned(),
            format!("method.aggregation={aggregation:?}"),
        ];
        if aggregation == "tchebycheff" {
            set.push("method.ideal=[-0.5, -0.25]".to_owned());
        }
        let overrides = Overrides {
            set,
            ..Overrides::default()
        };
        let plan = Plan::resolve(plan(more).to_spec(), &overrides).unwrap();
        let [one, three] = ["one", "three"].map(|name| {
            place
                .path()
                .join(format!("{name} {} {}", more.len(), plan.method().label()))
        });
        train(&plan, &model(), &one, &Interrupt::manual());
        train_with(&replicas, &plan, &model(), &three, &Interrupt::manual());
        assert_same_result(&three, &one);
    }
}

#[test]
fn resume_equals_an_uninterrupted_run_bit_for_bit() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    for more in [
        "",
        "[preference]\ngroups = 2\n[method]\naggregation = \"tchebycheff\"",
        REWARD_MODEL,
        KTO,
    ] {
        let plan = plan(more);
        let whole = dir.path().join(format!("whole {}", more.len()));
        assert_eq!(
            train(&plan, &model, &whole, &Interrupt::manual()),
            Outcome::Finished
        );
        // A reward model is evaluated once, since it follows no preference; others at two vertices and the centre.
        let evaluated = if more == REWARD_MODEL { 1 } else { 3 };
        assert_eq!(metrics(&whole).len(), 7 + 2 * evaluated);

        // Asked to stop in the first step, and again in the first one after that.
        let stopped = dir.path().join(format!("stopped {}", more.len()));
        for step in 1..=2 {
            let interrupt = Interrupt::manual();
            interrupt.request();
            let outcome = train(&plan, &model, &stopped, &interrupt);
            assert_eq!(outcome, Outcome::Interrupted { step });
        }
        assert_eq!(
            train(&plan, &model, &stopped, &Interrupt::manual()),
            Outcome::Finished
        );
        assert_same_result(&stopped, &whole);

        // Killed after step 5: its last checkpoint is that of step 4, its metrics reach further.
        let killed = dir.path().join(format!("killed {}", more.len()));
        for (path, bytes) in files(&whole) {
            let is_later = ["adapter/", "checkpoints/000006", "checkpoints/000007"];
            if !is_later.iter().any(|later| path.starts_with(later)) {
                fs::create_dir_all(killed.join(&path).parent().unwrap()).unwrap();
                fs::write(killed.join(&path), bytes).unwrap();
            }
        }
        assert_eq!(
            train(&plan, &model, &killed, &Interrupt::manual()),
            Outcome::Finished
        );
        assert_same_result(&killed, &whole);
    }
}

#[test]
fn the_same_seed_gives_the_same_metrics_and_another_seed_others() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let run = |name: &str, plan: &Plan| {
        let folder = dir.path().join(name);
        train(plan, &model, &folder, &Interrupt::manual());
        metrics(&folder)
    };
    let first = run("first", &plan(""));
    assert_eq!(first, run("again", &plan("")));
    let text = Spec::from_toml(
        "seed = 18\n[model]\npath = \"tiny\"\n[data]\ntrain = \"made-up\"\n[[objective]]\nname = \"first\"\n\
         score = \"first\"\n[[objective]]\nname = \"second\"\nscore = \"second\"\n[optimizer]\nsteps = 7\n",
        "test.toml",
    );
    let other = Plan::resolve(text, &Overrides::default()).unwrap();
    assert_ne!(first[1]["lambda"], run("other", &other)[1]["lambda"]);
}

#[test]
fn a_reward_model_learns_what_is_preferred() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let overrides = Overrides {
        set: vec!["optimizer.steps=60".into(), "adapter.rank=4".into()],
        ..Overrides::default()
    };
    let spec = plan("[method]\nname = \"reward-model\"").to_spec();
    let plan = Plan::resolve(spec, &overrides).unwrap();
    let folder = dir.path().join("rewards");
    train(&plan, &model, &folder, &Interrupt::manual());
    let lines = metrics(&folder);
    let steps: Vec<&Value> = lines
        .iter()
        .filter(|line| line["kind"] == "train")
        .collect();
    let loss = |steps: &[&Value]| -> f64 {
        let losses = steps.iter().map(|line| line["aggregate"].as_f64().unwrap());
        losses.sum::<f64>() / steps.len() as f64
    };
    // A new head gives every response 0, and so every pair log 2.
    let untaught = steps[0]["aggregate"].as_f64().unwrap();
    assert!(
        (untaught - std::f64::consts::LN_2).abs() < 1e-6,
        "{untaught}"
    );
    assert!(
        loss(&steps[50..]) < 0.5 * untaught,
        "{}",
        loss(&steps[50..])
    );
    assert_eq!(steps[59]["objectives"]["first"]["accuracy"], 1.0);
    assert_eq!(steps[59]["lambda"], json!([0.5, 0.5]));
}

#[test]
fn what_is_kept_of_a_forward_pass_changes_no_number() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let [kept, recomputed] = ["keep", "recompute"].map(|activations| {
        let folder = dir.path().join(activations);
        let overrides = Overrides {
            set: vec![format!("optimizer.activations=\"{activations}\"")],
            ..Overrides::default()
        };
        let spec = plan("").to_spec();
        let plan = Plan::resolve(spec, &overrides).unwrap();
        train(&plan, &model, &folder, &Interrupt::manual());
        metrics(&folder)
    });
    assert_eq!(kept, recomputed);
}

#[test]
fn a_held_s_stays_and_everything_else_learns() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let overrides = Overrides {
        set: vec!["adapter.s=0.5".into(), "optimizer.weight_decay=0.1".into()],
        ..Overrides::default()
    };
    let plan = Plan::resolve(plan("").to_spec(), &overrides).unwrap();
    train(
        &plan,
        &model,
        &dir.path().join("held"),
        &Interrupt::manual(),
    );
    let folder = RunFolder::open(&dir.path().join("held")).unwrap();
    let adapters = Adapters::load(&folder.adapter(), &panacea_devices::of_environment()).unwrap();
    for factors in adapters.factors.0.values() {
        assert_eq!(factors.s.clone().into_scalar::<f32>(), 0.5);
        assert!(factors.sigma.clone().abs().max().into_scalar::<f32>() > 0.0);
    }
}

/// The gradient of the aggregate over a batch, some of whose records lack an objective, along random
/// directions of every kind of parameter, against central differences; DPO, KTO, SFT and reward models, both
/// aggregations. KTO's z₀ is at its bound of 0 here, so that it does not move with the parameters.
#[test]
fn the_gradient_of_a_batch_is_the_slope_of_its_aggregate() {
    let model = model();
    let loss_of = |method| match plan(method).method().learning {
        Learning::Supervised(loss) => loss,
        Learning::Rlhf(_) => panic!("it learns from records"),
    };
    let dpo = loss_of("");
    let sft = |per_token| Loss::Sft(Sft { per_token });
    let rewards = loss_of(REWARD_MODEL);
    let kto = loss_of(KTO);
    let tchebycheff = Aggregation::Tchebycheff {
        ideal: Vec::new(),
        smoothing: 0.0,
    };
    let preference = Preference::new(vec![0.35, 0.65]).unwrap();
    let losses = [
        (dpo, 2),
        (dpo, 3),
        (sft(false), 1),
        (sft(true), 1),
        (rewards, 2),
        (rewards, 3),
        (kto, 1),
    ];
    for (loss, responses) in losses {
        let examples = match loss.needs_kl() {
            true => unpaired(5),
            false => examples(5, responses),
        };
        let mut references: Vec<Vec<f64>> = examples
            .iter()
            .map(|example| {
                example
                    .responses
                    .iter()
                    .map(|r| -3.5 * r.len() as f64)
                    .collect()
            })
            .collect();
        if loss.needs_kl() {
            for reference in &mut references {
                reference[1] = 0.0;
            }
        }
        let batch: Vec<Prepared<'_>> = examples
            .iter()
            .zip(&references)
            .map(|(example, reference)| Prepared { example, reference })
            .collect();
        let method = match loss {
            Loss::BradleyTerry(_) => REWARD_MODEL,
            _ => "",
        };
        let mut state = TrainingState::new(&plan(method), &model, "fingerprint").unwrap();
        if let Some(head) = state.adapters.factors.0.get_mut(ValueHead::NAME) {
            let mut noise = Noise(3);
            let values = (0..2 * 16).map(|_| noise.weight() * 0.1).collect();
            let values = TensorData::new::<f32, _>(values, [2, 16]);
            head.u = Tensor::from_data(values, &panacea_devices::of_environment());
        }
        for factors in state.adapters.factors.0.values_mut() {
            factors.u = factors.u.clone() * 10.0;
            factors.v = factors.v.clone() * 10.0;
            factors.sigma = factors.sigma.ones_like() * 0.2;
            factors.s = factors.s.ones_like() * 0.3;
        }
        for aggregation in [&Aggregation::Linear, &tchebycheff] {
            let at = |state: &TrainingState| {
                let objective = Objective {
                    loss: &loss,
                    aggregation,
                };
                let preferences = std::slice::from_ref(&preference);
                let memory = MemoryPolicy::Keep;
                batch_gradient(
                    &Lanes::one(&model, &state.adapters),
                    objective,
                    &batch,
                    preferences,
                    2,
                    memory,
                )
                .unwrap()
            };
            let result = at(&state);
            let mut noise = Noise(23);
            for part in Part::ALL {
                let direction: Vec<(String, Tensor<2>)> = (state.adapters.factors.0.iter())
                    .map(|(name, factors)| {
                        let shape = factors.part(part).dims();
                        let values = (0..shape[0] * shape[1]).map(|_| noise.weight()).collect();
                        let direction = Tensor::from_data(
                            TensorData::new::<f32, _>(values, shape),
                            &panacea_devices::of_environment(),
                        );
                        (name.clone(), direction)
                    })
                    .collect();
                let expected: f64 = direction
                    .iter()
                    .map(|(name, direction)| {
                        let gradient = result.gradients.0[name].part(part).clone();
                        f64::from((gradient * direction.clone()).sum().into_scalar::<f32>())
                    })
                    .sum();
                let moved = |h: f64| {
                    let mut state = state.clone();
                    for (name, direction) in &direction {
                        let tensor =
                            (state.adapters.factors.0.get_mut(name).unwrap()).part_mut(part);
                        *tensor = tensor.clone() + direction.clone() * h;
                    }
                    at(&state).aggregate
                };
                let h = 3e-4;
                let slope = (moved(h) - moved(-h)) / (2.0 * h);
                assert!(
                    (slope - expected).abs() < 1e-2 * (slope.abs() + 0.1),
                    "{loss:?} {} {}: {expected} against {slope}",
                    aggregation.name(),
                    part.name()
                );
            }
        }
    }
}

/// What KTO's labels call good is "chosen" in the metrics, and what they call bad is "rejected".
#[test]
fn kto_tells_good_and_bad_responses_apart_in_its_metrics() {
    let (model, dir) = (model(), tempfile::tempdir().unwrap());
    let folder = dir.path().join("kto");
    train(&plan(KTO), &model, &folder, &Interrupt::manual());
    let lines = metrics(&folder);
    let steps = lines.iter().filter(|line| line["kind"] == "train");
    let mut both = 0;
    for step in steps {
        let levels = &step["objectives"]["first"]["log_prob"];
        let [chosen, rejected] =
            ["policy_chosen", "policy_rejected"].map(|key| levels[key].as_f64());
        both += usize::from(chosen.is_some() && rejected.is_some());
        assert!(chosen.is_some() || rejected.is_some(), "{step}");
    }
    assert!(both >= 3, "{both} steps with good and bad responses");
}

/// z₀ > 0 shifts what a response is compared with, as if the reference thought that much more of it; every group of λ
/// has its own.
#[test]
fn kto_compares_with_how_far_its_group_has_moved() {
    let model = model();
    let plan = plan(KTO);
    let Learning::Supervised(loss) = &plan.method().learning else {
        panic!("it learns from records");
    };
    let mut state = TrainingState::new(&plan, &model, "fingerprint").unwrap();
    for factors in state.adapters.factors.0.values_mut() {
        factors.u = factors.u.clone() * 10.0;
        factors.v = factors.v.clone() * 10.0;
        factors.s = factors.s.ones_like() * 0.3;
    }
    let preferences = [[0.9, 0.1], [0.2, 0.8]].map(|w| Preference::new(w.to_vec()).unwrap());
    let examples = unpaired(5);
    let gradient = |references: &[Vec<f64>], micro_batch_size| {
        let prepared = examples.iter().zip(references);
        let batch: Vec<Prepared<'_>> = prepared
            .map(|(example, reference)| Prepared { example, reference })
            .collect();
        let objective = Objective {
            loss,
            aggregation: &Aggregation::Linear,
        };
        let lanes = Lanes::one(&model, &state.adapters);
        batch_gradient(
            &lanes,
            objective,
            &batch,
            &preferences,
            micro_batch_size,
            MemoryPolicy::Keep,
        )
        .unwrap()
    };
    let adapters = Arc::new(state.adapters.clone());
    let log_ratio = |record: usize, reference: f64| {
        let steering = Steering {
            adapters: Arc::clone(&adapters),
            preference: preferences[record % 2].weights().to_vec(),
        };
        let log_probs = response_log_probs(&model, Some(&steering), &examples[record]).unwrap();
        log_probs[1] - reference
    };
    let far: Vec<Vec<f64>> = (0..5)
        .map(|record| vec![-15.0, -30.0 - record as f64])
        .collect();
    let ratio = |record: usize| log_ratio(record, far[record][1]);
    let z = [
        (ratio(0) + ratio(2) + ratio(4)) / 3.0,
        (ratio(1) + ratio(3)) / 2.0,
    ];
    assert!(z[0] > 1.0 && z[1] > 1.0 && z[0] != z[1], "{z:?}");
    // The same with z₀ in the reference of the response itself, and none of its own.
    let shifted: Vec<Vec<f64>> = (0..5)
        .map(|record| vec![-15.0 + z[record % 2], 0.0])
        .collect();
    let (found, expected) = (gradient(&far, 2), gradient(&shifted, 5));
    assert!((found.aggregate - expected.aggregate).abs() < 1e-5);
    for (name, factors) in &found.gradients.0 {
        let expected = &expected.gradients.0[name];
        for part in Part::ALL {
            let difference = factors.part(part).clone() - expected.part(part).clone();
            let [difference, size] = [difference, expected.part(part).clone()]
                .map(|tensor| tensor.abs().max().into_scalar::<f32>());
            assert!(
                difference <= 1e-4 * size + 1e-7,
                "{name}: {difference} of {size}"
            );
        }
    }
}
