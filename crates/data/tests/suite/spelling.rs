//! Turns that say one thing in two ways: with the keys of two forms, with keys in another order, with nulls of a table.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, StringArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use panacea_data::{
    BadRecords, BoxError, Conversations, Example, Loader, OverlongPrompts, Record, RecordKind,
    Responses, TextEncoder, TokenLimits, Tolerance, load, tokenize,
};
use panacea_pretrained::{Answer, Answered, Content, JsonObject, Message};
use serde_json::{Value, json};

use super::{Files, chosen, load_pairs, message, turns};

fn pair(prompt: Value) -> Value {
    json!({"prompt": prompt, "chosen": "At seven.", "rejected": "No idea."})
}

/// The only record of a row.
fn read(row: Value) -> Record {
    let (mut records, _) = load_pairs(&[row], &[chosen()]).unwrap();
    assert_eq!(records.len(), 1);
    records.remove(0)
}

/// Why a row of pairs is refused.
fn refused(row: Value) -> String {
    let files = Files::new();
    let file = files.lines("data.jsonl", &[row]);
    let error = load(std::slice::from_ref(&file), &[chosen()], RecordKind::Pair).unwrap_err();
    message(&error, &file)
}

#[test]
fn a_turn_of_two_forms_says_the_same_with_both() {
    let user = turns(&[("user", "Hi")]);
    for turn in [
        json!({"from": "human", "value": "Hi", "role": "user", "content": "Hi"}),
        json!({"from": "Human", "value": "Hi", "role": "user"}),
        json!({"from": "human", "value": "Hi", "content": "Hi"}),
        json!({"from": "human", "content": "Hi"}),
        json!({"from": "human", "value": null, "role": "user", "content": "Hi"}),
        json!({"from": "human", "value": "Hi", "role": null, "content": null}),
        json!({"from": null, "value": null, "role": "user", "content": "Hi"}),
        json!({"from": "human", "value": "Hi", "content": [{"type": "text", "text": "Hi"}]}),
    ] {
        assert_eq!(read(pair(json!([turn]))).prompt, user, "{turn}");
    }
    // Without a second speaker `value` is a key like any other.
    let rated = json!({"role": "user", "content": "Hi", "value": 0.5});
    assert_eq!(json!(read(pair(json!([rated]))).prompt), json!([rated]));
    for (turn, field, found) in [
        (
            json!({"from": "human", "value": "Hi", "role": "assistant"}),
            "prompt[0].role",
            "the text \"assistant\", and the text \"human\" in `from`",
        ),
        (
            json!({"from": "human", "value": "Hi", "content": "Ho"}),
            "prompt[0].content",
            "the text \"Ho\", and the text \"Hi\" in `value`",
        ),
        (
            json!({"from": "human", "value": "Hi", "role": "user", "content": ""}),
            "prompt[0].content",
            "an empty text, and the text \"Hi\" in `value`",
        ),
        (
            json!({"from": "gpt", "value": "Hi", "role": "function_call"}),
            "prompt[0].role",
            "the text \"function_call\", and",
        ),
        (
            json!({"from": "human", "value": "Hi", "role": 7}),
            "prompt[0].role",
            "the number 7, and",
        ),
    ] {
        let said = refused(pair(json!([turn])));
        let expected = format!("data.jsonl:1: field `{field}`: found {found}");
        assert!(said.starts_with(&expected), "{said}");
        assert!(
            said.ends_with("expected the same in both, or one of them"),
            "{said}"
        );
    }
}

#[test]
fn a_call_of_two_forms_is_a_call() {
    let call = json!({"name": "hours", "arguments": {"day": 1}});
    let row = |more: Value| {
        let mut turn = json!({"from": "function_call", "value": call.to_string()});
        turn.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let talk = json!([{"from": "human", "value": "When?"}, turn, {"from": "observation", "value": "7"}]);
        json!({"conversations": talk, "chosen": "At seven.", "rejected": "No."})
    };
    let calls = json!([{"type": "function", "function": call}]);
    for more in [
        json!({}),
        json!({"role": "assistant", "content": null}),
        json!({"role": "gpt", "content": " "}),
        json!({"role": "function_call", "content": call.to_string()}),
    ] {
        let turn = &read(row(more)).prompt[1];
        assert_eq!(
            (turn.role.as_str(), &turn.content),
            ("assistant", &Content::Null)
        );
        assert_eq!(json!(turn.more), json!({"tool_calls": calls}));
    }
    let said = refused(row(json!({"content": "At seven."})));
    assert!(
        said.contains("field `conversations[1].content`: found the text \"At seven.\""),
        "{said}"
    );
}

/// Writes turns as JSON, in the order of their keys, a token a character.
struct AsJson;

impl TextEncoder for AsJson {
    type Prompt = Vec<u32>;

    fn prompt(
        &self,
        messages: &[Message],
        _: &JsonObject,
        most: usize,
    ) -> Result<Option<Vec<u32>>, BoxError> {
        let text = serde_json::to_string(messages)?;
        let ids: Vec<u32> = text.chars().map(u32::from).collect();
        Ok((ids.len() <= most).then_some(ids))
    }

    fn answered(
        &self,
        prompt: &Vec<u32>,
        responses: &[Answer],
        _: usize,
    ) -> Result<Answered, BoxError> {
        let tokens = |answer: &Answer| answer.text().chars().map(u32::from).collect();
        Ok(Answered {
            prompt: prompt.clone(),
            responses: responses.iter().map(tokens).collect(),
            ..Answered::default()
        })
    }
}

/// Leaves out what stands beside the texts.
struct Texts;

impl TextEncoder for Texts {
    type Prompt = Vec<u32>;

    fn prompt(
        &self,
        messages: &[Message],
        none: &JsonObject,
        most: usize,
    ) -> Result<Option<Vec<u32>>, BoxError> {
        let texts: Vec<Message> = (messages.iter())
            .map(|turn| Message::new(turn.role.clone(), turn.text()))
            .collect();
        AsJson.prompt(&texts, none, most)
    }

    fn answered(
        &self,
        prompt: &Vec<u32>,
        responses: &[Answer],
        most: usize,
    ) -> Result<Answered, BoxError> {
        AsJson.answered(prompt, responses, most)
    }
}

fn in_tokens(
    rows: &[&str],
    encoder: &impl TextEncoder,
    bad_records: BadRecords,
) -> Result<Vec<Example>, String> {
    let files = Files::new();
    let file = files.write("data.jsonl", rows.join("\n"));
    let loader = Loader {
        tolerance: Tolerance {
            bad_records,
            max_skipped: 0.5,
        },
        ..Loader::new(RecordKind::Pair)
    };
    let (records, mut report) = loader
        .load(std::slice::from_ref(&file), &[chosen()])
        .unwrap();
    let limits = TokenLimits {
        max_prompt_tokens: 500,
        max_response_tokens: 500,
        overlong_prompts: OverlongPrompts::Skip,
    };
    let examples = tokenize(records, encoder, &limits, loader.tolerance, &mut report);
    examples.map_err(|error| message(&error, &file))
}

/// Objects are equal whatever the order of their keys: two such prompts are one, unless the template shows the order.
#[test]
fn prompts_are_one_where_the_template_writes_one_text() {
    let talk = |keys: &str, answer: &str| {
        format!(
            r#"[{{"role": "user", "content": "a", "x": [{{{keys}}}]}}, {{"role": "assistant", "content": "{answer}"}}]"#
        )
    };
    let row = |columns: [&str; 2], keys: [&str; 2], more: &str| {
        let [chosen, rejected] = columns;
        format!(
            r#"{{"{chosen}": {}, "{rejected}": {}{more}}}"#,
            talk(keys[0], "b"),
            talk(keys[1], "c")
        )
    };
    let (one, other) = (r#""k": 1, "l": 2"#, r#""l": 2, "k": 1"#);
    let system = r#", "system": "s""#;
    for columns in [
        ["chosen", "rejected"],
        ["chosen_messages", "rejected_messages"],
    ] {
        let alike = row(columns, [one, one], system);
        let otherwise = row(columns, [one, other], system);
        let prompt = |rows: &[&str], encoder: &dyn Fn(&[&str]) -> Vec<Example>| {
            encoder(rows)[0].prompt.clone()
        };
        let of_json = |rows: &[&str]| in_tokens(rows, &AsJson, BadRecords::Error).unwrap();
        let of_texts = |rows: &[&str]| in_tokens(rows, &Texts, BadRecords::Error).unwrap();
        assert_eq!(
            prompt(&[&otherwise], &of_texts),
            prompt(&[&alike], &of_texts)
        );
        let said = in_tokens(&[&otherwise], &AsJson, BadRecords::Error).unwrap_err();
        assert!(
            said.starts_with("data.jsonl:1: the prompt cannot be tokenised: found the same turns before both answers")
                && said.contains("the keys of an object in another order"),
            "{said}"
        );
        let kept = in_tokens(&[&otherwise, &alike], &AsJson, BadRecords::Skip).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].prompt, prompt(&[&alike], &of_json));
    }
    let files = Files::new();
    let file = files.write("data.jsonl", row(["chosen", "rejected"], [one, other], ""));
    // So it is without objectives, but where nobody reads the answers: the prompt is then that before the first.
    let how = |responses: Responses| Conversations {
        responses,
        format: None,
        tolerance: Tolerance::default(),
        as_written: false,
        context: 1000,
    };
    how(Responses::Needed).load(&file, &Texts).unwrap();
    let error = how(Responses::Needed).load(&file, &AsJson).unwrap_err();
    assert!(error.to_string().contains("in another order"), "{error}");
    how(Responses::Unread).load(&file, &AsJson).unwrap();
    // Another value is another prompt, whatever the template.
    let file = files.write(
        "data.jsonl",
        row(["chosen", "rejected"], [one, r#""l": 2, "k": 3"#], ""),
    );
    let error = load(std::slice::from_ref(&file), &[chosen()], RecordKind::Pair).unwrap_err();
    assert!(error.to_string().contains("at turn 1, in `x`"), "{error}");
    // And two answers that say the same are no pair.
    let answers =
        |keys: &str| format!(r#"[{{"role": "assistant", "content": "b", "x": {{{keys}}}}}]"#);
    let same = format!(
        r#"{{"prompt": "a", "chosen": {}, "rejected": {}}}"#,
        answers(one),
        answers(other)
    );
    let file = files.write("data.jsonl", format!("{same}\n{}", pair(json!("q"))));
    let (records, report) = load(&[file], &[chosen()], RecordKind::Pair).unwrap();
    assert_eq!((records.len(), report.skipped.len()), (1, 1));
}

#[test]
fn names_that_every_template_is_given_are_not_the_records() {
    let row = |kwargs: Value| {
        let mut row = pair(json!("q"));
        row["chat_template_kwargs"] = kwargs;
        row
    };
    for (name, whose) in [
        ("messages", "comes from the conversation"),
        ("tools", "comes from the conversation"),
        ("documents", "comes from the conversation"),
        ("add_generation_prompt", "comes from the conversation"),
        ("bos_token", "comes from the tokenizer"),
        ("eos_token", "comes from the tokenizer"),
        ("raise_exception", "is the template's own"),
        ("strftime_now", "is the template's own"),
        ("range", "is the template's own"),
    ] {
        let said = refused(row(json!({"x": 1, name: "text"})));
        let expected = format!(
            "data.jsonl:1: field `chat_template_kwargs.{name}`: found the text \"text\", expected nothing: `{name}` {whose}, and is not to be set"
        );
        assert_eq!(said, expected);
    }
    let variables = read(row(json!({"tools": null, "tojson": 1}))).variables;
    assert_eq!(json!(variables), json!({"tojson": 1}));
}

#[test]
fn each_tool_is_an_object() {
    let row = |tools: Value| {
        let mut row = pair(json!("q"));
        row["tools"] = tools;
        row
    };
    for tools in [
        json!([{"name": "f"}, "g"]),
        json!(r#"[{"name": "f"}, "g"]"#),
    ] {
        let said = refused(row(tools));
        assert!(
            said.starts_with(
                "data.jsonl:1: field `tools[1]`: found the text \"g\", expected a tool: an object"
            ),
            "{said}"
        );
    }
}

/// A column is looked at in every row: what is read of one may be left out of another.
#[test]
fn columns_are_judged_row_by_row() {
    let row = |columns: Value| {
        let mut row = json!({"chosen": "b", "rejected": "c"});
        row.as_object_mut()
            .unwrap()
            .extend(columns.as_object().unwrap().clone());
        row
    };
    let rows = [
        row(json!({"question": "q"})),
        row(json!({"prompt": "p", "question": "q", "id": 1})),
        row(json!({"prompt": "p", "question": null, "id": 2})),
        row(json!({"prompt": "p", "id": 3, "documents": "x"})),
        row(json!({"prompt": "p", "id": 4, "documents": [{"text": "x"}]})),
    ];
    let (_, report) = load_pairs(&rows, &[chosen()]).unwrap();
    let unread = &report.files[0].unread_columns;
    assert_eq!(
        json!(unread),
        json!({"documents": 1, "id": 4, "question": 1})
    );
    let said = report.to_string();
    assert!(
        said.contains("not read: `documents` (1), `id` (4), `question` (1)\n"),
        "{said}"
    );
}

fn text(name: &str) -> Arc<Field> {
    Arc::new(Field::new(name, DataType::Utf8, true))
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// A null that stands in a part of an object says nothing, and one that stands for the content of a turn does, whatever the
/// name of the column is.
#[test]
fn nulls_of_a_table_are_missing_by_where_they_stand() {
    let list = |items: StructArray, lengths: &[usize]| -> ArrayRef {
        let item = Arc::new(Field::new("item", items.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
        Arc::new(ListArray::new(item, offsets, Arc::new(items), None))
    };
    let of = |names: &[&str], columns: Vec<ArrayRef>| {
        let fields: Vec<Arc<Field>> = (names.iter().zip(&columns))
            .map(|(name, column)| Arc::new(Field::new(*name, column.data_type().clone(), true)))
            .collect();
        StructArray::new(Fields::from(fields), columns, None)
    };
    let function = of(
        &["name", "strict"],
        vec![texts(&[Some("f"), Some("g")]), texts(&[None, None])],
    );
    let tools = of(
        &["type", "note", "function"],
        vec![
            texts(&[Some("function"), Some("function")]),
            texts(&[None, Some("n")]),
            Arc::new(function),
        ],
    );
    let calls = of(&["name"], vec![texts(&[Some("f")])]);
    let talk = of(
        &["role", "content", "calls"],
        vec![
            texts(&[Some("user"), Some("assistant")]),
            texts(&[Some("q"), None]),
            list(calls, &[0, 1]),
        ],
    );
    let kwargs = of(
        &["think", "tools"],
        vec![texts(&[Some("no")]), texts(&[None])],
    );
    let meta = of(&["a"], vec![texts(&[None])]);
    let bytes = super::formats::parquet_file(
        vec![
            ("messages", list(talk, &[2])),
            ("tools", list(tools, &[2])),
            ("chat_template_kwargs", Arc::new(kwargs)),
            ("meta.data", Arc::new(meta)),
        ],
        parquet::basic::Compression::SNAPPY,
    );
    let files = Files::new();
    let file = files.write("data.parquet", bytes);
    let (records, _) = load(&[file], &[chosen()], RecordKind::Sft).unwrap();
    let record = &records[0];
    assert_eq!(
        json!(record.prompt),
        json!([{"role": "user", "content": "q", "calls": []}])
    );
    assert_eq!(
        json!(record.responses[0]),
        json!({"content": null, "calls": [{"name": "f"}]})
    );
    assert_eq!(
        json!(record.variables),
        json!({
            "think": "no",
            "tools": [
                {"type": "function", "function": {"name": "f"}},
                {"type": "function", "note": "n", "function": {"name": "g"}}
            ]
        })
    );
}

/// The same for scores, labels and reference answers, which are missing and no text or number.
#[test]
fn a_null_in_a_struct_is_a_missing_score() {
    let numbers = |values: Vec<Option<f64>>| -> ArrayRef {
        Arc::new(arrow::array::Float64Array::from(values))
    };
    let of_two = |values: [Option<[f64; 2]>; 2]| -> ArrayRef {
        let flat: Vec<Option<f64>> = values
            .iter()
            .flatten()
            .flatten()
            .map(|x| Some(*x))
            .collect();
        let lengths = values.map(|value| value.map_or(0, |two| two.len()));
        let nulls = values.map(|value| value.is_some()).to_vec();
        let item = Arc::new(Field::new("item", DataType::Float64, true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Arc::new(ListArray::new(
            item,
            offsets,
            numbers(flat),
            Some(nulls.into()),
        ))
    };
    let [warm, wise] = [
        [Some([1.0, 2.0]), None],
        [Some([2.0, 1.0]), Some([1.0, 3.0])],
    ]
    .map(of_two);
    let field = |name: &str| Arc::new(Field::new(name, warm.data_type().clone(), true));
    let scores = StructArray::new(
        Fields::from(vec![field("warm"), field("wise")]),
        vec![warm.clone(), wise],
        None,
    );
    let responses = |texts_of: [&str; 4]| -> ArrayRef {
        let items = texts(&texts_of.map(Some));
        let offsets = OffsetBuffer::from_lengths([2, 2]);
        Arc::new(ListArray::new(text("item"), offsets, items, None))
    };
    let bytes = super::formats::parquet_file(
        vec![
            ("prompt", texts(&[Some("p"), Some("q")])),
            ("responses", responses(["a", "b", "c", "d"])),
            ("scores", Arc::new(scores)),
        ],
        parquet::basic::Compression::SNAPPY,
    );
    let files = Files::new();
    let file = files.write("data.parquet", bytes);
    let objectives = [super::score("warm"), super::score("wise")];
    let (records, report) = load(&[file], &objectives, RecordKind::Pair).unwrap();
    assert_eq!(records[0].judgements[0].labels, [Some(0.0), Some(1.0)]);
    assert_eq!(records[1].judgements[0].labels, [None, Some(0.0)]);
    assert_eq!(report.objectives[0].missing, 1);
}
