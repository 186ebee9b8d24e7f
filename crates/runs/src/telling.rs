//! What is told beside the results: notes, warnings, errors and progress. All of it goes through here, to standard error, as text
//! for people or as lines of JSON for programs.

use std::io::{self, Write};
use std::sync::OnceLock;

use chrono::{SecondsFormat, Utc};
use indicatif::ProgressDrawTarget;
use serde_json::{Map, Value, json};

/// How the process tells things; set once, by [`tell_so`].
static HOW: OnceLock<Telling> = OnceLock::new();

/// How things are told.
#[derive(Debug, Clone, Copy)]
pub struct Telling {
    /// Whether notes and progress are left out.
    pub quiet: bool,
    /// How a line is written.
    pub format: LogFormat,
    /// What becomes of a text before it is told.
    pub wording: fn(&str) -> String,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object of JSON on a line: `time` (RFC 3339, in UTC), `level`, `event`, `message`, and what the event has beside it.
    Json,
}

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What a person may want to know.
    Note,
    /// What a person asked for in a conversation, which quiet does not leave out.
    Reply,
    /// What is surely not meant.
    Warning,
    /// Why something was not done.
    Error,
}

impl Default for Telling {
    fn default() -> Self {
        Self {
            quiet: false,
            format: LogFormat::Text,
            wording: str::to_owned,
        }
    }
}

impl Telling {
    /// Where bars are drawn: nowhere, where they would stand among lines for programs, or nothing is to be seen.
    pub fn draw_target(&self) -> ProgressDrawTarget {
        match self.draws_bars() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        }
    }

    pub(crate) fn draws_bars(&self) -> bool {
        !self.quiet && self.format == LogFormat::Text
    }

    /// The line for an event with its numbers; nothing where it is left out.
    pub(crate) fn line(
        &self,
        level: Level,
        event: &str,
        text: &str,
        fields: Map<String, Value>,
    ) -> Option<String> {
        if self.quiet && level == Level::Note {
            return None;
        }
        let text = (self.wording)(text);
        let (name, mark) = match level {
            Level::Note => ("info", ""),
            Level::Reply => ("info", ""),
            Level::Warning => ("warning", "warning: "),
            Level::Error => ("error", "error: "),
        };
        Some(match self.format {
            LogFormat::Text => format!("{mark}{text}"),
            LogFormat::Json => {
                let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
                let mut line =
                    json!({"time": time, "level": name, "event": event, "message": text});
                if let Value::Object(line) = &mut line {
                    line.extend(fields);
                }
                line.to_string()
            }
        })
    }
}

/// Says how this process tells things, before anything is told; later calls change nothing.
pub fn tell_so(telling: Telling) {
    let _ = HOW.set(telling);
}

/// How this process tells things.
pub fn telling() -> Telling {
    HOW.get().copied().unwrap_or_default()
}

/// A text that is kept or sent, with the commands in it as people call this process, as they stand in what is told.
pub fn as_called(text: &str) -> String {
    (telling().wording)(text)
}

/// Tells something.
pub fn tell(level: Level, text: &str) {
    tell_event(level, "message", text, Map::new());
}

/// Tells an event with its numbers, which only lines of JSON show.
pub(crate) fn tell_event(level: Level, event: &str, text: &str, fields: Map<String, Value>) {
    let line = telling().line(level, event, text.trim_end(), fields);
    if let Some(line) = line {
        // Standard error may be closed while work goes on; that is no reason to stop it.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(telling: Telling, level: Level) -> Option<String> {
        let fields = Map::from_iter([("step".to_owned(), json!(3))]);
        telling.line(level, "step", "two\n\"lines\"", fields)
    }

    #[test]
    fn quiet_leaves_out_what_nobody_asked_for() {
        let quiet = Telling {
            quiet: true,
            ..Telling::default()
        };
        assert_eq!(told(quiet, Level::Note), None);
        for level in [Level::Reply, Level::Warning, Level::Error] {
            assert_eq!(told(quiet, level), told(Telling::default(), level));
            assert!(told(quiet, level).is_some());
        }
    }

    #[test]
    fn a_line_of_json_has_the_text_and_the_numbers() {
        let json = Telling {
            format: LogFormat::Json,
            wording: str::to_uppercase,
            ..Telling::default()
        };
        let line = told(json, Level::Warning).unwrap();
        assert!(!line.contains('\n'));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (
                &line["level"],
                &line["event"],
                &line["message"],
                &line["step"]
            ),
            (
                &json!("warning"),
                &json!("step"),
                &json!("TWO\n\"LINES\""),
                &json!(3)
            )
        );
        let time = line["time"].as_str().unwrap();
        assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
        let text = told(Telling::default(), Level::Warning).unwrap();
        assert_eq!(text, "warning: two\n\"lines\"");
    }
}
