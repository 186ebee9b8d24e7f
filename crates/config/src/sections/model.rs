//! `[model]` and `[precision]`: the network, and the type of its weights.

use std::path::PathBuf;

use panacea_devices::Precision;
use panacea_pretrained::{ChatOptions, TemplateValue};

use crate::names::TemplateVariables;
use crate::resolver::Resolver;

section! {
    /// The language model that is adapted.
    ModelSpec at "model." {
        /// A folder in Hugging Face layout, or a GGUF file.
        path: PathBuf, default "required, here or as `--model`";
        /// A folder with a `tokenizer.json`, whose tokenizer and chat template are taken: beside a GGUF file, for example.
        tokenizer: PathBuf, default "the model's own";
        /// A Jinja file with the chat template.
        chat_template: PathBuf, default "the tokenizer's own";
        /// Variables that the chat template sees, in a table of their own: `enable_thinking = false` in `[model.template]`, for
        /// example. `date = "2026-11-27"` is the day that it is for the template; without it, the day on which the run begins.
        template: TemplateVariables, default "none";
    }
}

section! {
    /// The types of numbers.
    PrecisionSpec at "precision." {
        /// The type of the model's frozen weights, in which products with them are computed; `"auto"` is `"bf16"` where the
        /// device computes in it, `"f32"` elsewhere. Adapters, gradients, norms and softmax have 32 bits.
        base: Precision = Precision::Auto;
    }
}

/// The variable that is the template's date.
const DATE: &str = "date";

impl ModelSpec {
    /// A model at `path` whose conversations are written so.
    pub(crate) fn of(path: PathBuf, chat: &ChatOptions) -> Self {
        let mut variables = chat.variables.clone();
        let date = chat.date.clone().map(TemplateValue::Text);
        variables.extend(date.map(|date| (DATE.to_owned(), date)));
        Self {
            path: Some(path),
            tokenizer: chat.tokenizer.clone(),
            chat_template: chat.template.clone(),
            template: Some(TemplateVariables(variables)).filter(|table| !table.0.is_empty()),
        }
    }
}

impl Resolver {
    pub(crate) fn chat(&mut self, spec: &ModelSpec) -> ChatOptions {
        let key = spec.template().key;
        let mut variables = self
            .take_or(spec.template(), TemplateVariables::default())
            .0;
        for name in variables.keys() {
            if let Some(whose) = ChatOptions::reserved(name) {
                self.problem(key, format!("`{name}` {whose}, and is not to be set"));
            }
        }
        let date = match variables.remove(DATE) {
            None => None,
            Some(TemplateValue::Text(date)) => {
                if let Err(problem) = ChatOptions::check_date(&date) {
                    self.problem(key, problem);
                }
                Some(date)
            }
            Some(_) => {
                self.problem(key, "`date` is a text such as \"2026-11-27\"".to_owned());
                None
            }
        };
        ChatOptions {
            tokenizer: self.take_if_given(spec.tokenizer()),
            template: self.take_if_given(spec.chat_template()),
            variables,
            date,
        }
    }

    pub(crate) fn model(&mut self, spec: &ModelSpec) -> PathBuf {
        match self.take_if_given(spec.path()) {
            Some(path) if !path.as_os_str().is_empty() => path,
            _ => {
                self.missing(
                    "model.path",
                    "there is no model; name one with --model, or here",
                );
                PathBuf::new()
            }
        }
    }
}
