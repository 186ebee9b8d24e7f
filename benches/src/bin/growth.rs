//! How the time of a training step grows: with tokens, rows, rank, objectives and preferences, one at a time; a table
//! with the exponent of each. The last row is a step of reinforcement learning.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use panacea_benches::{SMALL, Shape, adapters_of, dpo, median, pairs_of, random_model, references};
use panacea_config::{Overrides, Plan, Spec};
use panacea_model::{Decoder, MemoryPolicy, compute_on_this_thread};
use panacea_objectives::{Aggregation, Preference};
use panacea_trainer::{Lanes, Objective, Preparation, Prepared, References, batch_gradient};

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

/// How long steps of reinforcement learning are timed, for one number.
const RLHF_SAMPLE: Duration = Duration::from_secs(2);

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
        print_row(series.name, &points);
    }
    print_row("objectives m, RLHF", &rlhf_seconds(arguments.repeats)?);
    Ok(())
}

fn print_row(name: &str, points: &[(f64, f64)]) {
    let (first, last) = (points[0], points[points.len() - 1]);
    println!(
        "| {name} | {} | {} | {:.4} | {:.4} | {:.2} |",
        first.0,
        last.0,
        first.1,
        last.1,
        exponent(points)
    );
}

/// Seconds of a step of the quickstart's reinforcement learning, by the number of its objectives: answers are written and scored, and
/// policy and critic learn from them. The learning rate is next to nothing, so that the answers are the same with any number.
fn rlhf_seconds(repeats: usize) -> Result<Vec<(f64, f64)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let spec = Spec::read(&root.join("configs/quickstart-rlhf-10.toml"))?;
    let overrides = Overrides {
        set: vec!["optimizer.learning_rate=1e-9".to_owned()],
        ..Overrides::default()
    };
    let preparations = [2, 3, 5, 10].map(|m| {
        let mut spec = spec.clone();
        spec.objective.truncate(m);
        let plan = Plan::resolve(spec, &overrides)?.with_paths(|path| root.join(path));
        anyhow::Ok((m, Preparation::of(plan, None)?))
    });
    let mut series = preparations
        .into_iter()
        .map(|preparation| anyhow::Ok((preparation?, Vec::new())))
        .collect::<Result<Vec<_>>>()?;
    // In turns, so that all of them meet the same neighbours on this machine.
    for _ in 0..repeats {
        for ((_, preparation), seconds) in &mut series {
            let record = preparation.record()?;
            let cost = preparation.with_work(References::in_memory(), |work| {
                work.cost(&record, RLHF_SAMPLE)
            })?;
            seconds.push(cost.seconds / cost.steps as f64);
        }
    }
    let points = series.into_iter();
    Ok(points
        .map(|((m, _), seconds)| (m as f64, median(&seconds)))
        .collect())
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
