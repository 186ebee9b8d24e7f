//! Measures a run on its held-out records at a few preferences.
//!
//!     cargo run --release -p panacea-measure --example measure_run -- runs/mine

use std::env;
use std::error::Error;
use std::path::Path;

use panacea_measure::{Choices, Opened};
use panacea_runs::RunFolder;

fn main() -> Result<(), Box<dyn Error>> {
    let run = env::args().nth(1).ok_or("usage: measure_run RUN")?;
    let choices = Choices {
        eval: &[],
        like: None,
        model: None,
        device: "flex",
    };
    let opened = Opened::open(RunFolder::open(Path::new(&run))?, choices)?;
    let measured = opened.measure(&opened.grid(Some(4)))?;
    let method = &measured.front.methods[0];
    println!("{}", measured.front.objectives.join(", "));
    for point in &method.points {
        println!(
            "λ {:.2?}: J {:.4?} ± {:.4?}",
            point.lambda, point.values, point.stderr
        );
    }
    if let Some(share) = method.indicators.hypervolume_ratio {
        println!("{share:.4} of the exact hypervolume");
    }
    Ok(())
}
