//! The text of an answer while its tokens come.

use tokenizers::step_decode_stream;

use crate::{ChatTokenizer, PretrainedError, foreign};

/// The most tokens that are kept back: far more than a character has bytes.
const MOST_KEPT: usize = 64;

/// What tokens that come one by one add to a text.
///
/// A token may be a part of a character, so text is kept back until its last character is whole. All of it together is
/// [`ChatTokenizer::decode`] of all tokens, without special ones. It differs only where a model writes bytes that are no text:
/// where a vocabulary of pieces spells them out, `decode` also takes back the characters right in front of them, which have been
/// sent here; and of more than 64 tokens without a whole character at their end, the parts are decoded one after the other.
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    /// The last tokens: some that were sent, since they say how the next ones read, and those that were not.
    window: Vec<u32>,
    /// How many of the window's tokens were sent.
    sent: usize,
    /// The text of those that were sent.
    prefix: String,
}

impl TextStream {
    /// A text without a token.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text that `token` adds, which may be none yet.
    ///
    /// # Errors
    /// When the token is not the tokenizer's.
    pub fn push(
        &mut self,
        tokenizer: &ChatTokenizer,
        token: u32,
    ) -> Result<String, PretrainedError> {
        let step = foreign::call(|| {
            step_decode_stream(
                tokenizer.inner(),
                vec![token],
                true,
                &mut self.window,
                &mut self.prefix,
                &mut self.sent,
            )
        });
        let is_long = self.window.len() - self.sent.min(self.window.len()) > MOST_KEPT;
        match step {
            Ok(Some(text)) => return Ok(text),
            Ok(None) if !is_long => return Ok(String::new()),
            // It is no character that will ever be whole, or what was sent reads otherwise now. Begin again behind that.
            _ => {}
        }
        let unsent = self.window.split_off(self.sent);
        let text = tokenizer.decode(&unsent, true)?;
        self.sent = unsent.len();
        self.window = unsent;
        self.prefix.clone_from(&text);
        Ok(text)
    }

    /// The text that was kept back, at the end.
    ///
    /// # Errors
    /// When a token is not the tokenizer's.
    pub fn finish(self, tokenizer: &ChatTokenizer) -> Result<String, PretrainedError> {
        let text = tokenizer.decode(&self.window, true)?;
        match text.strip_prefix(&self.prefix) {
            Some(rest) => Ok(rest.to_owned()),
            None => tokenizer.decode(&self.window[self.sent..], true),
        }
    }
}
