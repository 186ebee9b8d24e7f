//! A folder becomes a commit of a repository.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use crate::client::{Ask, Body, Client};
use crate::lfs::{self, Large};
use crate::local::{LocalFile, files};
use crate::{Access, HubError};

/// Files that the hub is asked about at once.
const AT_ONCE: usize = 256;
const MAIN: &str = "main";
const README: &str = "README.md";

/// What is to be pushed, and where to.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    /// The folder: all in it but `.git` and `.cache`.
    pub folder: &'a Path,
    /// `owner/name`.
    pub repository: &'a str,
    /// The branch, which is made if it is not there. Default: `main`.
    pub revision: Option<&'a str>,
    /// Whether a new repository is for its owner alone. One that is there and public is an error then.
    pub private: bool,
    /// Whether the repository is made if it is not there.
    pub create: bool,
    /// The first line of the commit.
    pub message: &'a str,
}

impl<'a> Push<'a> {
    /// A folder to the main branch of a repository that is made if it is not there.
    #[must_use]
    pub fn new(folder: &'a Path, repository: &'a str) -> Self {
        Self {
            folder,
            repository,
            revision: None,
            private: false,
            create: true,
            message: "Upload folder with Panacea",
        }
    }
}

/// How far it has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// "hashing" or "sending".
    pub doing: &'static str,
    /// The file.
    pub file: &'a str,
    /// Bytes of all large files that this was done with.
    pub bytes: u64,
    /// Bytes of all of them.
    pub total: u64,
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pushed {
    /// The page of the commit; of the branch, where there was nothing to commit.
    pub url: String,
    /// The commit, if there is one.
    pub commit: Option<String>,
    /// Files that were not there.
    pub added: Vec<String>,
    /// Files that were there with other content, which the commit before this one still has.
    pub changed: Vec<String>,
    /// Files that were there as they are.
    pub unchanged: Vec<String>,
    /// Files that the repository's `.gitignore` leaves out.
    pub ignored: Vec<String>,
    /// Bytes of large files that were sent; what the hub's store had already is not among them.
    pub sent: u64,
    /// What the hub says of the model card.
    pub warnings: Vec<String>,
}

/// Uploads a folder as one commit.
///
/// `progress` is told of every few hundred kilobytes.
///
/// # Errors
/// Without a token; when the folder has no weights, or a link that leads out of it; when the hub refuses. Files that have
/// arrived in the store of large files by then stay there, and are not sent again.
pub fn push(
    access: &Access,
    wanted: &Push,
    progress: &mut dyn FnMut(Progress),
) -> Result<Pushed, HubError> {
    let local = files(wanted.folder)?;
    if access.authorization().is_none() {
        return Err(HubError::NoToken {
            endpoint: access.endpoint().to_owned(),
        });
    }
    let pushing = Pushing {
        client: Client(access),
        wanted,
        revision: wanted.revision.unwrap_or(MAIN),
    };
    pushing.make_repository()?;
    pushing.make_branch()?;
    let mut pushed = Pushed {
        warnings: pushing.check_card(&local)?,
        ..Pushed::default()
    };
    let told = pushing.ask_about(&local)?;
    let files = sort_out(&local, &told, &mut pushed, progress)?;
    pushed.sent = pushing.send_large(&files, progress)?;
    let (url, commit) = pushing.commit(&files)?;
    Ok(Pushed {
        url,
        commit,
        ..pushed
    })
}

/// What the hub says of a file before it is sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    path: String,
    upload_mode: Mode,
    #[serde(default)]
    should_ignore: bool,
    /// Of the file of this name that is there: SHA-256 of large ones, git's SHA-1 of others.
    #[serde(default)]
    oid: Option<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Lfs,
    Regular,
}

/// Files that the commit has, by where their content goes.
struct Files<'a> {
    large: Vec<Large<'a>>,
    regular: Vec<&'a LocalFile>,
}

/// Hashes the files and leaves out those that are there as they are.
fn sort_out<'a>(
    local: &'a [LocalFile],
    told: &BTreeMap<String, Told>,
    pushed: &mut Pushed,
    progress: &mut dyn FnMut(Progress),
) -> Result<Files<'a>, HubError> {
    let mut files = Files {
        large: Vec::new(),
        regular: Vec::new(),
    };
    // The store takes no empty files.
    let is_large = |file: &LocalFile| told[&file.name].upload_mode == Mode::Lfs && file.size > 0;
    let total = local
        .iter()
        .filter(|file| is_large(file))
        .map(|file| file.size);
    let (mut before, total) = (0, total.sum());
    for file in local {
        let told = &told[&file.name];
        if told.should_ignore {
            pushed.ignored.push(file.name.clone());
            continue;
        }
        let oid = match is_large(file) {
            true => {
                let oid = file.sha256(&mut |bytes| {
                    progress(Progress {
                        doing: "hashing",
                        file: &file.name,
                        bytes: before + bytes,
                        total,
                    });
                })?;
                before += file.size;
                oid
            }
            false => file.git_hash()?,
        };
        match &told.oid {
            Some(there) if *there == oid => {
                pushed.unchanged.push(file.name.clone());
                continue;
            }
            Some(_) => pushed.changed.push(file.name.clone()),
            None => pushed.added.push(file.name.clone()),
        }
        match is_large(file) {
            true => files.large.push(Large { file, oid }),
            false => files.regular.push(file),
        }
    }
    Ok(files)
}

/// A push under way.
struct Pushing<'a> {
    client: Client<'a>,
    wanted: &'a Push<'a>,
    revision: &'a str,
}

impl Pushing<'_> {
    /// A path of the API about this repository.
    fn api(&self, rest: &str) -> String {
        format!("/api/models/{}{rest}", self.wanted.repository)
    }

    /// The same about the branch.
    fn api_of_branch(&self, what: &str) -> String {
        self.api(&format!("/{what}/{}", percent_encoded(self.revision)))
    }

    /// Makes the repository, unless it is there.
    fn make_repository(&self) -> Result<(), HubError> {
        if !self.wanted.create {
            self.client.get(&self.api(""))?;
            return self.check_visibility();
        }
        let (owner, name) = match self.wanted.repository.split_once('/') {
            Some((owner, name)) => (Some(owner), name),
            None => (None, self.wanted.repository),
        };
        let mut body = json!({"name": name, "organization": owner, "type": "model"});
        if self.wanted.private {
            body["visibility"] = json!("private");
        }
        match self.client.post("/api/repos/create", &body) {
            Ok(_) => Ok(()),
            Err(HubError::Refused { status: 409, .. }) => self.check_visibility(),
            // A token that may write to it need not be one that may make it.
            Err(
                refused @ HubError::Refused {
                    status: 401..=403, ..
                },
            ) => match self.client.get(&self.api("")) {
                Ok(_) => self.check_visibility(),
                Err(_) => Err(refused),
            },
            Err(error) => Err(error),
        }
    }

    /// What is meant for its owner alone does not go where everybody reads it.
    fn check_visibility(&self) -> Result<(), HubError> {
        #[derive(Deserialize)]
        struct Info {
            #[serde(default)]
            private: bool,
        }
        if self.wanted.private {
            let info: Info = self.client.get(&self.api(""))?.json()?;
            if !info.private {
                return Err(HubError::Public {
                    repository: self.wanted.repository.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Makes the branch that is asked for, unless it is there.
    fn make_branch(&self) -> Result<(), HubError> {
        if self.wanted.revision.is_none() {
            return Ok(());
        }
        match self.client.get(&self.api_of_branch("revision")) {
            Err(HubError::Refused { status: 404, .. }) => {}
            outcome => return outcome.map(drop),
        }
        match self.client.post(&self.api_of_branch("branch"), &json!({})) {
            // Somebody else was faster.
            Err(HubError::Refused { status: 409, .. }) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Has the hub check the front matter of the model card, before anything is sent; its warnings.
    fn check_card(&self, local: &[LocalFile]) -> Result<Vec<String>, HubError> {
        #[derive(Deserialize)]
        struct Said {
            message: String,
        }
        #[derive(Deserialize)]
        struct Checked {
            #[serde(default)]
            errors: Vec<Said>,
            #[serde(default)]
            warnings: Vec<Said>,
        }
        let Some(card) = local.iter().find(|file| file.name == README) else {
            return Ok(vec![format!(
                "there is no {README} in the folder: a model without a card says nothing of itself"
            )]);
        };
        let content = String::from_utf8(card.bytes()?).map_err(|_| HubError::Folder {
            path: card.path.clone(),
            problem: "it is not UTF-8".to_owned(),
        })?;
        let body = json!({"content": content, "repoType": "model"});
        let said = |all: Vec<Said>| all.into_iter().map(|said| said.message);
        // What it finds wrong comes with a status that is an error, and in its text.
        match self.client.post("/api/validate-yaml", &body) {
            Ok(answer) => {
                let checked: Checked = answer.json()?;
                let errors: Vec<String> = said(checked.errors).collect();
                match errors.is_empty() {
                    true => Ok(said(checked.warnings).collect()),
                    false => Err(HubError::Card {
                        problems: errors.join("; "),
                    }),
                }
            }
            Err(HubError::Refused {
                status: 400,
                message,
                ..
            }) => Err(HubError::Card {
                problems: message.trim().to_owned(),
            }),
            Err(error) => Err(error),
        }
    }

    /// What the hub says of each file.
    fn ask_about(&self, local: &[LocalFile]) -> Result<BTreeMap<String, Told>, HubError> {
        #[derive(Deserialize)]
        struct Answered {
            files: Vec<Told>,
        }
        let mut all = BTreeMap::new();
        for files in local.chunks(AT_ONCE) {
            let described = files.iter().map(|file| {
                json!({"path": file.name, "sample": STANDARD.encode(&file.sample), "size": file.size})
            });
            let body = json!({"files": described.collect::<Vec<_>>()});
            let answer = self.client.post(&self.api_of_branch("preupload"), &body)?;
            let answered: Answered = answer.json()?;
            all.extend(
                answered
                    .files
                    .into_iter()
                    .map(|told| (told.path.clone(), told)),
            );
            if let Some(missing) = files.iter().find(|file| !all.contains_key(&file.name)) {
                return Err(HubError::Answer {
                    url: answer.url,
                    problem: format!("nothing is said of {}", missing.name),
                });
            }
        }
        Ok(all)
    }

    /// Sends the large files that the store does not have; how many bytes that were.
    fn send_large(
        &self,
        files: &Files,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64, HubError> {
        let mut wanted = Vec::new();
        for large in files.large.chunks(AT_ONCE) {
            let objects = lfs::batch(&self.client, self.wanted.repository, self.revision, large)?;
            let missing = objects.into_iter().filter(|object| !object.is_there());
            wanted.extend(missing.filter_map(|object| {
                let file = large.iter().find(|large| large.oid == object.oid)?;
                Some((object, file))
            }));
        }
        let total = wanted.iter().map(|(_, large)| large.file.size).sum();
        let mut before = 0;
        for (object, large) in &wanted {
            lfs::send(&self.client, object, large, &mut |bytes| {
                progress(Progress {
                    doing: "sending",
                    file: &large.file.name,
                    bytes: before + bytes,
                    total,
                });
            })?;
            before += large.file.size;
        }
        Ok(total)
    }

    /// Commits the files; the page of it, and its name. Nothing is committed where nothing has changed.
    fn commit(&self, files: &Files) -> Result<(String, Option<String>), HubError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Committed {
            commit_url: String,
            commit_oid: String,
        }
        if files.large.is_empty() && files.regular.is_empty() {
            let page = format!("/{}/tree/{}", self.wanted.repository, self.revision);
            return Ok((self.client.url(&page), None));
        }
        let line = |key: &str, value: Value| format!("{}\n", json!({"key": key, "value": value}));
        let mut body = line(
            "header",
            json!({"summary": self.wanted.message, "description": ""}),
        );
        for file in &files.regular {
            let content = STANDARD.encode(file.bytes()?);
            body += &line(
                "file",
                json!({"content": content, "path": file.name, "encoding": "base64"}),
            );
        }
        for large in &files.large {
            let (path, size) = (&large.file.name, large.file.size);
            body += &line(
                "lfsFile",
                json!({"path": path, "algo": "sha256", "oid": large.oid, "size": size}),
            );
        }
        let url = self.client.url(&self.api_of_branch("commit"));
        let mut ask = Ask::new(Method::POST, url, Body::Bytes(body.as_bytes()));
        ask.headers
            .push(("content-type".to_owned(), "application/x-ndjson".to_owned()));
        // Where only the answer was lost, a second one would be a second commit.
        ask.again = false;
        let committed: Committed = self.client.ask(ask)?.json()?;
        Ok((committed.commit_url, Some(committed.commit_oid)))
    }
}

/// A branch as a part of a path: slashes too are written by their number.
fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_one_part_of_a_path() {
        assert_eq!(percent_encoded("main"), "main");
        assert_eq!(percent_encoded("refs/pr/1?é"), "refs%2Fpr%2F1%3F%C3%A9");
    }
}
