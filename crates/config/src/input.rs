//! How people's files and conversations are read where nothing is trained: what a run, or a command line, says of it by keys of a
//! configuration.

use panacea_data::{Format, Tolerance};
use panacea_pretrained::ChatOptions;

use crate::plan::Plan;
use crate::problems::ConfigErrors;
use crate::reading::Overrides;
use crate::resolver::Resolver;
use crate::sections::data::RecordReading;
use crate::spec::Spec;

/// How conversations are written, and the records of files read: as a run does it, but for what was set.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InputPlan {
    /// How conversations are written, where that is not left to the model's own files.
    pub chat: ChatOptions,
    /// The format of the files; without it, each file's own.
    pub format: Option<Format>,
    /// What happens to records that cannot be used, and how many may be skipped.
    pub tolerance: Tolerance,
    /// Whether prompts already are what the chat template would write.
    pub rendered: bool,
    /// What is valid but surely not meant; for a person to read.
    pub warnings: Vec<String>,
    /// The keys that were set.
    set: Vec<String>,
}

impl InputPlan {
    /// The keys that say how conversations are written.
    pub const CHAT_KEYS: [&'static str; 3] =
        ["model.tokenizer", "model.chat_template", "model.template"];

    /// The keys that say how the records of files are read.
    pub const RECORD_KEYS: [&'static str; 4] = [
        "data.format",
        "data.rendered",
        "data.bad_records",
        "data.max_skipped",
    ];

    /// Lays `set` over what `run` says, or over the defaults; each is `section.key=value` as in [`Overrides::set`]. The error lists
    /// all mistakes, among them keys that are not among `keys`.
    pub fn resolve(
        run: Option<&Plan>,
        set: &[String],
        keys: &[&[&str]],
    ) -> Result<Self, ConfigErrors> {
        // What trains and measures says nothing of it, and may not be warned about here.
        let of_run = run.map(Plan::to_spec).unwrap_or_default();
        let mut spec = Spec {
            model: of_run.model,
            data: of_run.data,
            ..Spec::default()
        };
        spec.apply(&Overrides {
            set: set.to_vec(),
            ..Overrides::default()
        });
        let mut resolver = Resolver {
            sources: std::mem::take(&mut spec.sources),
            warnings: Vec::new(),
        };
        let set: Vec<String> = resolver.sources.origins.keys().cloned().collect();
        for key in &set {
            if !keys.iter().any(|keys| keys.contains(&key.as_str())) {
                let message = format!("it has no effect here; expected {}", listed(keys));
                resolver.problem(key, message);
            }
        }
        spec.data.warn_of_idle_keys(&mut resolver, &spec.choices());
        let chat = resolver.chat(&spec.model);
        let RecordReading {
            format,
            tolerance,
            rendered,
        } = resolver.record_reading(&spec.data);
        match ConfigErrors::from_problems(resolver.sources.problems) {
            Some(errors) => Err(errors),
            None => Ok(Self {
                chat,
                format,
                tolerance,
                rendered,
                warnings: resolver.warnings,
                set,
            }),
        }
    }

    /// Whether a key was set, rather than taken from the run.
    pub fn is_set(&self, key: &str) -> bool {
        self.set.iter().any(|set| set == key)
    }
}

/// The keys in words; a variable of the template has a name of its own.
fn listed(keys: &[&[&str]]) -> String {
    let names = keys
        .iter()
        .flat_map(|keys| keys.iter())
        .map(|key| match *key {
            "model.template" => "model.template.NAME",
            key => key,
        });
    names.collect::<Vec<_>>().join(", ")
}
