//! Reward models among the scorers of a run.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use burn_tensor::Device;
use panacea_pretrained::{Content, Message};
use panacea_rewards::{ModelSpec, Sample, ScoreError, Scorer, ScorerSpec, Turn, Verdict};
use serde_json::Value;

use crate::{Base, Conversation, RewardModel, RewardModelError};

/// The reward models of a run: each is opened once, however many of its outputs are asked for.
pub struct RewardModels<'a> {
    device: &'a Device,
    shared: Option<&'a Base>,
    opened: Vec<(PathBuf, Arc<Opened>)>,
}

/// A reward model, with what it said last.
struct Opened {
    model: RewardModel,
    last: Mutex<Option<Said>>,
}

/// Rewards of answers, so that a second output of the same model costs nothing.
struct Said {
    /// Where each answer's record stands, what was asked, and the answer.
    answers: Vec<[String; 3]>,
    rewards: Vec<Vec<f64>>,
}

struct ModelScorer {
    name: String,
    opened: Arc<Opened>,
    output: usize,
}

/// Why a reward model cannot be a scorer.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct ModelScorerError {
    name: String,
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Model(#[from] RewardModelError),
    #[error(
        "found the output \"{found}\", expected one of {known}; name one in `output`",
        found = found.as_deref().unwrap_or("")
    )]
    Output {
        found: Option<String>,
        known: String,
    },
}

impl<'a> RewardModels<'a> {
    /// None are open yet. `shared` is a model in memory that they may stand on.
    pub fn new(device: &'a Device, shared: Option<&'a Base>) -> Self {
        Self {
            device,
            shared,
            opened: Vec::new(),
        }
    }

    /// The scorer of one output of a reward model, which is opened if it is not yet.
    pub fn scorer(&mut self, spec: &ModelSpec) -> Result<Box<dyn Scorer>, ModelScorerError> {
        let name = ScorerSpec::Model(spec.clone()).to_string();
        match self.find(spec) {
            Ok((opened, output)) => Ok(Box::new(ModelScorer {
                name,
                opened,
                output,
            })),
            Err(problem) => Err(ModelScorerError { name, problem }),
        }
    }

    fn find(&mut self, spec: &ModelSpec) -> Result<(Arc<Opened>, usize), Problem> {
        let known = self.opened.iter().find(|(path, _)| *path == spec.model);
        let opened = match known {
            Some((_, opened)) => Arc::clone(opened),
            None => {
                let model = RewardModel::open(&spec.model, self.device, self.shared)?;
                let opened = Arc::new(Opened {
                    model,
                    last: Mutex::new(None),
                });
                self.opened.push((spec.model.clone(), Arc::clone(&opened)));
                opened
            }
        };
        let outputs = opened.model.outputs();
        let output = match &spec.output {
            None if outputs.len() == 1 => Some(0),
            None => None,
            Some(name) => outputs.iter().position(|output| output == name),
        };
        let output = output.ok_or_else(|| Problem::Output {
            found: spec.output.clone(),
            known: outputs.join(", "),
        })?;
        Ok((opened, output))
    }

    /// The models that stand on weights of their own, beside those of the shared one: what they cost in memory.
    pub fn apart(&self) -> impl Iterator<Item = &PathBuf> {
        let is_apart = |opened: &Opened| self.shared.is_none_or(|base| !opened.model.shares(base));
        let opened = self.opened.iter();
        opened.filter_map(move |(path, opened)| is_apart(opened).then_some(path))
    }
}

impl Scorer for ModelScorer {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError> {
        let mut last = (self.opened.last.lock()).expect("nothing panics while it scores");
        let answers: Vec<[String; 3]> = samples
            .iter()
            .map(|sample| [sample.origin, sample.prompt, sample.response].map(str::to_owned))
            .collect();
        if last.as_ref().is_none_or(|said| said.answers != answers) {
            let rewards = rewards(&self.opened.model, samples)
                .map_err(|error| ScoreError::new(&self.name, None, error.to_string()))?;
            *last = Some(Said { answers, rewards });
        }
        let said = last.as_ref().expect("it has just been said");
        let verdicts = said.rewards.iter().map(|row| row[self.output].into());
        Ok(verdicts.collect())
    }
}

fn rewards(model: &RewardModel, samples: &[Sample<'_>]) -> Result<Vec<Vec<f64>>, RewardModelError> {
    let prompts = samples.iter().map(|sample| messages(sample.turns));
    let prompts: Vec<Vec<Message>> = prompts.collect();
    let conversations = (prompts.iter().zip(samples)).map(|(prompt, sample)| Conversation {
        prompt,
        variables: sample.variables,
        response: sample.response,
    });
    model.rewards(&conversations.collect::<Vec<_>>())
}

/// The turns as the policy's template saw them: without a text where they have none.
fn messages(turns: &[Turn]) -> Vec<Message> {
    let message = |turn: &Turn| {
        let mut more = turn.clone();
        let role = more.shift_remove("role");
        let content = match more.shift_remove("content") {
            Some(Value::String(text)) => Content::Text(text.into()),
            Some(_) => Content::Null,
            None => Content::Absent,
        };
        Message {
            role: role
                .and_then(|role| Some(role.as_str()?.to_owned()))
                .unwrap_or_default(),
            content,
            more,
        }
    };
    turns.iter().map(message).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn turns_are_the_policys() {
        let turns = json!([
            {"role": "user", "content": "", "name": "Ann"},
            {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f"}}]},
            {"role": "assistant", "reasoning_content": "hm"}
        ]);
        let policys: Vec<Message> = serde_json::from_value(turns.clone()).unwrap();
        let as_turns: Vec<Turn> = serde_json::from_value(turns).unwrap();
        let found = messages(&as_turns);
        assert_eq!(found, policys);
        let contents = found.iter().map(|message| &message.content);
        let expected = [Content::Text("".into()), Content::Null, Content::Absent];
        assert!(contents.eq(&expected), "{found:?}");
    }
}
