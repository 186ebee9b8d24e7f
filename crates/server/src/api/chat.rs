//! `/v1/chat/completions`.

use std::sync::{Arc, LazyLock};

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use panacea_model::Likelihood;
use panacea_pretrained::{ChatTokenizer, JsonObject};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::block_in_place;
use utoipa::ToSchema;

use super::messages::{ChatMessage, Conversation, check_tools};
use super::options::{Options, WithoutEffect};
use super::shared::{Described, Usage, events, gather};
use super::{Api, aside, body};
use crate::answers::{Asked, DrawnToken, FinishReason, Piece};
use crate::api_error::{ApiError, ErrorResponse};

/// The most likely tokens that are named beside each one.
const MOST_LIKELY: usize = 20;

/// A request's own fields.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChatFields {
    /// The conversation, as the model's chat template takes it.
    messages: Vec<ChatMessage>,
    /// Whether each token comes with its log-probability.
    logprobs: Option<bool>,
    /// How many of the likeliest tokens are named beside each one.
    #[schema(minimum = 0, maximum = 20)]
    top_logprobs: Option<usize>,
    /// Must be text.
    response_format: Option<Value>,
    /// What the chat template is told of tools. Calls are written as text, so that `tool_choice` must be `none`.
    tools: Option<Vec<Value>>,
    /// Must be `none` or `auto`.
    tool_choice: Option<Value>,
    /// Must be text.
    modalities: Option<Vec<String>>,
}

/// A request, as a whole.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it describes the body, whose parts are read one by one"
)]
pub struct ChatRequest {
    #[serde(flatten)]
    chat: ChatFields,
    #[serde(flatten)]
    options: Options,
    #[serde(flatten)]
    without_effect: WithoutEffect,
}

/// The fields that a request may have.
static FIELDS: LazyLock<Vec<String>> = LazyLock::new(body::fields::<ChatRequest>);

/// A whole answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatResponse {
    #[serde(flatten)]
    described: Described,
    choices: Vec<ChatChoice>,
    usage: Usage,
}

/// One of `n` answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatChoice {
    index: usize,
    message: Answer,
    logprobs: Option<ChatLogProbs>,
    finish_reason: FinishReason,
}

/// What the model says.
#[derive(Debug, Serialize, ToSchema)]
pub struct Answer {
    role: &'static str,
    content: String,
    /// Always nothing.
    refusal: Option<String>,
}

/// A piece of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChatChunk {
    #[serde(flatten)]
    described: Described,
    choices: Vec<ChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

/// What is new in one of `n` answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChunkChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<ChatLogProbs>,
    finish_reason: Option<FinishReason>,
}

/// What is new.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// The log-probabilities of an answer's tokens, under the model itself: no temperature, no filter.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ChatLogProbs {
    content: Vec<ChatLogProb>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ChatLogProb {
    #[serde(flatten)]
    token: TokenLogProb,
    top_logprobs: Vec<TokenLogProb>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TokenLogProb {
    token: String,
    logprob: f64,
    /// Nothing where the token is a part of a character.
    bytes: Option<Vec<u8>>,
}

/// Answers a conversation.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    request_body = ChatRequest,
    params(("X-Preference" = Option<String>, Header, description = "λ, as in help=3,brevity=7")),
    responses(
        (status = 200, description = "The answer; with `stream`, its pieces", content(
            (ChatResponse = "application/json"),
            (ChatChunk = "text/event-stream"),
        )),
        (status = "4XX", description = "What is wrong with the request", body = ErrorResponse),
        (status = "5XX", description = "Why it cannot be answered now", body = ErrorResponse),
    )
)]
pub async fn complete(State(api): State<Arc<Api>>, request: Request) -> Result<Response, ApiError> {
    let (headers, body) = body::read(request, api.answers.limits.body, &api.bodies).await?;
    body::check_fields(&body.bytes, &FIELDS)?;
    let options: Options = body::parse(&body.bytes)?;
    let fields: ChatFields = body::parse(&body.bytes)?;
    options.check()?;
    fields.check()?;
    let choice = options.choice(&api.catalogue, &headers)?;
    let (n, max_tokens) = (options.n()?, options.max_tokens()?);
    let (sampling, stop) = (options.sampling()?, options.stop()?);
    let likelihoods = fields.likelihoods()?;
    api.answers.check_count(n, "n")?;
    let conversation = Conversation::of(&fields.messages, &api.answers.tokenizer)?;
    let variables = fields.variables();
    let tokenizer = Arc::clone(&api.answers.tokenizer);
    let prompt = aside(&api, body, move || {
        conversation.tokens(&tokenizer, &variables)
    });
    let prompt = prompt.await?;
    let described = Described::new("chatcmpl", &choice);
    let pieces = api.answers.ask(Asked {
        choice,
        field: "messages",
        prompts: vec![prompt],
        n,
        sampling,
        stop,
        max_tokens,
        seed: options.seed(),
        likelihoods,
    })?;
    if !options.stream() {
        let (answers, usage) = gather(pieces, n).await?;
        let choices = answers
            .into_iter()
            .enumerate()
            .map(|(index, answer)| ChatChoice {
                index,
                logprobs: likelihoods.map(|_| log_probs(&api.answers.tokenizer, &answer.tokens)),
                message: Answer {
                    role: "assistant",
                    content: answer.text,
                    refusal: None,
                },
                finish_reason: answer.finish_reason,
            });
        let response = ChatResponse {
            described: described.of_kind("chat.completion"),
            // Some work, where log-probabilities were asked for.
            choices: block_in_place(|| choices.collect()),
            usage,
        };
        return Ok(Json(response).into_response());
    }
    let described = described.of_kind("chat.completion.chunk");
    let tokenizer = Arc::clone(&api.answers.tokenizer);
    let chunk = move |choices: Vec<ChunkChoice>, usage| ChatChunk {
        described: described.clone(),
        choices,
        usage,
    };
    let first = (0..n).map(|index| ChunkChoice {
        index,
        delta: Delta {
            role: Some("assistant"),
            content: Some(String::new()),
        },
        logprobs: None,
        finish_reason: None,
    });
    let first = chunk(first.collect(), None);
    let counts_usage = options.counts_usage();
    let next = {
        let chunk = chunk.clone();
        move |piece: Piece, finish_reason| {
            let choice = ChunkChoice {
                index: piece.index,
                logprobs: likelihoods.map(|_| log_probs(&tokenizer, &piece.tokens)),
                delta: Delta {
                    role: None,
                    content: (!piece.text.is_empty()).then_some(piece.text),
                },
                finish_reason,
            };
            chunk(vec![choice], None)
        }
    };
    let last = move |usage| counts_usage.then(|| chunk(Vec::new(), Some(usage)));
    Ok(events(pieces, Some(first), next, last))
}

impl ChatFields {
    fn check(&self) -> Result<(), ApiError> {
        if !self.tools().is_empty() {
            // Whoever offers tools and lets the model choose expects calls apart from the text.
            if self
                .tool_choice
                .as_ref()
                .is_none_or(|choice| choice != "none")
            {
                let what = "a call that comes apart from the text (with tool_choice = \"none\" the model is told of the tools, and what it \
                            writes is text)";
                return Err(ApiError::unsupported("tools", what));
            }
            check_tools(self.tools())?;
        }
        let choices: [Value; 2] = ["none".into(), "auto".into()];
        if self
            .tool_choice
            .as_ref()
            .is_some_and(|choice| !choices.contains(choice))
        {
            return Err(ApiError::unsupported("tool_choice", "calling tools"));
        }
        let is_text = |format: &Value| format.get("type").is_some_and(|kind| kind == "text");
        let format = self.response_format.as_ref();
        if format.is_some_and(|format| !is_text(format)) {
            return Err(ApiError::unsupported(
                "response_format",
                "a format other than {\"type\": \"text\"}",
            ));
        }
        let others = |modality: &String| modality != "text";
        if self.modalities.iter().flatten().any(others) {
            return Err(ApiError::unsupported(
                "modalities",
                "a modality other than text",
            ));
        }
        Ok(())
    }

    fn tools(&self) -> &[Value] {
        self.tools.as_deref().unwrap_or_default()
    }

    /// What the chat template sees beside the messages.
    fn variables(&self) -> JsonObject {
        let tools = self.tools();
        let tools = (!tools.is_empty()).then(|| ("tools".to_owned(), tools.into()));
        tools.into_iter().collect()
    }

    fn likelihoods(&self) -> Result<Option<usize>, ApiError> {
        match (self.logprobs.unwrap_or(false), self.top_logprobs) {
            (_, Some(count)) if count > MOST_LIKELY => Err(ApiError::wrong(
                "top_logprobs",
                format!("{count}, expected at most {MOST_LIKELY}"),
            )),
            (false, Some(1..)) => Err(ApiError::wrong(
                "top_logprobs",
                "it takes logprobs = true".to_owned(),
            )),
            (false, _) => Ok(None),
            (true, count) => Ok(Some(count.unwrap_or(0))),
        }
    }
}

/// Those of the tokens that have any.
fn log_probs(tokenizer: &ChatTokenizer, tokens: &[DrawnToken]) -> ChatLogProbs {
    let named = |id: u32, logprob: f64| {
        let token = token_text(tokenizer, id);
        TokenLogProb {
            bytes: (!token.contains(char::REPLACEMENT_CHARACTER))
                .then(|| token.clone().into_bytes()),
            token,
            logprob,
        }
    };
    let content = tokens.iter().filter_map(|token| {
        let Likelihood {
            log_prob,
            likeliest,
        } = token.likelihood.as_ref()?;
        Some(ChatLogProb {
            token: named(token.id, *log_prob),
            top_logprobs: likeliest
                .iter()
                .map(|&(id, log_prob)| named(id, log_prob))
                .collect(),
        })
    });
    ChatLogProbs {
        content: content.collect(),
    }
}

/// A token as text, special ones by name. Alone, some tokenizers would strip the space that it begins with, so it is read
/// behind itself.
pub fn token_text(tokenizer: &ChatTokenizer, id: u32) -> String {
    let decode = |ids: &[u32]| tokenizer.decode(ids, false).unwrap_or_default();
    let (once, twice) = (decode(&[id]), decode(&[id, id]));
    let behind = twice.strip_prefix(&once);
    behind.map_or(once.clone(), str::to_owned)
}
