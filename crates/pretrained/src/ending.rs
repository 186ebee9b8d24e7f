//! What a chat template writes around answers, found out by rendering one.

use tokenizers::{AddedToken, Tokenizer};

use crate::foreign;
use crate::talk::{Talk, Turn};
use crate::template::ChatTemplate;

/// What a template writes behind an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    /// All of it.
    pub text: String,
    /// The first special token in it, its text, and how often it stands there.
    token: Option<(u32, String, usize)>,
}

/// An answer that nobody gives, to see what a template writes around it.
pub(crate) const ANSWER: &str = "panacea-answer-sentinel";
/// Begins with another character, so that no generation prompt goes on as both do.
pub(crate) const OTHER_ANSWER: &str = "0-panacea-answer-sentinel";

impl Ending {
    /// That of a template; nothing where it writes none, or where it refuses the conversation that is tried.
    pub fn of(tokenizer: &Tokenizer, template: &ChatTemplate) -> Self {
        let rendered = template.render(&asked(true), false);
        let after = rendered
            .as_ref()
            .ok()
            .and_then(|text| text.rsplit_once(ANSWER));
        let Some((_, after)) = after else {
            return Self::default();
        };
        let added = tokenizer.get_added_tokens_decoder();
        let encoding = foreign::call(|| tokenizer.encode_fast(after, false));
        let ids = encoding.map_or_else(|_| Vec::new(), |encoding| encoding.get_ids().to_vec());
        let first = |special: bool| {
            let is_candidate =
                |id: &&u32| added.get(id).is_some_and(|token| token.special || !special);
            ids.iter().find(is_candidate).copied()
        };
        // Some models forget to mark their end of turn as special; it is an added token nevertheless.
        let token = first(true).or_else(|| first(false)).map(|id| {
            let text = added[&id].content.clone();
            let times = after.matches(&text).count();
            (id, text, times)
        });
        // A token that was found in the normalised text alone shows no place to cut at.
        let token = token.filter(|(_, _, times)| *times > 0);
        Self {
            text: after.to_owned(),
            token,
        }
    }

    /// The token that ends an answer, if the template writes one.
    pub fn token(&self) -> Option<u32> {
        self.token.as_ref().map(|(id, _, _)| *id)
    }

    /// The whole text without what stands behind the end of the answer; nothing where it has no such end.
    pub fn cut<'a>(&self, whole: &'a str) -> Option<&'a str> {
        match &self.token {
            None => Some(
                whole
                    .strip_suffix(&self.text)
                    .unwrap_or_else(|| whole.trim_end()),
            ),
            Some((_, token, times)) => {
                let (start, _) = whole.rmatch_indices(token.as_str()).nth(times - 1)?;
                Some(&whole[..start + token.len()])
            }
        }
    }
}

/// Tokens of `template` at which a text can be taken apart: the tokens from there on are those of the rest alone.
///
/// The tokenizer finds added tokens in a text before anything else, from left to right, the longest first, and treats what is
/// between them piece by piece. So a place where one of them stands is such a place, if it is found wherever it stands (none
/// contains it or ends as it begins, itself included: of `###`, the first two are `##`), and if it takes nothing from the text before it.
pub(crate) fn anchors(tokenizer: &Tokenizer, template: &ChatTemplate) -> Vec<String> {
    let texts = [(asked(false), true), (asked(true), false)];
    let written: String = texts
        .iter()
        .filter_map(|(turns, asks)| template.render(turns, *asks).ok())
        .collect();
    let added = tokenizer.get_added_tokens_decoder();
    let ends_as_it_begins = |other: &str, token: &str| {
        (1..token.len()).any(|n| other.as_bytes().ends_with(&token.as_bytes()[..n]))
    };
    let hides = |other: &str, token: &str| other.contains(token) || ends_as_it_begins(other, token);
    let is_plain = |token: &AddedToken| {
        !(token.content.is_empty() || token.normalized || token.lstrip || token.single_word)
    };
    let is_hidden = |id: u32, token: &str| {
        ends_as_it_begins(token, token)
            || (added.iter()).any(|(other, found)| *other != id && hides(&found.content, token))
    };
    let found = added.iter().filter(|(id, token)| {
        is_plain(token) && written.contains(&token.content) && !is_hidden(**id, &token.content)
    });
    found.map(|(_, token)| token.content.clone()).collect()
}

/// A question, and its answer where there is to be one.
fn asked(is_answered: bool) -> Talk {
    let answer = is_answered.then(|| Turn::plain("assistant", ANSWER));
    let turns: Vec<Turn> = [Turn::plain("user", "?")]
        .into_iter()
        .chain(answer)
        .collect();
    Talk {
        turns,
        ..Talk::default()
    }
}
