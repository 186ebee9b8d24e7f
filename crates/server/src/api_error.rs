//! Requests that are not answered, in the shape in which OpenAI's API says so.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use panacea_interview::InterviewError;
use panacea_pretrained::PretrainedError;
use serde::Serialize;
use utoipa::ToSchema;

/// Why a request is not answered, or not to its end.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
    retry_after: Option<u64>,
}

/// An error, as clients read it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorResponse {
    error: ErrorBody,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
struct ErrorBody {
    /// What is wrong, and what would be right.
    message: String,
    /// The kind of error.
    r#type: &'static str,
    /// The field of the request that it is about.
    param: Option<String>,
    /// A word for programs.
    code: Option<&'static str>,
}

impl ApiError {
    fn new(status: StatusCode, code: Option<&'static str>, message: String) -> Self {
        let r#type = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "authentication_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        Self {
            status,
            body: ErrorBody {
                message: shortened(&message),
                r#type,
                param: None,
                code,
            },
            retry_after: None,
        }
    }

    /// The request as a whole is wrong.
    pub fn bad(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, None, message)
    }

    /// A field of the request is wrong.
    pub fn wrong(field: &str, message: String) -> Self {
        Self::bad(message).about(field)
    }

    /// A field that would change the answer, if this server knew it.
    pub fn unsupported(field: &str, what: &str) -> Self {
        let mut error = Self::wrong(field, format!("{what} is not supported; leave it out"));
        error.body.code = Some("unsupported_parameter");
        error
    }

    pub fn too_long(message: String) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            Some("context_length_exceeded"),
            message,
        )
    }

    pub fn no_model(message: String) -> Self {
        let mut error = Self::new(StatusCode::NOT_FOUND, Some("model_not_found"), message);
        error.body.param = Some("model".to_owned());
        error
    }

    pub fn no_profile(message: String) -> Self {
        let mut error = Self::new(StatusCode::NOT_FOUND, Some("profile_not_found"), message);
        error.body.param = Some("profile".to_owned());
        error
    }

    /// What is asked for does not go with what is there.
    pub fn changed(message: String) -> Self {
        Self::new(StatusCode::CONFLICT, None, message)
    }

    pub fn no_front(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, Some("front_not_found"), message)
    }

    pub fn no_path(path: &str) -> Self {
        let message = format!("there is nothing at {path}; /openapi.json says what there is");
        Self::new(StatusCode::NOT_FOUND, None, message)
    }

    pub fn no_method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not take {method}; /openapi.json says what it takes");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, None, message)
    }

    pub fn key() -> Self {
        let message = "the API key is missing or wrong: send Authorization: Bearer KEY".to_owned();
        Self::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), message)
    }

    pub fn host(host: &str) -> Self {
        let message = format!(
            "this server was asked for as `{host}`, which is not its own machine; --allow-host {host} lets it answer, or --api-key-file, whatever it is called"
        );
        Self::new(StatusCode::FORBIDDEN, None, message)
    }

    pub fn not_json(found: &str) -> Self {
        let message = format!("the body is {found}, expected Content-Type: application/json");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, message)
    }

    pub fn too_large(limit: usize) -> Self {
        let message = format!("the body has more than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, None, message)
    }

    pub fn slow() -> Self {
        let message = "the body did not come in time".to_owned();
        Self::new(StatusCode::REQUEST_TIMEOUT, None, message)
    }

    /// As many answers wait as may.
    pub fn busy(retry_after: u64) -> Self {
        let message = format!("too many answers are waiting; try again in {retry_after} s");
        let status = StatusCode::TOO_MANY_REQUESTS;
        let mut error = Self::new(status, Some("queue_full"), message);
        error.retry_after = Some(retry_after);
        error
    }

    pub fn stopped() -> Self {
        let message = "the server is stopping".to_owned();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, None, message)
    }

    pub fn failed(message: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, None, message)
    }

    /// An answer whose time was over before its first token.
    pub fn late(retry_after: u64) -> Self {
        let message = "the answer waited too long to begin".to_owned();
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, None, message);
        error.retry_after = Some(retry_after);
        error
    }

    /// Too many bodies at once.
    pub fn full() -> Self {
        let message = "too many requests are being read; try again in a second".to_owned();
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, None, message);
        error.retry_after = Some(1);
        error
    }

    /// The same, about a field.
    pub fn about(mut self, field: &str) -> Self {
        self.body.message = format!("{}: {}", shortened(field), self.body.message);
        self.body.param = Some(shortened(field));
        self
    }

    /// The same about a field, unless it is about one already.
    pub fn or_about(self, field: &str) -> Self {
        match self.body.param {
            Some(_) => self,
            None => self.about(field),
        }
    }

    /// What clients read, also behind the beginning of a stream.
    pub fn response(mut self) -> ErrorResponse {
        self.body.message = panacea_runs::as_called(&self.body.message);
        ErrorResponse { error: self.body }
    }
}

/// A text that is short enough to be repeated to who sent it.
pub fn shortened(text: &str) -> String {
    const LONGEST: usize = 500;
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} …", &text[..end]),
    }
}

/// Of texts and templates that the tokenizer does not take.
impl From<PretrainedError> for ApiError {
    fn from(error: PretrainedError) -> Self {
        match error {
            // Where the server keeps its files is nobody's business.
            PretrainedError::Template { problem, .. } => {
                Self::bad(format!("the model's chat template: {problem}"))
            }
            PretrainedError::LostTurn { turn, keys, .. } => {
                let [key, what] = match keys.first() {
                    Some(key) => [
                        key.as_str(),
                        "it stands in place of a text, and the model's chat template does not read it: that",
                    ],
                    None => ["content", "a message without a text"],
                };
                Self::unsupported(&format!("messages[{turn}].{key}"), what)
            }
            PretrainedError::Tokenizer { problem, .. } => {
                Self::bad(format!("the model's tokenizer: {problem}"))
            }
            error => Self::bad(error.to_string()),
        }
    }
}

/// Of profiles.
impl From<InterviewError> for ApiError {
    fn from(error: InterviewError) -> Self {
        match error {
            error @ (InterviewError::Name { .. } | InterviewError::NoProfile { .. }) => {
                Self::no_profile(error.to_string())
            }
            InterviewError::Changed { .. } => Self::changed(
                "somebody else wrote to the profile; this answer is not kept: ask again".to_owned(),
            ),
            InterviewError::OtherProfile {
                what,
                found,
                expected,
                ..
            } => Self::changed(format!(
                "{what} of the profile are {found}, but those of the model {expected}; take another name for a new profile"
            )),
            InterviewError::Pretrained(error) => error.into(),
            error if error.is_of_these_answers() => Self::bad(error.to_string()),
            InterviewError::Elicit(error) => Self::bad(error.to_string()),
            InterviewError::Profile { source, .. } => {
                Self::failed(format!("the profile's file: {source}"))
            }
            InterviewError::Edited { drift, .. } => Self::failed(format!(
                "the profile's file was edited: its answers lead to weights that are {drift:.1e} from those in it"
            )),
            error => {
                // Whoever runs the server is told what clients are not.
                panacea_runs::tell(panacea_runs::Level::Error, &error.to_string());
                Self::failed(match error {
                    InterviewError::File(_) | InterviewError::Run(_) => {
                        "the profile's files cannot be read or written".to_owned()
                    }
                    _ => "the answers cannot be scored".to_owned(),
                })
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status, self.retry_after);
        let mut response = (status, Json(self.response())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}
