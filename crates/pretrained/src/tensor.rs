//! A tensor as plain numbers.

/// A dense row-major tensor of 32-bit floats.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorF32 {
    /// The size of each axis, slowest first: `[out_features, in_features]` for a projection.
    pub shape: Vec<usize>,
    /// The values; as many as the product of `shape`.
    pub data: Vec<f32>,
}

impl TensorF32 {
    /// The first value that is infinite or not a number, and its indices.
    pub fn first_not_finite(&self) -> Option<(f32, Vec<usize>)> {
        const CHUNK: usize = 1024;
        // Counting has no way out of its loop, so that it runs on many values at once.
        let broken = |values: &[f32]| values.iter().filter(|value| !value.is_finite()).count();
        let chunk = self
            .data
            .chunks(CHUNK)
            .position(|values| broken(values) > 0)?;
        let start = chunk * CHUNK;
        let inside = self.data[start..]
            .iter()
            .position(|value| !value.is_finite())?;
        let position = start + inside;
        let mut rest = position;
        let mut place: Vec<usize> = (self.shape.iter().rev())
            .map(|&size| {
                let index = rest % size;
                rest /= size;
                index
            })
            .collect();
        place.reverse();
        Some((self.data[position], place))
    }
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
