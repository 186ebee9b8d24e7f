//! KTO under two objectives against PyTorch in float64: z₀, losses and gradients, labels missing and extreme ratios
//! included. `benches/peers/trl_kto.py` makes the values and holds them against TRL's own trainer.

use panacea_objectives::{Aggregation, Batch, Judgement, Kto, Loss, Preference, Record};
use panacea_test_support::golden;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    beta: f64,
    desirable_weight: f64,
    undesirable_weight: f64,
    policy: Vec<f64>,
    reference: Vec<f64>,
    policy_kl: Vec<f64>,
    reference_kl: Vec<f64>,
    labels: Vec<Vec<Option<bool>>>,
    z0: f64,
    losses: Vec<Option<f64>>,
    gradients: Vec<Vec<f64>>,
}

fn assert_close(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= 1e-12 * (1.0 + expected.abs()),
        "{what}: found {found}, expected {expected}"
    );
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    let cases: Vec<Case> = golden("kto.json");
    assert!(cases.len() >= 40, "{} cases", cases.len());
    for case in &cases {
        let kto = Kto::new(case.beta, case.desirable_weight, case.undesirable_weight);
        let loss = Loss::Kto(kto.expect("valid"));
        let rows = case.policy.len();
        let judgements: Vec<[Judgement; 1]> = (0..rows)
            .map(|row| {
                let labels = case.labels.iter().map(|of| of[row]);
                let labels = labels.map(|label| label.map(|good| f64::from(u8::from(good))));
                [Judgement::single(labels.collect())]
            })
            .collect();
        for objective in 0..2 {
            let preferences = [Preference::vertex(2, objective)];
            let batch = Batch::deal(&preferences, judgements.iter().map(|j| &j[..]));
            let mismatched = case.policy_kl.iter().zip(&case.reference_kl);
            let log_ratios: Vec<f64> = mismatched
                .map(|(policy, reference)| policy - reference)
                .collect();
            let kl = batch.kl(&log_ratios)[0];
            assert_close(kl, case.z0, &format!("{}: z0", case.name));
            let terms: Vec<_> = (0..rows)
                .map(|row| {
                    loss.terms(&Record {
                        outputs: &case.policy[row..=row],
                        reference: &case.reference[row..=row],
                        kl,
                        tokens: &[7],
                        judgements: &judgements[row],
                    })
                })
                .collect();
            let losses = batch.losses(&terms);
            let name = format!("{} {} objective {objective}", case.name, case.beta);
            match (losses[0][objective], case.losses[objective]) {
                (Some(found), Some(expected)) => assert_close(found, expected, &name),
                (found, expected) => assert_eq!(found, expected, "{name}"),
            }
            let aggregates = batch.aggregate(&Aggregation::Linear, &losses);
            let gradient = batch.coefficients(&aggregates, 0, &terms);
            for (found, &expected) in gradient.iter().zip(&case.gradients[objective]) {
                assert_close(*found, expected, &name);
            }
        }
    }
}
