//! Trainings in a world whose optimum is known, for several seeds, and the table of how near to it they come.
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

/// Which trainings, and where they go.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask reproduce quickstart
  cargo xtask reproduce rewards --only m2 --seeds 1

Trainings that are finished are not repeated, and one that was stopped goes on: start it again with the same --runs. A run
whose settings are not today's is refused; give another --runs then.")]
pub struct Trainings {
    /// Seeds: 1, 2, … up to this number.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Only experiments whose group, the table's first column, has this name; may be given often.
    #[arg(long)]
    only: Vec<String>,
    /// Where the runs go.
    #[arg(long, default_value = "runs/reproduce")]
    runs: PathBuf,
    /// The folder for the tables and pictures.
    #[arg(long, default_value = "runs/reproduce/results")]
    out: PathBuf,
}

/// How a run is measured: on all records, without sample answers.
const MEASURE: [&str; 5] = ["eval-front", "--prompts", "0", "--records", "all"];

/// What differs from a configuration, under a name.
pub type Setting = (&'static str, &'static [&'static str]);

/// A table's experiments.
pub struct Table {
    /// What the names of its runs, table and pictures begin with.
    pub name: &'static str,
    /// In the order of the table.
    pub groups: &'static [Group],
}

/// Experiments with one configuration.
pub struct Group {
    /// The table's first column.
    pub name: &'static str,
    /// A file of `configs`.
    pub config: &'static str,
    /// What is tried.
    pub settings: &'static [&'static [Setting]],
    /// Whether its methods are drawn into one picture, those of the first seed.
    pub is_drawn: bool,
}

/// One line of a table: a configuration and what differs from it.
struct Experiment {
    group: &'static Group,
    name: &'static str,
    set: &'static [&'static str],
}

impl Group {
    /// One whose methods are drawn.
    pub const fn new(
        name: &'static str,
        config: &'static str,
        settings: &'static [&'static [Setting]],
    ) -> Self {
        Self {
            name,
            config,
            settings,
            is_drawn: true,
        }
    }

    /// The same, of which there is no picture.
    pub const fn not_drawn(self) -> Self {
        Self {
            is_drawn: false,
            ..self
        }
    }

    fn experiments(&'static self) -> impl Iterator<Item = Experiment> {
        let settings = self.settings.iter().flat_map(|settings| settings.iter());
        settings.map(move |&(name, set)| Experiment {
            group: self,
            name,
            set,
        })
    }
}

impl Table {
    /// `quickstart-m2-panacea-linear-seed1`
    fn run_name(&self, experiment: &Experiment, seed: u64) -> String {
        let Experiment { group, name, .. } = experiment;
        let name = format!("{}-{}-{name}-seed{seed}", self.name, group.name);
        name.replace(", ", "-")
            .replace(' ', "-")
            .replace('λ', "preferences")
    }
}

impl Trainings {
    /// Trains and measures what is not done yet, and writes table and pictures.
    pub fn run(self, table: &'static Table) -> Result<()> {
        let known: Vec<&str> = table.groups.iter().map(|group| group.name).collect();
        let is_unknown = |only: &&String| !known.contains(&only.as_str());
        if let Some(unknown) = self.only.iter().find(is_unknown) {
            bail!(
                "--only {unknown}: no such group; there are {}",
                known.join(", ")
            );
        }
        let is_chosen = |group: &&Group| {
            self.only.is_empty() || self.only.iter().any(|only| only == group.name)
        };
        let chosen = || table.groups.iter().filter(is_chosen);
        let mut rows = Vec::new();
        for experiment in chosen().flat_map(Group::experiments) {
            let fronts: Vec<Front> = (1..=self.seeds)
                .map(|seed| self.front(table, &experiment, seed))
                .collect::<Result<_>>()?;
            rows.push(Row::new(&experiment, &fronts)?);
        }
        for group in chosen().filter(|group| group.is_drawn) {
            let names = group
                .experiments()
                .map(|experiment| table.run_name(&experiment, 1));
            let mut arguments = MEASURE.map(str::to_owned).to_vec();
            arguments.extend(names.flat_map(|name| ["--run".to_owned(), name]));
            let out = free(&self.out, &format!("{}-{}", table.name, group.name));
            arguments.extend(["--out".to_owned(), out.display().to_string()]);
            self.panacea(&arguments)?;
        }
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot create {}", self.out.display()))?;
        let path = self.out.join(format!("{}.md", table.name));
        write_file(&path, markdown(&rows, self.seeds).as_bytes())?;
        println!("{}", path.display());
        Ok(())
    }

    /// Trains and measures one experiment under one seed, as far as that is not done yet.
    fn front(&self, table: &Table, experiment: &Experiment, seed: u64) -> Result<Front> {
        let name = table.run_name(experiment, seed);
        let folder = self.runs.join(&name);
        let newest = || match RunFolder::open(&folder) {
            Ok(run) => run.newest_front(),
            Err(_) => Ok(None),
        };
        let config = Path::new("configs").join(experiment.group.config);
        let mut train: Vec<String> = vec!["train".into()];
        train.extend(["--config".into(), config.display().to_string()]);
        train.extend(["--seed".into(), seed.to_string()]);
        train.extend(["--run".into(), name.clone()]);
        for set in experiment.set {
            train.extend(["--set".into(), (*set).into()]);
        }
        // Of a finished run it only sees to it that the settings are the same.
        if RunFolder::open(&folder).is_ok() {
            train.push("--resume".into());
        }
        self.panacea(&train)?;
        if newest()?.is_none() {
            let mut measure = MEASURE.map(str::to_owned).to_vec();
            measure.extend(["--run".into(), name]);
            self.panacea(&measure)?;
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
            group: experiment.group.name,
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

/// A folder for the front of a group that is not there yet: `quickstart-m2`, `quickstart-m2-2` and so on. `eval-front` writes over none.
fn free(out: &Path, group: &str) -> PathBuf {
    let numbered = (2..).map(|n| format!("{group}-{n}"));
    let mut names = std::iter::once(group.to_owned()).chain(numbered);
    let free = names.find_map(|name| Some(out.join(name)).filter(|path| !path.exists()));
    free.unwrap_or_else(|| out.join(group))
}

fn markdown(rows: &[Row], seeds: u64) -> String {
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
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn spreads_are_sample_deviations() {
        assert_eq!(Spread::of(&[1.0, 3.0]).unwrap().show(3), "2.000 ± 1.414");
        assert_eq!(Spread::of(&[1.0]).unwrap().show(1), "1.0");
    }

    #[test]
    fn every_experiment_has_a_configuration_and_runs_of_its_own() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let mut runs = HashSet::new();
        for table in [&crate::quickstart::TABLE, &crate::rewards::TABLE] {
            for experiment in table.groups.iter().flat_map(Group::experiments) {
                let config = experiment.group.config;
                assert!(configs.join(config).is_file(), "{config}");
                let run = table.run_name(&experiment, 1);
                assert!(runs.insert(run.clone()), "{run}");
            }
        }
    }
}
