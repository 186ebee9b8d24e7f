//! Blocks of eight rows of weights, unpacked beside each other.

use crate::blocks::{Blocks, Format, Q4_0, Q4_1, Q4K, Q6K, Q8_0, part};
use crate::lanes::{BLOCK, FOURS, Lanes, ROWS};
use crate::rounded::Code;

/// 32 weights of each of eight rows: scale · code + minimum.
pub(crate) struct Interleaved<L: Lanes> {
    /// The k-th has the codes 4k to 4k + 3 of every row.
    pub codes: [L::Bytes; FOURS],
    /// Those of the first 16 weights, and those of the last.
    pub scales: [L::Floats; 2],
    pub minima: L::Floats,
}

/// A form of [`Blocks`] that products read.
pub(crate) trait Factor: Format {
    /// What x is rounded to. Codes are below 16 for 8 bits of x, which is the fastest; for 16 bits they are any signed
    /// bytes.
    type X: Code;
    /// Whether there are minima other than 0.
    const HAS_MINIMA: bool;
    /// Whether the last 16 weights have other scales than the first.
    const HALVES_DIFFER: bool;

    /// Unpacks a block of each row, and calls `meet` with every group of 32 in their order.
    fn unpack<L: Lanes>(
        lanes: L,
        blocks: [&Self::Block; ROWS],
        meet: impl FnMut(usize, Interleaved<L>),
    );
}

/// Whether x is rounded to 16 bits for weights of this form, and to 8 bits otherwise.
pub(crate) fn takes_words(form: Blocks) -> bool {
    fn is<F: Factor>() -> bool {
        size_of::<F::X>() == size_of::<i16>()
    }
    match form {
        Blocks::Q8_0 => is::<Q8_0>(),
        Blocks::Q4_0 => is::<Q4_0>(),
        Blocks::Q4_1 => is::<Q4_1>(),
        Blocks::Q4K => is::<Q4K>(),
        Blocks::Q6K => is::<Q6K>(),
    }
}

impl Factor for Q8_0 {
    type X = i16;
    const HAS_MINIMA: bool = false;
    const HALVES_DIFFER: bool = false;

    #[inline(always)]
    fn unpack<L: Lanes>(
        lanes: L,
        blocks: [&Self::Block; ROWS],
        mut meet: impl FnMut(usize, Interleaved<L>),
    ) {
        let d = lanes.low_floats(lanes.turn_four(parts(blocks, 0)));
        let weights = Interleaved {
            codes: lanes.turn(parts(blocks, 2)),
            scales: [d; 2],
            minima: lanes.splat(0.0),
        };
        meet(0, weights);
    }
}

/// d · (q − 8) as d · q − 8 d, so that the codes are not signed.
impl Factor for Q4_0 {
    type X = i8;
    const HAS_MINIMA: bool = true;
    const HALVES_DIFFER: bool = false;

    #[inline(always)]
    fn unpack<L: Lanes>(
        lanes: L,
        blocks: [&Self::Block; ROWS],
        mut meet: impl FnMut(usize, Interleaved<L>),
    ) {
        let d = lanes.low_floats(lanes.turn_four(parts(blocks, 0)));
        let weights = Interleaved {
            codes: nibbles(lanes, lanes.turn_half(parts(blocks, 2))),
            scales: [d; 2],
            minima: lanes.product(d, lanes.splat(-8.0)),
        };
        meet(0, weights);
    }
}

impl Factor for Q4_1 {
    type X = i8;
    const HAS_MINIMA: bool = true;
    const HALVES_DIFFER: bool = false;

    #[inline(always)]
    fn unpack<L: Lanes>(
        lanes: L,
        blocks: [&Self::Block; ROWS],
        mut meet: impl FnMut(usize, Interleaved<L>),
    ) {
        let floats = lanes.turn_four(parts(blocks, 0));
        let weights = Interleaved {
            codes: nibbles(lanes, lanes.turn_half(parts(blocks, 4))),
            scales: [lanes.low_floats(floats); 2],
            minima: lanes.high_floats(floats),
        };
        meet(0, weights);
    }
}

impl Factor for Q4K {
    type X = i8;
    const HAS_MINIMA: bool = true;
    const HALVES_DIFFER: bool = false;

    #[inline(always)]
    fn unpack<L: Lanes>(
        lanes: L,
        blocks: [&Self::Block; ROWS],
        mut meet: impl FnMut(usize, Interleaved<L>),
    ) {
        // d and m, and the 12 bytes of 6-bit scales and minima: bytes 0 to 3, 4 to 7, 8 to 11.
        let [floats, a, b, c] = lanes.turn_half(parts(blocks, 0));
        let d = lanes.low_floats(floats);
        let m = lanes.product(lanes.high_floats(floats), lanes.splat(-1.0));
        for pair in 0..4 {
            let pairs = lanes.turn(parts(blocks, 16 + pair * BLOCK));
            let halves = [
                masked::<L, 0, FOURS>(lanes, pairs, 15),
                masked::<L, 4, FOURS>(lanes, pairs, 15),
            ];
            for (half, codes) in halves.into_iter().enumerate() {
                let group = 2 * pair + half;
                let at = 8 * (group % 4) as u32;
                let (scale, minimum) = if group < 4 {
                    (lanes.field(a, at, 63), lanes.field(b, at, 63))
                } else {
                    let (low, low_2) = (lanes.field(c, at, 15), lanes.field(c, at + 4, 15));
                    (
                        lanes.join(low, lanes.field(a, at + 6, 3)),
                        lanes.join(low_2, lanes.field(b, at + 6, 3)),
                    )
                };
                let weights = Interleaved {
                    codes,
                    scales: [lanes.product(d, lanes.to_floats(scale)); 2],
                    minima: lanes.product(m, lanes.to_floats(minimum)),
                };
                meet(group, weights);
            }
        }
    }
}

impl Factor for Q6K {
    type X = i16;
    const HAS_MINIMA: bool = false;
    const HALVES_DIFFER: bool = true;

    #[inline(always)]
    fn unpack<L: Lanes>(
        lanes: L,
        blocks: [&Self::Block; ROWS],
        mut meet: impl FnMut(usize, Interleaved<L>),
    ) {
        // The last four bytes: two of the scales, and d.
        let d = lanes.high_floats(lanes.turn_four(parts(blocks, 206)));
        let sixteens = lanes.turn_half(parts(blocks, 192));
        for half in 0..2 {
            let low = lanes.turn(parts(blocks, 64 * half));
            let low_2 = lanes.turn(parts(blocks, 64 * half + BLOCK));
            let high = lanes.turn(parts(blocks, 128 + BLOCK * half));
            for r in 0..4 {
                let codes = match r {
                    0 => six_bits::<L, 0, 0>(lanes, low, high),
                    1 => six_bits::<L, 0, 2>(lanes, low_2, high),
                    2 => six_bits::<L, 4, 4>(lanes, low, high),
                    _ => six_bits::<L, 4, 6>(lanes, low_2, high),
                };
                let group = 4 * half + r;
                let mut scales = [d; 2];
                for (i, scale) in scales.iter_mut().enumerate() {
                    let byte = 2 * group + i;
                    let sixteen = lanes.signed_byte(sixteens[byte / 4], (byte % 4) as u32);
                    *scale = lanes.product(d, lanes.to_floats(sixteen));
                }
                let weights = Interleaved {
                    codes,
                    scales,
                    minima: lanes.splat(0.0),
                };
                meet(group, weights);
            }
        }
    }
}

/// N bytes of every block.
#[inline(always)]
fn parts<const B: usize, const N: usize>(
    blocks: [&[u8; B]; ROWS],
    start: usize,
) -> [&[u8; N]; ROWS] {
    blocks.map(
        #[inline(always)]
        |block| part(block, start),
    )
}

/// (byte >> N) & mask, of all.
#[inline(always)]
fn masked<L: Lanes, const N: i32, const K: usize>(
    lanes: L,
    mut bytes: [L::Bytes; K],
    mask: u8,
) -> [L::Bytes; K] {
    for bytes in &mut bytes {
        *bytes = lanes.bits::<N>(*bytes, mask);
    }
    bytes
}

/// The low halves of 16 bytes of each row, and behind them the high halves.
#[inline(always)]
fn nibbles<L: Lanes>(lanes: L, pairs: [L::Bytes; FOURS / 2]) -> [L::Bytes; FOURS] {
    let [a, b, c, d] = masked::<L, 0, { FOURS / 2 }>(lanes, pairs, 15);
    let [e, f, g, h] = masked::<L, 4, { FOURS / 2 }>(lanes, pairs, 15);
    [a, b, c, d, e, f, g, h]
}

/// Four bits from bit N on of `low`, two from bit M on of `high` above them, less 32.
#[inline(always)]
fn six_bits<L: Lanes, const N: i32, const M: i32>(
    lanes: L,
    mut low: [L::Bytes; FOURS],
    high: [L::Bytes; FOURS],
) -> [L::Bytes; FOURS] {
    for (low, high) in low.iter_mut().zip(high) {
        let bits = lanes.join(lanes.bits::<N>(*low, 15), lanes.bits::<M>(high, 3));
        *low = lanes.minus(bits, 32);
    }
    low
}
