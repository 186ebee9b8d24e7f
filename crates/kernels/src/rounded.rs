//! Activations of 8 bits, for products with packed weights.

use pulp::{Arch, Simd, WithSimd};

use crate::host::Matrix;
use crate::lanes::BLOCK;

/// Rows of x that a tile takes: with 2 rows of W that is 8 sums, which stay in registers.
pub(crate) const TILE: usize = 4;

/// A block of R rows: x ≈ scale · code, code of −127 to 127. With the largest magnitude of a block, X, scale is X / 127,
/// and an element is off by X / 254 at most, and what rounding to f32 adds to that.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub(crate) struct RoundedBlock<const R: usize> {
    /// Signed bytes.
    pub codes: [[u8; BLOCK]; R],
    pub scale: [f32; R],
    /// scale · Σ code, which a minimum is multiplied with.
    pub sum: [f32; R],
}

/// A matrix of such blocks. Rows stand in tiles of [`TILE`], and those that are left alone.
pub(crate) struct Rounded {
    rows: usize,
    /// Blocks of a row.
    blocks: usize,
    tiles: Vec<RoundedBlock<TILE>>,
    alone: Vec<RoundedBlock<1>>,
}

impl Rounded {
    /// Rounds a matrix with contiguous rows of whole blocks. A block that has an element which is not finite makes NaN of
    /// every product.
    pub fn new(x: Matrix<'_>) -> Self {
        Arch::new().dispatch(Round(x))
    }

    /// `[rows, columns]`
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.blocks * BLOCK]
    }

    /// The blocks of every tile of [`TILE`] rows.
    #[inline(always)]
    pub fn tiles(&self) -> impl Iterator<Item = &[RoundedBlock<TILE>]> {
        self.tiles.chunks_exact(self.blocks)
    }

    /// The blocks of every row that is left.
    #[inline(always)]
    pub fn alone(&self) -> impl Iterator<Item = &[RoundedBlock<1>]> {
        self.alone.chunks_exact(self.blocks)
    }

    /// What stands there, row by row.
    #[cfg(test)]
    pub fn values(&self) -> Vec<f32> {
        fn rows<const R: usize>(blocks: &[RoundedBlock<R>]) -> impl Iterator<Item = f32> {
            (0..R).flat_map(move |r| {
                blocks.iter().flat_map(move |block| {
                    let value = move |code: u8| block.scale[r] * f32::from(code.cast_signed());
                    block.codes[r].map(value)
                })
            })
        }
        let tiles = self.tiles().flat_map(rows);
        tiles.chain(self.alone().flat_map(rows)).collect()
    }
}

struct Round<'a>(Matrix<'a>);

impl WithSimd for Round<'_> {
    type Output = Rounded;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Rounded {
        let [rows, columns] = self.0.shape();
        let blocks = columns / BLOCK;
        let whole = rows / TILE * TILE;
        let mut tiles = Vec::with_capacity(whole / TILE * blocks);
        for first in (0..whole).step_by(TILE) {
            round_rows::<TILE>(self.0, first, &mut tiles);
        }
        let mut alone = Vec::with_capacity((rows - whole) * blocks);
        for row in whole..rows {
            round_rows::<1>(self.0, row, &mut alone);
        }
        Rounded {
            rows,
            blocks,
            tiles,
            alone,
        }
    }
}

/// R rows from `first` on.
#[inline(always)]
fn round_rows<const R: usize>(x: Matrix<'_>, first: usize, out: &mut Vec<RoundedBlock<R>>) {
    let rows: [&[[f32; BLOCK]]; R] = std::array::from_fn(|r| x.row(first + r).as_chunks().0);
    for block in 0..rows[0].len() {
        let mut rounded = RoundedBlock {
            codes: [[0; BLOCK]; R],
            scale: [0.0; R],
            sum: [0.0; R],
        };
        for (r, row) in rows.iter().enumerate() {
            let (codes, sum, scale) = round(&row[block]);
            rounded.codes[r] = codes;
            rounded.scale[r] = scale;
            rounded.sum[r] = scale * sum as f32;
        }
        out.push(rounded);
    }
}

/// The codes of a block, their sum and its scale.
#[inline(always)]
fn round(x: &[f32; BLOCK]) -> ([u8; BLOCK], i32, f32) {
    /// Added to a number below 2²², it leaves the nearest integer (of two the even one) in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // As integers magnitudes are ordered alike, and NaN is the largest.
    let largest = x
        .iter()
        .fold(0, |most, x| (x.to_bits() & 0x7fff_ffff).max(most));
    let largest = f32::from_bits(largest);
    let factor = 127.0 / largest;
    // What is so small that its factor is infinite has the codes 0.
    let factor = if factor < f32::INFINITY { factor } else { 0.0 };
    let integers = x.map(|x| (x * factor + ROUND).to_bits().wrapping_sub(ROUND.to_bits()));
    let sum = integers.iter().fold(0u32, |sum, &x| sum.wrapping_add(x));
    (
        integers.map(|x| x as u8),
        sum.cast_signed(),
        largest / 127.0,
    )
}
