//! Commands that are printed for people to type: what comes from them may hold blanks and quotes.

use std::env;
use std::path::Path;

use panacea_config::Plan;
use panacea_runs::RunFolder;

use crate::session::RUNS;

/// What `cargo xtask` says of itself to the binary that it calls; the variable that says so is set by xtask/src/launch.rs.
const CALLED_AS: &str = "PANACEA_CALLED_AS";

/// How messages and examples call this program before it is known how it was called.
const USUAL: &str = "cargo xtask";

/// How this program was called: `panacea`, or `cargo xtask`.
pub fn program() -> &'static str {
    match env::var_os(CALLED_AS).is_some_and(|name| name == USUAL) {
        true => USUAL,
        false => "panacea",
    }
}

/// A message or an example with the commands in it as they are called here.
pub fn as_called(text: &str) -> String {
    text.replace(USUAL, program())
}

/// ` NAME VALUE` where there is a value.
pub fn option(name: &str, value: Option<&Path>) -> String {
    value.map_or_else(String::new, |value| format!(" {name} {}", word(value)))
}

/// A path or a name as one word of a shell.
pub fn word(path: impl AsRef<Path>) -> String {
    let text = path.as_ref().to_string_lossy();
    // Nothing quotes a zero, which no path and no argument holds.
    shlex::try_quote(&text).map_or_else(|_| text.to_string(), |word| word.into_owned())
}

/// The command that this process was started with, as a shell takes it.
pub fn this_command() -> String {
    let arguments = env::args_os().skip(1).map(word);
    let words = std::iter::once(program().to_owned()).chain(arguments);
    words.collect::<Vec<_>>().join(" ")
}

/// ` --runs FOLDER` where runs are kept elsewhere than usual.
pub fn runs(folder: &Path) -> String {
    match folder.as_os_str() == RUNS {
        true => String::new(),
        false => format!(" --runs {}", word(folder)),
    }
}

/// ` --run NAME`, with ` --runs FOLDER` where that takes it.
pub fn run(folder: &RunFolder, runs: &Path) -> String {
    format!(" --run {}{}", word(folder.name()), self::runs(runs))
}

/// The command that measures a run; `FILE` stands for records where the run has none.
pub fn measure(folder: &RunFolder, plan: &Plan, runs: &Path) -> String {
    let command = match plan.method().is_reward_model() {
        true => "eval-reward",
        false => "eval-front",
    };
    let by = match plan.needs_answers() {
        true => " --by rewards",
        false => "",
    };
    let records = match plan.evaluation_files(&[]).is_empty() {
        true => " --eval FILE",
        false => "",
    };
    format!("{} {command}{}{by}{records}", program(), run(folder, runs))
}
