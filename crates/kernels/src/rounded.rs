//! Activations as integers of 8 or 16 bits, for products with packed weights.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use crate::host::Matrix;
use crate::lanes::{BLOCK, FOURS, Lanes};

/// Rows of x that are multiplied with a weight while it lies in a register.
pub(crate) const TILE: usize = 4;

/// An integer that x is rounded to.
pub(crate) trait Code: Copy {
    /// Codes go from −MOST to MOST.
    const MOST: f32;
    /// Four of them, as [`Lanes`] takes them.
    type Four: Copy + Default;

    /// Those in the lowest bits of four integers.
    fn four(integers: [u32; 4]) -> Self::Four;
    #[cfg(test)]
    fn integers(four: Self::Four) -> [i32; 4];
    /// x, where it was rounded to this.
    fn of(x: &Activations) -> Option<&Rounded<Self>>;
    /// [`Lanes::products_of_bytes`] or [`Lanes::products_of_words`].
    fn products<L: Lanes, const N: usize, const R: usize>(
        lanes: L,
        w: &[L::Bytes; N],
        x: [&[Self::Four; N]; R],
    ) -> [L::Floats; R];
}

impl Code for i8 {
    const MOST: f32 = 127.0;
    type Four = i32;

    #[inline(always)]
    fn four([a, b, c, d]: [u32; 4]) -> i32 {
        (a & 255 | (b & 255) << 8 | (c & 255) << 16 | d << 24).cast_signed()
    }

    #[cfg(test)]
    fn integers(four: i32) -> [i32; 4] {
        four.to_le_bytes().map(|x| x.cast_signed().into())
    }

    #[inline(always)]
    fn of(x: &Activations) -> Option<&Rounded<Self>> {
        x.bytes.as_ref()
    }

    #[inline(always)]
    fn products<L: Lanes, const N: usize, const R: usize>(
        lanes: L,
        w: &[L::Bytes; N],
        x: [&[Self::Four; N]; R],
    ) -> [L::Floats; R] {
        lanes.products_of_bytes(w, x)
    }
}

impl Code for i16 {
    const MOST: f32 = 32767.0;
    type Four = [i32; 2];

    #[inline(always)]
    fn four([a, b, c, d]: [u32; 4]) -> [i32; 2] {
        [a & 0xffff | c << 16, b & 0xffff | d << 16].map(u32::cast_signed)
    }

    #[cfg(test)]
    fn integers([even, odd]: [i32; 2]) -> [i32; 4] {
        [even << 16 >> 16, odd << 16 >> 16, even >> 16, odd >> 16]
    }

    #[inline(always)]
    fn of(x: &Activations) -> Option<&Rounded<Self>> {
        x.words.as_ref()
    }

    #[inline(always)]
    fn products<L: Lanes, const N: usize, const R: usize>(
        lanes: L,
        w: &[L::Bytes; N],
        x: [&[Self::Four; N]; R],
    ) -> [L::Floats; R] {
        lanes.products_of_words(w, x)
    }
}

/// x, rounded as the weights that it meets ask for.
pub(crate) struct Activations {
    /// `[rows, columns]`
    pub shape: [usize; 2],
    /// To 8 bits.
    pub bytes: Option<Rounded<i8>>,
    /// To 16 bits.
    pub words: Option<Rounded<i16>>,
}

/// A block of R rows: x ≈ scale · code. With the largest magnitude of a block, X, scale is X / MOST, and an element is off
/// by half of that at most, that is X / 254 or X / 65534, and by what rounding to f32 adds: X · 2⁻²² at most.
#[derive(Clone, Copy)]
#[repr(align(32))]
pub(crate) struct RoundedBlock<C: Code, const R: usize> {
    pub codes: [[C::Four; FOURS]; R],
    pub scale: [f32; R],
    /// scale · Σ code, which a minimum is multiplied with.
    pub sum: [f32; R],
}

/// A matrix of such blocks. Rows stand in tiles of [`TILE`], and those that are left alone.
pub(crate) struct Rounded<C: Code> {
    rows: usize,
    /// Block by block, those of every tile.
    tiles: Vec<RoundedBlock<C, TILE>>,
    /// Block by block, those of every row that is left.
    alone: Vec<RoundedBlock<C, 1>>,
}

impl<C: Code> Rounded<C> {
    /// Rounds a matrix with contiguous rows of whole blocks. A block that has an element which is not finite makes NaN of
    /// every product.
    pub fn new(x: Matrix<'_>) -> Self {
        Arch::new().dispatch(Round(x, PhantomData))
    }

    /// The block of this index in every tile of [`TILE`] rows, and in every row that is left.
    #[inline(always)]
    pub fn block(&self, index: usize) -> (&[RoundedBlock<C, TILE>], &[RoundedBlock<C, 1>]) {
        let (tiles, alone) = (self.rows / TILE, self.rows % TILE);
        (
            &self.tiles[index * tiles..(index + 1) * tiles],
            &self.alone[index * alone..(index + 1) * alone],
        )
    }

    /// What stands there, row by row.
    #[cfg(test)]
    pub fn values(&self) -> Vec<f32> {
        fn row<C: Code, const R: usize>(
            block: &RoundedBlock<C, R>,
            r: usize,
        ) -> impl Iterator<Item = f32> {
            let codes = block.codes[r].into_iter().flat_map(C::integers);
            codes.map(move |code| block.scale[r] * code as f32)
        }
        let blocks = (self.tiles.len() * TILE + self.alone.len()) / self.rows.max(1);
        let mut values = Vec::new();
        for r in 0..self.rows {
            for index in 0..blocks {
                let (tiles, alone) = self.block(index);
                match tiles.get(r / TILE) {
                    Some(tile) => values.extend(row(tile, r % TILE)),
                    None => values.extend(row(&alone[r % TILE], 0)),
                }
            }
        }
        values
    }
}

struct Round<'a, C>(Matrix<'a>, PhantomData<C>);

impl<C: Code> WithSimd for Round<'_, C> {
    type Output = Rounded<C>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Rounded<C> {
        let [rows, columns] = self.0.shape();
        let blocks = columns / BLOCK;
        let whole = rows / TILE * TILE;
        let mut tiles = Vec::with_capacity(whole / TILE * blocks);
        let mut alone = Vec::with_capacity((rows - whole) * blocks);
        for block in 0..blocks {
            for first in (0..whole).step_by(TILE) {
                tiles.push(round_rows(self.0, first, block));
            }
            for row in whole..rows {
                alone.push(round_rows(self.0, row, block));
            }
        }
        Rounded { rows, tiles, alone }
    }
}

/// A block of R rows from `first` on.
#[inline(always)]
fn round_rows<C: Code, const R: usize>(
    x: Matrix<'_>,
    first: usize,
    block: usize,
) -> RoundedBlock<C, R> {
    let mut rounded = RoundedBlock {
        codes: [[C::Four::default(); FOURS]; R],
        scale: [0.0; R],
        sum: [0.0; R],
    };
    for r in 0..R {
        let (integers, sum, scale) = round::<C>(&x.row(first + r).as_chunks().0[block]);
        for (four, integers) in rounded.codes[r].iter_mut().zip(integers.as_chunks().0) {
            *four = C::four(*integers);
        }
        rounded.scale[r] = scale;
        rounded.sum[r] = scale * sum as f32;
    }
    rounded
}

/// The codes of a block, their sum and its scale.
#[inline(always)]
fn round<C: Code>(x: &[f32; BLOCK]) -> ([u32; BLOCK], i32, f32) {
    /// Added to a number below 2²², it leaves the nearest integer (of two the even one) in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // As integers magnitudes are ordered alike, and NaN is the largest.
    let mut largest = 0;
    for x in x {
        largest = largest.max(x.to_bits() & 0x7fff_ffff);
    }
    let largest = f32::from_bits(largest);
    let factor = C::MOST / largest;
    // What is so small that its factor is infinite has the codes 0.
    let factor = if factor < f32::INFINITY { factor } else { 0.0 };
    let mut integers = [0; BLOCK];
    let mut sum = 0u32;
    for (integer, x) in integers.iter_mut().zip(x) {
        *integer = (x * factor + ROUND).to_bits().wrapping_sub(ROUND.to_bits());
        sum = sum.wrapping_add(*integer);
    }
    (integers, sum.cast_signed(), largest / C::MOST)
}
