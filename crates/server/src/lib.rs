//! # A server that is told a preference with every request
//!
//! OpenAI's API on one model: its base, and the runs that steer it. A request says λ in its body, in a header or behind the
//! model's name, and everybody's answers are written in one batch, each under its own λ.
//!
//! ```text
//! connections ──► api ──► answers ── jobs ──► engine       one session, on the thread that calls `run`
//!                  │         ◄────── tokens ──────┘
//!                  └─ catalogue    which model, which λ
//! ```
//!
//! ```no_run
//! # use burn_tensor::Device;
//! # use panacea_model::Decoder;
//! # use panacea_pretrained::Pretrained;
//! use panacea_server::{Catalogue, Server, Settings};
//!
//! let pretrained = Pretrained::open_language_model("models/smollm2-135m-instruct".as_ref())?;
//! let decoder = Decoder::load(&pretrained, &Device::flex())?;
//! let server = Server::bind(
//!     Catalogue::new("smollm2-135m-instruct"),
//!     pretrained.tokenizer()?,
//!     Settings::default(),
//! )?;
//! println!("http://{}", server.address());
//! server.run(&decoder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answers;
mod api;
mod api_error;
mod catalogue;
mod connections;
mod engine;
mod error;
mod front;
mod interviews;
mod metrics;
mod stops;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use panacea_model::Decoder;
use panacea_pretrained::ChatTokenizer;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};

use answers::{Answers, Limits};
use api::{ALL_BODIES, Api, Guard};
pub use catalogue::{Catalogue, Listed, ServedRun};
pub use error::ServerError;
pub use front::{MeasuredFront, MeasuredPoint};
pub use interviews::Interviews;
use metrics::Metrics;

/// More answers than this do not wait, whatever the settings say.
const MOST_ANSWERS: usize = 1_000_000;
/// No answer takes longer, whatever the settings say: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens; port 0 is any that is free.
    pub address: SocketAddr,
    /// What clients have to know, where they have to.
    pub api_key: Option<String>,
    /// Whether everybody may ask a server that other machines reach.
    pub without_api_key: bool,
    /// Names by which a server without a key may be asked for, beside those of its own machine.
    pub allowed_hosts: Vec<String>,
    /// Answers that are written together.
    pub places: usize,
    /// Answers that wait for a place; more are refused, with the time after which to try again.
    pub queue: usize,
    /// Tokens of a prompt and its answer, at most, where that is less than the model's own context. Keys and values of the
    /// longest take room in every place.
    pub context: Option<usize>,
    /// Bytes of a request's body, at most.
    pub body_limit: usize,
    /// From a request to the end of its answer, at most: it is cut there.
    pub time_limit: Duration,
    /// How long running answers may go on when the server is to end.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            api_key: None,
            without_api_key: false,
            allowed_hosts: Vec::new(),
            places: panacea_model::Generation::USUAL_LIMIT,
            queue: 256,
            context: None,
            body_limit: 4 << 20,
            time_limit: Duration::from_secs(600),
            grace: Duration::from_secs(30),
        }
    }
}

/// A server that has an address and answers nobody yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    runtime: Runtime,
    catalogue: Catalogue,
    tokenizer: ChatTokenizer,
    guard: Guard,
    settings: Settings,
    end: watch::Sender<usize>,
}

/// Ends a server, as a signal does.
#[derive(Debug, Clone)]
pub struct EndServer(watch::Sender<usize>);

impl EndServer {
    /// Lets running answers finish, or cuts them where that takes too long; called again, it cuts them at once.
    pub fn end(&self) {
        once_more(&self.0);
    }
}

/// Counts one more wish for the end.
fn once_more(end: &watch::Sender<usize>) {
    end.send_modify(|wishes| *wishes += 1);
}

/// The key in a file.
///
/// # Errors
/// Where the file does not hold one line.
pub fn read_api_key(path: &Path) -> Result<String, ServerError> {
    let wrong = |problem: String| ServerError::Key {
        path: path.to_owned(),
        problem,
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let key = text.trim();
    if key.is_empty() {
        return Err(wrong("the file is empty".to_owned()));
    }
    if key.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(wrong("the key has space in it".to_owned()));
    }
    Ok(key.to_owned())
}

impl Server {
    /// Takes the address. Whoever connects from now on waits until [`run`](Self::run).
    ///
    /// # Errors
    /// Where the address is taken, or reachable from other machines while nobody said that this is meant.
    pub fn bind(
        catalogue: Catalogue,
        tokenizer: &ChatTokenizer,
        settings: Settings,
    ) -> Result<Self, ServerError> {
        let address = settings.address;
        let guard = match &settings.api_key {
            Some(key) => Guard::Key(key.clone()),
            None if address.ip().is_loopback() => Guard::Loopback(settings.allowed_hosts.clone()),
            None if settings.without_api_key => Guard::Open,
            None => return Err(ServerError::Open { address }),
        };
        let bind = |source| ServerError::Bind { address, source };
        let listener = TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let runtime = Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|source| ServerError::System {
            action: "start threads",
            source,
        })?;
        Ok(Self {
            address: listener.local_addr().map_err(bind)?,
            listener,
            runtime,
            catalogue,
            tokenizer: tokenizer.clone(),
            guard,
            settings,
            end: watch::Sender::new(0),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What ends it, for those who run it on a thread of theirs.
    pub fn handle(&self) -> EndServer {
        EndServer(self.end.clone())
    }

    /// Answers until Ctrl-C, SIGTERM or [`EndServer::end`]. Answers are written on this thread, which has to be the one that
    /// computes where a program has named one.
    ///
    /// # Errors
    /// Where the system does not do what a server needs.
    ///
    /// # Panics
    /// If the network does.
    pub fn run(self, decoder: &Decoder) -> Result<(), ServerError> {
        let Settings {
            places,
            queue,
            context,
            body_limit,
            time_limit,
            grace,
            ..
        } = self.settings;
        let (places, queue) = (places.clamp(1, MOST_ANSWERS), queue.min(MOST_ANSWERS));
        let time_limit = time_limit.min(LONGEST);
        connections::raise_limit();
        let own = decoder.room_after(&[]);
        let metrics = Arc::new(Metrics::new(places, queue));
        let is_over = Arc::new(AtomicBool::new(false));
        let (work, queued) = mpsc::channel();
        let api = Api {
            catalogue: self.catalogue,
            answers: Answers {
                tokenizer: Arc::new(self.tokenizer),
                context: context.map_or(own, |context| context.min(own)),
                vocabulary: decoder.config().vocab_size,
                limits: Limits {
                    places,
                    queue,
                    body: body_limit,
                    time: time_limit,
                },
                seats: Arc::new(Semaphore::new(places + queue)),
                work,
                metrics: Arc::clone(&metrics),
            },
            guard: self.guard,
            bodies: Arc::new(Semaphore::new(ALL_BODIES)),
            // The other cores write answers.
            turns: Arc::new(Semaphore::new(2)),
            started: api::now(),
        };
        let router = api::router(Arc::new(api));

        let (listener, runtime) = (self.listener, self.runtime);
        let (end, cut) = (self.end.clone(), Arc::clone(&is_over));
        let network = thread::spawn(move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let cut = || cut.store(true, Ordering::Relaxed);
                tokio::select! {
                    () = connections::serve(listener, router, end.subscribe(), grace, cut) => Ok(()),
                    error = connections::watch_signals(|| once_more(&end)) => error,
                }
            });
            // Connections that are still open end with the runtime, and with them the last sender of jobs.
            runtime.shutdown_background();
            served
        });
        let ended = Ended(self.end);
        engine::run(decoder, places, &queued, &is_over, &metrics);
        drop(ended);
        let served = network.join().expect("the network does not panic");
        served.map_err(|source| ServerError::System {
            action: "use the network",
            source,
        })
    }
}

/// Tells the network when nobody writes answers any more, also when that is by a panic.
struct Ended(watch::Sender<usize>);

impl Drop for Ended {
    fn drop(&mut self) {
        once_more(&self.0);
    }
}
