//! The first tokens of a long text, without the others.
//!
//! A text of 64 MB that is cut to its first hundred tokens is not tokenised whole: its beginning is, and what comes out are the
//! tokens that the whole text begins with. That is proven for byte-pair encoding where texts are split as the usual models split
//! them; for every other tokenizer there are no [`Beginnings`], and the whole text is tokenised.
//!
//! # Proof
//!
//! Let a *place* be a position between two characters, and let the tokens of the whole text have a boundary there.
//!
//! 1. *Merges.* Within a word, pairs are merged by rank, then from left to right. No merge reached over the place, or there would
//!    be no boundary. So the merges on its left never depended on its right, and are those that the left part alone has. (Some
//!    models take a word that is a token as it is. A word that ends at the place may be such a token where the longer word is
//!    none; then it is the last token of the left part alone, which is why the last one is never used.)
//! 2. *Words.* Say that a word of the whole text reaches over the place, and cut it there. The known ways to split
//!    ([`SPLITS`]) then give the left part alone the same words, with the cut one at its end, if the character before the place
//!    is no space, and if no apostrophe is close before it: each of their branches that reaches over such a place also takes the
//!    word's part before it, all of it (only `'re` and its like do not), and the branch that looks ahead, `\s+(?!\S)`, looks no
//!    further than at the first character behind a run of spaces, which lies before the place. Two ask for more ([`SPLITS_BY_CASE`]).
//! 3. *Normal forms.* The characters at the place are [`is_plain`]: no normal form changes them, or joins them with what is before.
//! 4. *Added tokens.* They are looked for in the text before all else. None stands close to the place, so that those on its left
//!    are found as they are in the left part alone.
//!
//! So the tokens before a boundary are those of the left part alone. Nobody knows the boundaries without tokenising everything,
//! but among some places in a row one must be a boundary, if no token is long enough to reach over all of them: if the vocabulary has no
//! token with these characters in it. Where the left parts of all these places begin with the same tokens, so does the whole text.
//! Between a word and a space, one place is nearly always enough.

use std::collections::HashSet;

use serde::Deserialize;
use tokenizers::{ModelWrapper, Tokenizer};

/// Llama 3 takes up to three digits together.
pub(crate) const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen takes every digit alone.
pub(crate) const QWEN2_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// As Qwen2's, with marks among the letters.
const QWEN3_5_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-4o's, as gpt-oss, Phi 4 and Llama 4 have it: a capital behind small letters begins a word.
const O200K_WORDS: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's since Nemo: the same without apostrophes, and with every digit alone.
const TEKKEN_WORDS: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The regular expressions of which step 2 holds, beside that of GPT-2, which byte-level tokenizers have built in. Another one
/// can come in once all of its branches were looked at.
const SPLITS: [&str; 3] = [LLAMA3_WORDS, QWEN2_WORDS, QWEN3_5_WORDS];

/// Those of which it holds at places that are not behind a capital letter. `[Lu…]*[Ll…]+` takes all of `ひBc`, and of `ひB` alone only
/// the first, since letters without a case are in both sets. Where the last letter of the left part is in the second set, the
/// branch takes all of the left part, as it does in the whole text.
const SPLITS_BY_CASE: [&str; 2] = [O200K_WORDS, TEKKEN_WORDS];

/// In how many bytes, from where a text may be cut, a place for it is looked for.
const STRETCH: usize = 8 << 10;

/// How many questions to the vocabulary that may take.
const QUESTIONS: usize = 500;

/// What it takes to find places at which a text can be cut.
#[derive(Debug, Clone)]
pub(crate) struct Beginnings {
    /// All tokens as the vocabulary has them, one after the other, with a character between them that none is asked for with.
    tokens: String,
    /// Tokens of one character.
    characters: HashSet<char>,
    /// What stands for a space in the vocabulary, but for bytes.
    space: char,
    /// Whether the vocabulary has bytes, each as a character, in place of characters.
    has_bytes: bool,
    /// Whether no place may be behind a capital letter.
    splits_by_case: bool,
    /// Added tokens, which are no vocabulary: as they stand in texts.
    added: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Normalizer {
    #[serde(rename = "NFC")]
    Nfc,
    Sequence {
        normalizers: Vec<Normalizer>,
    },
    Prepend,
    Replace {
        pattern: Pattern,
        content: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Splitter {
    Sequence {
        pretokenizers: Vec<Splitter>,
    },
    ByteLevel,
    Metaspace {
        replacement: char,
    },
    Digits,
    Split {
        pattern: Pattern,
        behavior: String,
        invert: bool,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
enum Pattern {
    String(String),
    Regex(String),
}

impl Beginnings {
    /// Those of a tokenizer, if the proof holds of it and all of its tokens are below `vocab_size`: others are an error, wherever
    /// in a text they are.
    pub fn of(tokenizer: &Tokenizer, vocab_size: usize) -> Option<Self> {
        let ModelWrapper::BPE(model) = tokenizer.get_model() else {
            return None;
        };
        let is_usual = model.dropout.is_none()
            && model.continuing_subword_prefix.is_none()
            && model.end_of_word_suffix.is_none()
            // One that does not exist is an error as soon as it is needed.
            && model.unk_token.as_ref().is_none_or(|token| tokenizer.token_to_id(token).is_some());
        let vocabulary = tokenizer.get_vocab(true);
        if !is_usual || vocabulary.values().any(|&id| id as usize >= vocab_size) {
            return None;
        }
        let mut found = Self {
            tokens: String::new(),
            characters: HashSet::new(),
            space: ' ',
            has_bytes: false,
            splits_by_case: false,
            added: Vec::new(),
        };
        let mut has_normal_form = false;
        if let Some(normalizer) = tokenizer.get_normalizer() {
            let normalizer = serde_json::to_value(normalizer).ok()?;
            found.normalized(
                serde_json::from_value(normalizer).ok()?,
                &mut has_normal_form,
            )?;
        }
        let is_changed = has_normal_form || found.space != ' ';
        if let Some(splitter) = tokenizer.get_pre_tokenizer() {
            let splitter = serde_json::to_value(splitter).ok()?;
            found.split(serde_json::from_value(splitter).ok()?)?;
        }
        for token in tokenizer.get_added_tokens_decoder().values() {
            if token.single_word {
                return None;
            }
            let content = match token.normalized && is_changed {
                false => token.content.as_str(),
                // Found in the changed text, where spaces are other characters; what is between them stands in both.
                true => token.content.trim_matches([' ', '▁']),
            };
            let is_found = !(token.normalized && is_changed)
                || (!has_normal_form && content.is_ascii() && !content.contains(' '));
            if content.is_empty() || !is_found {
                return None;
            }
            found.added.push(content.to_owned());
        }
        for token in tokenizer.get_vocab(false).keys() {
            found.tokens.push_str(token);
            found.tokens.push('\0');
            let mut characters = token.chars();
            if let (Some(only), None) = (characters.next(), characters.next()) {
                found.characters.insert(only);
            }
        }
        Some(found)
    }

    /// Takes a normalizer in; nothing where it is none of those that change each character by itself.
    fn normalized(&mut self, normalizer: Normalizer, has_normal_form: &mut bool) -> Option<()> {
        match normalizer {
            Normalizer::Nfc => *has_normal_form = true,
            Normalizer::Sequence { normalizers } => {
                for normalizer in normalizers {
                    self.normalized(normalizer, has_normal_form)?;
                }
            }
            // Before the text, far from every place.
            Normalizer::Prepend => {}
            Normalizer::Replace {
                pattern: Pattern::String(from),
                content,
            } if from == " " && content == "▁" => self.space = '▁',
            Normalizer::Replace { .. } | Normalizer::Other => return None,
        }
        Some(())
    }

    /// Takes a way to split in; nothing where step 2 is not proven of it.
    fn split(&mut self, splitter: Splitter) -> Option<()> {
        // What comes behind these would split characters that stand for others.
        let is_last = self.has_bytes;
        match splitter {
            _ if is_last => return None,
            Splitter::Sequence { pretokenizers } => {
                for splitter in pretokenizers {
                    if matches!(splitter, Splitter::Metaspace { .. }) {
                        return None;
                    }
                    self.split(splitter)?;
                }
            }
            Splitter::ByteLevel => self.has_bytes = true,
            Splitter::Metaspace { replacement: '▁' } => self.space = '▁',
            Splitter::Digits => {}
            Splitter::Split {
                pattern: Pattern::Regex(regex),
                behavior,
                invert,
            } if matches!(
                (behavior.as_str(), invert),
                ("Isolated", false) | ("Removed", true)
            ) =>
            {
                let by_case = SPLITS_BY_CASE.contains(&regex.as_str());
                if !by_case && !SPLITS.contains(&regex.as_str()) {
                    return None;
                }
                self.splits_by_case |= by_case;
            }
            // A space ends or begins a word, whatever is around it.
            Splitter::Split {
                pattern: Pattern::String(space),
                behavior,
                invert: false,
            } if space == " " && behavior != "Contiguous" => {}
            Splitter::Metaspace { .. } | Splitter::Split { .. } | Splitter::Other => return None,
        }
        Some(())
    }

    /// The first `wanted` tokens of a text, which `encode` has the tokens of; nothing where they cannot be told without more than
    /// half of it.
    pub fn first<E>(
        &self,
        text: &str,
        wanted: usize,
        mut encode: impl FnMut(&str) -> Result<Vec<u32>, E>,
    ) -> Result<Option<Vec<u32>>, E> {
        let mut from = wanted.saturating_mul(4).max(64);
        while from <= text.len() / 2 {
            if let Some(places) = self.places(text, from)
                && let Some(ids) = agreed(text, &places, wanted, &mut encode)?
            {
                return Ok(Some(ids));
            }
            from = from.saturating_mul(2);
        }
        Ok(None)
    }

    /// Places in a row, not far behind `from`, of which one must be a boundary between tokens.
    fn places(&self, text: &str, from: usize) -> Option<Vec<usize>> {
        let stretch = text.ceil_char_boundary(from)..text.floor_char_boundary(from + STRETCH);
        let mut questions = QUESTIONS;
        let is_space_next = |place: usize| text[place..].starts_with([' ', '\n']);
        let places = || {
            text[stretch.clone()]
                .char_indices()
                .map(|(at, _)| stretch.start + at)
        };
        // One is enough before most spaces.
        (places()
            .filter(|place| is_space_next(*place))
            .take(QUESTIONS / 5))
        .find_map(|place| self.places_at(text, place, 1, &mut questions))
        .or_else(|| {
            places().find_map(|place| self.places_at(text, place, usize::MAX, &mut questions))
        })
    }

    /// Places in a row that begin with `first`, at most so many.
    fn places_at(
        &self,
        text: &str,
        first: usize,
        most: usize,
        questions: &mut usize,
    ) -> Option<Vec<usize>> {
        let mut places = Vec::new();
        let mut form = String::from(*self.form(text[..first].chars().next_back()?).last()?);
        for (at, character) in text[first..].char_indices() {
            let place = first + at;
            if *questions == 0 || places.len() == most || !self.can_cut(text, place) {
                return None;
            }
            places.push(place);
            let mut forms = self.form(character).into_iter();
            let begins_with = forms.next()?;
            form.push(begins_with);
            *questions -= 1;
            if !self.tokens.contains(&form) {
                return (!self.is_near_added(text, first, place)).then_some(places);
            }
            // The bytes of one character may be several tokens, with boundaries inside.
            if forms.next().is_some() {
                return None;
            }
        }
        None
    }

    /// Whether a boundary at this place would be one of which all steps hold, but for added tokens.
    fn can_cut(&self, text: &str, place: usize) -> bool {
        let (left, right) = text.split_at(place);
        let (Some(before), Some(behind)) = (left.chars().next_back(), right.chars().next()) else {
            return false;
        };
        let is_known = |character: Option<char>| {
            character.is_some_and(|character| self.characters.contains(&character))
        };
        is_plain(before)
            && is_plain(behind)
            && !before.is_whitespace()
            && !(self.splits_by_case && is_capital(before))
            && !left.as_bytes()[place.saturating_sub(3)..].contains(&b'\'')
            && is_known(self.form(before).last().copied())
            && is_known(self.form(behind).first().copied())
    }

    /// Whether an added token stands so close that it might reach to one of these places.
    fn is_near_added(&self, text: &str, first: usize, last: usize) -> bool {
        self.added.iter().any(|token| {
            // A space may have been taken from the token.
            let reach = token.len() + 8;
            let begin = text.floor_char_boundary(first.saturating_sub(reach));
            let end = text.ceil_char_boundary((last + reach).min(text.len()));
            text[begin..end].contains(token.as_str())
        })
    }

    /// A character as the vocabulary has it.
    fn form(&self, character: char) -> Vec<char> {
        let character = match character {
            ' ' => self.space,
            other => other,
        };
        match self.has_bytes {
            false => vec![character],
            true => {
                let mut bytes = [0; 4];
                let bytes = character.encode_utf8(&mut bytes).bytes();
                bytes.map(character_of_byte).collect()
            }
        }
    }
}

/// The first tokens, if the text up to each of these places begins with them.
fn agreed<E>(
    text: &str,
    places: &[usize],
    wanted: usize,
    encode: &mut impl FnMut(&str) -> Result<Vec<u32>, E>,
) -> Result<Option<Vec<u32>>, E> {
    let mut first: Option<Vec<u32>> = None;
    for &place in places {
        let mut ids = encode(&text[..place])?;
        // The last one may be a whole word that is a token.
        ids.pop();
        if ids.len() < wanted {
            return Ok(None);
        }
        ids.truncate(wanted);
        match &first {
            Some(first) if *first != ids => return Ok(None),
            Some(_) => {}
            None => first = Some(ids),
        }
    }
    Ok(first)
}

/// Whether a plain character is among `\p{Lu}` and `\p{Lt}`; the latter are neither upper nor lower case.
fn is_capital(character: char) -> bool {
    character.is_uppercase() || matches!(character, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ')
}

/// What a byte is in the alphabet of byte-level vocabularies: printable ones stand for themselves, the others for characters
/// from 256 on.
fn character_of_byte(byte: u8) -> char {
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_printable(byte) {
        return char::from(byte);
    }
    let others_before = (0..byte).filter(|other| !is_printable(*other)).count();
    char::from_u32(256 + others_before as u32).unwrap_or_default()
}

/// Whether a character is the same in all canonical normal forms of a text wherever it stands, unless a mark follows, and joins
/// with nothing before it: some of the letters and signs of which that is so, in alphabets that people write much in.
fn is_plain(character: char) -> bool {
    matches!(
        character,
        '\t' | '\n' | ' '..='~' | '\u{a1}'..='\u{2ff}' | '\u{38e}'..='\u{3ff}' | '\u{400}'..='\u{482}' | '\u{48a}'..='\u{52f}'
        | '\u{3001}'..='\u{3002}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{ff01}'..='\u{ff5e}' | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}' | '\u{1f900}'..='\u{1f9ff}'
    )
}

#[cfg(test)]
mod tests;
