//! A tensor as plain numbers.

/// A dense row-major tensor of 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorF32 {
    /// The size of each axis, slowest first: `[out_features, in_features]` for a projection.
    pub shape: Vec<usize>,
    /// The values; as many as the product of `shape`.
    pub data: Vec<f32>,
}

/// A matrix in the blocks of a GGUF file, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantisedMatrix {
    /// The name of their format, such as `Q4_1`.
    pub format: &'static str,
    /// `[rows, columns]`; a row is whole blocks.
    pub shape: [usize; 2],
    /// The blocks.
    pub bytes: Vec<u8>,
}
