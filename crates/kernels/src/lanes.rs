//! Products of integers for eight rows of weights at once, in forms that give the same bits.
//!
//! The rows stand beside each other: a vector has four codes of each of them, a sum has a number for each, and so has a
//! vector of their scales. Sums of integers are exact in any order. Floats are multiplied and added in the same order by
//! every form, and nothing is fused, so an answer does not depend on the machine.

use std::array;

/// How many codes share a scale of what they are multiplied with.
pub(crate) const BLOCK: usize = 32;

/// Fours of codes in a block.
pub(crate) const FOURS: usize = BLOCK / 4;

/// Rows of weights that are multiplied together.
pub(crate) const ROWS: usize = 8;

/// The instructions that it is computed with.
#[cfg_attr(
    not(feature = "flex"),
    expect(dead_code, reason = "without the CPU blocks are unpacked only")
)]
pub(crate) trait Lanes: Copy {
    /// 32 bytes: four of each row, or a 32-bit integer of each.
    type Bytes: Copy;
    /// A number of each row.
    type Floats: Copy;

    /// The k-th of what comes back has the bytes 4k to 4k + 3 of every row.
    fn turn(self, rows: [&[u8; BLOCK]; ROWS]) -> [Self::Bytes; FOURS];
    /// [`Lanes::turn`] of half as many bytes.
    fn turn_half(self, rows: [&[u8; BLOCK / 2]; ROWS]) -> [Self::Bytes; FOURS / 2];
    /// Four bytes of every row.
    fn turn_four(self, rows: [&[u8; 4]; ROWS]) -> Self::Bytes;

    /// (byte >> N) & mask, of each.
    fn bits<const N: i32>(self, bytes: Self::Bytes, mask: u8) -> Self::Bytes;
    /// low | high << 4 of bytes below 16.
    fn join(self, low: Self::Bytes, high: Self::Bytes) -> Self::Bytes;
    /// byte − x, which wraps around.
    fn minus(self, bytes: Self::Bytes, x: u8) -> Self::Bytes;

    /// (integer >> shift) & mask, of each.
    fn field(self, integers: Self::Bytes, shift: u32, mask: u32) -> Self::Bytes;
    /// The byte of this index in each integer, 0 being the lowest, as a signed number.
    fn signed_byte(self, integers: Self::Bytes, index: u32) -> Self::Bytes;
    /// Signed integers as floats.
    fn to_floats(self, integers: Self::Bytes) -> Self::Floats;
    /// The 16-bit floats in the low halves of integers. They are finite.
    fn low_floats(self, integers: Self::Bytes) -> Self::Floats;
    /// The 16-bit floats in the high halves of integers. They are finite.
    fn high_floats(self, integers: Self::Bytes) -> Self::Floats;

    fn splat(self, x: f32) -> Self::Floats;
    fn product(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn plus(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn values(self, floats: Self::Floats) -> [f32; ROWS];

    /// Σ w x of every row of w with each of R rows x: bytes w below 16, and signed bytes x of −127 to 127, four in an
    /// integer. N is 8 at most.
    ///
    /// Nothing overflows: 16 products of two codes are 16 · 15 · 127 = 30480 at most, which 16 signed bits hold.
    fn products_of_bytes<const N: usize, const R: usize>(
        self,
        w: &[Self::Bytes; N],
        x: [&[i32; N]; R],
    ) -> [Self::Floats; R];

    /// The same for signed bytes w and signed words x of −32767 to 32767: of each four the even ones in one integer, the
    /// odd ones in another. N is 8 at most.
    ///
    /// Nothing overflows: 32 products are 32 · 128 · 32767 = 134 213 632 at most, which 32 signed bits hold.
    fn products_of_words<const N: usize, const R: usize>(
        self,
        w: &[Self::Bytes; N],
        x: [&[[i32; 2]; N]; R],
    ) -> [Self::Floats; R];
}

/// For any machine.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Portable {
    /// The low halves of 16 bytes, and behind them the high halves.
    #[inline(always)]
    pub fn nibbles(self, bytes: &[u8; BLOCK / 2]) -> [u8; BLOCK] {
        array::from_fn(|i| {
            let byte = bytes[i % (BLOCK / 2)];
            if i < BLOCK / 2 { byte & 15 } else { byte >> 4 }
        })
    }

    /// The 16-bit float of these bits, which is finite: the bits of fraction and exponent stand 13 places higher, and the
    /// exponent counts from 112 more. The conversion of `half` asks each time what the machine can do.
    #[inline(always)]
    pub fn widen(self, bits: u16) -> f32 {
        let bits = u32::from(bits);
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
        f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
    }
}

impl Lanes for Portable {
    type Bytes = [u8; BLOCK];
    type Floats = [f32; ROWS];

    #[inline(always)]
    fn turn(self, rows: [&[u8; BLOCK]; ROWS]) -> [Self::Bytes; FOURS] {
        array::from_fn(|k| array::from_fn(|i| rows[i / 4][4 * k + i % 4]))
    }

    #[inline(always)]
    fn turn_half(self, rows: [&[u8; BLOCK / 2]; ROWS]) -> [Self::Bytes; FOURS / 2] {
        array::from_fn(|k| array::from_fn(|i| rows[i / 4][4 * k + i % 4]))
    }

    #[inline(always)]
    fn turn_four(self, rows: [&[u8; 4]; ROWS]) -> Self::Bytes {
        array::from_fn(|i| rows[i / 4][i % 4])
    }

    #[inline(always)]
    fn bits<const N: i32>(self, bytes: Self::Bytes, mask: u8) -> Self::Bytes {
        bytes.map(|byte| byte >> N & mask)
    }

    #[inline(always)]
    fn join(self, low: Self::Bytes, high: Self::Bytes) -> Self::Bytes {
        array::from_fn(|i| low[i] | high[i] << 4)
    }

    #[inline(always)]
    fn minus(self, bytes: Self::Bytes, x: u8) -> Self::Bytes {
        bytes.map(|byte| byte.wrapping_sub(x))
    }

    #[inline(always)]
    fn field(self, integers: Self::Bytes, shift: u32, mask: u32) -> Self::Bytes {
        of_integers(to_integers(integers).map(|x| x >> shift & mask))
    }

    #[inline(always)]
    fn signed_byte(self, integers: Self::Bytes, index: u32) -> Self::Bytes {
        let byte = |x: u32| (x << (24 - 8 * index)).cast_signed() >> 24;
        of_integers(to_integers(integers).map(|x| byte(x).cast_unsigned()))
    }

    #[inline(always)]
    fn to_floats(self, integers: Self::Bytes) -> Self::Floats {
        to_integers(integers).map(|x| x.cast_signed() as f32)
    }

    #[inline(always)]
    fn low_floats(self, integers: Self::Bytes) -> Self::Floats {
        to_integers(integers).map(|x| self.widen(x as u16))
    }

    #[inline(always)]
    fn high_floats(self, integers: Self::Bytes) -> Self::Floats {
        to_integers(integers).map(|x| self.widen((x >> 16) as u16))
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::Floats {
        [x; ROWS]
    }

    #[inline(always)]
    fn product(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    fn plus(self, a: Self::Floats, b: Self::Floats) -> Self::Floats {
        array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    fn values(self, floats: Self::Floats) -> [f32; ROWS] {
        floats
    }

    #[inline(always)]
    fn products_of_bytes<const N: usize, const R: usize>(
        self,
        w: &[Self::Bytes; N],
        x: [&[i32; N]; R],
    ) -> [Self::Floats; R] {
        x.map(|x| {
            let mut sums = [0i32; ROWS];
            for (w, x) in w.iter().zip(x) {
                let x = x.to_le_bytes().map(|x| i32::from(x.cast_signed()));
                for (sum, w) in sums.iter_mut().zip(w.as_chunks::<4>().0) {
                    let [a, b, c, d] = w.map(i32::from);
                    *sum += (a * x[0] + b * x[1]) + (c * x[2] + d * x[3]);
                }
            }
            sums.map(|sum| sum as f32)
        })
    }

    #[inline(always)]
    fn products_of_words<const N: usize, const R: usize>(
        self,
        w: &[Self::Bytes; N],
        x: [&[[i32; 2]; N]; R],
    ) -> [Self::Floats; R] {
        let words = |x: i32| [x << 16 >> 16, x >> 16];
        x.map(|x| {
            let mut sums = [0i32; ROWS];
            for (w, x) in w.iter().zip(x) {
                let (even, odd) = (words(x[0]), words(x[1]));
                for (sum, w) in sums.iter_mut().zip(w.as_chunks::<4>().0) {
                    let [a, b, c, d] = w.map(|w| i32::from(w.cast_signed()));
                    *sum += (a * even[0] + c * even[1]) + (b * odd[0] + d * odd[1]);
                }
            }
            sums.map(|sum| sum as f32)
        })
    }
}

#[inline(always)]
fn to_integers(bytes: [u8; BLOCK]) -> [u32; ROWS] {
    let fours = bytes.as_chunks().0;
    array::from_fn(|i| u32::from_le_bytes(fours[i]))
}

#[inline(always)]
fn of_integers(integers: [u32; ROWS]) -> [u8; BLOCK] {
    let fours = integers.map(u32::to_le_bytes);
    array::from_fn(|i| fours[i / 4][i % 4])
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_finite_f16_is_widened() {
        for bits in 0..=u16::MAX {
            let exact = f16::from_bits(bits);
            if exact.is_finite() {
                let found = Portable.widen(bits).to_bits();
                assert_eq!(found, exact.to_f32().to_bits(), "{bits:#x}");
            }
        }
    }
}
