//! Hypervolumes and dominance against values computed by another program (moocore).
//!
//! The values are read from `datasets/golden/hypervolume.json`, or from a folder of the same form that
//! `PANACEA_GOLDEN` names.

use panacea_evaluator::hypervolume;
use panacea_objectives::non_dominated;
use panacea_test_support::golden;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    reference: Vec<f64>,
    points: Vec<Vec<f64>>,
    hypervolume: f64,
    nondominated: Vec<bool>,
}

fn cases() -> Vec<Case> {
    let golden: Golden = golden("hypervolume.json");
    assert!(!golden.cases.is_empty(), "hypervolume.json holds no case");
    golden.cases
}

#[test]
fn golden_hypervolume_of_every_case() {
    for case in cases() {
        let found = hypervolume(&case.points, &case.reference)
            .expect("valid points")
            .value;
        let error = (found - case.hypervolume).abs();
        assert!(
            error <= 1e-9 * case.hypervolume.abs(),
            "{}: {found}, expected {}",
            case.name,
            case.hypervolume
        );
    }
}

#[test]
fn golden_hypervolume_non_dominated_points() {
    for case in cases() {
        assert_eq!(
            non_dominated(&case.points),
            case.nondominated,
            "{}",
            case.name
        );
    }
}
