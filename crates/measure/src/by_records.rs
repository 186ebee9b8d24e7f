//! The front of a run by the records' own responses.

use std::time::Instant;

use panacea_config::{Advantages, Learning, Rlhf};
use panacea_data::Example;
use panacea_evaluator::exact::KlProblem;
use panacea_evaluator::{ExactFront, Front, MethodPoints, PointRecords};
use panacea_methods::Served;
use panacea_objectives::{Loss, Preference, simplex_grid, usual_divisions};
use panacea_runs::CountedProgress;
use panacea_trainer::{
    Evaluated, evaluate, evaluate_untrained, record_values, references, response_log_probs,
    summarise,
};

use crate::error::MeasureError;
use crate::exact::{kl_menu, kl_problem, menu_mass, menu_problem, sft_problem};
use crate::opened::{Measured, Opened};

/// Steps along an edge of the simplex at which the exact front of two objectives is drawn.
const EXACT_DIVISIONS: usize = 100;

impl Opened {
    /// The front of the run over a grid of preferences.
    pub fn measure(&self, grid: &[Preference]) -> Result<Measured, MeasureError> {
        let objectives = self.policy.plan().objective_names();
        let learning = &self.yardstick.method().learning;
        let examples = self.measured();

        let work = examples.len() * (grid.len() + 1);
        let progress = CountedProgress::new(work, format!("front of {}", self.run.name()));
        let known = &self.references;
        let reference = references(known, &self.base.decoder, learning, examples, || {
            progress.inc()
        })?;
        let mut points = Vec::with_capacity(grid.len());
        let (mut least_mass, mut switch_seconds) = (f64::INFINITY, 0.0);
        for preference in grid {
            let started = Instant::now();
            let Served::Adapter(steering) = self.policy.serve(preference)?;
            switch_seconds += started.elapsed().as_secs_f64() / grid.len() as f64;
            let log_probs: Vec<Vec<f64>> = match learning {
                Learning::Supervised(loss) => {
                    let records = evaluate(
                        &self.base.decoder,
                        &steering,
                        loss,
                        examples,
                        &reference,
                        || progress.inc(),
                    )?;
                    points.push(point(preference, &objectives, &records));
                    records.into_iter().map(|record| record.outputs).collect()
                }
                Learning::Rlhf(rlhf) => {
                    let log_probs = examples.iter().map(|example| {
                        progress.inc();
                        response_log_probs(&self.base.decoder, Some(&steering), example)
                    });
                    let log_probs = log_probs.collect::<Result<Vec<_>, _>>()?;
                    points.push(menu_point(
                        preference, examples, &log_probs, &reference, rlhf,
                    )?);
                    log_probs
                }
            };
            least_mass = least_mass.min(menu_mass(examples, &log_probs));
        }
        let mut notes = vec![format!(
            "Run {}: {} {} records, log-probabilities of their given responses.",
            self.run.name(),
            examples.len(),
            self.origin
        )];
        let untrained = self.untrained(&reference)?;
        progress.finish();
        let mut method = MethodPoints::from_records(
            &self.policy.plan().method().label(),
            &objectives,
            points,
            Some(&untrained),
            Some(self.cost(switch_seconds)?),
        )?;
        let mut exact = None;
        let drawn = match (objectives.len(), grid.len()) {
            (2, _) => &simplex_grid(2, EXACT_DIVISIONS),
            (m, 1) => &simplex_grid(m, usual_divisions(m)),
            _ => grid,
        };
        let aggregation = &self.yardstick.method().aggregation;
        match learning {
            Learning::Supervised(Loss::Sft(sft)) => {
                if let Some(problem) = sft_problem(objectives.len(), *sft, examples) {
                    method.compare(&problem, aggregation);
                    exact = Some(ExactFront::of(&problem, drawn));
                }
            }
            Learning::Supervised(loss) => {
                if let Some(problem) = menu_problem(objectives.len(), loss, examples) {
                    method.compare(&problem, aggregation);
                    exact = Some(ExactFront::of(&problem, drawn));
                }
            }
            Learning::Rlhf(rlhf) => {
                let problem = kl_problem(objectives.len(), rlhf, examples, &reference)?;
                method.compare(&problem, aggregation);
                exact = Some(ExactFront::of(&problem, drawn));
            }
        }
        if let (Learning::Rlhf(_), Learning::Rlhf(own)) =
            (learning, &self.policy.plan().method().learning)
        {
            let why = another_problem(own).join(", and ");
            if !why.is_empty() {
                notes.push(format!(
                    "Run {}: {why}, so that the exact front is that of another problem than the one it learned.",
                    self.run.name()
                ));
            }
        }
        if exact.is_some() {
            notes.push(format!(
                "Run {}: the best that any policy can do on these records is known, and so is the exact front. \
                 The responses of the records hold at least {:.2} % of the policy's probability at every λ.",
                self.run.name(),
                100.0 * least_mass
            ));
        }
        let front = Front::new(objectives, vec![method], None, exact)?;
        Ok(Measured {
            front,
            notes,
            provenance: self.provenance("records".to_owned(), examples.len()),
        })
    }

    /// Per objective, the value of each record under the model before its training.
    fn untrained(&self, reference: &[Vec<f64>]) -> Result<Vec<Vec<f64>>, MeasureError> {
        let examples = self.measured();
        let objectives = self.policy.plan().objectives().len();
        match &self.yardstick.method().learning {
            Learning::Supervised(loss) => {
                let records = evaluate_untrained(&self.base.decoder, loss, examples, reference)?;
                let values = (0..objectives).map(|i| record_values(&records, i));
                Ok(values.collect())
            }
            Learning::Rlhf(rlhf) => menu_values(objectives, examples, reference, reference, rlhf),
        }
    }
}

/// Why a run did not learn the problem whose best policies are known, if it did not.
fn another_problem(rlhf: &Rlhf) -> Vec<&'static str> {
    let by_group = matches!(rlhf.advantages, Advantages::Grpo | Advantages::Gdpo { .. });
    let discounts = matches!(rlhf.advantages, Advantages::Gae { gamma, .. } if gamma != 1.0);
    let reasons = [
        (rlhf.normalise, "it learned from normalised rewards"),
        (
            rlhf.reward_clip.is_some(),
            "its rewards were cut at rlhf.reward_clip",
        ),
        (
            by_group,
            "its advantages were divided by the deviation of each group",
        ),
        (discounts, "its later rewards counted less (rlhf.gamma)"),
        (
            rlhf.kl_control.is_some(),
            "its β followed rlhf.kl_target and is not method.beta",
        ),
        (
            rlhf.ptx_weight > 0.0,
            "it learned the records' responses as well (rlhf.ptx_weight)",
        ),
    ];
    let hold = reasons.into_iter().filter(|(holds, _)| *holds);
    hold.map(|(_, why)| why).collect()
}

fn point(preference: &Preference, objectives: &[String], records: &[Evaluated]) -> PointRecords {
    let summary = summarise(objectives, records);
    PointRecords {
        lambda: preference.weights().to_vec(),
        records: (0..objectives.len())
            .map(|i| record_values(records, i))
            .collect(),
        labelled: Some(
            (0..objectives.len())
                .map(|i| labelled(records, i))
                .collect(),
        ),
        accuracy: summary.iter().map(|objective| objective.accuracy).collect(),
        margin: summary.iter().map(|objective| objective.margin).collect(),
        response_tokens: None,
    }
}

/// Which records have a value of objective i.
fn labelled(records: &[Evaluated], i: usize) -> Vec<usize> {
    let is_labelled = |record: &usize| records[*record].terms.of(i).next().is_some();
    (0..records.len()).filter(is_labelled).collect()
}

fn menu_point(
    preference: &Preference,
    examples: &[Example],
    log_probs: &[Vec<f64>],
    references: &[Vec<f64>],
    rlhf: &Rlhf,
) -> Result<PointRecords, MeasureError> {
    Ok(PointRecords {
        lambda: preference.weights().to_vec(),
        records: menu_values(preference.len(), examples, log_probs, references, rlhf)?,
        ..PointRecords::default()
    })
}

/// J_i = E(r_i) − β KL(π ‖ π_ref) of every record, over its own responses, whose probabilities are made to sum to 1.
fn menu_values(
    objectives: usize,
    examples: &[Example],
    log_probs: &[Vec<f64>],
    references: &[Vec<f64>],
    rlhf: &Rlhf,
) -> Result<Vec<Vec<f64>>, MeasureError> {
    let mut values = vec![Vec::with_capacity(examples.len()); objectives];
    for ((example, log_probs), reference) in examples.iter().zip(log_probs).zip(references) {
        let menu = kl_menu(example, reference)?;
        let problem = KlProblem::new(objectives, rlhf.beta, vec![menu])?;
        let of_record = problem.values(std::slice::from_ref(log_probs));
        for (values, value) in values.iter_mut().zip(of_record) {
            values.push(value);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use panacea_config::{Overrides, Plan, Spec};

    use super::*;

    #[test]
    fn whatever_changes_the_problem_is_said() {
        let reasons = |more: &str| {
            let plan = format!(
                "[model]\npath = \"m\"\n[data]\ntrain = \"t\"\n[[objective]]\nname = \"a\"\nreward = {{ rule = \"conciseness\" }}\n\
                 [method]\nloss = \"rlhf\"\n[rlhf]\n{more}"
            );
            let plan = Plan::resolve(Spec::from_toml(&plan, "it"), &Overrides::default()).unwrap();
            let Learning::Rlhf(rlhf) = &plan.method().learning else {
                panic!("it learns from rewards")
            };
            another_problem(rlhf).len()
        };
        assert_eq!(reasons("advantages = \"rloo\"\nnormalise = false"), 0);
        assert_eq!(
            reasons("advantages = \"gae\"\nnormalise = false\ngamma = 1.0"),
            0
        );
        for one in [
            "advantages = \"grpo\"",
            "advantages = \"gdpo\"",
            "gamma = 0.9",
            "reward_clip = 2.0",
            "kl_target = 6.0",
            "ptx_weight = 0.1",
        ] {
            assert_eq!(reasons(&format!("normalise = false\n{one}")), 1, "{one}");
        }
        assert_eq!(reasons("normalise = true\nptx_weight = 0.1"), 2);
    }
}
