//! People's files and texts outside of training: read as training reads its own, before a weight is, and named where they are wrong.

use std::fs;
use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::desk::Desk;
use crate::serve::{Server, post};

const POINTER: &str =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 538090408\n";

/// The command with `input` on its standard input.
fn with_input(desk: &Desk, arguments: &str, input: &str) -> Output {
    let mut child = desk
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut given = child.stdin.take().unwrap();
    // It may have ended before it read all of it.
    given.write_all(input.as_bytes()).ok();
    drop(given);
    child.wait_with_output().unwrap()
}

/// Standard output and standard error of a command that succeeds.
#[track_caller]
fn both(output: Output) -> (String, String) {
    let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{error}");
    (out, error)
}

/// A file of which the run skipped records when it was trained on it is scored and answered without them; without the run, or
/// where that is set, it is refused.
#[test]
fn bad_records_are_what_they_were_in_training() {
    let desk = Desk::new();
    let mut text = fs::read_to_string(desk.path("train.jsonl")).unwrap();
    text.insert_str(0, "{\"prompt\": \" \", \"responses\": [\"a\", \"b\"]}\n");
    desk.write("mixed.jsonl", &text);
    let skip = "--set data.bad_records=skip --set data.max_skipped=0.5";
    let train = "train --config run.toml --set optimizer.steps=1 --set data.train=mixed.jsonl";
    desk.succeed(&format!(
        "{train} {skip} --set data.format=scored --run first"
    ));
    let skipped = "skipped     1: a field cannot be used (mixed.jsonl:1)\n            the first: field `prompt`";
    let refused = "mixed.jsonl:1: field `prompt`: found an empty text";

    let run = "--model model --run first --preference 0.5,0.5";
    let generate = "generate --greedy --max-new-tokens 2 --prompts mixed.jsonl";
    for command in ["score --input mixed.jsonl", &format!("{generate} --json")] {
        let (out, error) = both(desk.run(&format!("{command} {run}")));
        assert_eq!(out.lines().count(), 9, "{out}");
        assert!(error.contains("records     10 read, 9 kept\n"), "{error}");
        assert!(error.contains(skipped), "{error}");
        let (out, _) = both(desk.run(&format!("{command} --model model {skip}")));
        assert_eq!(out.lines().count(), 9, "{out}");
        for arguments in [
            &format!("{run} --set data.bad_records=error"),
            "--model model",
        ] {
            let error = desk.fail(&format!("{command} {arguments}"));
            assert!(error.contains(refused), "{error}");
        }
        let error = desk.fail(&format!("{command} {run} --set data.max_skipped=0"));
        assert!(error.contains("1 of 10 records cannot be used"), "{error}");
    }
    let elicit = "elicit --run first --prompts mixed.jsonl --answers 2 --max-new-tokens 2";
    let output = with_input(&desk, elicit, "q\n");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains(skipped) && error.contains("nothing was answered"),
        "{error}"
    );
    let error = desk.fail(&format!("{elicit} --set data.bad_records=error"));
    assert!(error.contains(refused), "{error}");
    let error = desk.fail("elicit --run first --prompts -");
    assert!(error.contains("where your answers come from"), "{error}");

    // A file of another format than the run's, which is said.
    desk.write("other.jsonl", "{\"prompt\": \"hi\", \"response\": \"a\"}\n");
    let strict = format!("score --input other.jsonl {run} --set data.bad_records=error");
    let error = desk.fail(&strict);
    let advice = "the format `scored` is data.format of the run: --set data.format=auto";
    assert!(
        error.contains("other.jsonl:1: field `responses`"),
        "{error}"
    );
    assert!(error.contains(advice), "{error}");
    desk.succeed(&format!("{strict} --set data.format=auto"));
}

/// A run that learnt texts that are rendered already is asked with such texts.
#[test]
fn rendered_prompts_are_taken_as_they_are() {
    let desk = Desk::new();
    let text = fs::read_to_string(desk.path("train.jsonl")).unwrap();
    let rendered =
        |text: &str| format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n");
    let lines = text.lines().map(|line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        record["prompt"] = json!(rendered(record["prompt"].as_str().unwrap()));
        format!("{record}\n")
    });
    desk.write("rendered.jsonl", &lines.collect::<String>());
    desk.succeed(
        "train --config run.toml --set optimizer.steps=1 --set data.train=rendered.jsonl --set data.rendered=true \
         --set data.eval=rendered.jsonl --run first",
    );
    desk.write(
        "plain.jsonl",
        &format!("{}\n", json!({"prompt": "hi", "response": "hello"})),
    );
    let wrapped = json!({"prompt": rendered("hi"), "response": "hello"});
    desk.write("wrapped.jsonl", &format!("{wrapped}\n"));
    let run = "--model model --run first --preference 0.5,0.5";
    let score = |arguments: &str| desk.succeed(&format!("score {arguments}"));
    let plain = score(&format!(
        "{run} --input plain.jsonl --set data.rendered=false"
    ));
    assert_eq!(score(&format!("{run} --input wrapped.jsonl")), plain);
    assert_eq!(
        score("--model model --input wrapped.jsonl --set data.rendered=true"),
        score("--model model --input plain.jsonl")
    );
    assert_ne!(score(&format!("{run} --input plain.jsonl")), plain);

    let answer = |arguments: &str| -> Value {
        let line = desk.succeed(&format!(
            "generate {run} --greedy --max-new-tokens 4 --json {arguments}"
        ));
        serde_json::from_str(&line).unwrap()
    };
    let taken = answer("--prompts wrapped.jsonl");
    assert_eq!(taken["prompt"], rendered("hi"));
    // The lines of a text are what a user says, whatever the run's records are.
    desk.write("prompts.txt", "hi\n");
    let said = answer("--prompts prompts.txt");
    assert_eq!(said["messages"], json!([{"role": "user", "content": "hi"}]));
    assert_eq!(said["response"], taken["response"]);
    let error = desk.fail(&format!(
        "generate {run} --prompts prompts.txt --set data.rendered=true"
    ));
    assert!(
        error.contains("--set data.rendered says how records are read, but prompts.txt is a text"),
        "{error}"
    );
}

/// Whatever is wrong with what is given is said before the weights are read: here they could not be.
#[test]
fn what_is_given_is_checked_before_the_weights_are_read() {
    let desk = Desk::new();
    let weights = desk.path("model/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    desk.write("good.jsonl", "{\"prompt\": \"hi\", \"response\": \"a\"}\n");
    let long = "x".repeat(300);
    let good = "{\"prompt\": \"hi\", \"response\": \"a\"}\n";
    desk.write(
        "long.jsonl",
        &format!("{good}{{\"prompt\": \"{long}\", \"response\": \"a\"}}\n"),
    );
    desk.write(
        "wide.jsonl",
        &format!("{good}{{\"prompt\": \"hi\", \"response\": \"{long}\"}}\n"),
    );
    desk.write(
        "bad.jsonl",
        &format!("{good}{{\"prompt\": \"\", \"response\": \"a\"}}\n"),
    );
    desk.write("long.txt", &format!("hi\n\n{long}\n"));
    desk.write("pointer.txt", POINTER);
    desk.write("empty.txt", "\n");
    fs::write(desk.path("latin1.txt"), b"hi\ncaf\xe9\n").unwrap();
    let read_at_once = "tokens with the answer, expected at most 256";
    for (command, expected) in [
        (
            "score --input good.jsonl",
            ["tensor `model.norm.weight`", "NaN"],
        ),
        (
            "score --input bad.jsonl",
            ["bad.jsonl:2: field `prompt`", "empty"],
        ),
        (
            "score --input long.jsonl",
            ["long.jsonl:2: found 3", read_at_once],
        ),
        (
            "score --input wide.jsonl",
            ["wide.jsonl:2: found 3", read_at_once],
        ),
        (
            "score --input absent.jsonl",
            ["absent.jsonl", "cannot read"],
        ),
        (
            "score --input good.jsonl --set data.fromat=auto",
            ["fromat", "did you mean"],
        ),
        (
            "generate --prompts good.jsonl",
            ["tensor `model.norm.weight`", "NaN"],
        ),
        (
            "generate --prompts wide.jsonl",
            ["tensor `model.norm.weight`", "NaN"],
        ),
        (
            "generate --prompts long.jsonl",
            ["long.jsonl:2: found 3", read_at_once],
        ),
        (
            "generate --prompts long.txt",
            ["long.txt:3: found 3", read_at_once],
        ),
        (
            "generate --prompts pointer.txt",
            ["pointer.txt", "a Git LFS pointer"],
        ),
        (
            "generate --prompts latin1.txt",
            ["latin1.txt:2:", "not UTF-8"],
        ),
        (
            "generate --prompts empty.txt",
            ["empty.txt: found no prompt", "each line"],
        ),
        ("generate --prompts model", ["model", "a folder"]),
        ("generate --prompt hi --top-p 2", ["top_p", "2"]),
        (
            "generate --prompt hi --set optimizer.steps=3",
            ["optimizer.steps", "has no effect here"],
        ),
    ] {
        let error = desk.fail(&format!("{command} --model model"));
        for part in expected {
            let (part, error) = (part.to_lowercase(), error.to_lowercase());
            assert!(error.contains(&part), "{command}: no {part} in {error}");
        }
    }
    let error = desk.fail(&format!(
        "generate --model model --prompt hi --prompt {long}"
    ));
    assert!(error.contains("--prompt 2: found 3"), "{error}");
}

/// Several answers stand each under its prompt; as JSON each is an object that says all of it.
#[test]
fn several_answers_are_told_apart() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --set optimizer.steps=2 --run first");
    desk.write("prompts.txt", "hello\n\nwhat is 3?\n");
    let rows = [
        json!({"prompt": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]}),
        json!({"prompt": "what is 3?"}),
    ];
    desk.write(
        "prompts.jsonl",
        &rows.clone().map(|row| format!("{row}\n")).concat(),
    );
    let generate =
        "generate --model model --run first --preference 0.25,0.75 --greedy --max-new-tokens 3";
    let alone = |prompt: &str| {
        let mut command = desk.command(generate);
        let (out, _) = both(command.arg("--prompt").arg(prompt).output().unwrap());
        out.strip_suffix('\n').unwrap().to_owned()
    };
    let answers = ["hello", "what is 3?"].map(alone);
    let [hello, three] = [0, 1].map(|index| answers[index].trim());

    let (out, error) = both(desk.run(&format!("{generate} --prompts prompts.txt")));
    assert_eq!(
        out,
        format!(
            "━━ 1 of 2 ━━ prompts.txt:1 ━━ hello\n\n── answer\n{hello}\n\n\
             ━━ 2 of 2 ━━ prompts.txt:3 ━━ what is 3?\n\n── answer\n{three}\n"
        )
    );
    assert!(error.contains("records     2 read, 2 kept"), "{error}");
    let out = desk.succeed(&format!("{generate} --prompt hello --prompt hello"));
    assert!(
        out.starts_with("━━ 1 of 2 ━━ hello\n\n── answer\n"),
        "{out}"
    );

    let lines = |output: Output| -> (Vec<Value>, String) {
        let (out, error) = both(output);
        let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
        (lines.collect(), error)
    };
    let (found, error) = lines(desk.run(&format!("{generate} --json --prompts prompts.jsonl")));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0]["messages"], rows[0]["prompt"]);
    let cut =
        "cut after 3 tokens (--max-new-tokens allows more): prompts.jsonl:1, prompts.jsonl:2\n";
    let all_cut = found.iter().all(|line| line["finish_reason"] == "length");
    assert_eq!(
        error.contains(&format!("2 of 2 answers {cut}")),
        all_cut,
        "{error}"
    );
    let expected = json!({
        "file": "prompts.jsonl", "line": 2, "messages": [{"role": "user", "content": "what is 3?"}],
        "preference": {"helpfulness": 0.25, "conciseness": 0.75}, "response": answers[1],
        "tokens": found[1]["tokens"], "finish_reason": found[1]["finish_reason"],
    });
    assert_eq!(found[1], expected);

    // Standard input is read like the file, whatever it holds.
    for file in ["prompts.txt", "prompts.jsonl"] {
        let text = fs::read_to_string(desk.path(file)).unwrap();
        let (mut expected, _) = lines(desk.run(&format!("{generate} --json --prompts {file}")));
        for line in &mut expected {
            line["file"] = json!("standard input");
        }
        let (found, _) = lines(with_input(
            &desk,
            &format!("{generate} --json --prompts -"),
            &text,
        ));
        assert_eq!(found, expected);
    }
    let (out, _) = both(with_input(
        &desk,
        &format!("{generate} --prompt -"),
        "what is 3?\r\n",
    ));
    assert_eq!(out, format!("{}\n", answers[1]));
    let (raw, _) = lines(with_input(
        &desk,
        "generate --model model --raw --prompt - --json --greedy --max-new-tokens 256",
        "what is\n3?\n",
    ));
    assert_eq!(raw[0]["prompt"], "what is\n3?");
    assert_eq!(raw[0]["file"], Value::Null);
    assert_eq!(raw[0]["preference"], Value::Null);
    let (tokens, reason) = (raw[0]["tokens"].as_u64().unwrap(), &raw[0]["finish_reason"]);
    assert!(tokens < 256 && ["stop", "length"].contains(&reason.as_str().unwrap()));
    let error = desk.fail("generate --model model --prompt - --prompt -");
    assert!(error.contains("--prompt - is there twice"), "{error}");

    let record = json!({"prompt": "hi", "response": "hello"});
    desk.write("records.jsonl", &format!("{record}\n"));
    let scored = desk.succeed("score --model model --input records.jsonl");
    let (out, _) = both(with_input(
        &desk,
        "score --model model --input -",
        &format!("[{record}]"),
    ));
    assert_eq!(out, scored);
}

/// What `train` says of the template with --set, the commands without a run can say too, in the same words.
#[test]
fn the_template_can_be_set_without_a_run() {
    let desk = Desk::new();
    let template = "{{ 'Day ' + strftime_now('%Y') + ' ' }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}\
        {% if m.role == 'assistant' and not (enable_thinking is defined and enable_thinking is false) %}{{ '<think>' }}{% endif %}\
        {{ m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    desk.write("own.jinja", template);
    desk.write(
        "records.jsonl",
        "{\"prompt\": \"hello\", \"response\": \"hello\"}\n",
    );
    let own = "--set model.chat_template=own.jinja --set model.template.date=2001-02-03";
    let plain = "--set model.template.enable_thinking=false";
    let counted = |set: &str| -> u64 {
        let line = desk.succeed(&format!("score --model model --input records.jsonl {set}"));
        let line: Value = serde_json::from_str(&line).unwrap();
        line["tokens"].as_u64().unwrap()
    };
    // A token for "hello" and one for the end; the tag has one for each of its characters.
    assert_eq!(counted(own), 2 + "<think>".len() as u64);
    assert_eq!(counted(&format!("{own} {plain}")), 2);

    let generated = |set: &str| {
        let greedy = "--greedy --max-new-tokens 12 --prompt hello";
        let answer = desk.succeed(&format!("generate --model model {greedy} {set}"));
        answer.strip_suffix('\n').unwrap().to_owned()
    };
    let expected = generated(own);
    assert_ne!(
        expected,
        generated("--seed 17"),
        "the template changes nothing"
    );
    let chat = format!("chat --model model --greedy --max-new-tokens 12 {own}");
    let (out, _) = both(with_input(&desk, &chat, "hello\n"));
    assert_eq!(out, format!("{expected}\n"));
    let server = Server::start(&desk, own);
    let body = json!({
        "messages": [{"role": "user", "content": "hello"}], "temperature": 0, "max_tokens": 12
    });
    let (status, answer) = post(&format!("{}/v1/chat/completions", server.url), &body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        expected.as_str()
    );

    for command in ["serve", "chat"] {
        let error = desk.fail(&format!("{command} --model model --set data.format=auto"));
        assert!(
            error.contains(
                "data.format: it has no effect here; expected model.tokenizer, model.chat_template"
            ),
            "{error}"
        );
    }
}

/// What stands in a clone in place of a large file is called so, also where it is an adapter.
#[test]
fn adapters_that_were_not_fetched_are_called_so() {
    let desk = Desk::new();
    desk.succeed(
        "train --config run.toml --set optimizer.steps=2 --set checkpoint.every=1 --run first",
    );
    let ask =
        "generate --model model --run first --preference 0.5,0.5 --prompt hi --max-new-tokens 2";
    let score = "score --model model --run first --preference 0.5,0.5 --input train.jsonl";
    let refused = |command: &str, file: &str| {
        let error = desk.fail(command);
        let expected =
            format!("cannot read runs/first/{file}: a Git LFS pointer, not the file itself");
        assert!(error.contains(&expected), "{error}");
        assert!(error.contains("git lfs pull"), "{error}");
    };
    let adapter = "adapter/adapter.safetensors";
    desk.write(&format!("runs/first/{adapter}"), POINTER);
    refused(ask, adapter);
    refused(score, adapter);
    refused(
        "export --run first --preference 0.5,0.5 --format peft --out peft",
        adapter,
    );
    // While a run is not finished, its checkpoint stands in.
    fs::remove_dir_all(desk.path("runs/first/adapter")).unwrap();
    let checkpoint = "checkpoints/000002/adapter.safetensors";
    desk.write(&format!("runs/first/{checkpoint}"), POINTER);
    refused(ask, checkpoint);
    desk.write("runs/first/run.toml", POINTER);
    refused(ask, "run.toml");
}

#[test]
fn a_command_that_is_printed_names_where_the_runs_are() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --set optimizer.steps=1 --run first --runs elsewhere");
    let chat = "chat --model model --run first --runs elsewhere";
    let output = with_input(&desk, chat, "/profile\n");
    let error = String::from_utf8(output.stderr).unwrap();
    let command =
        "panacea elicit --run first --runs elsewhere --prompts FILE --profile NAME makes one";
    assert!(error.contains(command), "{error}");
}
