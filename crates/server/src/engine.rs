//! The one session that all answers come from.
//!
//! It has a thread of its own: the one that calls [`run`]. Whoever wants an answer sends a [`Job`] and reads events from a
//! channel; whoever drops the channel has left, and the place is free before the next token.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use panacea_methods::Served;
use panacea_model::{Decoder, Generation, ModelError, NewToken, Request, RequestId};
use panacea_objectives::Preference;
use panacea_serving::{Policy, ServingError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use crate::metrics::Metrics;

/// Answers under one preference, which begin together.
pub struct Job {
    /// Who answers, under which preference; without, the base model.
    pub steering: Option<(Arc<Policy>, Preference)>,
    /// The answers.
    pub rows: Vec<Row>,
}

/// One answer.
pub struct Row {
    /// What is to be continued. The job steers it.
    pub request: Request,
    /// Where its tokens go. There are at most as many as the request asks for, so the channel needs no other bound.
    pub events: UnboundedSender<Event>,
    /// Its place in the queue or among those that run.
    pub permit: OwnedSemaphorePermit,
    /// When it was asked for.
    pub since: Instant,
    /// When it is cut.
    pub deadline: Instant,
}

/// What happens to an answer.
#[derive(Debug)]
pub enum Event {
    /// It has one token more, and perhaps its end.
    Token(NewToken),
    /// Its time is over.
    Cut,
    /// Its time is over, and it had not begun.
    Late,
    /// It cannot be written, and the request is why.
    Refused(String),
    /// It cannot be written, and the server is why.
    Failed(String),
}

/// How long a session without work keeps the memory of its longest answers.
const IDLE: Duration = Duration::from_millis(200);

/// An answer on its way.
struct Answer {
    events: UnboundedSender<Event>,
    since: Instant,
    deadline: Instant,
    last_token: Option<Instant>,
    _permit: OwnedSemaphorePermit,
}

/// Answers jobs until their sender is gone. `is_over` cuts the answers that are still being written.
pub fn run(
    decoder: &Decoder,
    places: usize,
    jobs: &Receiver<Job>,
    is_over: &AtomicBool,
    metrics: &Metrics,
) {
    let mut session = Generation::new(decoder, places);
    let mut answers: HashMap<RequestId, Answer> = HashMap::new();
    loop {
        if answers.is_empty() {
            metrics.idle();
            match jobs.recv_timeout(IDLE) {
                Ok(job) => begin(&mut session, &mut answers, job, metrics),
                Err(RecvTimeoutError::Timeout) => {
                    session = Generation::new(decoder, places);
                    match jobs.recv() {
                        Ok(job) => begin(&mut session, &mut answers, job, metrics),
                        Err(_) => return,
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        while let Ok(job) = jobs.try_recv() {
            begin(&mut session, &mut answers, job, metrics);
        }

        let now = Instant::now();
        let is_over = is_over.load(Ordering::Relaxed);
        answers.retain(|&id, answer| {
            let is_late = is_over || answer.deadline <= now;
            if is_late {
                let event = match answer.last_token {
                    Some(_) => Event::Cut,
                    None => Event::Late,
                };
                answer.events.send(event).ok();
            }
            let is_left = is_late || answer.events.is_closed();
            if is_left {
                session.cancel(id);
            }
            !is_left
        });
        metrics.occupied(session.waiting(), session.running());

        match session.step() {
            Ok(tokens) => {
                metrics.generated(tokens.len());
                for token in tokens {
                    pass_on(&mut answers, token, metrics);
                }
            }
            Err(error) => {
                // The session cannot go on, and the next one begins with a new cache.
                for (_, answer) in answers.drain() {
                    answer.events.send(Event::Failed(error.to_string())).ok();
                }
                session = Generation::new(decoder, places);
            }
        }
    }
}

/// Adds the answers of a job to the session.
fn begin(
    session: &mut Generation<'_>,
    answers: &mut HashMap<RequestId, Answer>,
    job: Job,
    metrics: &Metrics,
) {
    let steering = job.steering.map(|(policy, preference)| {
        policy
            .serve(&preference)
            .map(|Served::Adapter(steering)| steering)
    });
    let steering = steering.transpose();
    for row in job.rows {
        let Row {
            mut request,
            events,
            permit,
            since,
            deadline,
        } = row;
        let prompt = request.prompt.len();
        let pushed = match &steering {
            Ok(steering) => {
                request.steering.clone_from(steering);
                session.push(request).map_err(Refusal::Model)
            }
            Err(error) => Err(Refusal::Serving(error)),
        };
        match pushed {
            Ok(id) => {
                metrics.read(prompt);
                answers.insert(
                    id,
                    Answer {
                        events,
                        since,
                        deadline,
                        last_token: None,
                        _permit: permit,
                    },
                );
            }
            Err(refusal) => {
                let reason = match refusal {
                    Refusal::Model(error) => error.to_string(),
                    Refusal::Serving(error) => error.to_string(),
                };
                events.send(Event::Refused(reason)).ok();
            }
        }
    }
}

enum Refusal<'a> {
    Model(ModelError),
    Serving(&'a ServingError),
}

/// Sends a token to whom it belongs.
fn pass_on(answers: &mut HashMap<RequestId, Answer>, token: NewToken, metrics: &Metrics) {
    let id = token.request;
    let Some(answer) = answers.get_mut(&id) else {
        return;
    };
    let now = Instant::now();
    match answer.last_token.replace(now) {
        None => metrics.first_token(now - answer.since),
        Some(last) => metrics.next_token(now - last),
    }
    let is_last = token.end.is_some();
    // Who has left is found before the next step.
    answer.events.send(Event::Token(token)).ok();
    if is_last {
        answers.remove(&id);
    }
}
