//! The reference of every key: the page `docs/configuration.md`, and a configuration file in which every key stands.

use panacea_data::ObjectiveSpec;
use panacea_rewards::SCORERS;
use toml::{Table, Value};

use crate::beginnings::Proposal;
use crate::problems::ConfigErrors;
use crate::reading::{Overrides, SECTIONS};
use crate::resolver::Resolver;
use crate::schema::{KeyDefault, KeyReference};
use crate::spec::Spec;
use crate::when::{Choices, When};

const INTRODUCTION: &str = "\
# Configuration

What a run trains, on what and how stands in a TOML file:

```sh
cargo xtask train --config my.toml --set optimizer.steps=200
cargo xtask config init --from dpo my.toml    # or kto, sft, rlhf, reward-model: a file to begin with
cargo xtask config check my.toml              # all that training would refuse, without training
cargo xtask config keys adapter               # what stands on this page, at the terminal
cargo xtask config schema > panacea.schema.json   # for editors: `#:schema ./panacea.schema.json` in the first line
cargo xtask train --print-config              # every key with its default
```

What the command line says goes before the file; `--set adapter.s=`, with nothing behind the sign, brings a default back.
A key that is unknown, of the wrong type or out of range is refused with its line, all of them at once; one that has no effect is
warned about. `run.toml` in a run's folder is such a file as well, with every default written out. This page comes from the code
of `crates/config`, and its tests compare the two.
";

const OBJECTIVES: &str = "
## `[[objective]]`

What records are judged by: one table each, at least one. Exactly one of `score`, `column`, `chosen`, `rule` and `reward` stands
there; an objective with files of its own may leave it out and then means `chosen = true`.

| key | what it is |
|---|---|
";

const REWARDS: &str = "
What `reward` may be; fields with a default are shown with it. What a program reads and writes, and what a judge is asked, stands
in [scorers.md](scorers.md).

| reward | the score of an answer |
|---|---|
";

/// The page `docs/configuration.md`.
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    for section in &SECTIONS {
        let reference = (section.reference)();
        let title = match section.name() {
            "" => "Above all sections".to_owned(),
            name => format!("`[{name}]`"),
        };
        let section_needs = code(&needs(reference.when));
        page += &format!("\n## {title}\n\n{}{section_needs}\n\n", reference.text);
        page += "| key | values | default | what it is |\n|---|---|---|---|\n";
        for key in &reference.keys {
            let default = match &key.default {
                KeyDefault::Value(value) => format!("`{value}`"),
                KeyDefault::Words(words) => (*words).to_owned(),
            };
            let key_needs = code(&needs(key.when));
            let (name, expected) = (key.name, code(&key.expected));
            let text = &key.text;
            page += &format!("| `{name}` | {expected} | {default} | {text}{key_needs} |\n");
        }
        if section.name() == "data" {
            page += OBJECTIVES;
            for (key, text) in ObjectiveSpec::KEYS {
                page += &format!("| `{key}` | {} |\n", text.trim());
            }
            page += REWARDS;
            for scorer in SCORERS {
                page += &format!("| `{}` | {} |\n", scorer.table, scorer.text);
            }
        }
    }
    page
}

impl Spec {
    /// It as a configuration file in which every key stands with what it does, under the command line: what it says, and
    /// behind `#` the default of every other key.
    pub fn with_every_key(self, overrides: &Overrides) -> Result<String, ConfigErrors> {
        self.written(overrides, &[], |_, _| true)
    }

    /// The same without the keys that say nothing and have no effect under its method, and with `proposals` in place of its
    /// objectives where there are any.
    pub(crate) fn with_keys_of_its_method(
        self,
        overrides: &Overrides,
        proposals: &[Proposal],
    ) -> Result<String, ConfigErrors> {
        self.written(overrides, proposals, |choices, when| {
            when.is_none_or(|when| (when.holds)(choices))
        })
    }

    fn written(
        mut self,
        overrides: &Overrides,
        proposals: &[Proposal],
        matters: fn(&Choices, Option<When>) -> bool,
    ) -> Result<String, ConfigErrors> {
        self.apply(overrides);
        let mut resolver = Resolver {
            sources: std::mem::take(&mut self.sources),
            warnings: Vec::new(),
        };
        self.check_ranges(&mut resolver);
        let said = Table::try_from(&self).unwrap_or_else(|error| {
            resolver.problem("", format!("a value cannot be written in TOML: {error}"));
            Table::new()
        });
        if let Some(errors) = ConfigErrors::from_problems(resolver.sources.problems) {
            return Err(errors);
        }
        let choices = self.choices();
        let mut file = String::new();
        let objective = said.get("objective").and_then(Value::as_array);
        let objective = objective.map_or(&[][..], Vec::as_slice);
        for section in &SECTIONS {
            let reference = (section.reference)();
            let said = match section.name() {
                "" => Some(&said),
                name => said.get(name).and_then(Value::as_table),
            };
            let said = |key: &KeyReference| said.and_then(|said| said.get(key.name));
            let section_matters = matters(&choices, reference.when);
            let keys = reference.keys.iter().filter(|key| {
                said(key).is_some() || section_matters && matters(&choices, key.when)
            });
            let keys: String = keys.map(|key| line(key, said(key))).collect();
            if !keys.is_empty() && !section.name().is_empty() {
                let about = format!("{}{}", reference.text, needs(reference.when));
                file += &format!("\n{}[{}]\n", comment(&about), section.name());
            }
            file += &keys;
            if section.name() == "data" {
                file += &about_objectives();
                file += &match proposals {
                    [] => objectives(objective.iter().filter_map(Value::as_table)),
                    proposals => proposed(proposals),
                };
            }
        }
        Ok(file)
    }
}

/// A key with what it does.
fn line(key: &KeyReference, said: Option<&Value>) -> String {
    let about = format!("{}{} Values: {}.", key.text, needs(key.when), key.expected);
    let entry = match (said, &key.default) {
        (Some(value), _) => format!("{} = {value}", key.name),
        (None, KeyDefault::Value(value)) => format!("# {} = {value}", key.name),
        (None, KeyDefault::Words(words)) => {
            format!("# {} =    # {}", key.name, words.replace('`', ""))
        }
    };
    format!("\n{}{entry}\n", comment(&about))
}

/// What the keys of an objective are.
fn about_objectives() -> String {
    let about = "What records are judged by: one table each. Exactly one of score, column, chosen, rule and reward stands there.";
    let mut lines = format!("\n{}", comment(about));
    for (key, text) in ObjectiveSpec::KEYS {
        lines += &comment(&format!("{key}: {}", text.trim()));
    }
    lines
}

/// The objectives, a table each.
fn objectives<'a>(objectives: impl Iterator<Item = &'a Table>) -> String {
    let mut lines = String::new();
    let mut objectives = objectives.peekable();
    if objectives.peek().is_none() {
        lines += "# [[objective]]\n# name = \"helpfulness\"\n# score = \"helpfulness\"\n";
    }
    for objective in objectives {
        lines += &objective_table(objective);
    }
    lines
}

fn objective_table(objective: &Table) -> String {
    let keys = objective.iter();
    let keys: String = keys
        .map(|(key, value)| format!("{key} = {value}\n"))
        .collect();
    format!("[[objective]]\n{keys}")
}

/// Objectives with what was found of each; one that is not taken is a comment.
fn proposed(proposals: &[Proposal]) -> String {
    let mut lines = String::new();
    for Proposal {
        objective,
        remark,
        is_taken,
    } in proposals
    {
        let table = Table::try_from(objective).unwrap_or_default();
        let table = objective_table(&table);
        let table: String = match is_taken {
            true => table,
            false => table.lines().map(|line| format!("# {line}\n")).collect(),
        };
        lines += &format!(
            "\n{}{table}",
            comment(&format!("{}: {remark}.", objective.name))
        );
    }
    lines
}

/// What a key or a section needs to have an effect, as a sentence.
pub(crate) fn needs(when: Option<When>) -> String {
    when.map_or_else(String::new, |when| format!(" Needs {}.", when.words))
}

/// `words`, with keys, signs and what stands in quotation marks as code.
fn code(words: &str) -> String {
    let is_code = |word: &str| {
        word.contains(['"', '=']) || word.contains('.') && word.starts_with(char::is_alphabetic)
    };
    let mut marked = String::new();
    for piece in words.split_inclusive(' ') {
        let word = piece.trim_end_matches([' ', ',', '.']);
        match is_code(word) {
            true => marked += &format!("`{word}`{}", &piece[word.len()..]),
            false => marked += piece,
        }
    }
    marked.replace("` `", " ")
}

/// Text as lines of a TOML comment, at most 100 characters each where its words allow.
fn comment(text: &str) -> String {
    wrapped(&text.replace('`', ""), "#", 100)
}

/// Text as lines that begin with `margin`, at most `width` characters each where its words allow.
pub(crate) fn wrapped(text: &str, margin: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut line = margin.to_owned();
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > width && line != margin {
            lines += &format!("{line}\n");
            line.truncate(margin.len());
        }
        line = line + " " + word;
    }
    lines + &line + "\n"
}
