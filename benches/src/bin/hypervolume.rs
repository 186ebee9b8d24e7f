//! The exact hypervolume of random fronts, for the side by side with `peers/moocore_hypervolume.py`: one JSON line
//! {"measure", "points", "median", "value"} a front. `points` is a file that the script reads.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use panacea_benches::{median, on_the_sphere};
use panacea_evaluator::hypervolume;

#[derive(Parser)]
struct Arguments {
    /// The folder that the points are written to.
    #[arg(long)]
    points: PathBuf,
    #[arg(long, default_value_t = 5)]
    repeats: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.points)?;
    for (m, n) in [(3, 1000), (4, 500), (5, 200)] {
        let points = on_the_sphere(n, m);
        let path = arguments.points.join(format!("sphere-{m}-{n}.json"));
        std::fs::write(&path, serde_json::to_vec(&points)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        let mut seconds = Vec::new();
        let mut value = 0.0;
        for _ in 0..arguments.repeats {
            let started = Instant::now();
            value = hypervolume(&points, &vec![0.0; m])?.value;
            seconds.push(started.elapsed().as_secs_f64());
        }
        println!(
            "{}",
            serde_json::json!({
                "measure": format!("hypervolume_m{m}_n{n}"),
                "points": path,
                "median": median(&seconds),
                "value": value,
            })
        );
    }
    Ok(())
}
