//! A server of this process stands in for the endpoint.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use serde_json::Value;

use super::*;
use crate::scorer::tests::{assert_says, numbers, sample};

type Answer = (u16, String);

/// A server that answers as many requests, one per connection, and then returns them.
fn serve(
    count: usize,
    answer: impl Fn(usize, &str) -> Answer + Send + 'static,
) -> (Endpoint, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/", listener.local_addr().unwrap());
    let converse = move |i| {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut request = String::new();
        while !request.ends_with("\r\n\r\n") {
            stream.read_line(&mut request).unwrap();
        }
        let head = request.to_lowercase();
        let (_, length) = head.split_once("content-length: ").unwrap();
        let mut content = vec![0; length.lines().next().unwrap().parse().unwrap()];
        stream.read_exact(&mut content).unwrap();
        request.push_str(&String::from_utf8(content).unwrap());
        let (status, body) = answer(i, &request);
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}", body.len());
        let answer = format!("{head}\r\nretry-after: 0\r\nconnection: close\r\n\r\n{body}");
        stream.get_mut().write_all(answer.as_bytes()).unwrap();
        request
    };
    let server = thread::spawn(move || (0..count).map(converse).collect());
    (endpoint(url), server)
}

fn endpoint(url: String) -> Endpoint {
    let spec = EndpointSpec {
        endpoint: url,
        model: "judge".to_owned(),
        instruction: "Rate how polite the response is.".to_owned(),
        scale: [1.0, 10.0],
        temperature: Temperature::At(0.0),
        structured: false,
        retries: 0,
        on_unreadable: OnUnreadable::Error,
        timeout_seconds: 60,
        parallel: 1,
        api_key_env: None,
        reference: None,
    };
    let mut endpoint = Endpoint::new("endpoint x".to_owned(), &spec).unwrap();
    endpoint.key = Some("Secret".to_owned());
    endpoint.first_pause = Duration::from_millis(1);
    // Not by a proxy that somebody has set for other things: the server is here.
    endpoint.agent = agent(60, None);
    endpoint
}

fn says(reply: &str) -> Answer {
    let completion = json!({"choices": [{"message": {"content": reply}}]});
    (200, completion.to_string())
}

/// The error where one sample meets the same answer again and again.
fn error(count: usize, answer: Answer) -> ScoreError {
    let (mut endpoint, server) = serve(count, move |_, _| answer.clone());
    let error = endpoint.score(&[sample("a", "b")]).unwrap_err();
    server.join().unwrap();
    error
}

/// The body of a request that a server has had.
fn body(request: &str) -> Value {
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

fn turn(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

const ASKED: &str = "<prompt>\nMay I?\n</prompt>\n<response>\nDo.\n</response>";

#[test]
fn a_judge_is_asked_and_read() {
    let replies = ["7", "**8.5** of 10", "<think>3? No.</think>\n4"];
    let (mut endpoint, server) = serve(3, move |i, _| says(replies[i]));
    let samples = [sample("May I?", "Do."), sample("a", "b"), sample("c", "d")];
    let scores = numbers(endpoint.score(&samples).unwrap());
    assert_eq!(scores, [7.0, 8.5, 4.0]);

    let requests = server.join().unwrap();
    let (head, _) = requests[0].split_once("\r\n\r\n").unwrap();
    assert_says(head, "POST /v1/chat/completions HTTP/1.1");
    assert_says(head.to_lowercase(), "authorization: bearer secret");
    let system = "Rate how polite the response is.\nReply with one number from 1 (worst) to 10 (best) and nothing else.";
    let messages = [turn("system", system), turn("user", ASKED)];
    let expected = json!({"model": "judge", "temperature": 0.0, "messages": messages});
    assert_eq!(body(&requests[0]), expected);
}

#[test]
fn a_judge_sees_the_reference_that_is_named() {
    let (mut endpoint, server) = serve(1, |_, _| says("7"));
    endpoint.spec.reference = Some("answer".to_owned());
    let references = [("answer".to_owned(), "Please do.".to_owned())];
    let mut asked = sample("May I?", "Do.");
    asked.references = &references;
    assert_eq!(numbers(endpoint.score(&[asked]).unwrap()), [7.0]);
    let shown = &body(&server.join().unwrap()[0])["messages"][1]["content"];
    let expected = ASKED.replace(
        "<response>",
        "<reference>\nPlease do.\n</reference>\n<response>",
    );
    assert_eq!(*shown, expected);
}

/// It would judge by something else than was asked for.
#[test]
fn a_judge_is_not_asked_without_the_reference_that_is_named() {
    let (mut endpoint, _server) = serve(1, |_, _| says("7"));
    endpoint.spec.reference = Some("answer".to_owned());
    let error = endpoint.score(&[sample("May I?", "Do.")]).unwrap_err();
    assert_says(
        error,
        "train.jsonl:12: found no reference answer in `answer`",
    );
}

#[test]
fn a_judge_is_held_to_json_where_the_server_can() {
    let (mut endpoint, server) = serve(1, |_, _| says("{\"score\": 6}"));
    endpoint.is_structured = AtomicBool::new(true);
    endpoint.spec.temperature = Temperature::Default;
    assert_eq!(numbers(endpoint.score(&[sample("a", "b")]).unwrap()), [6.0]);
    let body = body(&server.join().unwrap()[0]);
    assert_eq!(body.get("temperature"), None);
    let schema = &body["response_format"]["json_schema"]["schema"];
    assert_eq!(schema["properties"], json!({"score": {"type": "number"}}));
    let system =
        "Reply with {\"score\": NUMBER}, NUMBER from 1 (worst) to 10 (best), and nothing else.";
    assert_says(body["messages"][0]["content"].as_str().unwrap(), system);
}

/// A server that knows no `response_format` is asked without it, once and for all.
#[test]
fn a_server_that_cannot_hold_to_json_is_asked_plainly() {
    let answer = |_, request: &str| match request.contains("response_format") {
        true => (400, "response_format?".to_owned()),
        false => says("3"),
    };
    let (mut endpoint, server) = serve(3, answer);
    endpoint.is_structured = AtomicBool::new(true);
    let samples = [sample("a", "b"), sample("c", "d")];
    assert_eq!(numbers(endpoint.score(&samples).unwrap()), [3.0, 3.0]);
    let asked = server.join().unwrap();
    let formats = asked
        .iter()
        .map(|it| body(it).get("response_format").is_some());
    assert_eq!(formats.collect::<Vec<_>>(), [true, false, false]);
}

#[test]
fn whoever_cannot_be_read_is_asked_again() {
    let replies = ["On a scale from 1 to 10, an 8.", "Rating: 8"];
    let (mut endpoint, server) = serve(2, move |i, _| says(replies[i]));
    endpoint.spec.retries = 2;
    assert_eq!(
        numbers(endpoint.score(&[sample("May I?", "Do.")]).unwrap()),
        [8.0]
    );
    let asked = body(&server.join().unwrap()[1]);
    let again = "That is no score that can be read. Reply with one number from 1 (worst) to 10 (best) and nothing else.";
    let expected = [
        turn("user", ASKED),
        turn("assistant", replies[0]),
        turn("user", again),
    ];
    assert_eq!(asked["messages"].as_array().unwrap()[1..], expected);
}

#[test]
fn what_stays_unreadable_becomes_what_was_asked_for() {
    for (on_unreadable, expected) in [
        (OnUnreadable::Skip, None),
        (OnUnreadable::Count(-1.0), Some(-1.0)),
    ] {
        // Thought, and cut.
        let thought =
            json!({"choices": [{"message": {"content": null, "reasoning_content": "Score: 9"}}]});
        let (mut endpoint, server) = serve(2, move |_, _| (200, thought.to_string()));
        endpoint.spec.retries = 1;
        endpoint.spec.on_unreadable = on_unreadable;
        let said = endpoint.score(&[sample("a", "b")]).unwrap();
        assert_eq!(said, [Verdict::Unreadable(expected)]);
        // There is nothing to hold against it.
        assert_eq!(
            body(&server.join().unwrap()[1])["messages"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
    }
}

#[test]
fn scores_of_parallel_requests_keep_their_order() {
    // The server repeats the response, which is a number.
    let repeat = |_, request: &str| {
        let (_, response) = request.split_once("<response>\\n").unwrap();
        says(response.split('\\').next().unwrap())
    };
    let (mut endpoint, _) = serve(40, repeat);
    endpoint.spec.parallel = 4;
    let responses: Vec<String> = (0..40).map(|i| (i % 10 + 1).to_string()).collect();
    let samples: Vec<_> = responses.iter().map(|it| sample("a", it)).collect();
    let expected: Vec<f64> = (0..40).map(|i| f64::from(i % 10 + 1)).collect();
    assert_eq!(numbers(endpoint.score(&samples).unwrap()), expected);
}

#[test]
fn what_may_pass_is_tried_again() {
    let answers = [(500, "oh".to_owned()), (429, String::new()), says("2")];
    let (mut endpoint, _) = serve(3, move |i, _| answers[i].clone());
    assert_eq!(numbers(endpoint.score(&[sample("a", "b")]).unwrap()), [2.0]);

    let error = error(ATTEMPTS, (503, "loading".to_owned()));
    assert_says(
        error,
        "endpoint x, train.jsonl:12: the endpoint answered HTTP 503: \"loading\"; ",
    );
}

#[test]
fn what_will_not_pass_is_told_at_once_and_without_the_key() {
    let refused = error(1, (401, "bad key Secret".to_owned()));
    assert_says(
        refused,
        "HTTP 401: \"bad key (the key)\"; see that `api_key_env`",
    );
    let moved = error(1, (302, "moved".to_owned()));
    assert_says(moved, "HTTP 302: \"moved\"; it sends elsewhere");
    // Some say what is wrong with a key in what is no refusal.
    let shown = error(1, (200, "no such key: Secret".to_owned()));
    assert_says(shown, "answered \"no such key: (the key)\", expected");
}

#[test]
fn a_reply_without_a_number_on_the_scale_is_quoted() {
    let advice =
        "(reply 1 to this response), expected a number from 1 to 10; make `instruction` clearer";
    assert_says(
        error(1, says("Polite!")),
        &format!("the judge replied \"Polite!\" {advice}"),
    );
    assert_says(
        error(1, says("11")),
        &format!("the judge replied \"11\" {advice}"),
    );
    let error = error(1, (200, "<html>".to_owned()));
    assert_says(error, "answered \"<html>\", expected a chat completion");
    let endless = " ".repeat((10 << 20) + 1);
    let error = self::error(1, (200, endless.clone()));
    assert_says(error, "answered \"(more than 10485760 bytes)\", expected a");
    let error = self::error(1, (404, endless));
    assert_says(error, "HTTP 404: \"(more than 10485760 bytes)\"; correct");
}

#[test]
fn an_endpoint_that_is_not_there_is_named() {
    // Nobody can listen on port 0; any other that is free now may be somebody's in a moment.
    let mut endpoint = endpoint("http://127.0.0.1:0/v1/".to_owned());
    let error = endpoint.score(&[sample("a", "b")]).unwrap_err();
    assert_says(
        error,
        "no answer from http://127.0.0.1:0/v1/chat/completions: ",
    );
}

#[test]
fn a_key_is_looked_up() {
    assert_eq!(key("PATH").unwrap(), env::var("PATH").unwrap());
    let error = key("PANACEA_NO_SUCH_KEY").unwrap_err();
    assert_says(
        error,
        "`api_key_env`: found PANACEA_NO_SUCH_KEY, which is not set",
    );
}
