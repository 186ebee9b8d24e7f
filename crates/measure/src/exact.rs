//! The problems that records pose, where every policy's best is known.

use std::collections::{BTreeMap, HashSet};

use panacea_config::Rlhf;
use panacea_data::Example;
use panacea_evaluator::exact::{Comparison, KlMenu, KlProblem, Menu, MenuProblem, SftProblem};
use panacea_objectives::{DpoLoss, Loss, Sft};

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

/// The mean over prompts of the probability that the policy gives to the records' responses together.
pub fn menu_mass(examples: &[Example], log_probs: &[Vec<f64>]) -> f64 {
    let mut prompts: BTreeMap<&[u32], BTreeMap<&[u32], f64>> = BTreeMap::new();
    for (example, log_probs) in examples.iter().zip(log_probs) {
        let menu = prompts.entry(&example.prompt).or_default();
        let responses = example.responses.iter().zip(log_probs);
        menu.extend(responses.map(|(response, log)| (response.as_slice(), log.exp())));
    }
    let masses = prompts.values().map(|menu| menu.values().sum::<f64>());
    masses.sum::<f64>() / prompts.len() as f64
}

/// The problem of the records as one whose optimum is known: for each prompt, every response is there for every objective.
pub fn sft_problem(objectives: usize, sft: Sft, examples: &[Example]) -> Option<SftProblem> {
    let labelled = |example: &Example, i: usize| {
        let mut judgements = example.judgements.iter();
        judgements.any(|judgement| judgement.labels[i].is_some())
    };
    let counts: Vec<usize> = (0..objectives)
        .map(|i| examples.iter().filter(|of| labelled(of, i)).count())
        .collect();
    let mut prompts: BTreeMap<&[u32], BTreeMap<&[u32], Vec<f64>>> = BTreeMap::new();
    for example in examples {
        let [response] = example.responses.as_slice() else {
            return None;
        };
        let menu = prompts.entry(&example.prompt).or_default();
        let shares = menu
            .entry(response)
            .or_insert_with(|| vec![0.0; objectives]);
        // J_i of a response with a log-probability of 1.
        let value = -sft.term(1.0, response.len()).loss;
        for (i, share) in shares.iter_mut().enumerate() {
            if labelled(example, i) {
                *share += value / counts[i] as f64;
            }
        }
    }
    let menus = prompts.into_values();
    SftProblem::new(
        objectives,
        menus.map(|menu| menu.into_values().collect()).collect(),
    )
    .ok()
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use panacea_data::{Source, Words};
    use panacea_objectives::Judgement;

    use super::*;

    /// A response to a prompt, as a record of these objectives out of two.
    fn example(prompt: u32, response: &[u32], of: [bool; 2]) -> Example {
        Example {
            source: Source::new(Path::new("answers.jsonl"), 1),
            prompt: vec![prompt],
            responses: vec![response.to_vec()],
            judgements: vec![Judgement {
                response: 0,
                against: None,
                labels: of.map(|is_one| is_one.then_some(1.0)).to_vec(),
            }],
            scores: Vec::new(),
            words: Words::default(),
        }
    }

    const ONE: [bool; 2] = [true, false];
    const TWO: [bool; 2] = [false, true];

    #[test]
    fn the_mixture_of_the_data_sets_is_the_best_answer_to_them() {
        let records = [
            example(7, &[1], ONE),
            example(7, &[1], ONE),
            example(7, &[1], ONE),
            example(7, &[2, 3], ONE),
            example(7, &[1], TWO),
            example(7, &[2, 3], TWO),
        ];
        let sum = Sft { per_token: false };
        let problem = sft_problem(2, sum, &records).expect("known");
        let optimum = problem.optimum(&[0.5, 0.5]);
        assert!((optimum.log_policy[0][0].exp() - 0.625).abs() < 1e-12);
        let [first, second] = [0.625_f64.ln(), 0.375_f64.ln()];
        assert!((optimum.values[0] - (0.75 * first + 0.25 * second)).abs() < 1e-12);
        assert!((optimum.values[1] - 0.5 * (first + second)).abs() < 1e-12);

        // A mean per token asks half as much of the answer with two tokens: (3/4 : 1/8) and (1/2 : 1/4).
        let mean = Sft { per_token: true };
        let problem = sft_problem(2, mean, &records).expect("known");
        let best = problem.optimum(&[1.0, 0.0]).log_policy[0][0].exp();
        assert!((best - 6.0 / 7.0).abs() < 1e-12);

        // The mass is that of both answers, however many records have them.
        let log_probs: Vec<Vec<f64>> = (records.iter())
            .map(|record| match record.responses[0].len() {
                1 => vec![0.5_f64.ln()],
                _ => vec![0.25_f64.ln()],
            })
            .collect();
        assert!((menu_mass(&records, &log_probs) - 0.75).abs() < 1e-12);
    }

    #[test]
    fn an_answer_of_one_objective_alone_leaves_no_front() {
        let records = [
            example(7, &[1], ONE),
            example(7, &[1], TWO),
            example(7, &[2], TWO),
        ];
        assert!(sft_problem(2, Sft { per_token: false }, &records).is_none());
        assert!(sft_problem(2, Sft { per_token: false }, &records[..2]).is_some());
    }
}
