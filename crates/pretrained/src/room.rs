//! What a chat template may take of time, memory and stack. It is a program that came with somebody's model.

use std::thread;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

/// The most steps for one conversation that is not long: about a second's work. 64 bytes of what is made count as a step, so that the memory
/// is bounded too.
pub(crate) const MOST_STEPS: u64 = 1_000_000;

/// As many steps and calls in one another need no more stack than every thread has, of which two MiB are the least. A level
/// of lists takes three steps and a call of 300 bytes, and a call of the template's takes some ten thousand.
pub(crate) const FEW_STEPS: u64 = 5_000;
pub(crate) const FEW_CALLS: usize = 20;

/// A conversation with more bytes of text is long.
pub(crate) const LONG: usize = 1 << 20;

/// The most steps for a conversation with so many bytes of text: a template may make 16 texts of the size of a long one.
pub(crate) fn most_steps(bytes: usize) -> u64 {
    match bytes > LONG {
        true => MOST_STEPS + bytes as u64 / 4,
        false => MOST_STEPS,
    }
}

/// Room for values as deep as so many steps can nest them. A value is freed by a call for each list that it stands in, of 300
/// bytes in the development profile.
const DEEP_STACK: usize = 1 << 30;

/// A template that is no longer than this cannot write more brackets than an ordinary stack has room for.
const SHORT: usize = 8 << 10;

/// Bytes of the longest template. It is parsed by calls in calls, of `not not …` one for four bytes and of `--…` one for each, and
/// there is room for so many.
const LONGEST: usize = 256 << 10;

/// Runs `parse` where there is room for what a template of this source can write in one another.
pub(crate) fn parse<T: Send>(
    source: &str,
    parse: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    let length = source.len();
    if length > LONGEST {
        return Err(format!("it has {length} bytes, expected at most {LONGEST}"));
    }
    match length > SHORT {
        true => with_deep_stack(parse)?,
        false => parse(),
    }
}

/// Whether a template might put a value into a list, that one into another, and so on: written out, or by what goes on from one
/// round of a loop or call to the next.
pub(crate) fn might_nest(source: &str) -> bool {
    const GROWING: [&str; 3] = ["namespace", "macro", "recursive"];
    source.len() > SHORT || GROWING.iter().any(|word| source.contains(word))
}

/// Runs `work` on a thread of its own, which has room for deep values. That takes longer than most renderings.
pub(crate) fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .stack_size(DEEP_STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| format!("no thread to render it on: {error}"))?;
        match thread.join() {
            Ok(done) => Ok(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// How deep values may stand in values that are written.
const DEEPEST_VALUE: usize = 150;

/// Pays for writing `value` and what stands in it, before anything is written: a list that stands in another list twice, and
/// so on, is short in memory and endless on paper. `each` and `deeper` are the bytes around every value, and those that each
/// level adds to them. Returned is about how many bytes are written.
pub(crate) fn pay(
    state: &State,
    value: &Value,
    each: usize,
    deeper: usize,
) -> Result<usize, Error> {
    fn walk(
        state: &State,
        value: &Value,
        depth: usize,
        around: usize,
        deeper: usize,
    ) -> Result<usize, Error> {
        if depth > DEEPEST_VALUE {
            let problem = format!("a value is more than {DEEPEST_VALUE} lists deep");
            return Err(Error::new(ErrorKind::InvalidOperation, problem));
        }
        let mut bytes = around + value.as_str().map_or(16, |text| 4 * text.len());
        state.consume_fuel(4 + bytes as u64 / 64)?;
        if !matches!(
            value.kind(),
            ValueKind::Seq | ValueKind::Map | ValueKind::Iterable
        ) {
            return Ok(bytes);
        }
        for element in value.try_iter()? {
            bytes += walk(state, &element, depth + 1, around + deeper, deeper)?;
            if value.kind() == ValueKind::Map {
                let of_key = value.get_item(&element).unwrap_or_default();
                bytes += walk(state, &of_key, depth + 1, around + deeper, deeper)?;
            }
        }
        Ok(bytes)
    }
    walk(state, value, 0, each, deeper)
}

/// Pays for what a text with fields in it makes of `values`, each of which any field may name, and refuses to fill up a field
/// to more than four digits' worth of characters. A field begins with `begin`: of `%`, or of `{` as in `str.format`.
pub(crate) fn pay_for_fields(
    state: &State,
    text: &str,
    begin: char,
    values: &[Value],
) -> Result<(), Error> {
    let mut bytes = 0;
    for value in values {
        bytes += pay(state, value, 0, 0)?;
    }
    let text = text.replace(&String::from(begin).repeat(2), "");
    let mut all = 0;
    for field in text.split(begin).skip(1) {
        let of_width = match begin {
            '%' => {
                let named = field.strip_prefix('(');
                let behind = named.and_then(|named| Some(named.split_once(')')?.1));
                let flags = behind.unwrap_or(field);
                flags.split(|c: char| !"0123456789#-+. ".contains(c)).next()
            }
            _ => field.split('}').next(),
        };
        all += bytes;
        for number in of_width
            .unwrap_or_default()
            .split(|c: char| !c.is_ascii_digit())
        {
            if number.len() > 4 {
                let problem = format!("a field is {number} characters wide, expected at most 9999");
                return Err(Error::new(ErrorKind::InvalidOperation, problem));
            }
            all += number.parse().unwrap_or(0);
        }
        state.consume_fuel(all as u64 / 64)?;
        all %= 64;
    }
    Ok(())
}

/// Pays for those methods of a text whose results may be longer than it, or many.
pub(crate) fn pay_for_method(
    state: &State,
    text: &str,
    name: &str,
    args: &[Value],
) -> Result<(), Error> {
    let argument = |place: usize| args.get(place).and_then(Value::as_str);
    let times = |part: Option<&str>| part.map_or(text.len(), |part| text.matches(part).count());
    // A value of a list takes 24 bytes, and its text as many more.
    let bytes = match name {
        "replace" => times(argument(0)).saturating_mul(argument(1).unwrap_or_default().len()),
        "split" => 48 * times(argument(0)),
        "splitlines" => 48 * times(Some("\n")),
        "format" => return pay_for_fields(state, text, '{', args),
        "join" => {
            let joined = args.first().cloned().unwrap_or_default();
            pay(state, &joined, text.len(), 0)?
        }
        _ => 0,
    };
    state.consume_fuel(bytes as u64 / 64)
}
