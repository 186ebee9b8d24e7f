//! The binary as a user meets it.

use std::process::{Command, Output};

fn panacea(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_panacea"));
    command.args(arguments).output().unwrap()
}

#[test]
fn indicators_prints_one_json_object() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("points.csv");
    std::fs::write(&file, "1.0,0.2\n0.5,0.8\n").unwrap();
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
        (&["eval-front", "--run", "no-such-run"], "no-such-run"),
        (&["train", "--config", "no-such.toml"], "no-such.toml"),
        (
            &["export", "--preference", "0.5,0.6", "--format", "peft"],
            "0.5",
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
