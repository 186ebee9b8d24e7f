//! Requests that are tried again where the network or the hub stumbles.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::iter;
use std::path::Path;
use std::thread;
use std::time::Duration;

use panacea_files::FileError;
use serde_json::Value;
use ureq::http::{HeaderMap, Method, Request, Response};
use ureq::{AsSendBody, SendBody};

use crate::{Access, HubError};

/// How often a request is tried.
const TRIES: u32 = 6;
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// The hub may need long for a commit of many files.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);
/// What an action says of the official hub's address is meant for the one that was asked, a mirror of it.
const OFFICIAL: &str = "https://huggingface.co/";

/// Asks the hub, and hosts that it names.
pub(crate) struct Client<'a>(pub &'a Access);

/// What is asked.
pub(crate) struct Ask<'a> {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Body<'a>,
    /// Whether it may be sent twice: a commit may not.
    pub again: bool,
}

/// What is sent with it.
pub(crate) enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    /// So many bytes of a file from a place on; told of each that is on its way.
    Part {
        path: &'a Path,
        from: u64,
        length: u64,
        told: &'a mut dyn FnMut(u64),
    },
}

/// An answer with a status below 300.
pub(crate) struct Answer {
    pub url: String,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, HubError> {
        serde_json::from_str(&self.text).map_err(|error| HubError::Answer {
            url: self.url.clone(),
            problem: error.to_string(),
        })
    }
}

impl Client<'_> {
    /// The address of a path of the hub.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0.endpoint())
    }

    /// The address that an answer of the hub means.
    pub fn meant(&self, address: &str) -> String {
        match address.strip_prefix(OFFICIAL) {
            Some(path) => self.url(&format!("/{path}")),
            None => address.to_owned(),
        }
    }

    pub fn get(&self, path: &str) -> Result<Answer, HubError> {
        let url = self.url(path);
        self.ask(Ask::new(Method::GET, url, Body::None))
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Answer, HubError> {
        let text = body.to_string();
        let mut ask = Ask::new(Method::POST, self.url(path), Body::Bytes(text.as_bytes()));
        ask.headers.push(json_type());
        self.ask(ask)
    }

    /// Tries until there is an answer that trying again would not change.
    pub fn ask(&self, mut ask: Ask) -> Result<Answer, HubError> {
        let mut wait = self.0.wait();
        let tries = if ask.again { TRIES } else { 1 };
        for left in (0..tries).rev() {
            match self.once(&mut ask) {
                Err(error) if left > 0 && passes(&error) => {
                    thread::sleep(wait.min(LONGEST_WAIT));
                    wait *= 2;
                }
                outcome => return outcome,
            }
        }
        unreachable!("the last try returns")
    }

    fn once(&self, ask: &mut Ask) -> Result<Answer, HubError> {
        let shown = shown(&ask.url);
        let unreachable = |reason: String| HubError::Unreachable {
            url: shown.clone(),
            reason,
        };
        let mut request = Request::builder().method(&ask.method).uri(&ask.url);
        if let (true, Some(who)) = (self.is_hub(&ask.url), self.0.authorization()) {
            request = request.header("authorization", who);
        }
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        let response = match &mut ask.body {
            Body::None => self.run(request.body(())),
            Body::Bytes(bytes) => self.run(request.body(*bytes)),
            Body::Part {
                path,
                from,
                length,
                told,
            } => {
                let mut part = Part::open(path, *from, *length, *told)?;
                request = request.header("content-length", *length);
                self.run(request.body(SendBody::from_reader(&mut part)))
            }
        };
        let mut response = response.map_err(|error| unreachable(error.to_string()))?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string();
        let text = text.map_err(|error| unreachable(error.to_string()))?;
        match status {
            200..300 => Ok(Answer {
                url: shown,
                headers: response.headers().clone(),
                text,
            }),
            status => Err(refused(shown, status, response.headers(), &text)),
        }
    }

    /// Sends a request and follows no redirection.
    fn run(
        &self,
        request: Result<Request<impl AsSendBody>, ureq::http::Error>,
    ) -> Result<Response<ureq::Body>, ureq::Error> {
        let agent = self.0.agent();
        let request = agent
            .configure_request(request?)
            .timeout_recv_response(Some(ANSWER_WITHIN))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build();
        agent.run(request)
    }

    /// Whether an address is of the hub itself: the only host that sees the token.
    fn is_hub(&self, url: &str) -> bool {
        let path = url.strip_prefix(self.0.endpoint());
        path.is_some_and(|path| path.starts_with('/'))
    }
}

impl<'a> Ask<'a> {
    pub fn new(method: Method, url: String, body: Body<'a>) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body,
            again: true,
        }
    }
}

pub(crate) fn json_type() -> (String, String) {
    ("content-type".to_owned(), "application/json".to_owned())
}

/// Whether what went wrong may go well in a moment.
fn passes(error: &HubError) -> bool {
    match error {
        HubError::Unreachable { .. } => true,
        HubError::Refused { status, .. } => matches!(status, 408 | 429 | 500 | 502..=504),
        _ => false,
    }
}

fn refused(url: String, status: u16, headers: &HeaderMap, text: &str) -> HubError {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let header = headers.get("x-error-message");
    let header = header.and_then(|value| value.to_str().ok());
    let mut said: Vec<&str> = Vec::new();
    for text in header.into_iter().chain(said_in(&body)) {
        if !said.contains(&text) {
            said.push(text);
        }
    }
    let message = match said.is_empty() {
        true => String::new(),
        false => format!(" ({})", brief(&said.join("; "))),
    };
    let hint = match status {
        300..=399 => "the repository was renamed: push to its new name",
        401 | 403 => "access is refused: the token has to be one that may write to this repository",
        402 => "the hub asks for payment",
        404 => "there is no such repository or branch, or the token may not see it",
        408 | 429 => "too many requests: wait, and run the command again",
        409 => "somebody else changes the repository: run the command again",
        413 => "it is too large for the hub",
        500.. => {
            "the hub has a problem: run the command again later; what has arrived is not sent again"
        }
        _ => "unexpected",
    };
    HubError::Refused {
        url,
        status,
        message,
        hint,
    }
}

/// What a refusal says in its body: `error`, a text or several, and what is wrong with a card, `errors[].message`.
fn said_in(body: &Value) -> impl Iterator<Item = &str> {
    let several = |field: &str| body[field].as_array().into_iter().flatten();
    let of_card = several("errors").map(|error| &error["message"]);
    let all = iter::once(&body["error"]).chain(several("error"));
    all.chain(of_card).filter_map(Value::as_str)
}

/// One line of a text, not too long.
fn brief(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.replace(['\n', '\r'], " ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// An address without what signs it.
fn shown(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    url[..end].to_owned()
}

/// A part of a file on its way.
struct Part<'s, 'a> {
    file: io::Take<File>,
    sent: u64,
    told: &'s mut (dyn FnMut(u64) + 'a),
}

impl<'s, 'a> Part<'s, 'a> {
    fn open(
        path: &Path,
        from: u64,
        length: u64,
        told: &'s mut (dyn FnMut(u64) + 'a),
    ) -> Result<Self, HubError> {
        let mut file = File::open(path).map_err(FileError::of("open", path))?;
        file.seek(SeekFrom::Start(from))
            .map_err(FileError::of("read", path))?;
        told(0);
        Ok(Self {
            file: file.take(length),
            sent: 0,
            told,
        })
    }
}

impl Read for Part<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(into)?;
        self.sent += length as u64;
        (self.told)(self.sent);
        Ok(length)
    }
}
