//! The number formats of GGML and their inverse.
//!
//! Formats and layouts after `ggml/src/ggml-quants.c` of llama.cpp. *d* is a block's scale and *m* its minimum, both
//! 16-bit floats; *q* is a weight's small integer:
//!
//! | format | weights a block | value |
//! |---|---|---|
//! | Q8_0 | 32 | d·q, q signed |
//! | Q4_0, Q5_0 | 32 | d·(q − 8), d·(q − 16) |
//! | Q4_1, Q5_1 | 32 | d·q + m |
//! | Q4_K, Q5_K | 256 in 8 groups of 32 | d·sc·q − m·mn, with 6-bit sc and mn of each group |
//! | Q6_K | 256 in 16 groups of 16 | d·sc·(q − 32), with an 8-bit sc of each group |

use rayon::prelude::*;

use crate::floats::{self, f16_at};

/// Formats that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// The numbers that stand for the formats in files.
const NUMBERS: [(u32, Format); 11] = [
    (0, Format::F32),
    (1, Format::F16),
    (2, Format::Q4_0),
    (3, Format::Q4_1),
    (6, Format::Q5_0),
    (7, Format::Q5_1),
    (8, Format::Q8_0),
    (12, Format::Q4K),
    (13, Format::Q5K),
    (14, Format::Q6K),
    (30, Format::Bf16),
];

pub(crate) const SUPPORTED: &str = "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K";

/// Formats with a number in the file format, which are not read: their names make better errors.
const OTHERS: [(u32, &str); 24] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

impl Format {
    /// The format of a number in the file; an error is that number with its name.
    pub fn from_number(number: u32) -> Result<Self, String> {
        let known = NUMBERS.iter().find(|(known, _)| *known == number);
        known.map(|(_, format)| *format).ok_or_else(|| {
            let other = OTHERS.iter().find(|(other, _)| *other == number);
            let name = other.map_or("unknown", |(_, name)| name);
            format!("{name} (type {number})")
        })
    }

    /// Its number in the file.
    pub fn number(self) -> u32 {
        let own = NUMBERS.iter().find(|(_, format)| *format == self);
        own.expect("every format has a number").0
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Weights in a block.
    pub fn block_weights(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 2 + 2 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 2 + 2 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4K => 2 + 2 + 12 + 128,
            Self::Q5K => 2 + 2 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// All weights of whole blocks, on all cores.
    pub fn dequantise(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => floats::from_f32(bytes),
            Self::F16 => floats::from_f16(bytes),
            Self::Bf16 => floats::from_bf16(bytes),
            Self::Q4_0 => self.blocks::<32>(bytes, q4_0),
            Self::Q4_1 => self.blocks::<32>(bytes, q4_1),
            Self::Q5_0 => self.blocks::<32>(bytes, q5_0),
            Self::Q5_1 => self.blocks::<32>(bytes, q5_1),
            Self::Q8_0 => self.blocks::<32>(bytes, q8_0),
            Self::Q4K => self.blocks::<256>(bytes, q4_k),
            Self::Q5K => self.blocks::<256>(bytes, q5_k),
            Self::Q6K => self.blocks::<256>(bytes, q6_k),
        }
    }

    fn blocks<const WEIGHTS: usize>(
        self,
        bytes: &[u8],
        one: fn(&[u8], &mut [f32; WEIGHTS]),
    ) -> Vec<f32> {
        // A task of a few hundred blocks (tens of microseconds) hides the cost of handing it over.
        const BLOCKS_PER_TASK: usize = 8192 / 32;
        let size = self.block_bytes();
        let mut weights = vec![0.0; bytes.len() / size * WEIGHTS];
        weights
            .par_chunks_mut(BLOCKS_PER_TASK * WEIGHTS)
            .zip(bytes.par_chunks(BLOCKS_PER_TASK * size))
            .for_each(|(weights, bytes)| {
                for (block, out) in bytes
                    .chunks_exact(size)
                    .zip(weights.as_chunks_mut::<WEIGHTS>().0)
                {
                    one(block, out);
                }
            });
        weights
    }
}

/// Byte *i* holds weight *i* in its low half and weight *i + 16* in its high half.
fn nibbles(packed: &[u8], mut place: impl FnMut(usize, u8)) {
    for (i, byte) in packed.iter().enumerate() {
        place(i, byte & 0x0F);
        place(i + packed.len(), byte >> 4);
    }
}

/// The fifth bit of weight `i`, in place.
fn fifth_bit(bits: &[u8], i: usize) -> u8 {
    (bits[i / 8] >> (i % 8) & 1) << 4
}

fn q4_0(block: &[u8], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    nibbles(&block[2..], |i, q| out[i] = d * (f32::from(q) - 8.0));
}

fn q4_1(block: &[u8], out: &mut [f32; 32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    nibbles(&block[4..], |i, q| out[i] = d * f32::from(q) + m);
}

fn q5_0(block: &[u8], out: &mut [f32; 32]) {
    let (d, high) = (f16_at(block, 0), &block[2..6]);
    nibbles(&block[6..], |i, q| {
        out[i] = d * (f32::from(q | fifth_bit(high, i)) - 16.0)
    });
}

fn q5_1(block: &[u8], out: &mut [f32; 32]) {
    let (d, m, high) = (f16_at(block, 0), f16_at(block, 2), &block[4..8]);
    nibbles(&block[8..], |i, q| {
        out[i] = d * f32::from(q | fifth_bit(high, i)) + m
    });
}

fn q8_0(block: &[u8], out: &mut [f32; 32]) {
    let d = f16_at(block, 0);
    for (out, &q) in out.iter_mut().zip(&block[2..]) {
        *out = d * f32::from(q.cast_signed());
    }
}

/// The 6-bit scale and minimum of group `j` of 8, from 12 bytes.
///
/// Groups 0 to 3 are the low six bits of bytes j and j + 4. Groups 4 to 7 have their low four bits in the halves of byte
/// j + 4, and their high two bits in the top of bytes j − 4 and j.
fn scale_and_minimum(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, minimum) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (
            packed[j + 4] & 15 | packed[j - 4] >> 6 << 4,
            packed[j + 4] >> 4 | packed[j] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(minimum))
}

fn q4_k(block: &[u8], out: &mut [f32; 256]) {
    let (d, m, scales, packed) = (
        f16_at(block, 0),
        f16_at(block, 2),
        &block[4..16],
        &block[16..],
    );
    k_groups(d, m, scales, packed, |_, _| 0, out);
}

fn q5_k(block: &[u8], out: &mut [f32; 256]) {
    let (d, m, scales, high, packed) = (
        f16_at(block, 0),
        f16_at(block, 2),
        &block[4..16],
        &block[16..48],
        &block[48..],
    );
    // Bit g of byte i is the fifth bit of weight i of group g.
    k_groups(
        d,
        m,
        scales,
        packed,
        |group, i| (high[i] >> group & 1) << 4,
        out,
    );
}

/// Eight groups of 32 weights; groups 2p and 2p + 1 are the low and high halves of the same 32 bytes.
fn k_groups(
    d: f32,
    m: f32,
    scales: &[u8],
    packed: &[u8],
    high: impl Fn(usize, usize) -> u8,
    out: &mut [f32; 256],
) {
    for (pair, (packed, out)) in packed
        .chunks_exact(32)
        .zip(out.chunks_exact_mut(64))
        .enumerate()
    {
        for (half, out) in out.chunks_exact_mut(32).enumerate() {
            let group = 2 * pair + half;
            let (scale, minimum) = scale_and_minimum(scales, group);
            let (scale, minimum) = (d * scale, m * minimum);
            for (i, (out, byte)) in out.iter_mut().zip(packed).enumerate() {
                let q = byte >> (4 * half) & 0x0F | high(group, i);
                *out = scale * f32::from(q) - minimum;
            }
        }
    }
}

/// Each half of 128 weights has 64 bytes of low halves, 32 bytes of upper bit pairs and 8 scales; quarter *r* of it takes
/// half r / 2 of bytes 32·(r mod 2) .., and bit pair r.
fn q6_k(block: &[u8], out: &mut [f32; 256]) {
    let (low, high, scales, d) = (
        &block[..128],
        &block[128..192],
        &block[192..208],
        f16_at(block, 208),
    );
    for half in 0..2 {
        let (low, high, scales) = (
            &low[64 * half..][..64],
            &high[32 * half..][..32],
            &scales[8 * half..][..8],
        );
        for quarter in 0..4 {
            let out = &mut out[128 * half + 32 * quarter..][..32];
            for (i, out) in out.iter_mut().enumerate() {
                let four = low[32 * (quarter % 2) + i] >> (4 * (quarter / 2)) & 0x0F;
                let two = high[i] >> (2 * quarter) & 3;
                let scale = d * f32::from(scales[2 * quarter + i / 16].cast_signed());
                *out = scale * (f32::from(four | two << 4) - 32.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;
    use serde::Deserialize;

    fn half(value: f32) -> [u8; 2] {
        f16::from_f32(value).to_le_bytes()
    }

    /// A number that differs from weight to weight, for hand-made blocks.
    fn quantum(i: usize, bits: u32) -> u8 {
        ((i * 37 + i / 7 + 5) % (1 << bits)) as u8
    }

    fn pack_nibbles(values: &[u8]) -> Vec<u8> {
        let (low, high) = values.split_at(values.len() / 2);
        low.iter()
            .zip(high)
            .map(|(low, high)| low & 15 | (high & 15) << 4)
            .collect()
    }

    /// The fifth bits of 32 values as one little-endian number.
    fn pack_fifth_bits(values: &[u8]) -> [u8; 4] {
        values
            .iter()
            .enumerate()
            .fold(0_u32, |bits, (i, q)| bits | u32::from(q >> 4) << i)
            .to_le_bytes()
    }

    #[test]
    fn blocks_of_32_follow_their_formulas() {
        let (d, m) = (0.375_f32, -1.25_f32);
        let four: Vec<u8> = (0..32).map(|i| quantum(i, 4)).collect();
        let five: Vec<u8> = (0..32).map(|i| quantum(i, 5)).collect();
        let eight: Vec<u8> = (0..32).map(|i| quantum(i, 8)).collect();
        type Value<'a> = &'a dyn Fn(usize) -> f32;
        let cases: [(Format, Vec<u8>, Value); 5] = [
            (
                Format::Q4_0,
                [half(d).to_vec(), pack_nibbles(&four)].concat(),
                &|i| d * (f32::from(four[i]) - 8.0),
            ),
            (
                Format::Q4_1,
                [half(d).to_vec(), half(m).to_vec(), pack_nibbles(&four)].concat(),
                &|i| d * f32::from(four[i]) + m,
            ),
            (
                Format::Q5_0,
                [
                    half(d).to_vec(),
                    pack_fifth_bits(&five).to_vec(),
                    pack_nibbles(&five),
                ]
                .concat(),
                &|i| d * (f32::from(five[i]) - 16.0),
            ),
            (
                Format::Q5_1,
                [
                    half(d).to_vec(),
                    half(m).to_vec(),
                    pack_fifth_bits(&five).to_vec(),
                    pack_nibbles(&five),
                ]
                .concat(),
                &|i| d * f32::from(five[i]) + m,
            ),
            (
                Format::Q8_0,
                [half(d).to_vec(), eight.clone()].concat(),
                &|i| d * f32::from(eight[i] as i8),
            ),
        ];
        for (format, block, value) in cases {
            let expected: Vec<f32> = (0..32).map(value).collect();
            assert_eq!(format.dequantise(&block), expected, "{}", format.name());
        }
    }

    /// Six-bit scales and minima, packed the way ggml does.
    fn pack_scales(scales: &[u8; 8], minima: &[u8; 8]) -> Vec<u8> {
        let mut packed = vec![0; 12];
        for j in 0..4 {
            packed[j] = scales[j] | (scales[j + 4] >> 4) << 6;
            packed[j + 4] = minima[j] | (minima[j + 4] >> 4) << 6;
            packed[j + 8] = scales[j + 4] & 15 | (minima[j + 4] & 15) << 4;
        }
        packed
    }

    #[test]
    fn blocks_of_256_follow_their_formulas() {
        let (d, m) = (0.0625_f32, 0.5_f32);
        let scales: [u8; 8] = std::array::from_fn(|j| quantum(j + 3, 6));
        let minima: [u8; 8] = std::array::from_fn(|j| quantum(j + 11, 6));
        for (format, bits) in [(Format::Q4K, 4), (Format::Q5K, 5)] {
            let q: Vec<u8> = (0..256).map(|i| quantum(i, bits)).collect();
            let mut block = [
                half(d).to_vec(),
                half(m).to_vec(),
                pack_scales(&scales, &minima),
            ]
            .concat();
            if bits == 5 {
                block.extend(
                    (0..32).map(|i| (0..8).fold(0, |byte, g| byte | (q[32 * g + i] >> 4) << g)),
                );
            }
            for pair in q.chunks(64) {
                block.extend(pack_nibbles(pair));
            }
            let expected: Vec<f32> = (0..256)
                .map(|i| {
                    d * f32::from(scales[i / 32]) * f32::from(q[i]) - m * f32::from(minima[i / 32])
                })
                .collect();
            assert_eq!(format.dequantise(&block), expected, "{}", format.name());
        }

        let q: Vec<u8> = (0..256).map(|i| quantum(i, 6)).collect();
        let scales: Vec<i8> = (0..16).map(|j| quantum(j + 2, 8) as i8).collect();
        let mut block = Vec::new();
        for half in q.chunks(128) {
            block.extend(pack_nibbles(half));
        }
        for half in q.chunks(128) {
            block.extend(
                (0..32)
                    .map(|i| (0..4).fold(0, |byte, r| byte | (half[32 * r + i] >> 4) << (2 * r))),
            );
        }
        block.extend(scales.iter().map(|&scale| scale as u8));
        block.extend(super::tests::half(d));
        let expected: Vec<f32> = (0..256)
            .map(|i| d * f32::from(scales[i / 16]) * (f32::from(q[i]) - 32.0))
            .collect();
        assert_eq!(Format::Q6K.dequantise(&block), expected, "Q6_K");
    }

    #[derive(Deserialize)]
    struct Golden {
        number: u32,
        name: String,
        bytes: String,
        values: Vec<f32>,
    }

    /// Two random blocks of each format, and what the Python package `gguf` 0.19 makes of them.
    #[test]
    fn golden_blocks_are_those_of_the_gguf_package() {
        let text = include_str!("../../tests/golden/ggml_blocks.json");
        let goldens: Vec<Golden> = serde_json::from_str(text).unwrap();
        assert_eq!(goldens.len(), 11);
        for golden in goldens {
            let format = Format::from_number(golden.number).unwrap();
            assert_eq!(format.name(), golden.name);
            let bytes: Vec<u8> = (0..golden.bytes.len() / 2)
                .map(|i| u8::from_str_radix(&golden.bytes[2 * i..2 * i + 2], 16).unwrap())
                .collect();
            let values = format.dequantise(&bytes);
            assert_eq!(values.len(), golden.values.len(), "{}", golden.name);
            for (i, (found, expected)) in values.iter().zip(&golden.values).enumerate() {
                // JSON carries the shortest decimal that reads back as the same f32.
                assert_eq!(found, expected, "{} weight {i}", golden.name);
            }
        }
    }

    #[test]
    fn many_blocks_come_out_in_order() {
        let blocks = 3 * 8192 / 32 + 5;
        let bytes: Vec<u8> = (0..blocks)
            .flat_map(|b| [half(1.0).to_vec(), vec![(b % 100) as u8; 32]].concat())
            .collect();
        let weights = Format::Q8_0.dequantise(&bytes);
        assert_eq!(weights.len(), blocks * 32);
        assert!(
            weights
                .iter()
                .enumerate()
                .all(|(i, &w)| w == (i / 32 % 100) as f32)
        );
    }

    #[test]
    fn unknown_formats_are_named() {
        assert_eq!(Format::from_number(10), Err("Q2_K (type 10)".to_owned()));
        assert_eq!(
            Format::from_number(4242),
            Err("unknown (type 4242)".to_owned())
        );
    }
}
