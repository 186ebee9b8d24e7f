//! The matrices of a decoder: as floats, or in few bits.

use burn_tensor::{DType, Device, FloatDType, Tensor};
use panacea_kernels::{PackedMatrix, Weight};

/// A frozen matrix `[rows, columns]`.
#[derive(Debug)]
pub(crate) enum Matrix {
    /// As floats.
    Dense(Tensor<2>),
    /// As floats, and beside them in few bits that do not stand for quite the same, for decoding.
    Rounded { exact: Tensor<2>, few: PackedMatrix },
    /// In the blocks that its file has it in, and in no other form.
    Stored(PackedMatrix),
}

impl Matrix {
    /// `[rows, columns]`
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(exact) | Self::Rounded { exact, .. } => exact.dims(),
            Self::Stored(packed) => packed.shape(),
        }
    }

    /// The type of its numbers.
    pub fn dtype(&self) -> DType {
        match self {
            Self::Dense(exact) | Self::Rounded { exact, .. } => exact.dtype(),
            Self::Stored(_) => DType::F32,
        }
    }

    /// As a product reads it: in few bits by integers if `rounds`, and otherwise exactly.
    pub fn weight(&self, rounds: bool) -> Weight<'_> {
        match (self, rounds) {
            (Self::Stored(few) | Self::Rounded { few, .. }, true) => Weight::Integers(few),
            (Self::Stored(packed), false) => Weight::Packed(packed),
            (Self::Dense(exact) | Self::Rounded { exact, .. }, _) => Weight::Dense(exact),
        }
    }

    /// Its rows of these numbers, in their order: `[indices, columns]` on `device`, where it is, in 32 bits.
    pub fn select(&self, indices: &[u32], device: &Device) -> Tensor<2> {
        let rows = self.weight(false).select(indices, device);
        rows.cast(FloatDType::F32)
    }

    /// Whether it is there in few bits.
    pub fn is_packed(&self) -> bool {
        !matches!(self, Self::Dense(_))
    }

    /// Bytes that it takes in all its forms.
    pub fn bytes(&self) -> u64 {
        let dense = |exact: &Tensor<2>| exact.shape().num_elements() * exact.dtype().size();
        let bytes = match self {
            Self::Dense(exact) => dense(exact),
            Self::Rounded { exact, few } => dense(exact) + few.bytes(),
            Self::Stored(packed) => packed.bytes(),
        };
        bytes as u64
    }
}
