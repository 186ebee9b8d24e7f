//! Trains what a configuration says, as `panacea train` does, and leaves an ordinary run.
//!
//!     cargo run --release -p panacea-trainer --example train_run -- configs/quickstart.toml runs/mine optimizer.steps=50

use std::env;
use std::error::Error;
use std::path::Path;

use panacea_config::{Overrides, Plan, Spec};
use panacea_runs::{Interrupt, TrainingRun};
use panacea_trainer::{Preparation, References, Work};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [configuration, run, values @ ..] = &arguments[..] else {
        return Err("usage: train_run CONFIGURATION RUN [KEY=VALUE…]".into());
    };
    let overrides = Overrides {
        set: values.to_vec(),
        ..Overrides::default()
    };
    let plan = Plan::resolve(Spec::read(Path::new(configuration))?, &overrides)?;
    let preparation = Preparation::of(plan, None)?;
    let record = preparation.record()?;
    let (run, _) = TrainingRun::create_or_resume(Path::new(run), &record, false)?;
    let outcome = preparation.with_work(References::in_memory(), |work| {
        // Ctrl-C saves a checkpoint.
        let interrupt = Interrupt::install()?;
        Work { interrupt, ..work }.carry_out(&record, &run)
    })?;
    println!("{outcome:?}: {}", run.folder().path().display());
    Ok(())
}
