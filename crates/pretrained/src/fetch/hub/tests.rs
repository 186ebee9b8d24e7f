//! A hub on this machine, and what is fetched from it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const REPOSITORY: &str = "owner/tiny";

const CONFIG_JSON: &[u8] = br#"{
    "model_type": "llama", "vocab_size": 10, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "rms_norm_eps": 1e-5
}"#;

/// A hub on this machine: answers from a table, and notes what it was asked.
struct MockHub {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct StoredFile {
    contents: Vec<u8>,
    etag: String,
    /// Sent from another place, as large files are, and announced by the hub's own answer.
    large: bool,
    /// The connection breaks after this many bytes, once.
    breaks_after: Option<usize>,
}

fn large(contents: &[u8]) -> StoredFile {
    let etag = hex::encode(Sha256::digest(contents));
    StoredFile {
        contents: contents.to_vec(),
        etag,
        large: true,
        breaks_after: None,
    }
}

fn small(contents: &[u8]) -> StoredFile {
    let git = Sha1::new()
        .chain_update(format!("blob {}\0", contents.len()))
        .chain_update(contents);
    StoredFile {
        contents: contents.to_vec(),
        etag: hex::encode(git.finalize()),
        large: false,
        breaks_after: None,
    }
}

impl MockHub {
    fn serve(files: BTreeMap<&'static str, StoredFile>, token: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, base) = (Arc::clone(&requests), endpoint.clone());
        let files = Mutex::new(files);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(&stream.unwrap(), &files, token, &base, &log);
            }
        });
        Self { endpoint, requests }
    }

    fn requests(&self, prefix: &str) -> Vec<String> {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .filter(|line| line.starts_with(prefix))
            .cloned()
            .collect()
    }
}

fn answer(
    mut stream: &TcpStream,
    files: &Mutex<BTreeMap<&'static str, StoredFile>>,
    token: Option<&str>,
    base: &str,
    log: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().unwrap()?;
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let range = headers.get("range").map(String::as_str).unwrap_or_default();
    log.lock().unwrap().push(format!("{request} {range}"));
    let mut parts = request.split(' ');
    let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
    let mut reply = |status: &str, headers: &str, length: usize, body: &[u8]| {
        write!(
            stream,
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        )?;
        if method == "HEAD" {
            Ok(())
        } else {
            stream.write_all(body)
        }
    };

    let from_storage = path.strip_prefix("/storage/");
    let authorized =
        token.is_none_or(|token| headers.get("authorization") == Some(&format!("Bearer {token}")));
    if from_storage.is_some() && headers.contains_key("authorization") {
        return reply("400 Token sent to storage", "", 0, b"");
    }
    if from_storage.is_none() && !authorized {
        return reply("401 Unauthorized", "", 0, b"");
    }
    let mut files = files.lock().unwrap();
    if path == format!("/api/models/{REPOSITORY}/revision/main") {
        let siblings: Vec<String> = files
            .keys()
            .map(|name| format!("{{\"rfilename\": {name:?}}}"))
            .collect();
        let body = format!(
            "{{\"sha\": \"{COMMIT}\", \"siblings\": [{}], \"cardData\": {{\"license\": \"apache-2.0\"}}}}",
            siblings.join(",")
        );
        return reply("200 OK", "", body.len(), body.as_bytes());
    }
    let resolve = format!("/{REPOSITORY}/resolve/{COMMIT}/");
    let Some(name) = from_storage.or(path.strip_prefix(resolve.as_str())) else {
        return reply("404 Not Found", "", 0, b"");
    };
    let Some(file) = files.get_mut(name) else {
        return reply("404 Not Found", "", 0, b"");
    };
    if file.large && from_storage.is_none() {
        let headers = format!(
            "location: {base}/storage/{name}\r\nx-linked-etag: \"{}\"\r\nx-linked-size: {}\r\n",
            file.etag,
            file.contents.len()
        );
        return reply("302 Found", &headers, 0, b"");
    }
    let start = range
        .strip_prefix("bytes=")
        .and_then(|r| r.trim_end_matches('-').parse().ok())
        .unwrap_or(0);
    let body = &file.contents[start..];
    let status = if start > 0 {
        "206 Partial Content"
    } else {
        "200 OK"
    };
    let sent = file.breaks_after.take().map_or(body, |end| &body[..end]);
    reply(
        status,
        &format!("etag: \"{}\"\r\n", file.etag),
        body.len(),
        sent,
    )
}

fn repository() -> BTreeMap<&'static str, StoredFile> {
    BTreeMap::from([
        ("config.json", small(CONFIG_JSON)),
        ("model.safetensors", large(&b"weights".repeat(200_000))),
        ("tokenizer.json", small(b"{\"a\": 1}")),
        ("README.md", small(b"not wanted")),
        (
            "model-00001-of-00002.safetensors",
            large(b"not wanted either"),
        ),
    ])
}

struct Run {
    hub: Hub,
    folder: tempfile::TempDir,
}

impl Run {
    fn new(mock: &MockHub, token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub(Access::new(
            &mock.endpoint,
            folder.path().join("hub"),
            token.map(str::to_owned),
        ));
        Self { hub, folder }
    }

    fn fetch(&self, name: &str) -> Result<PathBuf, FetchError> {
        let target = self.folder.path().join("models").join(name);
        let origin = self.hub.fetch(REPOSITORY, &target, &mut |_| ())?;
        let expected = Origin {
            repository: REPOSITORY.to_owned(),
            revision: Some(COMMIT.to_owned()),
            license: Some("apache-2.0".to_owned()),
        };
        assert_eq!(origin, expected);
        Ok(target)
    }

    fn cached(&self, path: &str) -> PathBuf {
        self.folder
            .path()
            .join("hub/models--owner--tiny")
            .join(path)
    }

    fn leftovers(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folder.path().join("models")) else {
            return Vec::new();
        };
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

#[test]
fn a_repository_lands_in_the_cache_and_in_its_folder() {
    let files = repository();
    let mock = MockHub::serve(files.clone(), Some("secret"));
    let run = Run::new(&mock, Some("secret"));
    let target = run.fetch("tiny").unwrap();

    let mut names: Vec<_> = fs::read_dir(&target)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["config.json", "model.safetensors", "tokenizer.json"]
    );
    for name in names {
        let file = &files[name.as_str()];
        for path in [
            target.join(&name),
            run.cached(&format!("blobs/{}", file.etag)),
            run.cached(&format!("snapshots/{COMMIT}/{name}")),
        ] {
            assert_eq!(
                fs::read(&path).unwrap(),
                file.contents,
                "{}",
                path.display()
            );
        }
    }
    assert_eq!(fs::read_to_string(run.cached("refs/main")).unwrap(), COMMIT);

    // A second folder is served from the cache: nothing is sent again.
    let before = mock.requests("GET /storage").len();
    run.fetch("again").unwrap();
    assert_eq!(mock.requests("GET /storage").len(), before);
}

#[test]
fn an_interrupted_download_is_resumed() {
    let mut files = repository();
    files.get_mut("model.safetensors").unwrap().breaks_after = Some(500_000);
    let mock = MockHub::serve(files.clone(), None);
    let run = Run::new(&mock, None);
    let error = run.fetch("tiny").unwrap_err();
    assert!(
        matches!(error, FetchError::Interrupted { bytes: 500_000, .. }),
        "{error}"
    );
    assert!(run.leftovers().is_empty());

    let target = run.fetch("tiny").unwrap();
    assert_eq!(
        fs::read(target.join("model.safetensors")).unwrap(),
        files["model.safetensors"].contents
    );
    let gets = mock.requests("GET /storage");
    assert!(gets.last().unwrap().ends_with("bytes=500000-"), "{gets:?}");
}

#[test]
fn a_damaged_file_is_discarded() {
    for (name, other) in [
        ("model.safetensors", large(b"other")),
        ("config.json", small(b"no")),
    ] {
        let mut files = repository();
        files.get_mut(name).unwrap().etag = other.etag;
        let mock = MockHub::serve(files, None);
        let run = Run::new(&mock, None);
        let error = run.fetch("tiny").unwrap_err();
        assert!(
            matches!(&error, FetchError::Checksum { file, .. } if file == name),
            "{error}"
        );
        assert!(run.leftovers().is_empty());
        let blobs: Vec<_> = fs::read_dir(run.cached("blobs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(
            blobs.iter().all(|blob| blob.extension().is_none()),
            "{blobs:?}"
        );
    }
}

#[test]
fn refusals_are_told_from_silence() {
    let mock = MockHub::serve(repository(), Some("secret"));
    let refused = Run::new(&mock, None).fetch("tiny").unwrap_err();
    assert!(
        matches!(refused, FetchError::Refused { status: 401, .. }),
        "{refused}"
    );
    assert!(!refused.leaves_other_sources() && refused.to_string().contains("HF_TOKEN"));

    let missing = Run::new(&mock, Some("secret"));
    let missing = missing
        .hub
        .fetch("owner/none", &missing.folder.path().join("m"), &mut |_| ())
        .unwrap_err();
    assert!(
        matches!(missing, FetchError::Refused { status: 404, .. }),
        "{missing}"
    );
    assert!(!missing.leaves_other_sources());

    // Nobody can listen on port 0; any other that is free now may be somebody's in a moment.
    let nobody = MockHub {
        endpoint: "http://127.0.0.1:0".to_owned(),
        requests: Arc::default(),
    };
    let silent = Run::new(&nobody, None).fetch("tiny").unwrap_err();
    assert!(matches!(silent, FetchError::Unreachable { .. }), "{silent}");
    assert!(silent.leaves_other_sources());
}

#[test]
fn a_model_that_cannot_be_used_is_refused_before_its_weights_are_fetched() {
    let mut files = repository();
    files.insert("config.json", small(br#"{"model_type": "mamba"}"#));
    let mock = MockHub::serve(files, None);
    let run = Run::new(&mock, None);
    let error = run.fetch("tiny").unwrap_err().to_string();
    assert!(
        error.contains("owner/tiny/config.json") && error.contains("mamba"),
        "{error}"
    );
    assert_eq!(mock.requests("GET /storage"), Vec::<String>::new());
    assert_eq!(mock.requests("HEAD /").len(), 1);
    assert!(run.leftovers().is_empty());
}

#[test]
fn a_repository_without_a_configuration_is_refused() {
    let mut files = repository();
    files.remove("config.json");
    let mock = MockHub::serve(files, None);
    let error = Run::new(&mock, None).fetch("tiny").unwrap_err().to_string();
    assert!(
        error.ends_with("the repository has no config.json"),
        "{error}"
    );
}

#[test]
fn a_repository_without_safetensors_is_named() {
    let mock = MockHub::serve(
        BTreeMap::from([
            ("config.json", small(CONFIG_JSON)),
            ("pytorch_model.bin", small(b"")),
        ]),
        None,
    );
    let error = Run::new(&mock, None).fetch("tiny").unwrap_err().to_string();
    assert!(
        error.contains("owner/tiny") && error.contains("model.safetensors"),
        "{error}"
    );
}
