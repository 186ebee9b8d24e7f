//! What is known of sections and keys: type, default, range, when a key has an effect, and what the file says of it.
//! `section!` makes an [`Entry`] of every key it declares; resolving, the warnings about keys without effect,
//! `docs/configuration.md`, `train --print-config` and the commands of `config` all come from there.

use std::iter;
use std::path::PathBuf;

use panacea_data::{BadRecords, Format, LabelledBy, OverlongPrompts};
use panacea_devices::Precision;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value as Json, json};
use toml::Table;

use crate::names::{
    Activations, AdvantagesName, AggregationName, DpoLossName, FormatChoice, GivenWeights,
    LossName, MethodName, OneOrMany, ScheduleKind, SteeringScale, TemplateVariables,
};
use crate::when::When;

/// A key and what the file says of it. `D` is its default: [`Usual`], or `()` where that depends on other keys or there is
/// none.
pub(crate) struct Entry<T: 'static, D = ()> {
    /// The key with its section, such as `adapter.rank`.
    pub key: &'static str,
    /// What the file says.
    pub given: Option<T>,
    /// What it is where the file says nothing.
    pub default: D,
    /// The values that are allowed, where its type allows more.
    pub range: Option<Range<T>>,
    /// When it has an effect, if not always.
    pub when: Option<When>,
}

/// A default that depends on nothing else.
pub(crate) type Usual<T> = fn() -> T;

/// What stands for the default of a key.
pub(crate) trait HasUsual<T> {
    /// It, if it depends on nothing else.
    fn usual(&self) -> Option<T>;
}

impl<T> HasUsual<T> for Usual<T> {
    fn usual(&self) -> Option<T> {
        Some(self())
    }
}

impl<T> HasUsual<T> for () {
    fn usual(&self) -> Option<T> {
        None
    }
}

/// The values of a key that are allowed.
pub(crate) struct Range<T> {
    /// In words that go on after "expected".
    pub words: &'static str,
    /// The same as keywords of JSON Schema.
    pub schema: fn() -> Json,
    pub holds: fn(&T) -> bool,
}

pub(crate) const COUNT: Range<usize> = Range {
    words: "1 or more",
    schema: || json!({"minimum": 1}),
    holds: |&count| count >= 1,
};

pub(crate) const POSITIVE: Range<f64> = Range {
    words: "a finite number above 0",
    schema: || json!({"exclusiveMinimum": 0}),
    holds: |&x| x > 0.0 && x.is_finite(),
};

pub(crate) const NOT_NEGATIVE: Range<f64> = Range {
    words: "a finite number, 0 or more",
    schema: || json!({"minimum": 0}),
    holds: |&x| x >= 0.0 && x.is_finite(),
};

pub(crate) const RATIO: Range<f64> = Range {
    words: "a number from 0 to 1",
    schema: || json!({"minimum": 0, "maximum": 1}),
    holds: |x| (0.0..=1.0).contains(x),
};

/// The type of a key.
pub(crate) trait Setting: Serialize {
    /// What may stand there, in words.
    fn kind() -> String;

    /// What may stand there, as JSON Schema.
    fn schema() -> Json;

    /// The value as it stands in TOML.
    fn show(&self) -> String {
        toml::Value::try_from(self).map_or_else(|_| String::new(), |value| value.to_string())
    }
}

impl Setting for f64 {
    fn kind() -> String {
        "a number".into()
    }

    fn schema() -> Json {
        json!({"type": "number"})
    }

    fn show(&self) -> String {
        match self.abs() {
            small if small > 0.0 && small < 1e-4 => format!("{self:e}"),
            _ => self.to_string(),
        }
    }
}

/// Whole numbers, which may be larger than TOML's.
macro_rules! whole_numbers {
    ($($setting:ty),+) => {
        $(impl Setting for $setting {
            fn kind() -> String {
                "a whole number".into()
            }

            fn schema() -> Json {
                json!({"type": "integer", "minimum": 0})
            }

            fn show(&self) -> String {
                self.to_string()
            }
        })+
    };
}

whole_numbers!(u64, usize);

/// Types with words and a schema for what may stand there.
macro_rules! kinds {
    ($($setting:ty: $kind:expr, $schema:expr;)+) => {
        $(impl Setting for $setting {
            fn kind() -> String {
                $kind.into()
            }

            fn schema() -> Json {
                $schema
            }
        })+
    };
}

kinds! {
    bool: "true or false", json!({"type": "boolean"});
    String: "a text", json!({"type": "string"});
    PathBuf: "a path", json!({"type": "string"});
    TemplateVariables: "a table of texts, numbers, true and false",
        json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}});
    GivenWeights: "a list of numbers or a table of numbers by objective",
        json!({"anyOf": [list(&json!({"type": "number"})), {"type": "object", "additionalProperties": {"type": "number"}}]});
    OneOrMany: "a path or a list of paths", one_or_many();
    Vec<String>: "a list of texts", list(&json!({"type": "string"}));
    Vec<f64>: "a list of numbers", list(&json!({"type": "number"}));
    [f64; 2]: "two numbers", json!({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2});
    SteeringScale: "a number or \"learned\"", json!({"type": ["number", "string"]});
    FormatChoice: format!("\"auto\", {}", quoted::<Format>()),
        json!({"enum": Vec::from_iter(iter::once("auto").chain(names_of::<Format>()))});
}

/// Enumerations.
macro_rules! choices {
    ($($setting:ty),+) => {
        kinds! { $($setting: quoted::<Self>(), json!({"enum": names_of::<Self>()});)+ }
    };
}

choices!(
    Precision,
    BadRecords,
    LabelledBy,
    OverlongPrompts,
    MethodName,
    LossName,
    DpoLossName,
    AggregationName,
    AdvantagesName,
    Activations,
    ScheduleKind
);

/// The schema of a list.
fn list(of: &Json) -> Json {
    json!({"type": "array", "items": of})
}

/// The schema of a text or a list of texts.
pub(crate) fn one_or_many() -> Json {
    json!({"anyOf": [{"type": "string"}, list(&json!({"type": "string"}))]})
}

/// The names of an enumeration.
pub(crate) fn names_of<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for name in asked_of::<T>() {
        // Another spelling of a name is no choice of its own.
        if !names.iter().any(|other| other.replace('-', "_") == *name) {
            names.push(name);
        }
    }
    names
}

/// The names of an enumeration, each in quotation marks, with commas between them.
fn quoted<T: DeserializeOwned>() -> String {
    let quoted = names_of::<T>()
        .into_iter()
        .map(|name| format!("\"{name}\""));
    quoted.collect::<Vec<_>>().join(", ")
}

/// The fields that a struct reads from a table, or the names of an enumeration: the type is asked to read, and what it
/// asks for is noted.
pub(crate) fn asked_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Probe<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Probe<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("there is nothing to read"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        fn deserialize_enum<V: Visitor<'de>>(
            self,
            _: &'static str,
            names: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = names;
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
            unit unit_struct newtype_struct seq tuple tuple_struct map identifier ignored_any
        }
    }

    let mut asked: &'static [&'static str] = &[];
    // The answer is in `asked`; reading nothing always fails.
    let _ = T::deserialize(Probe(&mut asked));
    asked
}

/// What the reference says of a key.
pub(crate) struct KeyReference {
    /// The key without its section.
    pub name: &'static str,
    /// What it does, as paragraphs in Markdown.
    pub text: String,
    /// The values that may stand there.
    pub expected: String,
    /// The same, as JSON Schema.
    pub schema: Json,
    /// What holds where it does not stand there.
    pub default: KeyDefault,
    /// When it has an effect, if that is not said of its section.
    pub when: Option<When>,
}

/// What holds where a key does not stand in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyDefault {
    /// This value, as it stands in TOML.
    Value(String),
    /// In words.
    Words(&'static str),
}

impl<T: Setting, D> Entry<T, D> {
    /// What is wrong with what the file says, if that is out of range.
    pub(crate) fn out_of_range(&self) -> Option<String> {
        let (given, range) = (self.given.as_ref()?, self.range.as_ref()?);
        let is_outside = !(range.holds)(given);
        is_outside.then(|| format!("found {}, expected {}", given.show(), range.words))
    }
}

impl<T: Setting, D: HasUsual<T>> Entry<T, D> {
    /// What the reference says of it; `doc` are the lines of its documentation, `words` those of a default that is no
    /// single value.
    pub(crate) fn reference(
        &self,
        name: &'static str,
        doc: &[&str],
        words: Option<&'static str>,
        section_when: Option<When>,
    ) -> KeyReference {
        let is_of_section = |when: &When| section_when.is_some_and(|of| of.words == when.words);
        let default = match (self.default.usual(), words) {
            (_, Some(words)) => KeyDefault::Words(words),
            (Some(value), None) => KeyDefault::Value(value.show()),
            (None, None) => KeyDefault::Words("none"),
        };
        KeyReference {
            name,
            text: joined(doc),
            expected: (self.range.as_ref()).map_or_else(T::kind, |range| range.words.to_owned()),
            schema: schema_within(
                T::schema(),
                self.range.as_ref().map(|range| (range.schema)()),
            ),
            default,
            when: self.when.filter(|when| !is_of_section(when)),
        }
    }
}

/// The schema of a type, with the keywords of its range.
fn schema_within(mut schema: Json, range: Option<Json>) -> Json {
    if let (Json::Object(schema), Some(Json::Object(range))) = (&mut schema, range) {
        schema.extend(range);
    }
    schema
}

/// The lines of a doc comment as one text.
pub(crate) fn joined(doc: &[&str]) -> String {
    let lines: Vec<&str> = doc.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

/// A section that a file may have.
pub(crate) struct Section {
    /// What its keys begin with, such as `adapter.`; nothing for keys that stand above all sections.
    pub prefix: &'static str,
    /// The names of its keys.
    pub keys: &'static [&'static str],
    /// Whether a table of one of them has the right type.
    pub accepts: fn(Table) -> Result<(), String>,
    /// What the reference says of it.
    pub reference: fn() -> SectionReference,
}

/// What the reference says of a section.
pub(crate) struct SectionReference {
    /// What the section is about, in Markdown.
    pub text: String,
    /// When its keys have an effect, if not always and if they say nothing else.
    pub when: Option<When>,
    /// Its keys.
    pub keys: Vec<KeyReference>,
}

impl Section {
    /// Its name, which is empty for keys that stand above all sections.
    pub(crate) fn name(&self) -> &'static str {
        self.prefix.trim_end_matches('.')
    }
}

/// Whether a table can be read as `T`; if not, why.
pub(crate) fn accepts<T: DeserializeOwned>(table: Table) -> Result<(), String> {
    T::deserialize(table)
        .map(drop)
        .map_err(|error| in_plain_words(error.message()))
}

/// Serde speaks of Rust types; people who write TOML do not.
pub(crate) fn in_plain_words(message: &str) -> String {
    message
        .replace("expected usize", "expected a whole number, 0 or more")
        .replace("expected u64", "expected a whole number, 0 or more")
        .replace("expected f64", "expected a number")
        .replace("expected a boolean", "expected true or false")
        .replace("expected a sequence", "expected a list")
        .replace("invalid type: ", "found ")
        .replace("invalid value: ", "found ")
}
