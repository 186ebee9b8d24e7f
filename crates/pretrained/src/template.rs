//! Chat templates: Jinja, rendered as Hugging Face's `apply_chat_template` does.

use std::fmt::Write;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use crate::Message;

const NAME: &str = "chat_template";

/// A parsed chat template and the special tokens that it may mention.
#[derive(Debug, Clone)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// Parses a template; `special_tokens` are variables such as `bos_token` and their values.
    pub fn parse(source: &str, special_tokens: Vec<(String, String)>) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| describe(&error))?;
        environment.set_syntax(syntax);
        environment.set_formatter(format_like_python);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|error| describe(&error))?;
        Ok(Self {
            environment,
            special_tokens,
        })
    }

    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, String> {
        let messages: Value = messages
            .iter()
            .map(|message| {
                Value::from_pairs([
                    ("role", message.role.as_str()),
                    ("content", message.content.as_str()),
                ])
            })
            .collect();
        let mut variables = vec![
            ("messages", messages),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            // Given as None by transformers where the caller has none.
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        variables.extend(
            self.special_tokens
                .iter()
                .map(|(name, token)| (name.as_str(), Value::from(token.as_str()))),
        );
        let variables = Value::from_pairs(variables);
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| describe(&error))?;
        template.render(variables).map_err(|error| describe(&error))
    }
}

/// The message and, where known, the template's line.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

/// `{% generation %}` … `{% endgeneration %}` marks the assistant's part for loss masks and prints nothing itself.
/// minijinja has no such block, so that it becomes one that is always entered.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let tag = &rest[start + 2..start + length];
        let (before, after) = (&rest[..start], &rest[start + length..]);
        let replacement =
            match tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
                "generation" => tag.replacen("generation", "if true", 1),
                "endgeneration" => tag.replacen("endgeneration", "endif", 1),
                _ => tag.to_owned(),
            };
        result.push_str(before);
        result.push_str("{%");
        result.push_str(&replacement);
        rest = after;
    }
    result.push_str(rest);
    result
}

/// Python prints None, True and False where Jinja for Rust would print none, true and false.
fn format_like_python(output: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let text = match value.kind() {
        ValueKind::None => "None",
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        _ => return minijinja::escape_formatter(output, state, value),
    };
    output.write_str(text).map_err(Error::from)
}

/// `raise_exception(message)`: a template's way to refuse a conversation.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// `tojson` as transformers defines it: `json.dumps` with `ensure_ascii=False`, nothing escaped for HTML.
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Accepted for transformers' sake: text is never reduced to ASCII here, and keys keep their order.
    let _: Option<bool> = options.get("ensure_ascii")?;
    let _: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let json = match indent {
        None => serialise(&value, PythonFormatter),
        Some(width) => serialise(
            &value,
            PrettyFormatter::with_indent(" ".repeat(width).as_bytes()),
        ),
    };
    json.map_err(|error| Error::new(ErrorKind::BadSerialization, error))
}

fn serialise(value: &Value, formatter: impl Formatter) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// The separators of Python's `json.dumps`: ", " and ": ".
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        CompactFormatter.begin_object_value(writer)?;
        writer.write_all(b" ")
    }
}

/// `strftime_now(format)`: the present date and time, in UTC.
fn strftime_now(format: String) -> Result<String, Error> {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    strftime(&format, seconds).map_err(|problem| Error::new(ErrorKind::InvalidOperation, problem))
}

/// Formats seconds since 1970 with the directives of C that stand for dates and times without a locale.
fn strftime(format: &str, seconds: u64) -> Result<String, String> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const WEEKDAYS: [&str; 7] = [
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
        "Monday",
        "Tuesday",
        "Wednesday",
    ];
    let days = seconds / 86_400;
    let (year, month, day) = civil_date(days);
    let day_of_year = days - days_before_year(year) + 1;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let month_name = MONTHS[month as usize - 1];
    // 1970 began on a Thursday.
    let weekday = WEEKDAYS[(days % 7) as usize];

    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let piece = match characters.next() {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name[..3].to_owned(),
            Some('d') => format!("{day:02}"),
            Some('e') => format!("{day:2}"),
            Some('j') => format!("{day_of_year:03}"),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('z') => "+0000".to_owned(),
            Some('%') => "%".to_owned(),
            other => {
                let directive = other.map_or_else(|| "%".to_owned(), |letter| format!("%{letter}"));
                return Err(format!(
                    "strftime_now: the directive {directive} is not supported"
                ));
            }
        };
        text.push_str(&piece);
    }
    Ok(text)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970-01-01 to January 1st of `year`.
fn days_before_year(year: u64) -> u64 {
    (1970..year)
        .map(|year| if is_leap(year) { 366 } else { 365 })
        .sum()
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let mut left = days;
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, content: &str) -> Message {
        Message {
            role: role.to_owned(),
            content: content.to_owned(),
        }
    }

    fn render(source: &str) -> Result<String, String> {
        let tokens = vec![
            ("bos_token".to_owned(), "<s>".to_owned()),
            ("eos_token".to_owned(), "</s>".to_owned()),
        ];
        let messages = [
            message("system", " Be brief. "),
            message("user", "Hi <b>\"you\"</b>"),
            message("assistant", "Ja"),
        ];
        ChatTemplate::parse(source, tokens)?.render(&messages, true)
    }

    /// Expected values: what Jinja2 3.1 prints with `trim_blocks`, `lstrip_blocks` and transformers' own `tojson`.
    #[test]
    fn templates_render_as_in_python() {
        for (source, expected) in [
            (
                "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{% endfor %}",
                "<s>[system][user][assistant]",
            ),
            (
                "a\n  {% if add_generation_prompt %}\nb\n  {% endif %}\nc\n",
                "a\nb\nc",
            ),
            (
                "{{ messages[0]['content'].strip() }}|{{ messages[0].content | trim }}",
                "Be brief.|Be brief.",
            ),
            (
                "{{ messages[1].content.split('<')[0] }}{{ messages[1:] | length }}",
                "Hi 2",
            ),
            (
                "{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}",
                "aus",
            ),
            (
                "{{ messages[1] | tojson }}",
                r#"{"role": "user", "content": "Hi <b>\"you\"</b>"}"#,
            ),
            (
                "{{ [1, 2] | tojson }}{{ {'é': none} | tojson }}",
                r#"[1, 2]{"é": null}"#,
            ),
            (
                "{{ {'a': [1]} | tojson(indent=2) }}",
                "{\n  \"a\": [\n    1\n  ]\n}",
            ),
            (
                "{{ none }} {{ true }} {{ tools is none }} {{ tools is defined }} {{ nothing }}",
                "None True True True ",
            ),
            (
                "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
                "system",
            ),
            (
                "{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{{ m.role }},{% endfor %}",
                "system,assistant,",
            ),
            (
                "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
                "3",
            ),
            (
                "{%- generation -%} x {{- ' y ' -}} {%- endgeneration -%} z",
                "x y z",
            ),
            ("{{ messages[2].content + eos_token }}", "Ja</s>"),
            (
                "{% if messages[0].role == 'system' and messages[0].content.startswith(' Be') %}yes{% endif %}",
                "yes",
            ),
        ] {
            assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn refusals_carry_the_reason_and_the_line() {
        let refused =
            render("{% if true %}\n{{ raise_exception('roles must alternate') }}{% endif %}")
                .unwrap_err();
        assert!(
            refused.contains("roles must alternate") && refused.contains(":2"),
            "{refused}"
        );
        assert!(render("{% if %}").unwrap_err().contains("syntax error"));
        assert!(
            render("{{ strftime_now('%Q') }}")
                .unwrap_err()
                .contains("%Q")
        );
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // 2026-11-23 10:04:05 UTC, a Monday, and the last second of a leap year.
        assert_eq!(
            strftime(
                "%d %b %Y|%A %a %B|%j %y|%H:%M:%S %I%p|%F|100%%",
                1_795_428_245
            )
            .as_deref(),
            Ok("23 Nov 2026|Monday Mon November|327 26|10:04:05 10AM|2026-11-23|100%")
        );
        assert_eq!(
            strftime("%F %T %j", 1_735_689_599).as_deref(),
            Ok("2024-12-31 23:59:59 366")
        );
        assert_eq!(
            strftime("%F %e", 951_782_400).as_deref(),
            Ok("2000-02-29 29")
        );
        assert_eq!(strftime("%F", 0).as_deref(), Ok("1970-01-01"));
    }
}
