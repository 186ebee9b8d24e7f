//! The frozen network on one device or on several, and the micro-batches of a step dealt to them.
//!
//! Each device holds the frozen weights and, for a step, a copy of the adapter. In each round every
//! device gets one micro-batch. The results, at most the gradients of an adapter, are copied to the first device and
//! added up in the order of the micro-batches. So a step depends on how its records are divided into micro-batches and
//! not on the number of devices: N micro-batches give the same sum on one device as on N.

use std::borrow::Cow;
use std::panic::resume_unwind;
use std::thread;

use panacea_model::Decoder;
use panacea_svd_lora::{Adapters, FactorSet};

use crate::error::TrainerError;

/// The network on one device, with the adapter that steers it.
#[derive(Debug, Clone)]
pub struct Lane<'a> {
    /// The frozen network.
    pub model: &'a Decoder,
    /// On the same device.
    pub adapters: Cow<'a, Adapters>,
}

/// The same network under the same adapter on every device of a training.
#[derive(Debug, Clone)]
pub struct Lanes<'a> {
    home: Lane<'a>,
    others: Vec<Lane<'a>>,
}

impl<'a> Lanes<'a> {
    /// One device.
    pub fn one(model: &'a Decoder, adapters: &'a Adapters) -> Self {
        Self::new(model, &[], adapters)
    }

    /// The device of `model` and `adapters`, and those of `replicas`, which hold the same network.
    pub fn new(model: &'a Decoder, replicas: &'a [Decoder], adapters: &'a Adapters) -> Self {
        let others = replicas.iter().map(|replica| Lane {
            model: replica,
            adapters: Cow::Owned(adapters.on(replica.device())),
        });
        Self {
            home: Lane {
                model,
                adapters: Cow::Borrowed(adapters),
            },
            others: others.collect(),
        }
    }

    /// How many devices there are.
    pub fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// A gradient, on the first device.
    pub fn bring_home(&self, gradient: FactorSet) -> FactorSet {
        gradient.on(self.home.model.device())
    }

    /// Runs `work` on every item and passes the results to `take` in the order of the items. With one device, each
    /// result is passed on before the next item is started, so that only one result is in memory.
    pub fn deal<I: Send, T: Send>(
        &self,
        items: impl IntoIterator<Item = I>,
        work: impl Fn(&Lane<'a>, I) -> Result<T, TrainerError> + Sync,
        mut take: impl FnMut(T),
    ) -> Result<(), TrainerError> {
        let mut items = items.into_iter();
        loop {
            let mut round = items.by_ref().take(self.count());
            let Some(first) = round.next() else {
                return Ok(());
            };
            let others: Vec<I> = round.collect();
            let done = thread::scope(|scope| {
                let work = &work;
                let others: Vec<_> = (self.others.iter().zip(others))
                    .map(|(lane, item)| scope.spawn(move || work(lane, item)))
                    .collect();
                let mut done = vec![work(&self.home, first)];
                for other in others {
                    done.push(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
                }
                done
            });
            for result in done {
                take(result?);
            }
        }
    }
}
