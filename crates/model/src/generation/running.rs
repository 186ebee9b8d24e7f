//! Requests on their way.

use std::sync::Arc;

use panacea_svd_lora::Adapters;
use rand_chacha::ChaCha8Rng;

use super::request::{NewToken, Request, RequestId, StopReason};
use crate::Likelihood;
use crate::sampling::Drawn;

/// A request on its way.
#[derive(Debug)]
pub struct Row {
    pub id: RequestId,
    pub request: Request,
    /// The prompt and what has been drawn.
    pub seen: Vec<u32>,
    pub rng: ChaCha8Rng,
}

/// A request that has a slot.
#[derive(Debug)]
pub struct Running {
    pub row: Row,
    /// Its row of the caches.
    pub slot: usize,
    /// Tokens of its prompt that were known when its slot became its own; before, nothing of the slot is meant for it.
    pub cached: Option<usize>,
    pub is_done: bool,
}

impl Row {
    pub fn adapter(&self) -> Option<*const Adapters> {
        let steering = self.request.steering.as_ref();
        steering.map(|steering| Arc::as_ptr(&steering.adapters))
    }

    pub fn preference(&self) -> &[f64] {
        (self.request.steering.as_ref()).map_or(&[], |steering| &steering.preference)
    }
}

impl Running {
    /// Adds a token to the answer.
    pub fn take(&mut self, drawn: Drawn, likelihood: Option<Likelihood>) -> NewToken {
        let Row {
            id, request, seen, ..
        } = &mut self.row;
        let Drawn { token, log_prob } = drawn;
        let end = if request.stop.contains(&token) {
            Some(StopReason::Stop(token))
        } else {
            seen.push(token);
            (seen.len() == request.limit()).then_some(StopReason::Length)
        };
        self.is_done = end.is_some();
        NewToken {
            request: *id,
            token,
            log_prob,
            likelihood,
            cached: self.cached.unwrap_or(0),
            end,
        }
    }
}
