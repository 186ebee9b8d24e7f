//! `serve`: answers over HTTP, each request under its own preference.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::builder::RangedU64ValueParser;
use clap::{Args, value_parser};
use panacea_elicit::ElicitError;
use panacea_interview::{InterviewError, Measured};
use panacea_objectives::Weights;
use panacea_pretrained::ChatOptions;
use panacea_reward_models::Base;
use panacea_runs::{RunFolder, RunRecord};
use panacea_server::{
    Catalogue, Interviews, MeasuredFront, MeasuredPoint, ServedRun, Server, Settings, read_api_key,
};
use panacea_serving::Policy;

use crate::input::ChatArguments;
use crate::session::{BitsArguments, RUNS, load, open_model, say_aside, say_warnings};

/// Seconds; longer is for ever.
const A_YEAR: u64 = 365 * 24 * 3600;

/// Serve a model and runs on it over OpenAI's API, with a preference in every request.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask serve --run first
  cargo xtask serve --run first@brevity=2,detail=1 --run second --bits 8 --port 9000
  cargo xtask serve --run first --host 0.0.0.0 --api-key-file key.txt
  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
      -d '{\"model\": \"first\", \"preference\": [0.2, 0.8],
           \"messages\": [{\"role\": \"user\", \"content\": \"Why is the sky blue?\"}]}'

docs/serve.md says what a request may hold.")]
pub struct Arguments {
    /// A folder in Hugging Face layout, or a GGUF file. Default: the model that the runs were trained on.
    #[arg(long, required_unless_present = "served")]
    model: Option<PathBuf>,
    /// A run whose adapter steers the model, and the preference of requests that say none, where it is neither the only one that
    /// the run was trained at nor the same weight for all objectives. May be given several times; the first run answers requests
    /// that name no model.
    #[arg(long = "run", value_name = "NAME[@WEIGHTS]")]
    served: Vec<String>,
    /// Where runs are kept.
    #[arg(long, default_value = RUNS)]
    runs: PathBuf,
    /// Where to listen: a name or address of this machine. Others than the loopback ask for --api-key-file.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST).to_string())]
    host: String,
    /// The port; 0 takes any that is free.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// A file with a key that clients have to send, as in `Authorization: Bearer KEY`.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Let everybody who reaches this machine ask.
    #[arg(long, conflicts_with = "api_key_file")]
    without_api_key: bool,
    /// A name by which the loopback may be asked for without a key, such as that of a proxy in front of it.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Answers that are written together.
    #[arg(long, default_value_t = Settings::default().places, value_parser = RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    places: usize,
    /// Answers that wait for a place; more are refused, with the time after which to try again.
    #[arg(long, default_value_t = Settings::default().queue, value_parser = RangedU64ValueParser::<usize>::new().range(..=1_000_000))]
    queue: usize,
    /// Tokens of a prompt and its answer, at most; the model's own context, where it is not given. Keys and values of the longest
    /// one are kept for every place.
    #[arg(long, value_name = "TOKENS", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    context: Option<usize>,
    /// Seconds from a request to the end of its answer: it is cut there.
    #[arg(long, default_value_t = Settings::default().time_limit.as_secs(), value_name = "SECONDS", value_parser = value_parser!(u64).range(1..=A_YEAR))]
    time_limit: u64,
    /// Seconds that running answers may go on after Ctrl-C or SIGTERM.
    #[arg(long, default_value_t = Settings::default().grace.as_secs(), value_name = "SECONDS", value_parser = value_parser!(u64).range(..=A_YEAR))]
    grace: u64,
    #[command(flatten)]
    bits: BitsArguments,
    #[command(flatten)]
    chat: ChatArguments,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long, default_value = "flex")]
    device: String,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let settings = Settings {
            address: self.address()?,
            api_key: self.api_key_file.as_deref().map(read_api_key).transpose()?,
            without_api_key: self.without_api_key,
            allowed_hosts: self.allow_host.clone(),
            places: self.places,
            queue: self.queue,
            context: self.context,
            time_limit: Duration::from_secs(self.time_limit),
            grace: Duration::from_secs(self.grace),
            ..Settings::default()
        };
        let device = panacea_devices::select(&self.device)?;
        let model = self.model()?;
        let records = self
            .served
            .iter()
            .map(|run| Ok(self.find(run)?.0.record()?));
        let records: Vec<RunRecord> = records.collect::<Result<_>>()?;
        let pretrained = open_model(&model, self.chat()?, &records)?;
        let decoder = load(&pretrained, &device, self.bits.bits)?;
        let base = Base {
            pretrained: Arc::new(pretrained),
            decoder: Arc::new(decoder),
        };
        let mut catalogue = Catalogue::new(&name_of(&model));
        for run in &self.served {
            let opened = self.open(run, &base)?;
            catalogue.add(opened)?;
        }
        let Base {
            pretrained,
            decoder,
        } = &base;
        let listed: Vec<String> = (catalogue.models().iter())
            .map(|model| model.to_string())
            .collect();
        let server = Server::bind(catalogue, pretrained.tokenizer()?, settings)?;
        let config = pretrained.config();
        let own = config.max_position_embeddings;
        let context = self.context.map_or(own, |context| context.min(own));
        // Keys and values of every layer, in 32 bits.
        let token = config.num_hidden_layers * 2 * config.num_key_value_heads * config.head_dim * 4;
        note!("models: {}", listed.join("; "));
        note!(
            "memory of {} places of {context} tokens: up to {:.0} MiB (--places, --context)",
            self.places,
            (self.places * context * token) as f64 / f64::from(1 << 20)
        );
        note!("Ctrl-C ends it when running answers are whole; a second one cuts them");
        say!("listening on http://{}", server.address());
        server.run(decoder)?;
        note!("ended");
        Ok(ExitCode::SUCCESS)
    }

    fn address(&self) -> Result<SocketAddr> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        let mut addresses =
            addresses.with_context(|| format!("--host {} is no address", self.host))?;
        match addresses.next() {
            Some(address) => Ok(address),
            None => bail!("--host {} has no address", self.host),
        }
    }

    /// The model that was given, or else the one that all runs were trained on.
    fn model(&self) -> Result<PathBuf> {
        if let Some(model) = &self.model {
            return Ok(model.clone());
        }
        let mut all: Option<(&String, PathBuf, String)> = None;
        for run in &self.served {
            let RunRecord { plan, facts } = self.find(run)?.0.record()?;
            match &all {
                None => all = Some((run, plan.model().to_owned(), facts.model_fingerprint)),
                Some((_, _, fingerprint)) if *fingerprint == facts.model_fingerprint => {}
                Some((first, model, _)) => bail!(
                    "run {first} was trained on {}, and run {run} on another model, {}; serve them apart, or let --model say \
                     which one both steer",
                    model.display(),
                    plan.model().display()
                ),
            }
        }
        let (_, model, _) = all.context("either --model or --run says which model answers")?;
        Ok(model)
    }

    /// How the runs' conversations are written, but for what --set says: all of them alike, since there is one tokenizer. Where only the day of training
    /// differs, it is the last of them for all.
    fn chat(&self) -> Result<ChatOptions> {
        let mut all: Option<(&String, ChatOptions)> = None;
        for run in &self.served {
            let mut chat = self.chat.over(Some(&self.find(run)?.0.record()?.plan))?;
            if let Some((first, others)) = all {
                chat.date = others.date.clone().max(chat.date);
                let others = ChatOptions {
                    date: chat.date.clone(),
                    ..others
                };
                if others != chat {
                    bail!(
                        "runs {first} and {run} were trained with different conversations, so one server cannot write those of both: \
                         {others:?} and {chat:?} in their configurations' [model]; serve them apart, or let --set say the same for both"
                    );
                }
                all = Some((first, others));
            } else {
                all = Some((run, chat));
            }
        }
        match all {
            Some((_, chat)) => Ok(chat),
            None => self.chat.over(None),
        }
    }

    /// The run's folder, and the weights behind its name.
    fn find(&self, run: &str) -> Result<(RunFolder, Option<Weights>)> {
        let open = |name: &str| {
            RunFolder::locate(&self.runs, name).and_then(|path| RunFolder::open(&path))
        };
        Ok(match (open(run), run.rsplit_once('@')) {
            (Err(_), Some((name, weights))) => {
                let weights: Weights = weights.parse().with_context(|| format!("--run {run}"))?;
                (open(name)?, Some(weights))
            }
            (folder, _) => (folder?, None),
        })
    }

    /// A run as it is served: `NAME`, or `NAME@WEIGHTS` where no run is called that.
    fn open(&self, run: &str, base: &Base) -> Result<ServedRun> {
        let (folder, weights) = self.find(run)?;
        let policy = Policy::open(&folder, &base.decoder)?;
        say_aside(&policy.notes);
        let objectives = policy.plan().objective_names();
        let default = weights.map(|weights| weights.preference(&objectives));
        let default = default
            .transpose()
            .with_context(|| format!("--run {run}"))?;
        let front = measured_front(&folder, &objectives)?;
        let interviews = Interviews::open(&folder, &policy, base);
        let interviews = interviews.map_err(|error| {
            note!("run {run} has no profiles here: {error}");
            match error {
                InterviewError::Waits { .. }
                | InterviewError::Elicit(ElicitError::TooFewObjectives(_)) => error.to_string(),
                // Where the server keeps its files is nobody's business.
                _ => "its files could not be read when the server started".to_owned(),
            }
        });
        Ok(ServedRun {
            policy,
            default,
            front,
            interviews,
        })
    }
}

/// What was measured of a run, as the server tells it.
fn measured_front(folder: &RunFolder, objectives: &[String]) -> Result<Option<MeasuredFront>> {
    let Some(measured) = Measured::of(folder, objectives)? else {
        return Ok(None);
    };
    say_warnings(measured.note.as_slice());
    let Measured { method, exact, .. } = measured;
    let points = method.points.into_iter().map(|point| MeasuredPoint {
        lambda: point.lambda,
        values: point.values,
        stderr: point.stderr,
        correlation: point.correlation,
        exact: point.exact.map(|exact| exact.values),
    });
    Ok(Some(MeasuredFront {
        method: method.method,
        objectives: objectives.to_vec(),
        points: points.collect(),
        exact,
    }))
}

/// The name of a folder or a file, without what says that it is a GGUF.
fn name_of(model: &Path) -> String {
    let path = model.canonicalize().unwrap_or_else(|_| model.to_owned());
    let name = match path.extension() {
        Some(extension) if extension == "gguf" => path.file_stem(),
        _ => path.file_name(),
    };
    name.map_or_else(
        || "base".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRONT: &str = r#"{
        "objectives": ["a", "b"], "reference": [0, 0], "exact": {"values": [[1, 2]]},
        "methods": [{
            "method": "panacea-linear", "train_seconds": 1,
            "points": [{"lambda": [1, 0], "values": [3, 4], "stderr": [0.5, 0.25],
                "correlation": [[], [0.5]], "exact": {"values": [3.5, 4.5], "regret": 0.5}}],
            "indicators": {"hypervolume": 12, "inner_product": 3, "sparsity": null, "spacing": null}
        }]
    }"#;

    fn measured(front: Option<&str>) -> Result<Option<MeasuredFront>> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("run.toml"), "")?;
        if let Some(front) = front {
            std::fs::write(folder.path().join("front.json"), front)?;
        }
        let objectives = ["a", "b"].map(str::to_owned);
        measured_front(&RunFolder::open(folder.path())?, &objectives)
    }

    #[test]
    fn a_front_is_handed_on_as_it_was_measured() {
        assert_eq!(measured(None).unwrap(), None);
        let front = measured(Some(FRONT)).unwrap().unwrap();
        let point = MeasuredPoint {
            lambda: vec![1.0, 0.0],
            values: vec![3.0, 4.0],
            stderr: vec![0.5, 0.25],
            correlation: Some(vec![vec![], vec![0.5]]),
            exact: Some(vec![3.5, 4.5]),
        };
        let expected = MeasuredFront {
            method: "panacea-linear".to_owned(),
            objectives: vec!["a".to_owned(), "b".to_owned()],
            points: vec![point],
            exact: Some(vec![vec![1.0, 2.0]]),
        };
        assert_eq!(front, expected);
    }

    #[test]
    fn a_front_of_something_else_is_refused_with_what_to_do() {
        for (from, to, part) in [
            (
                r#"["a", "b"]"#,
                r#"["b", "a"]"#,
                r#"expected those of the run, ["a", "b"]"#,
            ),
            ("[0.5, 0.25]", "[0.5]", "[0.5] are not 2 numbers"),
            (
                "[[1, 2]]",
                "[[1, 2, 3]]",
                "[1.0, 2.0, 3.0] are not 2 numbers",
            ),
        ] {
            let error = measured(Some(&FRONT.replace(from, to)))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(part) && error.contains("cargo xtask eval-front --run"),
                "{error}"
            );
        }
        assert!(measured(Some("{")).is_err());
    }
}
