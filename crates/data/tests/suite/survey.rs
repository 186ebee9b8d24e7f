//! What a file could be judged by, and scores in two columns.

use panacea_data::{LabelSource, Survey};
use serde_json::{Value, json};

use super::{Files, column, load_pairs};

fn pair(more: Value) -> Value {
    let mut row = json!({"prompt": "q", "chosen": "a long answer", "rejected": "short"});
    let (row_fields, more) = (
        row.as_object_mut().unwrap(),
        more.as_object().unwrap().clone(),
    );
    row_fields.extend(more);
    row
}

#[test]
fn the_scores_of_both_answers_may_stand_in_two_columns() {
    for [chosen, rejected] in [
        ["tone_chosen", "tone_rejected"],
        ["chosen_tone", "rejected_tone"],
        ["tone-chosen", "tone-rejected"],
        ["chosen-tone", "rejected-tone"],
    ] {
        let rows = [
            pair(json!({chosen: 1, rejected: 2.5})),
            pair(json!({chosen: 3, rejected: 2})),
            pair(json!({chosen: null, rejected: 2})),
            pair(json!({})),
        ];
        let (records, report) = load_pairs(&rows, &[column("tone")]).unwrap();
        let labels = records.iter().map(|record| record.judgements[0].labels[0]);
        assert_eq!(labels.collect::<Vec<_>>(), [Some(0.0), Some(1.0)]);
        let counts = &report.objectives[0];
        assert_eq!((counts.labelled, counts.ties, counts.missing), (2, 0, 2));
        assert!(report.files[0].unread_columns.is_empty(), "{report}");

        let error = load_pairs(
            &[pair(json!({chosen: "good", rejected: 2}))],
            &[column("tone")],
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(chosen) && error.contains("\"good\""),
            "{error}"
        );
    }
    // A column of that name goes before.
    let rows = [pair(
        json!({"tone": 0, "tone_chosen": 1, "tone_rejected": 2}),
    )];
    let (records, _) = load_pairs(&rows, &[column("tone")]).unwrap();
    assert_eq!(records[0].judgements[0].labels, [Some(1.0)]);
}

#[test]
fn a_survey_names_what_judges_pairs_and_what_does_not() {
    let files = Files::new();
    let rows = [
        json!({"tone_chosen": 3, "tone_rejected": 1, "safer": 1, "share": 0.2, "id": 0, "source": "a", "note": null}),
        json!({"tone_chosen": 1, "tone_rejected": 1, "safer": 0, "share": 0.7, "id": 1, "source": "b", "note": null}),
        json!({"tone_chosen": 2, "tone_rejected": 1, "safer": 1, "share": 0.1, "id": 2, "source": "c", "late": [1, 2]}),
    ];
    let rows: Vec<Value> = rows.into_iter().map(pair).collect();
    let survey = Survey::of(&[files.lines("a.jsonl", &rows)]).unwrap();
    assert_eq!(survey.records, 3);
    let found: Vec<(&str, usize, usize, bool)> = (survey.candidates.iter())
        .map(|one| {
            let differs = one.differs(&survey.candidates[0]);
            (
                &one.objective.name[..],
                one.labelled(),
                differs,
                one.is_of_fractions,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("preferred", 3, 0, false),
            ("tone", 2, 0, false),
            ("safer", 3, 2, false),
            ("share", 3, 1, true),
            ("late", 1, 1, false),
            ("brevity", 3, 3, false),
        ]
    );
    assert_eq!(survey.candidates[0].objective.source, LabelSource::Chosen);
    assert!(survey.candidates.iter().all(|one| one.pairs() == 3));
    let others: Vec<&String> = survey.others.keys().collect();
    assert_eq!(others, ["id", "note", "source"]);
    assert!(
        survey.others["id"].contains("the number 2"),
        "{:?}",
        survey.others
    );
}

#[test]
fn a_survey_refuses_what_is_no_file_of_pairs() {
    let files = Files::new();
    let refused = |name: &str, rows: &[Value], expected: &str| {
        let error = Survey::of(&[files.lines(name, rows)])
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(
        "single.jsonl",
        &[json!({"prompt": "q", "completion": "a", "label": true})],
        "KTO",
    );
    refused(
        "columns.jsonl",
        &[json!({"frage": "q", "antwort": "a"})],
        "frage",
    );
    refused(
        "same.jsonl",
        &[json!({"prompt": "q", "chosen": "a", "rejected": "a"})],
        "identical responses",
    );
    let error = Survey::of(&[files.path("absent.jsonl")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("absent.jsonl"), "{error}");
}
