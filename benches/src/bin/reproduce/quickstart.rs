//! The quickstart's world: every method against the optimum.
//!
//! Every number comes out of the commands of `panacea` that a user would type: this program only types them, for
//! several seeds, and takes means. It expects `panacea` beside itself, where `xtask` builds both.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use panacea_evaluator::Front;
use panacea_evaluator::statistics::{Estimate, estimate};
use panacea_runs::{RunFolder, write_file};

/// The world with a known front: every method with 2, 3, 5 and 10 objectives, and one setting changed at a time with 2 and 5.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask reproduce quickstart
  cargo xtask reproduce quickstart --only m2 --seeds 1

Trainings that are finished are not repeated, and one that was stopped goes on: start it again with the same
--runs.")]
pub struct Quickstart {
    /// Seeds: 1, 2, … up to this number.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Only experiments whose group has this name (m2, m3, m5, m10, ablation2, ablation5); may be given often.
    #[arg(long)]
    only: Vec<String>,
    /// Where the runs go.
    #[arg(long, default_value = "runs/reproduce")]
    runs: PathBuf,
    /// The folder for the tables and pictures.
    #[arg(long, default_value = "runs/reproduce/results")]
    out: PathBuf,
}

/// One line of a table: a configuration and what differs from it.
struct Experiment {
    group: &'static str,
    name: &'static str,
    config: &'static str,
    set: &'static [&'static str],
}

/// A step of so many records under one λ, for the largest loss is to be that of more than one of them.
macro_rules! tchebycheff {
    ($records:literal $(, $more:literal)*) => {
        &[
            "method.aggregation=\"tchebycheff\"",
            $($more,)*
            "preference.groups=1",
            concat!("optimizer.batch_size=", $records),
            "optimizer.steps=200",
            "optimizer.learning_rate=3e-3",
        ]
    };
}

/// What differs from a configuration, under a name.
type Setting = (&'static str, &'static [&'static str]);

/// The methods that are tried with every number of objectives. "Plain" learns s from 0, and all records of a step have one λ, uniform on
/// the simplex.
const METHODS: [Setting; 6] = [
    ("panacea-linear", &[]),
    (
        "panacea-linear, plain",
        &[
            "adapter.fixed_s=",
            "preference.groups=",
            "preference.concentration=",
            "optimizer.batch_size=8",
            "optimizer.steps=200",
            "optimizer.learning_rate=4e-3",
            "optimizer.schedule=\"cosine\"",
        ],
    ),
    ("panacea-tchebycheff", tchebycheff!("8")),
    (
        "panacea-smooth-tchebycheff",
        tchebycheff!("8", "method.smoothing=0.03"),
    ),
    // All records of the world in every step.
    ("panacea-tchebycheff, 24 records a step", tchebycheff!("24")),
    ("rewarded-soups", &["method.name=\"rewarded_soups\""]),
];
/// A training for each λ of the grid.
const DISCRETE: [Setting; 1] = [("discrete", &["method.name=\"discrete\""])];

const RANKS: [Setting; 2] = [
    ("rank 2", &["adapter.rank=2", "adapter.alpha=16.0"]),
    ("rank 16", &["adapter.rank=16", "adapter.alpha=128.0"]),
];
const ONE_AT_A_TIME: [Setting; 6] = [
    ("s learned", &["adapter.fixed_s="]),
    ("1 λ a step", &["preference.groups=1"]),
    (
        "8 records a step",
        &[
            "optimizer.batch_size=8",
            "preference.groups=8",
            "optimizer.steps=200",
            "optimizer.learning_rate=3e-3",
        ],
    ),
    ("no vertices", &["preference.vertex_probability=0.0"]),
    ("half vertices", &["preference.vertex_probability=0.5"]),
    ("cosine schedule", &["optimizer.schedule=\"cosine\""]),
];
const UNIFORM: [Setting; 1] = [("uniform λ", &["preference.concentration=1.0"])];

/// The groups in the order of the table: name, configuration, and what is tried.
const GROUPS: [(&str, &str, &[&[Setting]]); 6] = [
    ("m2", "quickstart.toml", &[&METHODS, &DISCRETE]),
    ("m3", "quickstart-3.toml", &[&METHODS]),
    ("m5", "quickstart-5.toml", &[&METHODS]),
    ("m10", "quickstart-10.toml", &[&METHODS]),
    ("ablation2", "quickstart.toml", &[&RANKS, &ONE_AT_A_TIME]),
    (
        "ablation5",
        "quickstart-5.toml",
        &[&ONE_AT_A_TIME, &UNIFORM],
    ),
];

/// What can be run, in the order of the table.
fn experiments() -> impl Iterator<Item = Experiment> {
    GROUPS.iter().flat_map(|&(group, config, settings)| {
        let settings = settings.iter().flat_map(|settings| settings.iter());
        settings.map(move |&(name, set)| Experiment {
            group,
            name,
            config,
            set,
        })
    })
}

impl Quickstart {
    pub fn run(self) -> Result<()> {
        let known = GROUPS.map(|(group, ..)| group);
        let is_unknown = |only: &&String| !known.contains(&only.as_str());
        if let Some(unknown) = self.only.iter().find(is_unknown) {
            bail!(
                "--only {unknown}: no such group; there are {}",
                known.join(", ")
            );
        }
        let chosen: Vec<Experiment> = experiments()
            .filter(|e| self.only.is_empty() || self.only.iter().any(|only| only == e.group))
            .collect();
        let mut rows = Vec::new();
        for experiment in &chosen {
            let fronts: Vec<Front> = (1..=self.seeds)
                .map(|seed| self.front(experiment, seed))
                .collect::<Result<_>>()?;
            rows.push(Row::new(experiment, &fronts)?);
        }
        for group in ["m2", "m3", "m5", "m10"] {
            let of_group = || chosen.iter().filter(|experiment| experiment.group == group);
            if of_group().next().is_some() {
                let names = of_group().map(|experiment| self.run_name(experiment, 1));
                let what = ["eval-front", "--prompts", "0", "--records", "all"];
                let mut arguments: Vec<String> = what.map(str::to_owned).to_vec();
                arguments.extend(names.flat_map(|name| ["--run".to_owned(), name]));
                let out = free(&self.out, group);
                arguments.extend(["--out".to_owned(), out.display().to_string()]);
                self.panacea(&arguments)?;
            }
        }
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot create {}", self.out.display()))?;
        let path = self.out.join("table.md");
        write_file(&path, table(&rows, self.seeds).as_bytes())?;
        println!("{}", path.display());
        Ok(())
    }

    /// `quickstart-m2-panacea-linear-seed1`
    fn run_name(&self, experiment: &Experiment, seed: u64) -> String {
        let name = format!(
            "quickstart-{}-{}-seed{seed}",
            experiment.group, experiment.name
        );
        name.replace(", ", "-")
            .replace(' ', "-")
            .replace('λ', "preferences")
    }

    /// Trains and measures one experiment under one seed, as far as that is not done yet.
    fn front(&self, experiment: &Experiment, seed: u64) -> Result<Front> {
        let name = self.run_name(experiment, seed);
        let folder = self.runs.join(&name);
        let newest = || match RunFolder::open(&folder) {
            Ok(run) => run.newest_front(),
            Err(_) => Ok(None),
        };
        if newest()?.is_none() {
            let mut arguments: Vec<String> = vec!["train".into(), "--config".into()];
            arguments.push(
                Path::new("configs")
                    .join(experiment.config)
                    .display()
                    .to_string(),
            );
            arguments.extend([
                "--seed".into(),
                seed.to_string(),
                "--run".into(),
                name.clone(),
            ]);
            for set in experiment.set {
                arguments.extend(["--set".into(), (*set).into()]);
            }
            if RunFolder::open(&folder).is_ok() {
                arguments.push("--resume".into());
            }
            self.panacea(&arguments)?;
            self.panacea(&[
                "eval-front".into(),
                "--prompts".into(),
                "0".into(),
                "--records".into(),
                "all".into(),
                "--run".into(),
                name,
            ])?;
        }
        let front = newest()?.with_context(|| format!("{} has no front", folder.display()))?;
        Ok(Front::read(&front)?)
    }

    /// Runs a command of `panacea`, after saying what it is.
    fn panacea(&self, arguments: &[String]) -> Result<()> {
        let runs = ["--runs".to_owned(), self.runs.display().to_string()];
        let shown: Vec<String> = (arguments.iter().chain(&runs))
            .map(|word| {
                if word.contains('"') {
                    format!("'{word}'")
                } else {
                    word.clone()
                }
            })
            .collect();
        eprintln!("$ cargo xtask {}", shown.join(" "));
        let own = std::env::current_exe().context("this program does not know its own file")?;
        let program = own.with_file_name(format!("panacea{}", std::env::consts::EXE_SUFFIX));
        let status = Command::new(&program)
            .args(arguments)
            .args(&runs)
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("cannot start {}", program.display()))?;
        if !status.success() {
            bail!("the command above ended with {status}");
        }
        Ok(())
    }
}

/// Means over seeds.
struct Row {
    group: &'static str,
    name: &'static str,
    ratio: Spread,
    regret_mean: Spread,
    regret_max: Spread,
    inner_product: Spread,
    seconds: Spread,
    trainings: usize,
    tokens: u64,
    bytes: u64,
    switch_seconds: Spread,
}

impl Row {
    fn new(experiment: &Experiment, fronts: &[Front]) -> Result<Self> {
        let spread = |of: &dyn Fn(&Front) -> Option<f64>| -> Result<Spread> {
            let values: Option<Vec<f64>> = fronts.iter().map(of).collect();
            values
                .and_then(|values| Spread::of(&values))
                .with_context(|| {
                    format!(
                        "{}: the exact front is not known, or a cost is missing",
                        experiment.name
                    )
                })
        };
        let first = &fronts
            .first()
            .context("--seeds must be at least 1")?
            .methods[0];
        Ok(Self {
            group: experiment.group,
            name: experiment.name,
            ratio: spread(&|front| front.methods[0].indicators.hypervolume_ratio)?,
            regret_mean: spread(&|front| front.methods[0].indicators.regret_mean)?,
            regret_max: spread(&|front| front.methods[0].indicators.regret_max)?,
            inner_product: spread(&|front| Some(front.methods[0].indicators.inner_product))?,
            seconds: spread(&|front| Some(front.methods[0].cost?.train_seconds))?,
            trainings: first.cost.map_or(0, |cost| cost.trainings),
            tokens: first.cost.map_or(0, |cost| cost.train_tokens as u64),
            bytes: first.cost.map_or(0, |cost| cost.bytes),
            switch_seconds: spread(&|front| Some(front.methods[0].cost?.switch_seconds))?,
        })
    }
}

/// A mean and the standard deviation (n − 1) around it.
struct Spread {
    mean: f64,
    deviation: Option<f64>,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let Estimate { mean, stderr } = estimate(values)?;
        let n = values.len() as f64;
        Some(Self {
            mean,
            deviation: (values.len() > 1).then_some(stderr * n.sqrt()),
        })
    }

    fn show(&self, decimals: usize) -> String {
        match self.deviation {
            Some(deviation) => format!("{:.decimals$} ± {deviation:.decimals$}", self.mean),
            None => format!("{:.decimals$}", self.mean),
        }
    }
}

/// A folder for the front of a group that is not there yet: `m2`, `m2-2` and so on. `eval-front` writes over none.
fn free(out: &Path, group: &str) -> PathBuf {
    let numbered = (2..).map(|n| format!("{group}-{n}"));
    let mut names = std::iter::once(group.to_owned()).chain(numbered);
    let free = names.find_map(|name| Some(out.join(name)).filter(|path| !path.exists()));
    free.unwrap_or_else(|| out.join(group))
}

fn table(rows: &[Row], seeds: u64) -> String {
    let mut text = format!("Mean ± standard deviation over {seeds} seeds.\n\n");
    text.push_str("| group | method | hypervolume of the exact | mean regret | largest regret | inner product | trainings | M tokens | seconds | MB stored | ms to switch λ |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {:.2} | {} | {:.2} | {} |",
            row.group,
            row.name,
            row.ratio.show(4),
            row.regret_mean.show(5),
            row.regret_max.show(5),
            row.inner_product.show(4),
            row.trainings,
            row.tokens as f64 / 1e6,
            row.seconds.show(1),
            row.bytes as f64 / 1e6,
            Spread {
                mean: row.switch_seconds.mean * 1e3,
                deviation: None
            }
            .show(2),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_sample_deviations() {
        assert_eq!(Spread::of(&[1.0, 3.0]).unwrap().show(3), "2.000 ± 1.414");
        assert_eq!(Spread::of(&[1.0]).unwrap().show(1), "1.0");
    }

    #[test]
    fn every_experiment_has_a_configuration_and_a_name_of_its_own() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let all: Vec<Experiment> = experiments().collect();
        for (index, experiment) in all.iter().enumerate() {
            assert!(
                configs.join(experiment.config).is_file(),
                "{}",
                experiment.config
            );
            let twins = all[..index].iter();
            assert!(
                !twins
                    .clone()
                    .any(|e| (e.group, e.name) == (experiment.group, experiment.name))
            );
        }
    }
}
