//! JSON as Python's `json.dumps` writes it.

use std::fmt::Write;

use serde_json::Value as Json;

/// The parameters of Python's `json.dumps`.
pub(crate) struct JsonStyle {
    pub between: String,
    pub after_key: String,
    pub indent: Option<String>,
    pub ascii: bool,
    pub sort: bool,
}

impl JsonStyle {
    /// Appends a value that stands so deep in others.
    pub fn write(&self, json: &Json, depth: usize, text: &mut String) {
        match json {
            Json::String(string) => self.write_text(string, text),
            Json::Array(elements) if !elements.is_empty() => {
                text.push('[');
                for (index, element) in elements.iter().enumerate() {
                    self.begin(index, depth + 1, text);
                    self.write(element, depth + 1, text);
                }
                self.new_line(depth, text);
                text.push(']');
            }
            Json::Object(entries) if !entries.is_empty() => {
                let mut entries: Vec<_> = entries.iter().collect();
                if self.sort {
                    entries.sort_by_key(|(key, _)| *key);
                }
                text.push('{');
                for (index, (key, value)) in entries.into_iter().enumerate() {
                    self.begin(index, depth + 1, text);
                    self.write_text(key, text);
                    *text += &self.after_key;
                    self.write(value, depth + 1, text);
                }
                self.new_line(depth, text);
                text.push('}');
            }
            _ => *text += &json.to_string(),
        }
    }

    fn begin(&self, index: usize, depth: usize, text: &mut String) {
        if index > 0 {
            *text += &self.between;
        }
        self.new_line(depth, text);
    }

    fn new_line(&self, depth: usize, text: &mut String) {
        if let Some(indent) = &self.indent {
            text.push('\n');
            *text += &indent.repeat(depth);
        }
    }

    fn write_text(&self, string: &str, text: &mut String) {
        let json = Json::from(string).to_string();
        if !self.ascii {
            *text += &json;
            return;
        }
        for character in json.chars() {
            match character {
                ' '..='~' => text.push(character),
                _ => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        // Writing to a string cannot fail.
                        let _ = write!(text, "\\u{unit:04x}");
                    }
                }
            }
        }
    }
}
