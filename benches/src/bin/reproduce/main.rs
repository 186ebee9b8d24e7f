//! `cargo xtask reproduce`: runs again what the documentation reports, and writes its tables and pictures.

mod elicit;
mod quickstart;
mod world;

use anyhow::Result;
use clap::{Parser, Subcommand};
use elicit::Elicit;
use quickstart::Quickstart;

#[derive(Parser)]
#[command(
    name = "reproduce",
    bin_name = "cargo xtask reproduce",
    about = "Run again what the documentation reports"
)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Quickstart(Quickstart),
    Elicit(Elicit),
}

fn main() -> Result<()> {
    match Arguments::parse().what {
        What::Quickstart(quickstart) => quickstart.run(),
        What::Elicit(elicit) => elicit.run(),
    }
}
