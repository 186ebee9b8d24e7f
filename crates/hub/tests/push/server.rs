//! A hub on this machine, with its store of large files on another port. It keeps what it is sent and believes nothing: content
//! is held against its hash, a commit against the store, and the store takes no token.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const TOKEN: &str = "hf_secret";
pub const REPOSITORY: &str = "me/first";

pub struct Server {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub struct State {
    /// Whether the repository is there, and for its owner alone.
    pub private: Option<bool>,
    /// Branches: files by name, each with its content.
    pub branches: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// The store of large files by SHA-256.
    pub store: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<String, BTreeMap<usize, Vec<u8>>>,
    /// Larger files are taken in parts of this size.
    pub part_size: Option<usize>,
    /// Method and path of every request.
    pub requests: Vec<String>,
    /// Bodies of commits, line by line.
    pub commits: Vec<Vec<Value>>,
    /// What begins so is answered with these, one after the other; 0 breaks the connection, 307 leads to the other port.
    pub troubles: Vec<(&'static str, u16)>,
    /// Headers that the store asks for.
    pub store_headers: BTreeMap<String, String>,
    /// A file that is never committed.
    pub ignores: Option<&'static str>,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A status, headers, and a body.
type Reply = (u16, String, Value);

fn reply(status: u16, body: Value) -> Reply {
    (status, String::new(), body)
}

fn git_hash(content: &[u8]) -> String {
    let git = Sha1::new().chain_update(format!("blob {}\0", content.len()));
    hex::encode(git.chain_update(content).finalize())
}

pub fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

pub fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf")
}

impl Server {
    pub fn start() -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [endpoint, storage] =
            [0, 1].map(|i: usize| format!("http://{}", listeners[i].local_addr().unwrap()));
        let state = Arc::new(Mutex::new(State::default()));
        for (i, listener) in listeners.into_iter().enumerate() {
            let (state, endpoint, storage) =
                (Arc::clone(&state), endpoint.clone(), storage.clone());
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (state, endpoint, storage) =
                        (Arc::clone(&state), endpoint.clone(), storage.clone());
                    thread::spawn(move || {
                        let _ = serve(&stream.unwrap(), i == 0, &state, &endpoint, &storage);
                    });
                }
            });
        }
        Self { endpoint, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Requests since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }
}

fn serve(
    mut stream: &TcpStream,
    is_hub: bool,
    state: &Mutex<State>,
    endpoint: &str,
    storage: &str,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let said = format!("{method} {path}");
    let trouble = {
        let mut state = state.lock().unwrap();
        state.requests.push(said.clone());
        let place = state
            .troubles
            .iter()
            .position(|(begin, _)| said.starts_with(begin));
        place.map(|place| state.troubles.remove(place).1)
    };
    if trouble == Some(0) {
        // A little of it, and then nothing.
        reader.read_exact(&mut [0; 10])?;
        return Ok(());
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let request = Request {
        method,
        path,
        headers,
        body,
    };
    let (status, headers, body) = match trouble {
        Some(307) => (
            307,
            format!("location: {storage}/elsewhere\r\n"),
            Value::Null,
        ),
        Some(status) => reply(status, json!({"error": "not now"})),
        None if request.headers.contains_key("transfer-encoding") => {
            reply(411, json!({"error": "Content-Length is missing"}))
        }
        None if is_hub => answer(&request, &mut state.lock().unwrap(), endpoint, storage),
        None => store(&request, &mut state.lock().unwrap()),
    };
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    write!(
        stream,
        "HTTP/1.1 {status} Status\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

fn answer(request: &Request, state: &mut State, endpoint: &str, storage: &str) -> Reply {
    let (path, _) = request.path.split_once('?').unwrap_or((&request.path, ""));
    // The address that completes a file of parts is signed, as the store's own are.
    if let Some(oid) = path.strip_prefix("/complete/") {
        return complete(oid, &request.json(), state);
    }
    if request.headers.get("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return reply(401, json!({"error": "Invalid credentials"}));
    }
    if path == "/api/validate-yaml" {
        return validate(request.json()["content"].as_str().unwrap());
    }
    if path == "/api/repos/create" {
        let body = request.json();
        assert_eq!(
            (&body["name"], &body["organization"], &body["type"]),
            (&json!("first"), &json!("me"), &json!("model"))
        );
        if state.private.is_some() {
            return reply(
                409,
                json!({"error": "You already created this model repo", "url": format!("{endpoint}/{REPOSITORY}")}),
            );
        }
        state.private = Some(body["visibility"] == "private");
        state.branches.insert("main".to_owned(), BTreeMap::new());
        return reply(
            200,
            json!({"url": format!("{endpoint}/{REPOSITORY}"), "name": REPOSITORY}),
        );
    }
    let Some(private) = state.private else {
        return reply(404, json!({"error": "Repository not found"}));
    };
    if path == format!("/{REPOSITORY}.git/info/lfs/objects/batch") {
        return batch(&request.json(), state, endpoint, storage);
    }
    if path == format!("/{REPOSITORY}.git/info/lfs/verify") {
        let body = request.json();
        let stored = state.store.get(body["oid"].as_str().unwrap());
        let is_right = stored.is_some_and(|content| body["size"] == content.len());
        return reply(if is_right { 200 } else { 404 }, json!({}));
    }
    let Some(rest) = path.strip_prefix(&format!("/api/models/{REPOSITORY}")) else {
        return reply(404, json!({"error": "no such page"}));
    };
    if rest.is_empty() {
        return reply(
            200,
            json!({"id": REPOSITORY, "private": private, "sha": "0"}),
        );
    }
    let (what, branch) = rest[1..].split_once('/').unwrap();
    let branch = branch.replace("%2F", "/");
    if what == "branch" {
        let files = state.branches["main"].clone();
        state.branches.insert(branch, files);
        return reply(200, json!({}));
    }
    if !state.branches.contains_key(&branch) {
        let missing = "x-error-code: RevisionNotFound\r\n".to_owned();
        return (404, missing, json!({"error": "Invalid rev id"}));
    }
    match what {
        "revision" => reply(
            200,
            json!({"id": REPOSITORY, "private": private, "sha": "0"}),
        ),
        "preupload" => preupload(&request.json(), state, &branch),
        "commit" => commit(request, state, &branch, endpoint),
        _ => reply(404, json!({"error": "no such page"})),
    }
}

fn validate(card: &str) -> Reply {
    match card.starts_with("---\n") {
        true if card.contains("license:") => reply(200, json!({"errors": [], "warnings": []})),
        true => reply(
            200,
            json!({"errors": [], "warnings": [{"message": "no license"}]}),
        ),
        false => reply(
            400,
            json!({"error": "no front matter", "errors": [{"message": "no front matter"}, {"message": "no license"}]}),
        ),
    }
}

fn preupload(body: &Value, state: &State, branch: &str) -> Reply {
    let files = body["files"].as_array().unwrap().iter().map(|file| {
        let name = file["path"].as_str().unwrap();
        let sample = STANDARD.decode(file["sample"].as_str().unwrap()).unwrap();
        assert_eq!(
            sample.len() as u64,
            file["size"].as_u64().unwrap().min(512),
            "{name}"
        );
        let there = state.branches[branch].get(name);
        let oid = there.map(|content| match is_large(name) && !content.is_empty() {
            true => sha256(content),
            false => git_hash(content),
        });
        let mode = if is_large(name) { "lfs" } else { "regular" };
        let ignored = state.ignores == Some(name);
        json!({"path": name, "uploadMode": mode, "shouldIgnore": ignored, "oid": oid})
    });
    reply(200, json!({"files": files.collect::<Vec<_>>()}))
}

fn batch(body: &Value, state: &State, endpoint: &str, storage: &str) -> Reply {
    assert_eq!(body["operation"], "upload");
    assert_eq!(body["hash_algo"], "sha256");
    let objects = body["objects"].as_array().unwrap().iter().map(|object| {
        let (oid, size) = (
            object["oid"].as_str().unwrap(),
            object["size"].as_u64().unwrap(),
        );
        if state.store.contains_key(oid) {
            return json!({"oid": oid, "size": size});
        }
        let mut header = json!(state.store_headers);
        let mut href = format!("{storage}/{oid}?signature=signed");
        if let Some(part) = state.part_size.filter(|&part| size > part as u64) {
            header["chunk_size"] = json!(part.to_string());
            for number in 1..=size.div_ceil(part as u64) {
                header[format!("{number:05}")] =
                    json!(format!("{storage}/{oid}/{number}?signature=signed"));
            }
            href = format!("{endpoint}/complete/{oid}?signature=signed");
        }
        let verify = json!({"href": format!("{endpoint}/{REPOSITORY}.git/info/lfs/verify")});
        let upload = json!({"href": href, "header": header});
        json!({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}})
    });
    reply(
        200,
        json!({"transfer": "basic", "objects": objects.collect::<Vec<_>>()}),
    )
}

/// The other port.
fn store(request: &Request, state: &mut State) -> Reply {
    let asked = state.store_headers.get("Authorization");
    if request.headers.get("authorization") != asked {
        return reply(400, json!({"error": "the store takes no token"}));
    }
    if request.method != "PUT" {
        return reply(405, json!({"error": "PUT alone"}));
    }
    for (name, value) in &state.store_headers {
        assert_eq!(request.headers.get(&name.to_lowercase()), Some(value));
    }
    let path = request.path.strip_suffix("?signature=signed").unwrap();
    match path[1..].split_once('/') {
        Some((oid, number)) => {
            let parts = state.parts.entry(oid.to_owned()).or_default();
            parts.insert(number.parse().unwrap(), request.body.clone());
            (
                200,
                format!("etag: \"{}\"\r\n", sha256(&request.body)),
                Value::Null,
            )
        }
        None if sha256(&request.body) == path[1..] => {
            state
                .store
                .insert(path[1..].to_owned(), request.body.clone());
            reply(200, Value::Null)
        }
        None => reply(400, json!({"error": "another hash"})),
    }
}

fn complete(oid: &str, body: &Value, state: &mut State) -> Reply {
    let parts = state.parts.remove(oid).unwrap();
    let etags: Vec<Value> = (parts.iter())
        .map(
            |(number, part)| json!({"partNumber": number, "etag": format!("\"{}\"", sha256(part))}),
        )
        .collect();
    let content = parts.into_values().flatten().collect::<Vec<u8>>();
    if body["oid"] != oid || body["parts"] != json!(etags) || sha256(&content) != oid {
        return reply(400, json!({"error": "other parts"}));
    }
    state.store.insert(oid.to_owned(), content);
    reply(200, json!({}))
}

fn commit(request: &Request, state: &mut State, branch: &str, endpoint: &str) -> Reply {
    assert_eq!(request.headers["content-type"], "application/x-ndjson");
    let lines = std::str::from_utf8(&request.body).unwrap().lines();
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut files = state.branches[branch].clone();
    for line in &lines {
        let (key, value) = (line["key"].as_str().unwrap(), &line["value"]);
        let path = value["path"].as_str().unwrap_or_default().to_owned();
        let content = match key {
            "header" => continue,
            "file" => STANDARD.decode(value["content"].as_str().unwrap()).unwrap(),
            "lfsFile" => match state.store.get(value["oid"].as_str().unwrap()) {
                Some(content) if value["size"] == content.len() => content.clone(),
                _ => return reply(400, json!({"error": "a pointer to nothing"})),
            },
            _ => return reply(400, json!({"error": "unknown key"})),
        };
        // Empty files are regular ones, whatever they are called.
        let is_large = is_large(&path) && !content.is_empty();
        assert_eq!(key == "lfsFile", is_large, "{path}");
        files.insert(path, content);
    }
    state.branches.insert(branch.to_owned(), files);
    state.commits.push(lines);
    let oid = format!("c{}", state.commits.len());
    let url = format!("{endpoint}/{REPOSITORY}/commit/{oid}");
    reply(
        200,
        json!({"success": true, "commitOid": oid, "commitUrl": url, "hookOutput": ""}),
    )
}
