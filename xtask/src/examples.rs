//! Runs the example programs of the crates as their comments say, on the quickstart, one behind the other: what one writes, the
//! next reads.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::build::{built_for_tests, cannot_start};
use crate::dependencies::cannot;

const QUESTION: &str = "When does the library open?";

/// A training of rewards on the quickstart's records.
const REWARDS: &str = r#"
[model]
path = "world/base"
[data]
train = "world/menus.jsonl"
[[objective]]
name = "brevity"
score = "brevity"
[method]
name = "reward-model"
[optimizer]
learning_rate = 1e-3
"#;

/// Examples with their arguments, in the order in which they are run.
const EXAMPLES: [(&str, &[&str]); 26] = [
    ("write_quickstart", &["world"]),
    ("explain_config", &["world/quickstart.toml"]),
    ("read_records", &["world/menus.jsonl", "brevity", "detail"]),
    ("inspect_model", &["world/base", QUESTION]),
    (
        "score_answers",
        &["world/base", QUESTION, "At nine.", "Hello!"],
    ),
    (
        "train_run",
        &[
            "world/quickstart.toml",
            "runs/first",
            "optimizer.steps=12",
            "optimizer.learning_rate=2e-2",
        ],
    ),
    ("list_runs", &["runs"]),
    ("ask_run", &["runs/first", QUESTION]),
    ("measure_run", &["runs/first"]),
    ("export_peft", &["runs/first", "adapter", "0.3,0.7"]),
    ("find_preference", &["runs/first", "somebody", QUESTION]),
    ("serve_and_ask", &["runs/first", QUESTION]),
    (
        "train_run",
        &["rewards.toml", "runs/rewards", "optimizer.steps=2"],
    ),
    (
        "ask_reward_model",
        &["runs/rewards", QUESTION, "At nine.", "Hello!"],
    ),
    ("train_and_measure", &["2"]),
    ("sort_lines", &["world/menus.jsonl"]),
    ("one_page", &["page.html"]),
    ("draw_front", &["front"]),
    ("ask_a_person", &["0.8,0.2"]),
    ("study", &["0.1", "1"]),
    ("score_by_rules", &["Please do come in.", "No."]),
    ("tradeoff", &[]),
    ("list_devices", &[]),
    ("gradient_check", &[]),
    ("steer_one_matrix", &[]),
    ("what_is_trained", &[]),
];

/// Examples that are compiled and not run: they need the network.
#[cfg(test)]
const NOT_RUN: [&str; 1] = ["push_folder"];

/// Runs all of them in a fresh folder, and stops at the first that fails.
pub fn all() -> Result<(), Failure> {
    let programs = built_for_tests("panacea")?.with_file_name("examples");
    let place = programs.with_file_name("examples-run");
    if place.exists() {
        fs::remove_dir_all(&place).map_err(|error| cannot("remove", &place, &error))?;
    }
    fs::create_dir(&place).map_err(|error| cannot("create", &place, &error))?;
    let rewards = place.join("rewards.toml");
    fs::write(&rewards, REWARDS).map_err(|error| cannot("write", &rewards, &error))?;
    for (name, arguments) in EXAMPLES {
        eprintln!("--- {name} {}", arguments.join(" "));
        one(&programs, name, arguments, &place)?;
    }
    Ok(())
}

fn one(programs: &Path, name: &str, arguments: &[&str], place: &Path) -> Result<(), Failure> {
    let program = programs.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let mut command = Command::new(program);
    let status = command.args(arguments).current_dir(place).status();
    match status
        .map_err(|error| cannot_start(&command, &error))?
        .success()
    {
        true => Ok(()),
        false => Err(Failure::new(format!("the example {name} failed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::workspace;

    /// Crates without an example: a binary, and what tests are made of.
    const WITHOUT: [&str; 4] = ["cli", "device-suite", "fuzzing", "test-support"];

    /// The names of the examples of a crate, by its folder.
    fn examples(folder: &Path) -> Vec<String> {
        let files = fs::read_dir(folder.join("examples")).into_iter().flatten();
        let stems = files.map(|file| file.unwrap().path().file_stem().unwrap().to_owned());
        stems.map(|stem| stem.into_string().unwrap()).collect()
    }

    #[test]
    fn every_crate_has_an_example_and_every_example_is_run() {
        let mut found = examples(&workspace().join("datasets/quickstart"));
        for entry in fs::read_dir(workspace().join("crates")).unwrap() {
            let folder = entry.unwrap().path();
            let name = folder.file_name().unwrap().to_str().unwrap();
            let own = examples(&folder);
            assert_eq!(
                own.is_empty(),
                WITHOUT.contains(&name),
                "examples of {name}"
            );
            found.extend(own);
        }
        found.sort();
        let mut known: Vec<&str> = EXAMPLES.map(|(name, _)| name).to_vec();
        known.extend(NOT_RUN);
        known.sort_unstable();
        known.dedup();
        assert_eq!(found, known);
    }
}
