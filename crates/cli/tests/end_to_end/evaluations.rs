//! What is measured of runs: where it is kept, what it says of itself, and whose answers stand in it.

use std::fs;

use serde_json::{Value, json};

use crate::desk::Desk;
use crate::serve::{Server, get};

/// Evaluations are numbered, none is written over, and the newest is the one that counts.
#[test]
fn evaluations_are_kept() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first --steps 2");
    let measure = "eval-front --run first --prompts 0 --divisions";
    let output = desk.succeed(&format!("{measure} 1"));
    assert!(
        output.contains("runs/first/evaluations/001/front.html"),
        "{output}"
    );
    let first = fs::read(desk.path("runs/first/evaluations/001/front.json")).unwrap();
    desk.succeed(&format!("{measure} 2 --records 3"));
    assert_eq!(
        fs::read(desk.path("runs/first/evaluations/001/front.json")).unwrap(),
        first
    );
    let front = desk.json("runs/first/evaluations/002/front.json");
    let provenance = &front["provenance"];
    assert_eq!(provenance["panacea"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        provenance["command"],
        "panacea eval-front --run first --prompts 0 --divisions 2 --records 3"
    );
    let run = &provenance["runs"][0];
    assert_eq!((&run["run"], &run["records"]), (&json!("first"), &json!(3)));
    assert_eq!(
        (&run["origin"], &run["by"]),
        (&json!("held-out"), &json!("records"))
    );
    assert_eq!(run["files"][0]["path"], "test.jsonl");
    assert_eq!(run["steps"], 2);
    let record = fs::read_to_string(desk.path("runs/first/run.toml")).unwrap();
    let sha256 = run["files"][0]["sha256"].as_str().unwrap();
    assert!(
        record.contains(&format!("\"test.jsonl\" = \"{sha256}\"")),
        "{record}"
    );
    let report = fs::read_to_string(desk.path("runs/first/evaluations/002/report.md")).unwrap();
    assert!(
        report.contains(sha256) && report.contains("--records 3"),
        "{report}"
    );

    // Of a run that went on, it is what it was then.
    desk.succeed("train --run first --resume --steps 3");
    let shown = desk.succeed("runs show first");
    assert_eq!(
        shown.matches(", when it was at step 2\n").count(),
        2,
        "{shown}"
    );

    // What serves reads the newest; of a version before numbers, the one that there is.
    let served = |desk: &Desk| {
        let server = Server::start(desk, "--run first");
        let url = format!("{}/v1/models/first/front", server.url);
        let text = get(url)
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap();
        let front: Value = serde_json::from_str(&text).unwrap();
        front["points"].as_array().unwrap().len()
    };
    assert_eq!(served(&desk), 3);
    fs::rename(
        desk.path("runs/first/evaluations/001/front.json"),
        desk.path("runs/first/front.json"),
    )
    .unwrap();
    fs::remove_dir_all(desk.path("runs/first/evaluations")).unwrap();
    assert_eq!(served(&desk), 2);
    let shown = desk.succeed("runs show first");
    assert!(
        shown.contains("old: 5 held-out records of test.jsonl"),
        "{shown}"
    );
}

/// A folder that holds an evaluation gets no other one.
#[test]
fn an_evaluation_is_not_written_over() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first --steps 1");
    let measure = "eval-front --run first --prompts 0 --divisions 1 --out mine";
    fs::create_dir(desk.path("mine")).unwrap();
    desk.write("mine/notes.txt", "mine");
    desk.succeed(measure);
    let kept = fs::read(desk.path("mine/front.json")).unwrap();
    let error = desk.fail(measure);
    for part in [
        "--out mine",
        "front.json",
        "new or empty",
        "evaluations/001",
    ] {
        assert!(error.contains(part), "no {part} in {error}");
    }
    assert_eq!(fs::read(desk.path("mine/front.json")).unwrap(), kept);
    assert!(!desk.path("runs/first/evaluations").exists());
}

/// Records that lack a label can be left out of the training; objectives are measured on all the labels that there are.
#[test]
fn labels_that_are_missing_count_where_it_is_measured() {
    let desk = Desk::new();
    let rows = fs::read_to_string(desk.path("train.jsonl")).unwrap();
    let partly = rows.replacen(r#""conciseness":"#, r#""another":"#, 2);
    desk.write("partly.jsonl", &partly);
    let set = "--set data.labelled_by=all --set data.train=partly.jsonl";
    let command =
        format!("train --config run.toml --steps 1 --run first {set} --eval partly.jsonl");
    let told = String::from_utf8(desk.run(&command).stderr).unwrap();
    let kept: Vec<&str> = told
        .lines()
        .filter(|line| line.starts_with("records "))
        .collect();
    assert_eq!(
        kept,
        ["records     9 read, 7 kept", "records     9 read, 9 kept"],
        "{told}"
    );
    assert!(
        told.contains("skipped     2: not every objective labels them"),
        "{told}"
    );
}

/// Where the evaluation is on the very records of the training, nothing calls them held-out.
#[test]
fn training_records_are_called_so() {
    let desk = Desk::new();
    // Files count by their content.
    fs::copy(desk.path("train.jsonl"), desk.path("copy.jsonl")).unwrap();
    let output = desk.run("train --config run.toml --steps 1 --run first --eval copy.jsonl");
    let train = String::from_utf8(output.stderr).unwrap();
    assert!(!train.contains("held-out"), "{train}");
    assert_eq!(train.matches("training records\n").count(), 2, "{train}");
    // The very same file is not told of twice.
    let output = desk.run("train --config run.toml --steps 1 --run same --eval train.jsonl");
    let same = String::from_utf8(output.stderr).unwrap();
    let tables = same.lines().filter(|line| *line == "training records");
    assert_eq!(tables.count(), 1, "{same}");
    assert!(
        same.contains("\nevaluated on the training records\n"),
        "{same}"
    );
    let output = desk.run("eval-front --run first --prompts 1 --max-new-tokens 2 --divisions 1");
    let mut all = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(
        all[1].contains("training records of run first"),
        "{}",
        all[1]
    );
    all.reverse();
    let mut texts = all.to_vec();
    for file in ["front.json", "front.html", "report.md"] {
        let path = desk.path("runs/first/evaluations/001").join(file);
        texts.push(fs::read_to_string(path).unwrap());
    }
    for text in &texts {
        assert!(!text.contains("held-out"), "{text}");
    }
    assert!(
        texts[4].contains("Run first: 9 training records"),
        "{}",
        texts[4]
    );
    let output =
        desk.run("eval-front --run first --prompts 0 --divisions 1 --eval test.jsonl copy.jsonl");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("held-out and training records of run first"),
        "{error}"
    );
}

/// The answers of every run to a prompt stand beside each other.
#[test]
fn every_run_answers() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first --steps 30");
    desk.succeed("train --config run.toml --run other --steps 1");
    let output = desk.run(
        "eval-front --run first --run other --prompts 2 --max-new-tokens 6 --divisions 1 --out both",
    );
    assert!(output.status.success(), "{output:?}");
    let page = fs::read_to_string(desk.path("both/front.html")).unwrap();
    let data = page.split("id=\"data\">").nth(1).unwrap();
    let data: Value = serde_json::from_str(data.split("</script>").next().unwrap()).unwrap();
    let samples = data["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 2);
    for sample in samples {
        let answers = sample["answers"].as_array().unwrap();
        let told: Vec<(&str, f64)> = (answers.iter())
            .map(|answer| {
                let method = answer["method"].as_str().unwrap();
                (method, answer["lambda"][0].as_f64().unwrap())
            })
            .collect();
        let (first, other) = ("panacea-linear (first)", "panacea-linear (other)");
        let expected = [1.0, 0.5, 0.0].map(|weight| [(first, weight), (other, weight)]);
        assert_eq!(told, expected.concat());
    }
    // They are answers of two runs: what one says alone is what it says here.
    for (run, place) in [("first", 0), ("other", 1)] {
        let line = desk
            .command("generate --model model --greedy --max-new-tokens 6 --json --preference 1,0")
            .args(["--run", run, "--prompt", "what is 9?"])
            .output()
            .unwrap();
        let line: Value = serde_json::from_slice(&line.stdout).unwrap();
        assert_eq!(
            samples[0]["answers"][place]["text"], line["response"],
            "{run}"
        );
    }
    let report = fs::read_to_string(desk.path("both/report.md")).unwrap();
    assert!(
        report.contains("**panacea-linear (other), λ = (1, 0)**"),
        "{report}"
    );
}

/// What was trained at one λ is measured, asked and exported there, where nobody says another.
#[test]
fn a_run_of_one_preference_needs_no_other() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run fixed --set preference.fixed=[0.25,0.75]");
    let points = |more: &str| -> Vec<f64> {
        desk.succeed(&format!(
            "eval-front --run fixed --records 2 --max-new-tokens 2{more} --out front{}",
            more.len()
        ));
        let front = desk.json(&format!("front{}/front.json", more.len()));
        let points = front["methods"][0]["points"].as_array().unwrap();
        let weight = |point: &Value| point["lambda"][0].as_f64().unwrap();
        points.iter().map(weight).collect()
    };
    assert_eq!(points(" --prompts 1"), [0.25]);
    let told = desk.succeed("eval-front --run fixed --records 2 --prompts 0");
    assert!(
        told.contains("Measured at λ = (0.25, 0.75) alone.")
            && told.contains("next      panacea generate --run fixed --prompt "),
        "{told}"
    );
    assert_eq!(points(" --prompts 0 --divisions 1").len(), 2);
    desk.write(
        "records.jsonl",
        "{\"prompt\": \"hello\", \"response\": \"world\"}\n",
    );
    let own = desk.scores("--run fixed");
    assert_eq!(own, desk.scores("--run fixed --preference 0.25,0.75"));
    assert_ne!(own, desk.scores("--run fixed --preference 1,0"));
    desk.succeed("export --run fixed --format peft --out peft");

    desk.succeed("train --config run.toml --run steered --steps 1");
    let both = desk.run("eval-front --run fixed --run steered --records 2 --prompts 0 --out both");
    let told = String::from_utf8(both.stderr).unwrap();
    assert!(
        told.contains("The methods were not measured at the same λ"),
        "{told}"
    );
    let error = desk.fail("generate --run steered --prompt hello");
    assert!(
        error.contains("--preference or --profile is missing")
            && error.contains("helpfulness, conciseness"),
        "{error}"
    );
}

/// What is best on given answers is known for every λ, where all objectives have the same answers.
#[test]
fn fine_tuning_on_the_same_answers_has_an_exact_front() {
    let desk = Desk::new();
    let record =
        |answer: &str| format!("{{\"prompt\": \"Hello?\", \"completion\": \"{answer}\"}}\n");
    let (short, long) = (record("Hi."), record("Hi there."));
    desk.write("short.jsonl", &format!("{short}{short}{short}{long}"));
    desk.write("long.jsonl", &format!("{short}{long}{long}{long}"));
    desk.write("only.jsonl", &long);
    let config = |second: &str| {
        format!(
            "[model]\npath = \"model\"\n\
             [[objective]]\nname = \"short\"\ntrain = \"short.jsonl\"\neval = \"short.jsonl\"\n\
             [[objective]]\nname = \"long\"\ntrain = \"{second}.jsonl\"\neval = \"{second}.jsonl\"\n\
             [method]\nloss = \"sft\"\n[optimizer]\nsteps = 2\nbatch_size = 8\n"
        )
    };
    desk.write("sft.toml", &config("long"));
    desk.succeed("train --config sft.toml --run both");
    desk.succeed("eval-front --run both --prompts 0 --divisions 2");
    let front = desk.json("runs/both/evaluations/001/front.json");
    // In the middle each answer has a probability of 1/2.
    let middle = &front["methods"][0]["points"][1];
    assert_eq!(middle["lambda"], json!([0.5, 0.5]));
    for value in middle["exact"]["values"].as_array().unwrap() {
        assert!((value.as_f64().unwrap() - 0.5_f64.ln()).abs() < 1e-12);
    }
    assert!(middle["exact"]["regret"].as_f64().unwrap() > 0.0);
    let report = fs::read_to_string(desk.path("runs/both/evaluations/001/report.md")).unwrap();
    assert!(report.contains("the best that any policy can do on these records is known"));

    // A part of the records is a part of every data set.
    desk.succeed("eval-front --run both --prompts 0 --divisions 2 --records 2");

    // Where one objective never gives an answer of the other's, its own best policy never does either.
    desk.write("other.toml", &config("only"));
    desk.succeed("train --config other.toml --run other");
    desk.succeed("eval-front --run other --prompts 0 --divisions 2");
    let front = desk.json("runs/other/evaluations/001/front.json");
    assert!(front["exact"].is_null(), "{front}");
}
