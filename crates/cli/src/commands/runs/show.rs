//! `runs show`.

use std::path::Path;

use anyhow::Result;
use panacea_runs::{Extension, RunFolder, RunRecord, RunState, RunSummary};
use serde_json::{Value, json};

use super::{Evaluated, counted, size, state_text, summary_json};
use crate::session::list;
use crate::shell;

pub fn run(runs: &Path, name: Option<&str>, json: bool) -> Result<()> {
    let run = RunSummary::of(&RunFolder::find(runs, name)?)?;
    let (evaluations, broken) = Evaluated::all(&run)?;
    for problem in broken {
        warn!("{problem}");
    }
    if json {
        say!(
            "{}",
            serde_json::to_string_pretty(&as_json(&run, &evaluations)?)?
        );
        return Ok(());
    }
    line("run", &run.folder.path().display().to_string())?;
    line("state", &state_text(&run))?;
    line("size", &size(run.bytes))?;
    if let Some(record) = &run.record {
        show_record(record)?;
    }
    show_metrics(&run)?;
    let checkpoints = run.folder.whole_checkpoints()?;
    let steps: Vec<String> = checkpoints.iter().map(|one| one.step.to_string()).collect();
    if !steps.is_empty() {
        line("checkpoints", &format!("of step {}", steps.join(", ")))?;
    }
    for evaluation in &evaluations {
        line("evaluation", &evaluation_text(run.steps, evaluation))?;
    }
    for command in next_commands(&run, runs, evaluations.is_empty()) {
        line("next", &command)?;
    }
    Ok(())
}

fn line(name: &str, text: &str) -> Result<()> {
    say!("{name:<13}{text}");
    Ok(())
}

fn show_record(record: &RunRecord) -> Result<()> {
    let RunRecord { plan, facts } = record;
    line("method", &plan.method().label())?;
    line("objectives", &plan.objective_names().join(", "))?;
    let fingerprint: String = facts.model_fingerprint.chars().take(12).collect();
    let model = plan.model().display();
    line("model", &format!("{model} (fingerprint {fingerprint})"))?;
    let records = facts.records.map_or_else(String::new, |count| {
        format!("{} of ", counted(count, "record"))
    });
    line(
        "trained on",
        &format!("{records}{}", list(&plan.training_files())),
    )?;
    let evaluation = plan.evaluation_files(&[]);
    if !evaluation.is_empty() {
        line("evaluated on", &list(&evaluation))?;
    }
    line("training", &training(record))?;
    for Extension { at, from, to } in &facts.extensions {
        let at = at.map_or_else(String::new, |at| format!(", going on from step {at}"));
        line("extended", &format!("from {from} to {to} steps{at}"))?;
    }
    line(
        "made by",
        &format!("panacea {}, burn {}", facts.panacea, facts.burn),
    )
}

/// The plan in a line.
fn training(record: &RunRecord) -> String {
    let plan = &record.plan;
    let (adapter, optimizer) = (plan.adapter(), plan.optimizer());
    let steps = record
        .total_steps()
        .map_or_else(String::new, |steps| format!("{steps} steps of "));
    format!(
        "{steps}{}, learning rate {}, rank {}, seed {}, on {}",
        counted(optimizer.batch_size, "record"),
        optimizer.learning_rate,
        adapter.rank,
        plan.seed(),
        plan.device()
    )
}

fn show_metrics(run: &RunSummary) -> Result<()> {
    if let Some(step) = &run.last_step {
        let aggregate = number(&step["aggregate"]);
        line(
            "last step",
            &format!("{}: aggregated loss {aggregate}", step["step"]),
        )?;
        for (name, objective) in objectives(step) {
            let shown = ["reward", "loss", "margin", "accuracy"];
            let shown = shown.iter().filter(|key| objective[**key].is_number());
            let shown: Vec<String> = shown
                .map(|key| format!("{key} {}", number(&objective[*key])))
                .collect();
            line("", &format!("{name}: {}", shown.join(", ")))?;
            let scale = &objective["scale"];
            if scale.is_object() {
                line("", &format!("{name}: {}", scale_text(scale)))?;
            }
        }
    }
    for (place, measured) in run.last_measurement.iter().enumerate() {
        let name = match place {
            0 => "measured",
            _ => "",
        };
        let values: Vec<String> = objectives(measured)
            .map(|(name, objective)| format!("{name} {}", number(&objective["value"])))
            .collect();
        let lambda = measured["lambda"].as_array().into_iter().flatten();
        let lambda: Vec<String> = lambda
            .map(|weight| format!("{:.3}", weight.as_f64().unwrap_or(f64::NAN)))
            .collect();
        line(
            name,
            &format!(
                "at step {}, λ = ({}): J {}",
                measured["step"],
                lambda.join(", "),
                values.join(", ")
            ),
        )?;
    }
    Ok(())
}

/// What the rewards of an objective have been like, as metrics tell it.
fn scale_text(scale: &Value) -> String {
    format!(
        "rewards of {} answers: mean {}, deviation {}",
        scale["answers"],
        number(&scale["mean"]),
        number(&scale["deviation"])
    )
}

fn objectives(line: &Value) -> impl Iterator<Item = (&String, &Value)> {
    line["objectives"].as_object().into_iter().flatten()
}

/// A number of a line of metrics, which is null where there is none.
fn number(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"))
}

/// An evaluation in a line, of a run that has come to this step by now.
pub fn evaluation_text(step: usize, evaluation: &Evaluated) -> String {
    let volume = evaluation.method().map_or_else(String::new, |method| {
        let ratio = method.indicators.hypervolume_ratio;
        let ratio = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.3} of the exact)"));
        format!(", hypervolume {:.4}{ratio}", method.indicators.hypervolume)
    });
    let on = match evaluation.provenance() {
        Some(measured) => {
            let files: Vec<&str> = measured
                .files
                .iter()
                .map(|file| file.path.as_str())
                .collect();
            format!(
                "{} {} records of {}, by {}",
                measured.records,
                measured.origin,
                files.join(", "),
                measured.by
            )
        }
        None => "on records that an older version did not note".to_owned(),
    };
    let measured = evaluation.provenance();
    let then = measured.and_then(|measured| measured.of_another_step(step));
    let then = then.map_or_else(String::new, |then| format!(", when it was at step {then}"));
    format!("{}: {on}{volume}{then}", evaluation.place())
}

/// What one may want to do next, as it can be typed.
fn next_commands(run: &RunSummary, runs: &Path, is_unmeasured: bool) -> Vec<String> {
    let Some(plan) = run.record.as_ref().map(|record| &record.plan) else {
        return Vec::new();
    };
    let program = shell::program();
    let (measure, named) = (
        shell::measure(&run.folder, plan, runs),
        shell::run(&run.folder, runs),
    );
    match &run.state {
        RunState::Interrupted | RunState::NeverBegan => {
            vec![format!("{program} train{named} --resume")]
        }
        RunState::Finished if is_unmeasured || plan.method().is_reward_model() => vec![measure],
        RunState::Finished => vec![measure, format!("{program} serve{named}")],
        RunState::InProgress { .. } | RunState::Broken { .. } => Vec::new(),
    }
}

fn as_json(run: &RunSummary, evaluations: &[Evaluated]) -> Result<Value> {
    let mut all = summary_json(run)?;
    let evaluations: Vec<Value> = evaluations
        .iter()
        .map(|evaluation| {
            json!({
                "number": evaluation.folder.number,
                "path": evaluation.folder.path,
                "indicators": evaluation.method().map(|method| &method.indicators),
                "provenance": evaluation.front.provenance,
            })
        })
        .collect();
    let checkpoints = run.folder.whole_checkpoints()?;
    let steps: Vec<usize> = checkpoints.iter().map(|one| one.step).collect();
    all["last_step"] = json!(run.last_step);
    all["last_measurement"] = json!(run.last_measurement);
    all["checkpoints"] = json!(steps);
    all["evaluations"] = json!(evaluations);
    if let Some(record) = &run.record {
        all["facts"] = json!(record.facts);
        all["plan"] = serde_json::to_value(record.plan.to_spec())?;
    }
    Ok(all)
}
