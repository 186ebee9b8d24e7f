//! Configurations that are begun for somebody's own pairs.

use std::path::PathBuf;

use panacea_config::{BEGINNINGS, Overrides, OwnFiles, Plan, Spec};
use panacea_data::Survey;
use serde_json::{Value, json};

/// The objectives that are taken of so many records with these columns, and the plan that comes of them.
fn begun(count: usize, columns: impl Fn(usize) -> Value) -> (Vec<String>, Plan) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my records.jsonl");
    let lines: Vec<String> = (0..count).map(|i| columns(i).to_string()).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let survey = Survey::of(std::slice::from_ref(&file)).unwrap();
    let proposals = BEGINNINGS[0].proposals(&survey);
    let taken = proposals.iter().filter(|proposal| proposal.is_taken);
    let taken = taken
        .map(|proposal| proposal.objective.name.clone())
        .collect();
    let own = OwnFiles {
        model: Some(PathBuf::from("a model")),
        train: vec![file.clone()],
        eval: vec![file],
    };
    let text = BEGINNINGS[0]
        .file_for(&own, Some((&survey, &proposals)))
        .unwrap();
    // Each that is not taken is there as a comment, which a person can make an objective of.
    let commented = text.matches("\n# [[objective]]").count();
    assert_eq!(
        commented,
        proposals.iter().filter(|one| !one.is_taken).count(),
        "{text}"
    );
    let all = text.replace("\n# [[objective]]", "\n[[objective]]");
    for text in [&text, &uncommented(&all)] {
        Plan::resolve(Spec::from_toml(text, "my.toml"), &Overrides::default())
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
    let plan = Plan::resolve(Spec::from_toml(&text, "my.toml"), &Overrides::default()).unwrap();
    (taken, plan)
}

/// With the keys of every objective in it.
fn uncommented(text: &str) -> String {
    let mut is_within = false;
    let lines = text.lines().map(|line| {
        is_within = line == "[[objective]]" || is_within && !line.is_empty();
        match is_within {
            true => line.trim_start_matches("# "),
            false => line,
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn pair(i: usize, more: Value) -> Value {
    let answers = ["a long answer", "short"];
    let mut row = json!({"prompt": format!("q{i}"), "chosen": answers[i % 2], "rejected": answers[1 - i % 2]});
    let more = more.as_object().unwrap().clone();
    row.as_object_mut().unwrap().extend(more);
    row
}

#[test]
fn objectives_are_those_that_disagree_somewhere() {
    let (taken, plan) = begun(40, |i| {
        pair(
            i,
            json!({"score_chosen": 2, "score_rejected": 1, "safer": i % 3 % 2, "margin": 0.3, "id": i}),
        )
    });
    assert_eq!(taken, ["preferred", "safer"]);
    assert_eq!(plan.objective_names(), taken);
    assert_eq!(plan.model(), "a model");
    assert_eq!(plan.training_files(), plan.evaluation_files(&[]));
}

#[test]
fn where_nothing_but_who_is_preferred_is_known_length_is_the_other_objective() {
    let (taken, _) = begun(4, |i| pair(i, json!({})));
    assert_eq!(taken, ["preferred", "brevity"]);
    // The chosen answers are always the shorter ones.
    let (taken, _) = begun(4, |i| pair(2 * i + 1, json!({})));
    assert_eq!(taken, ["preferred", "length"]);
    // All of one length: there is one objective, and what else there is to say is not known.
    let (taken, _) = begun(
        2,
        |_| json!({"prompt": "q", "chosen": "ab", "rejected": "cd"}),
    );
    assert_eq!(taken, ["preferred"]);
}

#[test]
fn a_small_file_is_read_often_and_a_large_one_once() {
    for (records, steps) in [(3, 60), (40, 60), (479, 120), (480, 60), (800, 100)] {
        let (_, plan) = begun(records, |i| pair(i, json!({})));
        assert_eq!(plan.optimizer().total_steps(records), steps, "{records}");
    }
}
