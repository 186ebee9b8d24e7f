//! Loading records of any kind.

use std::path::{Path, PathBuf};

use panacea_data::{
    BadRecords, BoxError, Format, LabelSource, Loader, ObjectiveSpec, OverlongPrompts, RecordKind,
    Rule, TextEncoder, TokenLimits, Tolerance, fingerprint,
};
use panacea_pretrained::{Answer, Answered, JsonObject, Message};

/// A token for each byte; 0 ends a turn.
struct Bytes;

impl TextEncoder for Bytes {
    type Prompt = Vec<u32>;

    fn prompt(
        &self,
        messages: &[Message],
        _: &JsonObject,
        max_tokens: usize,
    ) -> Result<Option<Self::Prompt>, BoxError> {
        let text = messages.iter().flat_map(|message| message.text().bytes());
        let ids: Vec<u32> = text.map(u32::from).collect();
        Ok((ids.len() <= max_tokens).then_some(ids))
    }

    fn answered(
        &self,
        prompt: &Self::Prompt,
        responses: &[Answer],
        _: usize,
    ) -> Result<Answered, BoxError> {
        let tokens = |answer: &Answer| answer.text().bytes().map(u32::from).chain([0]).collect();
        Ok(Answered {
            prompt: prompt.clone(),
            responses: responses.iter().map(tokens).collect(),
            ..Answered::default()
        })
    }
}

/// Loads a file as the two bytes say, and makes tokens of it.
pub(crate) fn load_records(path: &Path, format: u8, kind: u8) {
    let kinds = [
        RecordKind::Pair,
        RecordKind::Sft,
        RecordKind::Unpaired,
        RecordKind::Prompt,
    ];
    let labels = match kind >> 2 & 3 {
        0 => LabelSource::Chosen,
        1 => LabelSource::Score("a".to_owned()),
        2 => LabelSource::Column("a".to_owned()),
        _ => LabelSource::Rule(Rule::Shorter),
    };
    let tolerance = Tolerance {
        bad_records: match kind >> 4 & 1 {
            0 => BadRecords::Error,
            _ => BadRecords::Skip,
        },
        max_skipped: 1.0,
    };
    let loader = Loader {
        format: Format::ALL.get(usize::from(format)).copied(),
        tolerance,
        as_written: kind >> 6 & 1 == 1,
        ..Loader::new(kinds[usize::from(kind & 3)])
    };
    let objectives = [ObjectiveSpec::new("a", labels)];
    let files: [PathBuf; 1] = [path.to_owned()];
    let _ = fingerprint(path);
    let limits = TokenLimits {
        max_prompt_tokens: 16,
        max_response_tokens: 16,
        overlong_prompts: match kind >> 5 & 1 {
            0 => OverlongPrompts::Skip,
            _ => OverlongPrompts::Truncate,
        },
    };
    let examples = loader.examples(&files, &objectives, &Bytes, &limits);
    let _ = examples.map(|(_, report)| report.to_string());
}
