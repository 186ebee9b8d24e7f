//! The Hugging Face hub: its cache layout, its checksums, resumed downloads.
//!
//! A repository is cached as `models--OWNER--NAME/` with `blobs/ETAG` (contents), `snapshots/COMMIT/FILE` (links to them) and
//! `refs/main` (the newest commit), as `huggingface_hub` does, so that either finds what the other has fetched.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use panacea_hub::Access;
use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::{HeaderMap, Response};

use super::{FetchError, Progress};
use crate::partial::PartialFolder;
use crate::safetensors::{INDEX, SINGLE};
use crate::{ModelConfig, Origin, PretrainedError, json};

const CONFIG: &str = "config.json";

/// What is taken of a repository, besides the weights.
const WANTED: [&str; 7] = [
    CONFIG,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// What is asked for models.
pub(super) struct Hub(pub Access);

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
            .0
            .cache()
            .join(format!("models--{}", repository.replace('/', "--")));
        for file in self.wanted(repository, &revision)? {
            let blob = self.file(repository, &revision.sha, file, &cache, progress)?;
            place(&blob, &partial.path().join(file))?;
            if file == CONFIG {
                // Whether the model can be used at all is told before the weights come, which take long.
                let name = format!("{repository}/{CONFIG}");
                ModelConfig::from_json(Path::new(&name), &json::read_object(&blob)?)?;
            }
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
        let url = format!(
            "{}/api/models/{repository}/revision/main",
            self.0.endpoint()
        );
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

    /// Configuration, tokenizer and weights, in this order: the weights as one file if there is one, else as shards.
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
        let has = |wanted: &&str| names().any(|name| name == *wanted);
        let missing = match (names().any(is_weights), has(&CONFIG)) {
            (true, true) => {
                let described = WANTED.into_iter().filter(has);
                return Ok(described
                    .chain(names().filter(|name| is_weights(name)))
                    .collect());
            }
            (true, false) => format!("no {CONFIG}"),
            (false, _) => format!("no safetensors weights ({SINGLE} or {INDEX})"),
        };
        Err(FetchError::Answer {
            url: format!("{}/{repository}", self.0.endpoint()),
            problem: format!("the repository has {missing}"),
        })
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
        let url = format!("{}/{repository}/resolve/{commit}/{name}", self.0.endpoint());
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
                .0
                .agent()
                .head(&url)
                .config()
                .max_redirects(0)
                .max_redirects_will_error(false)
                .build();
            if let Some(who) = self.0.authorization() {
                request = request.header("authorization", who);
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
                    url = format!("{}{location}", self.0.endpoint())
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
        let mut request = self.0.agent().get(url);
        if let Some(who) = self.0.authorization() {
            request = request.header("authorization", who);
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
mod tests;
