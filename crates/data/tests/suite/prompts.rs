//! RLHF: prompts with nothing else, and records of which nothing but the prompt has to be right.

use panacea_data::{
    BadRecords, DataReport, Format, Loader, ObjectiveSpec, OverlongPrompts, Record, RecordKind,
    TokenLimits, Tolerance, load, tokenize,
};
use serde_json::{Value, json};

use super::tokens::Characters;
use super::{Files, message, shorter, turns};

fn reward(reward: Value) -> ObjectiveSpec {
    serde_json::from_value(json!({"name": reward.to_string(), "reward": reward})).unwrap()
}

fn short() -> ObjectiveSpec {
    reward(json!({"rule": "conciseness"}))
}

fn prompts(rows: &[Value], objective: ObjectiveSpec) -> Result<(Vec<Record>, DataReport), String> {
    let files = Files::new();
    let file = files.lines("data.jsonl", rows);
    let loaded = load(
        std::slice::from_ref(&file),
        &[objective],
        RecordKind::Prompt,
    );
    loaded.map_err(|error| message(&error, &file))
}

fn check(row: Value, format: Format, prompt: &[(&str, &str)], own: Option<&str>) {
    let (records, report) = prompts(std::slice::from_ref(&row), short()).unwrap();
    assert_eq!(report.files[0].format, format, "{row}");
    assert_eq!(records[0].prompt, turns(prompt), "{row}");
    let first = records[0]
        .responses
        .first()
        .map(panacea_pretrained::Answer::text);
    assert_eq!(first, own, "{row}");
}

#[test]
fn prompts_alone() {
    let user = &[("user", "q")][..];
    let guided = &[("system", "s"), ("user", "q")][..];
    let list = json!([{"role": "user", "content": "q"}]);
    check(json!({"prompt": "q"}), Format::Prompt, user, None);
    check(json!({"prompt": list}), Format::Prompt, user, None);
    check(
        json!({"question": "q", "answer": "7"}),
        Format::Prompt,
        user,
        None,
    );
    check(json!({"query": "q"}), Format::Prompt, user, None);
    check(
        json!({"instruction": "q", "input": ""}),
        Format::Prompt,
        user,
        None,
    );
    check(
        json!({"prompt": "q", "system": "s"}),
        Format::Prompt,
        guided,
        None,
    );
    check(json!({"messages": list}), Format::Messages, user, None);
    let turns = json!([{"from": "system", "value": "s"}, {"from": "human", "value": "q"}]);
    check(
        json!({"conversations": turns}),
        Format::Messages,
        guided,
        None,
    );
}

#[test]
fn responses_need_not_be_right() {
    let user = &[("user", "q")][..];
    let question = json!({"role": "user", "content": "q"});
    let asked = json!([question, {"role": "assistant", "content": "a"}]);
    let pair = |chosen: Value, rejected: Value| json!({"prompt": "q", "chosen": chosen, "rejected": rejected});
    let trl = Format::TrlPreference;
    check(pair(json!("a"), json!("")), trl, user, Some("a"));
    check(pair(json!("a"), json!(null)), trl, user, Some("a"));
    check(pair(json!("a"), json!("a")), trl, user, Some("a"));
    check(pair(json!(null), json!("b")), trl, user, None);
    check(pair(json!(7), json!({"text": "b"})), trl, user, None);
    check(
        json!({"prompt": "q", "chosen": "a"}),
        Format::Prompt,
        user,
        None,
    );
    check(
        json!({"chosen": asked, "rejected": null}),
        trl,
        user,
        Some("a"),
    );
    check(
        json!({"chosen": null, "rejected": asked}),
        trl,
        user,
        Some("a"),
    );
    check(
        json!({"prompt": "q", "chosen": asked, "rejected": []}),
        trl,
        user,
        Some("a"),
    );
    check(
        json!({"chosen": "q a", "rejected": "q b"}),
        trl,
        user,
        Some("a"),
    );
    check(
        json!({"prompt": "q", "completion": ""}),
        Format::PromptCompletion,
        user,
        None,
    );
    check(
        json!({"prompt": "q", "response_0": null, "response_1": "b"}),
        Format::SafeRlhf,
        user,
        None,
    );
    check(
        json!({"prompt": "q", "responses": []}),
        Format::Scored,
        user,
        None,
    );
    check(
        json!({"instruction": "q", "input": "", "output": null}),
        Format::Alpaca,
        user,
        None,
    );
    check(
        json!({"messages": asked}),
        Format::Messages,
        user,
        Some("a"),
    );
    check(
        json!({"chosen_messages": asked, "rejected_messages": null}),
        Format::ChosenMessages,
        user,
        Some("a"),
    );
    check(
        json!({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": null}),
        Format::Sharegpt,
        user,
        Some("a"),
    );
    check(
        json!({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant:"}),
        Format::HhRlhf,
        user,
        Some("a"),
    );
}

#[test]
fn the_prompt_has_to_be_right() {
    for (row, expected) in [
        (
            json!({"prompt": ""}),
            "field `prompt`: found an empty text, expected",
        ),
        (
            json!({"prompt": null}),
            "field `prompt`: found null, expected a value",
        ),
        (
            json!({"prompt": []}),
            "field `prompt`: found a record without prompt, expected",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "a"}]}),
            "field `messages`: found a record without prompt, expected",
        ),
        (
            json!({"chosen": [], "rejected": null}),
            "field `chosen`: found an empty list, expected turns",
        ),
    ] {
        let error = prompts(&[row], short()).unwrap_err();
        assert!(
            error.starts_with(&format!("data.jsonl:1: {expected}")),
            "{error}"
        );
    }
}

#[test]
fn prompts_alone_are_for_answers_of_the_policy() {
    let files = Files::new();
    let file = files.lines("data.jsonl", &[json!({"prompt": "q"})]);
    let mut loader = Loader::new(RecordKind::Pair);
    let error = loader.load(std::slice::from_ref(&file), &[shorter()]);
    let error = message(&error.unwrap_err(), &file);
    assert!(
        error.contains(
            "`prompt` (prompt, question, instruction or query; for method.loss = \"rlhf\")"
        ),
        "{error}"
    );
    loader.format = Some(Format::Prompt);
    let error = message(
        &loader
            .load(std::slice::from_ref(&file), &[shorter()])
            .unwrap_err(),
        &file,
    );
    assert!(
        error.starts_with("data.jsonl:1: field `(the record)`: found a record of format `prompt`, which has no response beside `prompt`, expected responses"),
        "{error}"
    );
}

/// A score belongs to a response, so that all of them have to be right.
#[test]
fn scores_of_its_own_need_all_responses() {
    let own = || reward(json!({"score": "warmth", "otherwise": 0.0}));
    let row = |second: &str| json!({"prompt": "q", "responses": ["a", second], "scores": {"warmth": [1, "N/A"]}});
    let (records, report) = prompts(&[row("b")], own()).unwrap();
    assert_eq!(records[0].responses, ["a", "b"]);
    assert_eq!(records[0].scores, [[Some(1.0)], [None]]);
    assert_eq!(
        (report.objectives[0].labelled, report.objectives[0].missing),
        (1, 1)
    );
    let error = prompts(&[row("")], own()).unwrap_err();
    assert!(
        error.starts_with("data.jsonl:1: field `responses[1]`: found an empty text"),
        "{error}"
    );
}

#[test]
fn a_reward_names_a_column_of_reference_answers() {
    let matches = || reward(json!({"rule": "exact-match", "reference": "answer"}));
    let row = |answer: Value| json!({"question": "q", "answer": answer});
    let (records, _) = prompts(
        &[row(json!("7")), row(json!(7)), row(json!(7.0))],
        matches(),
    )
    .unwrap();
    for record in &records {
        assert_eq!(record.references["answer"], "7");
    }
    let (records, _) = prompts(&[row(json!(7.5)), row(json!(true))], matches()).unwrap();
    let found = records
        .iter()
        .map(|record| &record.references["answer"][..]);
    assert_eq!(found.collect::<Vec<_>>(), ["7.5", "true"]);
    for (answer, found) in [
        (json!(null), "null"),
        (json!(" "), "an empty text"),
        (json!([7]), "a list of 1"),
    ] {
        let error = prompts(&[row(answer)], matches()).unwrap_err();
        assert!(
            error.starts_with(&format!(
                "data.jsonl:1: field `answer`: found {found}, expected"
            )),
            "{error}"
        );
    }
}

/// A response that is compared with in words alone is not tokenised, so that it can neither be refused nor counted.
#[test]
fn responses_that_nobody_reads_are_no_tokens() {
    let rows = [
        json!({"prompt": "q", "completion": "x$"}),
        json!({"prompt": "r", "completion": "yy"}),
    ];
    let limits = TokenLimits {
        max_prompt_tokens: 9,
        max_response_tokens: 1,
        overlong_prompts: OverlongPrompts::Skip,
    };
    let files = Files::new();
    let file = files.lines("data.jsonl", &rows);
    let read = |own_responses: bool| {
        let loader = Loader {
            own_responses,
            ..Loader::new(RecordKind::Prompt)
        };
        let (records, mut report) = loader
            .load(std::slice::from_ref(&file), &[short()])
            .unwrap();
        let tolerance = Tolerance::default();
        let examples = tokenize(records, &Characters, &limits, tolerance, &mut report);
        examples.map(|examples| (examples, report))
    };
    let (examples, report) = read(false).unwrap();
    assert!(examples.iter().all(|example| example.responses.is_empty()));
    assert_eq!(examples[0].words.responses, ["x$"]);
    assert_eq!(
        (report.truncated_responses, report.tokens.unwrap().response),
        (0, 0)
    );
    // Where they are learned from, each has to be right.
    let error = message(&read(true).unwrap_err(), &file);
    assert!(
        error.starts_with("data.jsonl:1: the response cannot be tokenised: a $ inside"),
        "{error}"
    );
    let file = files.lines("data.jsonl", &rows[1..]);
    let loader = Loader {
        own_responses: true,
        ..Loader::new(RecordKind::Prompt)
    };
    let (records, mut report) = loader.load(&[file], &[short()]).unwrap();
    let tolerance = Tolerance::default();
    let examples = tokenize(records, &Characters, &limits, tolerance, &mut report).unwrap();
    assert_eq!(examples[0].responses, [[u32::from('y')]]);
    assert_eq!(
        (report.truncated_responses, report.tokens.unwrap().response),
        (1, 1)
    );
}

/// A rule that compares with the record's own response needs one of every record; a program is told that there is none.
#[test]
fn what_is_compared_with_is_there_when_records_are_read() {
    for name in ["similarity", "exact-match"] {
        let rule = || reward(json!({"rule": name}));
        let (records, _) = prompts(&[json!({"prompt": "q", "completion": "a"})], rule()).unwrap();
        assert_eq!(records[0].responses, ["a"]);
        let silent = json!([{"role": "assistant", "content": null, "tool_calls": [{"name": "f"}]}]);
        for (row, field) in [
            (json!({"prompt": "q"}), "(the record)"),
            (json!({"prompt": "q", "completion": " "}), "completion"),
            (json!({"prompt": "q", "completion": silent}), "completion"),
            (
                json!({"messages": [{"role": "user", "content": "q"}]}),
                "messages",
            ),
            (
                json!({"prompt": "q", "chosen": null, "rejected": "b"}),
                "chosen",
            ),
        ] {
            let error = prompts(std::slice::from_ref(&row), rule()).unwrap_err();
            let expected = format!(
                "data.jsonl:1: field `{field}`: found no response with a text that can be read"
            );
            assert!(error.starts_with(&expected), "{error}");
            assert!(
                error.contains("name a column of reference answers"),
                "{error}"
            );
            // Where a column has it, the record needs no response.
            let mut named = row.clone();
            named["key"] = json!("7");
            let by_column = reward(json!({"rule": name, "reference": "key"}));
            prompts(&[named], by_column).unwrap();
            let program = reward(json!({"program": ["judge"]}));
            prompts(&[row], program).unwrap();
        }
    }
    // Bad records may be skipped.
    let files = Files::new();
    let rows = [
        json!({"prompt": "q", "completion": "a"}),
        json!({"prompt": "r", "completion": ""}),
    ];
    let file = files.lines("data.jsonl", &rows);
    let loader = Loader {
        tolerance: Tolerance {
            bad_records: BadRecords::Skip,
            max_skipped: 0.5,
        },
        ..Loader::new(RecordKind::Prompt)
    };
    let exact = reward(json!({"rule": "exact-match"}));
    let (records, report) = loader.load(&[file], &[exact]).unwrap();
    assert_eq!((records.len(), report.skipped.len()), (1, 1));
}

/// Conversations beside a prompt column are read as pairs are: they repeat its question, or are refused.
#[test]
fn a_prompt_beside_conversations_is_not_dropped() {
    let user = |text: &str| json!({"role": "user", "content": text});
    let answer = json!({"role": "assistant", "content": "a"});
    let whole = json!([user("q"), answer, user("r"), answer]);
    let row = |prompt: &str, chosen: &Value| json!({"prompt": prompt, "chosen": chosen, "rejected": whole});
    let (records, _) = prompts(&[row("r", &whole), row("s", &json!([answer]))], short()).unwrap();
    assert_eq!(records[0].prompt.len(), 3);
    assert_eq!(records[1].prompt, turns(&[("user", "s")]));
    assert_eq!(records[1].responses, ["a"]);
    let error = prompts(&[row("s", &whole)], short()).unwrap_err();
    assert!(
        error.starts_with(
            "data.jsonl:1: field `chosen`: found several turns that do not repeat the question"
        ),
        "{error}"
    );
}

#[test]
fn a_tool_may_say_nothing_and_a_user_may_not() {
    let row = |role: &str| {
        let call = json!([{"type": "function", "function": {"name": "f", "arguments": {}}}]);
        json!({"messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "tool_calls": call},
            {"role": role, "content": ""},
        ]})
    };
    let (records, _) = prompts(&[row("tool")], short()).unwrap();
    assert_eq!(records[0].prompt.len(), 3);
    let error = prompts(&[row("user")], short()).unwrap_err();
    assert!(
        error.starts_with("data.jsonl:1: field `messages`: found an empty text as the last turn, which is of `user`"),
        "{error}"
    );
}

/// Every answer is scored for every objective, so that a prompt of one objective's own file needs the references of the others.
#[test]
fn every_prompt_has_the_references_of_all_rewards() {
    let files = Files::new();
    let shared = files.lines("shared.jsonl", &[json!({"prompt": "q", "answer": "7"})]);
    let load_own = |row: Value| {
        let own = files.lines("own.jsonl", &[row]);
        let brief: ObjectiveSpec = serde_json::from_value(
            json!({"name": "brief", "reward": {"rule": "conciseness"}, "train": own}),
        )
        .unwrap();
        let exact = reward(json!({"rule": "exact-match", "reference": "answer"}));
        let loaded = load(
            std::slice::from_ref(&shared),
            &[exact, brief],
            RecordKind::Prompt,
        );
        loaded.map_err(|error| message(&error, &own))
    };
    let (records, report) = load_own(json!({"prompt": "r", "answer": 8})).unwrap();
    assert_eq!(records[1].references["answer"], "8");
    assert!(
        report
            .files
            .iter()
            .all(|file| file.unread_columns.is_empty())
    );
    let error = load_own(json!({"prompt": "r"})).unwrap_err();
    assert!(
        error.starts_with("own.jsonl:1: field `answer`: found no such field"),
        "{error}"
    );
}
