//! The hub's store of large files: Git LFS's batch API, with transfers in one piece and in parts.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use crate::HubError;
use crate::client::{Ask, Body, Client, json_type};
use crate::local::LocalFile;

const TYPE: &str = "application/vnd.git-lfs+json";
/// The entry among the headers that says how large the parts are.
const PART_SIZE: &str = "chunk_size";

/// A file for the store, with its SHA-256.
pub(crate) struct Large<'a> {
    pub file: &'a LocalFile,
    pub oid: String,
}

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

/// What is to be done with a file.
#[derive(Deserialize)]
pub(crate) struct Object {
    pub oid: String,
    /// Nothing where the store has it.
    #[serde(default)]
    actions: Option<Actions>,
    #[serde(default)]
    error: Option<Trouble>,
}

#[derive(Deserialize)]
struct Trouble {
    message: String,
}

#[derive(Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: Option<BTreeMap<String, Value>>,
}

impl Action {
    /// The headers that the hub asks for. Among them it says how large parts are and where each goes, which is for nobody else.
    fn headers(&self) -> Vec<(String, String)> {
        let headers = self.header.iter().flatten();
        let is_header = |name: &str| name != PART_SIZE && name.parse::<usize>().is_err();
        headers
            .filter(|(name, _)| is_header(name))
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect()
    }

    /// The size of the parts, where there are parts.
    fn part_size(&self) -> Option<Option<u64>> {
        let size = self.header.as_ref()?.get(PART_SIZE)?;
        let number = size.as_u64().or_else(|| size.as_str()?.parse().ok());
        Some(number.filter(|&size| size > 0))
    }

    /// Where the parts go, in their order.
    fn parts(&self) -> Vec<&str> {
        let headers = self.header.iter().flatten();
        let mut parts: Vec<(usize, &str)> = headers
            .filter_map(|(name, value)| Some((name.parse().ok()?, value.as_str()?)))
            .collect();
        parts.sort_by_key(|(number, _)| *number);
        parts.into_iter().map(|(_, address)| address).collect()
    }
}

impl Object {
    /// Whether the store has it already.
    pub fn is_there(&self) -> bool {
        self.upload().is_none()
    }

    fn upload(&self) -> Option<&Action> {
        self.actions.as_ref()?.upload.as_ref()
    }
}

/// Asks what is to be done with these files, one object each, in any order.
pub(crate) fn batch(
    client: &Client,
    repository: &str,
    revision: &str,
    files: &[Large],
) -> Result<Vec<Object>, HubError> {
    let objects = files
        .iter()
        .map(|large| json!({"oid": large.oid, "size": large.file.size}));
    let body = json!({
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "objects": objects.collect::<Vec<_>>(),
        "hash_algo": "sha256",
        "ref": {"name": revision},
    });
    let url = client.url(&format!("/{repository}.git/info/lfs/objects/batch"));
    let text = body.to_string();
    let mut ask = Ask::new(Method::POST, url, Body::Bytes(text.as_bytes()));
    ask.headers = vec![
        ("accept".to_owned(), TYPE.to_owned()),
        ("content-type".to_owned(), TYPE.to_owned()),
    ];
    let answer = client.ask(ask)?;
    let wrong = |problem: String| HubError::Answer {
        url: answer.url.clone(),
        problem,
    };
    let batch: Batch = answer.json()?;
    for large in files {
        let name = &large.file.name;
        match batch.objects.iter().find(|object| object.oid == large.oid) {
            None => return Err(wrong(format!("nothing is said of {name}"))),
            Some(Object {
                error: Some(trouble),
                ..
            }) => return Err(wrong(format!("{name}: {}", trouble.message))),
            Some(_) => {}
        }
    }
    Ok(batch.objects)
}

/// Sends a file to the store as it asked; `told` hears how much of it was sent.
pub(crate) fn send(
    client: &Client,
    object: &Object,
    large: &Large,
    told: &mut dyn FnMut(u64),
) -> Result<(), HubError> {
    let Some(upload) = object.upload() else {
        return Ok(());
    };
    match upload.part_size() {
        None => {
            let mut ask = Ask::new(
                Method::PUT,
                client.meant(&upload.href),
                Body::Part {
                    path: &large.file.path,
                    from: 0,
                    length: large.file.size,
                    told,
                },
            );
            ask.headers = upload.headers();
            client.ask(ask)?;
        }
        Some(size) => send_parts(client, upload, size, large, told)?,
    }
    let verify = object
        .actions
        .as_ref()
        .and_then(|actions| actions.verify.as_ref());
    if let Some(verify) = verify {
        let body = json!({"oid": large.oid, "size": large.file.size}).to_string();
        let url = client.meant(&verify.href);
        let mut ask = Ask::new(Method::POST, url, Body::Bytes(body.as_bytes()));
        ask.headers = verify.headers();
        ask.headers.push(json_type());
        client.ask(ask)?;
    }
    Ok(())
}

fn send_parts(
    client: &Client,
    upload: &Action,
    size: Option<u64>,
    large: &Large,
    told: &mut dyn FnMut(u64),
) -> Result<(), HubError> {
    let url = client.meant(&upload.href);
    let wrong = |problem: String| HubError::Answer {
        url: url.split('?').next().unwrap_or_default().to_owned(),
        problem: format!("{}: {problem}", large.file.name),
    };
    let total = large.file.size;
    let size = size.ok_or_else(|| wrong(format!("{PART_SIZE} is not a number above 0")))?;
    let parts = upload.parts();
    if parts.len() as u64 != total.div_ceil(size) {
        let problem = format!("{} parts of {size} bytes for {total} bytes", parts.len());
        return Err(wrong(problem));
    }
    let mut done = Vec::new();
    for (i, address) in parts.into_iter().enumerate() {
        let from = i as u64 * size;
        let answer = client.ask(Ask::new(
            Method::PUT,
            client.meant(address),
            Body::Part {
                path: &large.file.path,
                from,
                length: size.min(total - from),
                told: &mut |sent| told(from + sent),
            },
        ))?;
        let etag = answer
            .headers
            .get("etag")
            .and_then(|etag| etag.to_str().ok());
        let etag = etag.ok_or_else(|| wrong(format!("part {} has no ETag", i + 1)))?;
        done.push(json!({"partNumber": i + 1, "etag": etag}));
    }
    let body = json!({"oid": large.oid, "parts": done}).to_string();
    let mut ask = Ask::new(Method::POST, url.clone(), Body::Bytes(body.as_bytes()));
    ask.headers = vec![
        ("accept".to_owned(), TYPE.to_owned()),
        ("content-type".to_owned(), TYPE.to_owned()),
    ];
    client.ask(ask)?;
    Ok(())
}
