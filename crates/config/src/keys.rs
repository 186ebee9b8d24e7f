//! The keys of a configuration, for people at a terminal and for editors.

use panacea_data::{Format, ObjectiveSpec, Rule, Strength};
use panacea_rewards::SCORERS;
use serde_json::{Map, Value as Json, json};

use crate::problems::nearest;
use crate::reading::SECTIONS;
use crate::reference::{needs, wrapped};
use crate::schema::{KeyDefault, KeyReference, Section, names_of, one_or_many};

/// Characters of a line of the terminal.
const WIDTH: usize = 100;

/// The tables that are not a section.
const OBJECTIVE: &str = "objective";

/// A key or section that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no section and no key `{asked}`{}; `config keys` lists them all",
    did_you_mean(.nearest.as_deref())
)]
pub struct UnknownKey {
    /// What was asked for.
    pub asked: String,
    /// What was likely meant.
    pub nearest: Option<String>,
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| {
        format!(" (did you mean `{nearest}`?)")
    })
}

/// All keys, a line each: with the default and the values that may stand there.
pub fn keys() -> String {
    let mut lines = String::new();
    for section in &SECTIONS {
        let reference = (section.reference)();
        let about = plain(&format!("{}{}", reference.text, needs(reference.when)));
        lines += &match section.name() {
            "" => format!("{about}\n"),
            name => format!("\n[{name}]  {about}\n"),
        };
        for key in &reference.keys {
            let default = shortened(&default_of(key), 24);
            let (name, values) = (key.name, shortened(&key.expected, WIDTH - 55));
            lines += &format!("  {name:<26} {default:<24}  {values}\n");
        }
        if section.name() == "data" {
            lines += &format!("\n[[{OBJECTIVE}]]  What records are judged by: one table each.\n");
            let names: Vec<&str> = ObjectiveSpec::KEYS.iter().map(|(name, _)| *name).collect();
            lines += &wrapped(&names.join(", "), " ", WIDTH);
        }
    }
    lines
}

/// What a section says, or a key, such as `adapter` or `adapter.rank`.
pub fn about(asked: &str) -> Result<String, UnknownKey> {
    let asked = asked.trim_matches(['[', ']']);
    if asked == OBJECTIVE {
        return Ok(about_objectives());
    }
    if let Some(section) = SECTIONS
        .iter()
        .find(|section| !asked.is_empty() && section.name() == asked)
    {
        let reference = (section.reference)();
        let about = plain(&format!("{}{}", reference.text, needs(reference.when)));
        let keys: String = reference
            .keys
            .iter()
            .map(|key| about_key(section, key))
            .collect();
        return Ok(format!(
            "{}{keys}",
            wrapped(&format!("[{asked}]  {about}"), "", WIDTH).trim_start()
        ));
    }
    // Sections may have a key of the same name.
    let of_that_name = SECTIONS.iter().flat_map(|section| {
        let keys = (section.reference)().keys.into_iter();
        let keys = keys.filter(move |key| asked == key.name || full_name(section, key) == asked);
        keys.map(move |key| about_key(section, &key))
    });
    let found: String = of_that_name.collect();
    if !found.is_empty() {
        return Ok(found.trim_start().to_owned());
    }
    let mut known: Vec<String> = vec![OBJECTIVE.to_owned()];
    for section in &SECTIONS {
        known.push(section.name().to_owned());
        known.extend(
            section
                .keys
                .iter()
                .map(|key| format!("{}{key}", section.prefix)),
        );
    }
    Err(UnknownKey {
        nearest: nearest(asked, known.iter().map(String::as_str)).map(str::to_owned),
        asked: asked.to_owned(),
    })
}

fn about_key(section: &Section, key: &KeyReference) -> String {
    let text = plain(&format!("{}{}", key.text, needs(key.when)));
    let values = format!("Values: {}.", key.expected);
    format!(
        "\n{} = {}\n{}{}",
        full_name(section, key),
        default_of(key),
        wrapped(&text, "   ", WIDTH),
        wrapped(&values, "   ", WIDTH),
    )
}

fn about_objectives() -> String {
    let mut lines = format!(
        "[[{OBJECTIVE}]]  What records are judged by: one table each, at least one. Exactly one of score, column,\n\
         chosen, rule and reward stands there.\n"
    );
    for (key, text) in ObjectiveSpec::KEYS {
        lines += &format!("\n{key}\n{}", wrapped(&plain(text.trim()), "   ", WIDTH));
    }
    lines += "\nWhat reward may be; fields with a default are shown with it:\n";
    for scorer in SCORERS {
        lines += &format!(
            "\n{}{}",
            wrapped(scorer.table, "", WIDTH).trim_start(),
            wrapped(&plain(scorer.text), "   ", WIDTH)
        );
    }
    lines
}

fn full_name(section: &Section, key: &KeyReference) -> String {
    format!("{}{}", section.prefix, key.name)
}

fn default_of(key: &KeyReference) -> String {
    match &key.default {
        KeyDefault::Value(value) => value.clone(),
        KeyDefault::Words(words) => plain(words),
    }
}

/// Markdown without its marks of code.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// A JSON Schema of configuration files, for editors. It knows keys, types, names and ranges; what depends on other keys is
/// checked when a file is read.
pub fn json_schema() -> Json {
    let mut properties = Map::new();
    for section in &SECTIONS {
        let reference = (section.reference)();
        let keys = reference
            .keys
            .iter()
            .map(|key| (key.name.to_owned(), schema_of(key)));
        match section.name() {
            "" => properties.extend(keys),
            name => {
                let table = json!({
                    "type": "object", "additionalProperties": false, "properties": keys.collect::<Map<_, _>>(),
                    "description": plain(&format!("{}{}", reference.text, needs(reference.when))),
                });
                properties.insert(name.to_owned(), table);
            }
        }
    }
    properties.insert(OBJECTIVE.to_owned(), objectives_schema());
    // What `run.toml` says about the run itself.
    properties.insert("run".to_owned(), json!({"type": "object"}));
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A configuration of Panacea",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn schema_of(key: &KeyReference) -> Json {
    let text = format!(
        "{}{} Values: {}. Default: {}.",
        key.text,
        needs(key.when),
        key.expected,
        default_of(key)
    );
    let mut schema = key.schema.clone();
    schema["description"] = plain(&text).into();
    schema
}

fn objectives_schema() -> Json {
    let schema = |name: &str| match name {
        "name" | "score" | "column" => json!({"type": "string"}),
        "chosen" | "negate" => json!({"type": "boolean"}),
        "rule" => json!({"enum": names_of::<Rule>()}),
        "strength" => json!({"enum": names_of::<Strength>()}),
        "format" => json!({"enum": names_of::<Format>()}),
        "train" | "eval" => one_or_many(),
        // `reward`
        _ => json!({"type": "object"}),
    };
    let keys = ObjectiveSpec::KEYS.iter().map(|(name, text)| {
        let mut schema = schema(name);
        schema["description"] = plain(text.trim()).into();
        ((*name).to_owned(), schema)
    });
    json!({
        "type": "array",
        "items": {
            "type": "object", "additionalProperties": false, "required": ["name"],
            "properties": keys.collect::<Map<_, _>>(),
        },
    })
}
