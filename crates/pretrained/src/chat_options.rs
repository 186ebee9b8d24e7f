//! What a user says about tokenizer and chat template, beside the model's own files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::dates;

/// How conversations are written, where that is not left to the model's own files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChatOptions {
    /// A folder whose tokenizer is taken, with its chat template, in place of the model's.
    pub tokenizer: Option<PathBuf>,
    /// A Jinja file that is the chat template.
    pub template: Option<PathBuf>,
    /// Variables that the template sees beside the conversation, such as `enable_thinking`.
    pub variables: BTreeMap<String, TemplateValue>,
    /// The day that it is for the template (`strftime_now`), as in 2026-11-27; without one, the present time.
    pub date: Option<String>,
}

/// A value of a template's variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a text, a number, true or false")]
pub enum TemplateValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
}

impl ChatOptions {
    /// Whose a name is that every template is given, so that no variable may have it, be it a user's or a record's; nothing
    /// where it is free. Filters and tests are found apart from variables, and their names are free.
    pub fn reserved(name: &str) -> Option<&'static str> {
        match name {
            "messages" | "tools" | "documents" | "add_generation_prompt" => {
                Some("comes from the conversation")
            }
            "bos_token" | "eos_token" | "unk_token" | "sep_token" | "pad_token" | "cls_token"
            | "mask_token" => Some("comes from the tokenizer"),
            "raise_exception" | "strftime_now" | "range" | "namespace" | "dict" | "debug"
            | "loop" | "self" => Some("is the template's own"),
            _ => None,
        }
    }

    /// Whether a date is one, as [`date`](Self::date) has it; if not, what was expected.
    pub fn check_date(date: &str) -> Result<(), String> {
        dates::midnight(date).map(|_| ())
    }
}

impl From<&TemplateValue> for serde_json::Value {
    fn from(value: &TemplateValue) -> Self {
        match value {
            TemplateValue::Bool(value) => Self::from(*value),
            TemplateValue::Int(value) => Self::from(*value),
            TemplateValue::Float(value) => Self::from(*value),
            TemplateValue::Text(value) => Self::from(value.as_str()),
        }
    }
}

impl From<&TemplateValue> for minijinja::Value {
    fn from(value: &TemplateValue) -> Self {
        match value {
            TemplateValue::Bool(value) => Self::from(*value),
            TemplateValue::Int(value) => Self::from(*value),
            TemplateValue::Float(value) => Self::from(*value),
            TemplateValue::Text(value) => Self::from(value.as_str()),
        }
    }
}
