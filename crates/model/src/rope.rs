//! Rotary position embedding in Hugging Face's layout: the two halves of a head rotate against each other.

use burn::tensor::{Device, Tensor, TensorData};

/// cos and sin of every row's angles.
#[derive(Debug, Clone)]
pub(crate) struct Rotation {
    /// `[rows, 1, head_dim / 2]`
    cos: Tensor<3>,
    /// `[rows, 1, head_dim / 2]`
    sin: Tensor<3>,
}

impl Rotation {
    /// The rotation of rows that stand at `positions`.
    pub fn new(positions: &[usize], inverse_frequencies: &[f32], device: &Device) -> Self {
        let half = inverse_frequencies.len();
        let angles = positions.iter().flat_map(|&position| {
            inverse_frequencies
                .iter()
                .map(move |&f| position as f32 * f)
        });
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for angle in angles {
            cos.push(angle.cos());
            sin.push(angle.sin());
        }
        let tensor = |values: Vec<f32>| {
            Tensor::from_data(TensorData::new(values, [positions.len(), 1, half]), device)
        };
        Self {
            cos: tensor(cos),
            sin: tensor(sin),
        }
    }

    /// (a, b) → (a cos − b sin, b cos + a sin) for the halves a, b of every head:
    /// `[rows, heads × head_dim]` → the same shape.
    pub fn apply(&self, x: Tensor<2>) -> Tensor<2> {
        self.rotate(x, self.sin.clone())
    }

    /// The transpose of [`Rotation::apply`], that is its gradient: the rotation by the opposite angle.
    pub fn apply_backward(&self, dy: Tensor<2>) -> Tensor<2> {
        self.rotate(dy, -self.sin.clone())
    }

    fn rotate(&self, x: Tensor<2>, sin: Tensor<3>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let half = self.cos.dims()[2];
        let heads = width / (2 * half);
        let x = x.reshape([rows, heads, 2 * half]);
        let a = x.clone().slice([0..rows, 0..heads, 0..half]);
        let b = x.slice([0..rows, 0..heads, half..2 * half]);
        let first = a.clone() * self.cos.clone() - b.clone() * sin.clone();
        let second = b * self.cos.clone() + a * sin;
        Tensor::cat(vec![first, second], 2).reshape([rows, width])
    }
}
