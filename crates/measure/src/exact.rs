//! The problems that records pose, where every policy's best is known.

use std::collections::HashSet;

use panacea_config::Rlhf;
use panacea_data::Example;
use panacea_evaluator::exact::{Comparison, KlMenu, KlProblem, Menu, MenuProblem};
use panacea_objectives::{DpoLoss, Loss};

use crate::error::MeasureError;

/// The problem that RLHF solves on the records' own responses.
pub fn kl_problem(
    objectives: usize,
    rlhf: &Rlhf,
    examples: &[Example],
    references: &[Vec<f64>],
) -> Result<KlProblem, MeasureError> {
    let menus = examples.iter().zip(references);
    let menus = menus.map(|(example, reference)| kl_menu(example, reference));
    Ok(KlProblem::new(
        objectives,
        rlhf.beta,
        menus.collect::<Result<_, _>>()?,
    )?)
}

/// The responses of a record with its own scores of them.
pub fn kl_menu(example: &Example, reference: &[f64]) -> Result<KlMenu, MeasureError> {
    let missing = |response: usize| MeasureError::NoScore {
        record: example.source.to_string(),
        response: response + 1,
    };
    if example.scores.is_empty() {
        return Err(missing(0));
    }
    let rewards = example.scores.iter().enumerate().map(|(response, scores)| {
        let scores = scores
            .iter()
            .map(|score| score.ok_or_else(|| missing(response)));
        scores.collect::<Result<Vec<f64>, _>>()
    });
    Ok(KlMenu {
        reference: reference.to_vec(),
        rewards: rewards.collect::<Result<_, _>>()?,
    })
}

/// The mean over records of the probability that the policy gives to the record's responses together.
pub fn menu_mass(log_probs: &[Vec<f64>]) -> f64 {
    let mass = |record: &Vec<f64>| record.iter().map(|log| log.exp()).sum::<f64>();
    log_probs.iter().map(mass).sum::<f64>() / log_probs.len() as f64
}

/// The problem of the records as one whose optimum is known: every label is a probability strictly between
/// 0 and 1, no two records share a prompt, and the loss is DPO's without an SFT term.
pub fn menu_problem(objectives: usize, loss: &Loss, examples: &[Example]) -> Option<MenuProblem> {
    let Loss::Dpo(dpo) = loss else {
        return None;
    };
    let (DpoLoss::Sigmoid { label_smoothing }, 0.0) = (dpo.loss(), dpo.sft_weight()) else {
        return None;
    };
    let prompts: HashSet<&[u32]> = examples.iter().map(|e| e.prompt.as_slice()).collect();
    if prompts.len() < examples.len() {
        return None;
    }
    let smoothed = |label: f64| label * (1.0 - label_smoothing) + (1.0 - label) * label_smoothing;
    let menu = |example: &Example| {
        let comparisons = example.judgements.iter().map(|judgement| {
            let labels = judgement.labels.iter();
            Some(Comparison {
                first: judgement.response,
                second: judgement.against?,
                labels: labels
                    .map(|label| label.map(smoothed))
                    .collect::<Option<_>>()?,
            })
        });
        Some(Menu {
            responses: example.responses.len(),
            comparisons: comparisons.collect::<Option<_>>()?,
        })
    };
    let menus: Option<Vec<Menu>> = examples.iter().map(menu).collect();
    MenuProblem::new(objectives, menus?).ok()
}
