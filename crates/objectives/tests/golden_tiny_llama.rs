//! The DPO losses and aggregates of a tiny Llama under three objectives, computed by PyTorch in float64.
//!
//! The values are read from `datasets/golden/tiny_llama/expected.json`, or from a folder of the same form
//! that `PANACEA_GOLDEN` names.

use panacea_objectives::{Aggregation, Batch, Dpo, DpoLoss, Judgement, Loss, Preference, Record};
use panacea_test_support::golden;
use serde_json::Value;

const TOLERANCE: f64 = 1e-9;

fn expected() -> Value {
    golden("tiny_llama/expected.json")
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("an array")
        .iter()
        .map(|number| number.as_f64().expect("a number"))
        .collect()
}

/// Rows 2p and 2p+1 of the file are the responses of pair p; a label is 1 where response 0 is preferred,
/// −1 where response 1 is, and 0 where the pair is not labelled.
fn losses(expected: &Value) -> Vec<Option<f64>> {
    let dpo = Dpo::new(
        expected["beta"].as_f64().expect("beta"),
        DpoLoss::Sigmoid {
            label_smoothing: 0.0,
        },
        0.0,
    )
    .expect("valid");
    let policy = numbers(&expected["policy_sum_logprob"]);
    let reference = numbers(&expected["ref_sum_logprob"]);
    let masks = expected["response_mask"]
        .as_array()
        .expect("one mask per response");
    let tokens: Vec<usize> = masks
        .iter()
        .map(|mask| numbers(mask).iter().filter(|m| **m > 0.0).count())
        .collect();
    let judgements: Vec<[Judgement; 1]> = expected["labels"]
        .as_array()
        .expect("one row of labels per pair")
        .iter()
        .map(|row| {
            let labels = numbers(row)
                .iter()
                .map(|&sign| (sign != 0.0).then_some((sign + 1.0) / 2.0))
                .collect();
            [Judgement::pair(0, 1, labels)]
        })
        .collect();
    let terms: Vec<_> = (judgements.iter().enumerate())
        .map(|(pair, judgements)| {
            let rows = 2 * pair..2 * pair + 2;
            Loss::Dpo(dpo).terms(&Record {
                kl: 0.0,
                outputs: &policy[rows.clone()],
                reference: &reference[rows.clone()],
                tokens: &tokens[rows],
                judgements,
            })
        })
        .collect();
    // Losses do not depend on the preference.
    let preferences = [Preference::uniform(judgements[0][0].labels.len())];
    let batch = Batch::deal(&preferences, judgements.iter().map(|j| &j[..]));
    batch.losses(&terms).remove(0)
}

#[test]
fn golden_tiny_llama_dpo_losses() {
    let expected = expected();
    let losses = losses(&expected);
    for (i, expected) in numbers(&expected["dpo_losses"]).iter().enumerate() {
        let found = losses[i].expect("labelled");
        assert!(
            (found - expected).abs() < TOLERANCE,
            "objective {i}: {found}, expected {expected}"
        );
    }
}

/// The losses of every optimiser step of the file, aggregated.
#[test]
fn golden_tiny_llama_aggregates() {
    let expected = expected();
    let zero = Aggregation::Tchebycheff {
        ideal: vec![],
        smoothing: 0.0,
    };
    let mut worst_objectives = Vec::new();
    for (case, aggregation) in [
        ("linear", &Aggregation::Linear),
        ("tchebycheff", &zero),
        ("tchebycheff_switch", &zero),
    ] {
        let preference = Preference::new(numbers(&expected[case]["lam"])).expect("on the simplex");
        for step in expected[case]["steps"].as_array().expect("steps") {
            let losses: Vec<Option<f64>> = numbers(&step["losses"]).into_iter().map(Some).collect();
            let found = aggregation.aggregate(&preference, &losses);
            let value = step["aggregate"].as_f64().expect("a number");
            assert!(
                (found.value - value).abs() < TOLERANCE,
                "{case}: {}, expected {value}",
                found.value
            );
            if let Some(worst) = found.worst {
                assert_eq!(Some(worst as u64), step["worst"].as_u64(), "{case}");
                assert_eq!(found.weights[worst], preference.weights()[worst], "{case}");
                worst_objectives.push((case, worst));
            }
        }
    }
    worst_objectives.dedup();
    assert!(
        worst_objectives.len() > 2,
        "the switch case changes its worst objective: {worst_objectives:?}"
    );
}
