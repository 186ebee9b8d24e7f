//! Records that cannot be used: skipped and counted wherever one can be refused, up to a share of them.

use std::path::PathBuf;

use panacea_data::{
    BadRecords, DataError, DataReport, Example, Format, Loader, ObjectiveSpec, OverlongPrompts,
    Record, RecordKind, SkipReason, TokenLimits, Tolerance, load, tokenize,
};
use serde_json::{Value, json};

use super::formats::gzip;
use super::tokens::Characters;
use super::{Files, chosen, message, score, shorter};

fn skipping(max_skipped: f64) -> Tolerance {
    Tolerance {
        bad_records: BadRecords::Skip,
        max_skipped,
    }
}

fn load_with(
    files: &[PathBuf],
    objectives: &[ObjectiveSpec],
    tolerance: Tolerance,
) -> Result<(Vec<Record>, DataReport), DataError> {
    let mut loader = Loader::new(RecordKind::Pair);
    loader.tolerance = tolerance;
    loader.load(files, objectives)
}

/// From a file to examples.
fn prepare(file: PathBuf, tolerance: Tolerance) -> Result<(Vec<Example>, DataReport), DataError> {
    let limits = TokenLimits {
        max_prompt_tokens: 20,
        max_response_tokens: 20,
        overlong_prompts: OverlongPrompts::Skip,
    };
    let (records, mut report) = load_with(&[file], &[score("s"), shorter()], tolerance)?;
    let examples = tokenize(records, &Characters, &limits, tolerance, &mut report)?;
    Ok((examples, report))
}

fn good() -> String {
    json!({"prompt": "q", "responses": ["a", "bb"], "scores": {"s": [1, 2]}}).to_string()
}

/// A line for each place at which a record can be refused.
fn bad_lines() -> Vec<Vec<u8>> {
    let row = |prompt: &str, second: &str, scores: Value| {
        let row = json!({"prompt": prompt, "responses": ["a", second], "scores": {"s": scores}});
        row.to_string().into_bytes()
    };
    let scores = || json!([1, 2]);
    vec![
        br#"{"prompt": "q", "responses": ["a", "\x"]}"#.to_vec(),
        br#"{"prompt": "\ud800", "responses": ["a", "bb"]}"#.to_vec(),
        br#"{"prompt": "q", "responses": ["a", "bb"], "scores": {"s": [NaN, 1]}}"#.to_vec(),
        br#"{"prompt": "q", "responses": ["a", "bb"#.to_vec(),
        b"{\"prompt\": \"caf\xe9\"}".to_vec(),
        b"17".to_vec(),
        br#"{"text": "q"}"#.to_vec(),
        row(" ", "bb", scores()),
        row("q", "", scores()),
        row("q", "bb", json!([1, 2, 3])),
        row("q", "bb", json!(["much", 2])),
        row("#", "bb", scores()),
        row("q", "b$", scores()),
    ]
}

#[test]
fn every_place_that_refuses_a_record_skips_it() {
    let files = Files::new();
    let mut lines = bad_lines();
    let bad = lines.len();
    lines.insert(0, good().into_bytes());
    let file = files.write("data.jsonl", lines.join(&b'\n'));
    let (examples, report) = prepare(file.clone(), skipping(1.0)).unwrap();
    assert_eq!(examples.len(), 1);
    assert_eq!(examples[0].source.line, 1);
    assert_eq!((report.read, report.kept), (bad + 1, 1));
    let mut skipped: Vec<usize> = report.skipped.iter().map(|row| row.source.line).collect();
    skipped.sort_unstable();
    assert_eq!(skipped, (2..=bad + 1).collect::<Vec<_>>());
    let folder = format!("{}/", file.parent().unwrap().display());
    let text = report.to_string().replace(&folder, "");
    let expected = "\
records     14 read, 1 kept
skipped     4: a field cannot be used (data.jsonl:7, data.jsonl:8, data.jsonl:9, …)
            the first: field `(the record)`: found the number 17, expected an object
skipped     2: a label or score cannot be used (data.jsonl:11, data.jsonl:12)
            the first: field `scores.s`: found a list of 3, expected a list of 2 numbers, one for each response
skipped     4: the line is not JSON (data.jsonl:2, data.jsonl:3, data.jsonl:4, …)
            the first: broken JSON at column 38: invalid escape; expected one JSON object per line, or one array of objects in the file
skipped     1: the line is not UTF-8 (data.jsonl:6)
            the first: found bytes that are not UTF-8, from byte 16 of the line on; expected text in UTF-8
skipped     2: the template or tokenizer refuses them (data.jsonl:13, data.jsonl:14)
            the first: the prompt cannot be tokenised: the template knows no #
";
    assert!(text.contains(expected), "{text}");
}

/// With `bad_records = "error"` each of them stops, with the same words behind file and line.
#[test]
fn every_one_of_them_is_an_error_otherwise() {
    for line in bad_lines() {
        let files = Files::new();
        let lines = [good().into_bytes(), line.clone()].join(&b'\n');
        let file = files.write("data.jsonl", lines);
        let (_, report) = prepare(file.clone(), skipping(1.0)).unwrap();
        let SkipReason::Refused(problem) = &report.skipped[0].reason else {
            panic!("{report}");
        };
        let error = prepare(file.clone(), Tolerance::default()).unwrap_err();
        assert_eq!(message(&error, &file), format!("data.jsonl:2: {problem}"));
    }
}

#[test]
fn single_responses_among_pairs_are_skipped() {
    let files = Files::new();
    let pairs = files.write("pairs.jsonl", good());
    let alone = files.lines("alone.jsonl", &[json!({"prompt": "q", "completion": "a"})]);
    let (records, report) =
        load_with(&[pairs, alone.clone()], &[shorter()], skipping(0.5)).unwrap();
    assert_eq!(records.len(), 1);
    let refused = report.skipped[0].reason.clone();
    let text = report.to_string();
    assert!(
        text.contains("skipped     1: one response where two are needed"),
        "{text}"
    );
    let error = load_with(&[alone], &[shorter()], Tolerance::default()).unwrap_err();
    let SkipReason::Refused(problem) = refused else {
        panic!("{text}");
    };
    assert!(error.to_string().ends_with(&problem.to_string()), "{error}");
}

#[test]
fn a_file_that_is_broken_as_a_whole_stops_all_the_same() {
    let files = Files::new();
    let array = files.write("data.json", format!("[{},\n{{\"prompt\": NaN}}]", good()));
    let error = load_with(std::slice::from_ref(&array), &[shorter()], skipping(1.0)).unwrap_err();
    assert!(
        message(&error, &array).starts_with("data.json:2: broken JSON at column 12"),
        "{error}"
    );
    // Its elements can be left out.
    let array = files.write("data.json", format!("[7, {}]", good()));
    let (records, report) = load_with(&[array], &[shorter()], skipping(0.5)).unwrap();
    assert_eq!((records.len(), report.skipped[0].source.line), (1, 1));

    let parquet = files.write("data.parquet", "no parquet");
    let error = load_with(&[parquet], &[shorter()], skipping(1.0)).unwrap_err();
    assert!(error.to_string().contains("cannot read the Parquet file"));
}

#[test]
fn a_share_of_the_records_may_be_skipped() {
    let lines = |bad: usize, of: usize| {
        let mut lines = vec!["{".to_owned(); bad];
        lines.resize(of, good());
        lines.join("\n")
    };
    let load = |bad: usize, of: usize, tolerance: Tolerance| {
        let files = Files::new();
        let file = files.write("data.jsonl", lines(bad, of));
        let loaded = load_with(std::slice::from_ref(&file), &[shorter()], tolerance);
        loaded.map_err(|error| message(&error, &file))
    };
    let usual = Tolerance {
        bad_records: BadRecords::Skip,
        ..Tolerance::default()
    };
    assert_eq!(load(1, 10, usual).unwrap().0.len(), 9);
    assert_eq!(load(29, 100, skipping(0.29)).unwrap().0.len(), 71);
    assert_eq!(
        load(2, 10, usual).unwrap_err(),
        "2 of 10 records cannot be used, which is a share of 0.20; expected at most data.max_skipped = 0.1:\n  \
         2: the line is not JSON (data.jsonl:1, data.jsonl:2)\n    \
         the first: broken JSON at column 1: EOF while parsing an object; expected one JSON object per line, or one array of objects in the file\n\
         correct these records, set `data.format` if they were read as another format, or raise `data.max_skipped` if the others are enough"
    );
    assert!(load(1, 100, skipping(0.0)).is_err());
    // Rounded up: one bad record does not stop a small file.
    assert_eq!(load(1, 3, usual).unwrap().0.len(), 2);
    assert_eq!(load(2, 15, usual).unwrap().0.len(), 13);
    assert!(load(2, 3, usual).is_err());
    assert!(load(1, 3, skipping(0.0)).is_err());
}

/// What the template refuses counts with what the reader has refused before.
#[test]
fn the_share_is_that_of_all_refusals() {
    let files = Files::new();
    let refused = json!({"prompt": "#", "responses": ["a", "bb"], "scores": {"s": [1, 2]}});
    let lines = ["17".to_owned(), refused.to_string(), good(), good()];
    let file = files.write("data.jsonl", lines.join("\n"));
    assert_eq!(prepare(file.clone(), skipping(0.5)).unwrap().0.len(), 2);
    let error = prepare(file.clone(), skipping(0.25))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("2 of 4 records"), "{error}");
    assert!(error.contains("the template knows no #"), "{error}");
}

#[test]
fn records_without_fault_do_not_count() {
    let files = Files::new();
    let row = |prompt: &str, second: &str, scores: Value| {
        json!({"prompt": prompt, "responses": ["a", second], "scores": scores}).to_string()
    };
    let lines = [
        good(),
        row("q", "a", json!({"s": [1, 2]})),
        row("q", "b", json!(null)),
        row("far too long a question", "bb", json!({"s": [1, 2]})),
    ];
    let file = files.write("data.jsonl", lines.join("\n"));
    let (examples, report) = prepare(file, skipping(0.0)).unwrap();
    assert_eq!((examples.len(), report.skipped.len()), (1, 3));
}

/// Labels are counted once the whole row has been read.
#[test]
fn a_refused_row_counts_for_no_objective() {
    let files = Files::new();
    let bad = json!({"prompt": "q", "responses": ["a", "bb"], "scores": {"s": [1, 2], "t": "?"}});
    let good =
        json!({"prompt": "q", "responses": ["a", "bb"], "scores": {"s": [1, 2], "t": [1, 2]}});
    let file = files.lines("data.jsonl", &[bad, good]);
    let (_, report) = load_with(&[file], &[score("s"), score("t")], skipping(0.5)).unwrap();
    let counts: Vec<_> = (report.objectives.iter())
        .map(|found| (found.labelled, found.ties, found.missing, found.used))
        .collect();
    assert_eq!(counts, [(1, 0, 0, 1), (1, 0, 0, 1)]);
}

#[test]
fn the_format_is_told_by_the_first_record_that_has_one() {
    let files = Files::new();
    let lines = ["{", "{\"frage\": 1}", &good()];
    let file = files.write("data.jsonl", lines.join("\n"));
    let (records, report) = load_with(&[file], &[shorter()], skipping(1.0)).unwrap();
    assert_eq!((records.len(), report.files[0].format), (1, Format::Scored));
    assert!(
        (report.to_string()).contains("skipped     1: no format has their columns"),
        "{report}"
    );
    // Where none has, it is the file.
    let file = files.lines("data.jsonl", &[json!({"frage": 1}), json!({"frage": 2})]);
    let error = load_with(&[file], &[chosen()], skipping(1.0)).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("data.jsonl:1: cannot tell the format from the columns `frage`"),
        "{error}"
    );
    // Answers with a verdict are never taken for SFT, though a later record has none.
    let rows = [
        json!({"prompt": "q", "completion": "a", "label": false}),
        json!({"prompt": "q", "completion": "a"}),
    ];
    let file = files.lines("data.jsonl", &rows);
    let mut loader = Loader::new(RecordKind::Sft);
    loader.tolerance = skipping(1.0);
    let error = loader.load(&[file], &[chosen()]).unwrap_err();
    assert!(error.to_string().contains("method.loss = \"kto\""));
}

/// Bytes and columns are those of the line as an editor shows it, with all that stands before the object.
#[test]
fn places_are_those_of_the_whole_line() {
    let files = Files::new();
    let said = |content: &[u8]| {
        let file = files.write("data.jsonl", content);
        load(&[file], &[shorter()], RecordKind::Pair)
            .unwrap_err()
            .to_string()
    };
    for (before, object) in [(3, "\u{feff}"), (2, "  "), (5, "\u{feff}\t ")] {
        let broken = format!("{object}{{\"a\": x}}");
        let column = format!("at column {}", before + 7);
        assert!(said(broken.as_bytes()).contains(&column), "{before}");
        let mut latin = format!("{object}{{\"a\": \"").into_bytes();
        latin.extend(b"\xe9\"}");
        let byte = format!("from byte {} of", before + 8);
        assert!(said(&latin).contains(&byte), "{before}");
    }
    let array = "\u{feff}[{\"a\": x}]";
    assert!(said(array.as_bytes()).contains("at column 11"));
}

#[test]
fn nothing_is_noted_of_a_row_that_is_not_used() {
    let row = |chosen: &str| {
        let prompt = json!([{"role": "user", "content": "q"}]).to_string();
        json!({"prompt": prompt, "chosen": chosen, "rejected": "b"})
    };
    let files = Files::new();
    let file = files.lines("data.jsonl", &[row("a"), row(" "), row("b")]);
    let mut loader = Loader::new(RecordKind::Pair);
    loader.tolerance = skipping(1.0);
    let (records, report) = loader.load(&[file], &[chosen()]).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(report.notes.values().collect::<Vec<_>>(), [&1]);
}

/// A few KB of gzip can hold a line without an end.
#[test]
fn a_record_that_is_too_long_is_refused_before_it_is_in_memory() {
    let files = Files::new();
    let good = good();
    let long = format!(r#"{{"prompt": "{}"}}"#, "a".repeat(40 << 20));
    let file = files.write("data.jsonl.gz", gzip(&format!("{good}\n{long}\n{good}")));
    let refused = load_with(
        std::slice::from_ref(&file),
        &[score("s")],
        Tolerance::default(),
    );
    let refused = message(&refused.unwrap_err(), &file);
    assert!(
        refused.starts_with("data.jsonl.gz:2: the record has more than ")
            && refused.contains("bytes as text, which is out of proportion to the gzipped file"),
        "{refused}"
    );
    let (records, report) =
        load_with(std::slice::from_ref(&file), &[score("s")], skipping(0.5)).unwrap();
    let lines: Vec<usize> = records.iter().map(|record| record.source.line).collect();
    assert_eq!(lines, [1, 3]);
    assert!(
        report.to_string().contains("the record is too long"),
        "{report}"
    );

    // One that is not gzipped takes no more memory than its file.
    let pair = format!(
        r#"{{"prompt": "q", "responses": ["{}", "b"], "scores": {{"s": [1, 2]}}}}"#,
        "a".repeat(20 << 20)
    );
    let plain = files.write("long.jsonl", pair);
    let (records, _) = load_with(&[plain], &[score("s")], Tolerance::default()).unwrap();
    assert_eq!(records.len(), 1);

    let file = files.write("data.json.gz", gzip(&format!("[{good}, {long}]")));
    let refused = load_with(std::slice::from_ref(&file), &[score("s")], skipping(0.5));
    let refused = message(&refused.unwrap_err(), &file);
    assert!(
        refused.starts_with("data.json.gz:2: the record has more"),
        "{refused}"
    );
}
