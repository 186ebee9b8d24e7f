//! From TOML text and command-line overrides to a [`Spec`]. Nothing stops at the first mistake: faulty
//! keys are left out and remembered with their place, for [`crate::Plan::resolve`] to report together
//! with what it finds.

use std::fs;
use std::path::{Path, PathBuf};

use panacea_data::ObjectiveSpec;
use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use crate::names::OneOrMany;
use crate::problems::{Origin, Problem, UnreadableFile, nearest};
use crate::schema::{Section, accepts, asked_of, in_plain_words};
use crate::sections::{
    AdapterSpec, CheckpointSpec, DataSpec, EvaluationSpec, GeneralSpec, LoggingSpec, MethodSpec,
    ModelSpec, OptimizerSpec, PrecisionSpec, PreferenceSpec, RlhfSpec,
};
use crate::sources::Sources;
use crate::spec::Spec;

/// What the command line says on top of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// `--model`
    pub model: Option<PathBuf>,
    /// `--train`, any number of times.
    pub train: Vec<PathBuf>,
    /// `--eval`, any number of times.
    pub eval: Vec<PathBuf>,
    /// `--device`
    pub device: Option<String>,
    /// `--seed`
    pub seed: Option<u64>,
    /// `--steps`; takes the place of `optimizer.epochs` as well.
    pub steps: Option<usize>,
    /// `--set section.key=value`, any number of times; the value as in TOML, where a plain word needs no
    /// quotes. `section.key=` takes the key out of the file.
    pub set: Vec<String>,
}

impl Spec {
    /// Reads a configuration file. Only a file that cannot be read is an error here; mistakes in it are
    /// reported by [`crate::Plan::resolve`].
    pub fn read(path: &Path) -> Result<Self, UnreadableFile> {
        let text = fs::read_to_string(path).map_err(|source| UnreadableFile {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self::from_toml(&text, &path.display().to_string()))
    }

    /// The configuration in a TOML text; `file` is its name in messages.
    pub fn from_toml(text: &str, file: &str) -> Self {
        parse(text, |line| Origin::File {
            file: file.to_owned(),
            line,
        })
    }

    /// Lays the command line over the file.
    pub(crate) fn apply(&mut self, overrides: &Overrides) {
        for assignment in &overrides.set {
            let emptied = assignment.trim().strip_suffix('=');
            if !emptied.is_some_and(|key| self.forget(key.trim())) {
                self.overlay(parse_assignment(assignment));
            }
        }
        let mut flags = Self::default();
        let mut from_flag = |key: &str, flag: &str, given: bool| {
            if given {
                let flag = Origin::Flag(flag.to_owned());
                flags.sources.origins.insert(key.to_owned(), flag);
            }
        };
        from_flag("model.path", "--model", overrides.model.is_some());
        from_flag("data.train", "--train", !overrides.train.is_empty());
        from_flag("data.eval", "--eval", !overrides.eval.is_empty());
        from_flag("device", "--device", overrides.device.is_some());
        from_flag("seed", "--seed", overrides.seed.is_some());
        from_flag("optimizer.steps", "--steps", overrides.steps.is_some());
        flags.model.path.clone_from(&overrides.model);
        let given = |paths: &[PathBuf]| (!paths.is_empty()).then(|| OneOrMany(paths.to_vec()));
        flags.data.train = given(&overrides.train);
        flags.data.eval = given(&overrides.eval);
        flags.general.device.clone_from(&overrides.device);
        flags.general.seed = overrides.seed;
        flags.optimizer.steps = overrides.steps;
        self.overlay(flags);
    }

    /// Takes every key that `over` has.
    fn overlay(&mut self, mut over: Self) {
        // A variable leaves the others as they are.
        if let (Some(mine), Some(theirs)) = (&self.model.template, &mut over.model.template) {
            for (name, value) in &mine.0 {
                theirs
                    .0
                    .entry(name.clone())
                    .or_insert_with(|| value.clone());
            }
        }
        // `steps` and `epochs` both give a run's length: one of them in `over` cancels the other one in `self`.
        match (over.optimizer.steps, over.optimizer.epochs) {
            (Some(_), None) => self.forget("optimizer.epochs"),
            (None, Some(_)) => self.forget("optimizer.steps"),
            _ => false,
        };
        // A mistake in a value that is replaced does not count.
        let replaced = &over.sources.origins;
        self.sources.problems.retain(|problem| {
            // "objective[1]" goes with "objective".
            let whole = problem.key.split('[').next().unwrap_or_default();
            !replaced.contains_key(whole)
        });

        self.general.overlay(over.general);
        self.model.overlay(over.model);
        self.data.overlay(over.data);
        if !over.objective.is_empty() {
            self.objective = over.objective;
        }
        self.adapter.overlay(over.adapter);
        self.method.overlay(over.method);
        self.rlhf.overlay(over.rlhf);
        self.preference.overlay(over.preference);
        self.optimizer.overlay(over.optimizer);
        self.evaluation.overlay(over.evaluation);
        self.checkpoint.overlay(over.checkpoint);
        self.logging.overlay(over.logging);
        self.precision.overlay(over.precision);
        self.sources.origins.extend(over.sources.origins);
        self.sources.problems.extend(over.sources.problems);
    }

    /// As if the file did not have this key; `false` where there is no such key.
    fn forget(&mut self, key: &str) -> bool {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        let is_known = match section {
            "model" if name.starts_with("template.") => {
                let variables = self.model.template.iter_mut();
                variables.for_each(|table| drop(table.0.remove(&name["template.".len()..])));
                true
            }
            "" => self.general.forget(name),
            "model" => self.model.forget(name),
            "precision" => self.precision.forget(name),
            "data" => self.data.forget(name),
            "adapter" => self.adapter.forget(name),
            "method" => self.method.forget(name),
            "rlhf" => self.rlhf.forget(name),
            "preference" => self.preference.forget(name),
            "optimizer" => self.optimizer.forget(name),
            "evaluation" => self.evaluation.forget(name),
            "checkpoint" => self.checkpoint.forget(name),
            "logging" => self.logging.forget(name),
            _ => false,
        };
        if is_known {
            self.sources.origins.remove(key);
            self.sources.problems.retain(|problem| problem.key != key);
        }
        is_known
    }
}

/// The sections, in the order in which people meet them.
pub(crate) const SECTIONS: [Section; 12] = [
    GeneralSpec::SECTION,
    ModelSpec::SECTION,
    PrecisionSpec::SECTION,
    DataSpec::SECTION,
    AdapterSpec::SECTION,
    MethodSpec::SECTION,
    RlhfSpec::SECTION,
    PreferenceSpec::SECTION,
    OptimizerSpec::SECTION,
    EvaluationSpec::SECTION,
    CheckpointSpec::SECTION,
    LoggingSpec::SECTION,
];

/// Keys that there were once, with the value that changes nothing. The `run.toml` of older runs has them, and whatever
/// they say there, what the run has trained can be used.
const GONE: [(&str, Value); 1] = [("data.length_buckets", Value::Boolean(false))];

/// What the `run.toml` of an older run says, in today's words: s was `fixed_s`, and where it was learned nothing was said of it.
fn in_todays_words(run: &mut Table) {
    if let Some(Value::Table(adapter)) = run.get_mut("adapter") {
        let held = adapter.remove("fixed_s");
        let learned = || Value::String("learned".to_owned());
        adapter
            .entry("s")
            .or_insert_with(|| held.unwrap_or_else(learned));
    }
}

/// What the `run.toml` of an older run says by keys that are no more and that changed its training: it cannot be resumed.
pub fn gone_keys(run_toml: &str) -> Vec<String> {
    let table: Table = run_toml.parse().unwrap_or_default();
    let value = |key: &str| {
        let (section, name) = key.split_once('.')?;
        table.get(section)?.get(name)
    };
    let gone = GONE.iter().filter_map(|(key, usual)| {
        let value = value(key).filter(|value| *value != usual)?;
        Some(format!("{key} = {value}"))
    });
    gone.collect()
}

/// What else may stand in a file. `run` is what `run.toml` says about the run itself: such a file is a configuration as
/// well.
const OTHERS: [&str; 2] = ["objective", "run"];

/// Reads a document; `origin` says where a line of it is.
fn parse(text: &str, origin: impl Fn(usize) -> Origin) -> Spec {
    let line = |position: usize| {
        1 + text.as_bytes()[..position]
            .iter()
            .filter(|&&b| b == b'\n')
            .count()
    };
    let mut reader = Reader {
        sources: Sources::default(),
        checked: Table::new(),
        is_of_a_run: false,
    };
    let document = DeTable::parse(text).and_then(|spanned| Ok((spanned, text.parse::<Table>()?)));
    let (spanned, mut values) = match document {
        Ok(document) => document,
        Err(error) => {
            let at = error.span().map_or(1, |span| line(span.start));
            let message = format!("this is not TOML: {}", error.message().trim());
            reader.problem(Some(origin(at)), "", message);
            reader.sources.is_unreadable = true;
            return reader.finish();
        }
    };
    reader.is_of_a_run = values.contains_key("run");
    if reader.is_of_a_run {
        in_todays_words(&mut values);
    }
    for (key, spanned_value) in spanned.get_ref() {
        let (name, at) = (key.get_ref().as_ref(), line(key.span().start));
        let value = &values[name];
        if GeneralSpec::SECTION.keys.contains(&name) {
            reader.general(name, value, origin(at));
        } else if let Some(section) = SECTIONS.iter().find(|section| section.name() == name) {
            let Value::Table(table) = value else {
                let message = format!(
                    "found a {}, expected the section [{name}]",
                    value.type_str()
                );
                reader.problem(Some(origin(at)), name, message);
                continue;
            };
            let place = |key: &str| origin(line(position(spanned_value, key)));
            reader.section(section, table, place);
        } else if name == "objective" {
            let place = |index: usize| {
                origin(line(
                    element_position(spanned_value, index).unwrap_or(key.span().start),
                ))
            };
            reader.objectives(value, place);
        } else if !OTHERS.contains(&name) {
            let sections = SECTIONS.iter().map(Section::name);
            let general = GeneralSpec::SECTION.keys.iter().copied();
            let known = sections.filter(|name| !name.is_empty()).chain(general);
            reader.unknown(origin(at), "", name, known.chain(OTHERS));
        }
    }
    reader.finish()
}

/// `section.key=value`, where a plain word needs no quotes.
fn parse_assignment(assignment: &str) -> Spec {
    let flag = || Origin::Flag(format!("--set {assignment}"));
    let refuse = || {
        let mut spec = Spec::default();
        spec.sources.problems.push(Problem {
            origin: Some(flag()),
            key: String::new(),
            message: "expected section.key=value, such as optimizer.steps=10".to_owned(),
        });
        spec
    };
    let Some((key, value)) = assignment.split_once('=') else {
        return refuse();
    };
    let (key, value) = (key.trim(), value.trim());
    let is_name = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    };
    if !key.split('.').all(is_name) {
        return refuse();
    }
    let as_toml = format!("{key} = {value}");
    if as_toml.parse::<Table>().is_ok() || value.starts_with(['"', '\'', '[', '{']) {
        return parse(&as_toml, |_| flag());
    }
    let quoted = Value::String(value.to_owned());
    parse(&format!("{key} = {quoted}"), |_| flag())
}

/// The position of a key in a section.
fn position(section: &Spanned<DeValue>, key: &str) -> usize {
    section
        .get_ref()
        .as_table()
        .and_then(|table| table.get_key_value(key))
        .map_or(section.span().start, |(key, _)| key.span().start)
}

/// The position of an element of a list.
fn element_position(list: &Spanned<DeValue>, index: usize) -> Option<usize> {
    Some(list.get_ref().as_array()?.get(index)?.span().start)
}

/// Why a value of the right type is none. What a run's own `run.toml` says has been done, and stays.
fn impossible(key: &str, value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some(address) if key == "logging.mlflow" && address.contains("://") => Err(format!(
            "found the address {address}, expected a folder: metrics are written in the form of MLflow's file store, and sent nowhere"
        )),
        _ => Ok(()),
    }
}

/// What is meant by a value that people bring from elsewhere, in the words of a configuration.
fn meant(key: &str, value: &Value) -> Option<&'static str> {
    Some(match (key, value.as_str()?) {
        ("method.loss", "ppo") => r#"loss = "rlhf" with rlhf.advantages = "gae""#,
        ("method.loss", "rloo") => r#"loss = "rlhf" with rlhf.advantages = "rloo""#,
        ("method.loss", "grpo") => r#"loss = "rlhf" with rlhf.advantages = "grpo""#,
        ("method.loss", "gdpo") => r#"loss = "rlhf" with rlhf.advantages = "gdpo""#,
        ("method.loss", "ipo") => r#"loss = "dpo" with method.dpo_loss = "ipo""#,
        ("method.loss", "reward" | "reward-model" | "reward_model" | "rm") => {
            r#"method.name = "reward-model""#
        }
        ("adapter.modules", "all-linear") => "the default: leave the key out",
        _ => return None,
    })
}

struct Reader {
    sources: Sources,
    /// The keys that are known and have the right type.
    checked: Table,
    /// Whether it is the `run.toml` of a run.
    is_of_a_run: bool,
}

impl Reader {
    fn problem(&mut self, origin: Option<Origin>, key: &str, message: String) {
        self.sources.problems.push(Problem {
            origin,
            key: key.to_owned(),
            message,
        });
    }

    fn unknown<'a>(
        &mut self,
        origin: Origin,
        section: &str,
        name: &str,
        known: impl Iterator<Item = &'a str> + Clone,
    ) {
        let place = if section.is_empty() {
            String::new()
        } else {
            format!(" in [{section}]")
        };
        let advice = match nearest(name, known.clone()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                let known: Vec<&str> = known.collect();
                format!("known are {}", known.join(", "))
            }
        };
        let key = if section.is_empty() {
            name.to_owned()
        } else {
            format!("{section}.{name}")
        };
        self.problem(
            Some(origin),
            &key,
            format!("unknown key \"{name}\"{place}; {advice}"),
        );
    }

    fn general(&mut self, name: &str, value: &Value, origin: Origin) {
        let single = Table::from_iter([(name.to_owned(), value.clone())]);
        match accepts::<GeneralSpec>(single) {
            Ok(()) => {
                self.checked.insert(name.to_owned(), value.clone());
                self.sources.origins.insert(name.to_owned(), origin);
            }
            Err(message) => self.problem(Some(origin), name, message),
        }
    }

    fn section(&mut self, section: &Section, table: &Table, place: impl Fn(&str) -> Origin) {
        let mut checked = Table::new();
        for (name, value) in table {
            let key = format!("{}{name}", section.prefix);
            let is_gone = |(gone, usual): &(&str, Value)| {
                *gone == key && (self.is_of_a_run || usual == value)
            };
            if GONE.iter().any(is_gone) {
                continue;
            }
            if key == "adapter.fixed_s" {
                let message = "this key is adapter.s now".to_owned();
                self.problem(Some(place(name)), &key, message);
                continue;
            }
            if !section.keys.contains(&name.as_str()) {
                self.unknown(
                    place(name),
                    section.name(),
                    name,
                    section.keys.iter().copied(),
                );
                continue;
            }
            let single = Table::from_iter([(name.clone(), value.clone())]);
            let accepted = (section.accepts)(single);
            let accepted = accepted.and_then(|()| match self.is_of_a_run {
                true => Ok(()),
                false => impossible(&key, value),
            });
            match accepted {
                Ok(()) => {
                    checked.insert(name.clone(), value.clone());
                    self.sources.origins.insert(key, place(name));
                }
                Err(message) => {
                    let meant = meant(&key, value)
                        .map_or_else(String::new, |meant| format!("; what you mean is {meant}"));
                    self.problem(Some(place(name)), &key, message + &meant);
                }
            }
        }
        self.checked
            .insert(section.name().to_owned(), Value::Table(checked));
    }

    fn objectives(&mut self, value: &Value, place: impl Fn(usize) -> Origin) {
        let Value::Array(elements) = value else {
            let message = format!(
                "found a {}, expected tables [[objective]]",
                value.type_str()
            );
            self.problem(Some(place(0)), "objective", message);
            return;
        };
        let known = asked_of::<ObjectiveSpec>();
        let mut checked = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let key = format!("objective[{index}]");
            self.sources.origins.insert(key.clone(), place(index));
            let names = element.as_table().into_iter().flat_map(Table::keys);
            let unknown: Vec<&String> = names
                .filter(|name| !known.contains(&name.as_str()))
                .collect();
            for name in &unknown {
                self.unknown(place(index), &key, name, known.iter().copied());
            }
            if !unknown.is_empty() {
                continue;
            }
            match ObjectiveSpec::deserialize(element.clone()) {
                Ok(_) => checked.push(element.clone()),
                Err(error) => {
                    let message = in_plain_words(error.message());
                    self.problem(Some(place(index)), &key, message);
                }
            }
        }
        self.sources
            .origins
            .insert("objective".to_owned(), place(0));
        self.checked
            .insert("objective".to_owned(), Value::Array(checked));
    }

    fn finish(mut self) -> Spec {
        let mut spec = Spec::deserialize(self.checked).unwrap_or_else(|error| {
            self.sources.problems.push(Problem {
                origin: None,
                key: String::new(),
                message: error.message().to_owned(),
            });
            Spec::default()
        });
        spec.sources = self.sources;
        spec
    }
}
