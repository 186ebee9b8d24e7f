//! The DPO losses and aggregates of a tiny Llama under three objectives, computed by PyTorch in float64.
//!
//! The values are read from `datasets/golden/tiny_llama/expected.json`, or from a folder of the same form
//! that `PANACEA_GOLDEN` names.

use panacea_objectives::{
    Aggregation, Dpo, DpoLoss, ObjectiveBatch, PairLogProbs, PairTerm, Preference,
};
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
fn batch(expected: &Value) -> ObjectiveBatch<PairTerm> {
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
    let pairs: Vec<PairLogProbs> = (0..policy.len() / 2)
        .map(|pair| {
            let rows = [2 * pair, 2 * pair + 1];
            PairLogProbs {
                policy: rows.map(|row| policy[row]),
                reference: rows.map(|row| reference[row]),
                tokens: rows.map(|row| tokens[row]),
            }
        })
        .collect();
    let labels: Vec<Vec<Option<f64>>> = expected["labels"]
        .as_array()
        .expect("one row of labels per pair")
        .iter()
        .map(|row| {
            numbers(row)
                .iter()
                .map(|&sign| (sign != 0.0).then_some((sign + 1.0) / 2.0))
                .collect()
        })
        .collect();
    let objectives = labels[0].len();
    ObjectiveBatch::from_pairs(&dpo, &pairs, &labels, objectives)
}

#[test]
fn golden_tiny_llama_dpo_losses() {
    let expected = expected();
    let losses = batch(&expected).losses();
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
    let zero = Aggregation::Tchebycheff { ideal: vec![] };
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
