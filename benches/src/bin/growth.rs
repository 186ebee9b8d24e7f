//! How the time of a training step grows: with tokens, rows, rank, objectives and preferences, one at a time; a table
//! with the exponent of each. The last row is a step of reinforcement learning.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use panacea_benches::{SMALL, Shape, adapters_of, dpo, median, pairs_of, random_model, references};
use panacea_config::{Overrides, Plan, Spec};
use panacea_model::{Decoder, MemoryPolicy, compute_on_this_thread};
use panacea_objectives::{Aggregation, Preference};
use panacea_runs::{Telling, tell_so};
use panacea_trainer::{Lanes, Objective, Preparation, Prepared, References, batch_gradient};

#[derive(Parser)]
struct Arguments {
    /// Steps of each size; the median counts.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// The model of the last row, a folder or a GGUF file; that of the quickstart where none is named.
    #[arg(long)]
    model: Option<PathBuf>,
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
    tell_so(Telling {
        quiet: true,
        ..Telling::default()
    });
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
    print_row("objectives m, RLHF", &rlhf_seconds(&arguments)?);
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

/// Seconds of a step of reinforcement learning by the number of objectives: answers to the quickstart's prompts are written and
/// scored, and policy and critic learn from them. The learning rate is next to nothing, so that the answers are the same with
/// any number.
fn rlhf_seconds(arguments: &Arguments) -> Result<Vec<(f64, f64)>> {
    let world = tempfile::tempdir()?;
    let written = panacea_quickstart::write(world.path())?;
    let model = arguments.model.as_ref().unwrap_or(&written.model);
    let mut series = Vec::new();
    for m in [2, 3, 5, 10] {
        let letters = ('a'..='z').take(m);
        let objectives: String = letters
            .map(|letter| {
                format!(
                    "[[objective]]\nname = \"{letter}\"\nreward = {{ rule = \"keywords\", words = [\"{letter}\"] }}\n"
                )
            })
            .collect();
        let text = format!(
            "[model]\npath = {model:?}\n[data]\ntrain = {:?}\nmax_response_tokens = 80\n{objectives}\
             [method]\nloss = \"rlhf\"\n[rlhf]\nadvantages = \"gae\"\nepochs = 1\nmax_new_tokens = 32\n[preference]\ngroups = 8\n\
             [optimizer]\nsteps = 1000\nbatch_size = 8\nlearning_rate = 1e-9\n",
            written.records
        );
        let plan = Plan::resolve(Spec::from_toml(&text, "growth"), &Overrides::default())?;
        series.push((m as f64, Preparation::of(plan, None)?, Vec::new()));
    }
    // In turns, so that all of them meet the same neighbours on this machine.
    for _ in 0..arguments.repeats {
        for (_, preparation, seconds) in &mut series {
            let record = preparation.record()?;
            let cost = preparation.with_work(References::in_memory(), |work| {
                work.cost(&record, RLHF_SAMPLE)
            })?;
            seconds.push(cost.seconds / cost.steps as f64);
        }
    }
    let points = series.into_iter();
    Ok(points
        .map(|(m, _, seconds)| (m, median(&seconds)))
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
