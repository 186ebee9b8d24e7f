//! The guide: mdBook makes a book of `docs`, and the commands of its chapters are run as a reader would run them.
//!
//! ```text
//! docs/guide/*.md ── chapter ──► what a reader does, top to bottom: save a file, type commands, compare what is shown
//!                  └─ reader ──► does it in a fresh folder, with the binary that the tests use
//! ```

mod chapter;
mod reader;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::Failure;
use crate::build::{built_for_tests, cannot_start, workspace};
use crate::dependencies::{cannot, installed, read};

/// The version that `book.toml` is written for.
const MDBOOK: &str = "0.5.4";

/// What of mdBook is compiled: neither its server nor what watches files.
const FEATURES: [&str; 3] = ["--no-default-features", "--features", "search"];

/// Builds the book, and returns the path of its first page.
pub fn build() -> Result<PathBuf, Failure> {
    let folder = workspace().join("target").join("guide");
    let mut mdbook = Command::new(installed("mdbook", MDBOOK, &FEATURES)?);
    mdbook.arg("build").arg("--dest-dir").arg(&folder);
    mdbook.arg(workspace()).env("MDBOOK_LOG", "warn");
    let said = mdbook
        .output()
        .map_err(|error| cannot_start(&mdbook, &error))?;
    let words = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    if !said.status.success() || !words.trim().is_empty() {
        return Err(Failure::new(format!(
            "mdBook has something to say about the book:\n{}",
            words.trim()
        )));
    }
    Ok(folder.join("index.html"))
}

/// Builds the book and runs the commands of its chapters.
pub fn check() -> Result<(), Failure> {
    let page = build()?;
    println!("{}", page.display());
    let binary = built_for_tests("panacea")?;
    let folder = std::env::temp_dir().join(format!("panacea-guide-{}", std::process::id()));
    let mut wrong = Vec::new();
    for page in chapters()? {
        let start = Instant::now();
        let name = page.file_stem().unwrap_or_default().to_string_lossy();
        let done = chapter::steps(&read(&page)?)
            .and_then(|steps| reader::follow(&steps, &folder.join(&*name), &binary));
        let verdict = match &done {
            Ok(done) => format!("{done} blocks"),
            Err(_) => "FAILED".to_owned(),
        };
        println!(
            "{name:<16} {verdict:<12} {:>3} s",
            start.elapsed().as_secs()
        );
        if let Err(words) = done {
            wrong.push(format!("{}:{words}", page.display()));
        }
    }
    if wrong.is_empty() {
        fs::remove_dir_all(&folder).map_err(|error| cannot("remove", &folder, &error))?;
        return Ok(());
    }
    Err(Failure::new(format!(
        "{}\nthe folders of all chapters are left in {}",
        wrong.join("\n"),
        folder.display()
    )))
}

/// The pages of `docs/guide`.
fn chapters() -> Result<Vec<PathBuf>, Failure> {
    let folder: &Path = &workspace().join("docs").join("guide");
    let entries = fs::read_dir(folder).map_err(|error| cannot("read", folder, &error))?;
    let mut pages: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    Ok(pages)
}
