//! The folders of runs: which names are free, and what goes on.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::desk::Desk;

/// A training from rewards of a program: it fails, hangs or answers in the middle of the first step.
pub fn scored_by(program: &str) -> String {
    format!(
        "[model]\npath = \"model\"\n[data]\ntrain = \"train.jsonl\"\n\
         [[objective]]\nname = \"said\"\nreward = {{ program = [\"sh\", \"-c\", \"{program}\"] }}\n\
         [[objective]]\nname = \"short\"\nreward = {{ rule = \"conciseness\" }}\n\
         [adapter]\nrank = 2\n[method]\nloss = \"rlhf\"\n[rlhf]\nadvantages = \"rloo\"\nsamples = 2\nmax_new_tokens = 4\n\
         [optimizer]\nsteps = 1\nbatch_size = 2\n"
    )
}

/// The name of a run is free again, whatever its training failed of before a step was finished.
#[test]
fn a_training_that_never_began_leaves_its_name_free() {
    let desk = Desk::new();
    let train = "train --config run.toml --run first --steps 1";
    let begins = || {
        desk.succeed(train);
        assert!(desk.path("runs/first/adapter").exists());
        fs::remove_dir_all(desk.path("runs/first")).unwrap();
    };

    // The weights cannot be read.
    let weights = desk.path("model/model.safetensors");
    let good = fs::read(&weights).unwrap();
    let mut bad = good.clone();
    let end = bad.len();
    bad[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, bad).unwrap();
    let error = desk.fail(train);
    assert!(error.contains("NaN"), "{error}");
    assert!(!desk.path("runs/first").exists());
    fs::write(&weights, good).unwrap();
    begins();

    // The process was killed while they were read.
    fs::create_dir_all(desk.path("runs/first")).unwrap();
    desk.write("runs/first/.lock", "4711\n");
    begins();

    // The first step fails.
    desk.write("failing.toml", &scored_by("exit 1"));
    let error = desk.fail("train --config failing.toml --run first --set logging.mlflow=mlruns");
    assert!(error.contains("sh"), "{error}");
    assert!(desk.path("runs/first/run.toml").exists());
    assert!(desk.path("runs/first/mlflow-run").exists());
    begins();

    // The process is killed in the first step; as long as it lives, the name is its own.
    desk.write("hanging.toml", &scored_by("cat > /dev/null"));
    let mut child = desk
        .command("train --config hanging.toml --run first")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !desk.path("runs/first/run.toml").exists() {
        thread::sleep(Duration::from_millis(10));
        assert!(child.try_wait().unwrap().is_none(), "it ended");
    }
    let error = desk.fail(train);
    let process = format!("(process {}) is at work", child.id());
    assert!(error.contains(&process), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    begins();
}

/// A run with a step is none of these: its name is taken, though it has no checkpoint.
#[test]
fn a_training_with_a_step_keeps_its_name() {
    let desk = Desk::new();
    let more = "--set checkpoint.every=0";
    desk.succeed(&format!(
        "train --config run.toml --run first --steps 1 {more}"
    ));
    for gone in ["adapter", "checkpoints"] {
        fs::remove_dir_all(desk.path("runs/first").join(gone)).unwrap();
    }
    let metrics = fs::read(desk.path("runs/first/metrics.jsonl")).unwrap();
    let error = desk.fail("train --config run.toml --run first --steps 1");
    assert!(
        error.contains("already holds a run (without a checkpoint yet)"),
        "{error}"
    );
    assert_eq!(
        fs::read(desk.path("runs/first/metrics.jsonl")).unwrap(),
        metrics
    );
}

/// What is no name is refused wherever a run is named, before anything is read or written.
#[test]
fn a_name_is_that_of_one_folder() {
    let desk = Desk::new();
    for name in [
        "out/first",
        "../first",
        "..",
        ".first",
        "",
        "a\nb",
        "-first",
    ] {
        for command in [
            "train --config run.toml",
            "train --resume",
            "eval-front",
            "eval-front --run good --like",
            "eval-reward",
            "generate --model model --prompt hi --preference 1,0",
            "chat --model model",
            "score --model model --input train.jsonl --preference 1,0",
            "serve --model model",
            "elicit --prompts train.jsonl",
            "export --format peft --preference 1,0",
        ] {
            let (command, flag) = match command.strip_suffix(" --like") {
                Some(command) => (command, "--like"),
                None => (command, "--run"),
            };
            let output = desk.command(command).arg(format!("{flag}={name}")).output();
            let output = output.unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            let expected = format!("{name:?} cannot name a run: it ");
            assert!(
                !output.status.success() && error.contains(&expected),
                "{command}: {error}"
            );
            assert!(
                error.contains("a name is that of one folder in --runs"),
                "{error}"
            );
        }
    }
    assert!(!desk.path("runs").exists() && !desk.path("out").exists());
}

/// The steps of `metrics.jsonl`, and the learning rate of each.
fn rates(desk: &Desk, run: &str) -> Vec<(u64, f64)> {
    let metrics = fs::read_to_string(desk.path(&format!("runs/{run}/metrics.jsonl"))).unwrap();
    let lines = metrics.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["step"].as_u64().unwrap(), line["lr"].as_f64().unwrap())
    });
    lines.collect()
}

/// A finished run goes on to more steps: up to where it was it is as it was, from there on it is a run of so many.
#[test]
fn a_finished_run_goes_on_to_more_steps() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run long --steps 8");
    desk.succeed("train --config run.toml --run first --steps 4");
    let short = rates(&desk, "first");
    let output = desk.run("train --run first --resume --steps 8");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    for part in [
        "extended    from 4 to 8 steps, going on from step 4",
        "that of a run of 8 steps: step 4 had 1.000e-2, step 5 has 1.714e-2",
        "runs/first/adapter-000004",
    ] {
        assert!(error.contains(part), "no {part} in {error}");
    }
    let (long, extended) = (rates(&desk, "long"), rates(&desk, "first"));
    assert_eq!(extended[..4], short[..]);
    assert_eq!(extended[4..], long[4..]);
    assert!(
        desk.path("runs/first/adapter-000004/adapter.safetensors")
            .exists()
    );
    assert!(desk.path("runs/first/adapter/adapter.safetensors").exists());
    let record = fs::read_to_string(desk.path("runs/first/run.toml")).unwrap();
    assert!(
        record.contains("steps = 8") && record.contains("at = 4"),
        "{record}"
    );

    // It is a run of eight steps now, which cannot become one of less, and goes on to more once again.
    desk.succeed("train --run first --resume");
    assert_eq!(rates(&desk, "first"), extended);
    for fewer in ["7", "2"] {
        let error = desk.fail(&format!("train --run first --resume --steps {fewer}"));
        let expected = format!("optimizer.steps: the run has 8, now it is {fewer}");
        assert!(
            error.contains(&expected) && error.contains("can be raised"),
            "{error}"
        );
    }
    let error = desk.fail("train --run first --resume --steps 9 --set optimizer.weight_decay=0.5");
    assert!(
        error.contains("optimizer.weight_decay: the run has 0.0, now it is 0.5"),
        "{error}"
    );
    assert!(!error.contains("optimizer.steps"), "{error}");
    assert_eq!(rates(&desk, "first"), extended);
    desk.succeed("train --run first --resume --steps 9");
    assert_eq!(rates(&desk, "first").len(), 9);

    // With its checkpoints gone there is nothing to go on from, and nothing is lost.
    fs::remove_dir_all(desk.path("runs/first/checkpoints")).unwrap();
    let error = desk.fail("train --run first --resume --steps 10");
    assert!(error.contains("has no checkpoint left"), "{error}");
    desk.succeed("train --run first --resume");
    assert_eq!(rates(&desk, "first").len(), 9);
}

/// Each of the trainings that make up a run goes on to more steps.
#[test]
fn several_trainings_go_on_to_more_steps() {
    let desk = Desk::new();
    let soup = "--set method.name=\"rewarded_soups\"";
    desk.succeed(&format!(
        "train --config run.toml --run soup --steps 2 {soup}"
    ));
    desk.succeed("train --run soup --resume --steps 3");
    for member in ["soup/members/00", "soup/members/01"] {
        assert_eq!(rates(&desk, member).len(), 3);
    }
    let list = desk.succeed("runs list");
    assert!(list.contains("finished") && list.contains("6/6"), "{list}");

    // Where one of them cannot go on, all of them and the run stay as they are.
    fs::remove_dir_all(desk.path("runs/soup/members/01/checkpoints")).unwrap();
    let error = desk.fail("train --run soup --resume --steps 4");
    assert!(error.contains("has no checkpoint left"), "{error}");
    let list = desk.succeed("runs list");
    assert!(list.contains("finished") && list.contains("6/6"), "{list}");
    desk.succeed("train --run soup --resume");
}

/// The run knows its own configuration wherever one stands, and what decides no number may be another.
#[test]
fn a_run_goes_on_from_anywhere() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first --steps 2");
    let elsewhere = tempfile::tempdir().unwrap();
    let from_elsewhere = |arguments: &str| {
        let mut command = desk.command(arguments);
        let command = command.arg("--runs").arg(desk.path("runs"));
        let output = command.current_dir(elsewhere.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments}: {error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let told = from_elsewhere("train --run first --resume --device flex --steps 3");
    assert_eq!(rates(&desk, "first").len(), 3);
    // The command that is printed works where it was printed.
    let next = told
        .lines()
        .find_map(|line| line.strip_prefix("next      panacea "));
    let next = next.unwrap().split(" --runs ").next().unwrap();
    from_elsewhere(&format!("{next} --prompts 0 --divisions 1"));
    let record = fs::read_to_string(desk.path("runs/first/run.toml")).unwrap();
    assert!(record.contains("path = \"model\""), "{record}");
    desk.succeed("train --run first --resume --steps 4");
}

/// The command that is printed behind a training works as it stands, whatever the run is called and wherever it is.
#[test]
fn the_next_command_works_as_printed() {
    let desk = Desk::new();
    for (more, records) in [("", ""), (" --set data.eval=[]", " --eval FILE")] {
        let name = format!("it's {}", records.len());
        let mut command = desk.command(&format!("train --config run.toml --steps 1{more}"));
        let command = command.args(["--runs", "my runs", "--run", &name]);
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let next = told
            .lines()
            .find_map(|line| line.strip_prefix("next      panacea "));
        let next = next.unwrap_or_else(|| panic!("{told}"));
        assert_eq!(
            next,
            format!("eval-front --run \"{name}\" --runs 'my runs'{records}")
        );
        assert_eq!(
            told.contains("FILE stands for records"),
            !records.is_empty()
        );
        let program = env!("CARGO_BIN_EXE_panacea");
        let line = next.replace("FILE", "test.jsonl");
        let shell = Command::new("sh")
            .args([
                "-c",
                &format!("'{program}' {line} --prompts 0 --divisions 1"),
            ])
            .current_dir(desk.dir.path())
            .output()
            .unwrap();
        assert!(shell.status.success(), "{line}: {shell:?}");
    }
}
