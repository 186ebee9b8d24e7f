//! Chat templates: Jinja, rendered as Hugging Face's `apply_chat_template` does.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write;
use std::io;
use std::sync::Arc;

use chrono::Local;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};

use crate::message::{Answer, Message};
use crate::room::{self, FEW_CALLS, FEW_STEPS, MOST_STEPS};
use crate::talk::{Talk, Turn};
use crate::watched::Given;
use crate::{ChatOptions, dates, python};

const NAME: &str = "chat_template";

/// A parsed chat template and the variables that it may mention.
#[derive(Debug, Clone)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// The same with as few steps as need no more stack than there is, where the template might make values that do.
    frugal: Option<Environment<'static>>,
    /// Special tokens, and the user's variables behind them.
    variables: Arc<[(String, Value)]>,
    /// The texts in its source that are words: among them the roles that it knows.
    words: HashSet<String>,
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
        let words = words_in(source);
        let source = python::with_percent_as_filter(&without_generation_tags(source))?;
        let might_nest = room::might_nest(&source);
        let environment = room::parse(&source.clone(), move || {
            let added = environment.add_template_owned(NAME, source);
            added.map_err(|error| describe(&error, MOST_STEPS))?;
            Ok(environment)
        })?;
        let frugal = might_nest.then(|| {
            let mut frugal = environment.clone();
            frugal.set_fuel(Some(FEW_STEPS));
            frugal.set_recursion_limit(FEW_CALLS);
            frugal
        });
        let special_tokens =
            (special_tokens.into_iter()).map(|(name, token)| (name, Value::from(token)));
        let own = options
            .variables
            .iter()
            .map(|(name, value)| (name.clone(), value.into()));
        Ok(Self {
            environment,
            frugal,
            variables: special_tokens.chain(own).collect(),
            words,
        })
    }

    /// What the template writes for a conversation. The turns and variables of `talk` remember what it asked them for.
    pub fn render(&self, talk: &Talk, add_generation_prompt: bool) -> Result<String, String> {
        self.render_with(
            self.variables(talk, add_generation_prompt),
            talk.text_bytes(),
        )
    }

    /// The same, of which only that is kept in which it is not as `known`.
    pub fn render_beside(&self, talk: &Talk, known: &str) -> Result<Beside, String> {
        let parting = || Parting {
            known: known.as_bytes(),
            shared: 0,
            behind: Vec::new(),
        };
        let parted = self.render_to(self.variables(talk, false), talk.text_bytes(), parting)?;
        let shared = known.floor_char_boundary(parted.shared);
        let behind = [&known.as_bytes()[shared..parted.shared], &parted.behind].concat();
        let behind = String::from_utf8(behind).map_err(|error| error.to_string())?;
        Ok(Beside { shared, behind })
    }

    fn variables(&self, talk: &Talk, add_generation_prompt: bool) -> Value {
        let messages: Value = talk.turns.iter().map(|turn| turn.fields.value()).collect();
        Value::from_object(Given {
            own: Arc::clone(&talk.variables),
            of_all: Arc::clone(&self.variables),
            always: [
                ("messages", messages),
                ("add_generation_prompt", Value::from(add_generation_prompt)),
                // Given as None by transformers where the caller has none.
                ("tools", Value::from(())),
                ("documents", Value::from(())),
            ],
        })
    }

    /// Whether the template speaks of a role.
    pub fn knows_role(&self, role: &str) -> bool {
        self.words.contains(role)
    }

    /// The first key of an answer that the template asks for where it takes the answer, which need not be behind every
    /// conversation.
    pub fn key_read_of(&self, answer: &Answer) -> Option<String> {
        let turn = Turn::answer(answer.text(), answer);
        let talk = Talk {
            turns: vec![Turn::plain("user", "?"), turn.clone()],
            ..Talk::default()
        };
        // What it refuses, it may have read before.
        self.render(&talk, false).ok();
        let mut keys = answer.more.keys();
        keys.find(|key| turn.has_read(key)).cloned()
    }

    /// A message as the template sees it: a developer's, where it knows no developer, is the system's.
    pub fn turn(&self, message: &Message) -> Turn {
        let role = match message.role.as_str() {
            "developer" if !self.knows_role("developer") => "system",
            role => role,
        };
        Turn::new(role, &message.content, &message.more)
    }

    /// What it writes, given variables that hold so many bytes of text.
    pub(crate) fn render_with(&self, variables: Value, bytes: usize) -> Result<String, String> {
        let text = || Whole {
            text: Vec::new(),
            expected: bytes + bytes / 64 + 512,
        };
        let whole = self.render_to(variables, bytes, text)?;
        String::from_utf8(whole.text).map_err(|error| error.to_string())
    }

    /// Writes to what `begin` makes, anew where a try has to be given up.
    fn render_to<W: io::Write + Send>(
        &self,
        variables: Value,
        bytes: usize,
        begin: impl Fn() -> W + Sync,
    ) -> Result<W, String> {
        let render = |environment: &Environment<'_>| -> Result<W, Error> {
            let mut out = begin();
            let template = environment.get_template(NAME)?;
            template.render_captured_to(variables.clone(), &mut out)?;
            Ok(out)
        };
        let steps = room::most_steps(bytes);
        let environment = match steps {
            MOST_STEPS => Cow::Borrowed(&self.environment),
            more => {
                let mut environment = self.environment.clone();
                environment.set_fuel(Some(more));
                Cow::Owned(environment)
            }
        };
        let in_words = |error: Error| describe(&error, steps);
        let Some(frugal) = &self.frugal else {
            return render(&environment).map_err(in_words);
        };
        // A thread for each conversation would cost more than most conversations do.
        if let Ok(text) = render(frugal) {
            return Ok(text);
        }
        room::with_deep_stack(|| render(&environment).map_err(in_words))?
    }
}

/// A text beside one that is known.
pub(crate) struct Beside {
    /// How many bytes both begin with, in whole characters.
    pub shared: usize,
    /// What comes then.
    pub behind: String,
}

/// Keeps a text that is written. One that grows has room for up to twice what is in it: this one gets its room at once, but not before
/// something long is written, since a template that joins texts has copies of them until then.
struct Whole {
    text: Vec<u8>,
    expected: usize,
}

/// Below this, room for texts is none.
const LONG: usize = 4096;

impl io::Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_long = self.text.len() + bytes.len() > LONG;
        if is_long && self.text.capacity() < self.expected {
            self.text.reserve_exact(self.expected - self.text.len());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

/// The texts in quotation marks between `{{` and `}}`, and `{%` and `%}`, that are words, as in `m.role == 'tool'`.
fn words_in(source: &str) -> HashSet<String> {
    let mut words = HashSet::new();
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
            let next = rest.chars().next().map_or(0, char::len_utf8);
            let word = rest[..quoted].trim_matches(['\'', '"']);
            if !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_') {
                words.insert(word.to_owned());
            }
            rest = &rest[quoted.max(next)..];
        }
    }
    words
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
    use crate::message::JsonObject;

    fn render(source: &str) -> Result<String, String> {
        let tokens = vec![
            ("bos_token".to_owned(), "<s>".to_owned()),
            ("eos_token".to_owned(), "</s>".to_owned()),
        ];
        let turns = [
            Turn::plain("system", " Be brief. "),
            Turn::plain("user", "Hi <b>\"you\"</b>"),
            Turn::plain("assistant", "Ja"),
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
    fn roles_that_a_template_speaks_of_are_found() {
        let source = "'user' {# 'system' #}{% if m.role == 'tool' and \"x y }}\" %}{{ developer|tojson }}\
                      {{- 'the id' }}{{ '\\'documents' }}{%- for t in [\"role_2\"] %}{% endfor %} content {{ 'bos";
        let words = words_in(source);
        for word in ["tool", "role_2", "bos"] {
            assert!(words.contains(word), "{word}: {words:?}");
        }
        for word in [
            "user",
            "system",
            "developer",
            "x",
            "id",
            "content",
            "documents",
            "m",
        ] {
            assert!(!words.contains(word), "{word}: {words:?}");
        }
    }

    /// The keys of the turn, and variables, that a template leaves out.
    fn unread(source: &str, turn: serde_json::Value, variables: serde_json::Value) -> Vec<String> {
        let template = ChatTemplate::parse(source, Vec::new(), &ChatOptions::default()).unwrap();
        let message: Message = serde_json::from_value(turn).unwrap();
        let variables = variables.as_object().unwrap();
        let talk = Talk::new(vec![template.turn(&message)], variables);
        template.render(&talk, false).unwrap();
        talk.unread()
            .map(|unread| match unread.turn {
                Some(turn) => format!("{turn}.{}", unread.key),
                None => unread.key,
            })
            .collect()
    }

    #[test]
    fn what_a_template_asks_for_is_read_and_nothing_else() {
        let turn = || serde_json::json!({"role": "assistant", "content": "a", "name": "Ann", "x": 1, "tool_calls": [{"name": "f"}]});
        let each = |body: &str| format!("{{% for m in messages %}}{body}{{% endfor %}}");
        for (body, expected) in [
            // The name of a call is not that of the turn, and a text or a comment asks for nothing.
            (
                "{{ m.content }}{% for c in m.tool_calls %}{{ c.name }}{% endfor %}{{ 'name' }}{# m.x #}",
                &["0.name", "0.x", "tools"][..],
            ),
            ("{{ m | tojson }}", &["tools"]),
            ("{% for k, v in m.items() %}{{ v }}{% endfor %}", &["tools"]),
            (
                "{{ m['name'] }}{{ m.get('x') }}{{ tools }}",
                &["0.content", "0.tool_calls"],
            ),
            (
                "{{ 'x' in m }}",
                &["0.content", "0.name", "0.tool_calls", "tools"],
            ),
            // Nobody asks a turn for what stands in a branch that is not taken.
            (
                "{% if m.role == 'user' %}{{ m.name }}{{ tools }}{% endif %}{{ m.content }}",
                &["0.name", "0.x", "0.tool_calls", "tools"],
            ),
            (
                "{% if m and m is mapping and m | length %}{% endif %}",
                &["0.content", "0.name", "0.x", "0.tool_calls", "tools"],
            ),
        ] {
            let found = unread(&each(body), turn(), serde_json::json!({"tools": []}));
            assert_eq!(found, expected, "{body}");
        }
        // An empty text is nothing that could be left out.
        let empty = serde_json::json!({"role": "user", "content": " "});
        assert!(unread("", empty, serde_json::json!({})).is_empty());
    }

    /// A thread of its own is for what nests deeply; ordinary conversations are written without one.
    #[test]
    fn ordinary_conversations_take_few_steps() {
        let golden: serde_json::Value = panacea_test_support::golden("templates.json");
        let mut frugal = 0;
        for family in golden["families"].as_array().unwrap() {
            let source = family["template"].as_str().unwrap();
            let none = ChatOptions::default();
            let template = ChatTemplate::parse(source, Vec::new(), &none).unwrap();
            let Some(few) = template.frugal else { continue };
            frugal += 1;
            let turns: Vec<Value> = (0..20)
                .map(|turn| Turn::plain(["user", "assistant"][turn % 2], &"word ".repeat(300)))
                .map(|turn| turn.fields.value())
                .collect();
            let written = few.get_template(NAME).unwrap().render(Value::from_pairs([
                ("messages", Value::from(turns)),
                ("bos_token", Value::from("<s>")),
            ]));
            assert!(written.is_ok(), "{}: {written:?}", family["name"]);
        }
        assert!(frugal > 0);
    }

    /// A name that every template is given is nobody else's to set.
    #[test]
    fn functions_of_templates_are_reserved() {
        let template = ChatTemplate::parse("", Vec::new(), &ChatOptions::default()).unwrap();
        let functions: Vec<&str> = (template.environment.globals())
            .map(|(name, _)| name)
            .collect();
        assert!(functions.contains(&"raise_exception"), "{functions:?}");
        for name in functions {
            assert!(ChatOptions::reserved(name).is_some(), "{name}");
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
