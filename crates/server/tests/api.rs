//! A server of a tiny model, asked over HTTP.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use burn_tensor::Device;
use panacea_model::{Decoder, Request, Sampling};
use panacea_pretrained::{Message, Pretrained};
use panacea_server::{Catalogue, EndServer, Server, ServerError, Settings};
use panacea_test_support::TinyModel;
use serde_json::{Value, json};

/// A model, and a server of it that ends with the test.
struct Served {
    folder: tempfile::TempDir,
    address: SocketAddr,
    end: EndServer,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
}

/// More tokens than any test waits for.
const ENDLESS: usize = 60_000;

impl Served {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        Self::with_template(panacea_test_support::CHAT_TEMPLATE, change)
    }

    fn with_template(template: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 272, "hidden_size": 32,
            "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "hidden_act": "silu",
            "max_position_embeddings": ENDLESS + 100, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
            "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 3
        });
        let mut model = TinyModel::well_behaved(config, 0.3);
        // Tokens that end an answer have the logit 0, so that the likeliest token is never one of them.
        let (shape, embedding) = model.tensors.get_mut("model.embed_tokens.weight").unwrap();
        for id in [1, 3] {
            embedding[id * shape[1]..(id + 1) * shape[1]].fill(0.0);
        }
        model.write(folder.path());
        std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
        let mut settings = Settings {
            address: ([127, 0, 0, 1], 0).into(),
            ..Settings::default()
        };
        change(&mut settings);
        let model = Pretrained::open(folder.path()).unwrap();
        let tokenizer = model.tokenizer().unwrap();
        let server = Server::bind(Catalogue::new("tiny"), tokenizer, settings).unwrap();
        let (address, end) = (server.address(), server.handle());
        let thread = thread::spawn(move || {
            let decoder = Decoder::load(&model, &Device::flex()).unwrap();
            server.run(&decoder)
        });
        Self {
            folder,
            address,
            end,
            thread: Some(thread),
        }
    }

    /// The greedy answer that the model gives by itself.
    fn expected(&self, prompt: Vec<u32>, tokens: usize) -> (Vec<u32>, String) {
        let model = Pretrained::open(self.folder.path()).unwrap();
        let tokenizer = model.tokenizer().unwrap();
        let decoder = Decoder::load(&model, &Device::flex()).unwrap();
        let request = Request {
            stop: tokenizer.stop_ids().to_vec(),
            ..Request::greedy(prompt, tokens)
        };
        let answer = decoder.generate([request]).unwrap().remove(0);
        let text = tokenizer.decode(&answer.tokens, true).unwrap();
        (answer.tokens, text)
    }

    fn chat_prompt(&self, text: &str) -> Vec<u32> {
        let model = Pretrained::open(self.folder.path()).unwrap();
        let message = Message::new("user", text);
        model
            .tokenizer()
            .unwrap()
            .encode_prompt(&[message])
            .unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut response = agent().get(self.url(path)).call().unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), text)
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let mut response = agent()
            .post(self.url(path))
            .header("Content-Type", "application/json")
            .send(body.to_string())
            .unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let body = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        (response.status().as_u16(), body)
    }

    /// A request that must be answered.
    fn answer(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// A connection that has asked for a stream, and its lines from the first event on.
    fn stream(&self, path: &str, body: &Value) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let body = body.to_string();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        BufReader::new(stream)
    }

    /// The value of a line of `/metrics`.
    fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.get("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {page}"));
        line.trim().parse().unwrap()
    }

    fn wait_for(&self, name: &str, value: f64) {
        let start = Instant::now();
        while self.metric(name) != value {
            let waited = start.elapsed();
            assert!(
                waited < Duration::from_secs(60),
                "{name} is {}",
                self.metric(name)
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the server and waits until it has ended.
    fn end(&mut self) {
        self.end.end();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        }
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().proxy(None);
    config.http_status_as_error(false).build().new_agent()
}

/// The events of a stream, and whether it has ended as it should.
fn events(lines: impl BufRead) -> (Vec<Value>, bool) {
    let mut events = Vec::new();
    for line in lines.lines() {
        let line = line.unwrap();
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        if data == "[DONE]" {
            return (events, true);
        }
        events.push(serde_json::from_str(data).unwrap());
        if events
            .last()
            .is_some_and(|event| event["error"].is_object())
        {
            return (events, false);
        }
    }
    (events, false)
}

fn chat(fields: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "hello"}], "temperature": 0});
    let fields = fields.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

#[test]
fn an_answer_is_what_the_model_gives_alone() {
    let served = Served::new(|_| ());
    let prompt = served.chat_prompt("hello");
    let (tokens, text) = served.expected(prompt.clone(), 40);
    let answer = served.answer("/v1/chat/completions", &chat(json!({"max_tokens": 40})));
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "tiny");
    assert_eq!(answer["preference"], Value::Null, "{answer}");
    let choice = &answer["choices"][0];
    assert_eq!(
        choice["message"],
        json!({"role": "assistant", "content": text, "refusal": null})
    );
    let reason = if tokens.len() == 40 { "length" } else { "stop" };
    assert_eq!(choice["finish_reason"], reason);
    let usage = json!({"prompt_tokens": prompt.len(), "completion_tokens": tokens.len(),
                       "total_tokens": prompt.len() + tokens.len(),
                       "prompt_tokens_details": {"cached_tokens": 0}});
    assert_eq!(answer["usage"], usage);

    // The official client sends an answer back as it came.
    let history = [
        json!({"role": "user", "content": "hello"}),
        choice["message"].clone(),
        json!({"role": "user", "content": "hello", "tool_calls": [], "name": null}),
    ];
    // So do clients that send every field.
    let again = json!({"messages": history, "max_tokens": 2, "stop": null, "tools": null, "tool_choice": null,
                       "response_format": null, "preference": null, "logit_bias": null});
    served.answer("/v1/chat/completions", &again);

    // In parts, as a developer's message, and by the newer name of the limit.
    let parts = json!([{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]);
    let body = json!({"messages": [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}],
                      "max_completion_tokens": 1, "model": "tiny", "user": "me", "seed": null, "temperature": 0});
    let answer = served.answer("/v1/chat/completions", &body);
    assert_eq!(answer["usage"]["completion_tokens"], 1);
}

#[test]
fn a_stream_is_the_same_answer_piece_by_piece() {
    let served = Served::new(|_| ());
    let whole = served.answer("/v1/chat/completions", &chat(json!({"max_tokens": 60})));
    let options =
        json!({"max_tokens": 60, "stream": true, "stream_options": {"include_usage": true}});
    let stream = served.stream("/v1/chat/completions", &chat(options));
    let (events, is_done) = events(stream);
    assert!(is_done);
    let [first, .., last, usage] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(first["object"], "chat.completion.chunk");
    assert_eq!(
        first["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    assert_eq!(
        last["choices"][0]["finish_reason"],
        whole["choices"][0]["finish_reason"]
    );
    assert_eq!(usage["choices"], json!([]));
    // All but the last token of a prompt that was read a moment ago is known.
    let mut expected = whole["usage"].clone();
    let prompt = expected["prompt_tokens"].as_u64().unwrap();
    expected["prompt_tokens_details"] = json!({"cached_tokens": prompt - 1});
    assert_eq!(usage["usage"], expected);
    let pieces = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    let text: String = pieces.collect();
    assert_eq!(json!(text), whole["choices"][0]["message"]["content"]);
    assert!(events.len() > 10, "it comes in pieces: {events:?}");
    assert!(events.iter().all(|event| event["id"] == first["id"]));
}

/// The next turn of a conversation reads what is new; the metrics say so as well.
#[test]
fn a_conversation_is_not_read_again() {
    let served = Served::new(|_| ());
    let mut messages = vec![json!({"role": "user", "content": "hello"})];
    let (mut prompts, mut all_cached, mut before) = (0, 0, 0);
    for turn in 0..3 {
        // Three answers each, of which the last goes on: the prompt is read once and counted once.
        let body = json!({"messages": messages, "max_tokens": 20, "n": 3, "seed": turn});
        let answer = served.answer("/v1/chat/completions", &body);
        let prompt = answer["usage"]["prompt_tokens"].as_u64().unwrap();
        let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
        let cached = cached.as_u64().unwrap();
        match turn {
            0 => assert_eq!(cached, 0),
            // The template's tokens in front of the answer, at least.
            _ => assert!(before <= cached && cached < prompt, "{cached} of {prompt}"),
        }
        before = prompt;
        prompts += 3 * prompt;
        all_cached += cached + 2 * (prompt - 1);
        messages.push(answer["choices"][2]["message"].clone());
        messages.push(json!({"role": "user", "content": "and then?"}));
    }
    let told = |name| served.metric(name) as u64;
    assert_eq!(told("panacea_prompt_tokens_total"), prompts);
    assert_eq!(told("panacea_prompt_tokens_cached_total"), all_cached);
}

#[test]
fn several_answers_have_their_own_seeds_and_come_again() {
    let served = Served::new(|_| ());
    let body = chat(json!({"n": 3, "temperature": 1.5, "seed": 7, "max_tokens": 20}));
    let texts = |answer: &Value| -> Vec<Value> {
        let choices = answer["choices"].as_array().unwrap().iter();
        choices
            .map(|choice| choice["message"]["content"].clone())
            .collect()
    };
    let first = texts(&served.answer("/v1/chat/completions", &body));
    assert_eq!(first.len(), 3);
    assert!(first[0] != first[1] && first[1] != first[2], "{first:?}");
    assert_eq!(texts(&served.answer("/v1/chat/completions", &body)), first);
    // The second of them is the first of those whose seed is one more.
    let next = chat(json!({"temperature": 1.5, "seed": 8, "max_tokens": 20}));
    assert_eq!(
        texts(&served.answer("/v1/chat/completions", &next)),
        first[1..2]
    );
    // At high temperature each of many answers ends its turn at last.
    let body = chat(json!({"n": 16, "temperature": 2, "seed": 1, "max_tokens": 5000}));
    let answer = served.answer("/v1/chat/completions", &body);
    let mut reasons = answer["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["finish_reason"]);
    assert!(reasons.all(|reason| reason == "stop"), "{answer}");
    let unseeded = chat(json!({"temperature": 1.5, "max_tokens": 20}));
    let answers = [0, 1].map(|_| texts(&served.answer("/v1/chat/completions", &unseeded)));
    assert_ne!(answers[0], answers[1]);
}

#[test]
fn texts_go_on_without_a_template() {
    let served = Served::new(|_| ());
    let model = Pretrained::open(served.folder.path()).unwrap();
    let tokens = model
        .tokenizer()
        .unwrap()
        .encode("hello world", true)
        .unwrap();
    let (_, text) = served.expected(tokens.clone(), 16);
    let complete = |prompt: Value| {
        let body = json!({"prompt": prompt, "temperature": 0});
        served.answer("/v1/completions", &body)
    };
    let of_text = complete(json!("hello world"));
    assert_eq!(of_text["object"], "text_completion");
    assert_eq!(of_text["choices"][0]["text"], text);
    assert_eq!(complete(json!(tokens))["choices"][0]["text"], text);
    let (_, other) = served.expected(model.tokenizer().unwrap().encode("well", true).unwrap(), 16);
    for several in [
        json!(["well", "hello world"]),
        json!([
            model.tokenizer().unwrap().encode("well", true).unwrap(),
            tokens
        ]),
    ] {
        let answer = complete(several);
        assert_eq!(answer["choices"][0]["text"], other);
        assert_eq!(answer["choices"][1]["text"], text);
        assert_eq!(answer["choices"][1]["index"], 1);
    }
}

#[test]
fn log_probabilities_are_the_models_own() {
    let served = Served::new(|_| ());
    let body = chat(
        json!({"max_tokens": 5, "logprobs": true, "top_logprobs": 3, "temperature": 0.5, "seed": 3}),
    );
    let whole = served.answer("/v1/chat/completions", &body);
    let content = whole["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(
        content.len() as u64,
        whole["usage"]["completion_tokens"].as_u64().unwrap()
    );
    for token in content {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        let likeliest = top[0]["logprob"].as_f64().unwrap();
        assert!(token["logprob"].as_f64().unwrap() <= likeliest && likeliest < 0.0);
    }
    let prompt = served.chat_prompt("hello");
    let body =
        json!({"prompt": prompt, "max_tokens": 5, "logprobs": 3, "temperature": 0.5, "seed": 3});
    let legacy = served.answer("/v1/completions", &body)["choices"][0]["logprobs"].clone();
    let of = |list: &[Value], field: &str| -> Value {
        list.iter().map(|item| item[field].clone()).collect()
    };
    // What the first answer has read of the prompt is not read again, so that sums are taken in another order.
    let found = legacy["token_logprobs"].as_array().unwrap();
    assert_eq!(found.len(), content.len());
    for (found, expected) in found.iter().zip(content) {
        let [found, expected] = [found, &expected["logprob"]].map(|x| x.as_f64().unwrap());
        assert!((found - expected).abs() < 1e-5, "{found}, {expected}");
    }
    assert_eq!(legacy["tokens"], of(content, "token"));
    assert_eq!(legacy["text_offset"][0], 0);
    // Under the likeliest token alone, the model itself is as unsure as ever.
    let greedy = served.answer(
        "/v1/chat/completions",
        &chat(json!({"max_tokens": 1, "logprobs": true})),
    );
    let greedy = &greedy["choices"][0]["logprobs"]["content"][0];
    assert!(greedy["logprob"].as_f64().unwrap() < -0.01, "{greedy}");
    let without = served.answer("/v1/chat/completions", &chat(json!({"max_tokens": 1})));
    assert_eq!(without["choices"][0]["logprobs"], Value::Null);
}

#[test]
fn a_stop_string_ends_the_answer_and_is_not_part_of_it() {
    let served = Served::new(|_| ());
    let whole = served.answer("/v1/chat/completions", &chat(json!({"max_tokens": 60})));
    let whole = whole["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned();
    let characters: Vec<char> = whole.chars().collect();
    let stop: String = characters[20..23].iter().collect();
    let expected = &whole[..whole.find(&stop).unwrap()];
    let body = chat(json!({"max_tokens": 60, "stop": stop}));
    let answer = served.answer("/v1/chat/completions", &body);
    assert_eq!(answer["choices"][0]["message"]["content"], expected);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let body = chat(json!({"max_tokens": 60, "stop": ["no such text", stop], "stream": true}));
    let (events, is_done) = events(served.stream("/v1/chat/completions", &body));
    let pieces = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), expected);
    assert!(is_done);
    served.wait_for("panacea_places_taken ", 0.0);
}

#[test]
fn what_is_wrong_is_refused_by_name() {
    let served = Served::new(|settings| settings.body_limit = 10_000);
    let refused = |path: &str, body: &Value, status: u16, param: &str, part: &str| {
        let (found, answer) = served.post(path, body);
        let error = &answer["error"];
        let message = error["message"].as_str().unwrap_or_default();
        assert_eq!(found, status, "{answer}");
        assert_eq!(
            error["param"].as_str().unwrap_or_default(),
            param,
            "{answer}"
        );
        assert!(message.contains(part), "{part}: {answer}");
    };
    let wrong: [(Value, &str, &str); 28] = [
        (json!({"mesages": []}), "mesages", "no such field"),
        (json!({"messages": []}), "messages", "at least one"),
        (
            json!({"messages": "hello"}),
            "messages",
            "expected a sequence",
        ),
        (
            json!({"messages": [{"role": "user"}]}),
            "messages[0].content",
            "content",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x", "name": "y"}]}),
            "messages[0].name",
            "not supported",
        ),
        (
            json!({"messages": [{"role": "robot", "content": "x"}]}),
            "messages[0].role",
            "robot",
        ),
        (
            json!({"messages": [{"role": "user", "content": 3}]}),
            "messages[0].content",
            "found 3",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0]",
            "image_url",
        ),
        (json!({"temperature": "hot"}), "temperature", "hot"),
        (json!({"temperature": -1}), "temperature", "≥ 0"),
        (json!({"top_p": 0}), "top_p", "(0, 1]"),
        (json!({"top_k": -2}), "top_k", "-2"),
        (json!({"max_tokens": 0}), "max_tokens", "≥ 1"),
        (json!({"n": 0}), "n", "1 to 128"),
        (json!({"n": u64::MAX / 2}), "n", "1 to 128"),
        (json!({"stop": 3}), "stop", "found 3"),
        (json!({"stop": ""}), "stop", "1 to 1000"),
        (
            json!({"max_tokens": 3, "max_completion_tokens": 4}),
            "max_tokens",
            "is 4",
        ),
        (
            json!({"response_format": "json_object"}),
            "response_format",
            "not supported",
        ),
        (
            json!({"stream_options": {"include_usag": true}}),
            "stream_options.include_usag",
            "include_usage",
        ),
        (
            json!({"logit_bias": {"3": 1}}),
            "logit_bias",
            "not supported",
        ),
        (
            json!({"presence_penalty": 0.5}),
            "presence_penalty",
            "not supported",
        ),
        (json!({"tools": [{}]}), "tools", "not supported"),
        (
            json!({"response_format": {"type": "json_object"}}),
            "response_format",
            "not supported",
        ),
        (
            json!({"top_logprobs": 3}),
            "top_logprobs",
            "logprobs = true",
        ),
        (
            json!({"logprobs": true, "top_logprobs": 21}),
            "top_logprobs",
            "at most 20",
        ),
        (
            json!({"max_tokens": 1_000_000}),
            "messages",
            "both together",
        ),
        (json!({"preference": [1.0]}), "preference", "base model"),
    ];
    for (fields, param, part) in wrong {
        refused("/v1/chat/completions", &chat(fields), 400, param, part);
    }
    refused(
        "/v1/chat/completions",
        &chat(json!({"model": "huge"})),
        404,
        "model",
        "there are tiny",
    );
    refused(
        "/v1/completions",
        &json!({"prompt": []}),
        400,
        "prompt",
        "not empty",
    );
    refused(
        "/v1/completions",
        &json!({"prompt": [[1], "x"]}),
        400,
        "prompt",
        "list of either",
    );
    refused(
        "/v1/completions",
        &json!({"prompt": [99999]}),
        400,
        "prompt",
        "99999",
    );
    refused(
        "/v1/completions",
        &json!({"prompt": "x", "echo": true}),
        400,
        "echo",
        "not supported",
    );
    refused(
        "/v1/completions",
        &json!({"prompt": "x", "best_of": 3}),
        400,
        "best_of",
        "not supported",
    );
    let long = json!({"prompt": "x".repeat(20_000)});
    refused("/v1/completions", &long, 413, "", "10000 bytes");
    refused("/v1/nothing", &json!({}), 404, "", "/v1/nothing");

    let raw = |content_type: &str, body: &str| {
        let request = agent()
            .post(served.url("/v1/completions"))
            .header("Content-Type", content_type);
        request.send(body).unwrap().status().as_u16()
    };
    assert_eq!(
        raw("application/json; charset=utf-8", "{\"prompt\": \"x\"}"),
        200
    );
    assert_eq!(raw("application/json", "{\"prompt\": \"x\""), 400);
    assert_eq!(
        raw(
            "application/json",
            &format!("{{\"logit_bias\": {{\"a\": {}", "[".repeat(2000))
        ),
        400
    );
    assert_eq!(raw("application/json", "\u{0}\u{1}"), 400);
    let two = "{\"prompt\": \"x\"} {\"prompt\": \"y\"}";
    assert_eq!(raw("application/json", two), 400);
    assert_eq!(raw("text/plain", "{\"prompt\": \"x\"}"), 415);
    let (status, body) = served.get("/v1/completions");
    assert_eq!(status, 405, "{body}");
    // It goes on.
    served.answer("/v1/completions", &json!({"prompt": "x"}));
}

#[test]
fn who_may_ask_is_asked_for_a_key_or_for_the_name_of_this_machine() {
    let served = Served::new(|_| ());
    let as_host = |host: &str| {
        let request = agent().get(served.url("/v1/models")).header("Host", host);
        request.call().unwrap().status().as_u16()
    };
    assert_eq!(as_host("localhost:8080"), 200);
    assert_eq!(as_host("127.0.0.1"), 200);
    assert_eq!(as_host("[::1]:8080"), 200);
    assert_eq!(as_host("evil.example:8080"), 403);
    let named = Served::new(|settings| settings.allowed_hosts = vec!["proxy.example".to_owned()]);
    let request = agent()
        .get(named.url("/v1/models"))
        .header("Host", "Proxy.example");
    assert_eq!(request.call().unwrap().status().as_u16(), 200);

    let keyed = Served::new(|settings| settings.api_key = Some("secret".to_owned()));
    let with_key = |path: &str, key: Option<&str>| {
        let request = agent().get(keyed.url(path)).header("Host", "any.example");
        let request = key
            .into_iter()
            .fold(request, |request, key| request.header("Authorization", key));
        request.call().unwrap().status().as_u16()
    };
    assert_eq!(with_key("/v1/models", Some("Bearer secret")), 200);
    for key in [
        None,
        Some("Bearer secre"),
        Some("Bearer secrets"),
        Some("Bearer "),
        Some("secret"),
        Some("Basic secret"),
    ] {
        assert_eq!(with_key("/v1/models", key), 401, "{key:?}");
        assert_eq!(with_key("/metrics", key), 401);
        for path in ["/health", "/", "/page/main.js"] {
            assert_eq!(with_key(path, key), 200, "{path}");
        }
        assert_eq!(with_key("/page/another.js", key), 404);
        assert_eq!(with_key("/v1/models/tiny/front", key), 401);
    }

    let model = Pretrained::open(served.folder.path()).unwrap();
    let bind =
        |settings| Server::bind(Catalogue::new("tiny"), model.tokenizer().unwrap(), settings);
    let open = Settings {
        address: ([0, 0, 0, 0], 0).into(),
        ..Settings::default()
    };
    let refused = bind(open.clone()).err().unwrap().to_string();
    assert!(refused.contains("--without-api-key"), "{refused}");
    assert!(
        bind(Settings {
            without_api_key: true,
            ..open
        })
        .is_ok()
    );
    let taken = Settings {
        address: served.address,
        ..Settings::default()
    };
    let refused = bind(taken).err().unwrap().to_string();
    assert!(refused.contains("--port"), "{refused}");
}

#[test]
fn who_leaves_makes_room_and_who_finds_none_is_told_when_to_come_back() {
    let served = Served::new(|settings| {
        settings.places = 1;
        settings.queue = 1;
    });
    let endless = chat(json!({"stream": true, "max_tokens": ENDLESS}));
    let mut first = served.stream("/v1/chat/completions", &endless);
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        first.read_line(&mut line).unwrap();
    }
    served.wait_for("panacea_places_taken ", 1.0);
    let second = served.stream("/v1/chat/completions", &endless);
    served.wait_for("panacea_queue ", 1.0);
    let (status, refused) = served.post("/v1/chat/completions", &chat(json!({})));
    assert_eq!(status, 429, "{refused}");
    let mut response = agent()
        .post(served.url("/v1/chat/completions"))
        .header("Content-Type", "application/json")
        .send(chat(json!({})).to_string())
        .unwrap();
    let seconds = response.headers()["retry-after"].to_str().unwrap();
    assert!(
        (1..=60).contains(&seconds.parse::<u64>().unwrap()),
        "{seconds}"
    );
    response.body_mut().read_to_string().unwrap();

    // Who waits may leave too.
    drop(second);
    served.wait_for("panacea_queue ", 0.0);
    drop(first);
    served.wait_for("panacea_places_taken ", 0.0);
    // So may who waits for a whole answer.
    let whole = chat(json!({"max_tokens": ENDLESS}));
    let third = served.stream("/v1/chat/completions", &whole);
    served.wait_for("panacea_places_taken ", 1.0);
    drop(third);
    served.wait_for("panacea_places_taken ", 0.0);
    // Nobody has waited for the end of an answer.
    assert_eq!(served.metric("panacea_answer_seconds_count "), 0.0);
    served.answer("/v1/chat/completions", &chat(json!({"max_tokens": 2})));
    assert_eq!(served.metric("panacea_answer_seconds_count "), 1.0);
    assert_eq!(
        served.metric("panacea_responses_total{path=\"/v1/chat/completions\",status=\"429\"} "),
        2.0
    );
}

#[test]
fn an_answer_that_takes_too_long_is_cut() {
    let served = Served::new(|settings| {
        settings.time_limit = Duration::from_secs(3);
        settings.places = 1;
    });
    let body = chat(json!({"max_tokens": ENDLESS}));
    let answer = served.answer("/v1/chat/completions", &body);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap();
    assert!((1..ENDLESS as u64).contains(&tokens), "{answer}");

    // One that has not begun by then is no answer.
    let body = chat(json!({"max_tokens": ENDLESS, "n": 2}));
    let (status, answer) = served.post("/v1/chat/completions", &body);
    assert_eq!(status, 503, "{answer}");
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("waited too long")
    );
}

#[test]
fn an_ending_server_finishes_what_it_can_and_cuts_the_rest() {
    let mut served = Served::new(|settings| settings.grace = Duration::from_millis(300));
    let endless = chat(json!({"stream": true, "max_tokens": ENDLESS}));
    let stream = served.stream("/v1/chat/completions", &endless);
    let reader = thread::spawn(|| events(stream));
    served.wait_for("panacea_time_to_first_token_seconds_count ", 1.0);
    served.end();
    let (cut, is_done) = reader.join().unwrap();
    assert!(is_done, "{:?}", cut.last());
    assert_eq!(cut.last().unwrap()["choices"][0]["finish_reason"], "length");

    // Told twice, it does not wait.
    let mut served = Served::new(|settings| settings.grace = Duration::from_secs(3600));
    let stream = served.stream("/v1/chat/completions", &endless);
    let reader = thread::spawn(|| events(stream));
    served.wait_for("panacea_time_to_first_token_seconds_count ", 1.0);
    served.end.end();
    served.end();
    assert!(reader.join().unwrap().1);
}

#[test]
fn silent_connections_and_slow_readers_hold_nobody_up() {
    let served = Served::new(|_| ());
    let idle: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(served.address).unwrap())
        .collect();
    let mut half = TcpStream::connect(served.address).unwrap();
    half.write_all(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        .unwrap();
    let mut garbage = TcpStream::connect(served.address).unwrap();
    garbage
        .write_all(b"\x16\x03\x01\x00\xff\xff no HTTP at all\r\n\r\n")
        .unwrap();
    // They ask and do not read.
    let body =
        chat(json!({"stream": true, "max_tokens": 2000, "logprobs": true, "top_logprobs": 20}));
    let slow: Vec<_> = (0..4)
        .map(|_| served.stream("/v1/chat/completions", &body))
        .collect();
    let alone = served.answer("/v1/chat/completions", &chat(json!({"max_tokens": 30})));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let url = served.url("/v1/chat/completions");
            thread::spawn(move || {
                let request = agent().post(url).header("Content-Type", "application/json");
                let mut response = request
                    .send(chat(json!({"max_tokens": 30})).to_string())
                    .unwrap();
                let text = response.body_mut().read_to_string().unwrap();
                serde_json::from_str::<Value>(&text).unwrap()
            })
        })
        .collect();
    for thread in threads {
        let answer = thread.join().unwrap();
        assert_eq!(answer["choices"], alone["choices"]);
    }
    drop((idle, half, garbage, slow));
    served.wait_for("panacea_places_taken ", 0.0);
}

#[test]
fn the_description_lists_what_there_is() {
    let served = Served::new(|_| ());
    let (status, text) = served.get("/openapi.json");
    assert_eq!(status, 200);
    let description: Value = serde_json::from_str(&text).unwrap();
    let paths = description["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 15);
    for (path, methods) in paths {
        let path = path.replace("{id}", "tiny").replace("{profile}", "me");
        let path = path.replace("{file}", "page.css");
        let (get, body) = served.get(&path);
        let expected = match path.as_str() {
            _ if methods.get("post").is_some() => 405,
            // The base model has none of these.
            path if path.starts_with("/v1/models/tiny/") => 404,
            _ => 200,
        };
        assert_eq!(get, expected, "{path}: {body}");
    }
    let schemas = &description["components"]["schemas"];
    let shapes = &schemas["PreferenceShape"]["oneOf"];
    let types: Vec<&Value> = shapes
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["type"])
        .collect();
    assert_eq!(types, ["array", "object"], "{shapes}");
    let preference = schemas["Options"]["properties"]["preference"].to_string();
    assert!(preference.contains("PreferenceShape"), "{preference}");
    let (_, models) = served.get("/v1/models");
    let models: Value = serde_json::from_str(&models).unwrap();
    assert_eq!(models["data"][0]["id"], "tiny");
    assert_eq!(models["data"][0]["context_length"], ENDLESS + 100);
    assert_eq!(models["data"][0]["has_front"], false);
    let (_, health) = served.get("/health");
    assert_eq!(health, "{\"status\":\"ok\"}");
    let body = json!({"prompt": "hello", "temperature": 0, "max_tokens": 8});
    served.answer("/v1/completions", &body);
    assert_eq!(
        served.metric("panacea_answers_total{model=\"tiny\",preference=\"none\"} "),
        1.0
    );
    assert!(served.metric("panacea_answer_tokens_total ") >= 1.0);
}

/// As in OpenAI's API: the temperature is 1, and no filter applies.
#[test]
fn without_a_temperature_tokens_are_drawn() {
    let served = Served::new(|_| ());
    let prompt = served.chat_prompt("hello");
    let model = Pretrained::open(served.folder.path()).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let decoder = Decoder::load(&model, &Device::flex()).unwrap();
    let request = Request {
        sampling: Sampling::exact(),
        stop: tokenizer.stop_ids().to_vec(),
        seed: 5,
        ..Request::greedy(prompt, 12)
    };
    let answer = decoder.generate([request]).unwrap().remove(0);
    let expected = tokenizer.decode(&answer.tokens, true).unwrap();
    let body =
        json!({"messages": [{"role": "user", "content": "hello"}], "seed": 5, "max_tokens": 12});
    let answer = served.answer("/v1/chat/completions", &body);
    assert_eq!(answer["choices"][0]["message"]["content"], expected);
}

#[test]
fn the_page_runs_nothing_but_its_own() {
    let served = Served::new(|_| ());
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/page/main.js", "text/javascript; charset=utf-8"),
        ("/page/page.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ] {
        let response = agent().get(served.url(path)).call().unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), content_type, "{path}");
        let policy = header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self';",
            "style-src 'self';",
            "connect-src 'self';",
        ] {
            assert!(policy.contains(part), "{path}: {part} is not in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    let (status, answer) = served.get("/page/..%2FCargo.toml");
    assert_eq!(status, 404, "{answer}");
    assert!(answer.contains("there is nothing at"), "{answer}");
}

/// Writes names, calls and tools.
const CALLING: &str = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% for m in messages %}\
    {{ '<|im_start|>' + m.role }}{% if m.role == 'user' and m.name %}{{ '@' + m.name }}{% endif %}{{ '\n' }}\
    {% if m.tool_calls %}{% for call in m.tool_calls %}{{ call.function.arguments.day }}{% endfor %}\
    {% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}\
    {% if 'tool' %}{% endif %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

#[test]
fn calls_and_tools_are_given_to_the_template_or_refused() {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "hours", "arguments": "{\"day\": \"Monday\"}"}});
    let tools = json!([{"type": "function", "function": {"name": "hours"}}]);
    let talk = json!([
        {"role": "user", "content": "When?", "name": "Ann"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "content": "7", "tool_call_id": "c1"},
        {"role": "user", "content": [{"type": "text", "text": "So?"}]}
    ]);
    let body = json!({"messages": talk, "max_tokens": 1, "tools": tools, "tool_choice": "none"});
    let served = Served::with_template(CALLING, |_| ());
    let text = "hours<|im_start|>user@Ann\nWhen?<|im_end|>\n<|im_start|>assistant\nMonday<|im_end|>\n\
                <|im_start|>tool\n7<|im_end|>\n<|im_start|>user\nSo?<|im_end|>\n<|im_start|>assistant\n";
    let model = Pretrained::open(served.folder.path()).unwrap();
    let tokens = model.tokenizer().unwrap().encode(text, false).unwrap();
    let answer = served.answer("/v1/chat/completions", &body);
    assert_eq!(answer["usage"]["prompt_tokens"], tokens.len());

    let refused = |served: &Served, change: &dyn Fn(&mut Value), param: &str, part: &str| {
        let mut body = body.clone();
        change(&mut body);
        let (status, answer) = served.post("/v1/chat/completions", &body);
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(
            (status, answer["error"]["param"].as_str()),
            (400, Some(param)),
            "{answer}"
        );
        assert!(message.contains(part), "{message}");
    };
    let set = |pointer: &'static str, value: Value| {
        move |body: &mut Value| *body.pointer_mut(pointer).unwrap() = value.clone()
    };
    let wrong: [(&'static str, Value, &str, &str); 8] = [
        (
            "/tool_choice",
            json!("auto"),
            "tools",
            "apart from the text",
        ),
        (
            "/tool_choice",
            json!("required"),
            "tools",
            "apart from the text",
        ),
        (
            "/messages/2/tool_call_id",
            json!("c2"),
            "messages[2].tool_call_id",
            "`c2`",
        ),
        (
            "/messages/1/tool_calls/0/function/arguments",
            json!("day"),
            "messages[1].tool_calls[0]",
            "no JSON object",
        ),
        (
            "/messages/1/tool_calls/0",
            json!({"id": "c1"}),
            "messages[1].tool_calls[0]",
            "expected {",
        ),
        (
            "/messages/1/role",
            json!("user"),
            "messages[1].tool_calls",
            "the assistant's",
        ),
        (
            "/messages/3/content",
            json!(null),
            "messages[3].content",
            "expected a text",
        ),
        (
            "/messages/3/role",
            json!("narrator"),
            "messages[3].role",
            "tool",
        ),
    ];
    for (pointer, value, param, part) in wrong {
        refused(&served, &set(pointer, value), param, part);
    }
    for tool in [
        json!({}),
        json!({"name": "hours"}),
        json!({"type": "function", "function": {"name": 7}}),
        json!({"type": "retrieval", "function": {"name": "x"}}),
        json!("hours"),
    ] {
        let add = |body: &mut Value| body["tools"].as_array_mut().unwrap().push(tool.clone());
        refused(
            &served,
            &add,
            "tools[1]",
            "expected {\"type\": \"function\"",
        );
    }
    let no_id = |body: &mut Value| body["messages"][2]["tool_call_id"] = json!(null);
    refused(
        &served,
        &no_id,
        "messages[2].tool_call_id",
        "nothing, expected the id",
    );

    // A name is read of users alone, and a text beside calls is not.
    let system_name = |body: &mut Value| {
        body["messages"][0] = json!({"role": "system", "content": "x", "name": "Ann"});
    };
    refused(
        &served,
        &system_name,
        "messages[0].name",
        "does not read here",
    );
    let text_and_call = |body: &mut Value| body["messages"][1]["content"] = json!("hm");
    refused(
        &served,
        &text_and_call,
        "messages[1].content",
        "does not read here",
    );
    // Without ids, answers stand in the order of the calls.
    let two = |ids: [&str; 2]| {
        let ids = ids.map(str::to_owned);
        move |body: &mut Value| {
            let mut second = body["messages"][1]["tool_calls"][0].clone();
            second["id"] = json!("c2");
            body["messages"][1]["tool_calls"]
                .as_array_mut()
                .unwrap()
                .push(second);
            let tool = |id: &String| json!({"role": "tool", "content": "7", "tool_call_id": id});
            body["messages"][2] = tool(&ids[0]);
            body["messages"][3] = tool(&ids[1]);
        }
    };
    let mut in_order = body.clone();
    two(["c1", "c2"])(&mut in_order);
    served.answer("/v1/chat/completions", &in_order);
    refused(
        &served,
        &two(["c2", "c1"]),
        "messages[2].tool_call_id",
        "not the next one",
    );

    // What the template refuses for the tools' sake is said of them.
    let picky = CALLING.replace(
        "{{ t.function.name }}",
        "{{ t.function.parameters.type }}{% if not t.function.parameters %}\
        {{ raise_exception('no parameters') }}{% endif %}",
    );
    assert_ne!(picky, CALLING);
    let picky = Served::with_template(&picky, |_| ());
    refused(&picky, &|_| (), "tools", "");
    let alternating = |body: &mut Value| body["messages"][0]["role"] = json!("tool");
    refused(
        &served,
        &alternating,
        "messages[0].tool_call_id",
        "expected the id",
    );

    // A template without all that would leave it out.
    let plain = Served::new(|_| ());
    let tools_alone =
        |body: &mut Value| body["messages"] = json!([{"role": "user", "content": "?"}]);
    refused(&plain, &tools_alone, "tools", "does not read here");
    let without_tools = |body: &mut Value| {
        body["tools"] = json!([]);
        body["messages"].as_array_mut().unwrap().remove(2);
    };
    let name_alone = |body: &mut Value| {
        without_tools(body);
        body["messages"] = json!([body["messages"][0]]);
    };
    refused(
        &plain,
        &name_alone,
        "messages[0].name",
        "does not read here",
    );
    let without_name = |body: &mut Value| {
        without_tools(body);
        body["messages"][0]["name"] = json!(null);
    };
    refused(
        &plain,
        &without_name,
        "messages[1].tool_calls",
        "does not read it",
    );
    let tool_alone = |body: &mut Value| {
        without_tools(body);
        body["messages"] = json!([{"role": "tool", "content": "7"}]);
    };
    refused(&plain, &tool_alone, "messages[0].role", "has no `tool`");
}
