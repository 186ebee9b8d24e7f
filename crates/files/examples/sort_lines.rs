//! Sorts the lines of a file in its place. Whoever reads it meanwhile, or after a crash, finds the old file or the new one.
//!
//!     cargo run -p panacea-files --example sort_lines -- FILE

use std::env;
use std::error::Error;
use std::path::PathBuf;

use panacea_files::{read_text, write_file};

fn main() -> Result<(), Box<dyn Error>> {
    let path: PathBuf = env::args_os()
        .nth(1)
        .ok_or("usage: sort_lines FILE")?
        .into();
    let text = read_text(&path)?;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    write_file(&path, (lines.join("\n") + "\n").as_bytes())?;
    println!("{} lines", lines.len());
    Ok(())
}
