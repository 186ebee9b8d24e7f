//! What is known of a run, in words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use panacea_config::{Advantages, Learning, Length, MethodPlan, Plan};
use panacea_data::{LabelSource, ObjectiveSpec};
use panacea_methods::Method;
use panacea_objectives::Loss;
use panacea_runs::RunFacts;

use super::{Form, escaped};
use crate::Base;

/// What it was trained for, and how.
pub(super) fn training(plan: &Plan, version: &str) -> String {
    let mut text = String::from("## What it was trained for\n\n");
    for objective in plan.objectives() {
        text += &format!(
            "- **{}**: {}\n",
            escaped(&objective.name),
            meaning(objective)
        );
    }
    let adapter = plan.adapter();
    let optimizer = plan.optimizer();
    let length = match optimizer.length {
        Length::Steps(steps) => format!("{steps} steps"),
        Length::Epochs(epochs) => format!("{epochs} passes over the records"),
    };
    text += &format!(
        "\nHow:\n\n- Method: {}\n- Learns by {}\n",
        method(plan),
        learning(plan.method())
    );
    text += &format!(
        "- Adapter: SVD-LoRA of rank {} + {}, alpha {}, on {}\n",
        adapter.rank,
        plan.objectives().len(),
        adapter.alpha,
        adapter
            .modules
            .iter()
            .map(|module| escaped(module))
            .collect::<Vec<_>>()
            .join(", ")
    );
    text += &format!(
        "- Length: {length}, {} records a step, learning rate {}, seed {}\n- Trained with Panacea {version}\n",
        optimizer.batch_size,
        optimizer.learning_rate,
        plan.seed(),
    );
    text
}

/// An objective in words.
fn meaning(objective: &ObjectiveSpec) -> String {
    let (of, opposite) = match &objective.source {
        LabelSource::Score(key) => (
            format!("higher scores `{}` of the records", code(key)),
            format!("lower scores `{}` of the records", code(key)),
        ),
        LabelSource::Column(column) => (
            format!("what the records' column `{}` prefers", code(column)),
            format!(
                "what the records' column `{}` does not prefer",
                code(column)
            ),
        ),
        LabelSource::Chosen => (
            "the responses that the data set has chosen".to_owned(),
            "the responses that the data set has rejected".to_owned(),
        ),
        LabelSource::Rule(rule) => (
            format!("{} responses", rule.name()),
            format!("responses that are not {}", rule.name()),
        ),
        LabelSource::Reward(_) => (
            "a reward of its own answers".to_owned(),
            "little of a reward of its own answers".to_owned(),
        ),
    };
    if objective.negate { opposite } else { of }
}

fn method(plan: &Plan) -> String {
    let what = match plan.method().method {
        Method::Panacea => "one adapter for all preferences",
        Method::RewardedSoups => {
            "rewarded soups, an adapter for each objective whose updates are mixed"
        }
        Method::Discrete { .. } => "an adapter for each preference of a grid",
        Method::RewardModel => "a reward model with a reward for each objective",
    };
    format!("{what} ({})", escaped(&plan.method().label()))
}

fn learning(method: &MethodPlan) -> String {
    let loss = match &method.learning {
        Learning::Supervised(Loss::Dpo(dpo)) => {
            format!(
                "direct preference optimisation on pairs, β = {}",
                dpo.beta()
            )
        }
        Learning::Supervised(Loss::Kto(kto)) => {
            format!(
                "Kahneman–Tversky optimisation on single responses, β = {}",
                kto.beta()
            )
        }
        Learning::Supervised(Loss::Sft(_)) => "supervised fine-tuning on responses".to_owned(),
        Learning::Supervised(Loss::BradleyTerry(_)) => {
            return "the Bradley–Terry loss on pairs".to_owned();
        }
        Learning::Rlhf(rlhf) => {
            let by = match rlhf.advantages {
                Advantages::Gae { .. } => "PPO",
                Advantages::Rloo => "RLOO",
                Advantages::Grpo => "GRPO",
                Advantages::Gdpo { .. } => "GDPO",
            };
            let beta = match rlhf.kl_control {
                None => format!("β = {}", rlhf.beta),
                Some(control) => format!(
                    "β from {} on, as a KL of {} nats asked for",
                    rlhf.beta, control.target
                ),
            };
            return format!("{by} from rewards of its own answers, {beta}");
        }
    };
    format!(
        "{loss}; the losses become one by {} scalarisation",
        method.aggregation.name()
    )
}

/// The tag of what it learns by.
pub(super) fn kind(method: &MethodPlan) -> &'static str {
    match &method.learning {
        Learning::Supervised(Loss::Dpo(_)) => "dpo",
        Learning::Supervised(Loss::Kto(_)) => "kto",
        Learning::Supervised(Loss::Sft(_)) => "sft",
        Learning::Supervised(Loss::BradleyTerry(_)) => "reward-model",
        Learning::Rlhf(rlhf) => match rlhf.advantages {
            Advantages::Gae { .. } => "ppo",
            Advantages::Rloo => "rloo",
            Advantages::Grpo => "grpo",
            Advantages::Gdpo { .. } => "gdpo",
        },
    }
}

/// The model that it was trained on.
pub(super) fn base(base: &Base, facts: &RunFacts) -> String {
    let mut text = String::from("## Base model\n\n");
    text += &match (base.repository(), base.revision()) {
        (Some(name), Some(revision)) => format!("{}, commit `{}`.", escaped(name), code(revision)),
        (Some(name), None) => format!("{}.", escaped(name)),
        (None, _) => {
            let name = file_name(base.pretrained().source());
            format!(
                "{}, which is not known by a name on the Hugging Face hub.",
                escaped(&name)
            )
        }
    };
    if let Some(file) = base.pretrained().gguf_path() {
        text += &format!(
            " It was read from the GGUF file {}: beside weights of another precision the answers differ a little.",
            escaped(&file_name(file))
        );
    }
    text += &format!(
        "\n\nFingerprint of its configuration and weights, as Panacea computes it: `{}`\n",
        code(&facts.model_fingerprint)
    );
    text
}

/// The files that it was trained and measured on.
pub(super) fn data(plan: &Plan, facts: &RunFacts, counts: &BTreeMap<PathBuf, usize>) -> String {
    let objectives = plan.objectives().iter();
    let own = objectives.flat_map(|objective| {
        let train = objective.train.iter().map(|file| (file, "training"));
        train.chain(objective.eval.iter().map(|file| (file, "evaluation")))
    });
    let train = plan.data().train.iter().map(|file| (file, "training"));
    let eval = plan.data().eval.iter().map(|file| (file, "evaluation"));
    let rows: Vec<Vec<String>> = train
        .chain(eval)
        .chain(own)
        .map(|(file, part)| {
            let count = counts.get(file).map(usize::to_string);
            let fingerprint = facts.data_fingerprints.get(file).cloned();
            [
                Some(file_name(file)),
                Some(part.to_owned()),
                count,
                fingerprint,
            ]
            .map(|cell| cell.unwrap_or_else(|| "–".to_owned()))
            .into()
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = ["file", "for", "records", "SHA-256"].map(str::to_owned);
    format!("## Data\n\n{}", table(&header, &rows))
}

/// What it is not.
pub(super) fn limits(plan: &Plan, base: &Base, form: &Form, has_license: bool) -> String {
    let mut text = String::from("## Limits\n\n");
    if !plan.method().is_reward_model() {
        text += "- The objectives are what the labels and rewards above say, nothing more: no objective is about truth or safety \
                 unless it is listed.\n";
    }
    text += "- It has the languages, the context length and the faults of its base model.\n";
    if form.is_adapter() {
        text += "- It belongs to that base model alone; on another one its answers mean nothing.\n";
    }
    if let Ok(Some(note)) = base.pretrained().unwritten() {
        text += &format!("- {}.\n", escaped(&note));
    }
    if !has_license {
        text += "- Its licence is not stated here; that of the base model applies to what is made from it.\n";
    }
    text
}

/// A table in Markdown.
pub(super) fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| escaped(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(header);
    text += &format!("|{}\n", " --- |".repeat(header.len()));
    text.extend(rows.iter().map(|row| line(row)));
    text
}

/// The name alone: where it lies on somebody's machine is nobody's business.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// What stands between backticks.
fn code(text: &str) -> String {
    text.replace(['`', '\n', '\r'], " ")
}
