//! The guide: mdBook makes a book of `docs`, and the commands of its chapters are run as a reader would run them.
//!
//! ```text
//! docs/guide/*.md ── chapter ──► what a reader does, top to bottom: save a file, type commands, compare what is shown
//!                  └─ reader ──► does it in a fresh folder, with the binary that the tests use
//! all pages        ── commands ─► their commands and options are in the program's help
//! ```

mod chapter;
mod commands;
mod reader;

use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Instant;
use std::{env, fs};

use commands::Help;

use crate::Failure;
use crate::build::{built_for_tests, cannot_start, workspace};
use crate::dependencies::{Tool, cannot, read};

/// At the version that `book.toml` is written for, without its server and what watches files.
const MDBOOK: Tool = Tool {
    name: "mdbook",
    version: "0.5.4",
    features: &["--no-default-features", "--features", "search"],
    opt_level: "0",
};

/// Builds the book, and returns the path of its first page.
pub fn build() -> Result<PathBuf, Failure> {
    let folder = workspace().join("target").join("guide");
    let mut mdbook = Command::new(MDBOOK.installed()?);
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

/// Builds the book, looks at the commands of all pages, and runs those of the guide.
pub fn check() -> Result<(), Failure> {
    println!("{}", build()?.display());
    let binary = built_for_tests("panacea")?;
    let mut wrong = commands_without_help(&binary)?;
    let folder = env::temp_dir().join(format!("panacea-guide-{}", process::id()));
    for page in pages_in("docs/guide")? {
        let start = Instant::now();
        let name = page.file_stem().unwrap_or_default().to_string_lossy();
        let done = chapter::steps(&read(&page)?)
            .and_then(|steps| reader::follow(&steps, &folder.join(&*name), &binary));
        let verdict = match &done {
            Ok(done) => format!("{done} blocks"),
            Err(_) => "FAILED".to_owned(),
        };
        println!("{name:<20}{verdict:<12}{:>3} s", start.elapsed().as_secs());
        wrong.extend(
            done.err()
                .map(|words| format!("{}:{words}", page.display())),
        );
    }
    if wrong.is_empty() {
        return fs::remove_dir_all(&folder).map_err(|error| cannot("remove", &folder, &error));
    }
    Err(Failure::new(format!(
        "{}\nthe folders of all chapters are left in {}",
        wrong.join("\n"),
        folder.display()
    )))
}

/// What the commands of our pages have that the program's help has not.
fn commands_without_help(binary: &Path) -> Result<Vec<String>, Failure> {
    let mut help = Help::new(binary);
    let mut wrong = Vec::new();
    let mut folders = ["", "docs", "docs/guide", "datasets", "benches"]
        .map(PathBuf::from)
        .to_vec();
    for parent in ["crates", "datasets"] {
        let parent = workspace().join(parent);
        let entries = fs::read_dir(&parent).map_err(|error| cannot("read", &parent, &error))?;
        folders.extend(
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.is_dir()),
        );
    }
    for folder in folders {
        for page in pages_in(folder)? {
            let text = read(&page)?;
            let found = help.wrong(&text).unwrap_or_else(|words| vec![words]);
            wrong.extend(
                found
                    .into_iter()
                    .map(|words| format!("{}:{words}", page.display())),
            );
        }
    }
    println!("{} command lines of all pages", help.looked_at);
    Ok(wrong)
}

/// The pages of a folder of the repository, in their order.
fn pages_in(folder: impl AsRef<Path>) -> Result<Vec<PathBuf>, Failure> {
    let folder = workspace().join(folder);
    let entries = fs::read_dir(&folder).map_err(|error| cannot("read", &folder, &error))?;
    let mut pages: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    Ok(pages)
}
