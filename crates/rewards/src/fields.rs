//! The fields of a table, each read and checked once, so that every mistake names its field.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::SpecError;

/// The fields of a table that are not read yet, and the names of all that could be there.
pub(crate) struct Fields {
    values: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    /// The fields of a table.
    pub(crate) fn of(values: Map<String, Value>) -> Self {
        Self {
            values,
            known: Vec::new(),
        }
    }

    pub(crate) fn get<T: DeserializeOwned>(
        &mut self,
        field: &'static str,
        expected: &str,
        default: Option<T>,
        is_good: impl Fn(&T) -> bool,
    ) -> Result<T, SpecError> {
        self.known.push(field);
        let Some(value) = self.values.remove(field) else {
            return default.ok_or_else(|| SpecError::new(field, "nothing", expected));
        };
        let found = shown(field, &value);
        let value = serde_json::from_value(value).ok().filter(is_good);
        value.ok_or_else(|| SpecError::new(field, found, expected))
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<String, SpecError> {
        let is_filled = |text: &String| !text.trim().is_empty();
        self.get(field, "a text", None, is_filled)
    }

    pub(crate) fn reference(&mut self) -> Result<Option<String>, SpecError> {
        let is_filled =
            |name: &Option<String>| name.as_ref().is_none_or(|name| !name.trim().is_empty());
        let expected = "the name of a column with reference answers";
        self.get("reference", expected, Some(None), is_filled)
    }

    pub(crate) fn texts(
        &mut self,
        field: &'static str,
        default: Option<Vec<String>>,
    ) -> Result<Vec<String>, SpecError> {
        let are_filled = |texts: &Vec<String>| {
            !texts.is_empty() && texts.iter().all(|text| !text.trim().is_empty())
        };
        let expected = "a list of texts, none of them empty";
        self.get(field, expected, default, are_filled)
    }

    pub(crate) fn number(
        &mut self,
        field: &'static str,
        default: Option<f64>,
    ) -> Result<f64, SpecError> {
        self.get(field, "a finite number", default, |_| true)
    }

    pub(crate) fn count(
        &mut self,
        field: &'static str,
        default: usize,
    ) -> Result<usize, SpecError> {
        let expected = format!("a whole number from 1 (without it, {default})");
        self.get(field, &expected, Some(default), |count| *count > 0)
    }

    pub(crate) fn timeout(&mut self, default: u64) -> Result<u64, SpecError> {
        let expected = format!("whole seconds from 1 to 86400 (without it, {default})");
        let is_good = |seconds: &u64| (1..=86_400).contains(seconds);
        self.get("timeout_seconds", &expected, Some(default), is_good)
    }

    pub(crate) fn finish(self) -> Result<(), SpecError> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(unknown) => {
                let expected = format!("one of `{}`", self.known.join("`, `"));
                Err(SpecError::new(unknown, "an unknown field", expected))
            }
        }
    }
}

fn shown(field: &str, value: &Value) -> String {
    let has_password = field == "endpoint" && value.to_string().contains('@');
    if has_password || field == "api_key_env" {
        return "something that is not shown, since it may be a key".to_owned();
    }
    match value {
        // What JSON makes of numbers that are not finite.
        Value::Null => "no ordinary number".to_owned(),
        _ => value.to_string(),
    }
}
