//! The Hugging Face hub: its cache layout, its checksums, resumed downloads.
//!
//! A repository is cached as `models--OWNER--NAME/` with `blobs/ETAG` (contents), `snapshots/COMMIT/FILE` (links to them) and
//! `refs/main` (the newest commit), as `huggingface_hub` does, so that either finds what the other has fetched.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body, Proxy};

use super::{FetchError, Progress};
use crate::partial::PartialFolder;
use crate::safetensors::{INDEX, SINGLE};
use crate::{Origin, PretrainedError};

/// What is taken of a repository, besides the weights.
const WANTED: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// Where the hub is, where its cache is, and who is asking.
pub(super) struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    agent: Agent,
}

/// `GET /api/models/REPOSITORY/revision/main`.
#[derive(Deserialize)]
struct Revision {
    sha: String,
    siblings: Vec<Sibling>,
    #[serde(default, rename = "cardData")]
    card: Option<Card>,
}

/// What is read of the model's card.
#[derive(Deserialize)]
struct Card {
    /// One identifier, or a list of them, which is left to people.
    license: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// What the hub says about a file before it sends it.
struct Announced {
    /// Where it is sent from; after redirections within the hub.
    url: String,
    etag: String,
    size: Option<u64>,
}

impl Hub {
    /// The settings that Hugging Face's own tools read.
    pub fn from_environment() -> Self {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let home = variable("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let user = || env::home_dir().unwrap_or_default().join(".cache");
            cache.unwrap_or_else(user).join("huggingface")
        });
        let cache = variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
        let token = variable("HF_TOKEN").or_else(|| {
            let file = variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
            let token = fs::read_to_string(file).ok()?;
            Some(token.trim().to_owned()).filter(|token| !token.is_empty())
        });
        let endpoint =
            variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        Self::new(&endpoint, cache, token, Proxy::try_from_env())
    }

    fn new(endpoint: &str, cache: PathBuf, token: Option<String>, proxy: Option<Proxy>) -> Self {
        // No limit on a whole download; each step of it must go on. A token is never handed to where a redirection leads
        // (ureq's default).
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .proxy(proxy)
            .user_agent(concat!("panacea/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token,
            agent,
        }
    }

    /// Downloads what is needed of a repository into the cache, and puts it together in `folder`.
    pub fn fetch(
        &self,
        repository: &str,
        folder: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Origin, FetchError> {
        let partial = PartialFolder::beside(folder)?;
        let revision = self.revision(repository)?;
        let cache = self
            .cache
            .join(format!("models--{}", repository.replace('/', "--")));
        for file in self.wanted(repository, &revision)? {
            let blob = self.file(repository, &revision.sha, file, &cache, progress)?;
            place(&blob, &partial.path().join(file))?;
        }
        write(&cache.join("refs").join("main"), revision.sha.as_bytes())?;
        partial.finish()?;
        let license = revision.card.and_then(|card| card.license);
        Ok(Origin {
            repository: repository.to_owned(),
            revision: Some(revision.sha),
            license: license.and_then(|license| license.as_str().map(str::to_owned)),
        })
    }

    fn revision(&self, repository: &str) -> Result<Revision, FetchError> {
        let url = format!("{}/api/models/{repository}/revision/main", self.endpoint);
        let mut response = self.get(&url, None)?;
        let body = response.body_mut().read_to_string();
        let body = body.map_err(|error| FetchError::Unreachable {
            url: url.clone(),
            reason: error.to_string(),
        })?;
        let wrong = |problem: String| FetchError::Answer {
            url: url.clone(),
            problem,
        };
        let revision: Revision =
            serde_json::from_str(&body).map_err(|error| wrong(error.to_string()))?;
        // It becomes the name of a folder.
        match is_plain_name(&revision.sha) {
            true => Ok(revision),
            false => Err(wrong(format!("{:?} is not a commit", revision.sha))),
        }
    }

    /// Configuration, tokenizer and weights: one file of them if there is, else the shards.
    fn wanted<'a>(
        &self,
        repository: &str,
        revision: &'a Revision,
    ) -> Result<Vec<&'a str>, FetchError> {
        let names = || {
            revision
                .siblings
                .iter()
                .map(|sibling| sibling.rfilename.as_str())
        };
        let single = names().any(|name| name == SINGLE);
        let is_weights = |name: &str| {
            let shard =
                name.starts_with("model-") && name.ends_with(".safetensors") && is_plain_name(name);
            if single {
                name == SINGLE
            } else {
                name == INDEX || shard
            }
        };
        let wanted: Vec<&str> = names()
            .filter(|name| WANTED.contains(name) || is_weights(name))
            .collect();
        if wanted.iter().any(|name| is_weights(name)) {
            return Ok(wanted);
        }
        let url = format!("{}/{repository}", self.endpoint);
        let problem = format!("the repository has no safetensors weights ({SINGLE} or {INDEX})");
        Err(FetchError::Answer { url, problem })
    }

    /// Makes sure that a file is in the cache, and returns its blob.
    fn file(
        &self,
        repository: &str,
        commit: &str,
        name: &str,
        cache: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PathBuf, FetchError> {
        let url = format!("{}/{repository}/resolve/{commit}/{name}", self.endpoint);
        let announced = self.announced(&url)?;
        let blob = cache.join("blobs").join(&announced.etag);
        if !blob.is_file() {
            self.download(&announced, name, &blob, progress)?;
        }
        let snapshot = cache.join("snapshots").join(commit).join(name);
        if snapshot.symlink_metadata().is_err() {
            link_snapshot(&blob, &announced.etag, &snapshot)?;
        }
        Ok(blob)
    }

    /// Asks for a file's checksum and size. Redirections within the hub (renamed repositories) are followed; the one that
    /// leads to the storage is not, since only the hub's own answer carries the checksum.
    fn announced(&self, url: &str) -> Result<Announced, FetchError> {
        const MOST_REDIRECTIONS: usize = 5;
        let mut url = url.to_owned();
        for _ in 0..MOST_REDIRECTIONS {
            let mut request = self
                .agent
                .head(&url)
                .config()
                .max_redirects(0)
                .max_redirects_will_error(false)
                .build();
            if let Some(token) = &self.token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| FetchError::Unreachable {
                url: url.clone(),
                reason: error.to_string(),
            })?;
            let headers = response.headers();
            let etag = header(headers, "x-linked-etag").or_else(|| header(headers, "etag"));
            match (
                response.status().as_u16(),
                header(headers, "location"),
                etag,
            ) {
                (300..400, Some(location), _) if location.starts_with('/') => {
                    url = format!("{}{location}", self.endpoint)
                }
                (200..400, _, Some(etag)) => {
                    let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
                    if !is_plain_name(&etag) {
                        let problem = format!("{etag:?} is not a checksum");
                        return Err(FetchError::Answer { url, problem });
                    }
                    let size = header(headers, "x-linked-size")
                        .or_else(|| header(headers, "content-length"));
                    return Ok(Announced {
                        size: size.and_then(|size| size.parse().ok()),
                        etag,
                        url,
                    });
                }
                (200..400, _, None) => {
                    return Err(FetchError::Answer {
                        url,
                        problem: "the file has no checksum (ETag)".to_owned(),
                    });
                }
                (status, ..) => return Err(refused(url, status)),
            }
        }
        Err(FetchError::Answer {
            url,
            problem: format!("more than {MOST_REDIRECTIONS} redirections"),
        })
    }

    /// Downloads beside the blob's place, from where an earlier attempt stopped, compares the checksum and renames.
    fn download(
        &self,
        announced: &Announced,
        name: &str,
        blob: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), FetchError> {
        let incomplete = blob.with_file_name(format!("{}.incomplete", announced.etag));
        let failed = |action| PretrainedError::io(&incomplete, action);
        create_parent(&incomplete)?;
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&incomplete)
            .map_err(failed("open"))?;
        // A second process that wants the same file waits here, and finds it done.
        file.lock().map_err(failed("lock"))?;
        if blob.is_file() {
            return Ok(());
        }
        let present = file.metadata().map_err(failed("read"))?.len();
        if announced.size.is_none_or(|size| present < size) {
            self.receive(announced, name, &mut file, present, progress)?;
        }
        file.sync_all().map_err(failed("write"))?;
        if let Err(error) = verify(&mut file, announced, name) {
            fs::remove_file(&incomplete).map_err(failed("remove"))?;
            return Err(error);
        }
        fs::rename(&incomplete, blob).map_err(PretrainedError::io(blob, "write"))?;
        Ok(())
    }

    /// Appends what is missing of a file.
    fn receive(
        &self,
        announced: &Announced,
        name: &str,
        file: &mut File,
        present: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), FetchError> {
        const PIECE: u64 = 1 << 18;
        let mut response = self.get(&announced.url, (present > 0).then_some(present))?;
        let mut bytes = present;
        if response.status().as_u16() != 206 && present > 0 {
            // The server does not resume: from the beginning, then.
            file.set_len(0)
                .map_err(PretrainedError::io(Path::new(name), "truncate"))?;
            bytes = 0;
        }
        let mut reader = response.body_mut().as_reader();
        let mut piece = Vec::new();
        loop {
            progress(Progress {
                file: name,
                bytes,
                total: announced.size,
            });
            piece.clear();
            let outcome = reader.by_ref().take(PIECE).read_to_end(&mut piece);
            // What came before the connection broke is kept for the next attempt.
            file.write_all(&piece)
                .map_err(PretrainedError::io(Path::new(name), "write"))?;
            bytes += piece.len() as u64;
            match outcome {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    let (file, reason) = (name.to_owned(), error.to_string());
                    return Err(FetchError::Interrupted {
                        file,
                        bytes,
                        reason,
                    });
                }
            }
        }
        match announced.size {
            Some(size) if bytes < size => {
                let reason = format!("the connection ended, expected {size} bytes");
                Err(FetchError::Interrupted {
                    file: name.to_owned(),
                    bytes,
                    reason,
                })
            }
            _ => Ok(()),
        }
    }

    fn get(&self, url: &str, from_byte: Option<u64>) -> Result<Response<Body>, FetchError> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(byte) = from_byte {
            request = request.header("range", format!("bytes={byte}-"));
        }
        let response = request.call().map_err(|error| FetchError::Unreachable {
            url: url.to_owned(),
            reason: error.to_string(),
        })?;
        match response.status().as_u16() {
            200..300 => Ok(response),
            status => Err(refused(url.to_owned(), status)),
        }
    }
}

fn refused(url: String, status: u16) -> FetchError {
    let hint = match status {
        401 | 403 => {
            "access is refused: accept the model's terms on its page and set HF_TOKEN, or check the name"
        }
        404 => "there is no such model, or it has no such file",
        429 => "too many requests: wait, or set HF_TOKEN",
        500.. => "the hub has a problem: try again later",
        _ => "unexpected",
    };
    FetchError::Refused { url, status, hint }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The name of a file in a folder, and of nothing else.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Compares a file with its announced size and checksum: SHA-256 of large files, git's SHA-1 of small ones.
fn verify(file: &mut File, announced: &Announced, name: &str) -> Result<(), FetchError> {
    let path = Path::new(name);
    let length = file
        .seek(SeekFrom::End(0))
        .map_err(PretrainedError::io(path, "read"))?;
    file.rewind().map_err(PretrainedError::io(path, "read"))?;
    let expected = announced.etag.as_str();
    let found = match expected.len() {
        64 => digest(Sha256::new(), file).map_err(PretrainedError::io(path, "read"))?,
        40 => {
            let git = Sha1::new().chain_update(format!("blob {length}\0"));
            digest(git, file).map_err(PretrainedError::io(path, "read"))?
        }
        // A mirror with tags of its own: the size is all that can be compared.
        _ => expected.to_owned(),
    };
    let (found, expected) = match announced.size {
        Some(size) if size != length => (format!("{length} bytes"), format!("{size} bytes")),
        _ => (found, expected.to_owned()),
    };
    match found == expected {
        true => Ok(()),
        false => Err(FetchError::Checksum {
            file: name.to_owned(),
            found,
            expected,
        }),
    }
}

fn digest(mut hasher: impl Digest, file: &mut File) -> io::Result<String> {
    let mut piece = vec![0; 1 << 18];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex::encode(hasher.finalize())),
            length => hasher.update(&piece[..length]),
        }
    }
}

/// A file of the model's folder is the cached one under another name: it takes no space, and stays when the cache is
/// cleared. Across file systems it is a copy.
fn place(blob: &Path, target: &Path) -> Result<(), FetchError> {
    if fs::hard_link(blob, target).is_err() {
        fs::copy(blob, target).map_err(PretrainedError::io(target, "write"))?;
    }
    Ok(())
}

/// `snapshots/COMMIT/FILE` → `../../blobs/ETAG`.
fn link_snapshot(blob: &Path, etag: &str, snapshot: &Path) -> Result<(), FetchError> {
    create_parent(snapshot)?;
    #[cfg(unix)]
    {
        let _ = blob;
        let target = Path::new("..").join("..").join("blobs").join(etag);
        std::os::unix::fs::symlink(target, snapshot)
            .map_err(PretrainedError::io(snapshot, "create the link"))?;
        Ok(())
    }
    #[cfg(not(unix))]
    {
        let _ = etag;
        place(blob, snapshot)
    }
}

fn create_parent(path: &Path) -> Result<(), FetchError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    Ok(fs::create_dir_all(parent).map_err(PretrainedError::io(parent, "create the folder"))?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), FetchError> {
    create_parent(path)?;
    Ok(fs::write(path, bytes).map_err(PretrainedError::io(path, "write"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};
    use std::thread;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const REPOSITORY: &str = "owner/tiny";

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
        let authorized = token
            .is_none_or(|token| headers.get("authorization") == Some(&format!("Bearer {token}")));
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
            ("config.json", small(b"{}")),
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
            let hub = Hub::new(
                &mock.endpoint,
                folder.path().join("hub"),
                token.map(str::to_owned),
                None,
            );
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
    fn a_repository_without_safetensors_is_named() {
        let mock = MockHub::serve(
            BTreeMap::from([
                ("config.json", small(b"{}")),
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
}
