//! A tiny model trained, measured, asked, scored and exported through the binary, as a user would.

mod chat;
mod configs;
mod desk;
mod evaluations;
mod handling;
mod inputs;
mod newcomer;
mod profiles;
mod runs;
mod serve;
mod templates;
#[cfg(unix)]
mod terminal;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use panacea_pretrained::Pretrained;
use safetensors::SafeTensors;
use serde_json::{Value, json};

use desk::{CONFIG, Desk, wait_for};

fn assert_close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() < 1e-3,
            "{found} against {expected}"
        );
    }
}

#[test]
fn what_a_training_takes_is_said_before_it_and_nothing_is_written() {
    let desk = Desk::new();
    let said = desk.succeed("train --config run.toml --dry-run");
    assert!(!desk.path("runs").exists());
    let word = |line: &str, place: usize| -> String {
        let line = said.lines().find(|found| found.starts_with(line)).unwrap();
        line.split_whitespace().nth(place).unwrap().replace(',', "")
    };
    assert_eq!(word("parameters", 2), "trained", "{said}");
    assert_eq!(word("evaluation", 1), "5", "{said}");
    assert!(said.contains("5 of 5 records at 11 preferences"), "{said}");
    assert!(
        said.contains("answers to 5 prompts at 3 preferences"),
        "{said}"
    );
    assert!(
        cfg!(not(target_os = "linux")) || said.contains("memory  "),
        "{said}"
    );

    // The tokens are those that the training then has; nothing is read behind the last one of a response.
    assert!(said.contains("training    30 steps, "), "{said}");
    let expected: u64 = word("training", 3).parse().unwrap();
    let (steps, records, responses) = (30, 3, 2);
    desk.succeed("train --config run.toml --run first");
    let metrics = fs::read_to_string(desk.path("runs/first/metrics.jsonl")).unwrap();
    let lines = metrics
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let tokens = lines.filter_map(|line| line["tokens"].as_u64());
    assert_eq!(tokens.sum::<u64>() + steps * records * responses, expected);

    // What is measured is said, too.
    let output = desk.run("eval-front --run first --prompts 0");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("estimate    5 of 5 records at 11 preferences: "),
        "{said}"
    );
    let output = desk.run("eval-front --run first --prompts 0 --records 2");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("estimate    2 of 5 records"), "{said}");
    assert!(said.contains("(--records all: "), "{said}");
    let error = desk.fail("eval-front --run first --records none");
    assert!(error.contains("a number from 1 on, or all"), "{error}");
}

#[test]
fn several_trainings_are_estimated_together() {
    let desk = Desk::new();
    let soup = CONFIG.replace(
        "[optimizer]",
        "[method]\nname = \"rewarded_soups\"\n[optimizer]",
    );
    desk.write("soup.toml", &soup);
    let said = desk.succeed("train --config soup.toml --dry-run");
    assert!(
        said.contains("training    2 trainings of 30 steps, "),
        "{said}"
    );
}

#[test]
fn a_run_is_trained_measured_asked_and_exported() {
    let desk = Desk::new();
    let output = desk.succeed("train --config run.toml --run first");
    assert!(output.contains("eval-front --run first"), "{output}");
    for file in [
        "run.toml",
        "metrics.jsonl",
        "adapter/adapter.safetensors",
        "adapter/svd_lora_config.json",
        "checkpoints/000030/state.json",
    ] {
        assert!(desk.path("runs/first").join(file).exists(), "{file}");
    }

    let output =
        desk.succeed("eval-front --run first --records all --prompts 2 --max-new-tokens 5");
    assert!(
        output.contains("hypervolume") && output.contains("front.html"),
        "{output}"
    );
    for file in ["front.svg", "front.png", "front.html", "report.md"] {
        let length = fs::metadata(desk.path("runs/first/evaluations/001").join(file))
            .unwrap()
            .len();
        assert!(length > 500, "{file} has {length} bytes");
    }
    let front = desk.json("runs/first/evaluations/001/front.json");
    assert_eq!(front["objectives"], json!(["helpfulness", "conciseness"]));
    let method = &front["methods"][0];
    assert_eq!(method["method"], "panacea-linear");
    assert!(method["indicators"]["hypervolume"].as_f64().unwrap() > 0.0);
    let points = method["points"].as_array().unwrap();
    assert_eq!(points.len(), 11);
    let value = |point: usize, i: usize| points[point]["values"][i].as_f64().unwrap();
    let at = |point: usize| points[point]["lambda"][0].as_f64().unwrap();
    let (helpful, concise) = if at(0) == 1.0 { (0, 10) } else { (10, 0) };
    assert!(value(helpful, 0) > value(concise, 0) && value(concise, 1) > value(helpful, 1));

    let asked = "generate --model model --run first --prompt hello --greedy --max-new-tokens 4 --preference";
    let told = desk.succeed(&format!("{asked} conciseness=7,helpfulness=3 --json"));
    assert!(
        told.contains(r#""preference":{"helpfulness":0.3,"conciseness":0.7}"#),
        "{told}"
    );
    for (weights, part) in [
        (
            "tone=1",
            "there is no objective `tone`; there are helpfulness, conciseness",
        ),
        ("helpfulness=1,2", "give every weight a name"),
        (
            "0.3,0.3,0.4",
            "the objectives of run first are helpfulness, conciseness",
        ),
        (
            "helpfulness=1,helpfulness=2",
            "`helpfulness` has two weights",
        ),
    ] {
        let error = desk.fail(&format!("{asked} {weights}"));
        assert!(error.contains(part), "{weights}: {error}");
    }

    // The run at one preference, its merged model, and its PEFT adapter applied by hand.
    desk.write(
        "records.jsonl",
        "{\"prompt\": \"what is 3?\", \"response\": \"hello world\"}\n\
         {\"prompt\": [{\"role\": \"user\", \"content\": \"hello\"}], \"response\": \"3\"}\n",
    );
    let base = desk.scores("--model model");
    let steered = desk.scores("--model model --run first --preference 0.3,0.7");
    let other = desk.scores("--model model --run first --preference 1,0");
    assert!(
        (steered[0] - base[0]).abs() > 0.05,
        "the adapter changes nothing"
    );
    assert!(
        (steered[0] - other[0]).abs() > 0.05,
        "the preference changes nothing"
    );
    desk.succeed("export --run first --preference 0.3,0.7 --format merged --out merged");
    assert_close(&desk.scores("--model merged"), &steered);
    desk.succeed("export --run first --preference 0.3,0.7 --format peft --out peft");
    apply_peft(
        &desk.path("model"),
        &desk.path("peft"),
        &desk.path("applied"),
    );
    assert_close(&desk.scores("--model applied"), &steered);

    let card = fs::read_to_string(desk.path("peft/README.md")).unwrap();
    assert!(card.contains("| train.jsonl | training | 9 |"), "{card}");
    assert!(card.contains("![") && card.contains(" ± "), "{card}");
    assert!(desk.path("peft/front.png").exists() && desk.path("merged/README.md").exists());

    desk.succeed("export --run first --preference 0.3,0.7 --format gguf --out merged.gguf");
    assert_close(&desk.scores("--model merged.gguf"), &steered);
    desk.succeed("export --base --model model --format gguf --out base.gguf");
    assert_close(&desk.scores("--model base.gguf"), &base);

    let output = desk.succeed("export --run first --format llama-lora");
    let command = "--lora-scaled 0-base.gguf:1,1-helpfulness.gguf:0.5,2-conciseness.gguf:0.5";
    assert!(output.contains(command), "{output}");
    desk.succeed("export --run first --format peft-parts");
    let output = desk.succeed(
        "export --run first --format llama-lora --fold --dtype q8_0 --preference 0.3,0.7 --out folded",
    );
    let command = "--model model.gguf --lora-scaled 0-helpfulness.gguf:0.3,1-conciseness.gguf:0.7";
    assert!(output.contains(command), "{output}");
    for file in [
        "runs/first/export-llama-lora/2-conciseness.gguf",
        "runs/first/export-peft-parts/load.py",
        "folded/model.gguf",
    ] {
        assert!(desk.path(file).exists(), "{file}");
    }

    let error = desk.fail("export --run first --preference 0.3,0.7 --format peft --out peft");
    assert!(error.contains("exists already"), "{error}");
    let error = desk.fail("export --run first --preference 0.3,0.3,0.4 --format peft --out p3");
    assert!(error.contains("helpfulness, conciseness"), "{error}");
    let error = desk.fail("train --config run.toml --run first");
    assert!(error.contains("--resume"), "{error}");
}

/// Writes the base model with W + (lora_alpha / r) B A in place of every W that the adapter names.
fn apply_peft(base: &Path, peft: &Path, out: &Path) {
    let config: Value =
        serde_json::from_slice(&fs::read(peft.join("adapter_config.json")).unwrap()).unwrap();
    let scale = config["lora_alpha"].as_f64().unwrap() / config["r"].as_f64().unwrap();
    let bytes = fs::read(peft.join("adapter_model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let matrix = |name: &str| -> (Vec<usize>, Vec<f32>) {
        let view = tensors.tensor(name).unwrap();
        let numbers = view.data().chunks_exact(4);
        let numbers = numbers.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        (view.shape().to_vec(), numbers.collect())
    };
    let pretrained = Pretrained::open(base).unwrap();
    let mut changed = BTreeMap::new();
    for name in tensors.names() {
        let Some(module) = name.strip_suffix(".lora_A.weight") else {
            continue;
        };
        let (a_shape, a) = matrix(name);
        let (b_shape, b) = matrix(&format!("{module}.lora_B.weight"));
        let (rank, d_in, d_out) = (a_shape[0], a_shape[1], b_shape[0]);
        let key = format!(
            "{}.weight",
            module.strip_prefix("base_model.model.").unwrap()
        );
        let mut tensor = pretrained.tensor(&key).unwrap();
        assert_eq!(tensor.shape, [d_out, d_in], "{key}");
        for row in 0..d_out {
            for column in 0..d_in {
                let change: f32 = (0..rank)
                    .map(|r| b[row * rank + r] * a[r * d_in + column])
                    .sum();
                tensor.data[row * d_in + column] += scale as f32 * change;
            }
        }
        changed.insert(key, tensor);
    }
    assert_eq!(changed.len(), 2 * 7, "every projection of both layers");
    panacea_pretrained::write_model(out, &pretrained, &changed).unwrap();
}

/// Specialists, then their interpolation; and a run that is asked for again goes on where it was.
#[test]
fn soups_train_a_member_for_each_objective() {
    let desk = Desk::new();
    let train =
        "train --config run.toml --run soup --set method.name=\"rewarded_soups\" --steps 20";
    desk.succeed(train);
    for member in ["00", "01"] {
        let adapter = format!("runs/soup/members/{member}/adapter/adapter.safetensors");
        assert!(desk.path(&adapter).exists(), "{adapter}");
    }
    desk.succeed(&format!("{train} --resume"));
    desk.succeed("train --config run.toml --run one --steps 20");
    let output =
        desk.succeed("eval-front --run soup --run one --records all --prompts 0 --divisions 4");
    assert!(
        output.contains("rewarded-soups") && output.contains("panacea-linear"),
        "{output}"
    );
    // What cannot become one front is refused before anything is measured, and what can hardly be compared is warned about.
    for (wrong, part) in [
        ("--run one --run one", "--run one is given twice"),
        (
            "--run one --reference 0",
            "--reference: the reference has 1 value(s)",
        ),
        ("--run one --reference 0,nan", "of objective 2 is NaN"),
        ("--run one --by rewards", "run one has no rewards"),
    ] {
        let error = desk.fail(&format!("eval-front {wrong}"));
        assert!(
            error.contains(part) && !error.contains("records"),
            "{error}"
        );
    }
    desk.succeed("train --config run.toml --run other --steps 1 --set method.beta=0.7");
    let mut both =
        desk.command("eval-front --run one --run other --prompts 0 --divisions 1 --out both");
    let both = both.output().unwrap();
    let said = String::from_utf8_lossy(&both.stderr);
    assert!(
        both.status.success() && said.contains("other by method.beta = 0.7"),
        "{said}"
    );

    let front = desk.json("runs/soup/evaluations/001/front.json");
    let soup = &front["methods"][0];
    assert_eq!(
        (soup["method"].as_str(), soup["trainings"].as_u64()),
        (Some("rewarded-soups"), Some(2))
    );
    let one = &front["methods"][1];
    assert_eq!(
        soup["bytes"].as_u64(),
        one["bytes"].as_u64().map(|bytes| 2 * bytes)
    );
    // The other commands know it as well.
    desk.succeed("generate --model model --run soup --preference 0.5,0.5 --prompt hello --greedy --max-new-tokens 2");
    desk.succeed("export --run soup --preference 0.5,0.5 --format peft --out soup-peft");
    let output = desk.succeed("export --run soup --format llama-lora");
    assert!(
        output.contains("--lora-scaled 0-helpfulness.gguf:0.5,1-conciseness.gguf:0.5"),
        "{output}"
    );
    let ends = [0, 4].map(|point| soup["points"][point]["values"][0].as_f64().unwrap());
    assert!((ends[0] - ends[1]).abs() > 1e-3, "{ends:?}");
}

/// Supervised fine-tuning on a data set per objective: what an objective is good at comes from its own file alone, every
/// step sees every file, and the preference chooses between them.
#[test]
fn styles_are_learned_each_from_its_own_file() {
    const STYLES: [(&str, &str); 3] = [
        ("wordy", "and so on"),
        ("numbers", "1 2 3"),
        ("shouting", "WHAT!"),
    ];
    let desk = Desk::new();
    let mut config = String::from("[model]\npath = \"model\"\n");
    for (style, answer) in STYLES {
        for (part, prompts) in [("train", 0..8), ("eval", 8..11)] {
            let record = |i: usize| {
                let prompt = format!("{i}?");
                format!("{}\n", json!({"prompt": prompt, "completion": answer}))
            };
            desk.write(
                &format!("{style}-{part}.jsonl"),
                &prompts.map(record).collect::<String>(),
            );
        }
        config += &format!(
            "[[objective]]\nname = \"{style}\"\ntrain = \"{style}-train.jsonl\"\neval = \"{style}-eval.jsonl\"\n"
        );
    }
    config += r#"
        [adapter]
        rank = 4
        alpha = 32
        [method]
        loss = "sft"
        per_token = true
        [preference]
        vertex_probability = 0.5
        [optimizer]
        steps = 240
        batch_size = 3
        learning_rate = 3e-2
    "#;
    desk.write("styles.toml", &config);
    desk.succeed("train --config styles.toml --run styles");
    let metrics = fs::read_to_string(desk.path("runs/styles/metrics.jsonl")).unwrap();
    for line in metrics.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for (style, _) in STYLES {
            let loss = &line["objectives"][style]["loss"];
            assert!(loss.is_number(), "no {style} record in the batch of {line}");
        }
    }

    // J_i grows with λ_i: from another style's vertex over the middle of an edge to its own.
    desk.succeed("eval-front --run styles --records all --prompts 0 --divisions 2");
    let front = desk.json("runs/styles/evaluations/001/front.json");
    let points = front["methods"][0]["points"].as_array().unwrap();
    assert_eq!(points.len(), 6);
    for (i, (style, _)) in STYLES.into_iter().enumerate() {
        let values = |weight: f64| -> Vec<f64> {
            let at = points.iter().filter(|p| p["lambda"][i] == weight);
            at.map(|p| p["values"][i].as_f64().unwrap()).collect()
        };
        let best = |weight| values(weight).into_iter().fold(f64::MIN, f64::max);
        let worst = |weight| values(weight).into_iter().fold(f64::MAX, f64::min);
        assert!(worst(1.0) > best(0.5) + 0.05, "{style}: {points:?}");
        assert!(worst(0.5) > best(0.0) + 0.05, "{style}: {points:?}");
    }
}

/// A reward model with two outputs is trained, measured, exported as a classifier, and scores the answers of a policy;
/// the classifier says the same.
#[test]
fn a_reward_model_is_trained_measured_exported_and_scores_a_policy() {
    let desk = Desk::new();
    desk.write(
        "reward.toml",
        &format!("{CONFIG}[method]\nname = \"reward-model\"\ncentering = 0.01\n"),
    );
    let said = desk.succeed("train --config reward.toml --dry-run");
    assert!(said.contains("evaluation  5 of 5 records: "), "{said}");
    desk.succeed("train --config reward.toml --run reward");
    let output = desk.succeed("eval-reward --run reward");
    assert!(output.contains("length rule"), "{output}");
    let report = desk.json("runs/reward/evaluations/001/calibration.json");
    for (i, rule) in ["longer", "shorter"].into_iter().enumerate() {
        let found = &report["objectives"][i];
        assert_eq!(found["pairs"], 5);
        assert_eq!(found["accuracy"], 1.0, "{found}");
        assert_eq!(found["baseline"], rule, "{found}");
        assert!(found["log_loss"].as_f64().unwrap() < 0.5, "{found}");
    }
    let error = desk.fail("eval-front --run reward");
    assert!(error.contains("eval-reward --run reward"), "{error}");
    for format in ["peft", "peft-parts", "llama-lora", "gguf"] {
        let error = desk.fail(&format!("export --run reward --format {format}"));
        assert!(error.contains("--format merged"), "{error}");
    }
    desk.succeed("export --run reward --format merged --out classifier");
    let error = desk.fail("train --config run.toml --model classifier --run refused");
    assert!(error.contains("sequence classifier"), "{error}");

    desk.write(
        "policy.toml",
        r#"
        [model]
        path = "model"
        [data]
        train = "train.jsonl"
        eval = "test.jsonl"
        max_response_tokens = 12
        [[objective]]
        name = "run"
        reward = { model = "runs/reward", output = "helpfulness" }
        [[objective]]
        name = "classifier"
        reward = { model = "classifier", output = "helpfulness" }
        [adapter]
        rank = 4
        [method]
        loss = "rlhf"
        [rlhf]
        advantages = "rloo"
        samples = 2
        [optimizer]
        steps = 2
        batch_size = 3
        "#,
    );
    desk.succeed("train --config policy.toml --run policy");
    let error = desk.fail("eval-reward --run policy");
    assert!(error.contains("eval-front --run policy"), "{error}");
    desk.succeed("eval-front --run policy --by rewards --records all --sampled --divisions 1 --prompts 0 --max-new-tokens 12");
    let answers =
        fs::read_to_string(desk.path("runs/policy/evaluations/001/answers.jsonl")).unwrap();
    let rewards: Vec<[f64; 2]> = (answers.lines())
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            ["run", "classifier"].map(|name| line["rewards"][name].as_f64().unwrap())
        })
        .collect();
    let (low, high) = (rewards.iter().map(|r| r[0]))
        .fold((f64::MAX, f64::MIN), |(low, high), r| {
            (low.min(r), high.max(r))
        });
    assert!(rewards.len() == 10 && high > low + 0.01, "{rewards:?}");
    let bias = rewards[0][0] - rewards[0][1];
    for [run, classifier] in &rewards {
        assert!((run - classifier - bias).abs() < 1e-4, "{rewards:?}");
    }
}

/// Policies of different losses in one picture: each by what the reinforced one was trained for.
#[test]
fn runs_are_measured_alike() {
    let desk = Desk::new();
    // Responses of one length, between which π_ref does not decide beforehand.
    let record = |i: usize| {
        let record = json!({
            "prompt": format!("what is {i}?"), "responses": ["hello a", "hello b"],
            "scores": {"helpfulness": [3.0, 1.0], "conciseness": [1.0, 3.5]}
        });
        format!("{record}\n")
    };
    desk.write("train.jsonl", &(0..9).map(record).collect::<String>());
    desk.write("test.jsonl", &(9..14).map(record).collect::<String>());
    let rewards = CONFIG
        .replace(
            "score = \"helpfulness\"",
            "reward = { score = \"helpfulness\", otherwise = 0.0 }",
        )
        .replace(
            "score = \"conciseness\"",
            "reward = { score = \"conciseness\", otherwise = 0.0 }",
        );
    let more = "[method]\nloss = \"rlhf\"\nbeta = 0.5\n[rlhf]\nadvantages = \"rloo\"\nsamples = 2\nmax_new_tokens = 8\n";
    desk.write("reinforced.toml", &format!("{rewards}{more}"));
    desk.succeed("train --config reinforced.toml --run reinforced --steps 1");
    desk.succeed("train --config run.toml --run paired");
    desk.succeed(
        "eval-front --run reinforced --run paired --like reinforced --records all --prompts 0 --divisions 2 --out both",
    );
    let front = desk.json("both/front.json");
    let value = |method: usize, point: usize| -> Vec<f64> {
        let values = &front["methods"][method]["points"][point]["values"];
        values
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap())
            .collect()
    };
    // One step of answers changes nothing, so its values are those of π_ref, and only the other moves with λ.
    assert!((value(0, 0)[0] - value(0, 2)[0]).abs() < 1e-2, "{front}");
    assert!((value(1, 0)[0] - value(1, 2)[0]).abs() > 1e-1, "{front}");
    assert!(front["exact"].is_object(), "{front}");
    let error = desk.fail("eval-front --run paired --like absent");
    assert!(error.contains("absent"), "{error}");
    desk.write(
        "other.toml",
        &CONFIG.replace("name = \"conciseness\"", "name = \"brevity\""),
    );
    desk.succeed("train --config other.toml --run other --steps 1");
    let error = desk.fail("eval-front --run other --like reinforced");
    assert!(error.contains("helpfulness, brevity"), "{error}");
}

/// The second time with no configuration: the run knows its own.
#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_resume_goes_on() {
    let desk = Desk::new();
    let mut finished = 0;
    let train = "train --config run.toml --run long --steps 100000";
    for train in [train, "train --run long --resume"] {
        let mut child = desk
            .command(train)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for(&mut child, "step ");
        let pid = child.id();
        assert!(
            // The shell's own: not every machine has a program of that name.
            Command::new("sh")
                .args(["-c", &format!("kill -INT {pid}")])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let checkpoints = fs::read_dir(desk.path("runs/long/checkpoints")).unwrap();
        let steps = checkpoints.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let last: usize = steps.max().unwrap().parse().unwrap();
        assert!(last > finished, "step {last} after step {finished}");
        finished = last;
    }
    // Every step stands in the metrics once.
    let metrics = fs::read_to_string(desk.path("runs/long/metrics.jsonl")).unwrap();
    let steps: Vec<u64> = metrics
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["step"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(steps, (1..=finished as u64).collect::<Vec<_>>());

    let error = desk.fail("train --run long --resume --set adapter.rank=3");
    assert!(error.contains("adapter.rank"), "{error}");
    assert!(!desk.path("runs/long/adapter").exists());
}

#[test]
fn a_damaged_checkpoint_says_which_one_to_go_on_from() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run cut --steps 6 --set checkpoint.every=2 --set checkpoint.keep=9");
    // As if it had stopped at its last checkpoint, when the disk was full.
    fs::remove_dir_all(desk.path("runs/cut/adapter")).unwrap();
    let newest = desk.path("runs/cut/checkpoints/000006");
    let file = newest.join("adapter.safetensors");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let resume = "train --run cut --resume";
    for command in [
        resume,
        "generate --run cut --model model --preference 1,0 --prompt hi",
    ] {
        let error = desk.fail(command);
        for part in ["000006", "adapter.safetensors", "the checkpoint of step 4"] {
            assert!(error.contains(part), "{command}: no {part} in {error}");
        }
    }
    fs::remove_dir_all(newest).unwrap();
    desk.succeed(resume);
    assert!(desk.path("runs/cut/adapter").exists());
}

#[test]
fn bad_input_is_refused_before_anything_is_written() {
    let desk = Desk::new();
    desk.write(
        "broken.jsonl",
        "{\"prompt\": \"a\", \"responses\": [\"b\", \"c\"], \"scores\": {}}\n{\"prompt\"\n",
    );
    desk.write(
        "empty.jsonl",
        "{\"prompt\": \"a\", \"responses\": [\"b\", \"\"], \"scores\": {\"helpfulness\": [1, 2]}}\n",
    );
    desk.write(
        "unlabelled.jsonl",
        "{\"prompt\": \"a\", \"responses\": [\"b\", \"c\"], \"scores\": {\"helpfulness\": [1, 2]}}\n",
    );
    desk.write("a-file", "");
    for (more, named) in [
        ("--train broken.jsonl", "broken.jsonl:2"),
        ("--train empty.jsonl", "empty.jsonl:1"),
        ("--train unlabelled.jsonl", "conciseness"),
        ("--train absent.jsonl", "absent.jsonl"),
        ("--model absent", "absent"),
        ("--device cuda:77", "flex"),
        ("--set optimizer.stepz=3", "steps"),
        ("--runs a-file", "a-file"),
    ] {
        let error = desk.fail(&format!("train --config run.toml --run refused {more}"));
        assert!(error.contains(named), "{more}: {error}");
        assert!(!desk.path("runs/refused").exists(), "{more}");
    }
    for (preference, named) in [("0,0", "all 0"), ("1.5,-0.5", "-0.5"), ("a,b", "a")] {
        let run = format!("--run x --preference={preference}");
        let error = desk.fail(&format!("generate --model model --prompt hi {run}"));
        assert!(error.contains(named), "{preference}: {error}");
    }
}

#[test]
fn a_closed_pipe_is_no_mistake() {
    let desk = Desk::new();
    let record = "{\"prompt\": \"what is 3?\", \"response\": \"hello\"}\n";
    desk.write("records.jsonl", &record.repeat(40));
    let mut child = desk
        .command("score --model model --input records.jsonl")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut error = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut error)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{error}");
    assert!(!error.contains("error"), "{error}");
}
