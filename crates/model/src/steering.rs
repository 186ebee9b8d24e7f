//! What steers a pass through the network: an adapter, and the λ of every row.

use std::sync::Arc;

use burn_tensor::Tensor;
use panacea_svd_lora::Adapters;

/// An adapter, and the λ that it is served at.
#[derive(Debug, Clone)]
pub struct Steering {
    /// The adapter. In a [`Generation`](crate::Generation), rows that share this pointer share a pass through the network.
    pub adapters: Arc<Adapters>,
    /// λ: a weight for each objective of the adapter.
    pub preference: Vec<f64>,
}

/// The adapter that is switched on, and the λ of every row of a batch.
#[derive(Debug, Clone)]
pub(crate) struct RowSteering<'a> {
    pub adapters: &'a Adapters,
    /// `[rows, m]`
    pub preferences: Tensor<2>,
}
