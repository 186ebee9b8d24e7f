//! Many clients of a running server at once, each with its own preference: whether every answer is the one that its
//! preference gives alone, how many tokens a second come back with different preferences and with one, and how long people
//! wait. One line of JSON.
//!
//! ```sh
//! cargo xtask serve --model datasets/quickstart/base --run first --port 8080
//! cargo run --release --package panacea-benches --bin load -- --url http://127.0.0.1:8080 --model first --clients 100
//! ```
//!
//! With `--lora` it asks as llama.cpp's server is asked, which ours understands too; `benches/peers/llama_cpp_serve.py` starts the former.

use std::io::{BufRead, BufReader};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use panacea_objectives::PreferenceSampler;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

#[derive(Parser)]
struct Arguments {
    /// Where the server listens.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The run to ask.
    #[arg(long)]
    model: String,
    /// Says λ as scales of the adapters in `/lora-adapters`, as llama.cpp's server takes it. The first so many of them keep
    /// the scale 1: `--lora 1` for what `export --format llama-lora` writes, `--lora 0` for our server.
    #[arg(long, value_name = "FIXED")]
    lora: Option<usize>,
    /// Clients at once, each with a preference and a question of its own.
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Tokens of an answer, at most.
    #[arg(long, default_value_t = 32)]
    tokens: usize,
    /// Seconds with different preferences, and as many with one.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seconds after which the two change places, so that both meet the same neighbours.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    turn: u64,
}

/// What a client asks, and the answer that it got when nobody else asked.
struct Client {
    question: String,
    preference: Vec<f64>,
    alone: String,
}

/// What all clients saw while they asked in one way.
#[derive(Default)]
struct Seen {
    seconds: f64,
    answers: usize,
    tokens: usize,
    /// Answers that differ from what the client got alone.
    others: usize,
    first: Vec<f64>,
    between: Vec<f64>,
}

/// One answer.
struct Answer {
    text: String,
    tokens: usize,
    /// Seconds to the first piece of text, which is a token or a few,
    first: f64,
    /// and from each piece to the next.
    between: Vec<f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut clients = clients(&arguments)?;
    for client in &mut clients {
        client.alone = ask(&arguments, client, &client.preference)?.text;
    }
    let distinct: std::collections::BTreeSet<&str> =
        clients.iter().map(|client| client.alone.as_str()).collect();
    let distinct = distinct.len();

    let (mut different, mut one) = (Seen::default(), Seen::default());
    let turns = arguments.seconds.div_ceil(arguments.turn);
    for turn in 0..turns {
        let order = [turn % 2 == 0, turn % 2 == 1];
        for is_different in order {
            let seen = if is_different {
                &mut different
            } else {
                &mut one
            };
            a_turn(&arguments, &clients, is_different, seen)?;
        }
    }
    let rate = |seen: &Seen| seen.tokens as f64 / seen.seconds;
    let report = json!({
        "measure": "serve_load", "clients": arguments.clients, "tokens_of_an_answer": arguments.tokens,
        "different_answers_alone": distinct,
        "different_preferences": different.report(), "one_preference": one.report(),
        "ratio_of_rates": rate(&different) / rate(&one),
    });
    println!("{report}");
    ensure!(
        different.others == 0,
        "{} answers are not those that their preferences give alone",
        different.others
    );
    Ok(())
}

/// The server is on this machine, or near it.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .proxy(None)
        .build()
        .new_agent()
}

fn get(arguments: &Arguments, path: &str) -> Result<Value> {
    let mut answer = agent().get(format!("{}{path}", arguments.url)).call()?;
    Ok(serde_json::from_str(&answer.body_mut().read_to_string()?)?)
}

/// How many the run has.
fn objectives(arguments: &Arguments) -> Result<usize> {
    let models = get(arguments, "/v1/models")?;
    let listed = models["data"].as_array().into_iter().flatten();
    let mut named = listed.filter(|model| model["id"] == arguments.model.as_str());
    let model = named.next();
    let model = model.with_context(|| format!("{} is not served", arguments.model))?;
    Ok(model["objectives"].as_array().map_or(0, Vec::len))
}

/// Questions that differ, under preferences drawn from the whole simplex.
fn clients(arguments: &Arguments) -> Result<Vec<Client>> {
    let objectives = match arguments.lora {
        None => objectives(arguments)?,
        Some(fixed) => {
            let adapters = get(arguments, "/lora-adapters")?;
            let count = adapters.as_array().map_or(0, Vec::len);
            count.saturating_sub(fixed)
        }
    };
    ensure!(objectives > 0, "{} has no objectives", arguments.model);
    let sampler = PreferenceSampler::new(1.0, 0.1)?;
    let mut random = ChaCha8Rng::seed_from_u64(17);
    let things = [
        "bakery", "library", "museum", "pharmacy", "market", "station",
    ];
    let mut client = |i: usize| Client {
        question: format!(
            "When does the {} number {} open?",
            things[i % things.len()],
            i
        ),
        preference: sampler.sample(objectives, &mut random).weights().to_vec(),
        alone: String::new(),
    };
    Ok((0..arguments.clients).map(&mut client).collect())
}

/// All clients ask again and again, until the turn is over; answers that have begun are finished.
fn a_turn(
    arguments: &Arguments,
    clients: &[Client],
    is_different: bool,
    seen: &mut Seen,
) -> Result<()> {
    let start = Instant::now();
    let end = start + Duration::from_secs(arguments.turn);
    let all = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let threads: Vec<_> = (clients.iter())
            .map(|client| {
                let all = &all;
                scope.spawn(move || -> Result<()> {
                    while Instant::now() < end {
                        let preference = match is_different {
                            true => &client.preference,
                            false => &clients[0].preference,
                        };
                        let answer = ask(arguments, client, preference)?;
                        all.lock().expect("nobody panics").push((client, answer));
                    }
                    Ok(())
                })
            })
            .collect();
        (threads.into_iter()).try_for_each(|thread| thread.join().expect("no client panics"))
    })?;
    seen.seconds += start.elapsed().as_secs_f64();
    for (client, answer) in all.into_inner().expect("nobody panics") {
        seen.answers += 1;
        seen.tokens += answer.tokens;
        seen.others += usize::from(is_different && answer.text != client.alone);
        seen.first.push(answer.first);
        seen.between.extend(answer.between);
    }
    Ok(())
}

/// Streams one greedy answer.
fn ask(arguments: &Arguments, client: &Client, preference: &[f64]) -> Result<Answer> {
    let mut body = json!({
        "model": arguments.model, "temperature": 0, "max_tokens": arguments.tokens,
        "messages": [{"role": "user", "content": client.question}],
        "stream": true, "stream_options": {"include_usage": true},
    });
    match arguments.lora {
        None => body["preference"] = json!(preference),
        Some(fixed) => {
            let scales = (0..fixed).map(|_| 1.0).chain(preference.iter().copied());
            let scaled = scales.enumerate();
            body["lora"] = scaled
                .map(|(id, scale)| json!({"id": id, "scale": scale}))
                .collect();
        }
    }
    let start = Instant::now();
    let response = agent()
        .post(format!("{}/v1/chat/completions", arguments.url))
        .header("Content-Type", "application/json")
        .send(body.to_string())?;
    let mut answer = Answer {
        text: String::new(),
        tokens: 0,
        first: 0.0,
        between: Vec::new(),
    };
    let mut last = None;
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        let line = line?;
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        if data == "[DONE]" {
            return Ok(answer);
        }
        let event: Value = serde_json::from_str(data)?;
        ensure!(event["error"].is_null(), "{event}");
        if let Some(tokens) = event["usage"]["completion_tokens"].as_u64() {
            answer.tokens = tokens as usize;
        }
        match event["choices"][0]["delta"]["content"].as_str() {
            // The first event comes at once and holds nothing.
            None | Some("") => continue,
            Some(text) => answer.text += text,
        }
        let now = Instant::now();
        match last.replace(now) {
            None => answer.first = (now - start).as_secs_f64(),
            Some(last) => answer.between.push((now - last).as_secs_f64()),
        }
    }
    bail!("the stream ended before its end")
}

impl Seen {
    fn report(&self) -> Value {
        let milliseconds = |values: &[f64]| {
            let mut sorted = values.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            let at = |share: f64| {
                let place = (share * sorted.len() as f64) as usize;
                sorted.get(place.min(sorted.len().saturating_sub(1)))
            };
            let [median, slow] =
                [0.5, 0.99].map(|share| at(share).map(|s| (s * 1e4).round() / 10.0));
            json!({"p50_ms": median, "p99_ms": slow})
        };
        json!({
            "seconds": self.seconds, "answers": self.answers, "not_as_alone": self.others,
            "tokens_per_second": self.tokens as f64 / self.seconds,
            "first_piece": milliseconds(&self.first), "between_pieces": milliseconds(&self.between),
        })
    }
}
