//! The whole way from what a model puts out to the aggregate, against finite differences; and that the order
//! of the objectives does not matter.

use panacea_objectives::{
    Aggregation, Batch, BradleyTerry, Dpo, DpoLoss, Judgement, Kto, Loss, Preference, Record,
    RecordKind, RecordTerms, Sft,
};
use proptest::prelude::*;

#[path = "../src/cases.rs"]
mod cases;

const OBJECTIVES: usize = 3;

/// Responses of a record.
const RESPONSES: usize = 3;

#[derive(Clone, Debug)]
struct CaseRecord {
    outputs: Vec<f64>,
    reference: Vec<f64>,
    tokens: Vec<usize>,
    judgements: Vec<Judgement>,
}

#[derive(Clone, Debug)]
struct Case {
    loss: Loss,
    records: Vec<CaseRecord>,
    preferences: Vec<Preference>,
    aggregation: Aggregation,
}

impl Case {
    fn batch(&self) -> Batch<'_> {
        let judgements = self.records.iter().map(|record| &record.judgements[..]);
        Batch::deal(&self.preferences, judgements)
    }

    fn terms(&self) -> Vec<RecordTerms> {
        let terms = |record: &CaseRecord| {
            self.loss.terms(&Record {
                outputs: &record.outputs,
                reference: &record.reference,
                kl: 1.5,
                tokens: &record.tokens,
                judgements: &record.judgements,
            })
        };
        self.records.iter().map(terms).collect()
    }

    /// The mean of the groups' aggregates, and its derivative by every output.
    fn aggregate(&self) -> (f64, Vec<f64>) {
        let (batch, terms) = (self.batch(), self.terms());
        let aggregates = batch.aggregate(&self.aggregation, &batch.losses(&terms));
        let value = aggregates.iter().map(|a| a.value).sum::<f64>() / batch.groups() as f64;
        (value, batch.coefficients(&aggregates, 0, &terms))
    }

    /// Whether the maximum over the objectives has a kink nearby, where it has no derivative.
    fn is_near_a_kink(&self) -> bool {
        let Aggregation::Tchebycheff {
            ideal,
            smoothing: 0.0,
        } = &self.aggregation
        else {
            return false;
        };
        let (batch, terms) = (self.batch(), self.terms());
        let losses = batch.losses(&terms);
        losses.iter().enumerate().any(|(group, losses)| {
            let weights = batch.preference(group).weights();
            let mut distances: Vec<f64> = (0..OBJECTIVES)
                .filter_map(|i| Some(weights[i] * (losses[i]? + ideal[i])))
                .collect();
            distances.sort_by(|a, b| b.total_cmp(a));
            distances.len() > 1 && distances[0] - distances[1] < 1e-2
        })
    }
}

fn losses() -> impl Strategy<Value = Loss> {
    let dpo_loss = prop_oneof![
        Just(DpoLoss::Sigmoid {
            label_smoothing: 0.0
        }),
        Just(DpoLoss::Sigmoid {
            label_smoothing: 0.1
        }),
        Just(DpoLoss::Ipo),
    ];
    let dpo = (dpo_loss, prop_oneof![Just(0.0), Just(0.3)])
        .prop_map(|(loss, sft_weight)| Loss::Dpo(Dpo::new(0.3, loss, sft_weight).expect("valid")));
    let rewards = (0.0..1.0f64, 0.0..0.1f64).prop_map(|(margin, centering)| {
        Loss::BradleyTerry(BradleyTerry::new(margin, centering).expect("valid"))
    });
    let sft = any::<bool>().prop_map(|per_token| Loss::Sft(Sft { per_token }));
    let kto = (0.1..2.0f64, 0.1..2.0f64)
        .prop_map(|(good, bad)| Loss::Kto(Kto::new(0.3, good, bad).expect("valid")));
    prop_oneof![3 => dpo, 1 => rewards, 1 => kto, 1 => sft]
}

fn judgement(kind: RecordKind) -> impl Strategy<Value = Judgement> {
    let label = prop_oneof![
        Just(None),
        Just(Some(0.0)),
        Just(Some(1.0)),
        (0.0..=1.0f64).prop_map(Some)
    ];
    let labels = prop::collection::vec(label, OBJECTIVES);
    (labels, 0..RESPONSES, 1..RESPONSES).prop_map(move |(labels, response, further)| Judgement {
        response,
        against: (kind == RecordKind::Pair).then_some((response + further) % RESPONSES),
        labels,
    })
}

prop_compose! {
    fn record(loss: Loss)(
        outputs in prop::collection::vec(-30.0..0.0f64, RESPONSES * loss.width(OBJECTIVES)),
        shift in prop::collection::vec(-4.0..4.0f64, RESPONSES),
        tokens in prop::collection::vec(1usize..40, RESPONSES),
        judgements in prop::collection::vec(judgement(loss.record_kind()), 1..4),
    ) -> CaseRecord {
        // Rewards are of another size than log-probabilities.
        let scale = if loss.width(OBJECTIVES) > 1 { 0.1 } else { 1.0 };
        CaseRecord {
            reference: outputs.iter().zip(shift).map(|(output, shift)| output + shift).collect(),
            outputs: outputs.into_iter().map(|output| output * scale).collect(),
            tokens,
            judgements,
        }
    }
}

fn preference() -> impl Strategy<Value = Preference> {
    prop::collection::vec(0.01..1.0f64, OBJECTIVES).prop_map(|raw| {
        let sum: f64 = raw.iter().sum();
        let weights = raw.iter().map(|weight| weight / sum).collect();
        Preference::new(weights).expect("on the simplex")
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let aggregation = prop_oneof![
        Just(Aggregation::Linear),
        (
            prop::collection::vec(-0.6..=0.0f64, OBJECTIVES),
            prop_oneof![Just(0.0), 0.05..1.0f64]
        )
            .prop_map(|(ideal, smoothing)| Aggregation::Tchebycheff { ideal, smoothing }),
    ];
    let preferences = prop::collection::vec(preference(), 1..4);
    (losses(), preferences, aggregation).prop_flat_map(|(loss, preferences, aggregation)| {
        prop::collection::vec(record(loss), 1..6).prop_map(move |records| Case {
            loss,
            records,
            preferences: preferences.clone(),
            aggregation: aggregation.clone(),
        })
    })
}

proptest! {
    #![proptest_config(cases::fixed())]

    #[test]
    fn prop_coefficients_are_the_derivative_of_the_aggregate(case in cases()) {
        prop_assume!(!case.is_near_a_kink());
        let (value, coefficients) = case.aggregate();
        let step = 1e-5;
        let mut coefficients = coefficients.into_iter();
        for record in 0..case.records.len() {
            for output in 0..case.records[record].outputs.len() {
                let at = |shift: f64| {
                    let mut moved = case.clone();
                    moved.records[record].outputs[output] += shift;
                    moved.aggregate().0
                };
                let numeric = (at(step) - at(-step)) / (2.0 * step);
                let closed = coefficients.next().expect("one number for each output");
                prop_assert!(
                    (numeric - closed).abs() <= 1e-6 * (1.0 + value.abs()),
                    "record {record}, output {output}: {numeric} against {closed}"
                );
            }
        }
        prop_assert!(coefficients.next().is_none());
    }

    #[test]
    fn prop_the_order_of_the_objectives_does_not_matter(case in cases(), turn in 0..OBJECTIVES, mirror: bool) {
        let permuted = |row: &[f64]| permuted(row, turn, mirror);
        let (value, coefficients) = case.aggregate();
        let width = case.loss.width(OBJECTIVES);
        let record = |record: &CaseRecord| {
            let mut record = record.clone();
            for judgement in &mut record.judgements {
                judgement.labels = self::permuted(&judgement.labels, turn, mirror);
            }
            if width > 1 {
                record.outputs = record.outputs.chunks(width).flat_map(permuted).collect();
            }
            record
        };
        let other = Case {
            records: case.records.iter().map(record).collect(),
            preferences: (case.preferences.iter())
                .map(|preference| Preference::new(permuted(preference.weights())).expect("on the simplex"))
                .collect(),
            aggregation: match &case.aggregation {
                Aggregation::Linear => Aggregation::Linear,
                Aggregation::Tchebycheff { ideal, smoothing } => Aggregation::Tchebycheff {
                    ideal: permuted(ideal),
                    smoothing: *smoothing,
                },
            },
            ..case.clone()
        };
        let (other_value, other_coefficients) = other.aggregate();
        prop_assert!((value - other_value).abs() < 1e-12 * (1.0 + value.abs()));
        let coefficients: Vec<f64> = match width {
            1 => coefficients,
            _ => coefficients.chunks(width).flat_map(permuted).collect(),
        };
        for (one, other) in coefficients.iter().zip(&other_coefficients) {
            prop_assert!((one - other).abs() < 1e-12 * (1.0 + one.abs()));
        }
    }
}

fn permuted<T: Clone>(row: &[T], turn: usize, mirror: bool) -> Vec<T> {
    let mut row = row.to_vec();
    row.rotate_left(turn);
    if mirror {
        row.reverse();
    }
    row
}
