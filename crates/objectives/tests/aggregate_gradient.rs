//! The whole way from log-probabilities to the aggregate, against finite differences; and that the order
//! of the objectives does not matter.

use panacea_objectives::{Aggregation, Dpo, DpoLoss, ObjectiveBatch, PairLogProbs, Preference};
use proptest::prelude::*;

#[path = "../src/cases.rs"]
mod cases;

const OBJECTIVES: usize = 3;

#[derive(Clone, Debug)]
struct Case {
    dpo: Dpo,
    pairs: Vec<PairLogProbs>,
    labels: Vec<Vec<Option<f64>>>,
    preference: Preference,
    aggregation: Aggregation,
}

prop_compose! {
    fn pairs()(
        policy in prop::array::uniform2(-30.0..0.0f64),
        shift in prop::array::uniform2(-4.0..4.0f64),
        tokens in prop::array::uniform2(1usize..40),
    ) -> PairLogProbs {
        PairLogProbs { policy, reference: [policy[0] + shift[0], policy[1] + shift[1]], tokens }
    }
}

fn labels() -> impl Strategy<Value = Vec<Option<f64>>> {
    let label = prop_oneof![
        Just(None),
        Just(Some(0.0)),
        Just(Some(1.0)),
        (0.0..=1.0f64).prop_map(Some)
    ];
    prop::collection::vec(label, OBJECTIVES)
}

prop_compose! {
    fn cases()(
        loss in prop_oneof![
            Just(DpoLoss::Sigmoid { label_smoothing: 0.0 }),
            Just(DpoLoss::Sigmoid { label_smoothing: 0.1 }),
            Just(DpoLoss::Ipo),
        ],
        sft_weight in prop_oneof![Just(0.0), Just(0.3)],
        records in prop::collection::vec((pairs(), labels()), 1..6),
        raw in prop::collection::vec(0.01..1.0f64, OBJECTIVES),
        aggregation in prop_oneof![
            Just(Aggregation::Linear),
            prop::collection::vec(-0.6..=0.0f64, OBJECTIVES).prop_map(|ideal| Aggregation::Tchebycheff { ideal }),
        ],
    ) -> Case {
        let sum: f64 = raw.iter().sum();
        let (pairs, labels) = records.into_iter().unzip();
        Case {
            dpo: Dpo { beta: 0.3, loss, sft_weight },
            pairs,
            labels,
            preference: Preference::new(raw.iter().map(|weight| weight / sum).collect()).expect("on the simplex"),
            aggregation,
        }
    }
}

/// The aggregate, and how far the worst objective is ahead of the next (where the maximum has a kink,
/// it has no derivative).
fn aggregate(case: &Case, pairs: &[PairLogProbs]) -> (f64, Vec<Vec<f64>>) {
    let batch = ObjectiveBatch::from_pairs(&case.dpo, pairs, &case.labels, OBJECTIVES);
    let aggregate = case
        .aggregation
        .aggregate(&case.preference, &batch.losses());
    (aggregate.value, batch.coefficients(&aggregate.weights))
}

fn near_a_kink(case: &Case) -> bool {
    let Aggregation::Tchebycheff { ideal } = &case.aggregation else {
        return false;
    };
    let batch = ObjectiveBatch::from_pairs(&case.dpo, &case.pairs, &case.labels, OBJECTIVES);
    let mut distances: Vec<f64> = (0..OBJECTIVES)
        .filter_map(|i| {
            batch.losses()[i].map(|loss| case.preference.weights()[i] * (loss + ideal[i]))
        })
        .collect();
    distances.sort_by(|a, b| b.total_cmp(a));
    distances.len() > 1 && distances[0] - distances[1] < 1e-2
}

proptest! {
    #![proptest_config(cases::fixed())]

    #[test]
    fn prop_coefficients_are_the_derivative_of_the_aggregate(case in cases()) {
        prop_assume!(!near_a_kink(&case));
        let (value, coefficients) = aggregate(&case, &case.pairs);
        let step = 1e-5;
        for record in 0..case.pairs.len() {
            for response in 0..2 {
                let at = |shift: f64| {
                    let mut pairs = case.pairs.clone();
                    pairs[record].policy[response] += shift;
                    aggregate(&case, &pairs).0
                };
                let numeric = (at(step) - at(-step)) / (2.0 * step);
                let closed = coefficients[record].get(response).copied().unwrap_or(0.0);
                prop_assert!(
                    (numeric - closed).abs() <= 1e-6 * (1.0 + value.abs()),
                    "record {record}, response {response}: {numeric} against {closed}"
                );
            }
        }
    }

    #[test]
    fn prop_the_order_of_the_objectives_does_not_matter(case in cases(), turn in 0..OBJECTIVES, mirror: bool) {
        fn permuted<T: Clone>(row: &[T], turn: usize, mirror: bool) -> Vec<T> {
            let mut row = row.to_vec();
            row.rotate_left(turn);
            if mirror {
                row.reverse();
            }
            row
        }
        let (value, coefficients) = aggregate(&case, &case.pairs);
        let other = Case {
            labels: case.labels.iter().map(|row| permuted(row, turn, mirror)).collect(),
            preference: Preference::new(permuted(case.preference.weights(), turn, mirror)).expect("on the simplex"),
            aggregation: match &case.aggregation {
                Aggregation::Linear => Aggregation::Linear,
                Aggregation::Tchebycheff { ideal } => {
                    Aggregation::Tchebycheff { ideal: permuted(ideal, turn, mirror) }
                }
            },
            ..case.clone()
        };
        let (other_value, other_coefficients) = aggregate(&other, &case.pairs);
        prop_assert!((value - other_value).abs() < 1e-12 * (1.0 + value.abs()));
        for (one, other) in coefficients.iter().flatten().zip(other_coefficients.iter().flatten()) {
            prop_assert!((one - other).abs() < 1e-12 * (1.0 + one.abs()));
        }
    }
}
