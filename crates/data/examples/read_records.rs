//! Reads preference records, labels their pairs by scores, and says what was found.
//!
//!     cargo run -p panacea-data --example read_records -- records.jsonl helpfulness conciseness

use std::env;
use std::error::Error;
use std::path::PathBuf;

use panacea_data::{LabelSource, ObjectiveSpec, RecordKind, load};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let file = arguments.next().ok_or("usage: read_records FILE SCORE…")?;
    let objectives: Vec<ObjectiveSpec> = arguments
        .map(|name| ObjectiveSpec::new(&name, LabelSource::Score(name.clone())))
        .collect();
    let (records, report) = load(&[PathBuf::from(file)], &objectives, RecordKind::Pair)?;
    println!("{report}");
    let disagreeing = records.iter().flat_map(|record| &record.judgements);
    let disagreeing = disagreeing.filter(|judgement| {
        let sides = judgement.labels.iter().flatten().map(|label| *label > 0.5);
        let sides: Vec<bool> = sides.collect();
        sides.contains(&true) && sides.contains(&false)
    });
    println!("objectives disagree about {} pairs", disagreeing.count());
    Ok(())
}
