//! What Jinja2's templates take from Python, where minijinja has it otherwise: how values are printed, `tojson`, `%`, some
//! methods and tests.

use std::fmt::Write;

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Rest, Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use crate::json_style::JsonStyle;

use crate::room::{pay, pay_for_fields, pay_for_method};

/// The name under which `"…" % values` is found.
const PERCENT: &str = "python_percent";

pub(crate) fn adapt(environment: &mut Environment<'static>) {
    environment.set_formatter(|output, state, value| {
        match value.as_str() {
            // A long text is written without a copy.
            Some(text) => output.write_str(text)?,
            None => output.write_str(&printed(state, value)?)?,
        }
        Ok(())
    });
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", to_json);
    environment.add_filter("string", |state: &State, value: Value| {
        printed(state, &value)
    });
    environment.add_filter(PERCENT, percent);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
}

/// Python cannot go through None or a number.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// What has a length and elements: texts and mappings as well.
fn is_sequence(value: &Value) -> bool {
    is_iterable(value) && (value.is_undefined() || value.len().is_some())
}

/// `str(value)`.
fn printed(state: &State, value: &Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value.to_string(),
        _ => {
            pay(state, value, 0, 0)?;
            shown(value)
        }
    })
}

/// `repr(value)`.
fn shown(value: &Value) -> String {
    let list = |value: &Value| -> Vec<String> {
        let elements = value.try_iter().into_iter().flatten();
        elements.map(|element| shown(&element)).collect()
    };
    match value.kind() {
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq if value.downcast_object_ref::<Tuple>().is_some() => {
            match &list(value)[..] {
                [only] => format!("({only},)"),
                elements => format!("({})", elements.join(", ")),
            }
        }
        ValueKind::Seq => format!("[{}]", list(value).join(", ")),
        ValueKind::Map if value.as_object().is_some() => {
            let keys = value.try_iter().into_iter().flatten();
            let entries: Vec<String> = keys
                .map(|key| {
                    let of_key = value.get_item(&key).unwrap_or_default();
                    format!("{}: {}", shown(&key), shown(&of_key))
                })
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        _ => value.to_string(),
    }
}

/// A text as Python writes it in a program.
fn quoted(text: &str) -> String {
    let quote = match text.contains('\'') && !text.contains('"') {
        true => '"',
        false => '\'',
    };
    let mut result = String::from(quote);
    for character in text.chars() {
        match character {
            '\n' => result += "\\n",
            '\r' => result += "\\r",
            '\t' => result += "\\t",
            '\\' => result += "\\\\",
            _ if character == quote => {
                result.push('\\');
                result.push(quote);
            }
            // Writing to a string cannot fail.
            '\0'..'\u{20}' | '\u{7f}'..'\u{a1}' => {
                let _ = write!(result, "\\x{:02x}", u32::from(character));
            }
            _ => result.push(character),
        }
    }
    result.push(quote);
    result
}

/// Methods that values have in Python: `rsplit` here, the others where minijinja keeps them.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), name) {
        (Some(text), "rsplit") => {
            let (separator, times): (Option<&Value>, Option<i64>) =
                minijinja::value::from_args(args)?;
            let separator = separator.filter(|separator| !separator.is_none());
            rsplit(text, separator.and_then(Value::as_str), times.unwrap_or(-1))
        }
        (Some(text), "removeprefix" | "removesuffix") => {
            let (part,): (&str,) = minijinja::value::from_args(args)?;
            let rest = match name {
                "removeprefix" => text.strip_prefix(part),
                _ => text.strip_suffix(part),
            };
            Ok(Value::from(rest.unwrap_or(text)))
        }
        _ => {
            if let Some(text) = value.as_str() {
                pay_for_method(state, text, name, args)?;
            }
            minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
        }
    }
}

/// Text taken apart from its end, at most `times` times where that is not negative; at stretches of space without a separator.
fn rsplit(text: &str, separator: Option<&str>, times: i64) -> Result<Value, Error> {
    let limit = usize::try_from(times).unwrap_or(usize::MAX);
    let mut parts: Vec<&str> = Vec::new();
    let mut rest = text;
    match separator {
        Some("") => {
            return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
        }
        Some(separator) => {
            while parts.len() < limit
                && let Some((before, after)) = rest.rsplit_once(separator)
            {
                parts.push(after);
                rest = before;
            }
            parts.push(rest);
        }
        None => {
            rest = rest.trim_end();
            while parts.len() < limit
                && let Some((space, character)) =
                    rest.char_indices().rfind(|(_, c)| c.is_whitespace())
            {
                parts.push(&rest[space + character.len_utf8()..]);
                rest = rest[..space].trim_end();
            }
            parts.extend(Some(rest).filter(|rest| !rest.is_empty()));
        }
    }
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

/// `text % values`: a tuple's values one after the other, or one value, whose keys may be named.
fn percent(state: &State, text: &str, values: &Value) -> Result<String, Error> {
    pay_for_fields(state, text, '%', std::slice::from_ref(values))?;
    // How Python prints what it prints otherwise; numbers stay numbers.
    let as_printed = |value: Value| match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Seq => Value::from(shown(&value)),
        _ => value,
    };
    let values: Vec<Value> = match values.downcast_object_ref::<Tuple>() {
        Some(_) => values.try_iter()?.map(as_printed).collect(),
        None if values.kind() == ValueKind::Map && !text.contains("%(") => {
            vec![Value::from(shown(values))]
        }
        None => vec![as_printed(values.clone())],
    };
    format(FormatStyle::Printf, text, &values)
}

/// Writes `"…" % values` as a filter, since minijinja's `%` divides numbers alone.
///
/// Looked at is what stands between `{{` and `}}`, or `{%` and `%}`. The values are one operand: a name, number, text or
/// something in brackets, with all that follows it without a space (`.name`, `[…]`, `(…)`) and the filters behind it.
pub(crate) fn with_percent_as_filter(source: &str) -> Result<String, String> {
    percent_as_filter(source, 0)
}

/// How deep values may stand in values of `%`, as minijinja's parser has it for expressions.
const DEEPEST: usize = 150;

fn percent_as_filter(source: &str, depth: usize) -> Result<String, String> {
    if depth > DEEPEST {
        return Err(format!(
            "the template has more than {DEEPEST} `\"…\" % …` in one another"
        ));
    }
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    let begins_tag = |pair: &[u8]| pair[0] == b'{' && b"{%#".contains(&pair[1]);
    while let Some(start) = rest.as_bytes().windows(2).position(begins_tag) {
        let closing = match rest.as_bytes()[start + 1] {
            b'{' => "}}",
            b'%' => "%}",
            _ => "#}",
        };
        result += &rest[..start + 2];
        rest = &rest[start + 2..];
        if closing == "#}" {
            let end = rest.find(closing).unwrap_or(rest.len());
            result += &rest[..end];
            rest = &rest[end..];
            continue;
        }
        while !rest.is_empty() && !rest.starts_with(closing) {
            let length = text_length(rest);
            if length == 0 {
                let next = rest.chars().next().map_or(0, char::len_utf8);
                result += &rest[..next];
                rest = &rest[next..];
                continue;
            }
            result += &rest[..length];
            rest = &rest[length..];
            let behind = rest.trim_start();
            if let Some(operand) = behind.strip_prefix('%')
                && !operand.starts_with('}')
            {
                let operand = operand.trim_start();
                let length = operand_length(operand);
                let inside =
                    percent_as_filter(&format!("{{{{{}}}}}", &operand[..length]), depth + 1)?;
                result += &format!("|{PERCENT}({})", &inside[2..inside.len() - 2]);
                rest = &operand[length..];
            }
        }
    }
    Ok(result + rest)
}

/// The bytes of the text in quotation marks that something begins with, or 0.
pub(crate) fn text_length(source: &str) -> usize {
    let Some(quote) = source.chars().next().filter(|c| "'\"".contains(*c)) else {
        return 0;
    };
    let mut is_escaped = false;
    for (place, character) in source.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return place + 1,
            _ => {}
        }
    }
    source.len()
}

/// The bytes of the operand that something begins with.
fn operand_length(source: &str) -> usize {
    let mut length = 0;
    loop {
        let rest = &source[length..];
        let next = match rest.chars().next() {
            Some('\'' | '"') => text_length(rest),
            Some('(' | '[' | '{') => bracket_length(rest),
            Some('|') => 1 + (rest.len() - 1 - rest[1..].trim_start().len()),
            Some(c) if c.is_alphanumeric() || c == '_' || c == '.' => c.len_utf8(),
            // A filter may stand behind a space.
            Some(c) if c.is_whitespace() && rest.trim_start().starts_with('|') => {
                rest.len() - rest.trim_start().len()
            }
            _ => return length,
        };
        length += next;
    }
}

/// The bytes up to the bracket that closes the first one.
fn bracket_length(source: &str) -> usize {
    let (mut length, mut depth) = (0, 0_usize);
    while let Some(character) = source[length..].chars().next() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        length += text_length(&source[length..]).max(character.len_utf8());
        if depth == 0 {
            return length;
        }
    }
    length
}

/// What a template may indent by: more is no layout, but a way to fill the memory.
const WIDEST: usize = 256;

/// `tojson` as transformers defines it: `json.dumps` with `ensure_ascii=False`, nothing escaped for HTML.
fn to_json(
    state: &State,
    value: &Value,
    positional: Rest<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let invalid =
        |problem: String| Error::new(ErrorKind::InvalidOperation, format!("tojson: {problem}"));
    let mut given = positional.0.into_iter();
    let mut option = |name: &str| -> Result<Option<Value>, Error> {
        let named: Option<Value> = options.get(name)?;
        Ok(named
            .or_else(|| given.next())
            .filter(|value| !value.is_none()))
    };
    // In the order of transformers' parameters.
    let ascii = option("ensure_ascii")?.is_some_and(|value| value.is_true());
    let indent = option("indent")?;
    let separators = option("separators")?;
    let sort = option("sort_keys")?.is_some_and(|value| value.is_true());
    options.assert_all_used()?;
    let indent = match indent {
        None => None,
        Some(width) => Some(match (width.as_str(), width.as_usize()) {
            (Some(text), _) if text.len() <= WIDEST => text.to_owned(),
            (None, Some(width)) if width <= WIDEST => " ".repeat(width),
            _ => {
                return Err(invalid(format!(
                    "indent = {width}, expected at most {WIDEST} characters"
                )));
            }
        }),
    };
    let [between, after_key] = match separators {
        None if indent.is_some() => [",".to_owned(), ": ".to_owned()],
        None => [", ".to_owned(), ": ".to_owned()],
        Some(separators) => {
            let parts: Vec<String> = separators
                .try_iter()?
                .map(|part| part.to_string())
                .collect();
            <[String; 2]>::try_from(parts)
                .map_err(|_| invalid("separators are two texts".to_owned()))?
        }
    };
    let around = between.len().saturating_add(after_key.len());
    pay(state, value, around, indent.as_ref().map_or(0, String::len))?;
    let json = serde_json::to_value(value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let style = JsonStyle {
        between,
        after_key,
        indent,
        ascii,
        sort,
    };
    let mut text = String::new();
    style.write(&json, 0, &mut text);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use minijinja::Value;
    use minijinja::value::Serde;
    use panacea_test_support::golden;
    use serde_json::Value as Json;

    use crate::ChatOptions;
    use crate::template::ChatTemplate;

    /// What Jinja2 prints, by benches/peers/chat_templates.py.
    #[test]
    fn templates_print_what_they_print_in_python() {
        let golden: Json = golden("templates.json");
        let mut wrong = Vec::new();
        for case in golden["expressions"].as_array().unwrap() {
            let (source, expected) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
            let template = ChatTemplate::parse(source, Vec::new(), &ChatOptions::default());
            let found = template.and_then(|template| {
                template.render_with(Value::from(Serde(&golden["variables"])), 0)
            });
            if found.as_deref() != Ok(expected) {
                wrong.push(format!("{source}\n  {found:?}\n  {expected:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// What would fill the stack, the memory or the day is an error, or done in a moment.
    #[test]
    fn hostile_templates_are_refused() {
        let render = |source: &str| {
            let template = ChatTemplate::parse(source, Vec::new(), &ChatOptions::default());
            template.and_then(|template| template.render_with(Value::UNDEFINED, 0))
        };
        let nested = |depth: usize| {
            format!(
                "{{{{ {}1{} }}}}",
                "'%s' % (".repeat(depth),
                ")".repeat(depth)
            )
        };
        assert_eq!(render(&nested(3)).as_deref(), Ok("1"));
        let fine = "{{ '%%12345 %5d %s 12345' % (1, 2) }}";
        assert_eq!(render(fine).as_deref(), Ok("%12345     1 2 12345"));
        let error = render(&nested(10_000)).unwrap_err();
        assert!(error.contains("more than 150"), "{error}");
        let many = "{{ 1 }}".repeat(30_000);
        assert_eq!(render(&many).unwrap().len(), 30_000);
        let again_and_again = |start: &str, value: &str, times: usize, end: &str| {
            format!(
                "{{% set ns = namespace(x={start}) %}}{{% for i in range({times}) %}}{{% set ns.x = {value} %}}{{% endfor %}}{end}"
            )
        };
        let deep = again_and_again("1", "[ns.x]", 99_999, "end");
        assert_eq!(render(&deep).as_deref(), Ok("end"));
        let compared = "{% set ns = namespace(x=1, y=1) %}{% for i in range(60000) %}{% set ns.x = [ns.x] %}\
                        {% set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}";
        assert_eq!(render(compared).as_deref(), Ok("True"));
        // The most that an ordinary stack has to hold.
        let compared = compared.replace("60000", "400");
        assert_eq!(render(&compared).as_deref(), Ok("True"));
        for chain in ["not ", "-", "+1", ".a", "|e"] {
            let chain = chain.repeat(250_000 / chain.len());
            for source in [format!("{{{{ {chain}1 }}}}"), format!("{{{{ 1{chain} }}}}")] {
                // Whatever comes of it, there is room for it.
                let _ = render(&source);
            }
        }
        let long = "x".repeat(300_000);
        assert_eq!(
            render(&long).unwrap_err(),
            "it has 300000 bytes, expected at most 262144"
        );
        let set = "{% set x = [x] %}".repeat(15_000);
        assert_eq!(render(&set).as_deref(), Ok(""));
        let into_macros = "{% macro f(n) %}{{ f([[[[[[[[[[n]]]]]]]]]]) }}{% endmacro %}{{ f(1) }}";
        assert!(render(into_macros).unwrap_err().contains("recursion"));
        let nested = "a value is more than 150 lists deep";
        let steps = "it takes more than 1000000 steps for this conversation, or makes texts of more than 64 MB";
        for (source, problem) in [
            (
                "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
                steps,
            ),
            (&again_and_again("'x'", "ns.x ~ ns.x", 60, ""), steps),
            (
                &again_and_again("[]", "[ns.x, ns.x]", 40, "{{ ns.x }}"),
                steps,
            ),
            (
                &again_and_again("[]", "[ns.x, ns.x]", 40, "{{ ns.x|tojson }}"),
                steps,
            ),
            (
                &again_and_again("[]", "[ns.x, ns.x]", 40, "{{ '%s' % ns.x }}"),
                steps,
            ),
            (&again_and_again("1", "[ns.x]", 5000, "{{ ns.x }}"), nested),
            (
                &again_and_again("1", "[ns.x]", 5000, "{{ ns.x|tojson }}"),
                nested,
            ),
            (&again_and_again("1", "ns", 1, "{{ ns }}"), nested),
            (
                "{{ range(9999)|list|tojson(separators=(',' * 99999, ':')) }}",
                steps,
            ),
            (
                &format!("{{{{ '{}' % 1 }}}}", "%9999d".repeat(20_000)),
                steps,
            ),
            ("{{ ('{0}' * 99999).format('x' * 99999) }}", steps),
            ("{{ ('x' * 99999).replace('', 'y' * 99999) }}", steps),
            ("{{ ('x' * 99999).join(range(99999)) }}", steps),
            ("{{ '{:>99999}'.format(1) }}", "99999 characters wide"),
        ] {
            let error = render(source).unwrap_err();
            assert!(error.contains(problem), "{source}: {error}");
        }
        for source in [
            "{{ [1]|tojson(indent=9223372036854775807) }}",
            "{{ [1]|tojson(indent='x' * 257) }}",
            "{{ [1]|tojson(indent=[]) }}",
            "{{ '%9223372036854775807d' % 1 }}",
            "{{ '%.9223372036854775807f' % 1 }}",
            "{{ '%99999999999999999999999d' % 1 }}",
        ] {
            assert!(render(source).is_err(), "{source}");
        }
    }
}
