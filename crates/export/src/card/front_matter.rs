//! What stands before a card for programs to read: YAML.

use std::fmt::Write;

/// Keys and values in the order given, between the two lines that the hub looks for.
#[derive(Debug, Default)]
pub(super) struct FrontMatter(String);

impl FrontMatter {
    pub fn text(&mut self, key: &str, value: &str) {
        self.0 += &format!("{key}: {}\n", scalar(value));
    }

    /// Nothing where there is none.
    pub fn list<T: AsRef<str>>(&mut self, key: &str, values: &[T]) {
        if values.is_empty() {
            return;
        }
        self.0 += &format!("{key}:\n");
        for value in values {
            self.0 += &format!("- {}\n", scalar(value.as_ref()));
        }
    }

    /// A line for people, which no program reads.
    pub fn comment(&mut self, line: &str) {
        self.0 += &format!("# {line}\n");
    }

    pub fn finish(self) -> String {
        format!("---\n{}---\n", self.0)
    }
}

/// A text as YAML reads it back: as it is where nothing in it could mean something else, else in double quotes.
fn scalar(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    // `true`, `null`, `1e3` and `2024-01-01` would not be texts.
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_word = text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text.chars().all(is_plain)
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if is_word {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            // What YAML does not take as it is, or takes for the end of a line.
            letter
                if letter.is_control()
                    || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}') =>
            {
                write!(quoted, "\\u{:04x}", u32::from(letter)).expect("writing to a string");
            }
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_where_yaml_would_read_something_else() {
        for (text, expected) in [
            ("owner/name-1.5_B", "owner/name-1.5_B"),
            ("apache-2.0", "apache-2.0"),
            ("", "\"\""),
            ("Yes", "\"Yes\""),
            ("1e3", "\"1e3\""),
            (".inf", "\".inf\""),
            ("-", "\"-\""),
            ("a: b", "\"a: b\""),
            ("it's \"so\"", "\"it's \\\"so\\\"\""),
            ("C:\\x\ny\u{85}", "\"C:\\\\x\\ny\\u0085\""),
            ("# no", "\"# no\""),
            ("größe", "\"größe\""),
        ] {
            assert_eq!(scalar(text), expected);
        }
        let mut matter = FrontMatter::default();
        matter.text("base_model", "a/b");
        matter.list("datasets", &[""; 0]);
        matter.comment("note");
        matter.list("tags", &["dpo", "x y"]);
        assert_eq!(
            matter.finish(),
            "---\nbase_model: a/b\n# note\ntags:\n- dpo\n- \"x y\"\n---\n"
        );
    }
}
