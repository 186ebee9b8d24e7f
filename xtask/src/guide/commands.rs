//! The command lines of pages, held against the program's own help: its command has to be there, and each of its options.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::chapter::blocks;

/// The program's help by command, which is asked for once.
pub struct Help<'a> {
    binary: &'a Path,
    pages: BTreeMap<Vec<String>, Option<String>>,
    /// How many command lines were looked at.
    pub looked_at: usize,
}

impl<'a> Help<'a> {
    pub fn new(binary: &'a Path) -> Self {
        Self {
            binary,
            pages: BTreeMap::new(),
            looked_at: 0,
        }
    }

    /// What is wrong with the commands of a page; each begins with its line.
    pub fn wrong(&mut self, page: &str) -> Result<Vec<String>, String> {
        let mut wrong = Vec::new();
        for block in blocks(page)?.iter().filter(|block| block.language == "sh") {
            for (line, words) in commands(block.line + 1, &block.text) {
                self.looked_at += 1;
                if let Err(words) = self.check(&words) {
                    wrong.push(format!("{line}: {words}"));
                }
            }
        }
        Ok(wrong)
    }

    fn check(&mut self, words: &[String]) -> Result<(), String> {
        // `runs list` has a help of its own, and `push FOLDER` that of `push`.
        let names = words
            .iter()
            .take(2)
            .take_while(|word| !word.starts_with('-'));
        let longest = names.count();
        let help = (longest.min(1)..=longest)
            .rev()
            .find_map(|count| {
                // The help of `runs` is none of `runs lst`.
                let is_of_it = |help: &String| count == longest || !help.contains("<COMMAND>");
                self.page(&words[..count]).filter(is_of_it)
            })
            .ok_or_else(|| format!("`{}`: there is no such command", words.join(" ")))?;
        let options = words.iter().take_while(|word| *word != "--");
        let unknown = options
            .filter(|word| word.starts_with("--"))
            .map(|word| word.split('=').next().unwrap_or(word))
            .find(|option| !has_option(&help, option));
        match unknown {
            None => Ok(()),
            Some(option) => Err(format!("`{}`: its help has no {option}", words.join(" "))),
        }
    }

    fn page(&mut self, command: &[String]) -> Option<String> {
        let binary = self.binary;
        let ask = || {
            let said = Command::new(binary).args(command).arg("--help").output();
            let said = said.ok().filter(|said| said.status.success())?;
            String::from_utf8(said.stdout).ok()
        };
        let page = self.pages.entry(command.to_vec()).or_insert_with(ask);
        page.clone()
    }
}

fn has_option(help: &str, option: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-');
    option == "--help"
        || help
            .match_indices(option)
            .any(|(start, _)| ends(&help[start + option.len()..]))
}

/// The words of each command of the program behind its name, with the line where it begins.
fn commands(first: usize, script: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut begun: Option<(usize, String)> = None;
    for (line, text) in (first..).zip(script.lines()) {
        let (start, so_far) = begun.take().unwrap_or((line, String::new()));
        let whole = so_far + text.trim_start();
        match whole.strip_suffix('\\') {
            Some(more) => begun = Some((start, more.to_owned())),
            None => found.extend(programs(&words(&whole)).map(|words| (start, words))),
        }
    }
    found
}

/// Of a line's words those behind `panacea`, for each time that it is called.
fn programs(words: &[String]) -> impl Iterator<Item = Vec<String>> {
    let calls = words.split(|word| ["|", "&&", ";", "&", "do"].contains(&word.as_str()));
    calls.filter_map(|call| {
        let is_set = |word: &&String| {
            word.split_once('=')
                .is_some_and(|(name, _)| !name.starts_with('-'))
        };
        let call: Vec<&String> = call.iter().skip_while(is_set).collect();
        let rest = match call[..] {
            [cargo, xtask, ref rest @ ..] if cargo == "cargo" && xtask == "xtask" => rest,
            [program, ref rest @ ..] if program == "panacea" || program.ends_with("/panacea") => {
                rest
            }
            _ => return None,
        };
        let ends = |word: &&&String| !word.starts_with(['>', '<', '#']) && word.as_str() != "2>&1";
        let rest: Vec<String> = rest
            .iter()
            .take_while(ends)
            .map(|word| word.to_string())
            .collect();
        let as_typed: Vec<OsString> = rest.iter().map(OsString::from).collect();
        let is_looked_at = matches!(
            crate::Command::of(&as_typed),
            crate::Command::Panacea | crate::Command::Misspelt
        );
        is_looked_at.then_some(rest)
    })
}

/// A line's words as a shell takes them apart, up to what quotes it knows; a word in quotes is never an operator here.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (None, ' ') => words.push(String::new()),
            (None, ';') => words.extend([";".to_owned(), String::new()]),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (_, c) => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_where_a_shell_finds_them() {
        let script = "\
git clone x && cargo xtask train --config my.toml \\
    --prompt 'a; b | c' > out
sort q.txt | panacea runs list --json # a comment --none
A=b target/debug/panacea score; cargo xtask ci
cargo test --workspace
";
        let found = commands(10, script);
        let lines: Vec<String> = found
            .iter()
            .map(|(line, words)| format!("{line}: {}", words.join("_")))
            .collect();
        let expected = [
            "10: train_--config_my.toml_--prompt_a; b | c",
            "12: runs_list_--json",
            "13: score",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn options_are_whole_words() {
        let help = "      --max-new-tokens <N>  See --seeds";
        assert!(has_option(help, "--max-new-tokens"));
        assert!(has_option(help, "--help"));
        assert!(!has_option(help, "--max-new"));
        assert!(!has_option(help, "--seed"));
    }

    /// `echo` says whatever is asked: a help without options.
    #[test]
    fn what_the_help_lacks_is_told_with_its_line() {
        let page =
            "```sh\npanacea train\npanacea train --none\n```\n```text\npanacea x --none\n```\n";
        let wrong = Help::new(Path::new("/bin/echo")).wrong(page).unwrap();
        assert_eq!(wrong, ["3: `train --none`: its help has no --none"]);
        let wrong = Help::new(Path::new("/bin/false"))
            .wrong("```sh\npanacea x\n```")
            .unwrap();
        assert_eq!(wrong, ["2: `x`: there is no such command"]);
    }
}
