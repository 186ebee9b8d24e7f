//! `runs list`.

use std::path::Path;

use anyhow::Result;
use panacea_runs::{RunFolder, RunState, RunSummary};

use super::{counted, size, state_word, summary_json};

/// Characters of a line.
const WIDTH: usize = 80;

/// Characters of a name that stands in its column; a longer one has a line of its own.
const NAME: usize = 26;

pub fn run(runs: &Path, json: bool) -> Result<()> {
    let folders = RunFolder::all(runs)?;
    let all: Vec<RunSummary> = folders
        .iter()
        .map(RunSummary::of)
        .collect::<Result<_, _>>()?;
    if json {
        let all: Vec<_> = all.iter().map(summary_json).collect::<Result<_>>()?;
        say!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    if all.is_empty() {
        note!(
            "{}: there are no runs; cargo xtask train makes one",
            runs.display()
        );
        return Ok(());
    }
    say!(
        "{:<NAME$} {:<11} {:>13}  {:<15} {:>9}",
        "run",
        "state",
        "steps",
        "last",
        "size"
    );
    for run in &all {
        say!("{}", row(run)?);
    }
    Ok(())
}

/// Two lines: the numbers, and under them what was trained on what.
fn row(run: &RunSummary) -> Result<String> {
    let name = run.folder.name();
    let (above, name) = match name.chars().count() {
        0..=NAME => (String::new(), name),
        _ => (format!("{name}\n"), String::new()),
    };
    let steps = match run.total_steps {
        Some(total) => format!("{}/{total}", run.steps),
        None => run.steps.to_string(),
    };
    let metric = run.main_metric();
    let metric = metric.map_or_else(
        || "–".to_owned(),
        |(name, value)| format!("{name} {value:.4}"),
    );
    let about = match (&run.state, &run.record) {
        (RunState::Broken { reason }, _) => reason.clone(),
        (_, Some(record)) => {
            let model = record.plan.model();
            let model = model.file_name().map_or_else(
                || model.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            );
            let records = record.facts.records;
            let records =
                records.map_or_else(String::new, |n| format!(", {}", counted(n, "record")));
            let evaluations = counted(run.folder.evaluations()?.len(), "evaluation");
            let method = record.plan.method().label();
            format!("{method} on {model}{records}, {evaluations}")
        }
        (_, None) => String::new(),
    };
    Ok(format!(
        "{above}{name:<NAME$} {:<11} {steps:>13}  {metric:<15} {:>9}\n    {}",
        state_word(&run.state),
        size(run.bytes),
        cut(&about, WIDTH - 4)
    ))
}

/// As much of a text as a line has room for; `runs show` says all of it.
fn cut(text: &str, most: usize) -> String {
    let text = text.replace(char::is_control, " ");
    if text.chars().count() <= most {
        return text;
    }
    let kept: String = text.chars().take(most - 1).collect();
    format!("{kept}…")
}
