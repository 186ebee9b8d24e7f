//! From a checked request to the pieces of text that come back.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, SelectAll};
use panacea_model::{Decoder, Likelihood, ModelError, NewToken, Request, Sampling, StopReason};
use panacea_pretrained::{ChatTokenizer, TextStream};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use crate::api_error::ApiError;
use crate::catalogue::Choice;
use crate::engine::{Computation, Event, Job, Row, Work};
use crate::metrics::Metrics;
use crate::stops::Stops;

/// The way from what is asked to its answers.
pub struct Answers {
    pub tokenizer: Arc<ChatTokenizer>,
    /// Tokens of a prompt and its answer, at most.
    pub context: usize,
    /// Tokens that the model knows.
    pub vocabulary: usize,
    pub limits: Limits,
    /// One for each answer that is being written or may wait.
    pub seats: Arc<Semaphore>,
    /// The way to the session.
    pub work: Sender<Work>,
    pub metrics: Arc<Metrics>,
}

/// What is too much.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Answers that are written together.
    pub places: usize,
    /// Answers that wait for a place.
    pub queue: usize,
    /// Bytes of a request's body.
    pub body: usize,
    /// From a request to the end of its answer.
    pub time: Duration,
}

/// What is to be answered, every value in its range.
pub struct Asked {
    /// Who answers.
    pub choice: Choice,
    /// The field that the prompts come from.
    pub field: &'static str,
    /// The tokens of each prompt.
    pub prompts: Vec<Vec<u32>>,
    /// Answers to each prompt.
    pub n: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Strings that end an answer.
    pub stop: Vec<String>,
    /// Tokens of an answer, at most; none for as many as there is room for.
    pub max_tokens: Option<usize>,
    /// The seed of the first answer; the others count up from it.
    pub seed: u64,
    /// How many likely tokens are named beside each one.
    pub likelihoods: Option<usize>,
}

/// Answers on their way.
pub struct Pieces {
    /// What comes next, of any of the answers.
    pub stream: SelectAll<BoxStream<'static, Piece>>,
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
}

/// What an answer got.
#[derive(Debug)]
pub struct Piece {
    /// Which answer: the `n` of the first prompt, then those of the next.
    pub index: usize,
    /// Text behind what was there.
    pub text: String,
    /// The tokens that were drawn; text of theirs may still be kept back.
    pub tokens: Vec<DrawnToken>,
    /// The token that ended its turn, where the model drew one; it is none of its text.
    pub stop: Option<u32>,
    /// Tokens of its prompt that were known and not read again. With the first piece of the first answer to a prompt; 0
    /// otherwise.
    pub cached: usize,
    /// Its end.
    pub end: Option<Result<FinishReason, ApiError>>,
}

/// A token of an answer.
#[derive(Debug)]
pub struct DrawnToken {
    pub id: u32,
    pub likelihood: Option<Likelihood>,
    /// Where its text begins in the answer, in characters.
    pub offset: usize,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended its turn, or wrote a stop string.
    Stop,
    /// `max_tokens`, the context, the server's time limit or its end.
    Length,
}

impl Answers {
    /// Whether so many answers, which `field` asks for, could ever be written at once.
    pub fn check_count(&self, count: usize, field: &str) -> Result<(), ApiError> {
        let Limits { places, queue, .. } = self.limits;
        if count <= places + queue {
            return Ok(());
        }
        Err(ApiError::wrong(
            field,
            format!(
                "{count} answers at once, but {places} are written together and {queue} wait, at most"
            ),
        ))
    }

    /// Hands what is asked to the session; [`check_count`](Self::check_count) has passed it.
    pub fn ask(&self, asked: Asked) -> Result<Pieces, ApiError> {
        let count = asked.prompts.len() * asked.n;
        asked.sampling.check().map_err(|error| match error {
            ModelError::Sampling {
                name,
                value,
                expected,
            } => ApiError::wrong(name, format!("{value}, expected {expected}")),
            error => ApiError::bad(error.to_string()),
        })?;
        let rooms = asked.prompts.iter().map(|prompt| self.room(prompt, &asked));
        let rooms: Vec<usize> = rooms.collect::<Result<_, _>>()?;
        let seats = Arc::clone(&self.seats).try_acquire_many_owned(count as u32);
        let mut seats = seats.map_err(|_| ApiError::busy(self.metrics.retry_after()))?;

        let Choice { id, steering } = asked.choice;
        let preference = steering.as_ref().map(|(_, preference)| preference);
        self.metrics.asked(&id, preference, count);
        let since = Instant::now();
        let stop: Arc<[String]> = asked.stop.into();
        let prompt_tokens = asked.prompts.iter().map(Vec::len).sum();
        let (mut rows, mut streams) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (prompt, room) in asked.prompts.into_iter().zip(rooms) {
            for answer in 0..asked.n {
                let index = rows.len();
                let (sender, events) = unbounded_channel();
                rows.push(Row {
                    request: Request {
                        prompt: prompt.clone(),
                        steering: None,
                        sampling: asked.sampling.clone(),
                        stop: self.tokenizer.stop_ids().to_vec(),
                        max_new_tokens: room,
                        seed: asked.seed.wrapping_add(index as u64),
                        likelihoods: asked.likelihoods,
                    },
                    events: sender,
                    permit: seats.split(1).expect("there is one for each row"),
                    since,
                    deadline: since + self.limits.time,
                });
                let text = AnswerText {
                    index,
                    tokenizer: Arc::clone(&self.tokenizer),
                    stream: TextStream::new(),
                    stops: Stops::new(Arc::clone(&stop)),
                    characters: 0,
                    tells_cached: answer == 0,
                    since,
                    metrics: Arc::clone(&self.metrics),
                };
                streams.push(pieces(text, events));
            }
        }
        let job = Job {
            steering: steering.map(|(run, preference)| (run.policy, preference)),
            rows,
        };
        let sent = self.work.send(Work::Answers(job));
        sent.map_err(|_| ApiError::stopped())?;
        Ok(Pieces {
            stream: stream::select_all(streams),
            prompt_tokens,
        })
    }

    /// Computes with the model between two steps of the session. Whoever drops the future has left, and what has not begun is
    /// not computed.
    pub async fn compute<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Decoder) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let (sender, receiver) = oneshot::channel();
        let computation = Box::new(Waited { run, sender });
        let sent = self.work.send(Work::Computation(computation));
        sent.map_err(|_| ApiError::stopped())?;
        receiver.await.map_err(|_| ApiError::stopped())
    }

    /// How many tokens may follow a prompt.
    fn room(&self, prompt: &[u32], asked: &Asked) -> Result<usize, ApiError> {
        if prompt.is_empty() {
            return Err(ApiError::wrong(asked.field, "it has no token".to_owned()));
        }
        if let Some(id) = (prompt.iter()).find(|&&id| id as usize >= self.vocabulary) {
            let message = format!(
                "token {id}, but the model knows {} of them",
                self.vocabulary
            );
            return Err(ApiError::wrong(asked.field, message));
        }
        let room = self.context.saturating_sub(prompt.len());
        let wanted = asked.max_tokens.unwrap_or(room.max(1));
        if wanted > room {
            return Err(ApiError::too_long(format!(
                "the prompt has {} tokens and the answer may have {wanted}, but both together may have {}",
                prompt.len(),
                self.context
            ))
            .about(asked.field));
        }
        Ok(wanted)
    }
}

/// A computation, and who waits for it.
struct Waited<F, T> {
    run: F,
    sender: oneshot::Sender<T>,
}

impl<T: Send, F: FnOnce(&Decoder) -> T + Send> Computation for Waited<F, T> {
    fn is_left(&self) -> bool {
        self.sender.is_closed()
    }

    fn run(self: Box<Self>, decoder: &Decoder) {
        // Who has left meanwhile does not read it.
        self.sender.send((self.run)(decoder)).ok();
    }
}

/// The text of one answer while it comes.
struct AnswerText {
    index: usize,
    tokenizer: Arc<ChatTokenizer>,
    stream: TextStream,
    stops: Stops,
    /// Of the text so far, stop strings included.
    characters: usize,
    /// Whether its next piece says how much of its prompt was known.
    tells_cached: bool,
    since: Instant,
    metrics: Arc<Metrics>,
}

/// The pieces of one answer. When the last one has come, the channel is dropped, which gives the place back.
fn pieces(text: AnswerText, events: UnboundedReceiver<Event>) -> BoxStream<'static, Piece> {
    let state = Some((text, events));
    let next = |state: Option<(AnswerText, UnboundedReceiver<Event>)>| async {
        let (mut text, mut events) = state?;
        let event = events.recv().await;
        let piece = text.take(event);
        let state = piece.end.is_none().then_some((text, events));
        Some((piece, state))
    };
    stream::unfold(state, next).boxed()
}

impl AnswerText {
    /// What an event adds; none at all means that the session has stopped.
    fn take(&mut self, event: Option<Event>) -> Piece {
        let mut piece = Piece {
            index: self.index,
            text: String::new(),
            tokens: Vec::new(),
            stop: None,
            cached: 0,
            end: None,
        };
        let end = match event {
            Some(Event::Token(token)) => self.read(token, &mut piece),
            Some(Event::Late) => Err(ApiError::late(self.metrics.retry_after())),
            Some(Event::Cut) => self.close(&mut piece, FinishReason::Length).map(Some),
            Some(Event::Refused(reason)) => Err(ApiError::bad(reason)),
            Some(Event::Failed(reason)) => Err(ApiError::failed(reason)),
            None => Err(ApiError::stopped()),
        };
        if let Ok(Some(_)) = end {
            self.metrics.answered(self.since.elapsed());
        }
        piece.end = end.transpose();
        piece
    }

    fn read(
        &mut self,
        token: NewToken,
        piece: &mut Piece,
    ) -> Result<Option<FinishReason>, ApiError> {
        if std::mem::take(&mut self.tells_cached) {
            piece.cached = token.cached;
        }
        if let Some(StopReason::Stop(id)) = token.end {
            piece.stop = Some(id);
            return self.close(piece, FinishReason::Stop).map(Some);
        }
        let text = self.stream.push(&self.tokenizer, token.token)?;
        piece.tokens.push(DrawnToken {
            id: token.token,
            likelihood: token.likelihood,
            offset: self.characters,
        });
        self.characters += text.chars().count();
        let (text, is_stopped) = self.stops.push(&text);
        piece.text = text;
        match (is_stopped, token.end) {
            (true, _) => Ok(Some(FinishReason::Stop)),
            (false, Some(_)) => self.close(piece, FinishReason::Length).map(Some),
            (false, None) => Ok(None),
        }
    }

    /// Adds what was kept back.
    fn close(&mut self, piece: &mut Piece, reason: FinishReason) -> Result<FinishReason, ApiError> {
        let rest = std::mem::take(&mut self.stream).finish(&self.tokenizer)?;
        let (text, is_stopped) = self.stops.push(&rest);
        piece.text += &text;
        if is_stopped {
            return Ok(FinishReason::Stop);
        }
        piece.text += &self.stops.finish();
        Ok(reason)
    }
}
