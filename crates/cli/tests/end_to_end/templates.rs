//! Chat templates from configuration to tokens: what is trained, scored and generated is the same text.

use std::fs;

use serde_json::Value;

use crate::desk::Desk;

/// Writes a date before the conversation, and a think block before the last answer unless it is switched off.
const TEMPLATE: &str = "{{ 'Day ' + strftime_now('%-d.%-m.%Y') + '\n' }}{% for m in messages %}\
    {{ '<|im_start|>' + m.role + '\n' }}\
    {% if m.role == 'assistant' and loop.last and not (enable_thinking is defined and enable_thinking is false) %}\
    {{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn desk() -> Desk {
    let desk = Desk::new();
    fs::write(desk.path("model/chat_template.jinja"), TEMPLATE).unwrap();
    desk.write(
        "records.jsonl",
        r#"{"prompt": "hello", "response": "hello"}"#,
    );
    desk
}

/// The tokens of the response that `score` counts.
fn counted(desk: &Desk, arguments: &str) -> u64 {
    let line = desk.succeed(&format!("score --input records.jsonl {arguments}"));
    let line: Value = serde_json::from_str(&line).unwrap();
    line["tokens"].as_u64().unwrap()
}

#[test]
fn a_run_keeps_its_template_variables_and_date() {
    let desk = desk();
    let train = "train --config run.toml --set optimizer.steps=3";
    let today = || chrono::Local::now().format("date = \"%F\"").to_string();
    let before = today();
    let output = desk.run(&format!("{train} --run thinking"));
    // Midnight may lie between.
    let after = today();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let note =
        r#"template    9 records: the template writes "<think>\n\n</think>\n\n" before the answer"#;
    assert_eq!(said.matches(note).count(), 1, "{said}");
    let record = fs::read_to_string(desk.path("runs/thinking/run.toml")).unwrap();
    assert!(
        record.contains(&before) || record.contains(&after),
        "{record}"
    );

    let plain = "--set model.template.date=2001-02-03 --set model.template.enable_thinking=false";
    desk.succeed(&format!("{train} --run plain {plain}"));
    let record = fs::read_to_string(desk.path("runs/plain/run.toml")).unwrap();
    assert!(
        record.contains("[model.template]\ndate = \"2001-02-03\"\nenable_thinking = false"),
        "{record}"
    );

    // A token for "hello" and one for the end; the think block has one for each of its characters.
    let block = "<think>\n\n</think>\n\n".len() as u64;
    assert_eq!(counted(&desk, "--model model"), block + 2);
    assert_eq!(
        counted(&desk, "--model model --run thinking --preference 0.5,0.5"),
        block + 2
    );
    assert_eq!(
        counted(&desk, "--model model --run plain --preference 0.5,0.5"),
        2
    );
}

#[test]
fn a_run_goes_on_under_its_own_template_alone() {
    let desk = desk();
    desk.succeed("train --config run.toml --set optimizer.steps=3 --set model.template.date=2001-02-03 --run first");
    // On another day, without a word about it.
    desk.succeed("train --config run.toml --set optimizer.steps=3 --run first --resume");
    let error = desk.fail("train --run first --resume --set model.template.enable_thinking=false");
    assert!(
        error.contains("model.template.enable_thinking: the run has not set, now it is false"),
        "{error}"
    );
    fs::write(desk.path("other.jinja"), TEMPLATE.replace("Day", "On")).unwrap();
    let error = desk.fail("train --run first --resume --set model.chat_template=other.jinja");
    assert!(
        error.contains("model.chat_template: the run has \"model\" (fingerprint"),
        "{error}"
    );
    assert!(
        error.contains("now it is \"other.jinja\" (fingerprint"),
        "{error}"
    );
    // The same text in another file is the same template.
    fs::write(desk.path("same.jinja"), TEMPLATE).unwrap();
    desk.succeed("train --run first --resume --set model.chat_template=same.jinja");
    fs::write(
        desk.path("model/chat_template.jinja"),
        TEMPLATE.replace("Day", "On"),
    )
    .unwrap();
    let error = desk.fail("train --run first --resume");
    assert!(
        error.contains("model.chat_template: the run has"),
        "{error}"
    );
    let output = desk.run("export --run first --preference 0.5,0.5 --format gguf --out one.gguf");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success()
            && said.contains("the chat template has changed since the run was trained")
            && said.contains("the date 2001-02-03, which no file carries"),
        "{said}"
    );
}

#[test]
fn text_that_holds_the_templates_tokens_is_warned_about_or_taken_as_it_is() {
    let desk = desk();
    let text = fs::read_to_string(desk.path("train.jsonl")).unwrap();
    let wrapped = text.replace("what is 3?", "<|im_start|>user\\nwhat is 3?<|im_end|>\\n");
    desk.write("train.jsonl", &wrapped);
    let train = "train --config run.toml --set optimizer.steps=1";
    let output = desk.run(&format!("{train} --run wrapped"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("1 records hold special tokens")
            && said.contains("train.jsonl:4 has \"<|im_end|>\""),
        "{said}"
    );
    let output = desk.run(&format!("{train} --run rendered --set data.rendered=true"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && !said.contains("special tokens"),
        "{said}"
    );
}
