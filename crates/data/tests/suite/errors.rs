//! Bad input: every message names the place, what stands there and what is expected.

use std::path::PathBuf;

use panacea_data::{
    DataError, Format, Loader, ObjectiveSpec, RecordKind, Strength, fingerprint, load,
};
use serde_json::{Value, json};

use super::{Files, chosen, column, message, score, shorter};

/// The message of loading one file of pairs, without the folder.
fn error_of(name: &str, content: impl AsRef<[u8]>, objectives: &[ObjectiveSpec]) -> String {
    let files = Files::new();
    let file = files.write(name, content);
    match load(std::slice::from_ref(&file), objectives, RecordKind::Pair) {
        Ok((records, _)) => panic!("{} records", records.len()),
        Err(error) => message(&error, &file),
    }
}

/// The message of a field of the second of two rows.
fn field_error(good: Value, bad: Value) -> String {
    let text = error_of("data.jsonl", format!("{good}\n\n{bad}\n"), &[shorter()]);
    match text.strip_prefix("data.jsonl:3: ") {
        Some(rest) => rest.to_owned(),
        None => panic!("another place: {text}"),
    }
}

fn good() -> Value {
    json!({"prompt": "q", "chosen": "a", "rejected": "bb"})
}

#[test]
fn broken_json_is_named_by_line_and_column() {
    let content = format!("{}\n\n{{\"prompt\": \"q\", \"chosen\": \"a\"\n", good());
    assert_eq!(
        error_of("data.jsonl", content, &[shorter()]),
        "data.jsonl:3: broken JSON at column 29: EOF while parsing an object; \
         expected one JSON object per line, or one array of objects in the file"
    );
    let array = format!("\n[\n{},\n{{\"prompt\": ]\n", good());
    assert!(
        error_of("data.json", array, &[shorter()])
            .starts_with("data.json:4: broken JSON at column 12: expected value")
    );
    assert!(
        error_of("data.jsonl", "{\"a\": NaN}", &[shorter()])
            .starts_with("data.jsonl:1: broken JSON")
    );
}

#[test]
fn rows_that_are_no_objects() {
    assert_eq!(
        error_of("data.jsonl", "17\n", &[shorter()]),
        "data.jsonl:1: field `(the record)`: found the number 17, expected an object"
    );
    assert_eq!(
        error_of("data.json", "[[1, 2]]", &[shorter()]),
        "data.json:1: field `(the record)`: found a list of 2, expected an object"
    );
}

#[test]
fn records_without_prompt() {
    assert_eq!(
        field_error(good(), json!({"chosen": "a", "rejected": "b"})),
        "field `chosen`: found a record without prompt: no column for it, and `chosen` and `rejected` begin differently, \
         expected a `prompt` column, or texts that both begin with the prompt"
    );
    assert_eq!(
        field_error(
            good(),
            json!({"prompt": null, "chosen": "a", "rejected": "b"})
        ),
        "field `prompt`: found null, expected a value"
    );
    assert_eq!(
        field_error(
            good(),
            json!({"prompt": "  ", "chosen": "a", "rejected": "b"})
        ),
        "field `prompt`: found an empty text, expected a text with at least one character that is not blank"
    );
    assert_eq!(
        field_error(
            good(),
            json!({"prompt": [], "chosen": "a", "rejected": "b"})
        ),
        "field `prompt`: found a record without prompt, expected at least one turn before the answer"
    );
    let scored = json!({"prompt": "q", "responses": ["a", "bb"]});
    assert_eq!(
        field_error(scored.clone(), json!({"responses": ["a", "b"]})),
        "field `prompt`: found no such field among `responses`, expected a value"
    );
}

#[test]
fn empty_responses() {
    let expected =
        "found an empty text, expected a text with at least one character that is not blank";
    for (row, field) in [
        (
            json!({"prompt": "q", "chosen": "", "rejected": "b"}),
            "chosen",
        ),
        (
            json!({"prompt": "q", "chosen": "a", "rejected": " \n"}),
            "rejected",
        ),
    ] {
        assert_eq!(
            field_error(good(), row),
            format!("field `{field}`: {expected}")
        );
    }
    for (good, bad, field) in [
        (
            json!({"prompt": "q", "responses": ["a", "bb"]}),
            json!({"prompt": "q", "responses": ["a", ""]}),
            "responses[1]",
        ),
        (
            json!({"prompt": "q", "response_0": "a", "response_1": "bb"}),
            json!({"prompt": "q", "response_0": "", "response_1": "bb"}),
            "response_0",
        ),
        (
            json!({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: cc"}),
            json!({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant:"}),
            "rejected",
        ),
    ] {
        assert_eq!(
            field_error(good, bad),
            format!("field `{field}`: {expected}")
        );
    }
}

#[test]
fn fields_of_another_form() {
    let cases = [
        (
            good(),
            json!({"prompt": "q", "chosen": 7, "rejected": "b"}),
            "field `chosen`: found the number 7, expected a text or a turn of `assistant`",
        ),
        (
            good(),
            json!({"prompt": {"a": 1}, "chosen": "a", "rejected": "b"}),
            "field `prompt`: found an object with `a`, expected a text or a list of turns",
        ),
        (
            good(),
            json!({"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}], "chosen": "a", "rejected": "b"}),
            "field `prompt`: found a prompt whose last turn is of `assistant`, expected a turn of `user` or `tool` before the answer",
        ),
        (
            good(),
            json!({"prompt": [{"role": "narrator", "content": "q"}], "chosen": "a", "rejected": "b"}),
            "field `prompt[0].role`: found the speaker \"narrator\", expected `system`, `developer`, `user` (`human`, `prompter`), `assistant` (`gpt`, `bot`, `chatbot`, `ai`, `model`, `chatgpt`, `bing`, `bard`) or `tool` (`observation`, `function`, `function_response`, `tool_response`, `ipython`), or `function_call`",
        ),
        (
            good(),
            json!({"prompt": [{"role": "user", "content": [{"type": "image", "url": "x"}]}], "chosen": "a", "rejected": "b"}),
            "field `prompt[0].content[0]`: found an object with `type`, `url`, expected a part of `type` \"text\" with `text` or `value`",
        ),
        (
            good(),
            json!({"prompt": ["q"], "chosen": "a", "rejected": "b"}),
            "field `prompt[0]`: found the text \"q\", expected a turn: an object with `role` and `content`, or with `from` and `value`",
        ),
        (
            good(),
            json!({"prompt": "q", "chosen": [{"role": "user", "content": "a"}], "rejected": "b"}),
            "field `chosen`: found a turn of `user`, expected a turn of `assistant`",
        ),
        (
            good(),
            json!({
                "prompt": "q",
                "chosen": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}],
                "rejected": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "d"}]
            }),
            "field `chosen`: found several turns that do not repeat the question of the prompt column, expected one turn of `assistant`, or the whole conversation",
        ),
        (
            json!({"prompt": "q", "responses": ["a", "bb"]}),
            json!({"prompt": "q", "responses": ["a"]}),
            "field `responses`: found a list of 1, expected a list of two or more responses",
        ),
        (
            json!({"conversations": [{"from": "human", "value": "q"}], "chosen": "a", "rejected": "bb"}),
            json!({"conversations": [{"from": "function_call", "value": "q"}], "chosen": "a", "rejected": "bb"}),
            "field `conversations[0].value`: found the text \"q\", expected a call as JSON, {\"name\": .., \"arguments\": {..}}, or a list of them",
        ),
        (
            json!({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: cc"}),
            json!({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: other\n\nAssistant: cc"}),
            "field `rejected`: found a conversation that leaves the one of `chosen` at turn 1, expected the same turns before the last answer",
        ),
        (
            json!({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: cc"}),
            json!({"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "rejected": "\n\nHuman: a\n\nAssistant: cc"}),
            "field `chosen`: found a conversation that ends with a turn of `user`, expected a last turn of `assistant`",
        ),
        (
            json!({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: cc"}),
            json!({"chosen": "Speaker: a", "rejected": "\n\nHuman: a\n\nAssistant: cc"}),
            "field `chosen`: found a text that does not begin with \"Human:\", expected a transcript \"\\n\\nHuman: .. \\n\\nAssistant: ..\"",
        ),
    ];
    for (good, bad, expected) in cases {
        assert_eq!(field_error(good, bad), expected);
    }
}

#[test]
fn labels_of_another_form() {
    let error = |objective: ObjectiveSpec, row: Value| {
        error_of("data.jsonl", row.to_string(), &[objective])
    };
    let row = |scores: Value, better: Value| json!({"prompt": "q", "responses": ["a", "b"], "scores": scores, "better": better});
    assert_eq!(
        error(score("s"), row(json!({"s": [1, 2, 3]}), json!(0))),
        "data.jsonl:1: field `scores.s`: found a list of 3, expected a list of 2 numbers, one for each response"
    );
    assert_eq!(
        error(score("s"), row(json!({"s": [1, "2"]}), json!(0))),
        "data.jsonl:1: field `scores.s`: found a list with the text \"2\", expected a list of 2 numbers, one for each response; \
         write it without quotation marks"
    );
    assert_eq!(
        error(score("s"), row(json!(3), json!(0))),
        "data.jsonl:1: field `scores`: found the number 3, expected an object that holds a list of numbers for each score"
    );
    for bad in [json!(2), json!(-1), json!("a")] {
        let text = error(column("better"), row(json!({}), bad));
        assert!(
            text.starts_with("data.jsonl:1: field `better`: found the "),
            "{text}"
        );
        assert!(
            text.contains("expected the index of the preferred response (0 or 1)"),
            "{text}"
        );
    }
}

#[test]
fn an_objective_without_labels_is_named_with_what_there_is() {
    let row = json!({"prompt": "q", "responses": ["a", "b"], "scores": {"helpfulness": [1, 2], "depth": [2, 2]}});
    let of = |objective: ObjectiveSpec| {
        error_of(
            "data.jsonl",
            row.to_string(),
            &[score("helpfulness"), objective],
        )
    };
    assert_eq!(
        of(score("helpfullness")),
        "objective `helpfullness` has no labelled record: it reads score `helpfullness`, and of 1 pairs of responses 0 tie and 1 lack it; \
         the columns are `prompt`, `responses`, `scores`; the keys of `scores` are `depth`, `helpfulness`"
    );
    assert!(of(score("depth")).contains("of 1 pairs of responses 1 tie and 0 lack it"));
    assert!(of(column("safer")).contains("it reads column `safer`"));
    assert!(of(chosen()).ends_with(
        "a chosen/rejected order is there in formats with `chosen` and `rejected` only"
    ));
}

/// Scores in two columns are asked for by the name that both have in common.
#[test]
fn the_columns_of_two_sides_have_one_name() {
    let row = json!({"prompt": "q", "chosen": "a", "rejected": "b", "depth_chosen": 8.0, "depth_rejected": 3.5});
    let of = |objective| error_of("data.jsonl", row.to_string(), &[objective]);
    let expected = "the columns `depth_chosen` and `depth_rejected` are read by column = \"depth\"";
    assert!(of(score("depth")).ends_with(expected));
    for value in [json!(8.0), json!(0.25), json!(true)] {
        let row = json!({"prompt": "q", "chosen": "a", "rejected": "b", "depth_chosen": value, "depth_rejected": 1});
        let text = error_of("data.jsonl", row.to_string(), &[column("depth_chosen")]);
        let expected = "a score of one response, expected a column about both; column = \"depth\" reads the two that these scores have";
        assert!(text.ends_with(expected), "{text}");
    }
}

#[test]
fn unknown_columns_list_the_known_formats() {
    let text = error_of(
        "data.jsonl",
        json!({"frage": "q", "antwort": "a"}).to_string(),
        &[chosen()],
    );
    assert!(text.starts_with("data.jsonl:1: cannot tell the format from the columns `frage`, `antwort`: rename the columns, or set `format`"), "{text}");
    for format in Format::ALL {
        assert!(
            text.contains(&format!("`{format}`")),
            "{format} is not in: {text}"
        );
    }
}

#[test]
fn single_answers_with_a_verdict_are_not_taken_for_sft() {
    let files = Files::new();
    let row = |label: bool| json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": label});
    let file = [files.lines("kto.jsonl", &[row(true), row(false)])];
    let mut loader = Loader::new(RecordKind::Sft);
    let error = loader.load(&file, &[chosen()]).unwrap_err();
    assert!(
        error.to_string().contains("method.loss = \"kto\""),
        "{error}"
    );
    // What the message advises.
    loader.format = Some(Format::Messages);
    let (records, _) = loader.load(&file, &[column("label")]).unwrap();
    assert_eq!(records.len(), 1);
}

#[test]
fn pairs_are_needed_for_preferences() {
    let text = error_of(
        "data.jsonl",
        json!({"prompt": "q", "completion": "a"}).to_string(),
        &[chosen()],
    );
    assert_eq!(
        text,
        "data.jsonl:1: found one response (format `prompt-completion`), expected two: this loss needs pairs; \
         use a data set of pairs, or for single responses method.loss = \"kto\" (a column calls them good or bad) or \"sft\""
    );
    let files = Files::new();
    let file = files.lines("data.jsonl", &[json!({"prompt": "q", "completion": "a"})]);
    let error = load(&[file], &[shorter()], RecordKind::Sft).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("objective `shorter` reads rule `shorter` of records with one response"),
        "{error}"
    );
}

#[test]
fn files_that_cannot_be_read() {
    assert_eq!(
        error_of("data.csv", "a,b", &[chosen()]),
        "data.csv: found another name, expected a file whose name ends in .jsonl, .ndjson or .json (each also with .gz) or in .parquet"
    );
    assert_eq!(
        error_of("data.jsonl", "\n\n", &[chosen()]),
        "data.jsonl: found no record, expected at least one"
    );
    assert_eq!(
        error_of("data.json", "[]", &[chosen()]),
        "data.json: found no record, expected at least one"
    );
    assert!(
        error_of("data.jsonl.gz", "no gzip", &[chosen()])
            .starts_with("data.jsonl.gz: cannot read the file: line 1: ")
    );
    assert!(
        error_of("data.parquet", "no parquet", &[chosen()])
            .starts_with("data.parquet: cannot read the Parquet file: ")
    );
    let latin1 = [good().to_string().as_bytes(), b"\n\"\xe4\"\n"].concat();
    assert_eq!(
        error_of("data.jsonl", latin1, &[chosen()]),
        "data.jsonl:2: found bytes that are not UTF-8, from byte 2 of the line on; expected text in UTF-8"
    );

    let files = Files::new();
    let absent = files.path("absent.jsonl");
    let error = load(&[absent], &[chosen()], RecordKind::Pair).unwrap_err();
    assert!(matches!(error, DataError::Read { .. }));
    let folder = files.path("folder.jsonl");
    std::fs::create_dir(&folder).unwrap();
    let error = load(&[folder], &[chosen()], RecordKind::Pair).unwrap_err();
    assert!(error.to_string().contains("found a folder"), "{error}");
}

#[test]
fn objectives_that_cannot_be() {
    let spec = |value: Value| {
        serde_json::from_value::<ObjectiveSpec>(value)
            .unwrap_err()
            .to_string()
    };
    let expected = "expected exactly one of `score`, `column`, `chosen = true`, `rule`";
    for (value, found) in [
        (json!({"name": "n"}), "found none of them"),
        (json!({"name": "n", "chosen": false}), "found none of them"),
        (
            json!({"name": "n", "score": "a", "rule": "longer"}),
            "found score `a` and rule `longer`",
        ),
    ] {
        let text = spec(value);
        assert!(
            text.starts_with(&format!("objective `n`: {found}, {expected}")),
            "{text}"
        );
    }
    assert!(spec(json!({"name": "n", "scores": "a"})).contains("unknown field `scores`"));
    assert!(spec(json!({"name": "n", "rule": "nicer"})).contains("unknown variant `nicer`"));
    assert!(spec(json!({"name": " ", "chosen": true})).contains("found an empty text"));
    assert!(
        spec(json!({"name": "n", "chosen": true, "train": 3}))
            .contains("a path or a list of paths")
    );
    assert!(
        spec(json!({"name": "n", "rule": "longer", "strength": "bradley-terry"}))
            .contains("found rule `longer`")
    );

    let load_with = |files: &[PathBuf], objectives: &[ObjectiveSpec]| {
        load(files, objectives, RecordKind::Pair)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        load_with(&[], &[]),
        "found no objective, expected at least one"
    );
    assert_eq!(
        load_with(&["a.jsonl".into()], &[chosen(), chosen()]),
        "objective `chosen` is there twice; expected different names"
    );
    assert_eq!(
        load_with(&[], &[chosen()]),
        "objective `chosen` has no data for train: name shared files, or its own in `train = [..]`"
    );
    let mut own = chosen();
    own.train = vec!["own.jsonl".into()];
    assert_eq!(
        load_with(&["shared.jsonl".into()], &[own.clone()]),
        "no objective reads shared.jsonl: each has its own `train` files; remove the one or the other"
    );
    own.strength = Strength::BradleyTerry;
    assert!(load_with(&[], &[own]).contains("only these say how much better a response is"));
}

#[test]
fn fingerprints_are_sha_256() {
    let files = Files::new();
    let file = files.write("data.jsonl", "abc");
    // FIPS 180-2, appendix B.1.
    assert_eq!(
        fingerprint(&file).unwrap(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert!(fingerprint(&files.path("absent")).is_err());
}

#[test]
fn pointers_of_git_lfs_are_called_so() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 538090408\n";
    for name in ["data.jsonl", "data.parquet", "data.json.gz"] {
        assert_eq!(
            error_of(name, pointer, &[shorter()]),
            format!(
                "{name}: a Git LFS pointer, not the file itself: fetch it with `git lfs pull` in that repository"
            )
        );
    }
}
