//! Who scores the answers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use panacea_config::Plan;
use panacea_data::{BoxError, Example, LabelSource, Source};
use panacea_pretrained::{Answer, Content, Message};
use panacea_reward_models::{Base, RewardModels};
use panacea_rewards::{KnownResponse, Sample, Scorer, ScorerSpec, Scorers, Turn, Verdict};
use serde_json::Value;

use crate::error::TrainerError;

/// What scores the answers, and what turns tokens into the words that are scored.
pub struct Judges<'a> {
    /// One for each objective.
    pub scorers: Mutex<Scorers>,
    /// The name of the record's own score that each objective looks up, if it does.
    pub own_scores: Vec<Option<String>>,
    /// From tokens to words.
    pub decode: &'a (dyn Fn(&[u32]) -> Result<String, BoxError> + Sync),
    /// Tokens that end an answer.
    pub stop: &'a [u32],
}

/// A prompt in words.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptText {
    /// As one text.
    pub text: String,
    /// Turn by turn.
    pub turns: Vec<Turn>,
}

/// An answer in words, with what is said of it for each objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The words.
    pub text: String,
    /// What the scorer of each objective says.
    pub verdicts: Vec<Verdict>,
}

impl Scored {
    /// r_i of each objective; nothing where one of them is to be left out.
    pub fn rewards(&self) -> Option<Vec<f64>> {
        self.verdicts
            .iter()
            .map(|verdict| verdict.score())
            .collect()
    }
}

impl PromptText {
    /// A conversation in words: its only message, or all of them with their speakers.
    pub fn of(messages: &[Message]) -> Self {
        let text = match messages {
            [only] => only.text().to_owned(),
            many => {
                let turns = many.iter().map(|m| format!("{}: {}", m.role, in_words(m)));
                turns.collect::<Vec<_>>().join("\n")
            }
        };
        Self {
            text,
            turns: messages.iter().map(turn).collect(),
        }
    }
}

/// A turn as scorers see it: all that it has, and no text where it has none.
fn turn(message: &Message) -> Turn {
    let content = match &message.content {
        Content::Text(text) => Some(Value::from(&**text)),
        Content::Null => Some(Value::Null),
        Content::Absent => None,
    };
    let known = [
        ("role", Some(Value::from(message.role.as_str()))),
        ("content", content),
    ];
    let known = known
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    let more = message
        .more
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()));
    known.chain(more).collect()
}

/// What a turn says: its text, and the calls of tools beside it as JSON.
fn in_words(message: &Message) -> String {
    match message.more.get("tool_calls") {
        None => message.text().to_owned(),
        Some(calls) => format!("{} {calls}", message.text())
            .trim_start()
            .to_owned(),
    }
}

impl<'a> Judges<'a> {
    /// What scores answers, as the objectives of `plan` have it. Programs are started and reward models
    /// are opened here; those that stand on the weights of `base` share them, and the others come back by their paths.
    pub fn open(
        plan: &Plan,
        base: &Base,
        decode: &'a (dyn Fn(&[u32]) -> Result<String, BoxError> + Sync),
        stop: &'a [u32],
    ) -> Result<(Self, Vec<PathBuf>), TrainerError> {
        let (scorers, apart) = open_scorers(plan, base)?;
        let own = scorer_specs(plan).map(|spec| spec.record_score());
        let judges = Self {
            scorers: Mutex::new(scorers),
            own_scores: own.map(|name| name.map(str::to_owned)).collect(),
            decode,
            stop,
        };
        Ok((judges, apart))
    }
}

/// What says the rewards of the objectives of `plan`, in their order; a plan without rewards has none.
pub fn scorer_specs(plan: &Plan) -> impl Iterator<Item = &ScorerSpec> {
    let sources = plan.objectives().iter().map(|objective| &objective.source);
    sources.filter_map(|source| match source {
        LabelSource::Reward(spec) => Some(&**spec),
        _ => None,
    })
}

/// Opens the [`scorer_specs`] of a plan: programs are started, and reward models are read. Those that stand on the weights of
/// `base` share them, and the others come back by their paths.
pub fn open_scorers(plan: &Plan, base: &Base) -> Result<(Scorers, Vec<PathBuf>), TrainerError> {
    let mut models = RewardModels::new(base.decoder.device(), Some(base));
    let mut scorers: Vec<Box<dyn Scorer>> = Vec::new();
    for spec in scorer_specs(plan) {
        scorers.push(match spec {
            ScorerSpec::Model(model) => models.scorer(model)?,
            other => other.build()?,
        });
    }
    Ok((Scorers::new(scorers), models.apart().cloned().collect()))
}

impl Judges<'_> {
    /// Scores answers, each given with the record whose prompt it answers.
    pub fn score(&self, answers: &[(&Example, &[u32])]) -> Result<Vec<Scored>, TrainerError> {
        // The words first, since samples borrow them.
        let mut texts = Vec::with_capacity(answers.len());
        let mut records: HashMap<&Source, InWords> = HashMap::new();
        for (example, tokens) in answers {
            texts.push(self.text(example, tokens)?);
            if !records.contains_key(&example.source) {
                let in_words = InWords {
                    origin: example.source.to_string(),
                    prompt: PromptText::of(&example.words.prompt),
                    known: self.known_responses(example)?,
                    references: (example.words.references.iter())
                        .map(|(column, text)| (column.clone(), text.clone()))
                        .collect(),
                };
                records.insert(&example.source, in_words);
            }
        }
        let sample = |((example, tokens), text)| -> Sample<'_> {
            let (example, tokens): (&Example, &[u32]) = (example, tokens);
            let InWords {
                origin,
                prompt,
                known,
                references,
            } = &records[&example.source];
            Sample {
                prompt: &prompt.text,
                turns: &prompt.turns,
                variables: Some(&example.words.variables),
                response: text,
                response_tokens: tokens.len(),
                reference: (example.words.responses.first())
                    .map(Answer::text)
                    .filter(|text| !text.trim().is_empty()),
                references,
                known,
                origin,
            }
        };
        let samples: Vec<Sample<'_>> = (answers.iter().copied())
            .zip(texts.iter().map(String::as_str))
            .map(sample)
            .collect();
        let mut scorers = (self.scorers.lock()).expect("nothing panics while it scores");
        let said = scorers.score(&samples)?;
        let verdicts = |index: usize| said.iter().map(|of_scorer| of_scorer[index]).collect();
        let verdicts: Vec<Vec<Verdict>> = (0..answers.len()).map(verdicts).collect();
        let scored = texts.into_iter().zip(verdicts);
        Ok(scored
            .map(|(text, verdicts)| Scored { text, verdicts })
            .collect())
    }

    /// An answer in words: those of the record, where it is one of the record's own responses token by token and that is not
    /// cut and a text alone, and else what its tokens decode to.
    fn text(&self, example: &Example, tokens: &[u32]) -> Result<String, TrainerError> {
        let own = example.responses.iter().zip(&example.words.responses);
        for (response, answer) in own {
            let whole = without_end(response, self.stop);
            let is_whole = whole.len() < response.len() && answer.more.is_empty();
            if is_whole && whole == without_end(tokens, self.stop) {
                return Ok(answer.text().to_owned());
            }
        }
        (self.decode)(tokens).map_err(TrainerError::Decode)
    }

    /// The record's own responses, with its scores of them; those whose tokens are cut as what is left of them, by which an
    /// answer that was cut like them is found.
    fn known_responses(&self, example: &Example) -> Result<Vec<KnownResponse>, TrainerError> {
        let mut known = Vec::with_capacity(example.words.responses.len());
        for (index, tokens) in example.responses.iter().enumerate() {
            let scores = example.scores.get(index).into_iter().flatten();
            let named = self.own_scores.iter().zip(scores);
            let scores = named.filter_map(|(name, score)| Some((name.clone()?, (*score)?)));
            known.push(KnownResponse {
                text: self.text(example, tokens)?,
                scores: scores.collect(),
            });
        }
        Ok(known)
    }
}

/// What a record is in words, for its scorers.
struct InWords {
    origin: String,
    prompt: PromptText,
    known: Vec<KnownResponse>,
    references: Vec<(String, String)>,
}

/// Tokens without one that ends an answer, if that is the last.
fn without_end<'a>(tokens: &'a [u32], stop: &[u32]) -> &'a [u32] {
    match tokens.split_last() {
        Some((last, rest)) if stop.contains(last) => rest,
        _ => tokens,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Scorers have the turns of the record, and whoever reads words has the calls among them.
    #[test]
    fn a_turn_without_a_text_is_no_empty_text() {
        let call = json!([{"function": {"name": "hours", "arguments": {"z": 1, "a": null}}}]);
        let turns = json!([
            {"role": "user", "content": "When?", "name": "Ann"},
            {"role": "assistant", "content": null, "tool_calls": call},
            {"role": "assistant", "reasoning_content": "hm"},
            {"role": "tool", "content": ""}
        ]);
        let messages: Vec<Message> = serde_json::from_value(turns.clone()).unwrap();
        let found = PromptText::of(&messages);
        assert_eq!(json!(found.turns).to_string(), turns.to_string());
        let text = format!("user: When?\nassistant: {call}\nassistant: \ntool: ");
        assert_eq!(found.text, text);
    }
}
