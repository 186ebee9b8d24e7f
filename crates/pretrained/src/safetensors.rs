//! Weights in safetensors files: one file, or several that an index lists.
//!
//! Format: 8 bytes little-endian header length, a JSON header of `{name: {dtype, shape, data_offsets}}`, then the data
//! (<https://huggingface.co/docs/safetensors>).

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use serde::Deserialize;
use serde_json::Value;

use crate::json::{self, Fields};
use crate::tensors::Place;
use crate::{PretrainedError, TensorF32, floats, mapped};

pub(crate) const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The tensors of a folder; nothing is converted until it is asked for.
#[derive(Debug)]
pub(crate) struct SafetensorsFolder {
    files: Vec<SafetensorsFile>,
    /// Tensor name to the file that holds it.
    home: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct SafetensorsFile {
    path: PathBuf,
    map: Mmap,
    entries: BTreeMap<String, Entry>,
    /// Where the data begins: after the header.
    data_start: usize,
}

/// One line of a header.
#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl SafetensorsFolder {
    /// Maps `model.safetensors`, or every shard of `model.safetensors.index.json`, and checks their headers.
    pub fn open(folder: &Path) -> Result<Self, PretrainedError> {
        let single = folder.join(SINGLE);
        if single.is_file() {
            let file = SafetensorsFile::open(single)?;
            let home = file.entries.keys().map(|name| (name.clone(), 0)).collect();
            return Ok(Self {
                files: vec![file],
                home,
            });
        }
        let index = folder.join(INDEX);
        if index.is_file() {
            return Self::open_shards(folder, &index);
        }
        let problem = if folder.join("pytorch_model.bin").exists()
            || folder.join("pytorch_model.bin.index.json").exists()
        {
            format!(
                "the weights are in PyTorch's own format; save the model with safetensors ({SINGLE})"
            )
        } else {
            format!("the weights are missing: expected {SINGLE} or {INDEX}")
        };
        Err(PretrainedError::NotAModel {
            path: folder.to_path_buf(),
            problem,
        })
    }

    fn open_shards(folder: &Path, index: &Path) -> Result<Self, PretrainedError> {
        let object = json::read_object(index)?;
        let fields = Fields::new(index, &object);
        let weight_map = fields.nested("weight_map", "weight_map.")?.ok_or_else(|| {
            fields.wrong("weight_map", "an object of tensor names and file names")
        })?;

        let mut files: Vec<SafetensorsFile> = Vec::new();
        let mut home = BTreeMap::new();
        for (tensor, shard) in weight_map.object {
            let path = shard_path(folder, shard)
                .ok_or_else(|| weight_map.wrong(tensor, "the name of a file in the same folder"))?;
            let position = match files.iter().position(|file| file.path == path) {
                Some(position) => position,
                None if path.is_file() => {
                    files.push(SafetensorsFile::open(path)?);
                    files.len() - 1
                }
                None => {
                    let problem = format!("this shard is missing; {INDEX} puts `{tensor}` there");
                    return Err(PretrainedError::NotAModel { path, problem });
                }
            };
            if !files[position].entries.contains_key(tensor) {
                return Err(PretrainedError::MissingTensor {
                    path: files[position].path.clone(),
                    tensor: tensor.clone(),
                });
            }
            home.insert(tensor.clone(), position);
        }
        Ok(Self { files, home })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.home.keys().map(String::as_str)
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entry(name).map(|(_, entry)| entry.shape.as_slice())
    }

    /// The stored bytes and the name of their format.
    pub fn stored(&self, name: &str) -> Option<(&str, &[u8])> {
        let (file, entry) = self.entry(name)?;
        Some((&entry.dtype, file.bytes(entry)))
    }

    /// A tensor, whose rows are some of what is stored, or all.
    pub fn read(&self, place: &Place) -> Option<Result<TensorF32, PretrainedError>> {
        let (file, entry) = self.entry(&place.stored)?;
        Some(file.read(place, entry))
    }

    fn entry(&self, name: &str) -> Option<(&SafetensorsFile, &Entry)> {
        let file = &self.files[*self.home.get(name)?];
        Some((file, file.entries.get(name)?))
    }
}

/// A shard lies beside its index: anything else could point outside the model.
fn shard_path(folder: &Path, shard: &Value) -> Option<PathBuf> {
    let name = Path::new(shard.as_str()?);
    let mut components = name.components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(_)), None) => Some(folder.join(name)),
        _ => None,
    }
}

impl SafetensorsFile {
    fn open(path: PathBuf) -> Result<Self, PretrainedError> {
        let map = mapped::open(&path)?;
        let (data_start, entries) = header(&path, &map)?;
        Ok(Self {
            path,
            map,
            entries,
            data_start,
        })
    }

    /// In bounds: `header` has checked every entry.
    fn bytes(&self, entry: &Entry) -> &[u8] {
        let [start, end] = entry.data_offsets;
        &self.map[self.data_start + start..self.data_start + end]
    }

    fn read(&self, place: &Place, entry: &Entry) -> Result<TensorF32, PretrainedError> {
        let convert = converter(&entry.dtype).ok_or_else(|| PretrainedError::UnsupportedType {
            path: self.path.clone(),
            tensor: place.stored.clone(),
            found: entry.dtype.clone(),
            supported: "F32, F16, BF16".to_owned(),
        })?;
        let stored = self.bytes(entry);
        let row_bytes = stored.len() / entry.shape.first().copied().unwrap_or(1).max(1);
        let bytes = place.rows.start * row_bytes..place.rows.end * row_bytes;
        let data = convert(&stored[bytes.clone()]);
        let start = self.data_start + entry.data_offsets[0];
        mapped::forget(&self.map, start + bytes.start..start + bytes.end);
        Ok(TensorF32 {
            shape: place.shape.clone(),
            data,
        })
    }
}

/// From the bytes of a stored tensor to its elements.
type Converter = fn(&[u8]) -> Vec<f32>;

fn converter(dtype: &str) -> Option<Converter> {
    match dtype {
        "F32" => Some(floats::from_f32),
        "F16" => Some(floats::from_f16),
        "BF16" => Some(floats::from_bf16),
        _ => None,
    }
}

/// Bytes of one element; formats that cannot be converted are still measured, so that damage is noticed.
fn element_size(dtype: &str) -> Option<usize> {
    match dtype {
        "BOOL" | "U8" | "I8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => Some(1),
        "F16" | "BF16" | "U16" | "I16" => Some(2),
        "F32" | "U32" | "I32" => Some(4),
        "F64" | "U64" | "I64" => Some(8),
        _ => None,
    }
}

/// Reads and checks the header: where the data begins, and what lies there.
fn header(path: &Path, bytes: &[u8]) -> Result<(usize, BTreeMap<String, Entry>), PretrainedError> {
    let damaged = |problem: String| PretrainedError::damaged(path, problem);
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(damaged(format!(
            "the file has {} bytes, its header length alone takes 8",
            bytes.len()
        )));
    };
    let length = u64::from_le_bytes(*length);
    let Some(text) = usize::try_from(length)
        .ok()
        .and_then(|length| rest.get(..length))
    else {
        return Err(damaged(format!(
            "the header should have {length} bytes, the file has {} after it",
            rest.len()
        )));
    };
    let raw: BTreeMap<String, Value> = serde_json::from_slice(text)
        .map_err(|error| damaged(format!("the header is not valid JSON: {error}")))?;
    let data_length = rest.len() - text.len();

    let mut entries = BTreeMap::new();
    for (name, value) in raw {
        if name == "__metadata__" {
            continue;
        }
        let entry: Entry = serde_json::from_value(value)
            .map_err(|error| damaged(format!("the header's entry of tensor `{name}`: {error}")))?;
        let [start, end] = entry.data_offsets;
        if start > end || end > data_length {
            return Err(damaged(format!(
                "tensor `{name}` should lie at bytes {start}..{end} of the data, which has {data_length} bytes"
            )));
        }
        let expected = element_size(&entry.dtype).map(|size| {
            entry
                .shape
                .iter()
                .try_fold(size, |product, &axis| product.checked_mul(axis))
        });
        // An unknown format has no expected size; reading such a tensor is refused by its name.
        if expected.is_some_and(|expected| expected != Some(end - start)) {
            return Err(damaged(format!(
                "tensor `{name}` ({} {:?}) is given {} bytes",
                entry.dtype,
                entry.shape,
                end - start
            )));
        }
        entries.insert(name, entry);
    }
    Ok((size_of::<u64>() + text.len(), entries))
}
