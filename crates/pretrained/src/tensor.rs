//! A tensor as plain numbers.

/// A dense row-major tensor of 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorF32 {
    /// The size of each axis, slowest first: `[out_features, in_features]` for a projection.
    pub shape: Vec<usize>,
    /// The values; as many as the product of `shape`.
    pub data: Vec<f32>,
}
