//! What the server tells of itself, in the text format of Prometheus.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use panacea_objectives::{Preference, rounded_weight};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The steps of λ in labels: a bucket is the nearest preference whose weights are multiples of 1 / 4, so that a model of two
/// objectives has five of them, however many λ its users have.
const BUCKETS: usize = 4;

/// Seconds from 1 ms to 2 minutes, about three to a factor of ten.
const SECONDS: [f64; 16] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0,
];

/// Over how long the rate of tokens is counted.
const RATE_WINDOW: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResponseLabels {
    path: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabels {
    model: String,
    preference: String,
}

/// Counters, gauges and histograms of a server.
pub struct Metrics {
    registry: Registry,
    responses: Family<ResponseLabels, Counter>,
    asked: Family<AnswerLabels, Counter>,
    prompt_tokens: Counter,
    cached_tokens: Counter,
    answer_tokens: Counter,
    waiting: Gauge<i64, AtomicI64>,
    running: Gauge<i64, AtomicI64>,
    rate: Gauge<f64, AtomicU64>,
    first: Histogram,
    between: Histogram,
    whole: Histogram,
    /// Since when, and how many tokens.
    window: Mutex<(Instant, usize)>,
    /// The milliseconds that an answer takes, waiting included; newer ones count more.
    usual: AtomicU64,
}

impl Metrics {
    pub fn new(places: usize, queue: usize) -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("panacea"),
            responses: Family::default(),
            asked: Family::default(),
            prompt_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            answer_tokens: Counter::default(),
            waiting: Gauge::default(),
            running: Gauge::default(),
            rate: Gauge::default(),
            first: Histogram::new(SECONDS),
            between: Histogram::new(SECONDS),
            whole: Histogram::new(SECONDS),
            window: Mutex::new((Instant::now(), 0)),
            usual: AtomicU64::new(1000),
        };
        metrics.registered(places, queue)
    }

    fn registered(mut self, places: usize, queue: usize) -> Self {
        let limit = |limit: usize| {
            let gauge = Gauge::<i64, AtomicI64>::default();
            gauge.set(limit as i64);
            gauge
        };
        let registry = &mut self.registry;
        registry.register(
            "responses",
            "HTTP responses, by path and status",
            self.responses.clone(),
        );
        registry.register(
            "answers",
            "Answers that were asked for, by model and by the preference to the nearest quarter",
            self.asked.clone(),
        );
        registry.register(
            "prompt_tokens",
            "Tokens of prompts",
            self.prompt_tokens.clone(),
        );
        registry.register(
            "prompt_tokens_cached",
            "Tokens of prompts that were known from other requests and not read again",
            self.cached_tokens.clone(),
        );
        registry.register(
            "answer_tokens",
            "Tokens of answers",
            self.answer_tokens.clone(),
        );
        registry.register(
            "queue",
            "Answers that wait for a place",
            self.waiting.clone(),
        );
        registry.register("queue_limit", "Answers that may wait", limit(queue));
        registry.register(
            "places_taken",
            "Answers that are being written",
            self.running.clone(),
        );
        registry.register(
            "places",
            "Answers that can be written together",
            limit(places),
        );
        registry.register(
            "tokens_per_second",
            "Tokens of answers a second, over the last two seconds",
            self.rate.clone(),
        );
        registry.register(
            "time_to_first_token_seconds",
            "From a request to the first token of its answer",
            self.first.clone(),
        );
        registry.register(
            "time_between_tokens_seconds",
            "From a token of an answer to its next one",
            self.between.clone(),
        );
        registry.register(
            "answer_seconds",
            "From a request to the end of its answer",
            self.whole.clone(),
        );
        self
    }

    /// The page of `/metrics`.
    pub fn page(&self) -> String {
        let mut page = String::new();
        encode(&mut page, &self.registry).expect("a string takes everything");
        page
    }

    pub fn response(&self, path: &str, status: u16) {
        let path = path.to_owned();
        let labels = ResponseLabels { path, status };
        self.responses.get_or_create(&labels).inc();
    }

    pub fn asked(&self, model: &str, preference: Option<&Preference>, answers: usize) {
        let labels = AnswerLabels {
            model: model.to_owned(),
            preference: preference.map_or_else(|| "none".to_owned(), bucket),
        };
        self.asked.get_or_create(&labels).inc_by(answers as u64);
    }

    pub fn read(&self, prompt_tokens: usize) {
        self.prompt_tokens.inc_by(prompt_tokens as u64);
    }

    pub fn cached(&self, prompt_tokens: usize) {
        self.cached_tokens.inc_by(prompt_tokens as u64);
    }

    pub fn generated(&self, tokens: usize) {
        self.answer_tokens.inc_by(tokens as u64);
        let mut window = self.window.lock().unwrap_or_else(|lock| lock.into_inner());
        window.1 += tokens;
        let elapsed = window.0.elapsed();
        if elapsed >= RATE_WINDOW {
            self.rate.set(window.1 as f64 / elapsed.as_secs_f64());
            *window = (Instant::now(), 0);
        }
    }

    /// Nobody waits for anything.
    pub fn idle(&self) {
        self.occupied(0, 0);
        self.rate.set(0.0);
        *self.window.lock().unwrap_or_else(|lock| lock.into_inner()) = (Instant::now(), 0);
    }

    pub fn occupied(&self, waiting: usize, running: usize) {
        self.waiting.set(waiting as i64);
        self.running.set(running as i64);
    }

    pub fn first_token(&self, after: Duration) {
        self.first.observe(after.as_secs_f64());
    }

    pub fn next_token(&self, after: Duration) {
        self.between.observe(after.as_secs_f64());
    }

    pub fn answered(&self, after: Duration) {
        self.whole.observe(after.as_secs_f64());
        let usual = self.usual.load(Ordering::Relaxed);
        let new = (7 * usual + after.as_millis() as u64) / 8;
        self.usual.store(new, Ordering::Relaxed);
    }

    /// When it is worth asking again where nobody may wait any more: about when a place gets free.
    pub fn retry_after(&self) -> u64 {
        let milliseconds = self.usual.load(Ordering::Relaxed);
        milliseconds.div_ceil(1000).clamp(1, 60)
    }
}

/// The nearest preference whose weights are multiples of 1 / [`BUCKETS`]: rounded down, and what is missing goes to those
/// that lost most.
fn bucket(preference: &Preference) -> String {
    let scaled: Vec<f64> = (preference.weights().iter())
        .map(|weight| weight * BUCKETS as f64)
        .collect();
    let mut parts: Vec<usize> = scaled.iter().map(|&part| part as usize).collect();
    let mut losers: Vec<usize> = (0..parts.len()).collect();
    let lost = |&i: &usize| scaled[i] - scaled[i].floor();
    losers.sort_by(|a, b| lost(b).total_cmp(&lost(a)));
    let missing = BUCKETS.saturating_sub(parts.iter().sum());
    for &loser in losers.iter().take(missing) {
        parts[loser] += 1;
    }
    let weights: Vec<String> = (parts.iter())
        .map(|&part| rounded_weight(part as f64 / BUCKETS as f64, 2))
        .collect();
    weights.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_the_nearest_point_of_the_grid() {
        let bucket = |weights: &[f64]| bucket(&Preference::new(weights.to_vec()).unwrap());
        assert_eq!(bucket(&[0.3, 0.7]), "0.25,0.75");
        assert_eq!(bucket(&[1.0, 0.0]), "1,0");
        assert_eq!(bucket(&[0.9, 0.1]), "1,0");
        assert_eq!(bucket(&[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]), "0.5,0.25,0.25");
        assert_eq!(bucket(&[0.1; 10]), "0.25,0.25,0.25,0.25,0,0,0,0,0,0");
    }

    #[test]
    fn the_page_names_what_happened() {
        let metrics = Metrics::new(16, 64);
        metrics.response("/v1/completions", 200);
        metrics.asked("first", Some(&Preference::new(vec![0.3, 0.7]).unwrap()), 2);
        metrics.read(5);
        metrics.cached(3);
        metrics.first_token(Duration::from_millis(30));
        metrics.answered(Duration::from_secs(40));
        let page = metrics.page();
        for line in [
            "panacea_responses_total{path=\"/v1/completions\",status=\"200\"} 1",
            "panacea_answers_total{model=\"first\",preference=\"0.25,0.75\"} 2",
            "panacea_prompt_tokens_total 5",
            "panacea_prompt_tokens_cached_total 3",
            "panacea_places 16",
            "panacea_queue_limit 64",
            "panacea_time_to_first_token_seconds_bucket{le=\"0.05\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert_eq!(metrics.retry_after(), 6);
    }
}
