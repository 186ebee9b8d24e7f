//! The folders of runs: which names are free, what goes on, what is kept, and the commands that handle them.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::desk::Desk;

/// A training from rewards of a program: it fails, hangs or answers in the middle of the first step.
fn scored_by(program: &str) -> String {
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
    let error = desk.fail("train --config failing.toml --run first");
    assert!(error.contains("sh"), "{error}");
    assert!(desk.path("runs/first/run.toml").exists());
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
