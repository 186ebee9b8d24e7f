//! The number in what a judge replies. It is read, never guessed: whoever says nothing that is surely the score has said none.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// The key that holds the score where a judge replies in JSON.
pub(crate) const KEY: &str = "score";

/// The score in a reply, on a scale from `low` to `high`: the reply as a whole, `n/high`, or JSON with [`KEY`]; otherwise the
/// number behind the last label (`Score:`, `Rating:`, `Overall:` and the like) in it. Nothing where there is none of these, or it
/// is not on the scale.
fn read(reply: &str, [low, high]: [f64; 2]) -> Option<f64> {
    // Without Markdown's stars.
    let reply = said(reply).replace('*', "");
    let reply = reply.trim();
    let score = match serde_json::from_str::<Value>(without_fence(reply)) {
        Ok(Value::Object(fields)) => number_of(fields.get(KEY)?, high),
        Ok(Value::Array(_)) => None,
        // Text that holds no JSON, and numbers.
        _ => number(reply, high).or_else(|| behind_the_last_label(reply, high)),
    };
    score.filter(|score| (low..=high).contains(score))
}

/// What a judge has replied.
pub(crate) struct Reply {
    pub text: String,
    /// Whether the server has cut it.
    is_cut: bool,
}

impl Reply {
    /// [`read`], but that of a reply that was cut the number at its end may go on.
    pub(crate) fn score(&self, scale: [f64; 2]) -> Option<f64> {
        let may_go_on = |c: char| c.is_ascii_digit() || c == '.';
        let may_go_on = self.is_cut && self.text.ends_with(may_go_on);
        read(&self.text, scale).filter(|_| !may_go_on)
    }
}

/// What a judge says in the body of an answer, without what it thinks first, be that in the text or beside it. Empty where it has
/// only thought.
pub(crate) fn reply(body: &str) -> Option<Reply> {
    let body: Value = serde_json::from_str(body).ok()?;
    let content = match body
        .pointer("/choices/0/message")?
        .as_object()?
        .get("content")
    {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part["text"].as_str());
            texts.collect()
        }
        Some(Value::Null) | None => String::new(),
        Some(_) => return None,
    };
    let reason = body.pointer("/choices/0/finish_reason");
    Some(Reply {
        text: said(&content).to_owned(),
        is_cut: reason.and_then(Value::as_str) == Some("length"),
    })
}

/// A reply without what a reasoning model thinks first; nothing where it was cut while it thought.
pub(crate) fn said(reply: &str) -> &str {
    match reply.rsplit_once("</think>") {
        Some((_, said)) => said.trim(),
        None if reply.trim_start().starts_with("<think>") => "",
        None => reply.trim(),
    }
}

/// What stands between the lines of a code fence, if that is the reply.
fn without_fence(reply: &str) -> &str {
    let fenced = reply
        .strip_prefix("```")
        .and_then(|it| it.strip_suffix("```"));
    let Some((_language, inside)) = fenced.and_then(|it| it.split_once('\n')) else {
        return reply;
    };
    inside.trim()
}

fn number_of(value: &Value, high: f64) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => number(text.trim(), high),
        _ => None,
    }
}

/// A text that is a number and nothing else, or `n/high`; a full stop may follow.
fn number(text: &str, high: f64) -> Option<f64> {
    let (score, rest) = first_number(text, high)?;
    matches!(rest.trim(), "" | ".").then_some(score)
}

/// The number behind the last label, unless it is the beginning of a range or of something else.
fn behind_the_last_label(text: &str, high: f64) -> Option<f64> {
    // `Score:`, `**Overall score** (1-10) =`, `"rating":`, `Rating - 7` is none: it may be minus 7.
    static LABEL: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r#"(?i)\b(?:scores?|ratings?|overall|grade)["'_]*(?:\s*\([^()\n]*\))?["'_]*\s*[:=]\s*["'_]*"#;
        Regex::new(pattern).expect("a valid pattern")
    });
    let label = LABEL.find_iter(text).last()?;
    let (score, rest) = first_number(&text[label.end()..], high)?;
    // A key of JSON, whose value goes on until something ends it.
    if label.as_str().contains('"') && matches!(rest.trim(), "" | ".") {
        return None;
    }
    // `7 or 8`, `1-10`, `80%`, `3 issues` and `4 (out of 5)` are no score; a sentence may follow, without another number.
    static END: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r#"^["'_\s]*(?:$|[.,;}(\x{2013}\x{2014}-][^0-9]*$)"#;
        Regex::new(pattern).expect("a valid pattern")
    });
    let rest_of_line = rest.lines().next().unwrap_or_default();
    END.is_match(rest_of_line).then_some(score)
}

/// The number that a text begins with, written `n`, `n/high` or `n out of high`, and what follows it.
fn first_number(text: &str, high: f64) -> Option<(f64, &str)> {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r"^([-+]?\d+(?:\.\d+)?)(?:\s*(?:/|(?:out )?of)\s*(\d+(?:\.\d+)?))?";
        Regex::new(pattern).expect("a valid pattern")
    });
    let found = NUMBER.captures(text)?;
    let score = found[1].parse().ok()?;
    if let Some(most) = found.get(2)
        && most.as_str().parse() != Ok(high)
    {
        return None;
    }
    let rest = &text[found[0].len()..];
    // `7.x` and `7,5` go on.
    let goes_on = |mark: char| {
        rest.strip_prefix(mark)
            .is_some_and(|it| it.starts_with(|c: char| c.is_alphanumeric()))
    };
    (!goes_on('.') && !goes_on(',')).then_some((score, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_is_read_where_it_is_surely_one() {
        let cases = [
            ("7", 7.0),
            (" 8.5.\n", 8.5),
            ("**9**", 9.0),
            ("8/10", 8.0),
            ("8 / 10.", 8.0),
            ("7.5 out of 10", 7.5),
            ("<think>3? No, 2 reasons.</think>\n4", 4.0),
            (r#"{"score": 6}"#, 6.0),
            (r#"{"reasons": "2 of them", "score": "7/10"}"#, 7.0),
            ("```json\n{\"score\": 5}\n```", 5.0),
            ("**Rating:** 6", 6.0),
            ("There are 2 reasons: it is short and polite. Score: 9", 9.0),
            (
                "Score: 3 for tone.\nScore: 4 for length.\nOverall: 5/10",
                5.0,
            ),
            ("Overall score (1-10): 8. It is polite.", 8.0),
            ("__Final rating__ = 2", 2.0),
            ("I reply {\"score\": 3} as asked.", 3.0),
            ("Score: 7, because it is kind.", 7.0),
            ("Score: 8 - it is polite", 8.0),
            ("Rating: 9\n- it is polite\n- 2 words", 9.0),
            ("Grade: 6 of 10, no more", 6.0),
        ];
        for (reply, expected) in cases {
            assert_eq!(read(reply, [1.0, 10.0]), Some(expected), "{reply}");
        }
        assert_eq!(read("-2", [-5.0, 5.0]), Some(-2.0));
        assert_eq!(read("Score: -0.5", [-1.0, 1.0]), Some(-0.5));
    }

    #[test]
    fn what_may_be_something_else_is_not_read() {
        let cases = [
            "",
            "I cannot judge that.",
            "<think>Score: 3? It is cut",
            "On a scale from 1 to 10, I would give this response an 8.",
            "2 reasons",
            "11",
            "0",
            "4/5",
            "8,5",
            "80%",
            "7 or 8",
            "1-10",
            "Score: 1-10",
            "Score: 7 or 8",
            "Score: 7 to 8",
            "Score: 7, maybe 8",
            "Score: 7; or 8",
            "Score: 7 (or maybe 8)",
            "Score: 7 – perhaps an 8",
            "Score: 4 (out of 5)",
            "Score: 4 stars out of 5",
            "Score: 1 = worst, 10 = best. My verdict: nine",
            "Overall: 2 issues were found.",
            "Overall: 3 strengths and one weakness, so I give it an 8.",
            "Score: 70%",
            "Score: 4/5",
            "Score: 12",
            "Score: 7th of all",
            "Score: 3. Rating: none",
            r#"{"score": 1"#,
            r#"{"score": 8."#,
            "I reply {\"score\": 3",
            r#"{"score": null}"#,
            r#"{"score": true}"#,
            r#"{"points": 7}"#,
            r#"{"points": 7, "note": "score: 8"}"#,
            "[7, 8]",
            r#"[{"score": 3}, {"score": 9}]"#,
            "nan",
            "1e999",
        ];
        for reply in cases {
            assert_eq!(read(reply, [1.0, 10.0]), None, "{reply}");
        }
    }

    /// What the server's limit ends may have gone on: 1 for 10, 8 for 8.5.
    #[test]
    fn a_number_at_the_end_of_a_cut_reply_is_not_read() {
        let score = |content: &str, finish_reason: &str| {
            let choice = serde_json::json!({"message": {"content": content}, "finish_reason": finish_reason});
            let body = serde_json::json!({"choices": [choice]}).to_string();
            reply(&body).unwrap().score([1.0, 10.0])
        };
        for content in ["1", "Score: 1", "Score: 8.", "Score: 4/1"] {
            assert_eq!(score(content, "length"), None, "{content}");
        }
        assert_eq!(score("Score: 8", "stop"), Some(8.0));
        assert_eq!(score("Score: 8, since it is", "length"), Some(8.0));
        assert_eq!(score("{\"score\": 8}", "length"), Some(8.0));
    }

    proptest::proptest! {
        #[test]
        fn only_what_stands_alone_behind_a_label_is_read(
            words in "[a-z ]{0,20}[.\n]",
            tenths in 10..=100_i32,
            other in 0..20_i32,
            anything in ".*",
        ) {
            let number = f64::from(tenths) / 10.0;
            let scale = [1.0, 10.0];
            let read = |reply: String| super::read(&reply, scale);
            proptest::prop_assert_eq!(read(format!("{words} Score: {number}")), Some(number));
            for beside in ["or", "to", "-", "(or", ", maybe", "out of 7, which is"] {
                proptest::prop_assert_eq!(read(format!("{words} Score: {number} {beside} {other}")), None);
            }
            if let Some(score) = read(anything) {
                proptest::prop_assert!((scale[0]..=scale[1]).contains(&score));
            }
        }
    }
}
