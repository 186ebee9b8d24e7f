//! Where evaluations are kept.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use panacea_runs::RunFolder;

/// An evaluation is never written over: `out` may hold none of the files of one.
pub fn refuse_occupied(out: &Path, files: &[&str]) -> Result<()> {
    if let Some(file) = files.iter().find(|file| out.join(file).exists()) {
        bail!(
            "--out {}: it holds an evaluation already ({file}); give a folder that is new or empty, move this one away, or leave \
             --out out: each evaluation of a run then gets a folder of its own, evaluations/001 and so on in the run's",
            out.display()
        );
    }
    Ok(())
}

/// Keeps an evaluation of `run` in `out`, or else in the next folder of the run's own; the paths of the `files` that `write`
/// makes there.
pub fn keep_evaluation(
    run: &RunFolder,
    out: Option<&Path>,
    files: &[&str],
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<Vec<PathBuf>> {
    let folder = match out {
        Some(out) => {
            write(out)?;
            out.to_owned()
        }
        None => run.save_evaluation(write)?,
    };
    Ok(files.iter().map(|file| folder.join(file)).collect())
}
