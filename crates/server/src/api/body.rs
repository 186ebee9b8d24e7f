//! From the bytes of a request to its fields.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::api_error::ApiError;

/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is read and thrown away of a body that is too large, so that the client reads our answer rather than that the
/// connection is gone.
const MOST_THROWN_AWAY: usize = 256 << 20;

/// The body of a request, which must be JSON of at most `limit` bytes.
pub async fn read(request: Request, limit: usize) -> Result<(HeaderMap, Bytes), ApiError> {
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    check_type(&headers)?;
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let reading = async {
        if length.is_some_and(|length| length > limit) {
            throw_away(body).await;
            return Err(ApiError::too_large(limit));
        }
        let bytes = to_bytes(body, limit).await;
        bytes.map_err(|_| ApiError::too_large(limit))
    };
    let bytes = timeout(PATIENCE, reading).await;
    Ok((headers, bytes.map_err(|_| ApiError::slow())??))
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

async fn throw_away(body: Body) {
    let mut thrown_away = 0;
    let mut frames = body.into_data_stream();
    while let Some(Ok(frame)) = frames.next().await {
        thrown_away += frame.len();
        if thrown_away > MOST_THROWN_AWAY {
            return;
        }
    }
}

/// The fields of `T` among those of a body.
///
/// # Errors
/// With the path of the field that cannot be read.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner().to_string();
        match path.as_str() {
            "." | "?" => ApiError::bad(reason),
            path => ApiError::wrong(path, reason),
        }
    })
}

/// Refuses fields that `T` does not have: one that is misspelt would change nothing, and nobody would know.
pub fn check_fields<T: ToSchema>(bytes: &[u8]) -> Result<(), ApiError> {
    let found: BTreeMap<String, IgnoredAny> = parse(bytes)?;
    let known = fields::<T>();
    match found.keys().find(|field| !known.contains(field)) {
        None => Ok(()),
        Some(field) => {
            let message = format!("there is no such field; there are {}", known.join(", "));
            Err(ApiError::wrong(field, message))
        }
    }
}

/// The names of the fields that the API's description gives `T`, which is put together of other types.
fn fields<T: ToSchema>() -> Vec<String> {
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
        assert!(check_fields::<ChatRequest>(br#"{"messages": 1, "top_p": 2}"#).is_ok());
        let refused = check_fields::<ChatRequest>(br#"{"preferences": [1]}"#);
        let refused = format!("{:?}", refused.unwrap_err());
        assert!(
            refused.contains("preferences: there is no such field"),
            "{refused}"
        );
    }
}
