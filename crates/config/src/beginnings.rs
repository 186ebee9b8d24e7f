//! Configurations to begin with, one for each thing that is trained.

use crate::problems::ConfigErrors;
use crate::reading::Overrides;
use crate::spec::Spec;

/// A configuration to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// Its name, such as `dpo`.
    pub name: &'static str,
    /// What it trains, on which records.
    pub about: &'static str,
    /// What it says that no default says.
    says: &'static str,
}

/// What may be begun with.
pub const BEGINNINGS: [Beginning; 5] = [
    Beginning {
        name: "dpo",
        about: "preference optimisation on pairs, such as TRL's prompt, chosen and rejected",
        says: r#"
[model]
path = "models/smollm2-135m-instruct"
[data]
train = "train.jsonl"
eval = "eval.jsonl"
[[objective]]
name = "preferred"
chosen = true
[[objective]]
name = "brevity"
rule = "shorter"
[method]
loss = "dpo"
"#,
    },
    Beginning {
        name: "kto",
        about: "answers that are good or bad by themselves, with a column for each objective",
        says: r#"
[model]
path = "models/smollm2-135m-instruct"
[data]
train = "train.jsonl"
eval = "eval.jsonl"
[[objective]]
name = "helpful"
column = "helpful"
[[objective]]
name = "harmless"
column = "harmless"
[method]
loss = "kto"
"#,
    },
    Beginning {
        name: "sft",
        about: "supervised fine-tuning, with files of its own for each style",
        says: r#"
[model]
path = "models/smollm2-135m-instruct"
[[objective]]
name = "friendly"
train = "friendly.jsonl"
eval = "friendly-eval.jsonl"
[[objective]]
name = "brief"
train = "brief.jsonl"
eval = "brief-eval.jsonl"
[method]
loss = "sft"
"#,
    },
    Beginning {
        name: "rlhf",
        about: "reinforcement learning on prompts alone: the model answers, and scorers rate the answers",
        says: r#"
[model]
path = "models/smollm2-135m-instruct"
[data]
train = "prompts.jsonl"
eval = "eval-prompts.jsonl"
[[objective]]
name = "conciseness"
reward = { rule = "conciseness", tokens = 50, max = 4.0 }
[[objective]]
name = "politeness"
reward = { rule = "keywords", words = ["please", "thank you"] }
[method]
loss = "rlhf"
[rlhf]
normalise = true
"#,
    },
    Beginning {
        name: "reward-model",
        about: "a model that scores answers, learned from pairs, for RLHF",
        says: r#"
[model]
path = "models/smollm2-135m-instruct"
[data]
train = "train.jsonl"
eval = "eval.jsonl"
[[objective]]
name = "preferred"
chosen = true
[method]
name = "reward-model"
"#,
    },
];

impl Beginning {
    /// It as a configuration file: every key that has an effect stands there with what it does.
    pub fn file(&self) -> Result<String, ConfigErrors> {
        let spec = Spec::from_toml(self.says, self.name);
        let keys = spec.with_keys_of_its_method(&Overrides::default())?;
        Ok(format!("# {}.\n{keys}", self.about))
    }
}
