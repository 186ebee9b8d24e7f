//! Commands that are printed for people to type: what comes from them may hold blanks and quotes.

use std::path::Path;

use crate::session::RUNS;

/// A path or a name as one word of a shell.
pub fn word(path: impl AsRef<Path>) -> String {
    let text = path.as_ref().to_string_lossy();
    // Nothing quotes a zero, which no path and no argument holds.
    shlex::try_quote(&text).map_or_else(|_| text.to_string(), |word| word.into_owned())
}

/// ` --runs FOLDER` where runs are kept elsewhere than usual.
pub fn runs(folder: &Path) -> String {
    match folder.as_os_str() == RUNS {
        true => String::new(),
        false => format!(" --runs {}", word(folder)),
    }
}
