//! A conversation with a run, typed into a pipe.

use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};

use panacea_data::{LabelSource, ObjectiveSpec, RecordKind, load};
use panacea_pretrained::Message;
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::serve::Server;

pub const GREEDY: &str = "--run first --greedy --max-new-tokens 12";

/// What a chat says on standard output and standard error where these lines come through a pipe, and whether it ends well.
#[track_caller]
fn typed(desk: &Desk, arguments: &str, lines: &str) -> (bool, String, String) {
    let mut child = piped(desk, arguments);
    let mut input = child.stdin.take().unwrap();
    // It may have ended before it read all of it.
    input.write_all(lines.as_bytes()).ok();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(!error.contains("panicked"), "{error}");
    (output.status.success(), out, error)
}

pub fn piped(desk: &Desk, arguments: &str) -> Child {
    let mut command = desk.command(&format!("chat {arguments}"));
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    piped.stderr(Stdio::piped()).spawn().unwrap()
}

/// The answer of `generate`, with its end of line.
fn generated(desk: &Desk, preference: &str, prompt: &str) -> String {
    let steered = format!("--run first --preference {preference} --prompt {prompt}");
    desk.succeed(&format!(
        "generate --model model --greedy --max-new-tokens 12 {steered}"
    ))
}

/// A run is spoken to in the template that it learnt, as `generate` does.
#[test]
fn a_run_is_spoken_to_in_its_own_template() {
    let desk = Desk::new();
    let template = "{% for m in messages %}{{ '<|im_start|>' + m.role + ' says:\n' + m.content + '<|im_end|>\n' }}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant says:\n' }}{% endif %}";
    fs::write(desk.path("own.jinja"), template).unwrap();
    let train = "train --config run.toml --set optimizer.steps=3";
    desk.succeed(&format!("{train} --run first"));
    let (is_well, plain, error) = typed(&desk, GREEDY, "hello\n");
    assert!(is_well, "{error}");
    assert_eq!(plain, generated(&desk, "0.5,0.5", "hello"));
    fs::remove_dir_all(desk.path("runs/first")).unwrap();
    desk.succeed(&format!(
        "{train} --set model.chat_template=own.jinja --run first"
    ));
    let (is_well, own, error) = typed(&desk, GREEDY, "hello\n");
    assert!(is_well, "{error}");
    assert_eq!(own, generated(&desk, "0.5,0.5", "hello"));
    assert_ne!(own, plain, "the template changes nothing");
}

#[test]
fn a_conversation_goes_on_under_the_preference_of_the_moment() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first");
    let lines = "hello\n/preference helpfulness=3,conciseness=1\n\n/retry\n/compare 1,0 0,1\n/compare\n/system be brief\n\
                 what is 3?\n/save talk.jsonl\n/clear\nhello\n/quit\nnever asked\n";
    let (is_well, out, error) = typed(&desk, GREEDY, lines);
    assert!(is_well, "{error}");

    let at = |preference: &str| generated(&desk, preference, "hello");
    let (first, retried) = (at("0.5,0.5"), at("0.75,0.25"));
    let alone = [at("1,0"), at("0,1")];
    assert_ne!(alone[0], alone[1], "the preference changes nothing");
    let block = |label: &str, answer: &str| format!("[{label}]\n{answer}");
    let corners = [
        block("helpfulness=1,conciseness=0", &alone[0]),
        block("helpfulness=0,conciseness=1", &alone[1]),
    ];
    let now = block("helpfulness=0.75,conciseness=0.25", &retried);
    let saved = desk.json("talk.jsonl");
    let answer = saved["messages"][4]["content"].as_str().unwrap();
    let expected = [
        first,
        retried.clone(),
        corners.join("\n"),
        corners.join("\n"),
        format!("\n{now}"),
        format!("{answer}\n"),
    ];
    let (expected, last) = (expected.concat(), out.strip_prefix(&expected.concat()));
    let last = last.unwrap_or_else(|| panic!("{out:?}\n{expected:?}"));
    assert!(error.contains("divided by their sum, 4"), "{error}");
    assert!(
        error.contains("λ: helpfulness=0.75,conciseness=0.25"),
        "{error}"
    );
    assert!(
        error.contains("[cut after 12 tokens; --max-new-tokens allows more]"),
        "{error}"
    );
    assert!(!out.contains('\u{1b}') && !error.contains('\u{1b}'));

    // The server says the same to the same conversation.
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let system = message("system", "be brief");
    let turns = [
        message("user", "hello"),
        message("assistant", retried.strip_suffix('\n').unwrap()),
        message("user", "what is 3?"),
    ];
    let mut conversation = vec![system.clone()];
    conversation.extend(turns);
    let server = Server::start(&desk, "--run first");
    let served = |messages: &[Value]| {
        let fields = json!({"messages": messages, "preference": [3, 1]});
        let (_, answer) = Server::ask(&server.url, fields, None);
        answer["choices"][0]["message"]["content"].clone()
    };
    assert_eq!(served(&conversation), answer);
    let anew = served(&[system, message("user", "hello")]);
    assert_eq!(last, format!("{}\n", anew.as_str().unwrap()));

    // What was saved is a record to train on.
    conversation.push(message("assistant", answer));
    assert_eq!(saved, json!({"messages": conversation}));
    let objectives = [ObjectiveSpec::new("taste", LabelSource::Chosen)];
    let (records, _) = load(&[desk.path("talk.jsonl")], &objectives, RecordKind::Sft).unwrap();
    let prompt: Vec<Message> = serde_json::from_value(json!(conversation[..4])).unwrap();
    assert_eq!(
        (&records[0].prompt, &records[0].responses[0]),
        (&prompt, &answer.into())
    );
    let (is_well, _, error) = typed(&desk, GREEDY, "hello\n/save talk.jsonl\n");
    assert!(!is_well && error.contains("give another name"), "{error}");
    assert_eq!(desk.json("talk.jsonl"), saved);
}

#[test]
fn a_line_that_is_refused_says_what_there_is_and_ends_a_script() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first --steps 2");
    let long = "o".repeat(300);
    for (arguments, lines, parts) in [
        (
            GREEDY,
            "/help\n\n/prefrence 1,0\nhello\n",
            &["line 3", "did you mean /preference?", "/compare"][..],
        ),
        (
            GREEDY,
            "/preference 1,2,3\n",
            &["has 3 weight(s), but there are 2"],
        ),
        (
            GREEDY,
            "/preference tone=1,help=2\n",
            &["no objective `tone`", "helpfulness"],
        ),
        (
            GREEDY,
            "/profile\n",
            &["elicit --run first --prompts FILE --profile NAME"],
        ),
        (GREEDY, "/profile nobody\n", &["no profile `nobody`"]),
        (GREEDY, "/retry\n", &["nothing was asked yet"]),
        (GREEDY, "/save talk.jsonl\n", &["nothing was said yet"]),
        (GREEDY, &long, &["the model reads 256", "/clear"]),
        ("--model model", "/preference 1,0\n", &["--run NAME"]),
        ("--model model --max-new-tokens 0", "", &["at least 1"]),
        ("--model model --temperature=-1", "", &["temperature"]),
        ("--model model --preference 1,0", "", &["--run"]),
        (
            "--model model --run first --preference 1,0,0",
            "",
            &["there are 2 objective(s)"],
        ),
    ] {
        let (is_well, out, error) = typed(&desk, arguments, lines);
        assert!(!is_well && out.is_empty(), "{arguments} {lines}: {out}");
        for part in parts {
            assert!(error.contains(part), "{arguments} {lines}: {error}");
        }
    }
    assert!(!desk.path("talk.jsonl").exists());

    // A long question leaves little room, which is said.
    let (is_well, _, error) = typed(&desk, GREEDY, &format!("{}\n", "o".repeat(225)));
    assert!(
        is_well && error.contains("has filled the model's 256 tokens"),
        "{error}"
    );
    // Without a template nobody knows who speaks.
    let config = desk.path("model/tokenizer_config.json");
    let mut tokens: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    tokens.as_object_mut().unwrap().remove("chat_template");
    fs::write(&config, tokens.to_string()).unwrap();
    let (is_well, _, error) = typed(&desk, GREEDY, "hello\n");
    assert!(!is_well && error.contains("no chat template"), "{error}");
}
