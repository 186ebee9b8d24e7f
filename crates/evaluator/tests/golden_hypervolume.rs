//! Hypervolumes and dominance against values computed by another program (moocore).
//!
//! The values are read from `datasets/golden/hypervolume.json`, or from a folder of the same form that
//! `PANACEA_GOLDEN` names.

use std::path::PathBuf;

use panacea_evaluator::hypervolume;
use panacea_objectives::non_dominated;
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
    let folder = std::env::var_os("PANACEA_GOLDEN").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../datasets/golden"
            ))
        },
        PathBuf::from,
    );
    let path = folder.join("hypervolume.json");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let golden: Golden =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(!golden.cases.is_empty(), "{} holds no case", path.display());
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
