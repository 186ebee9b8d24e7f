//! A judge behind an OpenAI-compatible chat endpoint.

use std::env;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;
use ureq::{Agent, Proxy};

use crate::error::{ScoreError, SpecError, quoted};
use crate::judgement;
use crate::scorer::{Sample, Scorer, Verdict};
use crate::spec::{EndpointSpec, OnUnreadable, Temperature};

/// How often a request is tried.
const ATTEMPTS: usize = 5;

/// The scorer of an endpoint. It is never shown, since it holds the key.
pub(crate) struct Endpoint {
    name: String,
    agent: Agent,
    url: String,
    spec: EndpointSpec,
    key: Option<String>,
    /// Whether the server holds the judge to JSON; not, once it has refused to.
    is_structured: AtomicBool,
    /// The pause before the second attempt; it doubles from one to the next.
    first_pause: Duration,
}

struct Answer {
    status: u16,
    body: String,
    /// Where it sends to instead.
    location: Option<String>,
    /// How long the server asks to wait.
    retry_after: Option<Duration>,
}

/// Why there is no answer.
struct Failure {
    /// The server's, where it says something.
    status: Option<u16>,
    problem: String,
}

impl Endpoint {
    pub(crate) fn new(name: String, spec: &EndpointSpec) -> Result<Self, SpecError> {
        Ok(Self {
            name,
            agent: agent(spec.timeout_seconds, Proxy::try_from_env()),
            url: format!("{}/chat/completions", spec.endpoint.trim_end_matches('/')),
            spec: spec.clone(),
            key: spec.api_key_env.as_deref().map(key).transpose()?,
            is_structured: AtomicBool::new(spec.structured),
            first_pause: Duration::from_millis(500),
        })
    }

    /// What the judge says of a sample. Whoever says nothing readable is told so, and asked again.
    fn judge(&self, sample: &Sample<'_>) -> Result<Verdict, String> {
        let [low, high] = self.spec.scale;
        let reference = self.spec.reference.as_deref();
        if let Some(column) = reference.filter(|column| sample.reference_in(Some(column)).is_none())
        {
            return Err(format!(
                "found no reference answer in `{column}`, expected one in every record"
            ));
        }
        let mut replies: Vec<String> = Vec::new();
        loop {
            let body = self.converse(sample, &replies)?;
            let reply = judgement::reply(&body).ok_or_else(|| {
                let expected = "a chat completion with `choices[0].message`; see that `endpoint` is the base address of an OpenAI-compatible server";
                format!("the endpoint answered {}, expected {expected}", self.shown(&body))
            })?;
            if let Some(score) = reply.score([low, high]) {
                return Ok(Verdict::Score(score));
            }
            let reply = reply.text;
            if replies.len() == self.spec.retries {
                return match self.spec.on_unreadable {
                    OnUnreadable::Skip => Ok(Verdict::Unreadable(None)),
                    OnUnreadable::Count(number) => Ok(Verdict::Unreadable(Some(number))),
                    OnUnreadable::Error => Err(format!(
                        "the judge replied {} (reply {} to this response), expected a number from {low} to {high}; make \
                         `instruction` clearer, choose another `model`, or set `on_unreadable`",
                        self.shown(&reply),
                        replies.len() + 1
                    )),
                };
            }
            replies.push(reply);
        }
    }

    /// The body of the server's answer, by a judge who is held to JSON where the server does that.
    fn converse(&self, sample: &Sample<'_>, replies: &[String]) -> Result<String, String> {
        let plainly = || self.ask(&self.request(sample, replies, false));
        if !self.is_structured.load(Ordering::Relaxed) {
            return plainly().map_err(|failure| failure.problem);
        }
        match self.ask(&self.request(sample, replies, true)) {
            Ok(body) => Ok(body),
            Err(Failure {
                status: Some(400 | 422),
                ..
            }) => {
                let body = plainly().map_err(|failure| failure.problem)?;
                self.is_structured.store(false, Ordering::Relaxed);
                Ok(body)
            }
            Err(failure) => Err(failure.problem),
        }
    }

    /// The question about a sample, behind which stand the replies so far that could not be read.
    fn request(&self, sample: &Sample<'_>, replies: &[String], structured: bool) -> String {
        let EndpointSpec {
            model,
            instruction,
            scale: [low, high],
            temperature,
            ..
        } = &self.spec;
        let key = judgement::KEY;
        let format = match structured {
            true => format!("{{\"{key}\": NUMBER}}, NUMBER from {low} (worst) to {high} (best),"),
            false => format!("one number from {low} (worst) to {high} (best)"),
        };
        let Sample {
            prompt, response, ..
        } = sample;
        let mut user = format!("<prompt>\n{prompt}\n</prompt>\n");
        let column = self.spec.reference.as_deref();
        if let Some(reference) = column.and_then(|column| sample.reference_in(Some(column))) {
            user += &format!("<reference>\n{reference}\n</reference>\n");
        }
        user += &format!("<response>\n{response}\n</response>");
        let mut messages = vec![
            json!({"role": "system", "content": format!("{instruction}\nReply with {format} and nothing else.")}),
            json!({"role": "user", "content": user}),
        ];
        let again =
            format!("That is no score that can be read. Reply with {format} and nothing else.");
        for reply in replies {
            // Many servers refuse a turn without words.
            if !reply.is_empty() {
                messages.push(json!({"role": "assistant", "content": reply}));
                messages.push(json!({"role": "user", "content": again}));
            }
        }
        let mut request = json!({"model": model, "messages": messages});
        if let Temperature::At(temperature) = temperature {
            request["temperature"] = json!(temperature);
        }
        if structured {
            let schema = json!({
                "type": "object",
                "properties": {key: {"type": "number"}},
                "required": [key],
                "additionalProperties": false,
            });
            let schema = json!({"name": "judgement", "strict": true, "schema": schema});
            request["response_format"] = json!({"type": "json_schema", "json_schema": schema});
        }
        request.to_string()
    }

    /// The body of the first answer that is a success.
    fn ask(&self, request: &str) -> Result<String, Failure> {
        let mut pause = self.first_pause;
        let mut attempt = 1;
        loop {
            let (failure, asked_for) = match self.post(request) {
                Ok(answer) if (200..300).contains(&answer.status) => return Ok(answer.body),
                Ok(answer) => (self.refusal(&answer), answer.retry_after),
                Err(error) => (self.unreachable(&error), None),
            };
            let may_pass = matches!(failure.status, None | Some(408 | 429 | 500..));
            if attempt == ATTEMPTS || !may_pass {
                return Err(failure);
            }
            thread::sleep(asked_for.unwrap_or(pause));
            pause *= 2;
            attempt += 1;
        }
    }

    fn refusal(&self, answer: &Answer) -> Failure {
        let Answer { status, body, .. } = answer;
        let advice = match status {
            300..=399 => "it sends elsewhere: write the address where it is as `endpoint`",
            401 | 403 => "see that `api_key_env` names the variable with a valid key",
            404 => "correct `endpoint` or `model`",
            429 => "lower `parallel`, or wait until the limit is lifted",
            500.. => "see what the server says about it",
            _ => "correct what it names",
        };
        let elsewhere = answer.location.as_ref();
        let elsewhere =
            elsewhere.map_or_else(String::new, |place| format!(" ({})", self.shown(place)));
        Failure {
            status: Some(*status),
            problem: format!(
                "the endpoint answered HTTP {status}{elsewhere}: {}; {advice}",
                self.shown(body)
            ),
        }
    }

    /// What a server says, without the key: some quote it.
    fn shown(&self, said: &str) -> String {
        match &self.key {
            Some(key) => quoted(&said.replace(key, "(the key)")),
            None => quoted(said),
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let advice = "see that the server runs there, or raise `timeout_seconds`";
        Failure {
            status: None,
            problem: format!("no answer from {}: {error}; {advice}", self.url),
        }
    }

    fn post(&self, request: &str) -> Result<Answer, ureq::Error> {
        const LONGEST_PAUSE: u64 = 60;
        let mut post = self.agent.post(&self.url);
        post = post.header("content-type", "application/json");
        if let Some(key) = &self.key {
            post = post.header("authorization", format!("Bearer {key}"));
        }
        let mut response = post.send(request)?;
        let header = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let location: Option<String> = header("location");
        let seconds = header("retry-after").and_then(|it: String| it.parse::<u64>().ok());
        let status = response.status().as_u16();
        let body = match response.body_mut().read_to_string() {
            Err(ureq::Error::BodyExceedsLimit(most)) => format!("(more than {most} bytes)"),
            body => body?,
        };
        Ok(Answer {
            status,
            body,
            location,
            retry_after: seconds.map(|it| Duration::from_secs(it.min(LONGEST_PAUSE))),
        })
    }
}

impl Scorer for Endpoint {
    fn name(&self) -> &str {
        &self.name
    }

    fn waits(&self) -> bool {
        true
    }

    /// As many requests as allowed are under way at once; each thread takes the next sample that nobody has taken.
    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError> {
        let this = &*self;
        let next = AtomicUsize::new(0);
        let take = || {
            let i = next.fetch_add(1, Ordering::Relaxed);
            samples.get(i).map(|sample| (i, sample))
        };
        let work = || {
            let mut scores = Vec::new();
            while let Some((i, sample)) = take() {
                let score = this.judge(sample).map_err(|problem| {
                    // Nobody needs to go on.
                    next.store(samples.len(), Ordering::Relaxed);
                    ScoreError::new(&this.name, Some(sample), problem)
                })?;
                scores.push((i, score));
            }
            Ok::<_, ScoreError>(scores)
        };
        let mut scores = vec![Verdict::Unreadable(None); samples.len()];
        thread::scope(|scope| {
            let threads = this.spec.parallel.min(samples.len());
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for thread in threads {
                let part = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
                for (i, score) in part? {
                    scores[i] = score;
                }
            }
            Ok(scores)
        })
    }
}

fn agent(timeout_seconds: u64, proxy: Option<Proxy>) -> Agent {
    // A redirection is not followed: it would take the key elsewhere, and a POST becomes a GET on the way.
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(Duration::from_secs(timeout_seconds)))
        .proxy(proxy)
        .user_agent(concat!("panacea/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

fn key(variable: &str) -> Result<String, SpecError> {
    let key = env::var(variable).unwrap_or_default().trim().to_owned();
    if key.is_empty() {
        let found = format!("{variable}, which is not set");
        let expected = format!("a variable with the API key; set it: export {variable}=…");
        return Err(SpecError::new("api_key_env", found, expected));
    }
    Ok(key)
}

#[cfg(test)]
mod tests;
