//! Chat templates: Jinja, rendered as Hugging Face's `apply_chat_template` does.

use std::fmt::Write;

use chrono::Local;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};

use crate::room::{self, MOST_STEPS};
use crate::{ChatOptions, Message, dates, python};

const NAME: &str = "chat_template";

/// A parsed chat template and the variables that it may mention.
#[derive(Debug, Clone)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// Whether it might make values that need more stack than there is.
    is_deep: bool,
    variables: Vec<(String, Value)>,
}

impl ChatTemplate {
    /// Parses a template; `special_tokens` are variables such as `bos_token` and their values, before which the user's go.
    pub fn parse(
        source: &str,
        special_tokens: Vec<(String, String)>,
        options: &ChatOptions,
    ) -> Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| describe(&error))?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(MOST_STEPS));
        python::adapt(&mut environment);
        environment.add_function("raise_exception", raise_exception);
        let date = options.date.as_deref().map(dates::midnight).transpose()?;
        environment.add_function("strftime_now", move |format: &str| {
            let now = date.unwrap_or_else(|| Local::now().naive_local());
            dates::strftime(format, now)
                .map_err(|problem| Error::new(ErrorKind::InvalidOperation, problem))
        });
        let source = python::with_percent_as_filter(&without_generation_tags(source))?;
        let is_deep = room::might_nest(&source);
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| describe(&error))?;
        let special_tokens =
            (special_tokens.into_iter()).map(|(name, token)| (name, Value::from(token)));
        let own = options
            .variables
            .iter()
            .map(|(name, value)| (name.clone(), value.into()));
        Ok(Self {
            environment,
            is_deep,
            variables: special_tokens.chain(own).collect(),
        })
    }

    /// What the template writes for a conversation of such turns.
    pub fn render(&self, turns: &[Value], add_generation_prompt: bool) -> Result<String, String> {
        let messages: Value = turns.iter().cloned().collect();
        let mut variables = vec![
            ("messages", messages),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            // Given as None by transformers where the caller has none.
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        variables.extend(
            self.variables
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone())),
        );
        self.render_with(Value::from_pairs(variables))
    }

    pub(crate) fn render_with(&self, variables: Value) -> Result<String, String> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| describe(&error))?;
        let render = || template.render(variables).map_err(|error| describe(&error));
        match self.is_deep {
            true => room::with_deep_stack(render)?,
            false => render(),
        }
    }
}

/// A message as templates see it.
pub(crate) fn turn(message: &Message) -> Value {
    Value::from_pairs([
        ("role", message.role.as_str()),
        ("content", message.content.as_str()),
    ])
}

/// The assistant's turn with this content.
pub(crate) fn answer(content: &str) -> Value {
    Value::from_pairs([("role", "assistant"), ("content", content)])
}

/// The message and, where known, the template's line.
fn describe(error: &Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return format!(
            "it takes more than {MOST_STEPS} steps for this conversation, or makes texts of more than {} MB",
            MOST_STEPS * 64 / 1_000_000
        );
    }
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
        let inside = start + 2;
        let Some(length) = rest[inside..].find("%}") else {
            break;
        };
        let tag = &rest[inside..inside + length];
        let (before, after) = (&rest[..start], &rest[inside + length..]);
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

/// `raise_exception(message)`: a template's way to refuse a conversation.
fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
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
        ChatTemplate::parse(source, tokens, &ChatOptions::default())?
            .render(&messages.each_ref().map(turn), true)
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
        assert!(render("{%}%}").unwrap_err().contains("syntax error"));
        assert!(
            render("{{ strftime_now('%Q') }}")
                .unwrap_err()
                .contains("%Q")
        );
    }
}
