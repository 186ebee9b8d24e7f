//! Writes the quickstart's model, records and configuration into a folder.
//!
//!     cargo run -p panacea-quickstart --example write_quickstart -- quickstart

use std::env;
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args().nth(1).ok_or("usage: write_quickstart FOLDER")?;
    let written = panacea_quickstart::write(Path::new(&folder))?;
    println!("{}", written.configuration.display());
    Ok(())
}
