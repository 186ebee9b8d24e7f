//! How objectives label records, and what the report counts.

use panacea_data::{
    DataReport, LabelSource, LabelledBy, Loader, ObjectiveSpec, Part, RecordKind, Rule, SkipReason,
    Strength, load,
};
use serde_json::{Value, json};

use super::{Files, chosen, column, load_pairs, score, shorter};

fn scored(scores: Value) -> Value {
    json!({"prompt": "q", "responses": ["long answer", "short"], "scores": scores})
}

/// The labels of the records that are left.
fn labels(rows: &[Value], objectives: &[ObjectiveSpec]) -> Vec<Vec<Option<f64>>> {
    let (records, _) = load_pairs(rows, objectives).unwrap();
    records
        .into_iter()
        .map(|mut record| record.judgements.remove(0).labels)
        .collect()
}

/// The lines that are not used, with the reasons.
fn skipped(report: &DataReport) -> Vec<(usize, &SkipReason)> {
    let rows = report.skipped.iter();
    rows.map(|row| (row.source.line, &row.reason)).collect()
}

#[test]
fn scores_ties_and_gaps_are_counted() {
    let rows = [
        scored(json!({"helpful": [3.0, 2.5], "concise": [1, 2]})),
        scored(json!({"helpful": [2.0, 2.0], "concise": [1, 2]})),
        scored(json!({"concise": [3, 2]})),
        scored(json!({"helpful": null, "concise": [null, 2]})),
        scored(json!(null)),
    ];
    let (records, report) = load_pairs(&rows, &[score("helpful"), score("concise")]).unwrap();
    let found: Vec<_> = records
        .iter()
        .map(|record| record.judgements[0].labels.clone())
        .collect();
    assert_eq!(
        found,
        [
            vec![Some(1.0), Some(0.0)],
            vec![None, Some(0.0)],
            vec![None, Some(1.0)]
        ]
    );
    let counts: Vec<_> = report
        .objectives
        .iter()
        .map(|o| (o.labelled, o.ties, o.missing, o.used))
        .collect();
    assert_eq!(counts, [(1, 1, 3, 1), (3, 0, 2, 3)]);
    assert_eq!((report.read, report.kept), (5, 3));
    assert_eq!(
        skipped(&report),
        [(4, &SkipReason::Unlabelled), (5, &SkipReason::Unlabelled)]
    );
}

#[test]
fn identical_responses_are_skipped_and_counted() {
    let rows = [
        json!({"prompt": "q", "chosen": "a", "rejected": "a"}),
        json!({"prompt": "q", "chosen": "a", "rejected": "b"}),
    ];
    let (records, report) = load_pairs(&rows, &[chosen()]).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(report.skipped[0].reason, SkipReason::IdenticalResponses);
    assert_eq!(report.skipped[0].source.line, 1);
    assert_eq!(report.objectives[0].labelled, 1);
}

#[test]
fn columns_hold_an_index_a_probability_a_flag_or_two_scores() {
    let row = |value: Value| json!({"prompt": "q", "responses": ["a", "b"], "scores": {}, "better": value, "first": 0});
    let label_of = |value: Value, strength: Strength| {
        let mut objective = column("better");
        objective.strength = strength;
        // The second record is labelled, since an objective without any label is an error.
        let rows = [row(value), row(json!(0))];
        labels(&rows, &[objective, column("first")])[0][0]
    };
    for (value, hard, soft) in [
        (json!(0), Some(1.0), Some(1.0)),
        (json!(1), Some(0.0), Some(0.0)),
        (json!(1.0), Some(0.0), Some(0.0)),
        (json!(0.25), Some(1.0), Some(0.75)),
        (json!(0.5), None, Some(0.5)),
        (json!(true), Some(1.0), Some(1.0)),
        (json!(false), Some(0.0), Some(0.0)),
        (json!([1, 3]), Some(0.0), Some(1.0 / (1.0 + 2f64.exp()))),
        (
            json!([true, false]),
            Some(1.0),
            Some(1.0 / (1.0 + (-1f64).exp())),
        ),
        (json!([2, 2]), None, Some(0.5)),
        (json!([null, 2]), None, None),
        (json!(null), None, None),
    ] {
        assert_eq!(label_of(value.clone(), Strength::Hard), hard, "{value}");
        assert_eq!(
            label_of(value.clone(), Strength::BradleyTerry),
            soft,
            "{value}"
        );
    }
}

#[test]
fn bradley_terry_labels_are_the_sigmoid_of_the_gap() {
    let mut objective = score("helpful");
    objective.strength = Strength::BradleyTerry;
    let rows = [
        scored(json!({"helpful": [3, 1]})),
        scored(json!({"helpful": [1, 3]})),
    ];
    let found = labels(&rows, &[objective]);
    assert!((found[0][0].unwrap() - 0.880_797_077_977_882_4).abs() < 1e-15);
    assert!((found[0][0].unwrap() + found[1][0].unwrap() - 1.0).abs() < 1e-15);
}

#[test]
fn rules_count_characters_not_bytes() {
    let row = json!({"prompt": "q", "chosen": "äöü", "rejected": "abcd"});
    let longer = ObjectiveSpec::new("longer", LabelSource::Rule(Rule::Longer));
    assert_eq!(
        labels(&[row], &[shorter(), longer]),
        [[Some(1.0), Some(0.0)]]
    );
    let tie = json!({"prompt": "q", "chosen": "äöü", "rejected": "abc"});
    assert_eq!(
        labels(
            &[tie],
            &[chosen(), shorter()].map(|mut o| {
                if o.name == "shorter" {
                    o.source = LabelSource::Chosen;
                }
                o
            })
        ),
        [[Some(1.0), Some(1.0)]]
    );
}

#[test]
fn negate_turns_every_source_around() {
    let row = json!({
        "prompt": "q", "chosen": "aa", "rejected": "b", "scores": {"s": [2, 1]}, "c": 0
    });
    let mut objectives = [chosen(), score("s"), column("c"), shorter()];
    let straight = labels(std::slice::from_ref(&row), &objectives).remove(0);
    objectives
        .iter_mut()
        .for_each(|objective| objective.negate = true);
    let negated = labels(&[row], &objectives).remove(0);
    assert_eq!(straight, [Some(1.0), Some(1.0), Some(1.0), Some(0.0)]);
    assert_eq!(negated, [Some(0.0), Some(0.0), Some(0.0), Some(1.0)]);
}

#[test]
fn an_own_data_set_labels_its_objective_only() {
    let files = Files::new();
    let shared = files.lines(
        "shared.jsonl",
        &[json!({"prompt": "q", "chosen": "aa", "rejected": "b"})],
    );
    let own = files.lines(
        "own.jsonl",
        &[json!({"prompt": "r", "response_0": "a", "response_1": "b", "safer": 1})],
    );
    let held = files.lines(
        "held.jsonl",
        &[json!({"prompt": "s", "chosen": "a", "rejected": "bb"})],
    );
    let mut safe = column("safer");
    safe.train = vec![own.clone()];
    let objectives = [safe, shorter()];

    let (records, report) =
        load(std::slice::from_ref(&shared), &objectives, RecordKind::Pair).unwrap();
    let found: Vec<_> = records
        .iter()
        .map(|r| r.judgements[0].labels.clone())
        .collect();
    assert_eq!(found, [[None, Some(0.0)], [Some(0.0), None]]);
    assert_eq!(report.files[1].objective.as_deref(), Some("safer"));
    let counts: Vec<_> = report
        .objectives
        .iter()
        .map(|o| (o.labelled, o.missing))
        .collect();
    assert_eq!(counts, [(1, 0), (1, 0)]);

    // Its own files for the other part are other files.
    let mut objectives = [chosen(), shorter()];
    objectives[0].train = vec![shared.clone()];
    objectives[0].eval = vec![held.clone()];
    objectives[1].eval = vec![shared];
    let mut loader = Loader::new(RecordKind::Pair);
    loader.part = Part::Eval;
    let (records, _) = loader.load(&[], &objectives).unwrap();
    let places: Vec<_> = records.iter().map(|r| r.prompt[0].text()).collect();
    assert_eq!(places, ["s", "q"]);
}

#[test]
fn sft_records_belong_to_objectives_by_column() {
    let files = Files::new();
    let row = |style: Value| json!({"prompt": "q", "completion": "a", "style": style});
    let file = files.lines(
        "data.jsonl",
        &[
            row(json!("pirate")),
            row(json!(["poet", "pirate"])),
            row(json!("none of them")),
            row(json!(null)),
        ],
    );
    let objectives = ["pirate", "poet"]
        .map(|name| ObjectiveSpec::new(name, LabelSource::Column("style".to_owned())));
    let (records, report) = load(&[file], &objectives, RecordKind::Sft).unwrap();
    let found: Vec<_> = records
        .iter()
        .map(|r| r.judgements[0].labels.clone())
        .collect();
    assert_eq!(found, [[Some(1.0), None], [Some(1.0), Some(1.0)]]);
    assert_eq!((report.read, report.kept, report.skipped.len()), (4, 2, 2));
}

#[test]
fn sft_on_pairs_takes_the_preferred_responses() {
    let files = Files::new();
    let file = files.lines(
        "data.jsonl",
        &[
            scored(json!({"helpful": [3, 2], "concise": [1, 2]})),
            scored(json!({"helpful": [3, 2], "concise": [2, 1]})),
            scored(json!({"helpful": [2, 2], "concise": [1, 2]})),
        ],
    );
    let objectives = [score("helpful"), score("concise")];
    let (records, report) = load(&[file], &objectives, RecordKind::Sft).unwrap();
    let found: Vec<_> = records
        .iter()
        .map(|r| {
            (
                r.source.line,
                r.responses[0].text(),
                r.judgements[0].labels.clone(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (1, "long answer", vec![Some(1.0), None]),
            (1, "short", vec![None, Some(1.0)]),
            (2, "long answer", vec![Some(1.0), Some(1.0)]),
            (3, "short", vec![None, Some(1.0)]),
        ]
    );
    assert_eq!((report.read, report.kept), (3, 4));
    assert_eq!(report.objectives[1].used, 3);
}

/// The labels of every judgement, which are about one response each.
fn unpaired(
    rows: &[Value],
    objectives: &[ObjectiveSpec],
) -> Result<Vec<Vec<Vec<Option<f64>>>>, String> {
    let files = Files::new();
    let file = files.lines("data.jsonl", rows);
    let loaded = load(&[file], objectives, RecordKind::Unpaired);
    let (records, _) = loaded.map_err(|error| error.to_string())?;
    let of_record = |record: &panacea_data::Record| {
        let alone = record.judgements.iter().enumerate();
        let labels = alone.map(|(response, judgement)| {
            assert_eq!((judgement.response, judgement.against), (response, None));
            judgement.labels.clone()
        });
        labels.collect()
    };
    Ok(records.iter().map(of_record).collect())
}

#[test]
fn a_column_says_whether_a_single_response_is_good() {
    let row =
        |label: Value| json!({"prompt": "q", "completion": "a", "label": label, "kind": null});
    let rows = [
        row(json!(true)),
        row(json!(false)),
        row(json!(1)),
        row(json!(0.2)),
        row(json!(0.5)),
    ];
    let found = unpaired(&rows, &[column("label")]).unwrap();
    let expected = [1.0, 0.0, 1.0, 0.0].map(|label| vec![vec![Some(label)]]);
    assert_eq!(found, expected); // 0.5 says nothing.
    let mut soft = column("label");
    soft.strength = Strength::BradleyTerry;
    let mut negated = column("label");
    negated.name = "bad".to_owned();
    negated.negate = true;
    let found = unpaired(&rows, &[soft, negated]).unwrap();
    assert_eq!(found[0], [[Some(1.0), Some(0.0)]]);
    assert_eq!(found[3], [[Some(0.2), Some(1.0)]]);
    assert_eq!(found[4], [[Some(0.5), None]]);

    let error = unpaired(&[row(json!(-1))], &[column("label")]).unwrap_err();
    assert!(error.contains("data.jsonl:1: field `label`"), "{error}");
    assert!(
        error.contains("expected true or 1 (a good response)"),
        "{error}"
    );
    let error = unpaired(&rows, &[chosen()]).unwrap_err();
    assert!(error.contains("for KTO a `column` says whether"), "{error}");
}

#[test]
fn compared_responses_are_judged_one_by_one() {
    let pair = scored(json!({"helpful": [3, 2], "concise": [1, 1]}));
    let three = json!({
        "prompt": "q", "responses": ["a", "bb", "cc c"],
        "scores": {"helpful": [3, 2, 1], "concise": [1, 1, 2]}
    });
    let objectives = [score("helpful"), score("concise")];
    let found = unpaired(&[pair.clone(), three], &objectives).unwrap();
    assert_eq!(found[0], [[Some(1.0), None], [Some(0.0), None]]);
    // The one between wins one comparison and loses the other; two tie in front of the third.
    assert_eq!(
        found[1],
        [
            [Some(1.0), Some(0.0)],
            [None, Some(0.0)],
            [Some(0.0), Some(1.0)]
        ]
    );
    let mut soft = score("helpful");
    soft.strength = Strength::BradleyTerry;
    let found = unpaired(&[pair], &[soft]).unwrap();
    let label = 1.0 / (1.0 + (-1.0f64).exp());
    assert_eq!(found[0], [[Some(label)], [Some(1.0 - label)]]);
}

/// Of responses that are equally good none is the one to learn: the record is skipped, and counted.
#[test]
fn a_tie_has_no_answer_to_learn() {
    let files = Files::new();
    let rows = [
        scored(json!({"helpful": [3, 3]})),
        scored(json!({"helpful": [3, 2]})),
    ];
    let file = files.lines("data.jsonl", &rows);
    let mut soft = score("helpful");
    soft.strength = Strength::BradleyTerry;
    let (records, report) = load(&[file], &[soft], RecordKind::Sft).unwrap();
    assert_eq!(records.len(), 1, "{report}");
    assert_eq!(report.skipped.len(), 1, "{report}");
    assert_eq!(report.skipped[0].reason, SkipReason::Unlabelled);
}

/// A record on which nothing is said after all is skipped, and the report counts responses.
#[test]
fn unpaired_records_without_a_verdict_are_skipped() {
    let files = Files::new();
    let three = |scores: Value| json!({"prompt": "q", "responses": ["a", "bb", "cc c"], "scores": {"helpful": scores}});
    let rows = [three(json!([1, 1, 1])), three(json!([3, 2, 1]))];
    let file = files.lines("data.jsonl", &rows);
    let mut soft = score("helpful");
    soft.strength = Strength::BradleyTerry;
    let (records, report) = load(&[file], &[soft], RecordKind::Unpaired).unwrap();
    assert_eq!(records.len(), 1);
    let judged: Vec<_> = (records[0].judgements.iter())
        .map(|judgement| (judgement.response, judgement.labels[0]))
        .collect();
    assert_eq!(judged, [(0, Some(1.0)), (2, Some(0.0))]);
    assert_eq!(report.skipped[0].reason, SkipReason::Unlabelled);
    assert_eq!(
        (report.objectives[0].labelled, report.objectives[0].used),
        (2, 2)
    );
}

/// What a record scores itself is no label: a score may be any number, and nobody is compared.
#[test]
fn rlhf_records_keep_their_own_scores_apart_from_labels() {
    let files = Files::new();
    let file = files.lines(
        "data.jsonl",
        &[
            scored(json!({"warmth": [3.5, -2]})),
            scored(json!({"warmth": [null, 1]})),
        ],
    );
    let reward = |spec: Value| -> ObjectiveSpec { serde_json::from_value(spec).unwrap() };
    let objectives = [
        reward(json!({"name": "warm", "reward": {"score": "warmth", "otherwise": 0.0}})),
        reward(json!({"name": "brief", "reward": {"rule": "conciseness"}})),
    ];
    let (records, report) = load(&[file], &objectives, RecordKind::Prompt).unwrap();
    assert!(records.iter().all(|record| record.judgements.is_empty()));
    let scores: Vec<_> = records.iter().map(|record| record.scores.clone()).collect();
    assert_eq!(scores[0], [[Some(3.5), None], [Some(-2.0), None]]);
    assert_eq!(scores[1], [[None, None], [Some(1.0), None]]);
    let warm = &report.objectives[0];
    assert_eq!((warm.labelled, warm.missing, warm.used), (3, 1, 3));
}

#[test]
fn specs_come_from_configuration_and_go_back() {
    let spec = |value: Value| serde_json::from_value::<ObjectiveSpec>(value);
    let full = json!({
        "name": "safe", "column": "safer_response_id", "negate": true, "strength": "bradley-terry",
        "train": ["a.jsonl", "b.jsonl"], "eval": ["c.jsonl"], "format": "safe-rlhf"
    });
    let read = spec(full.clone()).unwrap();
    assert_eq!(
        read.source,
        LabelSource::Column("safer_response_id".to_owned())
    );
    assert_eq!(serde_json::to_value(&read).unwrap(), full);
    assert_eq!(
        spec(json!({"name": "n", "score": "n"})).unwrap(),
        score("n")
    );
    assert_eq!(
        spec(json!({"name": "shorter", "rule": "shorter"})).unwrap(),
        shorter()
    );
    // A path alone is a list of one; an own data set means its order.
    let own = spec(json!({"name": "n", "train": "a.jsonl"})).unwrap();
    assert_eq!(own.source, LabelSource::Chosen);
    assert_eq!(own.train.len(), 1);
}

#[test]
fn records_that_not_every_objective_labels_are_left_out_where_asked() {
    let rows = [
        scored(json!({"helpful": [3.0, 2.5], "concise": [1, 2]})),
        scored(json!({"helpful": [2.0, 2.0], "concise": [1, 2]})),
        scored(json!({"concise": [3, 2]})),
        scored(json!({})),
    ];
    let files = Files::new();
    let file = files.lines("data.jsonl", &rows);
    let mut loader = Loader::new(RecordKind::Pair);
    loader.labelled_by = LabelledBy::All;
    let objectives = [score("helpful"), score("concise")];
    let (records, report) = loader.load(&[file], &objectives).unwrap();
    let lines: Vec<_> = records.iter().map(|record| record.source.line).collect();
    assert_eq!(lines, [1]);
    let (partly, not) = (&SkipReason::PartlyLabelled, &SkipReason::Unlabelled);
    assert_eq!(skipped(&report), [(2, partly), (3, partly), (4, not)]);
    let counts = report.objectives.iter().map(|o| (o.labelled, o.used));
    assert_eq!(counts.collect::<Vec<_>>(), [(1, 1), (3, 1)]);
}

#[test]
fn every_objective_with_a_file_of_its_own_labels_that_file_alone() {
    let files = Files::new();
    let row = |scores: Value| [scored(scores)];
    let mut objectives = [score("helpful"), score("concise")];
    objectives[0].train = vec![files.lines("h.jsonl", &row(json!({"helpful": [1, 2]})))];
    objectives[1].train = vec![files.lines("c.jsonl", &row(json!({"concise": [1, 2]})))];
    let mut loader = Loader::new(RecordKind::Pair);
    loader.labelled_by = LabelledBy::All;
    let (records, _) = loader.load(&[], &objectives).unwrap();
    assert_eq!(records.len(), 2);
}

#[test]
fn the_report_is_a_table() {
    let rows = [
        scored(json!({"helpfulness": [3.0, 2.5], "short": [1, 2]})),
        scored(json!({"helpfulness": [2.0, 2.0], "short": [1, 2]})),
        scored(json!({})),
    ];
    let (_, report) = load_pairs(&rows, &[score("helpfulness"), score("short")]).unwrap();
    let folder = report.files[0].file.parent().unwrap().display().to_string();
    let text = report.to_string().replace(&format!("{folder}/"), "");
    assert_eq!(
        text,
        "\
file        data.jsonl (scored, 3 records)
records     3 read, 2 kept
skipped     1: no objective labels them (data.jsonl:3)
objective    labelled      ties   missing      used
helpfulness         1         1         1         1
short               2         0         1         2
"
    );
}

#[test]
fn every_two_of_several_responses_are_compared() {
    let row = json!({
        "prompt": "q", "responses": ["a", "bb", "ccc", "bb"],
        "scores": {"helpful": [1, 2, 2, 2], "concise": [3, 2, null, 2]}
    });
    let (records, report) = load_pairs(
        std::slice::from_ref(&row),
        &[score("helpful"), score("concise")],
    )
    .unwrap();
    let found: Vec<_> = records[0]
        .judgements
        .iter()
        .map(|judgement| {
            let labels = [judgement.labels[0], judgement.labels[1]];
            (judgement.response, judgement.against.unwrap(), labels)
        })
        .collect();
    // Neither 1 against 3, the same words, nor 1 against 2 and 2 against 3, which nothing tells apart.
    let expected = [
        (0, 1, [Some(0.0), Some(1.0)]),
        (0, 2, [Some(0.0), None]),
        (0, 3, [Some(0.0), Some(1.0)]),
    ];
    assert_eq!(found, expected);
    let counts = &report.objectives;
    assert_eq!(
        (
            counts[0].labelled,
            counts[0].ties,
            counts[0].missing,
            counts[0].used
        ),
        (3, 2, 0, 3)
    );
    assert_eq!(
        (
            counts[1].labelled,
            counts[1].ties,
            counts[1].missing,
            counts[1].used
        ),
        (2, 0, 3, 2)
    );

    // For SFT, those that no other one beats: here one.
    let files = Files::new();
    let file = files.lines(
        "data.jsonl",
        &[json!({
            "prompt": "q", "responses": ["a", "bb", "ccc"],
            "scores": {"helpful": [1, 2, 3], "concise": [3, 2, 1]}
        })],
    );
    let objectives = [score("helpful"), score("concise")];
    let (records, _) = load(&[file], &objectives, RecordKind::Sft).unwrap();
    let found: Vec<_> = records
        .iter()
        .map(|record| {
            (
                record.responses[0].text(),
                record.judgements[0].labels.clone(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [("a", vec![None, Some(1.0)]), ("ccc", vec![Some(1.0), None])]
    );
}

#[test]
fn a_list_of_scores_has_one_for_each_response() {
    let row = |scores: Value, better: Value| {
        json!({
            "prompt": "q", "responses": ["a", "bb", "ccc"], "scores": {"s": scores}, "better": better
        })
    };
    let error = |objective: ObjectiveSpec, row: Value| {
        load_pairs(&[row], &[objective]).unwrap_err().to_string()
    };
    let found = error(score("s"), row(json!([1, 2]), json!(0)));
    assert!(
        found.ends_with("found a list of 2, expected a list of 3 numbers, one for each response"),
        "{found}"
    );
    let found = error(column("better"), row(json!([1, 2, 3]), json!(0)));
    assert!(
        found.ends_with("found the number 0, expected a list of 3 numbers, one for each response"),
        "{found}"
    );
}

/// Data sets say in several ways that nobody has rated.
#[test]
fn what_is_not_rated_is_missing() {
    let unrated = [
        json!(null),
        json!("N/A"),
        json!("n/a"),
        json!(" NA "),
        json!("None"),
        json!("null"),
        json!("nan"),
        json!(""),
    ];
    for unrated in unrated {
        let rows = [
            json!({"prompt": "q", "responses": ["a", "b"], "scores": {"s": [unrated, 5], "t": [1, 2]}, "c": 0}),
            json!({"prompt": "q", "responses": ["a", "b"], "scores": {"s": unrated, "t": [1, 2]}, "c": unrated}),
            json!({"prompt": "q", "responses": ["a", "b"], "scores": unrated, "c": [unrated, 1]}),
            json!({"prompt": "q", "responses": ["a", "b"], "scores": {"s": [1, 2]}, "c": 0}),
        ];
        let (_, report) = load_pairs(&rows, &[score("s"), score("t"), column("c")]).unwrap();
        let counts: Vec<_> = (report.objectives.iter())
            .map(|found| (found.labelled, found.missing))
            .collect();
        assert_eq!(counts, [(1, 3), (2, 2), (2, 2)], "{unrated}");

        let rows = [&unrated, &json!(true)]
            .map(|label| json!({"prompt": "q", "completion": "a", "label": label}));
        assert_eq!(
            unpaired(&rows, &[column("label")]).unwrap(),
            [[[Some(1.0)]]],
            "{unrated}"
        );
    }
}

/// PKU-SafeRLHF writes −1 where nobody has said which is better; elsewhere a −1 is no index.
#[test]
fn minus_one_is_missing_in_the_columns_of_safe_rlhf() {
    let row = |better: i64, safer: i64| json!({"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": better, "safer_response_id": safer, "first": better});
    let objectives = [column("better_response_id"), column("safer_response_id")];
    let found = labels(&[row(0, -1), row(-1, 1), row(-1, -1)], &objectives);
    assert_eq!(found, [[Some(1.0), None], [None, Some(0.0)]]);
    let error = load_pairs(&[row(-1, 0)], &[column("first")]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("field `first`: found the number -1"),
        "{error}"
    );
}

/// A column of texts may hold the names of objectives, so that only what says nothing is missing.
#[test]
fn an_sft_column_that_says_nothing_is_missing_also_when_negated() {
    let files = Files::new();
    let row = |style: &str| json!({"prompt": "q", "completion": "a", "style": style});
    let file = files.lines("data.jsonl", &[row("N/A"), row("plain"), row("pirate")]);
    let mut objective = ObjectiveSpec::new("pirate", LabelSource::Column("style".to_owned()));
    objective.negate = true;
    let (records, _) = load(&[file], &[objective], RecordKind::Sft).unwrap();
    let lines: Vec<_> = records.iter().map(|record| record.source.line).collect();
    assert_eq!(lines, [2]);
}

#[test]
fn numbers_in_quotation_marks_are_refused_with_what_to_do() {
    let pair = |value: Value| json!({"prompt": "q", "responses": ["a", "b"], "better": value});
    for value in [json!("0"), json!("true"), json!(["1", 2])] {
        let error = load_pairs(&[pair(value)], &[column("better")]).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("; write it without quotation marks"),
            "{error}"
        );
    }
    let row = json!({"prompt": "q", "completion": "a", "label": "True"});
    let error = unpaired(&[row], &[column("label")]).unwrap_err();
    assert!(
        error.ends_with("; write it without quotation marks"),
        "{error}"
    );
    let error = load_pairs(&[pair(json!("first"))], &[column("better")]).unwrap_err();
    assert!(
        error.to_string().ends_with("or a list of two scores"),
        "{error}"
    );
}
