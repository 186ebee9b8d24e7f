//! Chat templates: Jinja, rendered as Hugging Face's `apply_chat_template` does.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;
use std::io;

use chrono::Local;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, ErrorKind};

use crate::message::{Answer, Content, JsonObject, Message};
use crate::room::{self, MOST_STEPS};
use crate::{ChatOptions, dates, python};

const NAME: &str = "chat_template";

/// A parsed chat template and the variables that it may mention.
#[derive(Debug, Clone)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// Whether it might make values that need more stack than there is.
    is_deep: bool,
    variables: Vec<(String, Value)>,
    /// What its source names: variables, attributes, and texts that are names.
    names: HashSet<String>,
}

/// What a template is given: turns, and the variables of this conversation alone, before which those of all others go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Talk {
    pub turns: Vec<Value>,
    pub variables: Vec<(String, Value)>,
}

impl Talk {
    pub fn new(turns: Vec<Value>, variables: &JsonObject) -> Self {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(Serde(value))));
        Self {
            turns,
            variables: variables.collect(),
        }
    }

    /// Bytes of the texts of its turns.
    fn text_bytes(&self) -> usize {
        let text = |turn: &Value| turn.get_attr("content").ok()?.as_str().map(str::len);
        self.turns.iter().filter_map(text).sum()
    }

    /// The same with one more turn.
    pub fn with(&self, turn: Value) -> Self {
        Self {
            turns: [&self.turns[..], &[turn]].concat(),
            variables: self.variables.clone(),
        }
    }
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
            .map_err(|error| describe(&error, MOST_STEPS))?;
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
        let names = names_in(source);
        let source = python::with_percent_as_filter(&without_generation_tags(source))?;
        let is_deep = room::might_nest(&source);
        let environment = room::parse(&source.clone(), move || {
            let added = environment.add_template_owned(NAME, source);
            added.map_err(|error| describe(&error, MOST_STEPS))?;
            Ok(environment)
        })?;
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
            names,
        })
    }

    /// What the template writes for a conversation.
    pub fn render(&self, talk: &Talk, add_generation_prompt: bool) -> Result<String, String> {
        self.render_with(
            self.variables(talk, add_generation_prompt),
            talk.text_bytes(),
        )
    }

    /// The same, of which only that is kept in which it is not as `known`.
    pub fn render_beside(&self, talk: &Talk, known: &str) -> Result<Beside, String> {
        let mut parting = Parting {
            known: known.as_bytes(),
            shared: 0,
            behind: Vec::new(),
        };
        self.render_to(self.variables(talk, false), talk.text_bytes(), &mut parting)?;
        let shared = known.floor_char_boundary(parting.shared);
        let behind = [&known.as_bytes()[shared..parting.shared], &parting.behind].concat();
        let behind = String::from_utf8(behind).map_err(|error| error.to_string())?;
        Ok(Beside { shared, behind })
    }

    fn variables(&self, talk: &Talk, add_generation_prompt: bool) -> Value {
        let messages: Value = talk.turns.iter().cloned().collect();
        let mut variables = vec![
            ("messages", messages),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
            // Given as None by transformers where the caller has none.
            ("tools", Value::from(())),
            ("documents", Value::from(())),
        ];
        let more = self.variables.iter().chain(&talk.variables);
        variables.extend(more.map(|(name, value)| (name.as_str(), value.clone())));
        Value::from_pairs(variables)
    }

    /// Whether the template speaks of a key of turns, or of a variable.
    pub fn reads(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// A message as the template sees it: a developer's, where it knows no developer, is the system's.
    pub fn turn(&self, message: &Message) -> Value {
        let role = match message.role.as_str() {
            "developer" if !self.reads("developer") => "system",
            role => role,
        };
        turn(role, &message.content, &message.more)
    }

    /// What it writes, given variables that hold so many bytes of text.
    pub(crate) fn render_with(&self, variables: Value, bytes: usize) -> Result<String, String> {
        // A text that grows has room for up to twice what is in it.
        let mut text = Vec::with_capacity(bytes + bytes / 64 + 512);
        self.render_to(variables, bytes, &mut text)?;
        String::from_utf8(text).map_err(|error| error.to_string())
    }

    fn render_to(
        &self,
        variables: Value,
        bytes: usize,
        out: &mut (impl io::Write + Send),
    ) -> Result<(), String> {
        let steps = room::most_steps(bytes);
        let environment = match steps {
            MOST_STEPS => Cow::Borrowed(&self.environment),
            more => {
                let mut environment = self.environment.clone();
                environment.set_fuel(Some(more));
                Cow::Owned(environment)
            }
        };
        let described = |error: Error| describe(&error, steps);
        let template = environment.get_template(NAME).map_err(described)?;
        let render = || match template.render_captured_to(variables, out) {
            Ok(_) => Ok(()),
            Err(error) => Err(described(error)),
        };
        match self.is_deep {
            true => room::with_deep_stack(render)?,
            false => render(),
        }
    }
}

/// A text beside one that is known.
pub(crate) struct Beside {
    /// How many bytes both begin with, in whole characters.
    pub shared: usize,
    /// What comes then.
    pub behind: String,
}

/// Takes a text that is written and keeps what stands behind the beginning that it shares with another.
struct Parting<'a> {
    known: &'a [u8],
    shared: usize,
    behind: Vec<u8>,
}

impl io::Write for Parting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut same = 0;
        if self.behind.is_empty() {
            let pairs = self.known[self.shared..].iter().zip(bytes);
            same = pairs.take_while(|(known, byte)| known == byte).count();
            self.shared += same;
        }
        self.behind.extend_from_slice(&bytes[same..]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The assistant's turn with an answer, whose text is `text`.
pub(crate) fn answer(text: &str, answer: &Answer) -> Value {
    match answer.content {
        Content::Text(_) if answer.more.is_empty() => plain("assistant", text),
        Content::Text(_) => turn("assistant", &Content::Text(text.to_owned()), &answer.more),
        _ => turn("assistant", &answer.content, &answer.more),
    }
}

/// A turn with a text and nothing else.
pub(crate) fn plain(role: &str, text: &str) -> Value {
    Value::from_pairs([("role", role), ("content", text)])
}

/// A turn as templates see it: what it has beside role and content is given as it is.
fn turn(role: &str, content: &Content, more: &JsonObject) -> Value {
    let content = match content {
        Content::Text(text) if more.is_empty() => return plain(role, text),
        Content::Text(text) => Some(Value::from(text.as_str())),
        Content::Null => Some(Value::from(())),
        Content::Absent => None,
    };
    let more = (more.iter()).map(|(key, value)| (key.as_str(), Value::from(Serde(value))));
    let known = [("role", Some(Value::from(role))), ("content", content)];
    let known = known
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    Value::from_pairs(known.chain(more))
}

/// The names between `{{` and `}}`, and `{%` and `%}`, also those in quotation marks, as in `turn['tool_calls']`.
fn names_in(source: &str) -> HashSet<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = HashSet::new();
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        rest = &rest[start + 1..];
        let closing = match rest.as_bytes().first() {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => {
                rest = rest.split_once("#}").map_or("", |(_, behind)| behind);
                continue;
            }
            _ => continue,
        };
        while !rest.is_empty() && !rest.starts_with(closing) {
            let quoted = python::text_length(rest);
            let (name, length) = match quoted {
                0 => {
                    let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                    let next = rest.chars().next().map_or(0, char::len_utf8);
                    (&rest[..end], end.max(next))
                }
                _ => (rest[..quoted].trim_matches(['\'', '"']), quoted),
            };
            if !name.is_empty() && name.chars().all(is_part) {
                names.insert(name.to_owned());
            }
            rest = &rest[length..];
        }
    }
    names
}

/// The message and, where known, the template's line; `steps` is how many it may take.
fn describe(error: &Error, steps: u64) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return format!(
            "it takes more than {steps} steps for this conversation, or makes texts of more than {} MB",
            steps * 64 / 1_000_000
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

    fn render(source: &str) -> Result<String, String> {
        let tokens = vec![
            ("bos_token".to_owned(), "<s>".to_owned()),
            ("eos_token".to_owned(), "</s>".to_owned()),
        ];
        let turns = [
            plain("system", " Be brief. "),
            plain("user", "Hi <b>\"you\"</b>"),
            plain("assistant", "Ja"),
        ];
        let talk = Talk::new(turns.to_vec(), &JsonObject::new());
        ChatTemplate::parse(source, tokens, &ChatOptions::default())?.render(&talk, true)
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

    /// What Jinja2 prints for turns with all they have, by benches/peers/chat_templates.py.
    #[test]
    fn turns_reach_the_template_with_all_they_have() {
        let golden: serde_json::Value = panacea_test_support::golden("templates.json");
        let cases = golden["turns"].as_array().unwrap();
        assert_eq!(cases.len(), 9);
        for case in cases {
            let source = case[0].as_str().unwrap();
            let turns: Vec<Message> = serde_json::from_value(case[1].clone()).unwrap();
            let variables = case[2].as_object().unwrap();
            let template =
                ChatTemplate::parse(source, Vec::new(), &ChatOptions::default()).unwrap();
            let turns = turns.iter().map(|message| template.turn(message)).collect();
            let found = template.render(&Talk::new(turns, variables), false);
            assert_eq!(found.as_deref(), Ok(case[3].as_str().unwrap()), "{source}");
        }
    }

    #[test]
    fn a_conversations_own_variables_go_before_all_others() {
        let own = crate::TemplateValue::Text("run".to_owned());
        let options = ChatOptions {
            variables: [("a".to_owned(), own.clone()), ("b".to_owned(), own)].into(),
            ..ChatOptions::default()
        };
        let tokens = vec![("bos_token".to_owned(), "<s>".to_owned())];
        let source = "{{ bos_token }} {{ a }} {{ b }} {{ tools }}";
        let template = ChatTemplate::parse(source, tokens, &options).unwrap();
        let render = |variables: serde_json::Value| {
            let variables = variables.as_object().unwrap();
            template
                .render(&Talk::new(Vec::new(), variables), false)
                .unwrap()
        };
        assert_eq!(render(serde_json::json!({})), "<s> run run None");
        let variables = serde_json::json!({"b": 1, "tools": [], "bos_token": ""});
        assert_eq!(render(variables), " run 1 []");
    }

    #[test]
    fn what_a_template_names_is_found() {
        let source = "tools {# weight #}{% if m['tool_calls'] and \"x y }}\" %}{{ m.name|tojson }}\
                      {{- 'the id' }}{{ '\\'documents' }}{%- for t in role_2 %}{% endfor %} content {{ bos";
        let names = names_in(source);
        for name in ["tool_calls", "m", "name", "tojson", "role_2", "bos", "if"] {
            assert!(names.contains(name), "{name}: {names:?}");
        }
        for name in ["tools", "weight", "x", "id", "content", "documents", "y"] {
            assert!(!names.contains(name), "{name}: {names:?}");
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
