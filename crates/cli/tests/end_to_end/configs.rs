//! Configurations that are checked and not trained.

use std::fs;

use crate::desk::{CONFIG, Desk};

#[test]
fn what_training_would_refuse_is_told_beforehand() {
    let desk = Desk::new();
    let told = desk.succeed("config check run.toml");
    assert!(told.contains("fine      run.toml: 30 steps on "), "{told}");
    let told = desk.succeed("config check run.toml --steps 7");
    assert!(told.contains(": 7 steps on "), "{told}");

    let refused = |arguments: &str, expected: &str| {
        let error = desk.fail(&format!("config check {arguments}"));
        assert!(error.contains(expected), "{error}");
    };
    refused("run.toml --set adapter.rang=3", "adapter.rang");
    refused("run.toml --train absent.jsonl", "absent.jsonl");
    refused("run.toml --device banana", "banana");
    refused("absent.toml", "absent.toml");
    let rewards = CONFIG
        .replace(
            "score = \"helpfulness\"",
            "reward = { program = [\"no-such-judge\"] }",
        )
        .replace(
            "score = \"conciseness\"",
            "reward = { rule = \"conciseness\" }",
        );
    desk.write(
        "rlhf.toml",
        &format!("{rewards}[method]\nloss = \"rlhf\"\n"),
    );
    refused("rlhf.toml", "no-such-judge");

    let weights = desk.path("model/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 8]).unwrap();
    refused("run.toml", "model.safetensors");
    assert!(!desk.path("runs").exists(), "nothing is trained");
}

/// Whoever trains a base model on conversations should know that nothing says who speaks.
#[test]
fn a_model_without_a_chat_template_is_warned_about() {
    let desk = Desk::new();
    let warns = |more: &str| {
        let output = desk.run(&format!("config check run.toml{more}"));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        told.contains("model has no chat template")
    };
    assert!(!warns(""));
    let mut config = desk.json("model/tokenizer_config.json");
    let template = config.as_object_mut().unwrap().remove("chat_template");
    desk.write("own.jinja", template.unwrap().as_str().unwrap());
    desk.write("model/tokenizer_config.json", &config.to_string());
    assert!(warns(""));
    assert!(!warns(" --set data.rendered=true"));
    assert!(!warns(" --set model.chat_template=own.jinja"));
}
