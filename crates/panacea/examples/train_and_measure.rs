//! Trains the quickstart in a folder of its own and says how near to the exact front it comes.
//!
//!     cargo run --release -p panacea --example train_and_measure -- 200

use std::env;
use std::error::Error;

use panacea::config::{Overrides, Plan, Spec};
use panacea::measure::{Choices, Opened};
use panacea::runs::{RunFolder, TrainingRun};
use panacea::trainer::{Preparation, References};

fn main() -> Result<(), Box<dyn Error>> {
    let steps = env::args().nth(1).map_or(Ok(200), |steps| steps.parse())?;
    let folder = tempfile::tempdir()?;
    let written = panacea_quickstart::write(folder.path())?;
    let overrides = Overrides {
        steps: Some(steps),
        ..Overrides::default()
    };
    let plan = Plan::resolve(Spec::read(&written.configuration)?, &overrides)?;
    let preparation = Preparation::of(plan, None)?;
    let record = preparation.record()?;
    let place = folder.path().join("runs/first");
    let (run, _) = TrainingRun::create_or_resume(&place, &record, false)?;
    preparation.with_work(References::in_memory(), |work| {
        work.carry_out(&record, &run)
    })?;

    let choices = Choices {
        eval: &[],
        like: None,
        model: None,
        device: "flex",
    };
    let opened = Opened::open(RunFolder::open(&place)?, choices)?;
    let front = opened.measure(&opened.grid(None))?.front;
    let share = front.methods[0].indicators.hypervolume_ratio;
    println!(
        "{steps} steps: {:.4} of the exact hypervolume",
        share.ok_or("it is known here")?
    );
    Ok(())
}
