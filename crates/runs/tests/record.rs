//! From a plan to `run.toml` and back, and what a resumed run may differ in.

use std::path::Path;

use panacea_config::{Overrides, Plan, Spec};
use panacea_runs::{Differences, Extension, RunError, RunFacts, RunRecord, TrainingRun};

const MINIMAL: &str = include_str!("../../config/tests/files/minimal.toml");

const EVERYTHING: &str = include_str!("../../config/tests/files/everything.toml");

fn resolve_with(text: &str, overrides: &Overrides) -> Result<Plan, String> {
    Plan::resolve(Spec::from_toml(text, "my.toml"), overrides).map_err(|error| error.to_string())
}

fn resolve(text: &str) -> Result<Plan, String> {
    resolve_with(text, &Overrides::default())
}

fn set(assignments: &[&str]) -> Overrides {
    Overrides {
        set: assignments.iter().map(ToString::to_string).collect(),
        ..Overrides::default()
    }
}

fn record(text: &str) -> RunRecord {
    RunRecord {
        plan: resolve(text).unwrap(),
        facts: RunFacts {
            panacea: "0.1.0".into(),
            burn: "0.22.1".into(),
            model_fingerprint: "0123456789abcdef".into(),
            tokenizer_fingerprint: Some("0a0a0a0a0a0a0a0a".into()),
            template_fingerprint: Some("0b0b0b0b0b0b0b0b".into()),
            started_in: None,
            data_fingerprints: [("train.jsonl".into(), "feedfacefeedface".into())].into(),
            records: Some(9),
            extensions: Vec::new(),
            gone: Vec::new(),
        },
    }
}

#[test]
fn a_record_reads_back_as_it_was_written() {
    for text in [
        MINIMAL.to_owned(),
        EVERYTHING.to_owned(),
        format!("{MINIMAL}\n[method]\nloss = \"sft\"\n[optimizer]\nepochs = 0.5"),
        format!("{MINIMAL}\n[method]\ndpo_loss = \"ipo\""),
        format!("{MINIMAL}\n[method]\nname = \"reward-model\"\nmargin = 0.5\ncentering = 0.01"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run.toml");
        let written = record(&text);
        written.write(&path).unwrap();
        let read = RunRecord::read(&path).unwrap();
        assert_eq!(read, written);
        assert_eq!(
            written.check_resume(&read, place.path()).unwrap(),
            Differences::default()
        );
        // And it is a configuration.
        let plan = Plan::resolve(Spec::read(&path).unwrap(), &Overrides::default()).unwrap();
        assert_eq!(plan, written.plan);
    }
}

#[test]
fn a_record_names_every_default() {
    let text = record(MINIMAL).to_toml().unwrap();
    for line in [
        "seed = 17",
        "device = \"flex\"",
        "rank = 8",
        "beta = 0.1",
        "learning_rate_singular = 0.001",
        "s = 1.0",
        "vertex_probability = 0.1",
        "schedule = \"linear\"",
        "burn = \"0.22.1\"",
        "\"train.jsonl\" = \"feedfacefeedface\"",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "no {line} in\n{text}"
        );
    }
}

#[test]
fn a_record_without_its_facts_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run.toml");
    std::fs::write(&path, MINIMAL).unwrap();
    let message = RunRecord::read(&path).unwrap_err().to_string();
    assert!(
        message.contains("run.toml") && message.contains("[run]"),
        "{message}"
    );
}

#[test]
fn resuming_with_other_numbers_lists_each_key_with_both_values() {
    let before = record(MINIMAL);
    let mut after = record(MINIMAL);
    let overrides = set(&["optimizer.learning_rate=1e-4", "method.loss=sft", "seed=18"]);
    after.plan = resolve_with(MINIMAL, &overrides).unwrap();
    let error = before
        .check_resume(&after, Path::new("runs/first"))
        .unwrap_err();
    assert!(matches!(error, RunError::ResumeConflict { .. }));
    let message = error.to_string();
    for expected in [
        "runs/first was started with another configuration",
        "seed: the run has 17, now it is 18",
        "optimizer.learning_rate: the run has 0.001, now it is 0.0001",
        "optimizer.learning_rate_singular: the run has 0.001, now it is 0.0001",
        "method.loss: the run has \"dpo\", now it is \"sft\"",
        "method.beta: the run has 0.1, now it is not set",
    ] {
        assert!(message.contains(expected), "no {expected:?} in\n{message}");
    }
}

#[test]
fn another_tokenizer_or_template_is_another_run() {
    let before = record(MINIMAL);
    let mut after = before.clone();
    after.facts.template_fingerprint = Some("another".into());
    let conflicts = before.differences(&after).unwrap().conflicts;
    assert_eq!(
        conflicts,
        [
            "model.chat_template: the run has \"models/tiny\" (fingerprint 0b0b0b0b0b0b), \
          now it is \"models/tiny\" (fingerprint another)"
        ]
    );
    after = before.clone();
    after.facts.tokenizer_fingerprint = Some("another".into());
    assert_eq!(before.differences(&after).unwrap().conflicts.len(), 1);
    // Of a run from before they were kept, nobody knows.
    after.facts.tokenizer_fingerprint = None;
    assert_eq!(
        before.differences(&after).unwrap(),
        after.differences(&before).unwrap()
    );
    assert!(before.differences(&after).unwrap().conflicts.is_empty());
    // Variables are part of the plan.
    after = record(&format!(
        "{MINIMAL}\n[model.template]\nenable_thinking = false"
    ));
    let conflicts = before.differences(&after).unwrap().conflicts;
    assert_eq!(
        conflicts,
        ["model.template.enable_thinking: the run has not set, now it is false"]
    );
}

#[test]
fn the_day_of_a_run_from_before_it_was_kept_is_not_known() {
    let mut before = record(MINIMAL);
    let mut after = before.clone();
    after.plan = after.plan.on_day(|| "2026-11-28".to_owned());
    // A run that kept its template has had no day: now it is another.
    let conflicts = before.differences(&after).unwrap().conflicts;
    assert_eq!(
        conflicts,
        ["model.template.date: the run has not set, now it is \"2026-11-28\""]
    );
    before.facts.template_fingerprint = None;
    let notes = before
        .check_resume(&after, Path::new("runs/first"))
        .unwrap()
        .notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("now writes \"2026-11-28\""), "{notes:?}");
    // One that is written down counts.
    before.plan = before.plan.on_day(|| "2026-11-27".to_owned());
    assert_eq!(before.differences(&after).unwrap().conflicts.len(), 1);
}

#[test]
fn files_count_by_content() {
    let before = record(MINIMAL);
    let mut moved = record(&MINIMAL.replace("train.jsonl", "elsewhere/train.jsonl"));
    moved.facts.data_fingerprints =
        [("elsewhere/train.jsonl".into(), "feedfacefeedface".into())].into();
    let mut plan = moved.clone();
    assert!(before.differences(&moved).unwrap().conflicts.is_empty());

    plan.facts.data_fingerprints = [("elsewhere/train.jsonl".into(), "another".into())].into();
    assert_eq!(
        before.differences(&plan).unwrap().conflicts,
        [
            "data.train: the run has [\"train.jsonl\" (fingerprint feedfacefeed)], \
          now it is [\"elsewhere/train.jsonl\" (fingerprint another)]"
        ]
    );

    let mut other_model = record(&MINIMAL.replace("models/tiny", "models/same"));
    assert!(
        before
            .differences(&other_model)
            .unwrap()
            .conflicts
            .is_empty()
    );
    other_model.facts.model_fingerprint = "other".into();
    assert_eq!(before.differences(&other_model).unwrap().conflicts.len(), 1);
}

#[test]
fn what_changes_no_training_number_may_differ() {
    let before = record(MINIMAL);
    let mut after = record(MINIMAL);
    after.plan =
        resolve_with(MINIMAL, &set(&["checkpoint.every=10", "checkpoint.keep=1"])).unwrap();
    assert_eq!(before.differences(&after).unwrap(), Default::default());

    let overrides = set(&[
        "device=cuda",
        "optimizer.micro_batch_size=2",
        "data.eval=x",
        "evaluation.every=5",
        "optimizer.activations=recompute",
        "optimizer.max_grad_norm=500",
        "objective=[{name = 'helpfulness', score = 'helpfulness', eval = 'x'}, {name = 'conciseness', score = 'conciseness'}]",
    ]);
    after.plan = resolve_with(MINIMAL, &overrides).unwrap();
    let differences = before.differences(&after).unwrap();
    assert!(differences.conflicts.is_empty(), "{differences:?}");
    assert_eq!(differences.notes.len(), 7, "{differences:?}");
}

/// What ends a collapsing policy is told to be set higher: the run goes on with it.
#[test]
fn a_limit_that_ended_a_run_may_be_raised() {
    let rewards = |limits: &str| {
        record(&format!(
            "{MINIMAL}\n[method]\nloss = \"rlhf\"\n[rlhf]\n{limits}"
        ))
    };
    let (before, after) = (rewards(""), rewards("max_kl = 500.0\nmax_repetition = 1.0"));
    let differences = before.differences(&after).unwrap();
    assert!(differences.conflicts.is_empty(), "{differences:?}");
    assert_eq!(differences.notes.len(), 2, "{differences:?}");
}

/// A run of an earlier version that trained with a key that is no more can be used, and cannot be resumed.
#[test]
fn a_key_that_is_gone_stands_in_the_way_of_resuming_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run.toml");
    let now = record(MINIMAL);
    let read_with = |value: &str| {
        let text = now.to_toml().unwrap();
        let text = text.replace("[data]\n", &format!("[data]\nlength_buckets = {value}\n"));
        std::fs::write(&path, text).unwrap();
        RunRecord::read(&path).unwrap()
    };
    assert_eq!(read_with("false"), now);
    let older = read_with("true");
    assert_eq!(older.plan, now.plan);
    let message = older.check_resume(&now, &path).unwrap_err().to_string();
    assert!(message.contains("data.length_buckets = true"), "{message}");
}

/// The plan of a run of nine records, of so many steps or epochs.
fn lasting(length: &str) -> RunRecord {
    record(&format!("{MINIMAL}\n[optimizer]\nbatch_size = 3\n{length}"))
}

#[test]
fn steps_can_be_raised_and_not_lowered() {
    for (before, after, longer) in [
        ("steps = 20", "steps = 40", Some((20, 40))),
        // Nine records in batches of three.
        ("epochs = 2.0", "epochs = 3.0", Some((6, 9))),
        ("epochs = 2.0", "steps = 7", Some((6, 7))),
        ("steps = 6", "epochs = 2.0", None),
    ] {
        let differences = lasting(before).differences(&lasting(after)).unwrap();
        assert_eq!(differences.conflicts, [""; 0], "{before} to {after}");
        assert_eq!(differences.longer, longer, "{before} to {after}");
    }
    for (before, after) in [("steps = 20", "steps = 19"), ("epochs = 3.0", "steps = 8")] {
        let conflicts = lasting(before).differences(&lasting(after)).unwrap();
        let conflicts = conflicts.conflicts;
        assert_eq!(conflicts.len(), 1, "{conflicts:?}");
        assert!(conflicts[0].contains("can be raised"), "{conflicts:?}");
    }
}

#[test]
fn an_extended_run_keeps_its_adapter_and_its_record_says_so() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("first");
    let (before, after) = (lasting("epochs = 2.0"), lasting("steps = 40"));
    let run = TrainingRun::create(&path).unwrap();
    run.begin(&before).unwrap();
    let write = |folder: &Path| {
        Ok::<(), RunError>(panacea_files::write_file(&folder.join("weights"), b"6")?)
    };
    run.save_adapter(write).unwrap();
    drop(run);
    // Without a checkpoint there is nothing to go on from.
    let error = TrainingRun::create_or_resume(&path, &after, true).unwrap_err();
    assert!(matches!(error, RunError::NothingToExtend { .. }), "{error}");
    let run = TrainingRun::resume(&path).unwrap();
    run.save_checkpoint(6, 1, write).unwrap();
    drop(run);

    let (run, _) = TrainingRun::create_or_resume(&path, &after, true).unwrap();
    let extension = Extension {
        at: Some(6),
        from: 6,
        to: 40,
    };
    assert_eq!(run.extension(), Some(extension));
    // Until it begins, the run is as it was.
    assert!(run.folder().adapter().exists());
    assert_eq!(run.folder().record().unwrap(), before);
    run.begin(&after).unwrap();
    assert!(!run.folder().adapter().exists());
    let kept = run.folder().path().join("adapter-000006/weights");
    assert_eq!(std::fs::read(kept).unwrap(), b"6");
    let record = run.folder().record().unwrap();
    assert_eq!(record.total_steps(), Some(40));
    assert_eq!(record.facts.extensions, [extension]);
    drop(run);
    // From now on it is a run of 40 steps.
    let (run, _) = TrainingRun::create_or_resume(&path, &after, true).unwrap();
    assert_eq!(run.extension(), None);
    drop(run);
    let error = TrainingRun::create_or_resume(&path, &before, true).unwrap_err();
    assert!(
        error.to_string().contains("the run has 40, now it is 6"),
        "{error}"
    );
}

/// A run that began elsewhere finds its files from wherever one stands, and files that are gone stay as they were written.
#[test]
fn relative_paths_begin_where_the_run_began() {
    let place = tempfile::tempdir().unwrap();
    let there = place.path().join("project");
    std::fs::create_dir_all(there.join("models/tiny")).unwrap();
    std::fs::write(there.join("train.jsonl"), "").unwrap();
    let mut written = record(MINIMAL);
    written.facts.started_in = Some(there.clone());
    let path = place.path().join("run.toml");
    written.write(&path).unwrap();
    let read = RunRecord::read(&path).unwrap();
    assert_eq!(read.plan.model(), there.join("models/tiny"));
    assert_eq!(read.plan.training_files(), [there.join("train.jsonl")]);
    let fingerprints = &read.facts.data_fingerprints;
    assert!(fingerprints.contains_key(&there.join("train.jsonl")));
    assert_eq!(written.differences(&read).unwrap(), Differences::default());

    std::fs::remove_file(there.join("train.jsonl")).unwrap();
    let read = RunRecord::read(&path).unwrap();
    assert_eq!(read.plan.training_files(), [Path::new("train.jsonl")]);
}
