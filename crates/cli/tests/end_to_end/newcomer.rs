//! Somebody who has just come, with pairs of their own. integrations/newcomer/check.py goes the whole path.

use serde_json::{Value, json};

use crate::desk::Desk;

/// Pairs as TRL has them; the chosen answer is the longer one but for every third.
fn pairs(count: usize) -> String {
    let record = |i: usize| {
        let mut answers = [format!("hello world, hello {i} and so on"), format!("{i}")];
        if i.is_multiple_of(3) {
            answers.reverse();
        }
        let [chosen, rejected] = answers;
        let record =
            json!({"prompt": format!("what is {i}?"), "chosen": chosen, "rejected": rejected});
        format!("{record}\n")
    };
    (0..count).map(record).collect()
}

/// What `config init` with these words prints.
#[track_caller]
fn init(desk: &Desk, more: &[&str]) -> String {
    let output = desk
        .command("config init --from dpo")
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What follows a command.
#[track_caller]
fn next(told: &str) -> &str {
    let line = told.lines().find(|line| line.starts_with("next "));
    line.unwrap_or_else(|| panic!("{told}"))["next".len()..].trim()
}

#[test]
fn each_command_prints_the_next_also_for_names_with_blanks() {
    let desk = Desk::new();
    desk.write("my records.jsonl", &pairs(6));
    let told = init(
        &desk,
        &[
            "my own.toml",
            "--train",
            "my records.jsonl",
            "--model",
            "model",
        ],
    );
    for expected in [
        "records   6 with two answers that differ (trl-preference)",
        "objective preferred (the chosen/rejected order): labels 6 of 6 pairs",
        "objective brevity (rule `shorter`)",
        "held out  nothing",
        "steps     60 of 8 records each",
    ] {
        assert!(told.contains(expected), "{told}");
    }
    assert_eq!(next(&told), "panacea config check 'my own.toml'");

    let check = ["my own.toml", "--steps", "2", "--set", "adapter.rank=2"];
    let output = desk.command("config check").args(check).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("2 steps on 6 records"), "{told}");
    let train = "panacea train --config 'my own.toml' --steps 2 --set 'adapter.rank=2'";
    assert_eq!(
        next(&told).replace("'adapter.rank=2'", "adapter.rank=2"),
        train.replace("'adapter.rank=2'", "adapter.rank=2")
    );
    let output = desk
        .command("train --run my --config")
        .args(check)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(next(&told), "panacea eval-front --run my");
    let told = desk.succeed("eval-front --run my --divisions 1 --prompts 0");
    assert!(
        next(&told).starts_with("panacea generate --run my --preference ")
            && next(&told).ends_with(" --prompt 'what is 0?'"),
        "{told}"
    );
    let words = shlex_of(next(&told));
    let output = desk.command("generate").args(&words[2..]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The words of a command that a shell would make of it.
fn shlex_of(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (place, part) in command.split('\'').enumerate() {
        match place % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[test]
fn a_missing_model_is_fetched_first() {
    let desk = Desk::new();
    desk.write("my.jsonl", &pairs(3));
    let told = init(&desk, &["my.toml", "--train", "my.jsonl"]);
    assert_eq!(next(&told), "panacea fetch smollm2-135m-instruct");
    assert!(
        told.contains("then      panacea config check my.toml"),
        "{told}"
    );
    // Without records nothing is claimed about them.
    let told = init(&desk, &["other.toml"]);
    assert!(told.contains("edit      data.train"), "{told}");
    assert!(told.contains("config check other.toml"), "{told}");
}

#[test]
fn what_cannot_be_begun_is_refused_and_nothing_is_written() {
    let desk = Desk::new();
    desk.write("my.jsonl", &pairs(3));
    desk.write(
        "single.jsonl",
        "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": true}\n",
    );
    for (more, expected) in [
        ("--from dpo new.toml --train absent.jsonl", "absent.jsonl"),
        (
            "--from dpo new.toml --train my.jsonl --model nowhere",
            "--model nowhere: there is no such",
        ),
        ("--from dpo new.toml --train single.jsonl", "KTO"),
        (
            "--from dpo --train my.jsonl new.toml",
            "new.toml is no file of records",
        ),
        ("--from dpo run.toml --train my.jsonl", "give another name"),
        (
            "--from kto new.toml --train my.jsonl",
            "with --from kto leave it out",
        ),
    ] {
        let error = desk.fail(&format!("config init {more}"));
        assert!(error.contains(expected), "{error}");
        assert!(!desk.path("new.toml").exists(), "{more}");
    }
}

#[test]
fn a_run_that_is_not_there_is_no_matter_of_options() {
    let desk = Desk::new();
    let error = desk.fail("runs show absent");
    assert!(
        error.contains("absent") && error.contains("`runs list` lists those"),
        "{error}"
    );
    assert!(
        !error.contains("--run") && !error.contains("--resume"),
        "{error}"
    );
}

/// Files that are exported are read by whoever has the program that wrote them.
#[test]
fn exported_words_and_fronts_of_earlier_steps() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first --steps 2");
    desk.succeed("eval-front --run first --divisions 1 --prompts 0 --records 2");
    let export = |out: &str| {
        let output = desk.run(&format!(
            "export --run first --format llama-lora --out {out}"
        ));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let stale = "the measured front of run first is that of step 2, and the run is at step 3 by now: panacea eval-front --run first";
    let told = export("one");
    assert!(!told.contains("by now"), "{told}");
    let words = std::fs::read_to_string(desk.path("one/README.md")).unwrap();
    assert!(
        words.contains("    panacea export --format gguf --base") && !words.contains("cargo xtask"),
        "{words}"
    );
    desk.succeed("train --run first --resume --steps 3");
    let told = export("two");
    assert!(told.contains(stale), "{told}");
    let output = desk.run("elicit --run first --prompts test.jsonl");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(stale), "{told}");
    desk.succeed("eval-front --run first --divisions 1 --prompts 0 --records 2");
    let told = export("three");
    assert!(!told.contains("by now"), "{told}");
}

/// What a server replies names the program that serves, too.
#[test]
fn a_server_speaks_of_the_program_that_was_called() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first --steps 1");
    let server = crate::serve::Server::start(&desk, "--run first");
    let (status, said): (u16, Value) =
        crate::serve::fetch(&format!("{}/v1/models/first/front", server.url));
    assert_eq!(status, 404);
    let message = said["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("call panacea eval-front --run first"),
        "{message}"
    );
}

/// A program and the files that it opens are those of the folder where the training began, wherever the run is used.
#[cfg(unix)]
#[test]
fn a_program_that_scores_is_found_from_another_folder() {
    let desk = Desk::new();
    desk.write("judge.sh", "while read -r line; do cat number.txt; done\n");
    desk.write("number.txt", "2.5\n");
    let config = crate::runs::scored_by("exit 1").replace("\"-c\", \"exit 1\"", "\"judge.sh\"");
    desk.write("judged.toml", &format!("{config}[checkpoint]\nevery = 1\n"));
    let told = desk.succeed("train --config judged.toml --run judged");
    assert!(
        told.contains("eval-front --run judged --by rewards"),
        "{told}"
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let runs = desk.path("runs");
    let from_elsewhere = |arguments: &str| {
        let mut command = desk.command(arguments);
        let command = command.arg("--runs").arg(&runs);
        let output = command.current_dir(elsewhere.path()).output().unwrap();
        assert!(output.status.success(), "{arguments}: {output:?}");
    };
    from_elsewhere(
        "eval-front --run judged --by rewards --divisions 1 --prompts 0 --records 2 --max-new-tokens 2 --eval EVAL"
            .replace("EVAL", desk.path("test.jsonl").to_str().unwrap())
            .as_str(),
    );
    let front = desk.json("runs/judged/evaluations/001/front.json");
    assert_eq!(front["methods"][0]["points"][0]["values"][0], 2.5);
    from_elsewhere("train --run judged --resume --steps 2");
}
