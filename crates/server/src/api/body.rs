//! From the bytes of a request to its fields.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::api_error::ApiError;

/// How long a client may take to send a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is read and thrown away of a body that is too large, so that the client reads our answer rather than that the
/// connection is gone.
const MOST_THROWN_AWAY: usize = 256 << 20;

/// KiB that the bodies of all requests may take together, until they are tokens.
pub const ALL_BODIES: usize = 256 << 10;

/// The body of a request, which must be JSON of at most `limit` bytes; it takes room among `all`.
pub async fn read(
    request: Request,
    limit: usize,
    all: &Arc<Semaphore>,
) -> Result<(HeaderMap, ReadBody), ApiError> {
    let (parts, body) = request.into_parts();
    check_type(&parts.headers)?;
    let reading = collect(body, limit, all);
    let body = timeout(PATIENCE, reading).await;
    Ok((parts.headers, body.map_err(|_| ApiError::slow())??))
}

/// The bytes of a body, and its room among all of them.
#[derive(Default)]
pub struct ReadBody {
    pub bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

impl ReadBody {
    /// Adds a piece, if there is room.
    fn extend(&mut self, piece: &[u8], all: &Arc<Semaphore>) -> Result<(), ApiError> {
        let held = self
            .room
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = (self.bytes.len() + piece.len()).div_ceil(1024) - held;
        let more = Arc::clone(all).try_acquire_many_owned(missing as u32);
        let more = more.map_err(|_| ApiError::full())?;
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

/// All of a body; what is behind the limit is thrown away, up to a limit of its own.
async fn collect(body: Body, limit: usize, all: &Arc<Semaphore>) -> Result<ReadBody, ApiError> {
    let mut read = ReadBody::default();
    let mut length = 0;
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| ApiError::bad(format!("the body: {error}")))?;
        length += piece.len();
        if length <= limit {
            read.extend(&piece, all)?;
        } else if length > MOST_THROWN_AWAY {
            break;
        } else {
            read = ReadBody::default();
        }
    }
    match length <= limit {
        true => Ok(read),
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
        let reason = error.into_inner().to_string();
        match path.as_str() {
            "." | "?" => ApiError::bad(reason),
            path => ApiError::wrong(path, reason),
        }
    })?;
    let end = deserializer.end();
    end.map_err(|error| ApiError::bad(format!("behind the object: {error}")))?;
    Ok(parsed)
}

/// Refuses fields that are not among the `known` ones: one that is misspelt would change nothing, and nobody would know.
pub fn check_fields(bytes: &[u8], known: &[String]) -> Result<(), ApiError> {
    let found: BTreeMap<String, IgnoredAny> = parse(bytes)?;
    match found.keys().find(|field| !known.contains(field)) {
        None => Ok(()),
        Some(field) => {
            let message = format!("there is no such field; there are {}", known.join(", "));
            Err(ApiError::wrong(field, message))
        }
    }
}

/// The names of the fields that the API's description gives `T`.
pub fn own_fields<T: ToSchema>() -> Vec<String> {
    let whole = serde_json::to_value(T::schema()).expect("a schema is JSON");
    let fields = whole["properties"].as_object().into_iter().flatten();
    fields.map(|(field, _)| field.clone()).collect()
}

/// The same, where `T` is put together of other types.
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

    /// A body without an end is thrown away, and holds no room meanwhile.
    #[test]
    fn a_body_takes_room_while_it_is_here_and_no_more_than_there_is() {
        let all = Arc::new(Semaphore::new(3));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let read = |bytes: usize, limit| {
            let pieces = vec![b'x'; bytes];
            let pieces: Vec<Vec<u8>> = pieces.chunks(700).map(<[u8]>::to_vec).collect();
            let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, ApiError>));
            let pieces = pieces.map(|piece| piece.map_err(|_| std::fmt::Error));
            runtime.block_on(collect(Body::from_stream(pieces), limit, &all))
        };
        let first = read(1500, 4000).unwrap();
        assert_eq!((first.bytes.len(), all.available_permits()), (1500, 1));
        let refused = format!("{:?}", read(1500, 4000).err().unwrap());
        assert!(
            refused.contains("SERVICE_UNAVAILABLE") || refused.contains("503"),
            "{refused}"
        );
        assert_eq!(all.available_permits(), 1);
        let refused = format!("{:?}", read(900, 800).err().unwrap());
        assert!(refused.contains("more than 800 bytes"), "{refused}");
        drop(first);
        assert_eq!(all.available_permits(), 3);
        assert_eq!(read(3000, 4000).unwrap().bytes.len(), 3000);
    }

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
