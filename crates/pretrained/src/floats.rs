//! Little-endian bytes of the usual float formats to `f32`.

use half::{bf16, f16};

pub(crate) fn from_f32(bytes: &[u8]) -> Vec<f32> {
    convert::<4>(bytes, f32::from_le_bytes)
}

pub(crate) fn from_f16(bytes: &[u8]) -> Vec<f32> {
    convert::<2>(bytes, |pair| f16::from_le_bytes(pair).to_f32())
}

pub(crate) fn from_bf16(bytes: &[u8]) -> Vec<f32> {
    convert::<2>(bytes, |pair| bf16::from_le_bytes(pair).to_f32())
}

/// The half-precision number that begins at `at`.
pub(crate) fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn convert<const SIZE: usize>(bytes: &[u8], one: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    bytes
        .as_chunks::<SIZE>()
        .0
        .iter()
        .map(|chunk| one(*chunk))
        .collect()
}
