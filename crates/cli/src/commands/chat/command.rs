//! What a line of a chat says: a question, or a command.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use panacea_config::nearest;
use panacea_objectives::Weights;

/// The commands: how they are written, and what they do.
const COMMANDS: [(&str, &str); 9] = [
    (
        "/preference [λ]",
        "answer at λ from now on: 0.2,0.8 or brevity=2,detail=1; alone: show λ",
    ),
    (
        "/profile [NAME]",
        "answer at the λ that elicit found for NAME; alone: list the profiles",
    ),
    (
        "/compare [λ λ …]",
        "the last question, answered at each λ; alone: at each objective's own, and at yours",
    ),
    (
        "/retry",
        "the last question once more: another answer in place of the last",
    ),
    (
        "/system [TEXT]",
        "what the system message says; \"\" takes it away; alone: show it",
    ),
    (
        "/clear",
        "a new conversation, with the same λ and system message",
    ),
    (
        "/save FILE",
        "the conversation as a line of JSON, which training reads; never over another file",
    ),
    ("/help", "this list"),
    ("/quit", "leave, as Ctrl-D does"),
];

/// What a line says.
#[derive(Debug, PartialEq)]
pub enum Line {
    Question(String),
    Preference(Option<Weights>),
    Profile(Option<String>),
    Compare(Vec<Weights>),
    Retry,
    System(Option<String>),
    Clear,
    Save(PathBuf),
    Help,
    Quit,
}

impl Line {
    /// Reads a line that is not empty. What begins with `/` is a command; with a space in front it is a question.
    pub fn read(line: &str) -> Result<Self> {
        if !line.starts_with('/') {
            return Ok(Self::Question(line.trim().to_owned()));
        }
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let given = (!rest.is_empty()).then(|| rest.to_owned());
        let alone = |line: Self| match rest {
            "" => Ok(line),
            rest => bail!("{name} takes nothing, but `{rest}` follows it"),
        };
        match name {
            "/preference" => Ok(Self::Preference(given.as_deref().map(weights).transpose()?)),
            "/profile" => Ok(Self::Profile(given)),
            "/compare" => Ok(Self::Compare(
                rest.split_whitespace()
                    .map(weights)
                    .collect::<Result<_>>()?,
            )),
            "/retry" => alone(Self::Retry),
            "/system" => Ok(Self::System(given)),
            "/clear" => alone(Self::Clear),
            "/save" => match given {
                Some(path) => Ok(Self::Save(path.into())),
                None => bail!("/save needs the name of a file, such as chat.jsonl"),
            },
            "/help" => alone(Self::Help),
            "/quit" => alone(Self::Quit),
            unknown => bail!("{}", nobody_knows(unknown)),
        }
    }
}

/// What there is to type.
pub fn help() -> String {
    let width = COMMANDS.map(|(usage, _)| usage.chars().count());
    let width = width.into_iter().max().unwrap_or(0);
    let mut lines: Vec<String> = (COMMANDS.iter())
        .map(|(usage, what)| format!("{usage:width$}  {what}"))
        .collect();
    lines.push(
        "Anything else is a question; one that begins with / is written with a space in front."
            .into(),
    );
    lines.push("Ctrl-C ends an answer and keeps what was said.".into());
    lines.join("\n")
}

fn weights(text: &str) -> Result<Weights> {
    let weights = text.parse();
    weights.with_context(|| format!("`{text}` is no λ"))
}

fn nobody_knows(name: &str) -> String {
    let names = || {
        let usages = COMMANDS.iter().map(|(usage, _)| *usage);
        usages.map(|usage| usage.split(' ').next().unwrap_or(usage))
    };
    let known: Vec<&str> = names().collect();
    let meant = nearest(&name[1..], names().map(|known| &known[1..]));
    format!(
        "there is no command {name}{}: there are {}; a question that begins with / is written with a space in front",
        match meant {
            Some(meant) => format!(" (did you mean /{meant}?)"),
            None => String::new(),
        },
        known.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_question_or_a_command() {
        let weights = |text: &str| text.parse::<Weights>().unwrap();
        for (line, expected) in [
            ("why?  ", Line::Question("why?".into())),
            (" /etc is what?", Line::Question("/etc is what?".into())),
            ("/preference", Line::Preference(None)),
            (
                "/preference  a=2,b=1 ",
                Line::Preference(Some(weights("a=2,b=1"))),
            ),
            (
                "/compare 1,0\t0.5,0.5",
                Line::Compare(vec![weights("1,0"), weights("0.5,0.5")]),
            ),
            ("/compare", Line::Compare(vec![])),
            ("/system be  brief", Line::System(Some("be  brief".into()))),
            ("/save a b.jsonl", Line::Save("a b.jsonl".into())),
            ("/profile", Line::Profile(None)),
            ("/quit ", Line::Quit),
        ] {
            assert_eq!(Line::read(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_command_is_refused_with_what_there_is() {
        for (line, part) in [
            (
                "/prefrence 1,0",
                "no command /prefrence (did you mean /preference?)",
            ),
            ("/xyz", "no command /xyz: there are /preference, /profile"),
            ("/", "a space in front"),
            ("/clear all", "/clear takes nothing, but `all`"),
            ("/preference 1,x", "`1,x` is no λ"),
            ("/compare 1,0 a=1,2", "`a=1,2` is no λ"),
            ("/save", "/save needs"),
        ] {
            let error = format!("{:#}", Line::read(line).unwrap_err());
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
