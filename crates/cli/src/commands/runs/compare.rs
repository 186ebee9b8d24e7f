//! `runs compare`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};
use panacea_evaluator::Front;
use panacea_runs::{RunFolder, RunSummary};
use serde_json::{Value, json};

use super::{Evaluated, state_text};

pub fn run(runs: &Path, names: [&str; 2], json: bool) -> Result<()> {
    let both = names.map(|name| RunFolder::find(runs, Some(name)).map(|run| RunSummary::of(&run)));
    let [one, other] = both;
    let (one, other) = (one??, other??);
    let (Some(first), Some(second)) = (&one.record, &other.record) else {
        let [one, other] =
            [&one, &other].map(|run| format!("{}: {}", run.folder.name(), state_text(run)));
        bail!("a run that is broken cannot be compared: {one}; {other}");
    };
    let differences = first.unlike(second)?;
    let metrics = final_metrics(&one, &other);
    let fronts = fronts(&one, &other)?;
    if json {
        let differences = differences
            .iter()
            .map(|(key, one, other)| json!({"key": key, "a": one, "b": other}));
        let metrics = metrics
            .iter()
            .map(|(name, one, other)| json!({"metric": name, "a": one, "b": other}));
        let all = json!({
            "a": names[0],
            "b": names[1],
            "differences": differences.collect::<Vec<Value>>(),
            "metrics": metrics.collect::<Vec<Value>>(),
            "fronts": match &fronts {
                Ok(front) => json!({"comparable": true, "front": front}),
                Err(reason) => json!({"comparable": false, "reason": reason}),
            },
        });
        say!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    for run in [&one, &other] {
        say!("{}: {}", run.folder.name(), state_text(run));
    }
    say!(
        "\nplan{}",
        match differences.is_empty() {
            true => ": the same",
            false => "",
        }
    );
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
    for (key, one, other) in &differences {
        say!(
            "  {key}\n    {}: {}\n    {}: {}",
            names[0],
            shown(one),
            names[1],
            shown(other)
        );
    }
    say!("\nlast step");
    let width = metrics.iter().map(|(name, ..)| name.chars().count()).max();
    let width = width.unwrap_or(0);
    let number =
        |value: &Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
    say!("  {:<width$}  {:>12}  {:>12}", "", names[0], names[1]);
    for (name, one, other) in &metrics {
        say!(
            "  {name:<width$}  {:>12}  {:>12}",
            number(one),
            number(other)
        );
    }
    say!("\nfronts");
    match fronts {
        Ok(front) => {
            say!("{}", front.indicator_table());
            let reference: Vec<_> = front.reference.iter().map(|r| format!("{r:.4}")).collect();
            say!("reference of the hypervolume: {}", reference.join(", "));
        }
        Err(reason) => say!("  they cannot be compared: {reason}"),
    }
    Ok(())
}

/// What the last step of each says, by the name of the number.
fn final_metrics(one: &RunSummary, other: &RunSummary) -> Vec<(String, Option<f64>, Option<f64>)> {
    let number =
        |run: &RunSummary, pointer: &str| run.last_step.as_ref()?.pointer(pointer)?.as_f64();
    let mut rows = Vec::new();
    let mut add = |name: String, pointer: &str| {
        let values = (number(one, pointer), number(other, pointer));
        if values != (None, None) {
            rows.push((name, values.0, values.1));
        }
    };
    add("step".to_owned(), "/step");
    add("aggregated loss".to_owned(), "/aggregate");
    let names = |run: &RunSummary| {
        run.record
            .as_ref()
            .map(|record| record.plan.objective_names())
    };
    let names: BTreeSet<String> = [one, other]
        .into_iter()
        .filter_map(names)
        .flatten()
        .collect();
    for name in names {
        for key in ["reward", "loss", "margin", "accuracy"] {
            let pointer = name.replace('~', "~0").replace('/', "~1");
            add(
                format!("{name}, {key}"),
                &format!("/objectives/{pointer}/{key}"),
            );
        }
    }
    rows
}

/// The newest fronts of the two that were measured alike, under one reference; else why there are none.
fn fronts(one: &RunSummary, other: &RunSummary) -> Result<Result<Front, String>> {
    let mut all = Vec::new();
    for run in [one, other] {
        let (evaluations, broken) = Evaluated::all(run)?;
        for problem in broken {
            warn!("{problem}");
        }
        if evaluations.is_empty() {
            return Ok(Err(format!("run {} was not measured", run.folder.name())));
        }
        all.push(evaluations);
    }
    let mut reason = None;
    for first in all[0].iter().rev() {
        for second in all[1].iter().rev() {
            match not_comparable(first, second) {
                None => {
                    let pair = [(one, first), (other, second)];
                    let pair = pair.map(|(run, evaluated)| (run.folder.name(), alone(evaluated)));
                    return Ok(Ok(Front::overlay(pair.into(), None)?));
                }
                Some(found) => reason = reason.or(Some(found)),
            }
        }
    }
    Ok(Err(reason.unwrap_or_default()))
}

/// Why two evaluations are not of one kind.
fn not_comparable(one: &Evaluated, other: &Evaluated) -> Option<String> {
    let names = |front: &Front| front.objectives.join(", ");
    if one.front.objectives != other.front.objectives {
        let [one, other] = [one, other].map(|evaluated| names(&evaluated.front));
        return Some(format!("their objectives are others: {one} and {other}"));
    }
    match (one.provenance(), other.provenance()) {
        (Some(one), Some(other)) => one.not_comparable(other),
        _ => Some(
            "one was measured by a version that did not note the records; measure it again with eval-front"
                .to_owned(),
        ),
    }
}

/// What the run itself reaches, without others that it was measured with.
fn alone(evaluated: &Evaluated) -> Front {
    let mut front = evaluated.front.clone();
    front.methods.truncate(1);
    if let Some(method) = front.methods.first_mut()
        && let Some((label, _)) = method.method.rsplit_once(" (")
    {
        method.method = label.to_owned();
    }
    front
}
