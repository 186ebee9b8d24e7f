//! `runs`: what there is of trainings, one of them from near, two side by side, and away with some.

mod compare;
mod list;
mod remove;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use panacea_evaluator::{Front, MeasuredRun, MethodFront};
use panacea_runs::{EvaluationFolder, RunState, RunSummary};

use crate::session::RUNS;

/// List runs, look at one, compare two, remove some.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask runs list
  cargo xtask runs show first
  cargo xtask runs compare first second
  cargo xtask runs rm first second --yes")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Where runs are kept.
    #[arg(long, global = true, default_value = RUNS)]
    runs: PathBuf,
}

#[derive(Subcommand)]
enum Action {
    /// All runs, the one that was written to last first: what has become of them, how far they came, what was measured.
    List {
        /// Print one JSON array and nothing else.
        #[arg(long)]
        json: bool,
    },
    /// One run: its plan in short, how far it came, its last numbers, its checkpoints and evaluations.
    Show {
        /// The run; the newest one by default.
        run: Option<String>,
        /// Print one JSON object and nothing else.
        #[arg(long)]
        json: bool,
    },
    /// Remove runs with all that is in their folders, after asking.
    Rm {
        /// The runs.
        #[arg(required = true, value_name = "RUN")]
        names: Vec<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Two runs side by side: where their plans differ, their last numbers, and their fronts where these are comparable.
    Compare {
        /// One run.
        #[arg(value_name = "A")]
        one: String,
        /// The other.
        #[arg(value_name = "B")]
        other: String,
        /// Print one JSON object and nothing else.
        #[arg(long)]
        json: bool,
    },
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let runs = self.runs;
        match self.action {
            Action::List { json } => list::run(&runs, json)?,
            Action::Show { run, json } => show::run(&runs, run.as_deref(), json)?,
            Action::Rm { names, yes } => remove::run(&runs, &names, yes)?,
            Action::Compare { one, other, json } => compare::run(&runs, [&one, &other], json)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What has become of a run, in one word or two.
fn state_word(state: &RunState) -> &'static str {
    match state {
        RunState::Finished => "finished",
        RunState::Interrupted => "interrupted",
        RunState::InProgress { .. } => "in progress",
        RunState::NeverBegan => "never began",
        RunState::Broken { .. } => "broken",
    }
}

/// What has become of a run, with all that is known of it.
fn state_text(run: &RunSummary) -> String {
    let step = match run.total_steps {
        Some(total) => format!("step {} of {total}", run.steps),
        None => format!("step {}", run.steps),
    };
    match &run.state {
        RunState::Finished => format!("finished, {step}"),
        RunState::Interrupted => format!("interrupted at {step}"),
        RunState::InProgress { process } => match process {
            Some(process) => format!("in progress at {step} (process {process})"),
            None => format!("in progress at {step}"),
        },
        RunState::NeverBegan => "never began: no step was finished".to_owned(),
        RunState::Broken { reason } => format!("broken: {reason}"),
    }
}

/// What there is of a run as JSON, for programs.
fn summary_json(run: &RunSummary) -> Result<serde_json::Value> {
    let plan = run.record.as_ref().map(|record| &record.plan);
    let metric = run.main_metric();
    let reason = match &run.state {
        RunState::Broken { reason } => Some(reason),
        _ => None,
    };
    let process = match &run.state {
        RunState::InProgress { process } => process.as_ref(),
        _ => None,
    };
    Ok(serde_json::json!({
        "name": run.folder.name(),
        "path": run.folder.path(),
        "state": state_word(&run.state),
        "reason": reason,
        "process": process,
        "method": plan.map(|plan| plan.method().label()),
        "model": plan.map(|plan| plan.model()),
        "records": run.record.as_ref().and_then(|record| record.facts.records),
        "steps": run.steps,
        "total_steps": run.total_steps,
        "metric": metric.map(|(name, _)| name),
        "value": metric.map(|(_, value)| value),
        "evaluations": run.folder.evaluations()?.len(),
        "bytes": run.bytes,
    }))
}

/// `3.2 MiB`
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or("KiB");
    for larger in units {
        if value < 1023.95 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    format!("{value:.1} {unit}")
}

/// `2 evaluations`
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// What an evaluation says of the run in whose folder it lies.
struct Evaluated {
    folder: EvaluationFolder,
    front: Front,
}

impl Evaluated {
    /// All that can be read of a run's evaluations, the oldest first, and what is wrong with the others.
    fn all(run: &RunSummary) -> Result<(Vec<Self>, Vec<String>)> {
        let (mut read, mut broken) = (Vec::new(), Vec::new());
        let evaluations = run.folder.evaluations()?.into_iter();
        for folder in evaluations.filter(|one| one.front().exists()) {
            match Front::read(&folder.front()) {
                Ok(front) => read.push(Self { folder, front }),
                Err(error) => broken.push(error.to_string()),
            }
        }
        Ok((read, broken))
    }

    /// Of several runs that were measured together, the first is the one in whose folder the file lies.
    fn method(&self) -> Option<&MethodFront> {
        self.front.methods.first()
    }

    /// What it was measured on, where that was kept.
    fn provenance(&self) -> Option<&MeasuredRun> {
        self.front.provenance.as_ref()?.runs.first()
    }

    /// `002` of `evaluations/002`; `old` for what lies in the run's own folder.
    fn place(&self) -> String {
        match self.folder.number {
            Some(number) => format!("{number:03}"),
            None => "old".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (3 << 30, "3.0 GiB"),
            (5000 << 40, "5000.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
