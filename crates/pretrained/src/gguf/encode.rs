//! From 32-bit floats to the formats that are written.

use half::{bf16, f16};

use super::quant::Format;

/// The bytes of `values` in `format`, or the first value that the format cannot hold.
///
/// Q8_0 after `quantize_row_q8_0_ref` of `ggml/src/ggml-quants.c`: a block's scale is its largest magnitude over 127, in
/// 16 bits.
///
/// # Panics
/// For a format that is only read, and for values that fill no whole blocks.
pub(crate) fn encode(format: Format, values: &[f32]) -> Result<Vec<u8>, f32> {
    assert!(values.len().is_multiple_of(format.block_weights()));
    let whole = values.chunks_exact(format.block_weights());
    let mut bytes = Vec::with_capacity(whole.len() * format.block_bytes());
    match format {
        Format::F32 => bytes.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Format::F16 => {
            for &value in values {
                let short = f16::from_f32(value);
                keeps_finite(value, short.to_f32())?;
                bytes.extend(short.to_le_bytes());
            }
        }
        Format::Bf16 => {
            for &value in values {
                let short = bf16::from_f32(value);
                keeps_finite(value, short.to_f32())?;
                bytes.extend(short.to_le_bytes());
            }
        }
        Format::Q8_0 => {
            for block in whole {
                q8_0(block, &mut bytes)?;
            }
        }
        other => unreachable!("{} is only read", other.name()),
    }
    Ok(bytes)
}

fn keeps_finite(value: f32, rounded: f32) -> Result<(), f32> {
    match value.is_finite() && !rounded.is_finite() {
        true => Err(value),
        false => Ok(()),
    }
}

fn q8_0(block: &[f32], bytes: &mut Vec<u8>) -> Result<(), f32> {
    if let Some(value) = block.iter().find(|value| !value.is_finite()) {
        return Err(*value);
    }
    let largest = block
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let short = f16::from_f32(scale);
    keeps_finite(largest, short.to_f32())?;
    // As ggml does, by the scale before it is rounded to 16 bits.
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    bytes.extend(short.to_le_bytes());
    bytes.extend((block.iter()).map(|value| ((value * inverse).round() as i8).cast_unsigned()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<f32> {
        (0..128)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.0137 * 1.5_f32.powi(i / 32))
            .collect()
    }

    fn back(format: Format, values: &[f32]) -> Vec<f32> {
        format.dequantise(&encode(format, values).unwrap())
    }

    #[test]
    fn floats_come_back_within_their_rounding() {
        let values = values();
        assert_eq!(back(Format::F32, &values), values);
        for (format, digits) in [(Format::F16, 11), (Format::Bf16, 8)] {
            let rounded = back(format, &values);
            for (value, rounded) in values.iter().zip(&rounded) {
                let most = value.abs() * 0.5_f32.powi(digits);
                assert!((value - rounded).abs() <= most, "{value} {rounded}");
            }
            assert_eq!(back(format, &rounded), rounded, "{}", format.name());
        }
    }

    #[test]
    fn blocks_come_back_within_half_a_step() {
        let values = values();
        let rounded = back(Format::Q8_0, &values);
        for (block, rounded) in values.chunks(32).zip(rounded.chunks(32)) {
            let largest = block
                .iter()
                .fold(0.0_f32, |most, value| most.max(value.abs()));
            // Half a step, and what 127 steps of a scale in 16 bits are off by.
            let most = largest / 127.0 * 0.5 + largest * 0.5_f32.powi(11);
            for (value, rounded) in block.iter().zip(rounded) {
                assert!(
                    (value - rounded).abs() <= most * 1.0001,
                    "{value} {rounded}"
                );
            }
        }
        assert_eq!(back(Format::Q8_0, &[0.0; 32]), [0.0; 32]);
        // Whole numbers up to 127 have the scale 1.
        let whole: Vec<f32> = (0..32).map(|i| (i * 8) as f32 - 127.0).collect();
        assert_eq!(back(Format::Q8_0, &whole), whole);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert_eq!(encode(Format::F16, &[1.0, 70_000.0]), Err(70_000.0));
        assert_eq!(encode(Format::Bf16, &[f32::MAX]), Err(f32::MAX));
        let mut block = [0.0; 32];
        block[3] = 1e8;
        assert_eq!(encode(Format::Q8_0, &block), Err(1e8));
        block[3] = f32::INFINITY;
        assert_eq!(encode(Format::Q8_0, &block), Err(f32::INFINITY));
    }
}
