//! What both kinds of answers have in common.

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream;
use panacea_objectives::Preference;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::answers::{DrawnToken, FinishReason, Piece, Pieces};
use crate::api_error::ApiError;
use crate::catalogue::{Choice, SteeredModel};

/// How often a stream without news says that it is still there, so that nobody in between closes it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What an answer says of itself.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Described {
    id: String,
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    model: String,
    /// λ that the answer was written under, by objective; nothing for the base model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, f64>>)]
    preference: Option<Map<String, Value>>,
}

/// How many tokens there were.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Usage {
    prompt_tokens: usize,
    /// Tokens of all answers; the one that ends a turn does not count.
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
}

/// What there is to say of a prompt's tokens.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PromptDetails {
    /// Tokens that were known from other requests and not read again.
    cached_tokens: usize,
}

/// A whole answer.
pub struct WholeAnswer {
    pub text: String,
    pub tokens: Vec<DrawnToken>,
    /// The token that ended its turn, where the model drew one.
    pub stop: Option<u32>,
    pub finish_reason: FinishReason,
}

impl Described {
    /// Of a new answer.
    pub fn new(prefix: &str, choice: &Choice) -> Self {
        let steering = choice.steering.as_ref();
        Self {
            id: format!("{prefix}-{:032x}", rand::random::<u128>()),
            object: "",
            created: now(),
            model: choice.id.clone(),
            preference: steering.map(|(run, preference)| by_name(run, preference)),
        }
    }

    /// As an object of this kind.
    pub fn of_kind(self, object: &'static str) -> Self {
        Self { object, ..self }
    }
}

/// A preference by the names of the objectives.
pub fn by_name(run: &SteeredModel, preference: &Preference) -> Map<String, Value> {
    let weights = preference.weights().iter();
    let named = run.objectives.iter().zip(weights);
    named
        .map(|(name, &weight)| (name.clone(), weight.into()))
        .collect()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Usage {
    fn new(prompt_tokens: usize, cached_tokens: usize, completion_tokens: usize) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptDetails { cached_tokens },
        }
    }
}

/// Waits for `count` whole answers.
pub async fn gather(
    mut pieces: Pieces,
    count: usize,
) -> Result<(Vec<WholeAnswer>, Usage), ApiError> {
    let empty = || WholeAnswer {
        text: String::new(),
        tokens: Vec::new(),
        stop: None,
        finish_reason: FinishReason::Length,
    };
    let mut answers: Vec<WholeAnswer> = (0..count).map(|_| empty()).collect();
    let mut cached = 0;
    while let Some(piece) = pieces.stream.next().await {
        let answer = &mut answers[piece.index];
        cached += piece.cached;
        answer.text += &piece.text;
        answer.tokens.extend(piece.tokens);
        answer.stop = answer.stop.or(piece.stop);
        if let Some(end) = piece.end {
            answer.finish_reason = end?;
        }
    }
    let tokens = answers.iter().map(|answer| answer.tokens.len()).sum();
    Ok((answers, Usage::new(pieces.prompt_tokens, cached, tokens)))
}

/// Answers piece by piece, as server-sent events: `first`, then `next` of every piece that says something, then `last` of the
/// number of tokens, then `[DONE]`. An error ends it before its time.
pub fn events<T: Serialize + Send + 'static>(
    pieces: Pieces,
    first: Option<T>,
    next: impl FnMut(Piece, Option<FinishReason>) -> T + Send + 'static,
    last: impl FnOnce(Usage) -> Option<T> + Send + 'static,
) -> Response {
    let writer = Writer {
        pieces,
        next,
        last: Some(last),
        tokens: 0,
        cached: 0,
        left: Left::Pieces,
    };
    let rest = stream::unfold(writer, |mut writer| async {
        let event = writer.event().await?;
        Some((event, writer))
    });
    let events = stream::iter(first.map(|first| json(&first))).chain(rest);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(events.map(Ok::<Event, Infallible>))
        .keep_alive(keep_alive)
        .into_response()
}

/// A stream of events on its way.
struct Writer<N, L> {
    pieces: Pieces,
    next: N,
    last: Option<L>,
    /// Tokens so far.
    tokens: usize,
    /// Tokens of prompts that were known.
    cached: usize,
    left: Left,
}

/// What is left of a stream of events.
enum Left {
    Pieces,
    Usage,
    Done,
    Nothing,
}

impl<N, L> Writer<N, L> {
    async fn event<T: Serialize>(&mut self) -> Option<Event>
    where
        N: FnMut(Piece, Option<FinishReason>) -> T,
        L: FnOnce(Usage) -> Option<T>,
    {
        loop {
            match self.left {
                Left::Pieces => {
                    let Some(mut piece) = self.pieces.stream.next().await else {
                        self.left = Left::Usage;
                        continue;
                    };
                    self.tokens += piece.tokens.len();
                    self.cached += piece.cached;
                    let end = match piece.end.take().transpose() {
                        Ok(end) => end,
                        Err(error) => {
                            self.left = Left::Nothing;
                            return Some(json(&error.response()));
                        }
                    };
                    let has_likelihoods = piece.tokens.iter().any(|t| t.likelihood.is_some());
                    if !piece.text.is_empty() || end.is_some() || has_likelihoods {
                        return Some(json(&(self.next)(piece, end)));
                    }
                }
                Left::Usage => {
                    self.left = Left::Done;
                    let usage = Usage::new(self.pieces.prompt_tokens, self.cached, self.tokens);
                    if let Some(chunk) = self.last.take().and_then(|last| last(usage)) {
                        return Some(json(&chunk));
                    }
                }
                Left::Done => {
                    self.left = Left::Nothing;
                    return Some(Event::default().data("[DONE]"));
                }
                Left::Nothing => return None,
            }
        }
    }
}

fn json(value: &impl Serialize) -> Event {
    let text = serde_json::to_string(value).expect("it is made of texts and finite numbers");
    Event::default().data(text)
}
