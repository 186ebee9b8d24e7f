//! `chat`: a conversation with a run, under a λ that changes whenever the person wants.

mod command;
mod input;
mod voice;
mod writer;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use panacea_files::write_new_file;
use panacea_objectives::Weights;
use panacea_pretrained::{ChatTokenizer, Message};
use panacea_runs::RunFolder;
use serde_json::json;

use crate::input::ChatArguments;
use crate::session::{
    BitsArguments, RUNS, SamplingArguments, load, model_or_of_run, open_model, say_aside,
};
use command::{Line, help};
use input::{Lines, Stop};
use voice::{Run, Voice};
use writer::{Manner, Writer};

/// Talk with a run, and change the preference as you go.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask chat --run first
  cargo xtask chat --run first --preference brevity=2,detail=1 --system 'You are a baker.'
  cargo xtask chat --run first --profile anna --temperature 0.3
  printf 'how do birds fly?\\n/preference 1,0\\n/retry\\n' | cargo xtask chat --run first > answers.txt

In the conversation /help lists the commands: /preference, /compare, /retry and others. docs/chat.md has more.")]
pub struct Arguments {
    /// A folder in Hugging Face layout, or a GGUF file. Default: the model that the run was trained on.
    #[arg(long, required_unless_present = "run")]
    model: Option<PathBuf>,
    /// The run whose adapter steers the model; without it, the base model.
    #[arg(long)]
    run: Option<String>,
    /// Weights on the run's objectives to begin with, such as 0.3,0.7 or brevity=2,detail=1; they are divided by their sum, and an
    /// objective without a name has 0. Without it, the λ that the run was trained at, if it was one, else the same weight for all.
    #[arg(long, requires = "run", conflicts_with = "profile")]
    preference: Option<Weights>,
    /// The profile of a person, made by `elicit`: the preference that was found for them.
    #[arg(long, requires = "run")]
    profile: Option<String>,
    /// Where runs are kept.
    #[arg(long, default_value = RUNS)]
    runs: PathBuf,
    /// What the system message says.
    #[arg(long)]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArguments,
    #[command(flatten)]
    bits: BitsArguments,
    #[command(flatten)]
    chat: ChatArguments,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long, default_value = "flex")]
    device: String,
}

/// A conversation, and who answers in it.
struct Chat<'m> {
    writer: Writer<'m>,
    tokenizer: &'m ChatTokenizer,
    run: Option<Run>,
    /// The run at the λ of the moment; none is the base model.
    voice: Option<Voice>,
    system: Option<String>,
    /// Questions and answers in turn: every question that is kept has its answer.
    turns: Vec<Message>,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let manner = Manner {
            sampling: self.sampling.sampling(),
            max_new_tokens: self.sampling.max_new_tokens,
            seed: self.sampling.seed,
        };
        manner.sampling.check()?;
        if manner.max_new_tokens == 0 {
            bail!("--max-new-tokens is 0: an answer has at least 1");
        }
        let folder = self.run.as_ref();
        let folder = folder.map(|run| RunFolder::open(&RunFolder::locate(&self.runs, run)?));
        let folder = folder.transpose()?;
        let device = panacea_devices::select(&self.device)?;
        let record = folder.as_ref().map(RunFolder::record).transpose()?;
        // A run's conversations are written as it learnt them.
        let plan = record.as_ref().map(|record| &record.plan);
        let chat = self.chat.over(plan)?;
        let model = model_or_of_run(self.model.as_deref(), plan)?;
        let pretrained = open_model(model, chat, &record)?;
        let tokenizer = pretrained.tokenizer()?;
        if !tokenizer.has_template() {
            bail!(
                "{} has no chat template, so nothing says who speaks: take a model that was trained for conversations, name the \
                 template that it was trained with (--set model.chat_template=FILE), or let `generate` answer single prompts",
                model.display()
            );
        }
        let decoder = load(&pretrained, &device, self.bits.bits)?;
        let run = folder.map(|folder| Run::open(folder, &self.runs, &decoder));
        let run = run.transpose()?;
        let mut lines = Lines::open(&self.runs)?;
        let is_on_terminal = lines.is_terminal();
        let stop = Stop::install()?;
        let mut chat = Chat {
            writer: Writer::new(&decoder, tokenizer, manner, stop),
            tokenizer,
            voice: run.as_ref().map(Run::at_usual_weights).transpose()?,
            run,
            system: None,
            turns: Vec::new(),
        };
        if let Some(weights) = &self.preference {
            chat.steer(weights)?;
        }
        if let Some(name) = &self.profile {
            chat.steer_for(name)?;
        }
        if let Some(text) = self.system {
            chat.set_system(text)?;
        }
        if is_on_terminal {
            chat.greet(model, lines.history());
        }
        chat.go_on(&mut lines)
    }
}

impl Chat<'_> {
    fn greet(&self, model: &Path, history: Option<&Path>) {
        match (&self.run, &self.voice) {
            (Some(run), Some(voice)) => note!("{} answers at {}", run.name(), voice.label),
            _ => note!("{} answers; no run steers it", model.display()),
        }
        if let Some(path) = history {
            note!("what you type is kept in {}", path.display());
        }
        note!("/help lists the commands; Ctrl-C ends an answer; Ctrl-D leaves");
    }

    /// Line by line. A mistake of a person is told to them; one in a file or of a program ends it, since what follows would be
    /// asked under something else than was meant.
    fn go_on(&mut self, lines: &mut Lines) -> Result<ExitCode> {
        let mut number = 0;
        while let Some(text) = lines.next(self.writer.stop())? {
            number += 1;
            if text.trim().is_empty() {
                continue;
            }
            match Line::read(&text).and_then(|line| self.take(line)) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if !lines.is_terminal() => {
                    return Err(error.context(format!("line {number} of the input")));
                }
                Err(error) => reply!("{error:#}"),
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Does what a line says. False is the end of the chat.
    fn take(&mut self, line: Line) -> Result<bool> {
        match line {
            Line::Question(text) => self.ask(text)?,
            Line::Preference(Some(weights)) => self.steer(&weights)?,
            Line::Preference(None) => reply!("λ: {}", self.steered()?.1.label),
            Line::Profile(Some(name)) => self.steer_for(&name)?,
            Line::Profile(None) => reply!("{}", self.steered()?.0.profile_names()?.join("\n")),
            Line::Compare(weights) => self.compare(&weights)?,
            Line::Retry => self.retry()?,
            Line::System(text) => {
                if let Some(text) = text {
                    self.set_system(text)?;
                }
                match &self.system {
                    Some(text) => reply!("system: {text}"),
                    None => reply!("no system message but what the model's template may say"),
                }
            }
            Line::Clear => {
                self.turns.clear();
                note!("a new conversation");
            }
            Line::Save(path) => self.save(&path)?,
            Line::Help => reply!("{}", help()),
            Line::Quit => return Ok(false),
        }
        Ok(true)
    }

    fn ask(&mut self, question: String) -> Result<()> {
        let question = message("user", question);
        let messages = self.messages_with(std::slice::from_ref(&question));
        match self.writer.write(&messages, self.voice.as_ref())? {
            Some(answer) => {
                if answer.trim().is_empty() {
                    reply!("the answer is empty");
                }
                self.turns.extend([question, message("assistant", answer)]);
            }
            None => reply!("the question is not kept: there was no answer to it yet"),
        }
        Ok(())
    }

    fn retry(&mut self) -> Result<()> {
        let messages = self.up_to_last_question()?;
        match self.writer.write(&messages, self.voice.as_ref())? {
            Some(answer) => {
                self.turns.pop();
                self.turns.push(message("assistant", answer));
            }
            None => reply!("the answer before stays"),
        }
        Ok(())
    }

    /// The conversation stays as it is.
    fn compare(&mut self, weights: &[Weights]) -> Result<()> {
        let messages = self.up_to_last_question()?;
        let (run, now) = self.steered()?;
        let mut voices: Vec<Voice> = (weights.iter())
            .map(|weights| run.at_weights(weights))
            .collect::<Result<_>>()?;
        if voices.is_empty() {
            voices = run.at_each_alone()?;
            if voices
                .iter()
                .all(|voice| voice.preference != now.preference)
            {
                voices.push(now.clone());
            }
        }
        self.writer.compare(&messages, &voices)
    }

    fn steer(&mut self, weights: &Weights) -> Result<()> {
        let (run, _) = self.steered()?;
        let voice = run.at_weights(weights)?;
        say_aside(weights.division().as_slice());
        self.say_preference(&voice);
        self.voice = Some(voice);
        Ok(())
    }

    fn steer_for(&mut self, profile: &str) -> Result<()> {
        let (run, _) = self.steered()?;
        let (voice, answers) = run.for_profile(profile)?;
        note!("profile {profile}, after {answers} answers:");
        self.say_preference(&voice);
        self.voice = Some(voice);
        Ok(())
    }

    fn say_preference(&self, voice: &Voice) {
        note!("λ: {}", voice.label);
    }

    fn set_system(&mut self, text: String) -> Result<()> {
        let text = Some(text).filter(|text| !matches!(text.as_str(), "" | "\"\""));
        let before = std::mem::replace(&mut self.system, text);
        // Some templates have no system message.
        let trial = self.messages_with(&[message("user", "?".to_owned())]);
        if let Err(error) = self.tokenizer.encode_prompt(&trial) {
            self.system = before;
            return Err(error).context("the model takes no system message");
        }
        Ok(())
    }

    fn save(&self, path: &Path) -> Result<()> {
        if self.turns.is_empty() {
            bail!("nothing was said yet");
        }
        if self
            .turns
            .last()
            .is_some_and(|last| last.text().trim().is_empty())
        {
            bail!("the last answer is empty, and no training would read it: /retry, or ask on");
        }
        let line = json!({"messages": self.messages_with(&[])});
        write_new_file(path, format!("{line}\n").as_bytes())?;
        reply!("saved in {}", path.display());
        Ok(())
    }

    /// The run that answers, at the λ of the moment.
    fn steered(&self) -> Result<(&Run, &Voice)> {
        match (&self.run, &self.voice) {
            (Some(run), Some(voice)) => Ok((run, voice)),
            _ => {
                bail!("the base model answers, and no λ steers it: start the chat with --run NAME")
            }
        }
    }

    /// The system message, all turns, and these.
    fn messages_with(&self, more: &[Message]) -> Vec<Message> {
        let system = (self.system.iter()).map(|text| message("system", text.clone()));
        system
            .chain(self.turns.iter().chain(more).cloned())
            .collect()
    }

    fn up_to_last_question(&self) -> Result<Vec<Message>> {
        let mut messages = self.messages_with(&[]);
        if self.turns.is_empty() {
            bail!("nothing was asked yet");
        }
        messages.pop();
        Ok(messages)
    }
}

fn message(role: &str, content: String) -> Message {
    Message::new(role, content)
}
