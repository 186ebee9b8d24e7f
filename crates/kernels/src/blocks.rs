//! The block formats of GGUF files that products read as they lie there.
//!
//! Layouts after `ggml/src/ggml-quants.c` of llama.cpp. *d* is a block's scale and *m* its minimum, 16-bit floats:
//!
//! | format | weights a block | bytes | weight |
//! |---|---|---|---|
//! | Q8_0 | 32 | d, 32 q | d·q, q signed |
//! | Q4_0 | 32 | d, 16 pairs of q | d·(q − 8) |
//! | Q4_1 | 32 | d, m, 16 pairs of q | d·q + m |
//! | Q4_K | 256 in 8 groups of 32 | d, m, 12 of scales, 128 pairs of q | d·sc·q − m·mn, with 6-bit sc and mn of each group |
//! | Q6_K | 256 in 8 groups of 32 | 128 low halves of q, 64 upper bit pairs, 16 sc, d | d·sc·(q − 32), an 8-bit sc of each 16 |
//!
//! In a pair of Q4_0 and Q4_1 the low half is of the first 16 weights, the high half of the last 16.

use crate::lanes::{BLOCK, Lanes, Portable};

/// How the elements of a packed matrix lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// 8.5 bits a weight.
    Q8_0,
    /// 4.5 bits a weight.
    Q4_0,
    /// 5 bits a weight.
    Q4_1,
    /// 4.5 bits a weight.
    Q4K,
    /// 6.56 bits a weight.
    Q6K,
}

impl Blocks {
    /// The format that ggml calls by this name, such as `Q4_K`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "Q8_0" => Some(Self::Q8_0),
            "Q4_0" => Some(Self::Q4_0),
            "Q4_1" => Some(Self::Q4_1),
            "Q4_K" => Some(Self::Q4K),
            "Q6_K" => Some(Self::Q6K),
            _ => None,
        }
    }

    /// Weights of a block.
    pub fn weights(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 => BLOCK,
            Self::Q4K | Self::Q6K => 8 * BLOCK,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            Self::Q8_0 => size_of::<<Q8_0 as Format>::Block>(),
            Self::Q4_0 => size_of::<<Q4_0 as Format>::Block>(),
            Self::Q4_1 => size_of::<<Q4_1 as Format>::Block>(),
            Self::Q4K => size_of::<<Q4K as Format>::Block>(),
            Self::Q6K => size_of::<<Q6K as Format>::Block>(),
        }
    }

    /// Where the 16-bit floats of a block begin.
    pub(crate) fn floats(self) -> &'static [usize] {
        match self {
            Self::Q8_0 | Self::Q4_0 => &[0],
            Self::Q4_1 | Self::Q4K => &[0, 2],
            Self::Q6K => &[208],
        }
    }
}

/// 32 weights: scale · code + minimum.
pub(crate) struct Group {
    pub codes: [u8; BLOCK],
    /// One for the first 16 and one for the last.
    pub scale: [f32; 2],
    pub minimum: f32,
}

/// A form of [`Blocks`].
pub(crate) trait Format {
    type Block: Copy;
    /// Groups of 32 in a block.
    const GROUPS: usize;
    /// Whether codes are signed bytes. Otherwise they are below 16.
    const SIGNED: bool;

    /// The whole blocks of `bytes`.
    fn blocks(bytes: &[u8]) -> &[Self::Block];
    fn group(lanes: Portable, block: &Self::Block, group: usize) -> Group;
}

pub(crate) struct Q8_0;
pub(crate) struct Q4_0;
pub(crate) struct Q4_1;
pub(crate) struct Q4K;
pub(crate) struct Q6K;

impl Format for Q8_0 {
    type Block = [u8; 2 + 32];
    const GROUPS: usize = 1;
    const SIGNED: bool = true;

    #[inline(always)]
    fn blocks(bytes: &[u8]) -> &[Self::Block] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn group(lanes: Portable, block: &Self::Block, _: usize) -> Group {
        let d = float_at(lanes, block, 0);
        Group {
            codes: *part(block, 2),
            scale: [d; 2],
            minimum: 0.0,
        }
    }
}

impl Format for Q4_0 {
    type Block = [u8; 2 + 16];
    const GROUPS: usize = 1;
    const SIGNED: bool = true;

    #[inline(always)]
    fn blocks(bytes: &[u8]) -> &[Self::Block] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn group(lanes: Portable, block: &Self::Block, _: usize) -> Group {
        let d = float_at(lanes, block, 0);
        Group {
            codes: lanes.minus(lanes.nibbles(part(block, 2)), 8),
            scale: [d; 2],
            minimum: 0.0,
        }
    }
}

impl Format for Q4_1 {
    type Block = [u8; 2 + 2 + 16];
    const GROUPS: usize = 1;
    const SIGNED: bool = false;

    #[inline(always)]
    fn blocks(bytes: &[u8]) -> &[Self::Block] {
        bytes.as_chunks().0
    }

    #[inline(always)]
    fn group(lanes: Portable, block: &Self::Block, _: usize) -> Group {
        let d = float_at(lanes, block, 0);
        Group {
            codes: lanes.nibbles(part(block, 4)),
            scale: [d; 2],
            minimum: float_at(lanes, block, 2),
        }
    }
}

impl Format for Q4K {
    type Block = [u8; 2 + 2 + 12 + 128];
    const GROUPS: usize = 8;
    const SIGNED: bool = false;

    #[inline(always)]
    fn blocks(bytes: &[u8]) -> &[Self::Block] {
        bytes.as_chunks().0
    }

    /// Two groups are the low and the high halves of the same 32 bytes.
    #[inline(always)]
    fn group(lanes: Portable, block: &Self::Block, group: usize) -> Group {
        let pairs = *part(block, 16 + group / 2 * BLOCK);
        let (scale, minimum) = scale_and_minimum(part(block, 4), group);
        let d = float_at(lanes, block, 0) * f32::from(scale);
        Group {
            codes: match group % 2 {
                0 => lanes.bits::<0>(pairs, 15),
                _ => lanes.bits::<4>(pairs, 15),
            },
            scale: [d; 2],
            minimum: -(float_at(lanes, block, 2) * f32::from(minimum)),
        }
    }
}

/// The 6-bit scale and minimum of a group of Q4_K.
///
/// Groups 0 to 3 are the low six bits of bytes j and j + 4. Groups 4 to 7 have their low four bits in the halves of byte
/// j + 4, and their high two bits in the top of bytes j − 4 and j.
#[inline(always)]
fn scale_and_minimum(bytes: &[u8; 12], j: usize) -> (u8, u8) {
    if j < 4 {
        (bytes[j] & 63, bytes[j + 4] & 63)
    } else {
        (
            bytes[j + 4] & 15 | bytes[j - 4] >> 6 << 4,
            bytes[j + 4] >> 4 | bytes[j] >> 6 << 4,
        )
    }
}

impl Format for Q6K {
    type Block = [u8; 128 + 64 + 16 + 2];
    const GROUPS: usize = 8;
    const SIGNED: bool = true;

    #[inline(always)]
    fn blocks(bytes: &[u8]) -> &[Self::Block] {
        bytes.as_chunks().0
    }

    /// Four groups are a half of the block: the group r of them has half r / 2 of bytes 32·(r mod 2) .., and bit pair r.
    #[inline(always)]
    fn group(lanes: Portable, block: &Self::Block, group: usize) -> Group {
        let (half, r) = (group / 4, group % 4);
        let low = *part(block, 64 * half + BLOCK * (r % 2));
        let high = *part(block, 128 + BLOCK * half);
        let low = match r / 2 {
            0 => lanes.bits::<0>(low, 15),
            _ => lanes.bits::<4>(low, 15),
        };
        let high = match r {
            0 => lanes.bits::<0>(high, 3),
            1 => lanes.bits::<2>(high, 3),
            2 => lanes.bits::<4>(high, 3),
            _ => lanes.bits::<6>(high, 3),
        };
        let d = float_at(lanes, block, 208);
        let scale = |half: usize| d * f32::from(block[192 + 2 * group + half].cast_signed());
        Group {
            codes: lanes.minus(lanes.join(low, high), 32),
            scale: [scale(0), scale(1)],
            minimum: 0.0,
        }
    }
}

/// N bytes of a block.
#[inline(always)]
pub(crate) fn part<const N: usize>(block: &[u8], start: usize) -> &[u8; N] {
    block[start..].first_chunk().expect("a part of a block")
}

/// The 16-bit float there.
#[inline(always)]
fn float_at(lanes: Portable, block: &[u8], start: usize) -> f32 {
    lanes.widen(u16::from_le_bytes(*part(block, start)))
}
