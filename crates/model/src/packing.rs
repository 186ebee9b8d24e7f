//! Decoders whose matrices have few bits, and what they take.

use burn_tensor::{DType, Device, Tensor};
use panacea_kernels::{Bits, Blocks, PackedMatrix, Weight};
use panacea_pretrained::Pretrained;

use crate::ModelError;
use crate::decoder::Decoder;
use crate::layer::Layer;
use crate::load::dense;
use crate::matrix::Matrix;

/// What [`Decoder::pack`] did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Packing {
    /// Bytes of the packed weights.
    pub bytes: usize,
    /// Matrices that stay as they are, since their rows are not whole blocks.
    pub dense: usize,
    squares: f64,
    squared_errors: f64,
}

impl Packing {
    /// Counts what stands for `exact`. Some rows at a time are unpacked, so that there is no third form of all of it.
    fn add(&mut self, exact: &Tensor<2>, packed: &PackedMatrix) {
        self.bytes += packed.bytes();
        let device = exact.device();
        let indices: Vec<u32> = (0..packed.shape()[0] as u32).collect();
        for indices in indices.chunks(1024) {
            let [exact, found] = [Weight::Dense(exact), Weight::Packed(packed)]
                .map(|weight| weight.select(indices, &device).into_data());
            for (exact, found) in exact.iter::<f32>().zip(found.iter::<f32>()) {
                self.squares += f64::from(exact).powi(2);
                self.squared_errors += f64::from(exact - found).powi(2);
            }
        }
    }

    /// √(Σ (W' − W)² / Σ W²) over all packed weights W'.
    pub fn relative_error(&self) -> f64 {
        (self.squared_errors / self.squares.max(f64::MIN_POSITIVE)).sqrt()
    }
}

/// What a decoder's matrices take: those of its layers, embedding and head. Norms and biases are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightMemory {
    /// Weights.
    pub count: u64,
    /// Bytes that all their forms take together.
    pub bytes: u64,
    /// Matrices that are there in few bits.
    pub packed: usize,
    /// Matrices that are there as floats only.
    pub dense: usize,
}

impl WeightMemory {
    fn add(&mut self, matrix: &Matrix) {
        let [rows, columns] = matrix.shape();
        self.count += (rows * columns) as u64;
        self.bytes += matrix.bytes();
        match matrix.is_packed() {
            true => self.packed += 1,
            false => self.dense += 1,
        }
    }

    /// Bits of a weight, on average.
    pub fn bits(&self) -> f64 {
        8.0 * self.bytes as f64 / self.count.max(1) as f64
    }
}

impl Decoder {
    /// [`Decoder::load`], but matrices stay in the blocks of the model's GGUF file, where [`Blocks`] names their form, and
    /// are held in no other: they take what they take there. Log-probabilities and gradients are those of the numbers that the
    /// blocks stand for; [`Decoder::generate`] rounds what it multiplies with them to 8 or 16 bits, but for
    /// prompts. What the
    /// file has in other forms becomes floats.
    pub fn load_as_stored(pretrained: &Pretrained, device: &Device) -> Result<Self, ModelError> {
        check_device(device)?;
        Self::load_with(pretrained, device, |name| {
            if let Some(stored) = pretrained.quantised(name)
                && let Some(form) = Blocks::named(stored.format)
                && let Some(packed) = PackedMatrix::from_blocks(form, stored.shape, stored.bytes)
            {
                return Ok(Matrix::Stored(packed));
            }
            let matrix = dense(pretrained, name, (device, DType::F32))?;
            Ok(Matrix::Dense(matrix))
        })
    }

    /// Keeps every matrix that is there as floats a second time with few bits, which [`Decoder::generate`] reads instead while
    /// it decodes: reading the weights is what decoding waits for. Prompts, log-probabilities and training go on reading the
    /// exact ones. What [`Decoder::load_as_stored`] left in few bits stays so.
    pub fn pack(&mut self, bits: Bits) -> Result<Packing, ModelError> {
        check_device(&self.device)?;
        let mut packing = Packing::default();
        for matrix in self.multiplied_mut() {
            let exact = match matrix {
                Matrix::Dense(exact) | Matrix::Rounded { exact, .. } => exact.clone(),
                Matrix::Stored(packed) => {
                    packing.bytes += packed.bytes();
                    continue;
                }
            };
            *matrix = match PackedMatrix::pack(&exact, bits) {
                Some(few) => {
                    packing.add(&exact, &few);
                    Matrix::Rounded { exact, few }
                }
                None => {
                    packing.dense += 1;
                    Matrix::Dense(exact)
                }
            };
        }
        Ok(packing)
    }

    /// What its matrices take.
    pub fn weight_memory(&self) -> WeightMemory {
        let mut memory = WeightMemory::default();
        for linear in self.layers.iter().flat_map(Layer::projections) {
            memory.add(&linear.weight);
        }
        memory.add(&self.embedding);
        if let Some(head) = &self.own_head {
            memory.add(head);
        }
        memory
    }

    /// Whether decoding reads weights of few bits.
    pub(crate) fn is_packed(&self) -> bool {
        let mut linears = self.layers.iter().flat_map(Layer::projections);
        self.head().is_packed() || linears.any(|linear| linear.weight.is_packed())
    }

    /// The matrices that products read.
    fn multiplied_mut(&mut self) -> impl Iterator<Item = &mut Matrix> {
        let head = self.own_head.as_mut().unwrap_or(&mut self.embedding);
        let linears = self.layers.iter_mut().flat_map(Layer::projections_mut);
        linears.map(|linear| &mut linear.weight).chain([head])
    }
}

/// Only the CPU multiplies what has few bits.
fn check_device(device: &Device) -> Result<(), ModelError> {
    match *device == Device::flex() {
        true => Ok(()),
        false => Err(ModelError::NotPacked {
            device: format!("{device:?}"),
        }),
    }
}
