//! Matrices of 8 or 4 bits an element, for reading them faster where reading is all that takes time.

use burn_tensor::Tensor;
use half::f16;

#[cfg(feature = "flex")]
use crate::host::Host;

/// Elements that share a scale.
const BLOCK: usize = 32;

/// Bits of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// Each block of 32 has a scale d; an element is d · q, q of −127 to 127 (as llama.cpp's Q8_0).
    Eight,
    /// Each block of 32 has a scale d and a least value m; an element is m + d · q, q of 0 to 15 (as llama.cpp's Q4_1).
    /// A matrix that was read from that form comes back to it without a loss.
    Four,
}

/// A matrix on the CPU whose elements have few bits.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    bits: Bits,
    rows: usize,
    columns: usize,
    /// Row by row: a byte an element, or two elements a byte, the first 16 of a block in its low halves.
    codes: Vec<u8>,
    /// (d, m) of every block; m is 0 with 8 bits.
    scales: Vec<(f16, f16)>,
}

impl PackedMatrix {
    /// Packs a matrix `[rows, columns]`. `None` where it is not on the CPU, or its columns do not fill whole blocks
    /// of 32.
    pub fn pack(weight: &Tensor<2>, bits: Bits) -> Option<Self> {
        #[cfg(feature = "flex")]
        if weight.dims()[1].is_multiple_of(BLOCK) {
            let weight = Host::open(weight)?.contiguous();
            return Some(Self::from_values(weight.values(), weight.shape(), bits));
        }
        None
    }

    #[cfg(feature = "flex")]
    fn from_values(values: &[f32], [rows, columns]: [usize; 2], bits: Bits) -> Self {
        let mut packed = Self {
            bits,
            rows,
            columns,
            codes: Vec::with_capacity(rows * columns * bits.count() / 8),
            scales: Vec::with_capacity(rows * columns / BLOCK),
        };
        for block in values.chunks_exact(BLOCK) {
            packed.push(block);
        }
        packed
    }

    #[cfg(feature = "flex")]
    fn push(&mut self, block: &[f32]) {
        let extreme = |of: fn(f32, f32) -> f32| block.iter().copied().fold(block[0], of);
        let (least, most) = (extreme(f32::min), extreme(f32::max));
        let (d, m, top) = match self.bits {
            Bits::Eight => (least.abs().max(most.abs()) / 127.0, 0.0, 127.0),
            Bits::Four => ((most - least) / 15.0, least, 15.0),
        };
        let (d, m) = (f16::from_f32(d), f16::from_f32(m));
        self.scales.push((d, m));
        let (d, m) = (d.to_f32(), m.to_f32());
        let code = |x: f32| if d == 0.0 { 0.0 } else { ((x - m) / d).round() };
        match self.bits {
            Bits::Eight => {
                let code = |&x: &f32| (code(x).clamp(-top, top) + ZERO) as u8;
                self.codes.extend(block.iter().map(code));
            }
            Bits::Four => {
                let code = |x: f32| code(x).clamp(0.0, top) as u8;
                let (low, high) = block.split_at(BLOCK / 2);
                let codes = low.iter().zip(high).map(|(&l, &h)| code(l) | code(h) << 4);
                self.codes.extend(codes);
            }
        }
    }

    /// `[rows, columns]`
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.codes.len() + self.scales.len() * size_of::<(f16, f16)>()
    }

    /// The matrix that it stands for, row by row.
    pub fn unpack(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        // Of no columns there are no rows to write either.
        let width = self.columns.max(1);
        for (row, out) in values.chunks_exact_mut(width).enumerate() {
            self.unpack_row(row, out, eight);
        }
        values
    }

    /// Writes the elements of a row; `eight` is [`eight`], or what does the same faster.
    #[inline(always)]
    pub(crate) fn unpack_row(
        &self,
        row: usize,
        out: &mut [f32],
        eight: impl Fn(u64, f32, f32) -> [f32; 8],
    ) {
        const LOW: u64 = 0x0f0f_0f0f_0f0f_0f0f;
        let blocks = self.columns / BLOCK;
        let scales = &self.scales[row * blocks..(row + 1) * blocks];
        let width = self.columns * self.bits.count() / 8;
        let (codes, _) = self.codes[row * width..(row + 1) * width].as_chunks::<8>();
        let codes = codes.iter().map(|&codes| u64::from_le_bytes(codes));
        let (out, _) = out.as_chunks_mut::<8>();
        let out = out.chunks_exact_mut(BLOCK / 8).zip(scales);
        let mut codes = codes;
        match self.bits {
            Bits::Eight => {
                for (out, (d, _)) in out {
                    let d = widen(*d);
                    for (out, codes) in out.iter_mut().zip(&mut codes) {
                        *out = eight(codes, d, -ZERO * d);
                    }
                }
            }
            Bits::Four => {
                for (out, (d, m)) in out {
                    let (d, m) = (widen(*d), widen(*m));
                    let (low, high) = out.split_at_mut(BLOCK / 16);
                    for ((low, high), codes) in low.iter_mut().zip(high).zip(&mut codes) {
                        *low = eight(codes & LOW, d, m);
                        *high = eight(codes >> 4 & LOW, d, m);
                    }
                }
            }
        }
    }
}

/// The code of 0 with 8 bits.
const ZERO: f32 = 128.0;

/// d · q + m for the q in eight bytes, the lowest first.
#[inline(always)]
pub(crate) fn eight(codes: u64, d: f32, m: f32) -> [f32; 8] {
    codes.to_le_bytes().map(|code| d * f32::from(code) + m)
}

impl Bits {
    /// 8 or 4.
    pub fn count(self) -> usize {
        match self {
            Self::Eight => 8,
            Self::Four => 4,
        }
    }
}

/// A finite f16 as f32, without asking the machine what it can do, as the conversion of `half` does each time: the bits
/// of fraction and exponent stand 13 places higher, and the exponent counts from 112 more.
#[inline(always)]
fn widen(x: f16) -> f32 {
    let bits = u32::from(x.to_bits());
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{random, values};

    #[test]
    fn an_element_is_off_by_half_a_step_at_most() {
        let weight = random([7, 96]);
        let exact = values(&weight);
        for bits in [Bits::Eight, Bits::Four] {
            let packed = PackedMatrix::pack(&weight, bits).expect("96 columns are three blocks");
            assert_eq!(packed.shape(), [7, 96]);
            assert_eq!(packed.codes.len(), 7 * 96 * bits.count() / 8);
            let blocks = exact.chunks(BLOCK).zip(packed.scales.iter());
            for ((exact, (d, m)), found) in blocks.zip(packed.unpack().chunks(BLOCK)) {
                // f16 rounds scale and least value to 11 bits.
                let slack = (16.0 * d.to_f32() + m.to_f32().abs()) / 2048.0;
                for (exact, found) in exact.iter().zip(found) {
                    let error = (exact - found).abs();
                    assert!(error <= 0.5 * d.to_f32() + slack, "{exact} became {found}");
                }
            }
        }
    }

    #[test]
    fn what_was_packed_before_is_packed_without_a_loss() {
        for bits in [Bits::Eight, Bits::Four] {
            let once = PackedMatrix::pack(&random([5, 64]), bits).expect("two blocks");
            let unpacked = once.unpack();
            let data = burn_tensor::TensorData::new(unpacked.clone(), [5, 64]);
            let again = Tensor::from_data(data, &burn_tensor::Device::flex());
            let twice = PackedMatrix::pack(&again, bits).expect("two blocks");
            assert_eq!(twice.unpack(), unpacked);
        }
    }

    #[test]
    fn every_finite_f16_is_widened() {
        for bits in 0..=u16::MAX {
            let x = f16::from_bits(bits);
            if x.is_finite() {
                assert_eq!(widen(x).to_bits(), x.to_f32().to_bits(), "{x}");
            }
        }
    }

    #[test]
    fn constant_blocks_ragged_rows_and_none() {
        let constant = random([1, 32]) * 0.0 + 0.5;
        for bits in [Bits::Eight, Bits::Four] {
            let packed = PackedMatrix::pack(&constant, bits).expect("one block");
            assert!(packed.unpack().iter().all(|x| (x - 0.5).abs() < 1e-3));
            let zero = PackedMatrix::pack(&(constant.clone() * 0.0), bits).expect("one block");
            assert!(zero.unpack().iter().all(|&x| x == 0.0));
            assert!(PackedMatrix::pack(&random([2, 40]), bits).is_none());
            for shape in [[0, 64], [2, 0]] {
                let none = PackedMatrix::pack(&Tensor::zeros(shape, &constant.device()), bits);
                assert!(none.expect("whole blocks").unpack().is_empty());
            }
        }
    }
}
