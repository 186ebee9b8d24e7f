//! What a preference does to the gradient of two objectives that disagree about a pair of answers.
//!
//!     cargo run -p panacea-objectives --example tradeoff

use std::error::Error;

use panacea_objectives::{Aggregation, Batch, Dpo, DpoLoss, Judgement, Loss, Record, simplex_grid};

fn main() -> Result<(), Box<dyn Error>> {
    let loss = Loss::Dpo(Dpo::new(
        0.1,
        DpoLoss::Sigmoid {
            label_smoothing: 0.0,
        },
        0.0,
    )?);
    // Answer 0 is certainly the more helpful one, answer 1 probably the shorter one.
    let judgements = [Judgement::pair(0, 1, vec![Some(1.0), Some(0.2)])];
    let record = Record {
        outputs: &[-10.0, -12.0],
        reference: &[-11.0, -11.0],
        kl: 0.0,
        tokens: &[30, 9],
        judgements: &judgements,
    };
    let terms = [loss.terms(&record)];

    println!(
        "{:>12} {:>12}   gradient of answer 0",
        "helpfulness", "conciseness"
    );
    for preference in simplex_grid(2, 4).chunks(1) {
        let weights = preference[0].weights();
        let batch = Batch::deal(preference, [&judgements[..]]);
        let losses = batch.losses(&terms);
        let aggregates = batch.aggregate(&Aggregation::Linear, &losses);
        let coefficients = batch.coefficients(&aggregates, 0, &terms);
        println!(
            "{:>12} {:>12}   {:+.4}",
            weights[0], weights[1], coefficients[0]
        );
    }
    Ok(())
}
