//! The runs of a folder, and how far each has come.
//!
//!     cargo run -p panacea-runs --example list_runs -- runs

use std::env;
use std::error::Error;
use std::path::Path;

use panacea_runs::{RunFolder, RunSummary};

fn main() -> Result<(), Box<dyn Error>> {
    let runs = env::args().nth(1).unwrap_or_else(|| "runs".to_owned());
    for run in RunFolder::all(Path::new(&runs))? {
        let summary = RunSummary::of(&run)?;
        let of = summary
            .total_steps
            .map_or_else(String::new, |steps| format!(" of {steps}"));
        let metric = summary.main_metric();
        let metric =
            metric.map_or_else(String::new, |(name, value)| format!(", {name} {value:.4}"));
        println!(
            "{}: {:?}, {}{of} steps{metric}",
            run.name(),
            summary.state,
            summary.steps
        );
    }
    Ok(())
}
