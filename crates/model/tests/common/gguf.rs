//! Tiny GGUF files in the block formats that nothing of ours writes.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;
use panacea_kernels::Blocks;
use panacea_pretrained::{GgufType, Pretrained, write_gguf};
use panacea_test_support::{Noise, TinyModel};
use serde_json::Value;

/// The formats, and their numbers in files.
pub const FORMS: [(Blocks, u32); 5] = [
    (Blocks::Q4_0, 2),
    (Blocks::Q4_1, 3),
    (Blocks::Q8_0, 8),
    (Blocks::Q4K, 12),
    (Blocks::Q6K, 14),
];

/// Writes a model of `config` at `path`, with blocks of any codes in place of each matrix whose rows are whole blocks;
/// elements have about the standard deviation `size`. Vectors and other matrices stay in 32 bits. An infinite `size` damages
/// the blocks alone, since no model of such floats is written.
pub fn write(path: &Path, config: &Value, (form, number): (Blocks, u32), size: f32, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let of_floats = if size.is_finite() { size } else { 1.0 };
    TinyModel::well_behaved(config.clone(), of_floats).write(folder.path());
    let model = Pretrained::open(folder.path()).unwrap();
    let source = folder.path().join("floats.gguf");
    write_gguf(&source, &model, &BTreeMap::new(), GgufType::F32).unwrap();
    let source = std::fs::read(source).unwrap();

    let number_at = |at: usize| u64::from_le_bytes(source[at..at + 8].try_into().unwrap()) as usize;
    let half_at = |at: usize| u32::from_le_bytes(source[at..at + 4].try_into().unwrap()) as usize;
    let tensors = number_at(8);
    // The list of tensors begins with the length of a name that ends so; no metadata looks like that.
    let is_entry = |&at: &usize| {
        let length = number_at(at);
        let name = source.get(at + 8..).and_then(|rest| rest.get(..length));
        name.is_some_and(|name| length < 64 && name.ends_with(b".weight"))
    };
    let mut at = (24..source.len() - 72).find(is_entry).unwrap();
    let mut written = source[..at].to_vec();
    let (mut entries, mut noise) = (Vec::new(), Noise(seed));
    for _ in 0..tensors {
        let axes_at = at + 8 + number_at(at);
        let axes = half_at(axes_at);
        let fastest_first: Vec<usize> = (0..axes).map(|i| number_at(axes_at + 4 + 8 * i)).collect();
        let kind_at = axes_at + 4 + 8 * axes;
        entries.push((at..kind_at, fastest_first, number_at(kind_at + 4)));
        at = kind_at + 12;
    }
    let data = at.next_multiple_of(32);
    let mut bytes = Vec::new();
    for (head, shape, offset) in entries {
        let count: usize = shape.iter().product();
        let is_packed = shape.len() == 2 && shape[0].is_multiple_of(form.weights());
        written.extend(&source[head]);
        written.extend(if is_packed { number } else { 0 }.to_le_bytes());
        written.extend((bytes.len() as u64).to_le_bytes());
        match is_packed {
            true => {
                let blocks = count / form.weights();
                bytes.extend((0..blocks).flat_map(|_| block(form, size, &mut noise)));
            }
            false => bytes.extend(&source[data + offset..][..4 * count]),
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
    }
    written.resize(written.len().next_multiple_of(32), 0);
    written.extend(bytes);
    std::fs::write(path, written).unwrap();
}

/// Any codes, under a scale and a minimum that bring about `size`.
fn block(form: Blocks, size: f32, noise: &mut Noise) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..form.bytes()).map(|_| noise.next() as u8).collect();
    // Where the scale and the minimum stand. Codes below 16 have the deviation 4.6 and the mean 7.5; signed bytes 74; those
    // of Q6_K 18, under scales of 74; the scales and minima of Q4_K are 32 on average.
    let floats: &[(usize, f32)] = match form {
        Blocks::Q8_0 => &[(0, 1.0 / 74.0)],
        Blocks::Q4_0 => &[(0, 1.0 / 4.6)],
        Blocks::Q4_1 => &[(0, 1.0 / 4.6), (2, -7.5 / 4.6)],
        Blocks::Q4K => &[(0, 1.0 / 4.6 / 32.0), (2, 7.5 / 4.6 / 32.0)],
        Blocks::Q6K => &[(208, 1.0 / 18.0 / 74.0)],
    };
    for &(at, factor) in floats {
        bytes[at..at + 2].copy_from_slice(&f16::from_f32(factor * size).to_le_bytes());
    }
    bytes
}
