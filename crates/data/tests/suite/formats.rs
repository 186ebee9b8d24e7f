//! Every record shape and every file type.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, BooleanArray, DictionaryArray, Float32Array, Int32Array, Int64Array,
    ListArray, RecordBatch, StringArray, StructArray, TimestampSecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Int8Type};
use flate2::Compression;
use flate2::write::GzEncoder;
use panacea_data::{Format, Loader, ObjectiveSpec, Record, RecordKind, load};
use panacea_pretrained::Answer;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression as ParquetCompression;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use super::{Files, chosen, column, load_pairs, message, score, shorter, turns};

/// Reads one pair; its format is told by its columns.
fn pair(row: Value) -> (Record, Format) {
    let (mut records, report) = load_pairs(&[row], &[shorter()]).unwrap();
    assert_eq!((records.len(), report.read, report.kept), (1, 1, 1));
    (records.remove(0), report.files[0].format)
}

/// Reads one SFT record.
fn single(row: Value) -> (Record, Format) {
    let files = Files::new();
    let file = files.lines("data.jsonl", &[row]);
    let (mut records, report) = load(&[file], &[chosen()], RecordKind::Sft).unwrap();
    assert_eq!(records.len(), 1);
    (records.remove(0), report.files[0].format)
}

fn texts(record: &Record) -> Vec<(&str, &str)> {
    let turns = record.prompt.iter();
    turns
        .map(|turn| (turn.role.as_str(), turn.text()))
        .collect()
}

fn check_pair(row: Value, format: Format, prompt: &[(&str, &str)], responses: [&str; 2]) {
    let (record, found) = pair(row);
    assert_eq!(found, format);
    assert_eq!(texts(&record), prompt);
    let found: Vec<&str> = record.responses.iter().map(Answer::text).collect();
    assert_eq!(found, responses);
}

fn check_single(row: Value, format: Format, prompt: &[(&str, &str)], response: &str) {
    let (record, found) = single(row);
    assert_eq!(found, format);
    assert_eq!(texts(&record), prompt);
    assert_eq!(record.responses[0].text(), response);
    assert_eq!(record.judgements[0].labels, [Some(1.0)]);
}

#[test]
fn scored_with_a_text_or_turns() {
    check_pair(
        json!({"prompt": "Why?", "responses": ["So.", "Because it is."], "scores": {}}),
        Format::Scored,
        &[("user", "Why?")],
        ["So.", "Because it is."],
    );
    check_pair(
        json!({
            "prompt": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": "Why?"}
            ],
            "responses": [[{"role": "assistant", "content": "So."}], "Because it is."]
        }),
        Format::Scored,
        &[("system", "Be kind."), ("user", "Why?")],
        ["So.", "Because it is."],
    );
}

#[test]
fn trl_explicit_prompt_plain_and_conversational() {
    check_pair(
        json!({"prompt": "Sky?", "chosen": "Blue.", "rejected": "Quite green."}),
        Format::TrlPreference,
        &[("user", "Sky?")],
        ["Blue.", "Quite green."],
    );
    check_pair(
        json!({
            "prompt": [{"role": "user", "content": "Sky?"}],
            "chosen": [{"role": "assistant", "content": "Blue."}],
            "rejected": [{"role": "assistant", "content": "Quite green."}]
        }),
        Format::TrlPreference,
        &[("user", "Sky?")],
        ["Blue.", "Quite green."],
    );
}

#[test]
fn trl_implicit_prompt_conversational() {
    let row = |question: &str| {
        json!({
            "chosen": [{"role": "user", "content": question}, {"role": "assistant", "content": "Blue."}],
            "rejected": [{"role": "user", "content": question}, {"role": "assistant", "content": "Green, no?"}]
        })
    };
    check_pair(
        row("Sky?"),
        Format::TrlPreference,
        &[("user", "Sky?")],
        ["Blue.", "Green, no?"],
    );
}

#[test]
fn trl_implicit_prompt_plain_is_parted_between_words() {
    check_pair(
        json!({"chosen": "The sky is blue.", "rejected": "The sky is black today."}),
        Format::TrlPreference,
        &[("user", "The sky is")],
        ["blue.", "black today."],
    );
    // One text continues the other: the last word that both have goes to the answers.
    check_pair(
        json!({"chosen": "Größe ist gut", "rejected": "Größe ist gut so"}),
        Format::TrlPreference,
        &[("user", "Größe ist")],
        ["gut", "gut so"],
    );
}

#[test]
fn whole_conversations_beside_the_question() {
    check_pair(
        json!({
            "prompt": "Sky?",
            "chosen": [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "Blue."}],
            "rejected": [{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": "Greenish."}],
            "score_chosen": 8.0
        }),
        Format::TrlPreference,
        &[("user", "Sky?")],
        ["Blue.", "Greenish."],
    );
}

#[test]
fn other_names_of_the_prompt_column() {
    check_pair(
        json!({"system": "Be brief.", "question": "Sky?", "chosen": "Blue.", "rejected": "Very blue."}),
        Format::TrlPreference,
        &[("system", "Be brief."), ("user", "Sky?")],
        ["Blue.", "Very blue."],
    );
    check_pair(
        json!({"instruction": "Add.", "input": "1 2", "chosen": "3", "rejected": "three"}),
        Format::TrlPreference,
        &[("user", "Add.\n1 2")],
        ["3", "three"],
    );
}

#[test]
fn sharegpt() {
    check_pair(
        json!({
            "system": "Be brief.",
            "conversations": [
                {"from": "human", "value": "Hi"},
                {"from": "gpt", "value": "Hello"},
                {"from": "human", "value": "Sky?"}
            ],
            "chosen": {"from": "gpt", "value": "Blue."},
            "rejected": {"from": "gpt", "value": "Quite green."}
        }),
        Format::Sharegpt,
        &[
            ("system", "Be brief."),
            ("user", "Hi"),
            ("assistant", "Hello"),
            ("user", "Sky?"),
        ],
        ["Blue.", "Quite green."],
    );
}

#[test]
fn axolotl_keeps_the_turns_before_the_answers_in_messages() {
    check_pair(
        json!({
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Sky?"}],
            "chosen": {"role": "assistant", "content": "Blue."},
            "rejected": {"role": "assistant", "content": "Quite green."}
        }),
        Format::Sharegpt,
        &[("system", "Be brief."), ("user", "Sky?")],
        ["Blue.", "Quite green."],
    );
}

/// A later row without answers is told, and nothing of the others is said to be unread.
#[test]
fn axolotls_rows_are_known_by_their_column_in_every_way() {
    let messages = json!([{"role": "user", "content": "Sky?"}]);
    let whole = json!({
        "messages": messages,
        "chosen": {"role": "assistant", "content": "Blue."},
        "rejected": {"role": "assistant", "content": "Quite green."}
    });
    let files = Files::new();
    let file = files.lines(
        "data.jsonl",
        &[whole.clone(), json!({"messages": messages})],
    );
    let error = load(std::slice::from_ref(&file), &[chosen()], RecordKind::Pair).unwrap_err();
    let error = message(&error, &file);
    assert!(error.contains("data.jsonl:2: field `chosen`"), "{error}");
    let file = files.lines("good.jsonl", &[whole]);
    let reward = json!({"name": "short", "reward": {"rule": "conciseness"}});
    let reward: ObjectiveSpec = serde_json::from_value(reward).unwrap();
    for (kind, objective) in [(RecordKind::Pair, chosen()), (RecordKind::Prompt, reward)] {
        let (records, report) = load(std::slice::from_ref(&file), &[objective], kind).unwrap();
        assert_eq!(texts(&records[0]), [("user", "Sky?")]);
        assert!(report.files[0].unread_columns.is_empty(), "{report}");
    }
}

/// As in UltraFeedback's binarized form: `messages` is the chosen conversation again.
#[test]
fn messages_beside_whole_conversations_are_passed_over() {
    let conversation = |answer: &str| json!([{"role": "user", "content": "Sky?"}, {"role": "assistant", "content": answer}]);
    check_pair(
        json!({
            "prompt": "Sky?",
            "messages": conversation("Blue."),
            "chosen": conversation("Blue."),
            "rejected": conversation("Quite green.")
        }),
        Format::TrlPreference,
        &[("user", "Sky?")],
        ["Blue.", "Quite green."],
    );
}

#[test]
fn chosen_messages_with_content_parts() {
    let conversation = |answer: &str| {
        json!([
            {"role": "system", "content": [{"type": "text", "value": "Be kind."}], "loss_weight": 0.0},
            {"role": "user", "content": [{"type": "text", "value": "S"}, {"type": "text", "text": "ky?"}]},
            {"role": "assistant", "content": [{"type": "text", "value": answer}], "loss_weight": 1.0}
        ])
    };
    check_pair(
        json!({"chosen_messages": conversation("Blue."), "rejected_messages": conversation("Green, I think.")}),
        Format::ChosenMessages,
        &[("system", "Be kind."), ("user", "Sky?")],
        ["Blue.", "Green, I think."],
    );
}

#[test]
fn hh_rlhf_transcripts() {
    check_pair(
        json!({
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Sky?\n\nAssistant: Blue.\n\nAlways.",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Sky?\n\nAssistant: No."
        }),
        Format::HhRlhf,
        &[("user", "Hi"), ("assistant", "Hello"), ("user", "Sky?")],
        ["Blue.\n\nAlways.", "No."],
    );
}

#[test]
fn hh_rlhf_joins_adjacent_turns_of_one_speaker() {
    check_pair(
        json!({
            "chosen": "\n\nHuman: Hi\n\nHuman: Sky?\n\nAssistant: Blue.",
            "rejected": "\n\nHuman: Hi\n\nHuman: Sky?\n\nAssistant: Go away."
        }),
        Format::HhRlhf,
        &[("user", "Hi\n\nSky?")],
        ["Blue.", "Go away."],
    );
}

#[test]
fn safe_rlhf_columns() {
    let row = json!({
        "prompt": "How?", "response_0": "Like this.", "response_1": "Rather not.",
        "is_response_0_safe": false, "better_response_id": 0, "safer_response_id": 1
    });
    let objectives = [column("better_response_id"), column("safer_response_id")];
    let (records, report) = load_pairs(&[row], &objectives).unwrap();
    assert_eq!(report.files[0].format, Format::SafeRlhf);
    assert_eq!(records[0].prompt, turns(&[("user", "How?")]));
    assert_eq!(records[0].responses, ["Like this.", "Rather not."]);
    assert_eq!(records[0].judgements[0].labels, [Some(1.0), Some(0.0)]);
}

#[test]
fn sft_messages_in_three_spellings() {
    check_single(
        json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}),
        Format::Messages,
        &[("user", "Hi")],
        "Hello!",
    );
    check_single(
        json!({"messages": [
            {"role": "user", "content": [{"type": "text", "value": "Hi"}], "loss_weight": 0.0},
            {"role": "assistant", "content": [{"type": "text", "value": "Hello!"}], "loss_weight": 1.0}
        ]}),
        Format::Messages,
        &[("user", "Hi")],
        "Hello!",
    );
    check_single(
        json!({"conversations": [
            {"from": "system", "value": "Be kind."}, {"from": "human", "value": "Hi"},
            {"from": "gpt", "value": "Yes?"}, {"from": "human", "value": "Hi"},
            {"from": "gpt", "value": "Hello!"}
        ]}),
        Format::Messages,
        &[
            ("system", "Be kind."),
            ("user", "Hi"),
            ("assistant", "Yes?"),
            ("user", "Hi"),
        ],
        "Hello!",
    );
}

#[test]
fn sft_prompt_and_completion() {
    for name in ["completion", "response"] {
        check_single(
            json!({"prompt": "Hi", name: "Hello!"}),
            Format::PromptCompletion,
            &[("user", "Hi")],
            "Hello!",
        );
    }
    check_single(
        json!({
            "prompt": [{"role": "user", "content": "Hi"}],
            "completion": [{"role": "assistant", "content": "Hello!"}]
        }),
        Format::PromptCompletion,
        &[("user", "Hi")],
        "Hello!",
    );
}

#[test]
fn sft_alpaca() {
    check_single(
        json!({"instruction": "Greet.", "input": "", "output": "Hello!"}),
        Format::Alpaca,
        &[("user", "Greet.")],
        "Hello!",
    );
    check_single(
        json!({
            "system": "Be kind.", "instruction": "Greet.", "input": "Ann", "output": "Hello, Ann!",
            "history": [["Hi", "Hi!"]]
        }),
        Format::Alpaca,
        &[
            ("system", "Be kind."),
            ("user", "Hi"),
            ("assistant", "Hi!"),
            ("user", "Greet.\nAnn"),
        ],
        "Hello, Ann!",
    );
    // What somebody's template made of it stands beside it, with the answer.
    check_single(
        json!({"instruction": "Greet.", "input": "Ann", "output": "Hello, Ann!", "prompt": "### Greet. Ann\nHello, Ann!"}),
        Format::Alpaca,
        &[("user", "Greet.\nAnn")],
        "Hello, Ann!",
    );
    // A developer says how to answer: the column is not said once more.
    check_single(
        json!({"system": "Be brief.", "messages": [
            {"role": "developer", "content": "Be kind."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}
        ]}),
        Format::Messages,
        &[("developer", "Be kind."), ("user", "Hi")],
        "Hello!",
    );
}

#[test]
fn a_named_format_overrules_the_columns() {
    // Transcript markers in plain texts: the format decides what they mean.
    let row =
        json!({"chosen": "Human: a\n\nAssistant: b", "rejected": "Human: a\n\nAssistant: ccc"});
    let files = Files::new();
    let file = [files.lines("data.jsonl", &[row])];
    let mut loader = Loader::new(RecordKind::Pair);
    let (told, _) = loader.load(&file, &[shorter()]).unwrap();
    loader.format = Some(Format::TrlPreference);
    let (named, _) = loader.load(&file, &[shorter()]).unwrap();
    assert_eq!(told[0].prompt, turns(&[("user", "a")]));
    assert_eq!(
        named[0].prompt,
        turns(&[("user", "Human: a\n\nAssistant:")])
    );
}

#[test]
fn format_names_are_those_of_the_configuration() {
    for format in Format::ALL {
        assert_eq!(serde_json::to_value(format).unwrap(), format.name());
        let again: Format = serde_json::from_value(json!(format.name())).unwrap();
        assert_eq!(again, format);
    }
}

fn rows() -> [Value; 3] {
    [
        json!({"prompt": "a", "chosen": "b", "rejected": "bb"}),
        json!({"prompt": "c\u{2028}d", "chosen": "d\u{85}", "rejected": "dd"}),
        json!({"prompt": "e", "chosen": "f", "rejected": "ff"}),
    ]
}

pub(super) fn gzip(content: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn lines_arrays_and_gzip_say_the_same() {
    let files = Files::new();
    // A byte order mark, empty lines and Windows line ends do no harm; U+2028 ends no line.
    let [first, second, third] = rows();
    let lines = format!("\u{feff}{first}\r\n\n{second}\r\n{third}");
    let array = serde_json::to_string_pretty(&rows()).unwrap();
    let all = [
        files.write("a.jsonl", &lines),
        files.write("b.json", &lines),
        files.write("c.json", &array),
        files.write("d.JSONL.gz", gzip(&lines)),
        files.write("e.json.gz", gzip(&array)),
        files.write("f.ndjson", &lines),
    ];
    let expected = load(&all[..1], &[chosen()], RecordKind::Pair).unwrap().0;
    assert_eq!(expected.len(), 3);
    let places: Vec<usize> = expected.iter().map(|record| record.source.line).collect();
    assert_eq!(places, [1, 3, 4]);
    for file in &all[1..] {
        let (records, report) =
            load(std::slice::from_ref(file), &[chosen()], RecordKind::Pair).unwrap();
        assert_eq!(report.read, 3, "{}", file.display());
        for (record, expected) in records.iter().zip(&expected) {
            assert_eq!(record.prompt, expected.prompt);
            assert_eq!(record.responses, expected.responses);
            assert_eq!(record.judgements, expected.judgements);
        }
    }
    let (records, report) = load(&all, &[chosen()], RecordKind::Pair).unwrap();
    assert_eq!((records.len(), report.files.len()), (18, 6));
}

/// Turns as Hugging Face writes them: a list of structs.
fn turn_lists(turns_of_rows: &[&[(&str, &str)]]) -> ArrayRef {
    let all: Vec<&(&str, &str)> = turns_of_rows
        .iter()
        .flat_map(|turns| turns.iter())
        .collect();
    let roles = StringArray::from_iter_values(all.iter().map(|turn| turn.0));
    let contents = StringArray::from_iter_values(all.iter().map(|turn| turn.1));
    let structs = StructArray::from(vec![
        (
            Arc::new(Field::new("role", DataType::Utf8, true)),
            Arc::new(roles) as ArrayRef,
        ),
        (
            Arc::new(Field::new("content", DataType::Utf8, true)),
            Arc::new(contents) as ArrayRef,
        ),
    ]);
    let lengths = turns_of_rows.iter().map(|turns| turns.len());
    Arc::new(ListArray::new(
        Arc::new(Field::new("item", structs.data_type().clone(), true)),
        arrow::buffer::OffsetBuffer::from_lengths(lengths),
        Arc::new(structs),
        None,
    ))
}

pub(super) fn parquet_file(
    columns: Vec<(&str, ArrayRef)>,
    compression: ParquetCompression,
) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn parquet_with_turns_scores_and_columns() {
    let score_lists = ListArray::from_iter_primitive::<Float32Type, _, _>([
        Some([Some(3.0), Some(1.5)]),
        None,
        Some([Some(f32::NAN), Some(1.0)]),
    ]);
    let scores = StructArray::new(
        vec![Field::new("helpful", score_lists.data_type().clone(), true)].into(),
        vec![Arc::new(score_lists)],
        Some(NullBuffer::from(vec![true, true, true])),
    );
    let ids: DictionaryArray<Int8Type> = vec!["x", "y", "x"].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "prompt",
            turn_lists(&[
                &[("system", "Be kind."), ("user", "a")],
                &[("user", "b")],
                &[("user", "c")],
            ]),
        ),
        (
            "response_0",
            Arc::new(StringArray::from(vec!["0", "00", "000"])),
        ),
        (
            "response_1",
            Arc::new(StringArray::from(vec!["1", "1", "1"])),
        ),
        ("scores", Arc::new(scores)),
        (
            "safer",
            Arc::new(Int64Array::from(vec![Some(1), None, Some(0)])),
        ),
        (
            "first",
            Arc::new(BooleanArray::from(vec![true, false, true])),
        ),
        ("id", Arc::new(ids)),
        ("weight", Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0]))),
        ("count", Arc::new(Int32Array::from(vec![1, 2, 3]))),
        ("when", Arc::new(TimestampSecondArray::from(vec![1, 2, 3]))),
    ];
    let files = Files::new();
    let bytes = parquet_file(columns, ParquetCompression::SNAPPY);
    let file = files.write("data.parquet", bytes);
    let objectives = [score("helpful"), column("safer"), column("first")];
    let (records, report) = load(&[file], &objectives, RecordKind::Pair).unwrap();
    assert_eq!(report.files[0].format, Format::SafeRlhf);
    assert_eq!(
        records[0].prompt,
        turns(&[("system", "Be kind."), ("user", "a")])
    );
    assert_eq!(records[1].responses, ["00", "1"]);
    assert_eq!(
        records[0].judgements[0].labels,
        [Some(1.0), Some(0.0), Some(1.0)]
    );
    assert_eq!(records[1].judgements[0].labels, [None, None, Some(0.0)]);
    assert_eq!(
        records[2].judgements[0].labels,
        [None, Some(1.0), Some(1.0)]
    );
    assert_eq!(records[2].source.line, 3);
}
