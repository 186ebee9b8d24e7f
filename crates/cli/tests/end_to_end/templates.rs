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

/// Writes calls of tools and reasoning, one token a character.
const CALLING: &str = "{% if tools %}{{ '<|im_start|>' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}\
    {% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}\
    {% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}\
    {% if m.content is string %}{{ m.content }}{% endif %}\
    {% for call in m.tool_calls or [] %}{{ '<do>' + call.function.name + '</do>' }}{% endfor %}\
    {{ '<|im_end|>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const CALL: &str =
    r#"[{"type": "function", "function": {"name": "hours", "arguments": {"day": null}}}]"#;

/// Calls, reasoning and tools of the records are in what is trained, where the template writes them, and named where it does not.
#[test]
fn what_turns_have_beside_a_text_is_trained() {
    let desk = Desk::new();
    let talk = |call: &str, thought: &str, tools: &str| {
        format!(
            r#"{{"messages": [{{"role": "human", "content": "hi"}}, {{"role": "assistant", "content": ""{call}}},
                {{"role": "observation", "content": "7"}}, {{"role": "gpt", "content": "at 7"{thought}}}]{tools}}}"#
        )
        .replace('\n', " ")
    };
    let call = format!(r#", "tool_calls": {CALL}"#);
    let thought = r#", "reasoning_content": "hm""#;
    let tools = r#", "tools": "[{\"name\": \"hours\"}]", "place": "Mill Street""#;
    desk.write("bare.jsonl", &format!("{}\n", talk("", "", "")));
    desk.write("full.jsonl", &format!("{}\n", talk(&call, thought, tools)));
    let train = |data: &str| {
        let arguments = format!(
            "train --config run.toml --set data.train={data}.jsonl --set method.loss=sft --set optimizer.steps=1 --run {data}"
        );
        let output = desk.command(&arguments).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    desk.write(
        "run.toml",
        "[model]\npath = \"model\"\n[[objective]]\nname = \"good\"\nchosen = true\n[data]\ntrain = \"x\"\n[optimizer]\nbatch_size = 1\n",
    );
    fs::write(desk.path("model/chat_template.jinja"), CALLING).unwrap();
    let lengths = |said: &str| -> [usize; 2] {
        let line = said
            .lines()
            .find(|line| line.starts_with("tokens "))
            .unwrap_or_else(|| panic!("{said}"));
        let numbers = line.split(|c: char| !c.is_ascii_digit());
        let numbers: Vec<usize> = numbers.filter_map(|number| number.parse().ok()).collect();
        [numbers[0], numbers[2]]
    };
    let (bare, full) = (train("bare"), train("full"));
    let [prompt, response] = lengths(&bare);
    let tools = 1 + r#"[{"name": "hours"}]"#.len() + 2;
    let expected = [tools + "<do>hours</do>".len(), "<think>hm</think>".len()];
    let expected = [prompt + expected[0], response + expected[1]];
    assert_eq!(lengths(&full), expected, "{bare}{full}");
    assert!(
        full.contains("not read: `place`\n") && !full.contains("warning"),
        "{full}"
    );
    assert!(!bare.contains("not read"), "{bare}");

    // The usual template of the desk knows nothing of all that.
    fs::write(
        desk.path("model/chat_template.jinja"),
        panacea_test_support::CHAT_TEMPLATE,
    )
    .unwrap();
    fs::remove_dir_all(desk.path("runs")).unwrap();
    let (bare, full) = (train("bare"), train("full"));
    assert_eq!(lengths(&full), lengths(&bare));
    let named = "warning     1 records have turns or variables with keys that neither reader nor template uses: \
                 `reasoning_content` (1), `tool_calls` (1), `tools` (1)\n";
    assert!(full.contains(named), "{full}");
}

/// `score` and `generate` read what `train` reads, and say what is wrong in the same words.
#[test]
fn every_file_that_is_trained_on_is_scored_and_answered() {
    let desk = Desk::new();
    let one = |file: &str| desk.succeed(&format!("score --model model --input {file}"));
    desk.write("a.jsonl", r#"{"prompt": "hi", "response": "hello"}"#);
    let plain = one("a.jsonl");
    for (name, text) in [
        ("b.json", r#"[{"question": "hi", "completion": "hello"}]"#),
        (
            "c.jsonl",
            r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "bot", "content": "hello"}]}"#,
        ),
        (
            "d.jsonl",
            r#"{"prompt": "[{\"role\": \"human\", \"content\": \"hi\"}]", "response": "hello"}"#,
        ),
        (
            "e.jsonl",
            r#"{"prompt": "\n\nHuman: hi\n\nAssistant:", "response": " hello"}"#,
        ),
    ] {
        desk.write(name, text);
        assert_eq!(one(name), plain, "{name}");
    }
    desk.write(
        "pairs.jsonl",
        r#"{"prompt": "hi", "chosen": "hello", "rejected": "at 7"}"#,
    );
    let pair: Value = serde_json::from_str(&one("pairs.jsonl")).unwrap();
    let plain: Value = serde_json::from_str(&plain).unwrap();
    let sums = pair["sum_logprob"].as_array().unwrap();
    assert!((sums[0].as_f64().unwrap() - plain["sum_logprob"].as_f64().unwrap()).abs() < 1e-4);
    assert_eq!(pair["tokens"], serde_json::json!([plain["tokens"], 5]));

    for (text, expected) in [
        (
            "{\"prompt\": \"hi\", \"response\": \"a\"}\n{\"prompt\": \"hi\", \"response\": \"\"}",
            "bad.jsonl:2: field `response`: found an empty text",
        ),
        (
            "{\"prompt\": [{\"role\": \"narrator\", \"content\": \"x\"}], \"response\": \"a\"}",
            "bad.jsonl:1: field `prompt[0].role`: found the speaker \"narrator\"",
        ),
        ("{\"prompt\": \"hi\"", "bad.jsonl:1: broken JSON"),
    ] {
        desk.write("bad.jsonl", text);
        let error = desk.fail("score --model model --input bad.jsonl");
        assert!(error.contains(expected), "{error}");
    }

    let answer = |arguments: &str| {
        desk.succeed(&format!(
            "generate --model model --greedy --max-new-tokens 3 {arguments}"
        ))
    };
    let expected = answer("--prompt hi");
    desk.write("prompts.txt", "hi\n\n");
    desk.write("prompts.jsonl", "{\"prompt\": \"hi\"}\n");
    for file in [
        "prompts.txt",
        "prompts.jsonl",
        "a.jsonl",
        "b.json",
        "pairs.jsonl",
        "e.jsonl",
    ] {
        assert_eq!(answer(&format!("--prompts {file}")), expected, "{file}");
    }
    desk.write("bad.jsonl", "{\"prompt\": \"hi\"}\n{\"prompt\": \" \"}\n");
    let error = desk.fail("generate --model model --prompts bad.jsonl");
    assert!(
        error.contains("bad.jsonl:2: field `prompt`: found an empty text"),
        "{error}"
    );
    let error = desk.fail("generate --model model --prompts prompts.txt --prompt hi");
    assert!(error.contains("cannot be used with"), "{error}");
}
