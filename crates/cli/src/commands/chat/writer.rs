//! Answers while they are written: from one session for the whole chat, and on the screen as they come.

use std::io::{self, IsTerminal, Write};

use anyhow::{Result, bail};
use panacea_model::{Decoder, Generation, NewToken, Request, RequestId, Sampling, StopReason};
use panacea_pretrained::{ChatTokenizer, Message, ModelConfig, TextStream};

use super::input::Stop;
use super::voice::Voice;
use crate::terminal::printable;

/// What writes the answers of a chat.
pub struct Writer<'m> {
    tokenizer: &'m ChatTokenizer,
    /// One session, so that what it keeps of earlier turns is of use to later ones.
    generation: Generation<'m>,
    model: &'m ModelConfig,
    sampling: Sampling,
    max_new_tokens: usize,
    /// The seed of the next question.
    seed: u64,
    stop: Stop,
    /// Whether control characters of an answer would reach a terminal.
    is_on_terminal: bool,
}

/// How answers are written.
pub struct Manner {
    pub sampling: Sampling,
    pub max_new_tokens: usize,
    pub seed: u64,
}

/// One answer on its way.
struct Answer<'a> {
    id: RequestId,
    /// What stands above it.
    label: Option<&'a str>,
    stream: TextStream,
    text: String,
    end: Option<End>,
}

/// Why an answer ended.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Whole,
    Length,
    Stopped,
}

impl<'m> Writer<'m> {
    pub fn new(
        decoder: &'m Decoder,
        tokenizer: &'m ChatTokenizer,
        manner: Manner,
        stop: Stop,
    ) -> Self {
        Self {
            tokenizer,
            generation: Generation::new(decoder, Generation::USUAL_LIMIT),
            model: decoder.config(),
            sampling: manner.sampling,
            max_new_tokens: manner.max_new_tokens,
            seed: manner.seed,
            stop,
            is_on_terminal: io::stdout().is_terminal(),
        }
    }

    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// What is said next in a conversation; none where Ctrl-C came before the first word.
    pub fn write(&mut self, messages: &[Message], voice: Option<&Voice>) -> Result<Option<String>> {
        let answers = self.write_all(messages, &[(None, voice)])?;
        Ok(answers.into_iter().next().flatten())
    }

    /// What each of several voices says next, all with the same seed. They are written in one batch, and shown one below the
    /// other, each under its λ.
    pub fn compare(&mut self, messages: &[Message], voices: &[Voice]) -> Result<()> {
        let voices: Vec<_> = (voices.iter())
            .map(|voice| (Some(voice.label.as_str()), Some(voice)))
            .collect();
        self.write_all(messages, &voices)?;
        Ok(())
    }

    fn write_all(
        &mut self,
        messages: &[Message],
        voices: &[(Option<&str>, Option<&Voice>)],
    ) -> Result<Vec<Option<String>>> {
        let prompt = self.tokenizer.encode_prompt(messages)?;
        let room = self.model.room_after(prompt.len());
        if room == 0 {
            bail!(
                "with this the conversation has {} tokens, and the model reads {} with the answer: \
                 /clear begins a new one, and /save FILE before it keeps this one",
                prompt.len(),
                self.model.max_position_embeddings
            );
        }
        let mut answers = Vec::with_capacity(voices.len());
        for &(label, voice) in voices {
            let id = self.generation.push(Request {
                prompt: prompt.clone(),
                steering: voice.map(|voice| voice.steering.clone()),
                sampling: self.sampling.clone(),
                stop: self.tokenizer.stop_ids().to_vec(),
                max_new_tokens: self.max_new_tokens.min(room),
                seed: self.seed,
                likelihoods: None,
            })?;
            answers.push(Answer {
                id,
                label,
                stream: TextStream::new(),
                text: String::new(),
                end: None,
            });
        }
        self.seed = self.seed.wrapping_add(1);
        self.stop.listen();
        let run = self.run(&mut answers, room);
        for answer in &answers {
            // Where it broke off, nobody waits for the rest.
            self.generation.cancel(answer.id);
        }
        run?;
        let said = |answer: Answer<'_>| {
            let is_said = answer.end != Some(End::Stopped) || !answer.text.is_empty();
            is_said.then_some(answer.text)
        };
        Ok(answers.into_iter().map(said).collect())
    }

    /// Writes all answers to their ends, and shows them as they come: the first one, then what there is of the next.
    fn run(&mut self, answers: &mut [Answer<'_>], room: usize) -> Result<()> {
        let mut screen = Screen {
            shown: 0,
            bytes: None,
            is_terminal: self.is_on_terminal,
        };
        while answers.iter().any(|answer| answer.end.is_none()) {
            if self.stop.is_asked_for() {
                for answer in answers.iter_mut().filter(|answer| answer.end.is_none()) {
                    self.generation.cancel(answer.id);
                    answer.close(self.tokenizer, End::Stopped)?;
                }
            } else {
                for new in self.generation.step()? {
                    let answer = answers.iter_mut().find(|answer| answer.id == new.request);
                    let answer = answer.expect("only these were asked for");
                    answer.take(self.tokenizer, &new)?;
                }
            }
            screen.show(answers, |end| self.remark(end, room))?;
        }
        Ok(())
    }

    /// What a person should know about the end of an answer.
    fn remark(&self, end: End, room: usize) -> Option<String> {
        match end {
            End::Whole => None,
            End::Stopped => Some("[stopped]".to_owned()),
            End::Length if room <= self.max_new_tokens => Some(format!(
                "[cut: the conversation has filled the model's {} tokens; /clear begins a new one]",
                self.model.max_position_embeddings
            )),
            End::Length => Some(format!(
                "[cut after {} tokens; --max-new-tokens allows more]",
                self.max_new_tokens
            )),
        }
    }
}

impl Answer<'_> {
    fn take(&mut self, tokenizer: &ChatTokenizer, new: &NewToken) -> Result<()> {
        if matches!(new.end, Some(StopReason::Stop(_))) {
            return self.close(tokenizer, End::Whole);
        }
        self.text += &self.stream.push(tokenizer, new.token)?;
        match new.end {
            Some(_) => self.close(tokenizer, End::Length),
            None => Ok(()),
        }
    }

    /// Adds what was kept back.
    fn close(&mut self, tokenizer: &ChatTokenizer, end: End) -> Result<()> {
        self.text += &std::mem::take(&mut self.stream).finish(tokenizer)?;
        self.end = Some(end);
        Ok(())
    }
}

/// How far the answers are on the screen.
struct Screen {
    /// Answers that stand there whole.
    shown: usize,
    /// Bytes of the next one, once it has begun.
    bytes: Option<usize>,
    is_terminal: bool,
}

impl Screen {
    fn show(
        &mut self,
        answers: &[Answer<'_>],
        remark: impl Fn(End) -> Option<String>,
    ) -> Result<()> {
        let mut out = io::stdout().lock();
        while let Some(answer) = answers.get(self.shown) {
            if let (None, Some(label)) = (self.bytes, answer.label) {
                let distance = if self.shown > 0 { "\n" } else { "" };
                writeln!(out, "{distance}[{label}]")?;
            }
            let from = self.bytes.unwrap_or(0);
            write!(out, "{}", printable(&answer.text[from..], self.is_terminal))?;
            out.flush()?;
            self.bytes = Some(answer.text.len());
            let Some(end) = answer.end else {
                break;
            };
            writeln!(out)?;
            if let Some(remark) = remark(end) {
                note!("{remark}");
            }
            (self.shown, self.bytes) = (self.shown + 1, None);
        }
        Ok(())
    }
}
