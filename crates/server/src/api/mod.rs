//! The paths of the server, and what all of them have in common: who may ask, and how errors are said.

mod body;
mod chat;
mod completions;
mod messages;
mod models;
mod options;
mod page;
mod profiles;
mod shared;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use utoipa::OpenApi;

use crate::answers::Answers;
use crate::api_error::ApiError;
use crate::catalogue::Catalogue;
pub use body::ALL_BODIES;
use body::ReadBody;
pub use shared::now;

/// What the handlers of all requests share.
pub struct Api {
    pub catalogue: Catalogue,
    pub answers: Answers,
    pub guard: Guard,
    /// KiB that bodies of requests may take together.
    pub bodies: Arc<Semaphore>,
    /// One for each text that may become tokens at the same time.
    pub turns: Arc<Semaphore>,
    /// Seconds since 1970.
    pub started: u64,
}

/// Who may ask.
#[derive(Debug, Clone)]
pub enum Guard {
    /// Whoever has the key.
    Key(String),
    /// Whoever is on this machine. A page that a browser has loaded from elsewhere may call its own server by an address of
    /// this machine, so the name that is asked for has to be one of this machine's, or one of these.
    Loopback(Vec<String>),
    /// Everybody.
    Open,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Panacea",
        description = "OpenAI's API with a preference in every request: weights on the objectives of a run, under which its model answers."
    ),
    paths(
        chat::complete,
        completions::complete,
        models::list,
        models::get,
        models::front,
        models::adapters,
        page::index,
        page::file,
        profiles::list,
        profiles::get,
        profiles::ask,
        profiles::answer,
        health,
        metrics,
        description
    )
)]
struct Description;

/// The paths that there are.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::get))
        .route("/v1/models/{id}/front", get(models::front))
        .route("/v1/models/{id}/profiles", get(profiles::list))
        .route("/v1/models/{id}/profiles/{profile}", get(profiles::get))
        .route(
            "/v1/models/{id}/profiles/{profile}/questions",
            post(profiles::ask),
        )
        .route(
            "/v1/models/{id}/profiles/{profile}/answers",
            post(profiles::answer),
        )
        .route("/lora-adapters", get(models::adapters))
        .route("/", get(page::index))
        .route("/page/{file}", get(page::file))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(description))
        .fallback(nothing)
        .method_not_allowed_fallback(another_method)
        .layer(from_fn_with_state(Arc::clone(&api), guarded))
        .with_state(api)
}

/// Runs what takes a while on another thread than those that serve connections, a few at a time. The body that it is about keeps
/// its room meanwhile, also where the client does not wait for it.
async fn aside<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
    api: &Api,
    body: ReadBody,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ApiError> {
    let turn = Arc::clone(&api.turns).acquire_owned().await;
    let turn = turn.map_err(|_| ApiError::stopped())?;
    let done = tokio::task::spawn_blocking(move || {
        let _held = (turn, body);
        work()
    });
    let done = done.await;
    let done = done.map_err(|error| ApiError::failed(error.to_string()))?;
    done.map_err(Into::into)
}

/// That there is a server.
#[utoipa::path(
    get,
    path = "/health",
    responses((status = 200, description = "There is"))
)]
async fn health() -> Response {
    axum::Json(serde_json::json!({"status": "ok"})).into_response()
}

/// Counters and times, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    responses((status = 200, content_type = "application/openmetrics-text", body = String))
)]
async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let text = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, text)], api.answers.metrics.page()).into_response()
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object)))]
async fn description() -> Response {
    axum::Json(Description::openapi()).into_response()
}

async fn nothing(request: Request) -> ApiError {
    ApiError::no_path(request.uri().path())
}

async fn another_method(request: Request) -> ApiError {
    ApiError::no_method(request.method().as_str(), request.uri().path())
}

/// Lets through who may ask, and counts.
async fn guarded(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let path = matched.map_or("other", MatchedPath::as_str).to_owned();
    let response = match api.guard.check(request.headers(), &path) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    api.answers
        .metrics
        .response(&path, response.status().as_u16());
    response
}

impl Guard {
    fn check(&self, headers: &HeaderMap, path: &str) -> Result<(), ApiError> {
        match self {
            Self::Open => Ok(()),
            // Whoever looks whether the server is well need not know the key, nor does the page, which asks people for it.
            Self::Key(_) if matches!(path, "/health" | "/" | "/page/{file}") => Ok(()),
            Self::Key(key) => {
                let sent = headers
                    .get(header::AUTHORIZATION)
                    .map(|sent| sent.as_bytes());
                let sent = sent.and_then(|sent| sent.split_at_checked("Bearer ".len()));
                let is_right = sent.is_some_and(|(scheme, sent)| {
                    scheme.eq_ignore_ascii_case(b"Bearer ")
                        && bool::from(sent.ct_eq(key.as_bytes()))
                });
                is_right.then_some(()).ok_or_else(ApiError::key)
            }
            Self::Loopback(names) => {
                let asked = headers.get(header::HOST);
                let asked = asked.map_or("", |host| host.to_str().unwrap_or("?"));
                let host = without_port(asked);
                let is_own = host.is_empty()
                    || host.eq_ignore_ascii_case("localhost")
                    || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
                    || names.iter().any(|name| name.eq_ignore_ascii_case(host));
                is_own.then_some(()).ok_or_else(|| ApiError::host(host))
            }
        }
    }
}

/// The host of `localhost:8080`, `127.0.0.1` or `[::1]:8080`.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.rsplit_once(':').map_or(host, |(host, _)| host)
}
