//! Where a front comes from: what was measured, on which records, by which command.

use serde::{Deserialize, Serialize};

/// Where a front comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The version of this project that measured it.
    pub panacea: String,
    /// The command that made it, as a shell takes it.
    pub command: String,
    /// The runs, in the order of the front's methods.
    pub runs: Vec<MeasuredRun>,
}

/// A run, and what it was measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredRun {
    /// The run's name.
    pub run: String,
    /// Steps that were finished of what was measured, where that is known; of several trainings those of all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// What its values are: of the `records`' own responses, or rewards of answers.
    pub by: String,
    /// How many records, from the first on.
    pub records: usize,
    /// What these are to the training: held-out, or the training's own.
    pub origin: String,
    /// The files of the records.
    pub files: Vec<MeasuredFile>,
    /// What decides how a record is judged: the keys of the objectives, the loss and the reading of records, as TOML.
    pub yardstick: String,
    /// What the rewards of each objective were like while it was trained, where it learned from rewards in one training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reward_scales: Vec<RewardScale>,
}

/// What the rewards of an objective were like while a run was trained: its values in other units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardScale {
    /// The objective.
    pub objective: String,
    /// The mean of the rewards, as they were scored.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// The answers that these are of.
    pub answers: u64,
}

impl RewardScale {
    /// A mean reward in deviations from the mean; nothing where nothing deviated.
    #[must_use]
    pub fn in_deviations(&self, reward: f64) -> Option<f64> {
        (self.deviation > 0.0).then(|| (reward - self.mean) / self.deviation)
    }
}

impl MeasuredRun {
    /// The step that was measured, where the run is at another one by now.
    #[must_use]
    pub fn of_another_step(&self, now: usize) -> Option<usize> {
        self.steps.filter(|&then| then != now)
    }
}

/// A file of records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredFile {
    /// Its path, as it was given.
    pub path: String,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl MeasuredRun {
    /// Whether its values are mean rewards as they were scored, and nothing else.
    #[must_use]
    pub fn has_plain_rewards(&self) -> bool {
        self.by != "records"
    }

    /// Why the values of two runs are no numbers of one kind, as a clause; nothing where they are.
    #[must_use]
    pub fn not_comparable(&self, other: &Self) -> Option<String> {
        let contents = |run: &Self| -> Vec<String> {
            let files = run.files.iter();
            files.map(|file| file.sha256.clone()).collect()
        };
        let paths = |run: &Self| -> String {
            let paths = run.files.iter().map(|file| file.path.as_str());
            paths.collect::<Vec<_>>().join(", ")
        };
        let differ = |what: &str, one: &str, two: &str| {
            let (a, b) = (&self.run, &other.run);
            Some(format!("{what}: {a} on {one}, {b} on {two}"))
        };
        if contents(self) != contents(other) {
            return differ(
                "they were measured on different records",
                &paths(self),
                &paths(other),
            );
        }
        if self.records != other.records {
            let [one, two] = [self, other].map(|run| format!("{} records", run.records));
            return differ("they were measured on different records", &one, &two);
        }
        if self.by != other.by {
            return Some(format!(
                "they were measured by different things: {} by {}, {} by {}",
                self.run, self.by, other.run, other.by
            ));
        }
        if self.yardstick != other.yardstick {
            let [one, two] = [self, other].map(|run| keys(&run.yardstick));
            let only = |one: &[String], two: &[String]| -> String {
                let lines: Vec<&str> = (one.iter())
                    .filter(|line| !two.contains(line))
                    .map(String::as_str)
                    .collect();
                match lines[..] {
                    [] => "none of these keys".to_owned(),
                    _ => lines.join(", "),
                }
            };
            return Some(format!(
                "they were measured by different objectives, losses or limits: {} by {}, {} by {}",
                self.run,
                only(&one, &two),
                other.run,
                only(&two, &one),
            ));
        }
        None
    }
}

/// The lines of a text in TOML that give a key, each with the name of its table in front; those of a list of tables are numbered.
fn keys(toml: &str) -> Vec<String> {
    let (mut table, mut count, mut keys) = (String::new(), 0, Vec::new());
    for line in toml.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(name) = line.strip_prefix("[[") {
            count += 1;
            table = format!("{}[{count}].", name.trim_end_matches(']'));
        } else if let Some(name) = line.strip_prefix('[') {
            table = format!("{}.", name.trim_end_matches(']'));
        } else {
            keys.push(format!("{table}{line}"));
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Provenance {
        /// For tests.
        pub(crate) fn of_runs(runs: Vec<MeasuredRun>) -> Self {
            Self {
                panacea: "0.1.0".to_owned(),
                command: "panacea eval-front".to_owned(),
                runs,
            }
        }
    }

    impl MeasuredRun {
        /// For tests: a run called `first`, with objectives and the means and deviations of their rewards.
        pub(crate) fn of_rewards(by: &str, scales: &[(&str, f64, f64)]) -> Self {
            let scales = scales
                .iter()
                .map(|&(objective, mean, deviation)| RewardScale {
                    objective: objective.to_owned(),
                    mean,
                    deviation,
                    answers: 96,
                });
            Self {
                by: by.to_owned(),
                files: Vec::new(),
                reward_scales: scales.collect(),
                ..run("first")
            }
        }
    }

    fn run(name: &str) -> MeasuredRun {
        MeasuredRun {
            run: name.to_owned(),
            steps: Some(20),
            by: "records".to_owned(),
            records: 5,
            origin: "held-out".to_owned(),
            files: vec![MeasuredFile {
                path: format!("{name}.jsonl"),
                sha256: "feed".to_owned(),
            }],
            yardstick: "beta = 0.1\nloss = \"dpo\"\n".to_owned(),
            reward_scales: Vec::new(),
        }
    }

    #[test]
    fn the_same_records_judged_alike_are_comparable_whatever_their_paths() {
        assert_eq!(run("a").not_comparable(&run("b")), None);
    }

    #[test]
    fn whatever_differs_is_named() {
        type Change = fn(&mut MeasuredRun);
        let changes: [(Change, &str); 5] = [
            (
                |run| run.files[0].sha256 = "face".to_owned(),
                "different records: a on a.jsonl, b on b.jsonl",
            ),
            (|run| run.records = 4, "a on 5 records, b on 4 records"),
            (
                |run| run.by = "rewards".to_owned(),
                "a by records, b by rewards",
            ),
            (
                |run| run.yardstick = "beta = 0.5\nloss = \"dpo\"\n".to_owned(),
                "a by beta = 0.1, b by beta = 0.5",
            ),
            (
                |run| run.yardstick += "[[objective]]\nname = \"x\"\n[[objective]]\nname = \"x\"\n",
                "a by none of these keys, b by objective[1].name = \"x\", objective[2].name = \"x\"",
            ),
        ];
        for (change, expected) in changes {
            let mut other = run("b");
            change(&mut other);
            let found = run("a").not_comparable(&other).expect("they differ");
            assert!(found.contains(expected), "{found}");
        }
    }
}
