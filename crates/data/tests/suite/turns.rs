//! What turns have beside a text, what stands beside a conversation, and turns that are kept as texts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use panacea_data::{DataReport, Loader, Record, RecordKind, Responses, load};
use panacea_pretrained::{Content, Message};
use serde_json::{Value, json};

use super::conversations::conversations;
use super::tokens::Characters;
use super::{Files, chosen, load_pairs, message, score, shorter, turns};

fn pair(prompt: Value) -> Value {
    json!({"prompt": prompt, "chosen": "At seven.", "rejected": "No idea."})
}

fn with(mut row: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    row.as_object_mut().unwrap().extend(more);
    row
}

/// The only record of a row, and the report.
fn read(row: Value) -> (Record, DataReport) {
    let (mut records, report) = load_pairs(&[row], &[chosen()]).unwrap();
    assert_eq!(records.len(), 1);
    (records.remove(0), report)
}

/// Why a row of pairs is refused.
fn refused(row: Value) -> String {
    let files = Files::new();
    let file = files.lines("data.jsonl", &[row]);
    let error = load(std::slice::from_ref(&file), &[chosen()], RecordKind::Pair).unwrap_err();
    message(&error, &file)
}

fn as_json(messages: &[Message]) -> Value {
    serde_json::to_value(messages).unwrap()
}

/// A call, with a null that says something.
fn calls() -> Value {
    json!([{"id": "c1", "type": "function", "function": {"name": "hours", "arguments": {"z": 1, "a": null}}}])
}

#[test]
fn every_key_of_a_turn_is_kept_in_its_order() {
    let talk = json!([
        {"role": "user", "content": "When?", "name": "Ann"},
        {"role": "assistant", "content": null, "tool_calls": calls(), "refusal": null},
        {"role": "tool", "tool_call_id": "c1", "content": "07:00", "weight": 0},
        {"role": "assistant", "reasoning_content": "hm", "tool_calls": []},
        {"role": "user", "content": "Thanks."}
    ]);
    let (record, report) = read(pair(talk));
    let expected = json!([
        {"role": "user", "content": "When?", "name": "Ann"},
        {"role": "assistant", "content": null, "tool_calls": calls()},
        {"role": "tool", "content": "07:00", "tool_call_id": "c1", "weight": 0},
        {"role": "assistant", "reasoning_content": "hm", "tool_calls": []},
        {"role": "user", "content": "Thanks."}
    ]);
    assert_eq!(as_json(&record.prompt).to_string(), expected.to_string());
    assert_eq!(record.prompt[3].content, Content::Absent);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn an_answer_is_a_turn_with_all_it_has() {
    let files = Files::new();
    let row = json!({"messages": [
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": null, "tool_calls": calls()}
    ]});
    let file = files.lines("data.jsonl", &[row]);
    let (records, _) = load(&[file], &[chosen()], RecordKind::Sft).unwrap();
    let answer = &records[0].responses[0];
    assert_eq!(
        serde_json::to_value(answer).unwrap(),
        json!({"content": null, "tool_calls": calls()})
    );
    let thinks = json!([{"role": "assistant", "content": "At seven.", "reasoning_content": "hm"}]);
    let (record, _) = read(json!({"prompt": "When?", "chosen": thinks, "rejected": "At seven."}));
    assert_eq!(record.responses[0].text(), record.responses[1].text());
    assert_ne!(record.responses[0], record.responses[1]);
    assert_eq!(record.responses[1], "At seven.");
}

#[test]
fn conversations_that_differ_beside_their_texts_are_two() {
    let talk = |id: u8, answer: &str| json!([{"role": "user", "content": "a", "id": id}, {"role": "assistant", "content": answer}]);
    let (record, _) = read(json!({"chosen": talk(1, "b"), "rejected": talk(1, "c")}));
    assert_eq!(json!(record.prompt[0].more), json!({"id": 1}));
    let said = refused(json!({"chosen": talk(1, "b"), "rejected": talk(2, "c")}));
    assert!(
        said.contains("leaves the one of `chosen` at turn 1, in `id`"),
        "{said}"
    );
}

#[test]
fn a_turn_without_text_has_something_else() {
    for turn in [
        json!({"role": "assistant", "content": null}),
        json!({"role": "assistant"}),
        json!({"role": "assistant", "content": null, "tool_calls": null}),
    ] {
        let talk =
            json!([{"role": "user", "content": "a"}, turn, {"role": "user", "content": "b"}]);
        let said = refused(pair(talk));
        assert!(
            said.starts_with("data.jsonl:1: field `prompt[1]`: found an object with"),
            "{said}"
        );
        assert!(said.contains("expected a turn"), "{said}");
    }
    let said = refused(
        json!({"prompt": "a", "chosen": [{"role": "assistant", "content": ""}], "rejected": "b"}),
    );
    assert!(said.contains("`chosen`: found an empty text"), "{said}");
}

#[test]
fn speakers_have_one_name_each() {
    for (names, role) in [
        (&["user", "human", "Human", "prompter"][..], "user"),
        (
            &[
                "assistant",
                "gpt",
                "bot",
                "chatbot",
                "ai",
                "model",
                "chatgpt",
                "bing",
                "bard",
            ],
            "assistant",
        ),
        (
            &[
                "tool",
                "observation",
                "function",
                "function_response",
                "tool_response",
                "ipython",
            ],
            "tool",
        ),
        (&["system", "SYSTEM"], "system"),
        (&["developer"], "developer"),
    ] {
        for name in names {
            for [speaker, text] in [["role", "content"], ["from", "value"]] {
                let first = json!({speaker: name, text: "x"});
                let (record, _) = read(pair(json!([first, {"role": "user", "content": "y"}])));
                assert_eq!(
                    record.prompt,
                    turns(&[(role, "x"), ("user", "y")]),
                    "{name}"
                );
            }
        }
    }
    let said = refused(pair(json!([{"role": "narrator", "content": "q"}])));
    for known in [
        "\"narrator\"",
        "`human`",
        "`gpt`",
        "`observation`",
        "`function_call`",
    ] {
        assert!(said.contains(known), "{known}: {said}");
    }
}

/// LLaMA-Factory's form of calls.
#[test]
fn a_function_call_is_the_assistants() {
    let row = |call: Value| {
        let talk = json!([
            {"from": "human", "value": "When?"},
            {"from": "function_call", "value": call},
            {"from": "observation", "value": "07:00"}
        ]);
        json!({"conversations": talk, "chosen": "At seven.", "rejected": "No."})
    };
    let call = json!({"name": "hours", "arguments": {"place": "bakery"}});
    let function = json!({"type": "function", "function": call});
    for (given, calls) in [
        (call.to_string().into(), json!([function])),
        (call.clone(), json!([function])),
        (
            json!([call, call]).to_string().into(),
            json!([function, function]),
        ),
    ] {
        let (record, _) = read(row(given));
        let expected = json!([
            {"role": "user", "content": "When?"},
            {"role": "assistant", "content": null, "tool_calls": calls},
            {"role": "tool", "content": "07:00"}
        ]);
        assert_eq!(as_json(&record.prompt), expected);
    }
    for wrong in [
        json!("hours()"),
        json!("[]"),
        json!({"arguments": {}}),
        json!(7),
    ] {
        let said = refused(row(wrong));
        assert!(
            said.contains("`conversations[1].value`") && said.contains("a call as JSON"),
            "{said}"
        );
    }
}

#[test]
fn what_stands_beside_a_conversation_is_the_templates() {
    let tools = json!([{"type": "function", "function": {"name": "hours"}}]);
    let documents = json!([{"title": "t", "text": "x"}]);
    let row = with(
        pair(json!("q")),
        json!({
            "tools": tools, "documents": documents, "chat_template_kwargs": {"enable_thinking": false}
        }),
    );
    let expected = json!({"enable_thinking": false, "tools": tools, "documents": documents});
    assert_eq!(json!(read(row).0.variables), expected);
    let texts = json!({"tools": tools.to_string(), "chat_template_kwargs": "{\"x\": 1}"});
    assert_eq!(
        json!(read(with(pair(json!("q")), texts)).0.variables),
        json!({"x": 1, "tools": tools})
    );
    let nothing = json!({"tools": "", "documents": null, "chat_template_kwargs": null});
    assert!(read(with(pair(json!("q")), nothing)).0.variables.is_empty());
    for (column, value, expected) in [
        ("tools", json!("hammer"), "a list of tools"),
        ("tools", json!({"a": 1}), "a list of tools"),
        (
            "chat_template_kwargs",
            json!([1]),
            "variables of the chat template",
        ),
        (
            "chat_template_kwargs",
            json!({"messages": []}),
            "comes from the conversation",
        ),
        ("images", json!(["a.png"]), "only text is read"),
        ("audios", json!("a.wav"), "only text is read"),
    ] {
        let said = refused(with(pair(json!("q")), json!({column: value})));
        assert!(
            said.contains(&format!("field `{column}")) && said.contains(expected),
            "{said}"
        );
    }
    // A column that is there for other rows.
    read(with(
        pair(json!("q")),
        json!({"images": [], "videos": null}),
    ));
}

#[test]
fn nothing_beside_a_conversation_is_lost_without_a_word() {
    let row = json!({
        "instruction": "c?", "input": "more", "history": [["a", "b"]], "system": "Be brief.",
        "chosen": "At seven.", "rejected": "No idea.", "id": 7, "context": "Mill Street", "empty": null,
        "scores": {"s": [1, 2]}
    });
    let files = Files::new();
    let file = files.lines("data.jsonl", &[row]);
    let (records, report) =
        load(std::slice::from_ref(&file), &[chosen()], RecordKind::Pair).unwrap();
    let expected = [
        ("system", "Be brief."),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c?\nmore"),
    ];
    assert_eq!(records[0].prompt, turns(&expected));
    let unread = |report: &DataReport| -> Vec<String> {
        report.files[0].unread_columns.keys().cloned().collect()
    };
    assert_eq!(unread(&report), ["context", "id", "scores"]);
    assert!(
        report
            .to_string()
            .contains("not read: `context`, `id`, `scores`\n"),
        "{report}"
    );
    let (_, report) = load(&[file], &[chosen(), score("s")], RecordKind::Pair).unwrap();
    assert_eq!(unread(&report), ["context", "id"]);

    let hh = json!({"chosen": "Human: a\n\nAssistant: b", "rejected": "Human: a\n\nAssistant: c", "system": "S"});
    assert_eq!(read(hh).0.prompt, turns(&[("system", "S"), ("user", "a")]));
    let talk = |answer: &str| json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": answer}]);
    let whole =
        json!({"chosen_messages": talk("b"), "rejected_messages": talk("c"), "system": "S"});
    assert_eq!(
        read(whole).0.prompt,
        turns(&[("system", "S"), ("user", "a")])
    );

    let told = json!([{"role": "system", "content": "One."}, {"role": "user", "content": "a"}]);
    let (_, report) = read(with(pair(told.clone()), json!({"system": " One. "})));
    assert!(report.notes.is_empty());
    let (_, report) = read(with(pair(told), json!({"system": "Two."})));
    assert!(
        report
            .to_string()
            .contains("1 records: the column `system` says something else"),
        "{report}"
    );
}

#[test]
fn turns_in_json_are_turns() {
    let talk = json!([{"role": "user", "content": "When?"}]);
    let answer = |text: &str| json!([{"role": "assistant", "content": text}]);
    let text = |value: &Value| Value::String(format!(" {value}\n"));
    let plain = json!({"prompt": talk, "chosen": answer("At seven."), "rejected": "No."});
    let packed =
        json!({"prompt": text(&talk), "chosen": text(&answer("At seven.")), "rejected": "No."});
    let (expected, _) = read(plain);
    let (found, report) = read(packed.clone());
    assert_eq!(
        (&found.prompt, &found.responses),
        (&expected.prompt, &expected.responses)
    );
    assert!(
        report
            .to_string()
            .contains("reading     1 records: turns that are kept as JSON text"),
        "{report}"
    );

    let scored = json!({"prompt": "q", "responses": [text(&answer("a")), "b"], "scores": {}});
    let (records, _) = load_pairs(&[scored], &[shorter(), chosen()]).unwrap_or_default();
    assert!(records.is_empty(), "the two are as long");
    let scored = json!({"prompt": "q", "responses": [text(&answer("aa")), "b"], "scores": {}});
    let (records, _) = load_pairs(&[scored], &[shorter()]).unwrap();
    assert_eq!(records[0].responses, ["aa", "b"]);

    let files = Files::new();
    let whole = json!([{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]);
    for column in ["messages", "conversations"] {
        let file = files.lines("data.jsonl", &[json!({column: text(&whole)})]);
        let (records, _) = load(&[file], &[chosen()], RecordKind::Sft).unwrap();
        assert_eq!(records[0].prompt, turns(&[("user", "q")]));
        assert_eq!(records[0].responses, ["a"]);
    }

    // Other JSON is a text like any other, and so is everything where texts are what the model reads.
    for text in [
        "[1, 2]",
        "[]",
        "[{\"role\": \"user\"}]",
        "[{\"a\": 1}]",
        "[not JSON",
    ] {
        let (record, report) = read(json!({"prompt": text, "chosen": "a", "rejected": "b"}));
        assert_eq!(record.prompt, turns(&[("user", text)]));
        assert!(report.notes.is_empty());
    }
    let file = files.lines("data.jsonl", &[packed]);
    let mut loader = Loader::new(RecordKind::Pair);
    loader.as_written = true;
    let (records, _) = loader.load(&[file], &[chosen()]).unwrap();
    assert_eq!(records[0].prompt[0].text(), format!(" {talk}\n"));

    let said = refused(pair(json!("[{'role': 'user', 'content': 'q'}]")));
    assert!(
        said.contains("turns as Python prints them") && said.contains("json.dumps"),
        "{said}"
    );
}

/// In the column of an answer only the assistant's turns are turns: an answer about programs may show others.
#[test]
fn turns_that_an_answer_shows_are_its_text() {
    let of = |role: &str| json!({"role": role, "content": "Hi"});
    let columns = ["chosen", "responses", "response_0", "completion"];
    let answer_in = |column: &str, answer: &str| -> Result<String, String> {
        let files = Files::new();
        let row = match column {
            "chosen" => json!({"prompt": "q", "chosen": answer, "rejected": "b"}),
            "responses" => json!({"prompt": "q", "responses": [answer, "b"], "scores": {}}),
            "response_0" => json!({"prompt": "q", "response_0": answer, "response_1": "b"}),
            _ => json!({"prompt": "q", "completion": answer}),
        };
        let file = files.lines("data.jsonl", &[row]);
        let read = conversations(Responses::Needed).load(&file, &Characters);
        read.map(|(read, _)| read[0].words.responses[0].text().to_owned())
            .map_err(|error| error.to_string())
    };
    let called = json!({"role": "assistant", "name": "x", "content": "Hi"});
    for column in columns {
        for turn in [
            of("assistant"),
            called.clone(),
            json!({"from": "gpt", "value": "Hi"}),
        ] {
            for packed in [turn.to_string(), format!(" [{turn}]")] {
                assert_eq!(
                    answer_in(column, &packed).unwrap(),
                    "Hi",
                    "{column}: {packed}"
                );
            }
        }
        for text in [
            json!([of("user")]).to_string(),
            of("user").to_string(),
            json!({"role": "assistant"}).to_string(),
            "[{'role': 'user', 'content': 'Hi'}]".to_owned(),
            "[{'role': 'user', 'content': x} for x in texts]".to_owned(),
            "[{'content': x, 'role': 'assistant'} for x in texts]".to_owned(),
        ] {
            assert_eq!(answer_in(column, &text).unwrap(), text, "{column}");
        }
        let printed = "[{'role': 'assistant', 'content': 'Hi'}]";
        let said = answer_in(column, printed).unwrap_err();
        assert!(said.contains("turns as Python prints them"), "{said}");
    }
    let whole = "[{'content': 'q', 'role': 'user'}, {'content': 'a', 'role': 'assistant'}]";
    let said = answer_in("chosen", whole).unwrap_err();
    assert!(said.contains("turns as Python prints them"), "{said}");
}

#[test]
fn a_transcript_that_asks_for_an_answer_is_turns() {
    let row =
        |prompt: &str| json!({"prompt": prompt, "chosen": " At seven.", "rejected": " No.\n"});
    let talk = turns(&[
        ("user", "Hi: you"),
        ("assistant", "Yes?"),
        ("user", "When?"),
    ]);
    for prompt in [
        "\n\nHuman: Hi: you\n\nAssistant: Yes?\n\nHuman: When?\n\nAssistant:",
        "Human: Hi: you\nAssistant: Yes?\nHuman: When?\nAssistant: ",
    ] {
        let (record, report) = read(row(prompt));
        assert_eq!(record.prompt, talk);
        assert_eq!(record.responses, ["At seven.", "No."]);
        assert!(
            report
                .to_string()
                .contains("reading     1 records: a prompt \"Human:"),
            "{report}"
        );
    }
    for prompt in [
        "Human: When?",
        "Human: When? Assistant:",
        "The Human: a play.\n\nAssistant:",
        "Who is the Assistant:",
        "Human: When?\n\nAssistant: At",
    ] {
        let (record, report) = read(row(prompt));
        assert_eq!(record.prompt, turns(&[("user", prompt)]));
        assert_eq!(record.responses, [" At seven.", " No.\n"]);
        assert!(report.notes.is_empty());
    }
}

/// A table has a key for every turn that any turn has, and for every call what any call has.
#[test]
fn nulls_of_a_table_are_no_keys() {
    let text = |name: &str| Arc::new(Field::new(name, DataType::Utf8, true));
    let of = |values: &[Option<&str>]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let arguments = StructArray::new(
        Fields::from(vec![text("place"), text("day")]),
        vec![of(&[None, Some("bakery")]), of(&[None, None])],
        Some(vec![false, true].into()),
    );
    let fields = vec![
        text("content"),
        text("role"),
        text("name"),
        Arc::new(Field::new("call", arguments.data_type().clone(), true)),
    ];
    let columns = vec![
        of(&[Some("When?"), None]),
        of(&[Some("user"), Some("assistant")]),
        of(&[None, None]),
        Arc::new(arguments) as ArrayRef,
    ];
    let structs = StructArray::new(Fields::from(fields), columns, None);
    let item = Arc::new(Field::new("item", structs.data_type().clone(), true));
    let list = ListArray::new(
        item,
        OffsetBuffer::from_lengths([2]),
        Arc::new(structs),
        None,
    );
    let bytes = super::formats::parquet_file(
        vec![("messages", Arc::new(list))],
        parquet::basic::Compression::SNAPPY,
    );
    let files = Files::new();
    let file = files.write("data.parquet", bytes);
    let (records, _) = load(&[file], &[chosen()], RecordKind::Sft).unwrap();
    assert_eq!(
        as_json(&records[0].prompt),
        json!([{"role": "user", "content": "When?"}])
    );
    let answer = serde_json::to_value(&records[0].responses[0]).unwrap();
    assert_eq!(
        answer,
        json!({"content": null, "call": {"place": "bakery"}})
    );
}
