//! The one session that all answers come from.
//!
//! It has a thread of its own: the one that calls [`run`]. Whoever wants an answer sends a [`Job`] and reads events from a
//! channel; whoever drops the channel has left, and the place is free before the next token.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use panacea_methods::Served;
use panacea_model::{Decoder, Generation, NewToken, Request, RequestId, Steering};
use panacea_objectives::Preference;
use panacea_serving::{Policy, ServingError};
use panacea_svd_lora::Adapters;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use crate::metrics::Metrics;

/// What the session's thread is asked for.
pub enum Work {
    /// Answers.
    Answers(Job),
    /// Something else that computes with the model, between two steps of the session; others wait meanwhile, so that it should
    /// not take long.
    Computation(Box<dyn Computation>),
}

/// What computes with the model.
pub trait Computation: Send {
    /// Whether nobody waits for it any more.
    fn is_left(&self) -> bool;

    /// Does it, and says what came of it to who waits.
    fn run(self: Box<Self>, decoder: &Decoder);
}

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

/// How long a session without work keeps what it has read, and the memory of its longest answers: about as long as somebody
/// who reads an answer takes for the next question.
const IDLE: Duration = Duration::from_secs(300);

/// An answer that has no place yet.
struct Waiting {
    steering: Option<Steerer>,
    row: Row,
}

/// Who answers, under which preference.
type Steerer = (Arc<Policy>, Preference);

/// What was not begun yet.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    computations: VecDeque<Box<dyn Computation>>,
}

impl Queue {
    fn take(&mut self, work: Work) {
        match work {
            Work::Answers(Job { steering, rows }) => {
                self.waiting.extend(rows.into_iter().map(|row| Waiting {
                    steering: steering.clone(),
                    row,
                }));
            }
            Work::Computation(computation) => self.computations.push_back(computation),
        }
    }
}

/// An answer on its way.
struct Answer {
    events: UnboundedSender<Event>,
    since: Instant,
    deadline: Instant,
    last_token: Option<Instant>,
    _permit: OwnedSemaphorePermit,
}

/// Does work until its sender is gone. `is_over` cuts the answers that are still being written.
pub fn run(
    decoder: &Decoder,
    places: usize,
    work: &Receiver<Work>,
    is_over: &AtomicBool,
    metrics: &Metrics,
) {
    let mut session = Generation::new(decoder, places);
    let mut answers: HashMap<RequestId, Answer> = HashMap::new();
    let mut served = ServedNow::default();
    let mut queue = Queue::default();
    loop {
        if answers.is_empty() && queue.waiting.is_empty() && queue.computations.is_empty() {
            metrics.idle();
            match work.recv_timeout(IDLE) {
                Ok(work) => queue.take(work),
                Err(RecvTimeoutError::Timeout) => {
                    session = Generation::new(decoder, places);
                    match work.recv() {
                        Ok(work) => queue.take(work),
                        Err(_) => return,
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        while let Ok(work) = work.try_recv() {
            queue.take(work);
        }
        let Queue {
            waiting,
            computations,
        } = &mut queue;

        let now = Instant::now();
        let is_over = is_over.load(Ordering::Relaxed);
        computations.retain(|computation| !(is_over || computation.is_left()));
        if let Some(computation) = computations.pop_front() {
            computation.run(decoder);
        }
        waiting.retain(|Waiting { row, .. }| {
            let is_late = row.deadline <= now;
            if is_late && !is_over {
                row.events.send(Event::Late).ok();
            }
            !(is_late || is_over || row.events.is_closed())
        });
        answers.retain(|&id, answer| {
            let is_late = is_over || answer.deadline <= now;
            let told = match answer.last_token {
                Some(_) => Some(Event::Cut),
                // Its prompt is still being read.
                None => (!is_over).then_some(Event::Late),
            };
            if let Some(told) = told.filter(|_| is_late) {
                answer.events.send(told).ok();
            }
            let is_left = is_late || answer.events.is_closed();
            if is_left {
                session.cancel(id);
            }
            !is_left
        });
        while answers.len() < places
            && let Some(Waiting { steering, row }) = waiting.pop_front()
        {
            begin(
                &mut session,
                &mut answers,
                &mut served,
                steering,
                row,
                metrics,
            );
        }
        metrics.occupied(waiting.len(), answers.len());

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

/// Gives an answer a place in the session.
fn begin(
    session: &mut Generation<'_>,
    answers: &mut HashMap<RequestId, Answer>,
    served: &mut ServedNow,
    steering: Option<Steerer>,
    row: Row,
    metrics: &Metrics,
) {
    let Row {
        mut request,
        events,
        permit,
        since,
        deadline,
    } = row;
    let prompt = request.prompt.len();
    let steering = steering.map(|(policy, preference)| served.steering(&policy, &preference));
    let pushed = match steering.transpose() {
        Ok(steering) => {
            request.steering = steering;
            session.push(request).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    match pushed {
        Ok(id) => {
            metrics.read(prompt);
            let answer = Answer {
                events,
                since,
                deadline,
                last_token: None,
                _permit: permit,
            };
            answers.insert(id, answer);
        }
        Err(reason) => {
            events.send(Event::Refused(reason)).ok();
        }
    }
}

/// Adapters that were mixed for a preference, as some methods do, and answer at the moment: as long as one is in use, it is not
/// mixed again, and those who have it share what is read and computed.
#[derive(Default)]
struct ServedNow(Vec<Living>);

/// What somebody is answered with.
struct Living {
    policy: Arc<Policy>,
    asked: Preference,
    adapters: Weak<Adapters>,
    /// The λ at which the adapters answer.
    preference: Vec<f64>,
}

impl ServedNow {
    fn steering(
        &mut self,
        policy: &Arc<Policy>,
        asked: &Preference,
    ) -> Result<Steering, ServingError> {
        self.0.retain(|living| living.adapters.strong_count() > 0);
        let is_it =
            |living: &&Living| Arc::ptr_eq(&living.policy, policy) && living.asked == *asked;
        if let Some(living) = self.0.iter().find(is_it)
            && let Some(adapters) = living.adapters.upgrade()
        {
            let preference = living.preference.clone();
            return Ok(Steering {
                adapters,
                preference,
            });
        }
        let Served::Adapter(steering) = policy.serve(asked)?;
        // One that the policy has as well is there for every preference, and at once.
        let is_mixed = Arc::strong_count(&steering.adapters) == 1;
        if is_mixed {
            self.0.push(Living {
                policy: Arc::clone(policy),
                asked: asked.clone(),
                adapters: Arc::downgrade(&steering.adapters),
                preference: steering.preference.clone(),
            });
        }
        Ok(steering)
    }
}

/// Sends a token to whom it belongs.
fn pass_on(answers: &mut HashMap<RequestId, Answer>, token: NewToken, metrics: &Metrics) {
    let id = token.request;
    let Some(answer) = answers.get_mut(&id) else {
        return;
    };
    let now = Instant::now();
    match answer.last_token.replace(now) {
        None => {
            metrics.first_token(now - answer.since);
            metrics.cached(token.cached);
        }
        Some(last) => metrics.next_token(now - last),
    }
    let is_last = token.end.is_some();
    // Who has left is found before the next step.
    answer.events.send(Event::Token(token)).ok();
    if is_last {
        answers.remove(&id);
    }
}
