//! RLHF: prompts with nothing else, and records of which nothing but the prompt has to be right.

use panacea_data::{
    DataReport, Format, Loader, ObjectiveSpec, OverlongPrompts, Record, RecordKind, TokenLimits,
    Tolerance, load, tokenize,
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

/// The record's own response is compared with in words, and its tokens are not needed.
#[test]
fn a_response_that_cannot_be_tokenised_is_kept_in_words() {
    let row = json!({"prompt": "q", "completion": "x$"});
    let limits = TokenLimits {
        max_prompt_tokens: 9,
        max_response_tokens: 9,
        overlong_prompts: OverlongPrompts::Skip,
    };
    let (records, mut report) = prompts(&[row], short()).unwrap();
    let examples = tokenize(
        records,
        &Characters,
        &limits,
        Tolerance::default(),
        &mut report,
    )
    .unwrap();
    assert!(examples[0].responses.is_empty());
    assert_eq!(examples[0].words.responses, ["x$"]);
    let note = "template    1 records: a response of the record's own cannot be tokenised";
    assert!(report.to_string().contains(note), "{report}");
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
