//! Files that are scored or answered: read without objectives, and as training reads its own.

use std::path::Path;

use panacea_data::{
    BadRecords, Conversations, DataError, DataReport, Example, Format, Responses, Tolerance,
};
use serde_json::{Value, json};

use super::tokens::Characters;
use super::{Files, message, turns};

/// As they are read where nobody says how.
pub(super) fn conversations(responses: Responses) -> Conversations {
    Conversations {
        responses,
        format: None,
        tolerance: Tolerance::default(),
        as_written: false,
        context: 1000,
    }
}

fn skipping(responses: Responses) -> Conversations {
    Conversations {
        tolerance: Tolerance {
            bad_records: BadRecords::Skip,
            max_skipped: 0.5,
        },
        ..conversations(responses)
    }
}

fn read(
    how: Conversations,
    rows: &[Value],
) -> Result<(Vec<Example>, DataReport), (DataError, String)> {
    let files = Files::new();
    let file = files.lines("data.jsonl", rows);
    how.load(&file, &Characters).map_err(|error| {
        let said = message(&error, &file);
        (error, said)
    })
}

fn answered(how: Conversations, rows: &[Value]) -> (Vec<Example>, DataReport) {
    read(how, rows).unwrap()
}

#[test]
fn they_are_read_without_objectives() {
    let rows = [
        json!({"prompt": "a"}),
        json!({"prompt": [{"role": "human", "content": "b"}], "tools": []}),
    ];
    let (found, report) = answered(conversations(Responses::Unread), &rows);
    assert_eq!(found[0].words.prompt, turns(&[("user", "a")]));
    assert_eq!(found[1].words.prompt, turns(&[("user", "b")]));
    assert_eq!(json!(found[1].words.variables), json!({"tools": []}));
    assert!(found[0].words.responses.is_empty() && found[0].responses.is_empty());
    assert!(report.notes.is_empty());
    for row in [
        json!({"prompt": "a", "response": "b"}),
        json!({"question": "a", "completion": [{"role": "assistant", "content": "b"}]}),
        json!({"instruction": "a", "output": "b"}),
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
    ] {
        let row = std::slice::from_ref(&row);
        for (responses, count) in [(Responses::Needed, 1), (Responses::Unread, 0)] {
            let (found, _) = answered(conversations(responses), row);
            assert_eq!(found[0].words.prompt, turns(&[("user", "a")]));
            assert_eq!(found[0].words.responses, ["b"][..count]);
            assert_eq!(found[0].responses.len(), count);
            assert_eq!(found[0].source.line, 1);
        }
    }
    let open = json!({"prompt": "Human: a\n\nAssistant:"});
    let rows = [open.clone(), open];
    let (_, report) = answered(conversations(Responses::Unread), &rows);
    assert_eq!(report.notes.values().collect::<Vec<_>>(), [&2]);
    let as_written = Conversations {
        as_written: true,
        ..conversations(Responses::Unread)
    };
    let (found, _) = answered(as_written, &rows);
    let text = "Human: a\n\nAssistant:";
    assert_eq!(found[1].words.prompt, turns(&[("user", text)]));
}

#[test]
fn what_cannot_be_read_is_refused_with_file_and_line() {
    for (rows, responses, expected) in [
        (
            vec![json!({"prompt": "a"})],
            Responses::Needed,
            "data.jsonl:1: cannot tell the format",
        ),
        (
            vec![json!({"text": "a"})],
            Responses::Unread,
            "data.jsonl:1: cannot tell the format",
        ),
        (
            vec![json!({"prompt": "a"}), json!({"prompt": " "})],
            Responses::Unread,
            "data.jsonl:2: field `prompt`: found an empty text",
        ),
        (
            vec![json!({"prompt": "a", "response": ""})],
            Responses::Needed,
            "data.jsonl:1: field `response`: found an empty text",
        ),
        (
            vec![json!({"prompt": "a"}), json!({"prompt": "#"})],
            Responses::Unread,
            "data.jsonl:2: the prompt cannot be tokenised: the template knows no #",
        ),
        // Unlike in training, no response is only there for its words.
        (
            vec![json!({"prompt": "a", "response": "b$"})],
            Responses::Needed,
            "data.jsonl:1: the response cannot be tokenised: a $ inside",
        ),
        (vec![], Responses::Unread, "data.jsonl: found no record"),
    ] {
        let (_, said) = read(conversations(responses), &rows).unwrap_err();
        assert!(said.starts_with(expected), "{said}");
    }
}

/// What the model reads at once has room for the longest response, or for the first token of an answer.
#[test]
fn what_is_longer_than_the_model_reads_is_refused() {
    let row = [json!({"prompt": "abc", "responses": ["de", "f"]})];
    // `<uabc>` and `de$`.
    for (responses, tokens) in [(Responses::Needed, 9), (Responses::Unread, 7)] {
        let within = |context| Conversations {
            context,
            format: Some(Format::Scored),
            ..conversations(responses)
        };
        assert_eq!(answered(within(tokens), &row).0.len(), 1);
        let (_, said) = read(within(tokens - 1), &row).unwrap_err();
        let expected = format!(
            "data.jsonl:1: found {tokens} tokens with the answer, expected at most {}",
            tokens - 1
        );
        assert!(said.starts_with(&expected), "{said}");
    }
}

#[test]
fn bad_records_are_skipped_and_counted_where_that_is_asked_for() {
    let good = json!({"prompt": "a", "response": "b"});
    let rows = [
        good.clone(),
        json!({"prompt": " ", "response": "b"}),
        good.clone(),
        json!({"prompt": "#", "response": "b"}),
        json!({"prompt": "a".repeat(100), "response": "b"}),
        good,
    ];
    let short = Conversations {
        context: 50,
        ..skipping(Responses::Needed)
    };
    let (found, report) = answered(short, &rows);
    let lines: Vec<usize> = found.iter().map(|record| record.source.line).collect();
    assert_eq!(lines, [1, 3, 6]);
    assert_eq!((report.read, report.kept), (6, 3));
    let said = report.to_string();
    for expected in [
        "records     6 read, 3 kept\n",
        "skipped     1: a field cannot be used (",
        "skipped     1: more tokens than the model reads (",
        "skipped     1: the template or tokenizer refuses them (",
        "tokens      12 in prompts (longest 4), 6 in responses (longest 2)\n",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    assert!(!said.contains("objective") && !said.contains("truncated"));

    let few = Conversations {
        tolerance: Tolerance {
            max_skipped: 0.3,
            ..short.tolerance
        },
        ..short
    };
    let (error, said) = read(few, &rows).unwrap_err();
    assert!(
        matches!(error, DataError::TooManyRefused { refused: 3, .. }),
        "{said}"
    );
    let all = Conversations {
        tolerance: Tolerance {
            max_skipped: 1.0,
            ..short.tolerance
        },
        ..short
    };
    let (_, said) = read(all, &rows[1..2]).unwrap_err();
    let expected = "data.jsonl: no record is left of 1: 1 a field cannot be used";
    assert!(said.starts_with(expected), "{said}");
}

/// A named format is that of every record, whatever the columns look like.
#[test]
fn a_format_is_taken_at_its_word() {
    let row = [
        json!({"prompt": "a", "response": "b", "messages": [{"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"}]}),
    ];
    for (format, prompt) in [
        (None, "c"),
        (Some(Format::Messages), "c"),
        (Some(Format::PromptCompletion), "a"),
    ] {
        let how = Conversations {
            format,
            ..conversations(Responses::Needed)
        };
        let (found, _) = answered(how, &row);
        assert_eq!(found[0].words.prompt, turns(&[("user", prompt)]));
    }
}

#[test]
fn a_text_has_a_prompt_on_each_line() {
    let lines = |content: &[u8], how: Conversations| {
        let found = how.load_lines(Path::new("prompts.txt"), content, &Characters);
        found.map_err(|error| error.to_string())
    };
    let unread = conversations(Responses::Unread);
    let text = "\u{feff}When?\r\n \r\n {\"a\": 1} \nWhy?";
    let (found, report) = lines(text.as_bytes(), unread).unwrap();
    let said: Vec<_> = found
        .iter()
        .map(|record| (record.source.line, record.words.prompt[0].text()))
        .collect();
    assert_eq!(said, [(1, "When?"), (3, " {\"a\": 1} "), (4, "Why?")]);
    assert_eq!((report.read, report.kept), (3, 3));

    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 538\n";
    for (content, expected) in [
        (
            &b"a\ncaf\xe9\n"[..],
            "prompts.txt:2: found bytes that are not UTF-8, from byte 4",
        ),
        (b"a\n\n#\n", "prompts.txt:3: the prompt cannot be tokenised"),
        (
            b" \n\n",
            "prompts.txt: found no prompt, expected one on each line",
        ),
        (
            pointer,
            "prompts.txt: a Git LFS pointer, not the file itself: fetch it with `git lfs pull`",
        ),
    ] {
        let said = lines(content, unread).unwrap_err();
        assert!(said.starts_with(expected), "{said}");
    }
    let (found, report) = lines(b"a\ncaf\xe9\nb\n#\n", skipping(Responses::Unread)).unwrap();
    assert_eq!((found.len(), report.read, report.skipped.len()), (2, 4, 2));
}

/// Standard input has no name that says what it is.
#[test]
fn a_text_without_a_name_is_told_by_its_beginning() {
    for (text, is_json) in [
        ("a\nb\n", false),
        ("[1] a\n{b}\n", false),
        ("", false),
        ("\n {\"prompt\": \"a\"}\n", true),
        ("\u{feff}{\"prompt\"", true),
        ("[\n {\"prompt\": \"a\"}]", true),
    ] {
        assert_eq!(Conversations::begin(text.as_bytes()), is_json, "{text}");
    }
    let read = |text: &str| {
        conversations(Responses::Needed)
            .load_json(Path::new("standard input"), text.as_bytes(), &Characters)
            .map(|(found, report)| (found.len(), report.files[0].records))
            .map_err(|error| error.to_string())
    };
    let record = "{\"prompt\": \"a\", \"response\": \"b\"}";
    assert_eq!(read(&format!("{record}\n\n{record}")), Ok((2, 2)));
    assert_eq!(read(&format!("[{record}]")), Ok((1, 1)));
    for (text, expected) in [
        (format!("{record}\nb\n"), "standard input:2: broken JSON"),
        (String::new(), "standard input: found no record"),
        (
            "version https://git-lfs.github.com/spec/v1\n".to_owned(),
            "standard input: a Git LFS pointer",
        ),
    ] {
        let said = read(&text).unwrap_err();
        assert!(said.starts_with(expected), "{said}");
    }
}
