//! The commands that list, show, compare and remove runs.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::desk::Desk;
use crate::runs::scored_by;

/// Every run with what has become of it, in lines that fit a terminal.
#[test]
fn runs_are_listed_and_shown() {
    let desk = Desk::new();
    assert_eq!(desk.succeed("runs list"), "");
    assert_eq!(desk.succeed("runs list --json"), "[]\n");
    desk.succeed("train --config run.toml --run first --steps 20");
    desk.succeed("eval-front --run first --prompts 0 --divisions 1 --records 3");
    let long = "a-name-that-is-longer-than-its-column-of-the-table";
    desk.succeed(&format!("train --config run.toml --run {long} --steps 20"));
    fs::remove_dir_all(desk.path(&format!("runs/{long}/adapter"))).unwrap();
    fs::remove_dir_all(desk.path(&format!("runs/{long}/checkpoints/000020"))).unwrap();
    fs::remove_file(desk.path(&format!("runs/{long}/metrics.jsonl"))).unwrap();
    desk.write("failing.toml", &scored_by("exit 1"));
    desk.fail("train --config failing.toml --run failed");
    fs::create_dir_all(desk.path("runs/no-run")).unwrap();
    fs::create_dir_all(desk.path("runs/damaged")).unwrap();
    desk.write(
        "runs/damaged/run.toml",
        "seed = 17\n[optimizer]\nstepz = 3\n",
    );

    let table = desk.succeed("runs list");
    for line in table.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let found: Vec<Vec<&str>> = (table.lines())
        .map(|line| line.split_whitespace().collect())
        .collect();
    let has = |expected: &[&str]| {
        let is_it = |line: &Vec<&str>| line.windows(expected.len()).any(|words| words == expected);
        assert!(found.iter().any(is_it), "{expected:?} is not in\n{table}");
    };
    has(&["first", "finished", "20/20", "loss"]);
    has(&[
        "panacea-linear",
        "on",
        "model,",
        "9",
        "records,",
        "1",
        "evaluation",
    ]);
    has(&[long]);
    has(&["interrupted", "10/20", "–"]);
    has(&["failed", "never", "began", "0/1"]);
    has(&["damaged", "broken", "0"]);
    assert!(
        table.contains("run.toml:3") && !table.contains("no-run"),
        "{table}"
    );
    // The one that was written to last comes first.
    assert!(table.find("damaged") < table.find("failed"), "{table}");
    assert!(table.find("failed") < table.find("first"), "{table}");

    let all: Value = serde_json::from_str(&desk.succeed("runs list --json")).unwrap();
    let first = all
        .as_array()
        .unwrap()
        .iter()
        .find(|run| run["name"] == "first");
    let first = first.unwrap();
    assert_eq!(
        (&first["state"], &first["steps"], &first["total_steps"]),
        (&json!("finished"), &json!(20), &json!(20))
    );
    assert_eq!(
        (&first["evaluations"], &first["metric"]),
        (&json!(1), &json!("loss"))
    );
    let metrics = fs::read_to_string(desk.path("runs/first/metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert_eq!(first["value"], last["aggregate"]);

    let shown = desk.succeed("runs show first");
    for part in [
        "state        finished, step 20 of 20",
        "trained on   9 records of train.jsonl",
        "training     20 steps of 3 records, learning rate 0.03, rank 4, seed 17, on flex",
        "last step    20: aggregated loss ",
        "conciseness: loss ",
        "checkpoints  of step 10, 20",
        "001: 3 held-out records of test.jsonl, by records, hypervolume ",
        "panacea serve --run first",
    ] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    let shown = desk.succeed(&format!("runs show {long}"));
    assert!(shown.contains("interrupted at step 10 of 20"), "{shown}");
    assert!(
        shown.contains(&format!("panacea train --run {long} --resume")),
        "{shown}"
    );
    let shown: Value = serde_json::from_str(&desk.succeed("runs show first --json")).unwrap();
    let front = desk.json("runs/first/evaluations/001/front.json");
    assert_eq!(
        shown["evaluations"][0]["indicators"],
        front["methods"][0]["indicators"]
    );
    assert_eq!(shown["checkpoints"], json!([10, 20]));
    let error = desk.fail("runs show absent");
    assert!(error.contains("absent"), "{error}");
}

#[test]
fn runs_are_removed_after_asking() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first --steps 1");
    desk.succeed("train --config run.toml --run other --steps 1");
    fs::create_dir_all(desk.path("runs/thesis")).unwrap();
    desk.write("runs/thesis/chapter.tex", "");
    // Nobody can be asked, one is no run, or somebody writes into it: none is removed.
    let error = desk.fail("runs rm first");
    assert!(
        error.contains("say --yes") && error.contains("runs/first: finished"),
        "{error}"
    );
    let error = desk.fail("runs rm first thesis --yes");
    assert!(error.contains("runs/thesis holds no run"), "{error}");
    let error = desk.fail("runs rm first ../first --yes");
    assert!(error.contains("cannot name a run"), "{error}");
    desk.write("hanging.toml", &scored_by("cat > /dev/null"));
    let mut child = desk
        .command("train --config hanging.toml --run busy")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !desk.path("runs/busy/run.toml").exists() {
        thread::sleep(Duration::from_millis(10));
        assert!(child.try_wait().unwrap().is_none(), "it ended");
    }
    let list = desk.succeed("runs list");
    assert!(list.contains("in progress"), "{list}");
    let error = desk.fail("runs rm first busy --yes");
    let expected = format!("runs/busy is being trained now (process {})", child.id());
    assert!(error.contains(&expected), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    for name in ["first", "other", "busy", "thesis"] {
        assert!(desk.path(&format!("runs/{name}")).exists(), "{name}");
    }

    let told = desk.succeed("runs rm first busy --yes");
    assert_eq!(told, "removed runs/first\nremoved runs/busy\n");
    let left: Vec<_> = (fs::read_dir(desk.path("runs")).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in ["other", "thesis"] {
        assert!(left.iter().any(|left| left == name), "{left:?}");
    }
    assert!(
        !left
            .iter()
            .any(|name| name.contains("first") || name.contains("busy")),
        "{left:?}"
    );
}

/// Two runs side by side: their plans, their last numbers, and their fronts where these are of one kind.
#[test]
fn runs_are_compared() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run one --steps 3");
    fs::copy(desk.path("train.jsonl"), desk.path("copy.jsonl")).unwrap();
    desk.succeed(
        "train --config run.toml --run two --steps 9 --set adapter.rank=2 --train copy.jsonl",
    );
    let compare =
        || -> Value { serde_json::from_str(&desk.succeed("runs compare one two --json")).unwrap() };
    let found = compare();
    // The same records under another name are no difference.
    assert_eq!(
        found["differences"],
        json!([
            {"key": "adapter.rank", "a": "4", "b": "2"},
            {"key": "optimizer.steps", "a": "3", "b": "9"}
        ])
    );
    let last = |run: &str| -> Value {
        let metrics = fs::read_to_string(desk.path(&format!("runs/{run}/metrics.jsonl"))).unwrap();
        serde_json::from_str(metrics.lines().last().unwrap()).unwrap()
    };
    let metrics = found["metrics"].as_array().unwrap();
    let loss = metrics
        .iter()
        .find(|row| row["metric"] == "conciseness, loss")
        .unwrap();
    assert_eq!(loss["a"], last("one")["objectives"]["conciseness"]["loss"]);
    assert_eq!(loss["b"], last("two")["objectives"]["conciseness"]["loss"]);
    assert_eq!(found["fronts"]["reason"], "run one was not measured");

    let measure = "--prompts 0 --divisions 2";
    desk.succeed(&format!("eval-front --run one {measure}"));
    desk.succeed(&format!("eval-front --run two {measure} --records 2"));
    let told = desk.succeed("runs compare one two");
    assert!(
        told.contains("they cannot be compared: they were measured on different records: one on 5 records, two on 2 records"),
        "{told}"
    );
    desk.succeed(&format!(
        "eval-front --run two {measure} --eval train.jsonl"
    ));
    let reason = compare()["fronts"]["reason"].as_str().unwrap().to_owned();
    assert!(
        reason.contains("one on test.jsonl, two on train.jsonl"),
        "{reason}"
    );

    // Alike now, though not the newest of the other: what the two have together is what they have in one picture.
    desk.succeed(&format!("eval-front --run two {measure}"));
    desk.succeed(&format!("eval-front --run one {measure} --records 1"));
    desk.succeed(&format!(
        "eval-front --run one --run two {measure} --out both"
    ));
    let both = desk.json("both/front.json");
    let fronts = compare()["fronts"].clone();
    assert_eq!(fronts["comparable"], true);
    assert_eq!(fronts["front"]["reference"], both["reference"]);
    for method in [0, 1] {
        let indicators = |front: &Value| front["methods"][method]["indicators"].clone();
        assert_eq!(indicators(&fronts["front"]), indicators(&both));
    }
    let told = desk.succeed("runs compare one two");
    assert!(
        told.contains("panacea-linear (two)") && told.contains("hypervolume"),
        "{told}"
    );
    let error = desk.fail("runs compare one absent");
    assert!(error.contains("absent"), "{error}");
}
