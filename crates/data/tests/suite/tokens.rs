//! Tokenising: limits, truncation, and what the report says about it.

use std::path::PathBuf;

use panacea_data::{
    BoxError, DataReport, Example, LabelledBy, Loader, ObjectiveSpec, OverlongPrompts, Record,
    RecordKind, SkipReason, TextEncoder, TokenLimits, Tolerance, load, tokenize,
};
use panacea_pretrained::{Answer, Answered, JsonObject, Message};
use serde_json::{Value, json};

use super::{Files, chosen, score, shorter};

/// A token a character; `<` opens the conversation, a turn is its role's first letter and its
/// content, `>` asks for the answer, and `$` ends it.
pub(super) struct Characters;

fn ids(text: &str) -> Vec<u32> {
    text.chars().map(u32::from).collect()
}

fn text(ids: &[u32]) -> String {
    ids.iter().map(|&id| char::from_u32(id).unwrap()).collect()
}

impl TextEncoder for Characters {
    type Prompt = Vec<u32>;

    fn prompt(
        &self,
        messages: &[Message],
        _: &JsonObject,
        max_tokens: usize,
    ) -> Result<Option<Vec<u32>>, BoxError> {
        let turns: String = messages
            .iter()
            .map(|message| format!("{}{}", &message.role[..1], message.text()))
            .collect();
        if turns.contains('#') {
            return Err("the template knows no #".into());
        }
        let ids = ids(&format!("<{turns}>"));
        Ok((ids.len() <= max_tokens).then_some(ids))
    }

    fn answered(
        &self,
        prompt: &Vec<u32>,
        responses: &[Answer],
        _: usize,
    ) -> Result<Answered, BoxError> {
        if responses.iter().any(|answer| answer.text().contains('$')) {
            return Err("a $ inside a response ends it".into());
        }
        let note = |answer: &Answer| answer.text().starts_with('!').then(|| "shouted".to_owned());
        let keys = responses.iter().flat_map(|answer| answer.more.keys());
        Ok(Answered {
            unread: keys.cloned().collect(),
            prompt: prompt.clone(),
            responses: responses
                .iter()
                .map(|answer| ids(&format!("{}$", answer.text())))
                .collect(),
            notes: responses.iter().filter_map(note).collect(),
        })
    }

    fn stray_token(&self, record: &Record) -> Option<String> {
        let found = record.prompt.iter().any(|turn| turn.text().contains('<'));
        found.then(|| "<".to_owned())
    }
}

fn records(rows: &[Value]) -> (Vec<Record>, DataReport) {
    let files = Files::new();
    let file = files.lines("data.jsonl", rows);
    load(&[file], &[shorter()], RecordKind::Pair).unwrap()
}

fn run(
    rows: &[Value],
    prompt: usize,
    response: usize,
    overlong_prompts: OverlongPrompts,
) -> (Vec<Example>, DataReport) {
    let (records, mut report) = records(rows);
    let limits = TokenLimits {
        max_prompt_tokens: prompt,
        max_response_tokens: response,
        overlong_prompts,
    };
    let examples = tokenize(
        records,
        &Characters,
        &limits,
        Tolerance::default(),
        &mut report,
    )
    .unwrap();
    (examples, report)
}

fn row(prompt: Value, chosen: &str, rejected: &str) -> Value {
    json!({"prompt": prompt, "chosen": chosen, "rejected": rejected})
}

#[test]
fn prompt_and_responses_are_apart_in_tokens() {
    let (examples, report) = run(&[row(json!("ab"), "x", "yyy")], 5, 4, OverlongPrompts::Skip);
    assert_eq!(text(&examples[0].prompt), "<uab>");
    assert_eq!(text(&examples[0].responses[0]), "x$");
    assert_eq!(text(&examples[0].responses[1]), "yyy$");
    assert_eq!(
        (report.truncated_prompts, report.truncated_responses),
        (0, 0)
    );
    let tokens = report.tokens.unwrap();
    assert_eq!((tokens.prompt, tokens.response), (5, 6));
    assert_eq!((tokens.longest_prompt, tokens.longest_response), (5, 4));
}

#[test]
fn what_is_to_be_known_of_the_boundary_is_said_once() {
    let rows = ["!x", "y", "!z"].map(|chosen| row(json!("ab"), chosen, "long"));
    let (_, report) = run(&rows, 9, 9, OverlongPrompts::Skip);
    let said = report.to_string();
    assert_eq!(said.matches("shouted").count(), 1);
    assert!(said.contains("template    2 records: shouted"), "{said}");
}

#[test]
fn records_with_special_tokens_are_named() {
    let rows = ["ab", "<b", "c", "d<", "<", "<<"].map(|prompt| row(json!(prompt), "x", "yy"));
    let (_, report) = run(&rows, 9, 9, OverlongPrompts::Skip);
    let lines: Vec<usize> = report
        .stray_tokens
        .iter()
        .map(|(source, _)| source.line)
        .collect();
    assert_eq!(lines, [2, 4, 5, 6]);
    let said = report.to_string();
    assert!(
        said.contains("warning     4 records") && said.contains("data.jsonl:2 has \"<\""),
        "{said}"
    );
    assert!(
        said.contains(", …") && !said.contains("data.jsonl:6"),
        "{said}"
    );
}

#[test]
fn a_truncated_response_has_no_end_of_turn() {
    let (examples, report) = run(
        &[row(json!("ab"), "x", "yyyy")],
        9,
        4,
        OverlongPrompts::Skip,
    );
    assert_eq!(text(&examples[0].responses[1]), "yyyy");
    assert_eq!(report.truncated_responses, 1);
    assert!(
        report
            .to_string()
            .contains("truncated   0 prompts, 1 responses")
    );
}

#[test]
fn overlong_prompts_are_skipped_by_default() {
    let rows = [row(json!("abcdef"), "x", "yy"), row(json!("ab"), "x", "yy")];
    let (examples, report) = run(&rows, 6, 9, OverlongPrompts::default());
    assert_eq!(examples.len(), 1);
    assert_eq!(examples[0].source.line, 2);
    assert_eq!(report.skipped[0].reason, SkipReason::OverlongPrompt);
    assert_eq!(
        (
            report.kept,
            report.objectives[0].labelled,
            report.objectives[0].used
        ),
        (1, 2, 1)
    );
}

#[test]
fn truncation_keeps_the_template_and_the_end() {
    let (examples, report) = run(
        &[row(json!("abcdef"), "x", "yy")],
        6,
        9,
        OverlongPrompts::Truncate,
    );
    assert_eq!(text(&examples[0].prompt), "<udef>");
    assert_eq!((report.truncated_prompts, report.kept), (1, 1));

    let conversation = json!([
        {"role": "system", "content": "S"},
        {"role": "user", "content": "one"}, {"role": "assistant", "content": "two"},
        {"role": "user", "content": "thrée"}
    ]);
    let prompt = |limit| {
        let rows = [row(conversation.clone(), "x", "yy")];
        text(&run(&rows, limit, 9, OverlongPrompts::Truncate).0[0].prompt)
    };
    assert_eq!(prompt(18), "<sSuoneatwouthrée>");
    assert_eq!(prompt(17), "<sSuthrée>");
    assert_eq!(prompt(10), "<sSuthrée>");
    assert_eq!(prompt(7), "<sSuée>");
}

#[test]
fn a_template_that_does_not_fit_is_skipped_even_then() {
    let rows = [
        row(
            json!([{"role": "system", "content": "SSSS"}, {"role": "user", "content": "a"}]),
            "x",
            "yy",
        ),
        row(json!("a"), "x", "yy"),
    ];
    let (examples, report) = run(&rows, 5, 9, OverlongPrompts::Truncate);
    assert_eq!((examples.len(), examples[0].source.line), (1, 2));
    assert_eq!(report.skipped[0].reason, SkipReason::OverlongPrompt);
}

#[test]
fn responses_that_differ_behind_the_limit_only_are_skipped() {
    let rows = [
        row(json!("a"), "sameA", "sameBB"),
        row(json!("a"), "x", "yy"),
    ];
    let (examples, report) = run(&rows, 9, 4, OverlongPrompts::Skip);
    assert_eq!(examples.len(), 1);
    assert_eq!(report.skipped[0].reason, SkipReason::EqualAfterTruncation);
    assert_eq!(
        report.truncated_responses, 0,
        "counted for kept records only"
    );

    // KTO judges the two one by one: the same tokens cannot be good and bad.
    let files = Files::new();
    let file = files.lines("data.jsonl", &rows);
    let limits = TokenLimits {
        max_prompt_tokens: 9,
        max_response_tokens: 4,
        overlong_prompts: OverlongPrompts::Skip,
    };
    let judged = |file: PathBuf, objective: ObjectiveSpec| {
        let loader = Loader::new(RecordKind::Unpaired);
        let (records, mut report) = loader.load(&[file], &[objective]).unwrap();
        let tolerance = Tolerance::default();
        let examples = tokenize(records, &Characters, &limits, tolerance, &mut report);
        (examples.unwrap(), report)
    };
    let (examples, report) = judged(file, chosen());
    assert_eq!((examples.len(), examples[0].source.line), (1, 2));
    assert_eq!(report.skipped[0].reason, SkipReason::EqualAfterTruncation);

    // An answer that was drawn twice has one verdict, and counts twice.
    let drawn =
        json!({"prompt": "a", "responses": ["x", "x", "yy"], "scores": {"right": [1, 1, 0]}});
    let file = files.lines("drawn.jsonl", &[drawn]);
    let (examples, report) = judged(file, score("right"));
    assert_eq!(examples[0].judgements.len(), 3, "{report}");
}

#[test]
fn nothing_left_is_an_error() {
    let (records, mut report) = records(&[row(json!("abc"), "x", "yy")]);
    let mut limits = TokenLimits {
        max_prompt_tokens: 4,
        max_response_tokens: 8,
        overlong_prompts: OverlongPrompts::Skip,
    };
    let error = tokenize(
        records.clone(),
        &Characters,
        &limits,
        Tolerance::default(),
        &mut report.clone(),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "objective `shorter` has no record left: all 1 that are labelled were skipped (1 prompt too long); \
         raise `max_prompt_tokens` or `max_response_tokens`, or set `overlong_prompts = \"truncate\"`"
    );
    limits.max_response_tokens = 0;
    let error = tokenize(
        records,
        &Characters,
        &limits,
        Tolerance::default(),
        &mut report,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`max_response_tokens`: found 0, expected at least 1 token"
    );

    // Labels that never meet in a record, where all are asked for.
    let of = |scores| json!({"prompt": "a", "responses": ["x", "yy"], "scores": scores});
    let files = Files::new();
    let file = files.lines(
        "data.jsonl",
        &[of(json!({"h": [1, 2]})), of(json!({"c": [1, 2]}))],
    );
    let mut loader = Loader::new(RecordKind::Pair);
    loader.labelled_by = LabelledBy::All;
    limits.max_response_tokens = 8;
    let error = loader
        .examples(&[file], &[score("h"), score("c")], &Characters, &limits)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "objective `h` has no record left: all 1 that are labelled were skipped (2 not every objective labels them); \
         set `labelled_by = \"any\"`"
    );

    // The prompts are too long as well.
    let of = |scores| json!({"prompt": "abcdef", "responses": ["x", "yy"], "scores": scores});
    let file = files.lines(
        "long.jsonl",
        &[
            of(json!({"h": [1, 2], "c": [1, 2]})),
            of(json!({"h": [1, 2]})),
        ],
    );
    let error = loader
        .examples(&[file], &[score("h"), score("c")], &Characters, &limits)
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with(
            "; raise `max_prompt_tokens` or `max_response_tokens`, or set `overlong_prompts = \"truncate\"`; \
             set `labelled_by = \"any\"`"
        ),
        "{error}"
    );
}

#[test]
fn a_refusing_template_is_named_with_its_record() {
    let (records, mut report) = records(&[row(json!("a"), "x", "yy"), row(json!("#"), "x", "yy")]);
    let limits = TokenLimits {
        max_prompt_tokens: 9,
        max_response_tokens: 9,
        overlong_prompts: OverlongPrompts::Skip,
    };
    let error = tokenize(
        records,
        &Characters,
        &limits,
        Tolerance::default(),
        &mut report,
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("data.jsonl:2: the prompt cannot be tokenised: the template knows no #"),
        "{error}"
    );
}

#[test]
fn keys_of_which_nothing_is_made_are_counted() {
    let row = |user: Value, answer: Value, more: Value| {
        let mut row = json!({"prompt": [user], "chosen": [answer], "rejected": "y"});
        row.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        row
    };
    let user = json!({"role": "user", "content": "a"});
    let answer = json!({"role": "assistant", "content": "xx", "weight": 2});
    let both = json!({"role": "assistant", "content": "xx", "weight": 2, "id": 7});
    let (records, mut report) = records(&[
        row(user.clone(), both, json!({})),
        row(user, answer, json!({})),
        json!({"prompt": "c", "chosen": "xx", "rejected": "y"}),
    ]);
    let limits = TokenLimits {
        max_prompt_tokens: 9,
        max_response_tokens: 9,
        overlong_prompts: OverlongPrompts::Skip,
    };
    tokenize(
        records,
        &Characters,
        &limits,
        Tolerance::default(),
        &mut report,
    )
    .unwrap();
    assert_eq!(report.unread.records, 2);
    let expected = "warning     2 records have turns or variables with keys that neither reader nor template uses: \
                    `id` (1), `weight` (2)\n";
    assert!(report.to_string().contains(expected), "{report}");
}
