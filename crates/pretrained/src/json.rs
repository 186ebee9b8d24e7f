//! Reading a JSON object field by field, with errors that name the file and the field.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{PretrainedError, lfs};

/// Parses a file that must hold one JSON object.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>, PretrainedError> {
    let bytes = std::fs::read(path).map_err(PretrainedError::io(path, "read"))?;
    lfs::refuse_pointer(path, &bytes)?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(PretrainedError::field(
            path,
            "(top level)",
            brief(&other),
            "a JSON object",
        )),
        Err(source) => Err(PretrainedError::Json {
            path: path.to_path_buf(),
            source,
        }),
    }
}

/// As [`read_object`], where the file may be absent.
pub(crate) fn read_object_if_present(
    path: &Path,
) -> Result<Option<Map<String, Value>>, PretrainedError> {
    if path.is_file() {
        read_object(path).map(Some)
    } else {
        Ok(None)
    }
}

/// An object of a JSON file, and where in it we are.
pub(crate) struct Fields<'a> {
    pub path: &'a Path,
    pub parent: &'a str,
    pub object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub fn new(path: &'a Path, object: &'a Map<String, Value>) -> Self {
        Self {
            path,
            parent: "",
            object,
        }
    }

    /// The value; `null` counts as absent, as it does in Python's configurations.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// An error about this field that quotes its value.
    pub fn wrong(&self, name: &str, expected: impl Into<String>) -> PretrainedError {
        let found = self
            .object
            .get(name)
            .map_or_else(|| "nothing".to_owned(), brief);
        PretrainedError::field(self.path, format!("{}{name}", self.parent), found, expected)
    }

    pub fn nested(
        &self,
        name: &'static str,
        parent: &'a str,
    ) -> Result<Option<Fields<'a>>, PretrainedError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Fields {
                path: self.path,
                parent,
                object,
            })),
            Some(_) => Err(self.wrong(name, "an object")),
        }
    }

    pub fn count(&self, name: &str) -> Result<Option<usize>, PretrainedError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n) if n > 0 => Ok(Some(n)),
                _ => Err(self.wrong(name, "a whole number above 0")),
            },
        }
    }

    pub fn required_count(&self, name: &str) -> Result<usize, PretrainedError> {
        self.count(name)?
            .ok_or_else(|| self.wrong(name, "a whole number above 0"))
    }

    pub fn positive(&self, name: &str) -> Result<Option<f64>, PretrainedError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(x) if x.is_finite() && x > 0.0 => Ok(Some(x)),
                _ => Err(self.wrong(name, "a number above 0")),
            },
        }
    }

    pub fn required_positive(&self, name: &str) -> Result<f64, PretrainedError> {
        self.positive(name)?
            .ok_or_else(|| self.wrong(name, "a number above 0"))
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool, PretrainedError> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.wrong(name, "true or false")),
        }
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>, PretrainedError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => value
                .as_str()
                .map(Some)
                .ok_or_else(|| self.wrong(name, "a string")),
        }
    }

    /// A token id, or a list of them.
    pub fn token_ids(&self, name: &str) -> Result<Vec<u32>, PretrainedError> {
        let id = |value: &Value| {
            value
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| self.wrong(name, "a token id or a list of token ids"))
        };
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => values.iter().map(id).collect(),
            Some(value) => Ok(vec![id(value)?]),
        }
    }
}

/// A value as it is quoted in an error: short.
fn brief(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
