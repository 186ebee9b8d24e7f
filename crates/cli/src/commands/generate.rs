//! `generate`: answers prompts, under a preference where a run is given.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use panacea_data::{Example, Source};
use panacea_model::{Generated, Request, StopReason};
use panacea_pretrained::{ChatTokenizer, Message};
use serde_json::{Map, Value, json};

use crate::input::{Prompts, STDIN, all_of_stdin, read_prompts, say_unread};
use crate::session::{BitsArguments, ModelArguments, Opened, SamplingArguments};
use crate::terminal::shown;

/// Answer prompts, steered by a preference.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask generate --model models/smollm2-135m-instruct --prompt 'Name three colours.' --greedy
  cargo xtask generate --run first --preference brevity=1,detail=4 --prompt 'Why is the sky blue?'
  cargo xtask generate --run first --profile anna --prompt 'Why is the sky blue?'
  cargo xtask generate --model M --prompts prompts.jsonl
  cargo xtask generate --model M --prompts prompts.txt --json > answers.jsonl
  sort questions.txt | cargo xtask generate --model M --prompts - --set model.template.enable_thinking=false
  cargo xtask generate --model M --bits 8 --prompt 'Why is the sky blue?'
  cargo xtask generate --model M --prompt 'The capital of France is' --raw --greedy --max-new-tokens 24

One prompt: its answer is printed as it is. Several: each answer stands under its number, its place (FILE:LINE) and its prompt.

Records in a file are read as the run read its own: data.format, data.rendered, data.bad_records and data.max_skipped of its
run.toml count, but for what --set says; without a run, the defaults. What is skipped is counted on standard error. The
lines of a text are what a user says, as with --prompt. All of it is read before the model is.")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// What the user says; given several times, the prompts are answered in one batch. - is all of standard input.
    #[arg(long, required_unless_present = "prompts")]
    prompt: Vec<String>,
    /// A file of prompts, in place of --prompt: records in any format that `train` reads, or a text with a prompt on each line.
    /// - is standard input: records, where it begins with an object of JSON or a list of them.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "system", "raw"])]
    prompts: Option<PathBuf>,
    /// What the system message says.
    #[arg(long)]
    system: Option<String>,
    /// The text as it is, without the chat template.
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// An object of JSON on a line for each answer: file and line of its prompt (null for --prompt), messages (or prompt, where it
    /// is a text that no template goes around), preference by name (null for the base model), response, tokens (with the one
    /// that ends it, as `score` counts), finish_reason (stop or length).
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    bits: BitsArguments,
}

/// As many places are named where answers are cut.
const NAMED: usize = 3;

/// A prompt, ready to be answered.
struct Asked {
    /// Where it stands, if it is from a file.
    source: Option<Source>,
    said: Said,
    tokens: Vec<u32>,
}

/// What a prompt says.
enum Said {
    /// A text that is read as it is.
    Text(String),
    /// A conversation, which goes through the chat template.
    Messages(Vec<Message>),
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let sampling = self.sampling.sampling();
        sampling.check()?;
        let opened = self.model.open()?;
        let asked = self.prompts(&opened)?;
        let objectives = opened.objectives();
        let steered = opened.load(self.bits.bits)?;
        let tokenizer = steered.tokenizer()?;
        let requests = asked.iter().zip(0..).map(|(asked, index)| Request {
            max_new_tokens: (self.sampling.max_new_tokens)
                .min(steered.decoder.room_after(&asked.tokens)),
            prompt: asked.tokens.clone(),
            steering: steered.steering.clone(),
            sampling: sampling.clone(),
            stop: tokenizer.stop_ids().to_vec(),
            seed: self.sampling.seed.wrapping_add(index),
            likelihoods: None,
        });
        let answers = steered.decoder.generate(requests)?;
        let steering = steered.steering.as_ref();
        let preference = objectives.zip(steering).map(|(names, steering)| {
            let weights = steering.preference.iter().copied().map(Value::from);
            names.into_iter().zip(weights).collect::<Map<_, _>>()
        });
        for (index, (asked, answer)) in asked.iter().zip(&answers).enumerate() {
            let response = tokenizer.decode(&answer.tokens, true)?;
            if self.json {
                say!("{}", asked.as_json(preference.as_ref(), &response, answer));
            } else if answers.len() == 1 {
                say!("{}", shown(&response));
            } else {
                let number = format!("{} of {}", index + 1, answers.len());
                let distance = if index > 0 { "\n" } else { "" };
                say!("{distance}{}\n", shown(&asked.heading(&number)));
                say!("── answer\n{}", shown(response.trim()));
            }
        }
        self.say_which_are_cut(&asked, &answers);
        Ok(ExitCode::SUCCESS)
    }

    /// The prompts in tokens, each with room for an answer.
    fn prompts(&self, opened: &Opened) -> Result<Vec<Asked>> {
        if let Some(file) = &self.prompts {
            let prompts = read_prompts(file, &opened.input, &opened.pretrained)?;
            let Prompts { all, are_rendered } = prompts;
            let asked = all.into_iter();
            return Ok(asked
                .map(|prompt| Asked::of(prompt, are_rendered))
                .collect());
        }
        if self.prompt.iter().filter(|text| *text == STDIN).count() > 1 {
            bail!("--prompt - is there twice: standard input is one prompt");
        }
        let tokenizer = opened.tokenizer()?;
        let config = opened.pretrained.config();
        let mut prompts = Vec::with_capacity(self.prompt.len());
        for (index, text) in self.prompt.iter().enumerate() {
            let place = match self.prompt.len() {
                1 => "--prompt".to_owned(),
                _ => format!("--prompt {}", index + 1),
            };
            let text = match text.as_str() {
                STDIN => text_of_stdin()?,
                text => text.to_owned(),
            };
            if text.is_empty() {
                bail!("{place} is empty: give it some text");
            }
            let asked = self.ask(text, tokenizer)?;
            let tokens = asked.tokens.len();
            if config.room_after(tokens) == 0 {
                bail!(
                    "{place}: found {tokens} tokens, expected fewer than the {} that the model reads with the answer; shorten it",
                    config.max_position_embeddings
                );
            }
            prompts.push(asked);
        }
        Ok(prompts)
    }

    /// A prompt of the command line.
    fn ask(&self, text: String, tokenizer: &ChatTokenizer) -> Result<Asked> {
        let (said, tokens) = match self.raw {
            true => {
                let tokens = tokenizer.encode(&text, false)?;
                (Said::Text(text), tokens)
            }
            false => {
                let system = self.system.iter();
                let system = system.map(|text| Message::new("system", text.as_str()));
                let messages: Vec<_> = system.chain([Message::new("user", text)]).collect();
                let prompt = tokenizer.prompt(&messages)?;
                say_unread(&prompt, &messages);
                (Said::Messages(messages), prompt.into_ids())
            }
        };
        Ok(Asked {
            source: None,
            said,
            tokens,
        })
    }

    /// Says on standard error which answers have no end of their own.
    fn say_which_are_cut(&self, asked: &[Asked], answers: &[Generated]) {
        let cut = (asked.iter().zip(answers).enumerate())
            .filter(|(_, (_, answer))| answer.reason == StopReason::Length);
        // One that is shorter than it may be has met the end of the model's context.
        let (by_limit, by_context): (Vec<_>, Vec<_>) =
            cut.partition(|(_, (_, answer))| answer.tokens.len() >= self.sampling.max_new_tokens);
        let limit = format!(
            "cut after {} tokens (--max-new-tokens allows more)",
            self.sampling.max_new_tokens
        );
        let context = "cut where the model's context ends".to_owned();
        for (cut, why) in [(by_limit, limit), (by_context, context)] {
            let places = cut.iter().map(|(index, (asked, _))| match &asked.source {
                Some(source) => source.to_string(),
                None => format!("--prompt {}", index + 1),
            });
            let mut places: Vec<String> = places.collect();
            match (places.len(), asked.len()) {
                (0, _) => {}
                (_, 1) => note!("the answer is {why}"),
                (count, all) => {
                    if count > NAMED {
                        places.truncate(NAMED);
                        places.push("…".to_owned());
                    }
                    note!("{count} of {all} answers {why}: {}", places.join(", "));
                }
            }
        }
    }
}

impl Asked {
    /// A prompt of a file.
    fn of(prompt: Example, is_rendered: bool) -> Self {
        let messages = prompt.words.prompt;
        let said = match (is_rendered, &messages[..]) {
            (true, [only]) => Said::Text(only.text().to_owned()),
            _ => Said::Messages(messages),
        };
        Self {
            source: Some(prompt.source),
            said,
            tokens: prompt.prompt,
        }
    }

    /// What stands above its answer: which one it is, where it stands, and what is asked.
    fn heading(&self, number: &str) -> String {
        let question = match &self.said {
            Said::Text(text) => text,
            Said::Messages(messages) => messages.last().map_or("", Message::text),
        };
        let place = self.source.as_ref();
        let place = place.map_or(String::new(), |source| format!("{source} ━━ "));
        format!("━━ {number} ━━ {place}{}", question.trim())
    }

    fn as_json(
        &self,
        preference: Option<&Map<String, Value>>,
        response: &str,
        answer: &Generated,
    ) -> Value {
        let source = self.source.as_ref();
        let mut object = json!({
            "file": source.map(|source| source.file.to_string_lossy()),
            "line": source.map(|source| source.line),
        });
        match &self.said {
            Said::Text(text) => object["prompt"] = json!(text),
            Said::Messages(messages) => object["messages"] = json!(messages),
        }
        object["preference"] = json!(preference);
        object["response"] = json!(response);
        // With the one that ended it.
        object["tokens"] = json!(answer.log_probs.len());
        object["finish_reason"] = json!(match answer.reason {
            StopReason::Stop(_) => "stop",
            StopReason::Length => "length",
        });
        object
    }
}

/// All of standard input as one prompt, without the line break that most texts end with.
fn text_of_stdin() -> Result<String> {
    let Ok(mut text) = String::from_utf8(all_of_stdin()?) else {
        bail!("--prompt -: found bytes that are not UTF-8, expected a text in UTF-8");
    };
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    Ok(text)
}
