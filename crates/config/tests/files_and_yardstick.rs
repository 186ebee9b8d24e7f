//! What others read off a configuration: its paths, its files of records, and what decides the value of a record.

use std::cell::RefCell;
use std::path::Path;

use panacea_config::{Overrides, Plan, Spec};

const REWARDS: &str = r#"
    [model]
    path = "p1"
    tokenizer = "p2"
    chat_template = "p3"
    [data]
    train = ["p4", "p5"]
    eval = "p6"
    [[objective]]
    name = "helpfulness"
    train = ["p7"]
    eval = ["p8"]
    reward = { model = "p9", output = "helpfulness" }
    [[objective]]
    name = "brevity"
    reward = { rule = "conciseness" }
    [[objective]]
    name = "judged"
    reward = { program = ["./judge"] }
    [method]
    loss = "rlhf"
"#;

fn plan(text: &str, set: &[&str]) -> Plan {
    let overrides = Overrides {
        set: set.iter().map(ToString::to_string).collect(),
        ..Overrides::default()
    };
    Plan::resolve(Spec::from_toml(text, "my.toml"), &overrides).unwrap()
}

#[test]
fn every_path_is_found() {
    let seen = RefCell::new(Vec::new());
    let moved = plan(REWARDS, &[]).with_paths(|path| {
        seen.borrow_mut().push(path.display().to_string());
        Path::new("there").join(path)
    });
    let mut names = seen.into_inner();
    names.sort_unstable();
    // A program is started in the folder where it was meant to.
    let expected = [".", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9"];
    assert_eq!(names, expected);
    assert_eq!(moved.model(), Path::new("there/p1"));
}

#[test]
fn files_are_those_that_objectives_share_and_their_own() {
    let plan = plan(REWARDS, &[]);
    assert_eq!(plan.training_files(), ["p4", "p5", "p7"].map(Path::new));
    assert_eq!(plan.evaluation_files(&[]), ["p6", "p8"].map(Path::new));
    let others = ["q".into()];
    assert_eq!(plan.evaluation_files(&others), ["q", "p8"].map(Path::new));
}

#[test]
fn a_yardstick_is_what_decides_the_value_of_a_record() {
    let yardstick = |set: &[&str]| plan(REWARDS, set).yardstick();
    let own = yardstick(&[]);
    assert!(
        own.contains("loss = \"rlhf\"") && own.contains("rule = \"conciseness\""),
        "{own}"
    );
    for same in [
        "data.train=other",
        "data.eval=other",
        "model.path=other",
        "optimizer.steps=3",
        "optimizer.learning_rate=1.0",
        "adapter.rank=2",
        "seed=1",
        "method.name=rewarded_soups",
        "rlhf.samples=8",
    ] {
        assert_eq!(yardstick(&[same]), own, "{same}");
    }
    // How losses become one number is a matter of training.
    let of_pairs = |set: &[&str]| plan(REWARDS, &[&["method.loss=dpo"], set].concat()).yardstick();
    for same in ["method.aggregation=linear", "method.smoothing=0.1"] {
        let set = ["method.aggregation=tchebycheff", same];
        assert_eq!(of_pairs(&set), of_pairs(&[]), "{same}");
    }
    // So is what is trained on; everything is measured.
    assert_eq!(of_pairs(&["data.labelled_by=all"]), of_pairs(&[]));
    for other in [
        "method.beta=0.5",
        "data.max_response_tokens=9",
        "data.format=scored",
    ] {
        assert_ne!(yardstick(&[other]), own, "{other}");
    }
}
