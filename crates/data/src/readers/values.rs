//! Values of a row, one by one: what is there, and what is said of it where it is something else.

use serde_json::{Map, Value};

use crate::error::{FieldProblem, list};

/// One row of a file, whatever the file is.
pub(crate) type Row = Map<String, Value>;

/// Whether the row has a column, be it null: that is what tells a shape.
pub(crate) fn has(row: &Row, field: &str) -> bool {
    row.contains_key(field)
}

/// The value of a field; null is the same as nothing, as Parquet files write it.
pub(crate) fn optional<'a>(row: &'a Row, field: &str) -> Option<&'a Value> {
    row.get(field).filter(|value| !value.is_null())
}

/// The value of a field that must be there.
pub(crate) fn required<'a>(row: &'a Row, field: &str) -> Result<&'a Value, FieldProblem> {
    optional(row, field).ok_or_else(|| {
        let columns: Vec<String> = row.keys().cloned().collect();
        FieldProblem {
            field: field.to_owned(),
            found: match row.get(field) {
                Some(_) => "null".to_owned(),
                None => format!("no such field among {}", list(&columns)),
            },
            expected: "a value".to_owned(),
        }
    })
}

/// What stands in place of a value that JSON cannot hold, such as bytes that are no text: readers refuse it, as it is neither
/// a text nor a list nor a number, and say what it is.
pub(crate) fn unreadable(found: &str) -> Value {
    Value::Object(Map::from_iter([(UNREADABLE.to_owned(), found.into())]))
}

/// Whether a value is [`unreadable`]. Readers that take any object have to ask.
pub(crate) fn is_unreadable(value: &Value) -> bool {
    value.get(UNREADABLE).is_some()
}

/// No file has a key of this name.
const UNREADABLE: &str = "\0unreadable";

/// A value in a few words, for messages.
pub(crate) fn describe(value: &Value) -> String {
    const SHOWN: usize = 40;
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.trim().is_empty() => "an empty text".to_owned(),
        Value::String(text) if text.chars().count() <= SHOWN => format!("the text {text:?}"),
        Value::String(text) => {
            let start: String = text.chars().take(SHOWN).collect();
            format!("a text that begins with {start:?}")
        }
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(fields) if is_unreadable(value) => {
            fields[UNREADABLE].as_str().unwrap_or_default().to_owned()
        }
        Value::Object(fields) => {
            let keys: Vec<String> = fields.keys().cloned().collect();
            format!("an object with {}", list(&keys))
        }
    }
}

/// Refuses a text of nothing but blanks.
pub(crate) fn non_blank(text: &str, field: &str) -> Result<(), FieldProblem> {
    if text.trim().is_empty() {
        return Err(FieldProblem {
            field: field.to_owned(),
            found: "an empty text".to_owned(),
            expected: "a text with at least one character that is not blank".to_owned(),
        });
    }
    Ok(())
}

/// The text of a value that must be one.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str, FieldProblem> {
    value.as_str().ok_or_else(|| FieldProblem {
        field: field.to_owned(),
        found: describe(value),
        expected: "a text".to_owned(),
    })
}
