//! The forms of an export: what the hub calls them, and how each is loaded.

use std::path::Path;

use serde_json::json;

use crate::Base;

/// Ranks that vLLM makes room for.
const VLLM_RANKS: [usize; 9] = [1, 8, 16, 32, 64, 128, 256, 320, 512];

/// What is written.
#[derive(Debug)]
pub(crate) enum Form<'a> {
    /// One adapter for PEFT, of this rank.
    Peft(&'a [f64], usize),
    /// Adapters for PEFT with every preference.
    PeftParts {
        /// The program beside them that loads them.
        program: &'a str,
        /// The preference that it begins with.
        first: &'a [f64],
        /// The ranks of all of them together.
        rank: usize,
    },
    /// Adapters for llama.cpp with every preference, with these instructions; what every one has may be in a model beside them.
    LlamaLora {
        /// How the server is started and asked.
        instructions: &'a str,
        /// Whether there is a model beside them.
        has_model: bool,
    },
    /// A whole model for transformers.
    Merged(&'a [f64]),
    /// A whole model for llama.cpp, in the file of this name.
    Gguf(&'a [f64], &'a str),
    /// A reward model for transformers.
    Classifier,
}

impl<'a> Form<'a> {
    /// The one preference that it is written at.
    pub fn preference(&self) -> Option<&'a [f64]> {
        match self {
            Self::Peft(preference, _) | Self::Merged(preference) | Self::Gguf(preference, _) => {
                Some(preference)
            }
            Self::PeftParts { .. } | Self::LlamaLora { .. } | Self::Classifier => None,
        }
    }

    pub fn is_adapter(&self) -> bool {
        match self {
            Self::Peft(..) | Self::PeftParts { .. } => true,
            Self::LlamaLora { has_model, .. } => !has_model,
            Self::Merged(_) | Self::Gguf(..) | Self::Classifier => false,
        }
    }

    pub fn introduction(&self) -> &'static str {
        match self {
            Self::Peft(..) => "A LoRA adapter for PEFT.",
            Self::PeftParts { .. } => {
                "LoRA adapters for PEFT and vLLM, whose scales are the preference."
            }
            Self::LlamaLora { .. } => {
                "LoRA adapters for llama.cpp, whose scales are the preference."
            }
            Self::Merged(_) => {
                "A whole model for transformers: a LoRA adapter merged into its base model."
            }
            Self::Gguf(..) => {
                "A whole model for llama.cpp: a LoRA adapter merged into its base model."
            }
            Self::Classifier => "A reward model, as a sequence classifier for transformers.",
        }
    }

    /// How it came from its base model, in the hub's words.
    pub fn relation(&self) -> &'static str {
        match self.is_adapter() {
            true => "adapter",
            false => "finetune",
        }
    }

    pub fn library(&self) -> Option<&'static str> {
        match self {
            Self::Peft(..) | Self::PeftParts { .. } => Some("peft"),
            Self::Merged(_) | Self::Classifier => Some("transformers"),
            // The hub knows files of llama.cpp by themselves.
            Self::LlamaLora { .. } | Self::Gguf(..) => None,
        }
    }

    pub fn pipeline(&self) -> &'static str {
        match self {
            Self::Classifier => "text-classification",
            _ => "text-generation",
        }
    }

    pub fn tags(&self) -> &'static [&'static str] {
        match self {
            Self::Peft(..) | Self::PeftParts { .. } => &["lora"],
            Self::LlamaLora { .. } => &["lora", "gguf", "llama.cpp"],
            Self::Gguf(..) => &["gguf", "llama.cpp"],
            Self::Merged(_) | Self::Classifier => &[],
        }
    }

    /// What a person types or writes.
    pub fn usage(&self, base: &Base) -> String {
        match self {
            Self::Peft(_, rank) => peft(base, *rank),
            Self::PeftParts {
                program,
                first,
                rank,
            } => parts(base, program, first, *rank),
            Self::LlamaLora { instructions, .. } => (*instructions).to_owned(),
            Self::Merged(_) => MERGED.to_owned(),
            Self::Gguf(_, file) => format!(
                "```sh\nllama-server --model {}\n```\n",
                crate::llama_cpp::quoted(file)
            ),
            Self::Classifier => CLASSIFIER.to_owned(),
        }
    }
}

fn peft(base: &Base, rank: usize) -> String {
    let from = python_arguments(base);
    let mut text = format!(
        r#"```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = "."  # this folder, or the name of this repository
tokenizer = AutoTokenizer.from_pretrained({from})
model = AutoModelForCausalLM.from_pretrained({from}, dtype="auto")
model = PeftModel.from_pretrained(model, HERE)
prompt = tokenizer.apply_chat_template(
    [{{"role": "user", "content": "Why is the sky blue?"}}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True,
)
answer = model.generate(**prompt, max_new_tokens=200)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))
```
"#
    );
    if let Some(name) = base.name() {
        text += &format!(
            "\nIn vLLM, where `model` of a request is then `steered`:\n\n```sh\nvllm serve {} --enable-lora --max-lora-rank {} \
             --lora-modules steered=.\n```\n",
            crate::llama_cpp::quoted(&name),
            vllm_rank(rank)
        );
    }
    text
}

fn parts(base: &Base, program: &str, first: &[f64], rank: usize) -> String {
    let mut text = format!(
        "With transformers and PEFT: `{program}` loads the folders as adapters, activates all of them, and sets λ. It is short and \
         meant to be copied:\n\n```python\nfrom load import model, steer\n\nsteer({})  # λ: a weight for each objective, in their \
         order, which sum to 1\n```\n",
        json!(first)
    );
    if let Some(name) = base.name() {
        text += &format!(
            "\nWith vLLM and Panacea's plug-in, where every request says its λ in the name of the model (`steered@0.2,0.8`):\n\n\
             ```sh\nexport PANACEA_PARTS=steered=$PWD PANACEA_LORAS=/var/tmp/loras VLLM_ALLOW_RUNTIME_LORA_UPDATING=1\n\
             vllm serve {} --enable-lora --max-lora-rank {} --max-loras 4\n```\n",
            crate::llama_cpp::quoted(&name),
            vllm_rank(rank)
        );
    }
    text
}

/// The smallest room that vLLM makes for this rank.
fn vllm_rank(rank: usize) -> usize {
    let fits = VLLM_RANKS.into_iter().find(|&room| rank <= room);
    fits.unwrap_or(rank)
}

/// What transformers' `from_pretrained` is given for the base model, by the name that other people have for it.
fn python_arguments(base: &Base) -> String {
    match (base.repository(), base.revision()) {
        (Some(name), Some(revision)) => format!("{}, revision={}", json!(name), json!(revision)),
        (Some(name), None) => json!(name).to_string(),
        (None, _) => local_arguments(base),
    }
}

/// The same for the files that it was trained on, where only they have its weights: those of a GGUF file.
pub(crate) fn exact_arguments(base: &Base) -> String {
    match base.pretrained().gguf_path() {
        Some(_) => local_arguments(base),
        None => python_arguments(base),
    }
}

fn local_arguments(base: &Base) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // JSON quotes texts as Python does.
    let quoted = |path: &Path| json!(path.to_string_lossy()).to_string();
    let pretrained = base.pretrained();
    let file = pretrained.gguf_path().map(absolute);
    match file
        .as_deref()
        .map(|file| (file.parent(), file.file_name()))
    {
        Some((Some(folder), Some(file))) => {
            format!("{}, gguf_file={}", quoted(folder), quoted(file.as_ref()))
        }
        _ => quoted(&absolute(pretrained.source())),
    }
}

const MERGED: &str = r#"```python
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = "."  # this folder, or the name of this repository
tokenizer = AutoTokenizer.from_pretrained(HERE)
model = AutoModelForCausalLM.from_pretrained(HERE)
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": "Why is the sky blue?"}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True,
)
answer = model.generate(**prompt, max_new_tokens=200)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1]:], skip_special_tokens=True))
```

Or in vLLM:

```sh
vllm serve .
```
"#;

const CLASSIFIER: &str = r#"```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

HERE = "."  # this folder, or the name of this repository
tokenizer = AutoTokenizer.from_pretrained(HERE)
model = AutoModelForSequenceClassification.from_pretrained(HERE)
# The rewards belong to the token that ends the answer: nothing may follow it.
text = tokenizer.apply_chat_template(
    [{"role": "user", "content": "Why is the sky blue?"}, {"role": "assistant", "content": "Air scatters blue light."}],
    tokenize=False,
).rstrip()
with torch.no_grad():
    rewards = model(**tokenizer(text, add_special_tokens=False, return_tensors="pt")).logits[0]
print({model.config.id2label[i]: reward.item() for i, reward in enumerate(rewards)})
```
"#;
