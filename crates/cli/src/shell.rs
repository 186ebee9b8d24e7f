//! Commands that are printed for people to type: what comes from them may hold blanks and quotes.

use std::path::Path;

use crate::session::RUNS;

/// A path or a name as one word of a shell.
pub fn word(path: impl AsRef<Path>) -> String {
    let text = path.as_ref().to_string_lossy();
    // Nothing quotes a zero, which no path and no argument holds.
    shlex::try_quote(&text).map_or_else(|_| text.to_string(), |word| word.into_owned())
}

/// The command that this process was started with, as a shell takes it.
pub fn this_command() -> String {
    let arguments = std::env::args_os().skip(1).map(word);
    let words = ["cargo".to_owned(), "xtask".to_owned()];
    words
        .into_iter()
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

/// ` --runs FOLDER` where runs are kept elsewhere than usual.
pub fn runs(folder: &Path) -> String {
    match folder.as_os_str() == RUNS {
        true => String::new(),
        false => format!(" --runs {}", word(folder)),
    }
}
