//! `/v1/completions`: texts that go on, without a chat template.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use panacea_model::Likelihood;
use panacea_pretrained::{ChatTokenizer, PretrainedError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::block_in_place;
use utoipa::ToSchema;

use super::chat::token_text;
use super::options::{Options, WithoutEffect};
use super::shared::{Described, Usage, events, gather};
use super::{Api, aside, body};
use crate::answers::{Asked, DrawnToken, FinishReason, Piece};
use crate::api_error::{ApiError, ErrorResponse};

/// Tokens of an answer where the request does not say, as in OpenAI's API.
const USUAL_MAX_TOKENS: usize = 16;
/// The most likely tokens that are named beside each one.
const MOST_LIKELY: usize = 5;

/// A request's own fields.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CompletionFields {
    /// A text, its tokens, or several of either. Texts get the special tokens that the tokenizer puts around every text.
    #[schema(value_type = PromptField)]
    prompt: Value,
    /// How many of the likeliest tokens are named beside each one, with log-probabilities.
    #[schema(minimum = 0, maximum = 5)]
    logprobs: Option<usize>,
    /// Must be false: not supported.
    echo: Option<bool>,
    /// Must be empty: not supported.
    suffix: Option<String>,
    /// Must be `n`: not supported.
    best_of: Option<usize>,
}

/// A request, as a whole.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it describes the body, whose parts are read one by one"
)]
pub struct CompletionRequest {
    #[serde(flatten)]
    completion: CompletionFields,
    #[serde(flatten)]
    options: Options,
    #[serde(flatten)]
    without_effect: WithoutEffect,
}

/// The fields that a request may have.
static FIELDS: LazyLock<Vec<String>> = LazyLock::new(body::fields::<CompletionRequest>);

/// Texts or tokens.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "it describes the field, which is read by hand to say what is wrong with it"
)]
pub enum PromptField {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    Several(Vec<Vec<u32>>),
}

/// A whole answer, or a piece of one.
#[derive(Debug, Serialize, ToSchema)]
pub struct CompletionResponse {
    #[serde(flatten)]
    described: Described,
    choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

/// One answer: the `n` of the first prompt, then those of the next.
#[derive(Debug, Serialize, ToSchema)]
pub struct CompletionChoice {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogProbs>,
    finish_reason: Option<FinishReason>,
}

/// The log-probabilities of an answer's tokens, under the model itself: no temperature, no filter.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct CompletionLogProbs {
    tokens: Vec<String>,
    token_logprobs: Vec<f64>,
    /// Fewer than were asked for where several look alike, as parts of characters do.
    top_logprobs: Vec<BTreeMap<String, f64>>,
    /// Where each token begins in the answer, in characters; parts of one character begin where it does.
    text_offset: Vec<usize>,
}

/// Goes on with a text.
#[utoipa::path(
    post,
    path = "/v1/completions",
    request_body = CompletionRequest,
    params(("X-Preference" = Option<String>, Header, description = "λ, as in help=3,brevity=7")),
    responses(
        (status = 200, description = "The answer; with `stream`, its pieces", content(
            (CompletionResponse = "application/json"),
            (CompletionResponse = "text/event-stream"),
        )),
        (status = "4XX", description = "What is wrong with the request", body = ErrorResponse),
        (status = "5XX", description = "Why it cannot be answered now", body = ErrorResponse),
    )
)]
pub async fn complete(State(api): State<Arc<Api>>, request: Request) -> Result<Response, ApiError> {
    let (headers, body) = body::read(request, api.answers.limits.body, &api.bodies).await?;
    body::check_fields(&body.bytes, &FIELDS)?;
    let options: Options = body::parse(&body.bytes)?;
    let fields: CompletionFields = body::parse(&body.bytes)?;
    options.check()?;
    let (n, max_tokens) = (options.n()?, options.max_tokens()?);
    let (sampling, stop) = (options.sampling()?, options.stop()?);
    fields.check(n)?;
    let choice = options.choice(&api.catalogue, &headers)?;
    let prompts = Prompts::read(&fields.prompt)?;
    let tokenizer = Arc::clone(&api.answers.tokenizer);
    let field = if n > 1 { "n" } else { "prompt" };
    api.answers
        .check_count(prompts.len().saturating_mul(n), field)?;
    let prompts = aside(&api, body, move || prompts.tokens(&tokenizer))
        .await
        .map_err(|error| error.about("prompt"))?;
    let count = prompts.len() * n;
    let described = Described::new("cmpl", &choice).of_kind("text_completion");
    let pieces = api.answers.ask(Asked {
        choice,
        field: "prompt",
        prompts,
        n,
        sampling,
        stop,
        max_tokens: Some(max_tokens.unwrap_or(USUAL_MAX_TOKENS)),
        seed: options.seed(),
        likelihoods: fields.logprobs,
    })?;
    if !options.stream() {
        let (answers, usage) = gather(pieces, count).await?;
        let choices = answers
            .into_iter()
            .enumerate()
            .map(|(index, answer)| CompletionChoice {
                index,
                logprobs: (fields.logprobs)
                    .map(|_| log_probs(&api.answers.tokenizer, &answer.tokens)),
                text: answer.text,
                finish_reason: Some(answer.finish_reason),
            });
        let response = CompletionResponse {
            described,
            // Some work, where log-probabilities were asked for.
            choices: block_in_place(|| choices.collect()),
            usage: Some(usage),
        };
        return Ok(Json(response).into_response());
    }
    let tokenizer = Arc::clone(&api.answers.tokenizer);
    let chunk = move |choices: Vec<CompletionChoice>, usage| CompletionResponse {
        described: described.clone(),
        choices,
        usage,
    };
    let next = {
        let chunk = chunk.clone();
        move |piece: Piece, finish_reason| {
            let choice = CompletionChoice {
                index: piece.index,
                logprobs: fields
                    .logprobs
                    .map(|_| log_probs(&tokenizer, &piece.tokens)),
                text: piece.text,
                finish_reason,
            };
            chunk(vec![choice], None)
        }
    };
    let counts_usage = options.counts_usage();
    let last = move |usage| counts_usage.then(|| chunk(Vec::new(), Some(usage)));
    Ok(events(pieces, None, next, last))
}

impl CompletionFields {
    fn check(&self, n: usize) -> Result<(), ApiError> {
        if self.echo == Some(true) {
            return Err(ApiError::unsupported("echo", "repeating the prompt"));
        }
        if self
            .suffix
            .as_ref()
            .is_some_and(|suffix| !suffix.is_empty())
        {
            return Err(ApiError::unsupported("suffix", "text behind the answer"));
        }
        if self.best_of.is_some_and(|best_of| best_of != n) {
            return Err(ApiError::unsupported(
                "best_of",
                "writing more answers than are returned",
            ));
        }
        match self.logprobs {
            Some(count) if count > MOST_LIKELY => Err(ApiError::wrong(
                "logprobs",
                format!("{count}, expected at most {MOST_LIKELY}"),
            )),
            _ => Ok(()),
        }
    }
}

/// What is to go on.
enum Prompts {
    Texts(Vec<String>),
    Tokens(Vec<Vec<u32>>),
}

impl Prompts {
    fn read(value: &Value) -> Result<Self, ApiError> {
        if let Value::String(text) = value {
            return Ok(Self::Texts(vec![text.clone()]));
        }
        let tried = [
            Vec::<String>::deserialize(value).map(Self::Texts),
            Vec::<u32>::deserialize(value).map(|tokens| Self::Tokens(vec![tokens])),
            Vec::<Vec<u32>>::deserialize(value).map(Self::Tokens),
        ];
        let read = tried.into_iter().find_map(Result::ok);
        read.filter(|prompts| prompts.len() > 0).ok_or_else(|| {
            let message = "expected a text, its tokens, or a list of either that is not empty";
            ApiError::wrong("prompt", message.to_owned())
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Tokens(tokens) => tokens.len(),
        }
    }

    fn tokens(self, tokenizer: &ChatTokenizer) -> Result<Vec<Vec<u32>>, PretrainedError> {
        match self {
            Self::Texts(texts) => texts
                .iter()
                .map(|text| tokenizer.encode(text, true))
                .collect(),
            Self::Tokens(tokens) => Ok(tokens),
        }
    }
}

/// Those of the tokens that have any.
fn log_probs(tokenizer: &ChatTokenizer, tokens: &[DrawnToken]) -> CompletionLogProbs {
    let mut log_probs = CompletionLogProbs::default();
    for token in tokens {
        let Some(Likelihood {
            log_prob,
            likeliest,
        }) = &token.likelihood
        else {
            continue;
        };
        log_probs.text_offset.push(token.offset);
        log_probs.tokens.push(token_text(tokenizer, token.id));
        log_probs.token_logprobs.push(*log_prob);
        let mut named = BTreeMap::new();
        for &(id, log_prob) in likeliest {
            // Parts of characters look alike: the likeliest of them counts.
            named.entry(token_text(tokenizer, id)).or_insert(log_prob);
        }
        log_probs.top_logprobs.push(named);
    }
    log_probs
}
