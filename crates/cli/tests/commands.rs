//! The binary as a user meets it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn panacea(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_panacea"));
    command.args(arguments).output().unwrap()
}

/// The folder that a user of the project stands in.
fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn the_cpu_is_among_the_devices() {
    let output = panacea(&["devices"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("flex"));
}

#[test]
fn a_device_that_nobody_knows_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_panacea"));
    let command = command.args(["train", "--device", "banana"]);
    let output = command.current_dir(project()).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && message.contains("banana"),
        "{message}"
    );
}

/// The first two commands of README, cut short: a front beside the exact one, from data and a model that ship with the
/// project.
#[test]
fn the_quickstart_is_trained_and_measured_against_the_exact_front() {
    let place = tempfile::tempdir().unwrap();
    let run = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_panacea"));
        command.args(arguments.split(' ')).current_dir(project());
        let output = command.arg("--runs").arg(place.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    run("train --steps 5 --run first");
    run("eval-front --run first --prompts 1 --max-new-tokens 8");
    let front = fs::read_to_string(place.path().join("first/evaluations/001/front.json")).unwrap();
    let front: serde_json::Value = serde_json::from_str(&front).unwrap();
    let indicators = &front["methods"][0]["indicators"];
    let ratio = indicators["hypervolume_ratio"].as_f64().unwrap();
    assert!(0.0 < ratio && ratio < 1.0, "{ratio} after five steps");
}

#[test]
fn the_quickstart_is_trained_and_measured_in_any_folder() {
    let place = tempfile::tempdir().unwrap();
    let run = |folder: &str, arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_panacea"));
        let command = command.args(arguments.split(' '));
        let output = command.current_dir(place.path().join(folder)).output();
        let output = output.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}: {told}");
        (String::from_utf8(output.stdout).unwrap(), told)
    };
    let (out, told) = run("", "train --steps 2 --run first");
    assert!(told.contains("its records are in quickstart;"), "{told}");
    assert!(
        out.contains("next      panacea eval-front --run first"),
        "{out}"
    );
    let front = "eval-front --run first --divisions 2 --prompts 1 --max-new-tokens 4";
    run("", front);

    // From another folder the run's model and records are found where they were.
    fs::create_dir(place.path().join("elsewhere")).unwrap();
    let (out, _) = run("elsewhere", &format!("{front} --runs ../runs"));
    assert!(out.contains("front.html"), "{out}");
    let ask = "generate --runs ../runs --run first --preference detail=1 --prompt hi --max-new-tokens 2 --json";
    let (out, told) = run("elsewhere", ask);
    assert!(
        out.contains(r#""preference":{"brevity":0.0,"detail":1.0}"#),
        "{out}"
    );
    assert!(told.contains("λ: brevity=0,detail=1"), "{told}");
    fs::write(
        place.path().join("elsewhere/records.jsonl"),
        "{\"prompt\": \"a\", \"response\": \"b\"}\n",
    )
    .unwrap();
    run(
        "elsewhere",
        "score --runs ../runs --run first --preference 1,1 --input records.jsonl",
    );
    run(
        "elsewhere",
        "export --runs ../runs --run first --preference 1,1 --format peft --out peft",
    );
    run("elsewhere", "train --runs ../runs --run first --resume");

    // What somebody changed stays, and is said.
    let configuration = place.path().join("quickstart/quickstart.toml");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("seed = 17", "seed = 18")).unwrap();
    let (_, told) = run("", "train --steps 1 --run second");
    assert!(
        told.contains("warning: quickstart/quickstart.toml is not as"),
        "{told}"
    );
    let record = fs::read_to_string(place.path().join("runs/second/run.toml")).unwrap();
    assert!(record.contains("seed = 18"), "{record}");
}

#[test]
fn what_is_told_is_nothing_or_text_or_json() {
    let place = tempfile::tempdir().unwrap();
    let run = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_panacea"));
        let command = command.args(arguments.split(' '));
        let output = command.current_dir(place.path()).output().unwrap();
        let [out, told] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{arguments}: {told}");
        (out, told)
    };
    let front = "eval-front --run first --divisions 1 --prompts 1 --max-new-tokens 2";
    let (out, told) = run("train --steps 2 --run first --quiet --set logging.mlflow=mlruns");
    let run_of_mlflow = fs::read_to_string(place.path().join("runs/first/mlflow-run")).unwrap();
    let losses =
        fs::read_to_string(Path::new(&run_of_mlflow).join("metrics/loss/brevity")).unwrap();
    let steps: Vec<&str> = (losses.lines())
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    assert_eq!(steps, ["1", "2"]);
    let meta = fs::read_to_string(Path::new(&run_of_mlflow).join("meta.yaml")).unwrap();
    assert!(meta.contains("status: 3"), "{meta}");
    assert!(told.is_empty() && out.contains("next "), "{told}");
    let (out, told) = run(&format!("--quiet {front}"));
    assert!(told.is_empty() && out.contains("front.html"), "{told}");

    for arguments in [
        "train --steps 2 --run second --log-format json",
        &format!("{front} --log-format json"),
    ] {
        let (_, told) = run(arguments);
        let lines: Vec<serde_json::Value> = (told.lines())
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
            .collect();
        let has = |key: &str| lines.iter().all(|line| line[key].is_string());
        assert!(has("time") && has("level") && has("message") && !lines.is_empty());
        if arguments.starts_with("train") {
            let last = lines.iter().rfind(|line| line["event"] == "step").unwrap();
            assert_eq!((&last["step"], &last["of"]), (&2.into(), &2.into()));
            assert!(
                last["values"]["loss/brevity"].is_number() && last["remaining_seconds"].is_number()
            );
        }
    }
    let refused = panacea(&[
        "train",
        "--config",
        "none.toml",
        "--quiet",
        "--log-format",
        "json",
    ]);
    let line: serde_json::Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(line["level"], "error");
}

#[test]
fn shells_complete_every_command() {
    let help = String::from_utf8(panacea(&["--help"]).stdout).unwrap();
    let (_, listed) = help.split_once("Commands:").unwrap();
    let (listed, _) = listed.split_once("Options:").unwrap();
    let commands: Vec<&str> = (listed.lines())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"train") && commands.len() > 10, "{help}");
    let script = |shell: &str| String::from_utf8(panacea(&["completions", shell]).stdout).unwrap();
    let bash = script("bash");
    for command in commands {
        assert!(bash.contains(&format!("panacea,{command})")), "{command}");
    }
    assert!(bash.contains("--preference") && bash.contains("_panacea()"));
    assert!(script("zsh").starts_with("#compdef panacea"));
    assert!(script("fish").contains("complete -c panacea"));
    assert!(!panacea(&["completions", "tcsh"]).status.success());
}

#[test]
fn examples_call_the_program_as_it_was_called() {
    let help = |called_as: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_panacea"));
        let command = command.args(["train", "--help"]);
        command.env_remove("PANACEA_CALLED_AS");
        command.envs(called_as.map(|name| ("PANACEA_CALLED_AS", name)));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let own = help(None);
    assert!(
        own.contains("  panacea train --run first --resume") && !own.contains("cargo xtask"),
        "{own}"
    );
    let xtask = help(Some("cargo xtask"));
    assert!(xtask.contains("Usage: cargo xtask train"), "{xtask}");
    assert!(
        xtask.contains("  cargo xtask train --run first --resume"),
        "{xtask}"
    );
}

#[test]
fn the_quickstart_world_is_what_its_program_makes() {
    let mut program = Command::new("python3");
    let program = program.args(["datasets/quickstart/make_world.py", "--check"]);
    match program.current_dir(project()).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => eprintln!("not checked, for there is no python3: {error}"),
    }
}

#[test]
fn indicators_prints_one_json_object() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("points.csv");
    fs::write(&file, "1.0,0.2\n0.5,0.8\n").unwrap();
    let file = file.to_str().unwrap();
    let output = panacea(&["indicators", file, "--reference", "-0.1,-0.1", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // Two rectangles above (-0.1, -0.1): 1.1 × 0.3 + 0.6 × 0.6.
    assert!((json["hypervolume"].as_f64().unwrap() - 0.69).abs() < 1e-12);
}

#[test]
fn a_mistake_is_an_error_that_names_it() {
    for (arguments, named) in [
        (
            &["generate", "--model", "no-such-model", "--prompt", "hi"][..],
            "no-such-model",
        ),
        (
            &[
                "generate", "--model", "m", "--prompt", "hi", "--device", "banana",
            ],
            "banana",
        ),
        (&["no-such-command"], "no-such-command"),
        (&["eval-front", "--run", "no-such-run"], "no-such-run"),
        (&["train", "--config", "no-such.toml"], "no-such.toml"),
        (
            &["export", "--preference", "0.5,x", "--format", "peft"],
            "weight 2 is `x`",
        ),
        (&["export", "--format", "peft", "--fold"], "llama-lora"),
        (
            &["export", "--format", "llama-lora", "--dtype", "f16"],
            "--fold",
        ),
        (
            &["export", "--format", "gguf", "--dtype", "q4_k"],
            "f32, f16, bf16, q8_0",
        ),
    ] {
        let output = panacea(arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(
            message.contains(named) && !message.contains("panicked"),
            "{arguments:?}: {message}"
        );
    }
}

#[test]
fn a_configuration_to_begin_with_is_written_once() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("my own.toml");
    let file = file.to_str().unwrap();
    let output = panacea(&["config", "init", "--from", "sft", file]);
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        told.contains(&format!("panacea config check '{file}'")),
        "{told}"
    );
    let printed = panacea(&["config", "init", "--from", "sft"]).stdout;
    assert_eq!(fs::read(file).unwrap(), printed);

    let again = panacea(&["config", "init", "--from", "dpo", file]);
    let message = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        !again.status.success() && message.contains("a new file"),
        "{message}"
    );
    assert_eq!(fs::read(file).unwrap(), printed);
}

#[test]
fn keys_are_told_at_the_terminal() {
    let told = |arguments: &[&str]| {
        let output = panacea(&[&["config"], arguments].concat());
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8(text).expect("UTF-8"),
        )
    };
    let (is_fine, all) = told(&["keys"]);
    assert!(is_fine && all.contains("[adapter]  The SVD-LoRA"), "{all}");
    let (is_fine, rank) = told(&["keys", "adapter.rank"]);
    assert!(is_fine && rank.starts_with("adapter.rank = 8\n"), "{rank}");
    let (is_fine, unknown) = told(&["keys", "adapter.rang"]);
    assert!(
        !is_fine && unknown.contains("did you mean `adapter.rank`?"),
        "{unknown}"
    );
    let (is_fine, schema) = told(&["schema"]);
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert!(is_fine && schema["properties"]["adapter"]["properties"]["rank"].is_object());
}
