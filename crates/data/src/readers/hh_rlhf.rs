//! hh-rlhf: `chosen` and `rejected`, whole transcripts
//! `"\n\nHuman: .. \n\nAssistant: .. \n\nHuman: .. \n\nAssistant: .."`.
//!
//! Anthropic's helpful and harmless data. Both transcripts are taken apart at their markers;
//! they must be equal up to the last answer. Adjacent turns of one speaker, which the data has,
//! are joined, since chat templates want speakers to alternate.

use panacea_pretrained::{Content, Message};

use super::fields::{Row, prompt_column, required, text};
use super::turns::{split_pair, turn};
use super::{Reading, has_both};
use crate::error::FieldProblem;

const SPEAKERS: [(&str, &str); 2] = [("\n\nHuman:", "user"), ("\n\nAssistant:", "assistant")];

pub(super) fn detect(row: &Row) -> bool {
    let is_transcript = |field: &str| {
        row.get(field)
            .and_then(|value| value.as_str())
            .is_some_and(|text| {
                text.trim_start().starts_with("Human:") && text.contains("\n\nAssistant:")
            })
    };
    has_both(row, "chosen", "rejected")
        && prompt_column(row).is_none()
        && is_transcript("chosen")
        && is_transcript("rejected")
}

pub(super) fn read(row: &Row) -> Result<Reading, FieldProblem> {
    let chosen = transcript(text(required(row, "chosen")?, "chosen")?, "chosen")?;
    let rejected = transcript(text(required(row, "rejected")?, "rejected")?, "rejected")?;
    Reading::of_conversations(row, split_pair(chosen, rejected, ["chosen", "rejected"])?)
}

/// Takes a transcript apart at its markers.
pub(super) fn transcript(text: &str, field: &str) -> Result<Vec<Message>, FieldProblem> {
    let text = format!("\n\n{}", text.trim_start());
    let mut rest = text.as_str();
    let mut turns: Vec<Message> = Vec::new();
    while let Some((marker, role)) = SPEAKERS
        .into_iter()
        .find(|(marker, _)| rest.starts_with(marker))
    {
        rest = &rest[marker.len()..];
        let end = SPEAKERS
            .iter()
            .filter_map(|(marker, _)| rest.find(marker))
            .min()
            .unwrap_or(rest.len());
        let content = rest[..end].trim();
        rest = &rest[end..];
        match turns.last_mut() {
            Some(last) if last.role == role => {
                last.content = Content::Text(format!("{}\n\n{content}", last.text()).into());
            }
            _ => turns.push(turn(role, content)),
        }
    }
    if turns.first().is_some_and(|first| first.role == "user") {
        return Ok(turns);
    }
    Err(FieldProblem {
        field: field.to_owned(),
        found: match turns.is_empty() {
            true => "a text that does not begin with \"Human:\"".to_owned(),
            false => "a transcript that begins with the assistant".to_owned(),
        },
        expected: "a transcript \"\\n\\nHuman: .. \\n\\nAssistant: ..\"".to_owned(),
    })
}
