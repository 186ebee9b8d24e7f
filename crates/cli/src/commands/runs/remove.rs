//! `runs rm`.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::{Result, bail};
use panacea_runs::{RunFolder, RunSummary};

use super::{counted, size, state_text};

pub fn run(runs: &Path, names: &[String], yes: bool) -> Result<()> {
    // All of them are looked at before the first is gone.
    let mut found: Vec<RunSummary> = Vec::new();
    for name in names {
        let folder = RunFolder::find(runs, Some(name))?;
        if let Some(process) = folder.writer()? {
            bail!(
                "{} is being trained now{}; stop that first",
                folder.path().display(),
                match process.as_str() {
                    "" => String::new(),
                    process => format!(" (process {process})"),
                }
            );
        }
        if found.iter().all(|known| known.folder != folder) {
            found.push(RunSummary::of(&folder)?);
        }
    }
    for run in &found {
        let evaluations = run.folder.evaluations()?.len();
        reply!(
            "{}: {}; {}; {}",
            run.folder.path().display(),
            state_text(run),
            counted(evaluations, "evaluation"),
            size(run.bytes)
        );
    }
    let bytes: u64 = found.iter().map(|run| run.bytes).sum();
    let what = format!("{}, {}", counted(found.len(), "run"), size(bytes));
    if !yes && !is_agreed(&what)? {
        reply!("nothing was removed");
        return Ok(());
    }
    for run in found {
        let path = run.folder.path().to_owned();
        run.folder.remove()?;
        say!("removed {}", path.display());
    }
    Ok(())
}

fn is_agreed(what: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("nobody can be asked whether to remove {what}: say --yes");
    }
    eprint!("Remove {what}, with all that is in their folders? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
