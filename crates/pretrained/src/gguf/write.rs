//! The container, written: metadata, the list of tensors, and their bytes, one tensor in memory at a time.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::file::{Kind, MAGIC};
use super::quant::Format;
use crate::PretrainedError;

const VERSION: u32 = 3;

/// A metadata value to be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    /// Type and value as they stand in another file.
    Stored(Vec<u8>),
}

impl Value {
    pub fn text(value: &str) -> Self {
        Self::Text(value.to_owned())
    }

    /// Its type and itself.
    fn put(&self, bytes: &mut Vec<u8>) {
        let kind = |bytes: &mut Vec<u8>, kind: Kind| bytes.extend((kind as u32).to_le_bytes());
        let array = |bytes: &mut Vec<u8>, element: Kind, count: usize| {
            kind(bytes, Kind::Array);
            kind(bytes, element);
            bytes.extend((count as u64).to_le_bytes());
        };
        match self {
            Self::U32(value) => {
                kind(bytes, Kind::U32);
                bytes.extend(value.to_le_bytes());
            }
            Self::F32(value) => {
                kind(bytes, Kind::F32);
                bytes.extend(value.to_le_bytes());
            }
            Self::Bool(value) => {
                kind(bytes, Kind::Bool);
                bytes.push(u8::from(*value));
            }
            Self::Text(value) => {
                kind(bytes, Kind::Text);
                put_text(bytes, value);
            }
            Self::Texts(values) => {
                array(bytes, Kind::Text, values.len());
                values.iter().for_each(|value| put_text(bytes, value));
            }
            Self::I32s(values) => {
                array(bytes, Kind::I32, values.len());
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::Stored(stored) => bytes.extend(stored),
        }
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// A tensor of the list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// GGUF's name.
    pub name: String,
    /// Slowest axis first.
    pub shape: Vec<usize>,
    pub format: Format,
}

impl Entry {
    fn length(&self) -> usize {
        self.shape.iter().product::<usize>() / self.format.block_weights()
            * self.format.block_bytes()
    }
}

/// Writes a file at `path`; `bytes` gives those of each tensor, as many as its format and shape take.
pub(crate) fn write<'a>(
    path: &Path,
    metadata: &[(String, Value)],
    alignment: usize,
    tensors: &[Entry],
    mut bytes: impl FnMut(&Entry) -> Result<Cow<'a, [u8]>, PretrainedError>,
) -> Result<(), PretrainedError> {
    let header = header(metadata, alignment, tensors);
    let failed = |error| PretrainedError::io(path, "write")(error);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    file.write_all(&header).map_err(failed)?;
    for tensor in tensors {
        let bytes = bytes(tensor)?;
        assert_eq!(bytes.len(), tensor.length(), "{}", tensor.name);
        let padding = bytes.len().next_multiple_of(alignment) - bytes.len();
        file.write_all(&bytes).map_err(failed)?;
        file.write_all(&vec![0; padding]).map_err(failed)?;
    }
    let file = file
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)
}

/// All before the bytes of the tensors, which begin at a multiple of the alignment.
fn header(metadata: &[(String, Value)], alignment: usize, tensors: &[Entry]) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(VERSION.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut header, key);
        value.put(&mut header);
    }
    let mut offset = 0;
    for tensor in tensors {
        put_text(&mut header, &tensor.name);
        header.extend((tensor.shape.len() as u32).to_le_bytes());
        let fastest_first = tensor.shape.iter().rev();
        header.extend(fastest_first.flat_map(|&axis| (axis as u64).to_le_bytes()));
        header.extend(tensor.format.number().to_le_bytes());
        header.extend((offset as u64).to_le_bytes());
        offset += tensor.length().next_multiple_of(alignment);
    }
    header.resize(header.len().next_multiple_of(alignment), 0);
    header
}
