//! Opening a reward model, and asking it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn_tensor::{Device, FloatDType, Tensor, TensorData};
use panacea_devices::Precision;
use panacea_model::{Decoder, ModelError, PackedBatch, Sequence, ValueHead};
use panacea_pretrained::{
    Answer, Answered, ChatOptions, JsonObject, Message, Pretrained, PretrainedError,
    are_spelt_alike,
};
use panacea_runs::{RunError, RunRecord};
use panacea_svd_lora::{ADAPTER_CONFIG_FILE, AdapterError, Adapters};

/// The folder of a run's adapter.
const RUN_ADAPTER: &str = "adapter";

/// The plan of a run.
const RUN_PLAN: &str = "run.toml";

/// The head of a published classifier.
const SCORE: &str = "score.weight";

/// Tokens that go through the network together, unless a single prompt with its responses has more.
const ROWS_PER_PASS: usize = 2048;

/// A network that reads rewards.
#[derive(Debug)]
pub struct RewardModel {
    base: Base,
    /// What was trained beside the base model; a published classifier has nothing.
    adapters: Option<Adapters>,
    head: ValueHead,
    outputs: Vec<String>,
}

/// A language model in memory, with its files. Whoever has one already shares it with the reward models that stand on it,
/// so that its weights are there once.
#[derive(Debug, Clone)]
pub struct Base {
    /// The files, with the tokenizer.
    pub pretrained: Arc<Pretrained>,
    /// The network.
    pub decoder: Arc<Decoder>,
}

/// A response to be rewarded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversation<'a> {
    /// What was said before it.
    pub prompt: &'a [Message],
    /// What the chat template sees beside it, such as `tools`; nothing where there is none.
    pub variables: Option<&'a JsonObject>,
    /// The response.
    pub response: &'a str,
}

/// Why a reward model cannot be opened, or asked.
#[derive(Debug, thiserror::Error)]
pub enum RewardModelError {
    /// The base model's files.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The adapter's files.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The run's plan.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A model or an adapter without a head.
    #[error(
        "{path} has nothing that reads rewards: expected a run with method.name = \"reward-model\", or a folder whose config.json names a sequence-classification architecture such as LlamaForSequenceClassification",
        path = path.display()
    )]
    NoHead {
        /// What was opened.
        path: PathBuf,
    },
    /// An adapter that was trained on other weights.
    #[error(
        "{path} was trained on {base} with the fingerprint {expected}, and what lies there now has {found}: put those weights back",
        path = path.display(), base = base.display()
    )]
    OtherBase {
        /// The adapter.
        path: PathBuf,
        /// The base model.
        base: PathBuf,
        /// The fingerprint that it had.
        expected: String,
        /// The fingerprint that it has.
        found: String,
    },
    /// A conversation beyond the model's context.
    #[error(
        "a conversation of {found} tokens does not fit into the reward model's {limit} positions: lower the length of prompts or answers"
    )]
    TooLong {
        /// Tokens of prompt and response.
        found: usize,
        /// `max_position_embeddings`.
        limit: usize,
    },
}

impl RewardModel {
    /// Opens the run of a reward model, or a published classifier in Hugging Face layout. `shared` is a model in memory
    /// already: a run that was trained on the same weights uses it, and loads none of its own. Conversations are written as
    /// the run's own plan says, not as that of whoever shares the weights.
    pub fn open(
        path: &Path,
        device: &Device,
        shared: Option<&Base>,
    ) -> Result<Self, RewardModelError> {
        let adapter = path.join(RUN_ADAPTER);
        if adapter.join(ADAPTER_CONFIG_FILE).exists() {
            return Self::from_adapter(&adapter, device, shared);
        }
        if path.join(ADAPTER_CONFIG_FILE).exists() {
            return Self::from_adapter(path, device, shared);
        }
        let pretrained = Pretrained::open(path)?;
        let no_head = || RewardModelError::NoHead {
            path: path.to_owned(),
        };
        let outputs = pretrained.config().labels.clone().ok_or_else(no_head)?;
        let weight = pretrained.tensor(SCORE)?;
        let shape = [outputs.len(), pretrained.config().hidden_size];
        let head = ValueHead {
            weight: Tensor::from_data(TensorData::new(weight.data, shape), device),
            bias: Tensor::zeros([1, outputs.len()], device),
        };
        Ok(Self {
            base: Base::load(pretrained, device, usual_weights(device))?,
            adapters: None,
            head,
            outputs,
        })
    }

    fn from_adapter(
        path: &Path,
        device: &Device,
        shared: Option<&Base>,
    ) -> Result<Self, RewardModelError> {
        let mut adapters = Adapters::load(path, device)?;
        let head = ValueHead::take_from(&mut adapters.factors);
        let head = head.ok_or_else(|| RewardModelError::NoHead {
            path: path.to_owned(),
        })?;
        let chat = chat_of(path)?;
        let expected = &adapters.config.base_fingerprint;
        let base = match shared {
            Some(shared) if shared.pretrained.fingerprint()? == *expected => {
                // Its files alone, once more: they are read where a conversation needs them.
                let own = Pretrained::open(shared.pretrained.source())?;
                Base {
                    pretrained: Arc::new(own.with_chat(chat)),
                    decoder: Arc::clone(&shared.decoder),
                }
            }
            _ => {
                let base = PathBuf::from(&adapters.config.base_model);
                let pretrained = Pretrained::open(&base)?.with_chat(chat);
                let found = pretrained.fingerprint()?;
                if found != *expected {
                    return Err(RewardModelError::OtherBase {
                        path: path.to_owned(),
                        base,
                        expected: expected.clone(),
                        found,
                    });
                }
                Base::load(pretrained, device, usual_weights(device))?
            }
        };
        check_head(&head, adapters.config.objectives.len(), &base.decoder)?;
        adapters.check(
            &base
                .decoder
                .adapted_shapes(&adapters.config.target_modules)?,
        )?;
        Ok(Self {
            base,
            head,
            outputs: adapters.config.objectives.clone(),
            adapters: Some(adapters),
        })
    }

    /// The names of the numbers that it reads.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Whether its base model is the one in `other`, and not a second one in memory.
    pub fn shares(&self, other: &Base) -> bool {
        Arc::ptr_eq(&self.base.decoder, &other.decoder)
    }

    /// One row for each conversation, in their order, with a number for each output. Conversations with the same prompt
    /// one after the other share it.
    pub fn rewards(
        &self,
        conversations: &[Conversation<'_>],
    ) -> Result<Vec<Vec<f64>>, RewardModelError> {
        let tokenizer = self.base.pretrained.tokenizer()?;
        let limit = self.base.pretrained.config().max_position_embeddings;
        let mut prompts: Vec<Answered> = Vec::new();
        // Objects are equal whatever the order of their keys, and the template may write it.
        let is_same = |one: &Conversation<'_>, next: &Conversation<'_>| {
            one.prompt == next.prompt
                && one.variables == next.variables
                && are_spelt_alike(one.prompt, next.prompt)
                && are_spelt_alike(&one.variables, &next.variables)
        };
        let none = JsonObject::new();
        for same in conversations.chunk_by(is_same) {
            let variables = same[0].variables.unwrap_or(&none);
            let prompt = tokenizer.prompt_with(same[0].prompt, variables)?;
            let responses: Vec<Answer> = same.iter().map(|one| one.response.into()).collect();
            let answered = tokenizer.answered(&prompt, &responses)?;
            for response in &answered.responses {
                let found = answered.prompt.len() + response.len();
                if found > limit {
                    return Err(RewardModelError::TooLong { found, limit });
                }
            }
            prompts.push(answered);
        }

        // What the adapter was trained under: the same λ for every row.
        let weight = 1.0 / self.outputs.len() as f64;
        let preference = vec![weight; self.outputs.len()];
        let mut rewards = Vec::with_capacity(conversations.len());
        let mut waiting: Vec<Sequence<'_>> = Vec::new();
        let mut rows = 0;
        for Answered {
            prompt, responses, ..
        } in &prompts
        {
            let more = prompt.len() + responses.iter().map(Vec::len).sum::<usize>();
            if !waiting.is_empty() && rows + more > ROWS_PER_PASS {
                rewards.extend(self.read(&waiting)?);
                waiting.clear();
                rows = 0;
            }
            rows += more;
            waiting.push(Sequence {
                prompt,
                responses: responses.iter().map(Vec::as_slice).collect(),
                preference: &preference,
            });
        }
        rewards.extend(self.read(&waiting)?);
        Ok(rewards)
    }

    /// The rewards of sequences in one pass.
    fn read(&self, sequences: &[Sequence<'_>]) -> Result<Vec<Vec<f64>>, RewardModelError> {
        if sequences.is_empty() {
            return Ok(Vec::new());
        }
        let batch = PackedBatch::ends(sequences)?;
        let values = (self.base.decoder).values(&batch, self.adapters.as_ref(), &self.head)?;
        let rows = values.chunks_exact(self.outputs.len());
        Ok(rows.map(<[f64]>::to_vec).collect())
    }
}

/// Refuses a head that reads another number of outputs, as a critic's does.
fn check_head(head: &ValueHead, outputs: usize, decoder: &Decoder) -> Result<(), AdapterError> {
    let hidden = decoder.config().hidden_size;
    let parts = [
        ("U", head.weight.dims(), [outputs, hidden]),
        ("V", head.bias.dims(), [1, outputs]),
    ];
    let wrong = parts
        .iter()
        .filter(|(_, found, expected)| found != expected);
    let wrong = wrong.map(|(part, found, expected)| {
        format!(
            "{}: {part} is {found:?}, expected {expected:?}",
            ValueHead::NAME
        )
    });
    match wrong.collect::<Vec<String>>() {
        none if none.is_empty() => Ok(()),
        wrong => Err(AdapterError::Mismatch(wrong)),
    }
}

/// How the run of this adapter has conversations written: of `adapter/` or of a checkpoint in it. An adapter that lies in no run
/// says nothing of it.
fn chat_of(adapter: &Path) -> Result<ChatOptions, RewardModelError> {
    let folders = adapter.ancestors().skip(1).take(2);
    let plan = folders
        .map(|run| run.join(RUN_PLAN))
        .find(|plan| plan.is_file());
    match plan {
        Some(plan) => Ok(RunRecord::read(&plan)?.plan.chat().clone()),
        None => Ok(ChatOptions::default()),
    }
}

/// The type that weights have on a device where nobody says otherwise.
fn usual_weights(device: &Device) -> FloatDType {
    (Precision::Auto.on(device)).expect("auto takes what there is")
}

impl Base {
    /// Loads the network of a model's files, with weights of a type (see [`Decoder::load_in`]).
    pub fn load(
        pretrained: Pretrained,
        device: &Device,
        weights: FloatDType,
    ) -> Result<Self, RewardModelError> {
        Ok(Self {
            decoder: Arc::new(Decoder::load_in(&pretrained, device, weights)?),
            pretrained: Arc::new(pretrained),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use panacea_pretrained::TemplateValue;
    use panacea_svd_lora::SvdLoraConfig;
    use panacea_test_support::TinyModel;
    use serde_json::json;

    use super::*;

    const TEMPLATE: &str =
        "{{ tone }}{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}";

    /// The weights may be those of the policy, whose conversations are written otherwise.
    #[test]
    fn a_reward_model_reads_conversations_as_its_own_run_has_them() {
        let place = tempfile::tempdir().unwrap();
        let [base, run] = ["base", "run"].map(|name| place.path().join(name));
        fs::create_dir_all(&base).unwrap();
        fs::create_dir_all(run.join(RUN_ADAPTER)).unwrap();
        let config = json!({
            "model_type": "llama", "vocab_size": 272, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8, "hidden_act": "silu",
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": false
        });
        TinyModel::well_behaved(config, 0.4).write(&base);
        fs::write(base.join("chat_template.jinja"), TEMPLATE).unwrap();
        let device = panacea_devices::select("flex").unwrap();
        let of_tone = |tone: &str| {
            let variables = [("tone".to_owned(), TemplateValue::Text(tone.to_owned()))].into();
            Pretrained::open(&base).unwrap().with_chat(ChatOptions {
                variables,
                ..ChatOptions::default()
            })
        };
        let policy = Base::load(of_tone("policy"), &device, FloatDType::F32).unwrap();

        let config = SvdLoraConfig {
            base_model: base.display().to_string(),
            base_fingerprint: policy.pretrained.fingerprint().unwrap(),
            rank: 1,
            objectives: vec!["wit".to_owned()],
            alpha: 1.0,
            target_modules: vec!["q_proj".to_owned()],
        };
        let shapes = policy
            .decoder
            .adapted_shapes(&config.target_modules)
            .unwrap();
        let mut adapters = Adapters::init(config, &shapes, 0.1, 5, &device);
        let mut head = ValueHead::zeros(1, 8, &device);
        head.weight = Tensor::from_data([[1.0f32, -2.0, 3.0, -4.0, 5.0, -6.0, 7.0, -8.0]], &device);
        let factors = &mut adapters.factors.0;
        factors.insert(ValueHead::NAME.to_owned(), head.into_factors());
        adapters.save(&run.join(RUN_ADAPTER)).unwrap();
        let record = |tone: &str| {
            let text = format!(
                "data = {{ train = \"a.jsonl\" }}\nmethod = {{ name = \"reward-model\" }}\n\
                 [model]\npath = \"base\"\n[model.template]\ntone = \"{tone}\"\n\
                 [[objective]]\nname = \"wit\"\nscore = \"wit\"\n\
                 [run]\npanacea = \"0\"\nburn = \"0\"\nmodel_fingerprint = \"0\"\n"
            );
            fs::write(run.join(RUN_PLAN), text).unwrap();
        };

        let prompt = [Message::new("user", "hello")];
        let reward = |shared: Option<&Base>| {
            let model = RewardModel::open(&run, &device, shared).unwrap();
            assert_eq!(
                shared.is_some_and(|base| model.shares(base)),
                shared.is_some()
            );
            let conversation = Conversation {
                prompt: &prompt,
                variables: None,
                response: "world",
            };
            model.rewards(&[conversation]).unwrap()
        };
        record("judge");
        let own = reward(None);
        assert_eq!(reward(Some(&policy)), own);
        record("policy");
        assert_ne!(reward(Some(&policy)), own);
    }

    /// What a conversation is worth does not depend on its neighbours, also where they say the same in another order.
    #[test]
    fn each_conversation_is_read_as_it_is_spelt() {
        let base = tempfile::tempdir().unwrap();
        let config = json!({
            "model_type": "llama", "vocab_size": 272, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8, "hidden_act": "silu",
            "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": false
        });
        TinyModel::well_behaved(config, 0.4).write(base.path());
        let template = "{% for m in messages %}{{ m.content or '-' }}{{ m.x | tojson }}{{ '<|im_end|>' }}{% endfor %}";
        fs::write(base.path().join("chat_template.jinja"), template).unwrap();
        let device = panacea_devices::select("flex").unwrap();
        let pretrained = Pretrained::open(base.path()).unwrap();
        let head = Tensor::from_data([[1.0f32, -2.0, 3.0, -4.0, 5.0, -6.0, 7.0, -8.0]], &device);
        let model = RewardModel {
            base: Base::load(pretrained, &device, FloatDType::F32).unwrap(),
            adapters: None,
            head: ValueHead {
                weight: head,
                bias: Tensor::zeros([1, 1], &device),
            },
            outputs: vec!["wit".to_owned()],
        };
        let turns = |text: &str| -> Vec<Message> { serde_json::from_str(text).unwrap() };
        let prompts = [
            r#"[{"role": "user", "content": null, "x": {"a": 1, "b": 2}}]"#,
            r#"[{"role": "user", "content": null, "x": {"b": 2, "a": 1}}]"#,
        ]
        .map(turns);
        assert_eq!(prompts[0], prompts[1]);
        let answer = |prompt| Conversation {
            prompt,
            variables: None,
            response: "world",
        };
        let rewards = |of: &[Conversation<'_>]| model.rewards(of).unwrap().concat();
        let [one, other] = prompts.each_ref().map(|prompt| answer(prompt));
        let alone = [rewards(&[one])[0], rewards(&[other])[0]];
        assert_ne!(alone[0], alone[1]);
        let together = rewards(&[one, other, other]);
        for (found, expected) in together.iter().zip([alone[0], alone[1], alone[1]]) {
            assert!((found - expected).abs() < 1e-4, "{together:?}, {alone:?}");
        }
    }
}
