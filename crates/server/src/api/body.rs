//! From the bytes of a request to its fields.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::Api;
use crate::api_error::ApiError;

/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is read and thrown away of a body that is too large, so that the client reads our answer rather than that the
/// connection is gone.
const MOST_THROWN_AWAY: usize = 256 << 20;

/// Bytes of bodies that are read or parsed at the same time, in KiB: who comes when there are more waits.
pub const ALL_BODIES: usize = 256 << 10;

/// The body of a request, which must be JSON of at most `limit` bytes. Its place among the bodies is given back with the permit.
pub async fn read(request: Request, api: &Api) -> Result<(HeaderMap, ReadBody), ApiError> {
    let limit = api.answers.limits.body;
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    check_type(&headers)?;
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let reading = async {
        let room = length.unwrap_or(limit).min(limit).div_ceil(1024);
        let bodies = Arc::clone(&api.bodies);
        let permit = bodies.acquire_many_owned(room.min(ALL_BODIES) as u32).await;
        let permit = permit.map_err(|_| ApiError::stopped())?;
        let bytes = collect(body, limit).await?;
        Ok::<_, ApiError>(ReadBody {
            bytes,
            _permit: permit,
        })
    };
    let body = timeout(PATIENCE, reading).await;
    Ok((headers, body.map_err(|_| ApiError::slow())??))
}

/// The bytes of a body, and its place among all of them.
pub struct ReadBody {
    pub bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

/// All of a body; what is behind the limit is thrown away, up to a limit of its own.
async fn collect(body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let mut length = 0;
    let mut frames = body.into_data_stream();
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|error| ApiError::bad(format!("the body: {error}")))?;
        length += frame.len();
        if length <= limit {
            bytes.extend_from_slice(&frame);
        } else if length > MOST_THROWN_AWAY {
            break;
        } else {
            bytes = Vec::new();
        }
    }
    match length <= limit {
        true => Ok(bytes),
        false => Err(ApiError::too_large(limit)),
    }
}

/// Pages of other servers can send text to this one, but not JSON without being asked: a browser would ask first.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let found = headers.get(header::CONTENT_TYPE);
    let found = found
        .and_then(|found| found.to_str().ok())
        .unwrap_or("of no type");
    let essence = found.split(';').next().unwrap_or_default().trim();
    match essence.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(ApiError::not_json(found)),
    }
}

/// The fields of `T` among those of a body.
///
/// # Errors
/// With the path of the field that cannot be read.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let reason = shortened(&error.into_inner().to_string());
        match path.as_str() {
            "." | "?" => ApiError::bad(reason),
            path => ApiError::wrong(path, reason),
        }
    })?;
    let end = deserializer.end();
    end.map_err(|error| ApiError::bad(format!("behind the object: {error}")))?;
    Ok(parsed)
}

/// A text that is short enough to be repeated to who sent it.
pub fn shortened(text: &str) -> String {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} …", &text[..end]),
    }
}

/// Refuses fields that are not among the `known` ones: one that is misspelt would change nothing, and nobody would know.
pub fn check_fields(bytes: &[u8], known: &[String]) -> Result<(), ApiError> {
    let found: BTreeMap<String, IgnoredAny> = parse(bytes)?;
    match found.keys().find(|field| !known.contains(field)) {
        None => Ok(()),
        Some(field) => {
            let message = format!("there is no such field; there are {}", known.join(", "));
            Err(ApiError::wrong(&shortened(field), message))
        }
    }
}

/// The names of the fields that the API's description gives `T`, which is put together of other types.
pub fn fields<T: ToSchema>() -> Vec<String> {
    let mut types = Vec::new();
    T::schemas(&mut types);
    let whole = serde_json::to_value(T::schema()).expect("a schema is JSON");
    let parts = whole["allOf"].as_array().into_iter().flatten();
    let mut fields = Vec::new();
    for part in parts {
        let name = part["$ref"]
            .as_str()
            .and_then(|path| path.rsplit('/').next());
        let (_, schema) = (types.iter())
            .find(|(known, _)| Some(known.as_str()) == name)
            .expect("a type lists the types that it is made of");
        let schema = serde_json::to_value(schema).expect("a schema is JSON");
        let properties = schema["properties"].as_object().into_iter().flatten();
        fields.extend(properties.map(|(field, _)| field.clone()));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::chat::ChatRequest;

    #[test]
    fn a_field_is_known_that_the_description_has() {
        let fields = fields::<ChatRequest>();
        for field in ["messages", "preference", "user", "temperature"] {
            assert!(fields.iter().any(|known| known == field), "{fields:?}");
        }
        assert!(check_fields(br#"{"messages": 1, "top_p": 2}"#, &fields).is_ok());
        let refused = check_fields(br#"{"preferences": [1]}"#, &fields);
        let refused = format!("{:?}", refused.unwrap_err());
        assert!(
            refused.contains("preferences: there is no such field"),
            "{refused}"
        );
    }
}
