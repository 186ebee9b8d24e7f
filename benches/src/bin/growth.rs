//! How the time of a training step grows: with tokens, rows, rank, objectives and preferences, one at a time; a table
//! with the exponent of each.

use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use panacea_benches::{SMALL, Shape, adapters_of, dpo, median, pairs_of, random_model, references};
use panacea_model::{Decoder, MemoryPolicy, compute_on_this_thread};
use panacea_objectives::{Aggregation, Preference};
use panacea_trainer::{Lanes, Objective, Prepared, batch_gradient};

#[derive(Parser)]
struct Arguments {
    /// Steps of each size; the median counts.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
}

/// A training step.
#[derive(Clone, Copy)]
struct Step {
    pairs: usize,
    /// Of a prompt and of each response.
    tokens: usize,
    rank: usize,
    objectives: usize,
    preferences: usize,
}

const USUAL: Step = Step {
    pairs: 8,
    tokens: 32,
    rank: 8,
    objectives: 2,
    preferences: 1,
};

const SHAPE: Shape = SMALL;

/// What is varied, and how.
struct Series {
    name: &'static str,
    sizes: &'static [usize],
    step: fn(usize) -> Step,
}

const SERIES: [Series; 5] = [
    Series {
        name: "tokens of a sequence",
        sizes: &[16, 32, 64, 128, 256],
        step: |tokens| Step { tokens, ..USUAL },
    },
    Series {
        name: "pairs",
        sizes: &[2, 4, 8, 16, 32],
        step: |pairs| Step { pairs, ..USUAL },
    },
    Series {
        name: "rank k",
        sizes: &[4, 8, 16, 32, 64],
        step: |rank| Step { rank, ..USUAL },
    },
    Series {
        name: "objectives m",
        sizes: &[2, 3, 5, 10, 20],
        step: |objectives| Step {
            objectives,
            ..USUAL
        },
    },
    Series {
        name: "different preferences",
        sizes: &[1, 2, 4, 8],
        step: |preferences| Step {
            preferences,
            ..USUAL
        },
    },
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    compute_on_this_thread();
    let model = random_model(SHAPE, "flex")?;
    println!("| grows | from | to | seconds | to | exponent |");
    println!("|---|---|---|---|---|---|");
    for series in &SERIES {
        let mut points = Vec::new();
        for &size in series.sizes {
            let seconds = median_seconds(&model, (series.step)(size), arguments.repeats)?;
            points.push((size as f64, seconds));
        }
        let (first, last) = (points[0], points[points.len() - 1]);
        println!(
            "| {} | {} | {} | {:.4} | {:.4} | {:.2} |",
            series.name,
            first.0,
            last.0,
            first.1,
            last.1,
            exponent(&points)
        );
    }
    Ok(())
}

fn median_seconds(model: &Decoder, step: Step, repeats: usize) -> Result<f64> {
    let adapters = adapters_of(model, step.rank, step.objectives)?;
    let examples = pairs_of(
        step.objectives,
        step.pairs,
        step.tokens,
        step.tokens,
        SHAPE.vocabulary,
    );
    let objective = Objective {
        loss: &dpo(),
        aggregation: &Aggregation::Linear,
    };
    let references = references(model, &examples)?;
    let batch: Vec<_> = (examples.iter().zip(&references))
        .map(|(example, reference)| Prepared { example, reference })
        .collect();
    let preferences = (0..step.preferences)
        .map(|i| {
            let mut weights = vec![1.0; step.objectives];
            weights[0] += i as f64;
            let sum: f64 = weights.iter().sum();
            Preference::new(weights.into_iter().map(|weight| weight / sum).collect())
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut seconds = Vec::new();
    for _ in 0..=repeats {
        let started = Instant::now();
        let memory = MemoryPolicy::Keep;
        batch_gradient(
            &Lanes::one(model, &adapters),
            objective,
            &batch,
            &preferences,
            batch.len(),
            memory,
        )?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    // The first one touches its memory for the first time.
    seconds.remove(0);
    Ok(median(&seconds))
}

/// The slope of log seconds over log size, by least squares: seconds ∝ size^exponent.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let n = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let along: f64 = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    along / logs.iter().map(|p| (p.0 - x) * (p.0 - x)).sum::<f64>()
}
