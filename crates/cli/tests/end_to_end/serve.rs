//! A run that is served, asked by several clients at once.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::desk::Desk;

/// The server as a process; it ends with the test.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    pub fn start(desk: &Desk, arguments: &str) -> Self {
        // A run brings its model along.
        let model = if arguments.contains("--run") {
            ""
        } else {
            "--model model "
        };
        let mut child = desk
            .command(&format!("serve {model}--port 0 {arguments}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ");
        let url = url.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, url }
    }

    /// A chat of one greedy answer of 12 tokens.
    pub fn ask(url: &str, fields: Value, header: Option<&str>) -> (u16, Value) {
        let mut body = json!({"messages": [{"role": "user", "content": "hello"}], "temperature": 0,
                              "max_tokens": 12});
        let fields = fields.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        send(&format!("{url}/v1/chat/completions"), &body, header)
    }
}

/// What a server says to a body.
pub fn post(url: &str, body: &Value) -> (u16, Value) {
    send(url, body, None)
}

fn send(url: &str, body: &Value, header: Option<&str>) -> (u16, Value) {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None);
    let request = config.build().new_agent().post(url);
    let request = request.header("Content-Type", "application/json");
    let request = header.into_iter().fold(request, |request, value| {
        request.header("X-Preference", value)
    });
    let mut response = request.send(body.to_string()).unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    (
        response.status().as_u16(),
        serde_json::from_str(&text).unwrap(),
    )
}

/// What a server says to a question without a body.
pub fn fetch(url: &str) -> (u16, Value) {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None);
    let mut response = config.build().new_agent().get(url).call().unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    let said = serde_json::from_str(&text).unwrap();
    (response.status().as_u16(), said)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn get(url: String) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
    let config = ureq::Agent::config_builder().proxy(None);
    config.build().new_agent().get(url)
}

/// The answer that `generate` gives.
fn generated(desk: &Desk, run: &str, preference: &str) -> String {
    let answer = desk.succeed(&format!(
        "generate --model model --run {run} --preference {preference} --prompt hello --greedy --max-new-tokens 12"
    ));
    answer.strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn everybody_is_answered_under_their_own_preference() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first");
    desk.succeed(
        "train --config run.toml --run soup --set method.name=\"rewarded_soups\" --steps 8",
    );
    let alone: Vec<(f64, String)> = [0.0, 0.25, 0.5, 0.75, 1.0]
        .map(|weight| {
            let preference = format!("{weight},{}", 1.0 - weight);
            (weight, generated(&desk, "first", &preference))
        })
        .to_vec();
    assert_ne!(alone[0].1, alone[4].1, "the preference changes nothing");
    let soup = generated(&desk, "soup", "0.75,0.25");

    let server = Server::start(&desk, "--run first --run soup@3,1 --places 8");
    // λ in the body, by order and by name, in the header, behind the model's name, in llama.cpp's way; of any sum.
    let clients = alone.iter().flat_map(|(weight, expected)| {
        let (a, b) = (2.0 * weight, 2.0 * (1.0 - weight));
        let asked = [
            (json!({"preference": [a, b]}), None),
            (
                json!({"preference": {"conciseness": b, "helpfulness": a}, "model": "first@9,1"}),
                Some("1,0".to_owned()),
            ),
            (
                json!({"model": "first@1,1"}),
                Some(format!("helpfulness={a}, conciseness={b}")),
            ),
            (json!({"model": format!("first@{a},{b}")}), None),
            (
                json!({"lora": [{"id": 1, "scale": b}, {"id": 0, "scale": a}]}),
                Some("1,0".to_owned()),
            ),
        ];
        asked.map(|(fields, header)| (*weight, expected.clone(), fields, header))
    });
    let threads: Vec<_> = clients
        .map(|(weight, expected, fields, header)| {
            let url = server.url.clone();
            thread::spawn(move || {
                let (status, answer) = Server::ask(&url, fields.clone(), header.as_deref());
                assert_eq!(status, 200, "{answer}");
                let preference = json!({"helpfulness": weight, "conciseness": 1.0 - weight});
                assert_eq!(answer["preference"], preference, "{fields}");
                let text = &answer["choices"][0]["message"]["content"];
                assert_eq!(text, &json!(expected), "{fields} {header:?}");
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }

    // Who says nothing gets the first run at the same weight for all; a run may have another default.
    let (_, answer) = Server::ask(&server.url, json!({}), None);
    assert_eq!(answer["model"], "first");
    assert_eq!(
        answer["preference"],
        json!({"helpfulness": 0.5, "conciseness": 0.5})
    );
    assert_eq!(answer["choices"][0]["message"]["content"], alone[2].1);
    let (_, answer) = Server::ask(&server.url, json!({"model": "soup"}), None);
    assert_eq!(
        answer["preference"],
        json!({"helpfulness": 0.75, "conciseness": 0.25})
    );
    assert_eq!(answer["choices"][0]["message"]["content"], soup);
    let (_, answer) = Server::ask(&server.url, json!({"model": "model"}), None);
    assert_eq!(answer["preference"], Value::Null);

    let refused = [
        (
            json!({"preference": [1.0]}),
            "preference",
            "there are 2 objective(s)",
        ),
        (
            json!({"preference": [-1.0, 2.0]}),
            "preference",
            "weight 1 is -1",
        ),
        (json!({"preference": [0, 0]}), "preference", "all 0"),
        (
            json!({"preference": [0.5, "x"]}),
            "preference[1]",
            "string \"x\"",
        ),
        (json!({"preference": 0.5}), "preference", "by name"),
        (
            json!({"preference": {"helpfulness": -1}}),
            "preference",
            "the weight of `helpfulness` is -1",
        ),
        (
            json!({"preference": {"helpfulness": 1, "tone": 1}}),
            "preference",
            "no objective `tone`",
        ),
        (
            json!({"lora": [{"id": 2, "scale": 1}]}),
            "lora",
            "no adapter 2",
        ),
        (
            json!({"model": "first@1"}),
            "model",
            "there are 2 objective(s)",
        ),
        (json!({"model": "first@x,y"}), "model", "`x`"),
        (json!({"model": "second"}), "model", "first, soup, model"),
        (
            json!({"model": "model@1,1"}),
            "model",
            "no preference steers",
        ),
    ];
    for (fields, param, part) in refused {
        let (_, answer) = Server::ask(&server.url, fields.clone(), None);
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(part), "{fields}: {answer}");
        assert_eq!(answer["error"]["param"], param, "{fields}");
    }
    let (status, answer) = Server::ask(&server.url, json!({}), Some("helpfulness=0"));
    assert_eq!(
        (status, &answer["error"]["param"]),
        (400, &json!("X-Preference")),
        "{answer}"
    );

    let mut models = get(format!("{}/v1/models", server.url)).call().unwrap();
    let models: Value = serde_json::from_str(&models.body_mut().read_to_string().unwrap()).unwrap();
    assert_eq!(
        models["data"][1]["objectives"],
        json!(["helpfulness", "conciseness"])
    );
    assert_eq!(
        models["data"][1]["preference"],
        json!({"helpfulness": 0.75, "conciseness": 0.25})
    );
    let mut adapters = get(format!("{}/lora-adapters", server.url)).call().unwrap();
    let adapters: Value =
        serde_json::from_str(&adapters.body_mut().read_to_string().unwrap()).unwrap();
    assert_eq!(adapters[1]["task_name"], "conciseness");
    assert_eq!(adapters[1]["scale"], 0.5);
}

/// SIGTERM: the answer that is being written comes to its end, and the program says that all is well.
#[cfg(unix)]
#[test]
fn a_server_that_is_told_to_end_finishes_its_answers() {
    let desk = Desk::new();
    let mut server = Server::start(&desk, "--grace 60");
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let body =
        json!({"prompt": "hello", "temperature": 0, "max_tokens": 150, "stream": true}).to_string();
    write!(
        stream,
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with("data: ")).unwrap();
    let kill = std::process::Command::new("kill")
        .args(["-TERM", &server.child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    assert!(lines.any(|line| line == "data: [DONE]"));
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn what_cannot_be_served_is_refused_at_the_start() {
    let desk = Desk::new();
    desk.write("empty.txt", "\n");
    let refused = [
        ("--run nobody", "nobody"),
        ("--run nobody@1,2", "nobody"),
        ("--host 0.0.0.0", "--api-key-file"),
        (
            "--host 0.0.0.0 --api-key-file empty.txt",
            "the file is empty",
        ),
        ("--host 0.0.0.0 --api-key-file none.txt", "none.txt"),
        ("--places 0", "is not in 1..=65536"),
    ];
    for (arguments, part) in refused {
        let error = desk.fail(&format!("serve --model model --port 0 {arguments}"));
        assert!(error.contains(part), "{arguments}: {error}");
    }
}
