//! What is asked, and what comes back.

use crate::{Likelihood, Sampling, Steering};

/// A prompt to be continued.
#[derive(Debug, Clone)]
pub struct Request {
    /// The prompt's tokens; at least one.
    pub prompt: Vec<u32>,
    /// What steers the answer; `None` is the base model.
    pub steering: Option<Steering>,
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Tokens that end the answer.
    pub stop: Vec<u32>,
    /// New tokens, at most; at least one.
    pub max_new_tokens: usize,
    /// The request's own stream of random numbers.
    pub seed: u64,
    /// With `Some(n)`, every token comes with its [`Likelihood`], in which so many of the likeliest tokens are named.
    pub likelihoods: Option<usize>,
}

impl Request {
    /// Greedy decoding by the base model: the likeliest token each time, `max_new_tokens` of them.
    pub fn greedy(prompt: impl Into<Vec<u32>>, max_new_tokens: usize) -> Self {
        Self {
            prompt: prompt.into(),
            steering: None,
            sampling: Sampling::greedy(),
            stop: Vec::new(),
            max_new_tokens,
            seed: 0,
            likelihoods: None,
        }
    }

    /// Tokens of the prompt and of the longest answer.
    pub(super) fn limit(&self) -> usize {
        self.prompt.len() + self.max_new_tokens
    }
}

/// A request of a [`Generation`](crate::Generation), for that session alone: another counts from 0 as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// This stop token was drawn.
    Stop(u32),
    /// `max_new_tokens` were drawn.
    Length,
}

/// A token that a step has added to an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct NewToken {
    /// Whose token it is.
    pub request: RequestId,
    /// The token; the stop token too, which is no part of the answer.
    pub token: u32,
    /// The logarithm of the probability that it was drawn with, all filters applied; 0 for greedy. With
    /// [`Sampling::exact`] it is log p under the model.
    pub log_prob: f64,
    /// What the model itself makes of it, for those who asked.
    pub likelihood: Option<Likelihood>,
    /// How many tokens of the request's prompt were known and not read again.
    pub cached: usize,
    /// Why the answer ends with it, if it does.
    pub end: Option<StopReason>,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The new tokens, without the stop token.
    pub tokens: Vec<u32>,
    /// [`NewToken::log_prob`] of each of `tokens`, and behind them that of the stop token, if one was drawn.
    pub log_probs: Vec<f64>,
    /// Why it ended.
    pub reason: StopReason,
}

impl Generated {
    pub(super) fn push(&mut self, new: NewToken) {
        self.log_probs.push(new.log_prob);
        if !matches!(new.end, Some(StopReason::Stop(_))) {
            self.tokens.push(new.token);
        }
        self.reason = new.end.unwrap_or(self.reason);
    }
}
