//! Matrices of 8 or 4 bits an element, for reading them faster where reading is all that takes time.

use burn_tensor::Tensor;
use half::f16;

use crate::blocks::{Blocks, Format};
#[cfg(feature = "flex")]
use crate::host::Host;
#[cfg(feature = "flex")]
use crate::lanes::BLOCK;

/// Bits of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// Each block of 32 has a scale d; an element is d · q, q of −127 to 127: [`Blocks::Q8_0`].
    Eight,
    /// Each block of 32 has a scale d and a least value m; an element is m + d · q, q of 0 to 15: [`Blocks::Q4_1`].
    /// A matrix that was read from that form comes back to it without a loss.
    Four,
}

/// A matrix on the CPU whose elements have few bits.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    form: Blocks,
    rows: usize,
    columns: usize,
    /// Block by block, row by row. Every 16-bit float of them is finite.
    bytes: Vec<u8>,
}

impl PackedMatrix {
    /// Packs a matrix `[rows, columns]`. `None` where it is not on the CPU, its columns do not fill whole blocks of 32, or a
    /// scale of it is beyond 16 bits.
    #[cfg_attr(
        not(feature = "flex"),
        expect(unused_variables, reason = "the CPU is not there")
    )]
    pub fn pack(weight: &Tensor<2>, bits: Bits) -> Option<Self> {
        #[cfg(feature = "flex")]
        if weight.dims()[1].is_multiple_of(BLOCK) {
            let weight = Host::open(weight)?.contiguous();
            return Self::from_values(weight.values(), weight.shape(), bits);
        }
        None
    }

    #[cfg(feature = "flex")]
    fn from_values(values: &[f32], [rows, columns]: [usize; 2], bits: Bits) -> Option<Self> {
        let form = bits.blocks();
        let mut bytes = Vec::with_capacity(rows * columns / BLOCK * form.bytes());
        for block in values.as_chunks::<BLOCK>().0 {
            push(block, bits, &mut bytes)?;
        }
        Some(Self {
            form,
            rows,
            columns,
            bytes,
        })
    }

    /// A matrix `[rows, columns]` of such blocks. `None` where `bytes` are not as many as it takes, the columns are not
    /// whole blocks, or a scale is not finite.
    pub fn from_blocks(form: Blocks, [rows, columns]: [usize; 2], bytes: Vec<u8>) -> Option<Self> {
        let (blocks, rest) = (columns / form.weights(), columns % form.weights());
        let expected = rows.checked_mul(blocks)?.checked_mul(form.bytes())?;
        if rest != 0 || bytes.len() != expected {
            return None;
        }
        let is_finite =
            |block: &[u8], at: usize| f16::from_le_bytes([block[at], block[at + 1]]).is_finite();
        let mut blocks = bytes.chunks_exact(form.bytes());
        let are_finite = blocks.all(|block| form.floats().iter().all(|&at| is_finite(block, at)));
        are_finite.then_some(Self {
            form,
            rows,
            columns,
            bytes,
        })
    }

    /// `[rows, columns]`
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How its elements lie.
    pub(crate) fn form(&self) -> Blocks {
        self.form
    }

    /// The blocks of a row, whose [`PackedMatrix::form`] is F.
    #[inline(always)]
    pub(crate) fn row<F: Format>(&self, row: usize) -> &[F::Block] {
        let width = self.columns / self.form.weights() * self.form.bytes();
        F::blocks(&self.bytes[row * width..(row + 1) * width])
    }

    /// All bytes from the row `first` on; none where there is no such row.
    #[cfg(feature = "flex")]
    #[inline(always)]
    pub(crate) fn behind(&self, first: usize) -> &[u8] {
        let width = self.columns / self.form.weights() * self.form.bytes();
        &self.bytes[(first * width).min(self.bytes.len())..]
    }
}

/// Packs a block; `None` where its scale or least value is beyond 16 bits.
#[cfg(feature = "flex")]
fn push(block: &[f32; BLOCK], bits: Bits, bytes: &mut Vec<u8>) -> Option<()> {
    let extreme = |of: fn(f32, f32) -> f32| block.iter().copied().fold(block[0], of);
    let (least, most) = (extreme(f32::min), extreme(f32::max));
    let (d, m) = match bits {
        Bits::Eight => (least.abs().max(most.abs()) / 127.0, 0.0),
        Bits::Four => ((most - least) / 15.0, least),
    };
    let (d, m) = (f16::from_f32(d), f16::from_f32(m));
    if !d.is_finite() || !m.is_finite() {
        return None;
    }
    bytes.extend(d.to_le_bytes());
    let (scale, minimum) = (d.to_f32(), m.to_f32());
    let code = |x: f32| match scale {
        0.0 => 0.0,
        _ => ((x - minimum) / scale).round(),
    };
    match bits {
        Bits::Eight => {
            let code = |&x: &f32| (code(x).clamp(-127.0, 127.0) as i8).cast_unsigned();
            bytes.extend(block.iter().map(code));
        }
        Bits::Four => {
            bytes.extend(m.to_le_bytes());
            let code = |x: f32| code(x).clamp(0.0, 15.0) as u8;
            let (low, high) = block.split_at(BLOCK / 2);
            let codes = low.iter().zip(high);
            bytes.extend(codes.map(|(&low, &high)| code(low) | code(high) << 4));
        }
    }
    Some(())
}

impl Bits {
    /// 8 or 4.
    pub fn count(self) -> usize {
        match self {
            Self::Eight => 8,
            Self::Four => 4,
        }
    }

    #[cfg(feature = "flex")]
    fn blocks(self) -> Blocks {
        match self {
            Self::Eight => Blocks::Q8_0,
            Self::Four => Blocks::Q4_1,
        }
    }
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
            assert_eq!(packed.bytes(), 7 * 3 * bits.blocks().bytes());
            let blocks = exact
                .chunks(BLOCK)
                .zip(packed.bytes.chunks(bits.blocks().bytes()));
            for ((exact, block), found) in blocks.zip(packed.unpack().chunks(BLOCK)) {
                let float = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
                let (d, m) = match bits {
                    Bits::Eight => (float(0), 0.0),
                    Bits::Four => (float(0), float(2)),
                };
                // f16 rounds scale and least value to 11 bits.
                let slack = (16.0 * d + m.abs()) / 2048.0;
                for (exact, found) in exact.iter().zip(found) {
                    let error = (exact - found).abs();
                    assert!(error <= 0.5 * d + slack, "{exact} became {found}");
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
