//! The container: metadata, the list of tensors, and where their bytes lie.
//!
//! Layout after the GGUF specification (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>), versions 2 and 3,
//! little-endian. No length in the file is believed before it has been compared with what is left of the file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::keys;
use super::quant::{self, Format};
use crate::{PretrainedError, mapped};

pub(crate) const MAGIC: &[u8; 4] = b"GGUF";

/// Where data begins unless the file says otherwise: at multiples of this many bytes.
pub(crate) const ALIGNMENT: usize = 32;

/// An open GGUF file.
#[derive(Debug)]
pub(crate) struct GgufFile {
    pub path: PathBuf,
    map: Mmap,
    metadata: BTreeMap<String, Metadata>,
    /// Where the type and the value of each key lie in the file, in its order.
    stored_metadata: Vec<(String, Range<usize>)>,
    pub alignment: usize,
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// A tensor as the file lists it.
#[derive(Debug, Clone)]
pub(crate) struct TensorInfo {
    pub format: Format,
    /// Slowest axis first: the file has them the other way round.
    pub shape: Vec<usize>,
    /// Where its bytes lie in the file; in bounds.
    start: usize,
    end: usize,
}

/// A metadata value; widths are forgotten, arrays are read when they are asked for.
#[derive(Debug, Clone, PartialEq)]
enum Metadata {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    Array {
        element: Kind,
        count: usize,
        start: usize,
    },
}

/// The types of metadata values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    fn from_number(number: u32) -> Option<Self> {
        use Kind::{Array, Bool, F32, F64, I8, I16, I32, I64, Text, U8, U16, U32, U64};
        [
            U8, I8, U16, I16, U32, I32, F32, Bool, Text, Array, U64, I64, F64,
        ]
        .get(number as usize)
        .copied()
    }

    /// The least bytes that one value takes.
    fn least_size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::Text => 8,
            Self::Array => 4 + 8,
        }
    }
}

impl GgufFile {
    /// Maps the file and reads everything but the weights.
    pub fn open(path: &Path) -> Result<Self, PretrainedError> {
        let map = mapped::open(path)?;
        let Contents {
            metadata,
            stored_metadata,
            alignment,
            tensors,
        } = contents(path, &map)?;
        Ok(Self {
            path: path.to_path_buf(),
            map,
            metadata,
            stored_metadata,
            alignment,
            tensors,
        })
    }

    /// Every metadata key with the bytes of its type and value, in the file's order.
    pub fn stored_metadata(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let stored = self.stored_metadata.iter();
        stored.map(|(key, place)| (key.as_str(), &self.map[place.clone()]))
    }

    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        &self.map[tensor.start..tensor.end]
    }

    /// Gives back the memory of what [`GgufFile::bytes`] has brought in.
    pub fn forget(&self, tensor: &TensorInfo) {
        mapped::forget(&self.map, tensor.start..tensor.end);
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>, PretrainedError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Metadata::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, PretrainedError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Metadata::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A whole number above 0.
    pub fn count(&self, key: &str) -> Result<Option<usize>, PretrainedError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Metadata::Integer(n)) if *n > 0 => usize::try_from(*n)
                .map(Some)
                .map_err(|_| self.wrong(key, "a whole number above 0")),
            // Some converters write one number for each layer.
            Some(Metadata::Array { .. }) => {
                let numbers = self.integers(key)?.unwrap_or_default();
                match numbers.first() {
                    Some(&first) if first > 0 && numbers.iter().all(|&n| n == first) => {
                        Ok(usize::try_from(first).ok())
                    }
                    _ => Err(self.wrong(key, "one number above 0 for all layers")),
                }
            }
            Some(_) => Err(self.wrong(key, "a whole number above 0")),
        }
    }

    pub fn token_id(&self, key: &str) -> Result<Option<u32>, PretrainedError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Metadata::Integer(n)) => u32::try_from(*n)
                .map(Some)
                .map_err(|_| self.wrong(key, "a token id")),
            Some(_) => Err(self.wrong(key, "a token id")),
        }
    }

    /// A finite number above 0.
    pub fn positive(&self, key: &str) -> Result<Option<f64>, PretrainedError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Metadata::Float(x)) if x.is_finite() && *x > 0.0 => Ok(Some(*x)),
            Some(_) => Err(self.wrong(key, "a number above 0")),
        }
    }

    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>, PretrainedError> {
        self.array(
            key,
            "an array of strings",
            |kind| kind == Kind::Text,
            |value| match value {
                Metadata::Text(text) => Some(text),
                _ => None,
            },
        )
    }

    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>, PretrainedError> {
        self.array(
            key,
            "an array of whole numbers",
            |_| true,
            |value| match value {
                Metadata::Integer(n) => i64::try_from(n).ok(),
                _ => None,
            },
        )
    }

    pub fn floats(&self, key: &str) -> Result<Option<Vec<f64>>, PretrainedError> {
        self.array(
            key,
            "an array of numbers",
            |_| true,
            |value| match value {
                Metadata::Float(x) => Some(x),
                _ => None,
            },
        )
    }

    fn array<T>(
        &self,
        key: &str,
        expected: &str,
        right_kind: impl Fn(Kind) -> bool,
        convert: impl Fn(Metadata) -> Option<T>,
    ) -> Result<Option<Vec<T>>, PretrainedError> {
        let (element, count, start) = match self.metadata.get(key) {
            None => return Ok(None),
            Some(Metadata::Array {
                element,
                count,
                start,
            }) if right_kind(*element) => (*element, *count, *start),
            Some(_) => return Err(self.wrong(key, expected)),
        };
        let mut cursor = Cursor {
            path: &self.path,
            bytes: &self.map,
            at: start,
        };
        (0..count)
            .map(|_| convert(cursor.value(element, key)?).ok_or_else(|| self.wrong(key, expected)))
            .collect::<Result<Vec<_>, _>>()
            .map(Some)
    }

    /// An error about a metadata value.
    pub fn wrong(&self, key: &str, expected: impl Into<String>) -> PretrainedError {
        let found = match self.metadata.get(key) {
            None => "nothing".to_owned(),
            Some(Metadata::Integer(n)) => n.to_string(),
            Some(Metadata::Float(x)) => x.to_string(),
            Some(Metadata::Bool(flag)) => flag.to_string(),
            Some(Metadata::Text(text)) => {
                format!("{:?}", text.chars().take(80).collect::<String>())
            }
            Some(Metadata::Array { element, count, .. }) => {
                format!("an array of {count} values ({element:?})")
            }
        };
        PretrainedError::field(&self.path, key, found, expected)
    }
}

/// All but the weights.
struct Contents {
    metadata: BTreeMap<String, Metadata>,
    stored_metadata: Vec<(String, Range<usize>)>,
    alignment: usize,
    tensors: BTreeMap<String, TensorInfo>,
}

fn contents(path: &Path, bytes: &[u8]) -> Result<Contents, PretrainedError> {
    let mut cursor = Cursor { path, bytes, at: 0 };
    if cursor.take(4, "the magic number")? != MAGIC {
        return Err(PretrainedError::NotAModel {
            path: path.to_path_buf(),
            problem: "not a GGUF file: it does not begin with \"GGUF\"".to_owned(),
        });
    }
    let version = cursor.u32("the version")?;
    if !(2..=3).contains(&version) {
        let found = match version.swap_bytes() {
            2 | 3 => "a big-endian file".to_owned(),
            _ => version.to_string(),
        };
        return Err(PretrainedError::field(
            path,
            "(GGUF version)",
            found,
            "2 or 3, little-endian",
        ));
    }
    // A tensor takes at least a name length, the number of axes, a type and an offset; a key at least a length and a type.
    let tensor_count = cursor.count("the number of tensors", 8 + 4 + 4 + 8)?;
    let metadata_count = cursor.count("the number of metadata keys", 8 + 4)?;

    let mut metadata = BTreeMap::new();
    let mut stored_metadata = Vec::new();
    for _ in 0..metadata_count {
        let key = cursor.text("a metadata key")?;
        let start = cursor.at;
        let kind = cursor.kind(&key)?;
        let value = cursor.value(kind, &key)?;
        stored_metadata.push((key.clone(), start..cursor.at));
        if metadata.insert(key.clone(), value).is_some() {
            return Err(PretrainedError::damaged(
                path,
                format!("metadata key `{key}` appears twice"),
            ));
        }
    }
    if let Some(Metadata::Integer(parts)) = metadata.get("split.count")
        && *parts > 1
    {
        let expected = "a model in one file; join the parts with `llama-gguf-split --merge`";
        return Err(PretrainedError::field(path, "split.count", parts, expected));
    }
    let listed: Vec<ListedTensor> = (0..tensor_count)
        .map(|_| ListedTensor::read(&mut cursor))
        .collect::<Result<_, _>>()?;

    let alignment = alignment(path, &metadata)?;
    let data_start = cursor.at.next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for tensor in listed {
        let name = tensor.name.clone();
        let info = tensor.locate(path, data_start, alignment, bytes.len())?;
        if tensors.insert(name.clone(), info).is_some() {
            return Err(PretrainedError::damaged(
                path,
                format!("tensor `{name}` appears twice"),
            ));
        }
    }
    Ok(Contents {
        metadata,
        stored_metadata,
        alignment,
        tensors,
    })
}

fn alignment(path: &Path, metadata: &BTreeMap<String, Metadata>) -> Result<usize, PretrainedError> {
    match metadata.get(keys::ALIGNMENT) {
        None => Ok(ALIGNMENT),
        Some(Metadata::Integer(n)) if (1..=1 << 20).contains(n) && n.count_ones() == 1 => {
            Ok(*n as usize)
        }
        Some(other) => Err(PretrainedError::field(
            path,
            keys::ALIGNMENT,
            format!("{other:?}"),
            "a power of two",
        )),
    }
}

/// A tensor of the list, before its place has been checked.
struct ListedTensor {
    name: String,
    axes: Vec<u64>,
    format: u32,
    offset: u64,
}

impl ListedTensor {
    fn read(cursor: &mut Cursor) -> Result<Self, PretrainedError> {
        const MOST_AXES: u32 = 4;
        let name = cursor.text("a tensor's name")?;
        let count = cursor.u32(&name)?;
        if count > MOST_AXES {
            let problem =
                format!("tensor `{name}` has {count} axes, at most {MOST_AXES} are possible");
            return Err(PretrainedError::damaged(cursor.path, problem));
        }
        let axes = (0..count)
            .map(|_| cursor.u64(&name))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            format: cursor.u32(&name)?,
            offset: cursor.u64(&name)?,
            name,
            axes,
        })
    }

    fn locate(
        self,
        path: &Path,
        data_start: usize,
        alignment: usize,
        file_length: usize,
    ) -> Result<TensorInfo, PretrainedError> {
        let name = &self.name;
        let damaged = |problem: String| PretrainedError::damaged(path, problem);
        let format =
            Format::from_number(self.format).map_err(|found| PretrainedError::UnsupportedType {
                path: path.to_path_buf(),
                tensor: name.clone(),
                found,
                supported: quant::SUPPORTED.to_owned(),
            })?;
        let axes: Option<Vec<usize>> = self
            .axes
            .iter()
            .map(|&axis| usize::try_from(axis).ok())
            .collect();
        let weights = axes.as_ref().and_then(|axes| {
            axes.iter()
                .try_fold(1_usize, |n, &axis| n.checked_mul(axis))
        });
        let (Some(mut shape), Some(weights)) = (axes, weights) else {
            return Err(damaged(format!(
                "tensor `{name}` has the impossible shape {:?}",
                self.axes
            )));
        };
        let row = shape.first().copied().unwrap_or(1);
        if row % format.block_weights() != 0 {
            return Err(damaged(format!(
                "tensor `{name}` ({}) has rows of {row} weights, expected a multiple of {}",
                format.name(),
                format.block_weights()
            )));
        }
        if !self.offset.is_multiple_of(alignment as u64) {
            return Err(damaged(format!(
                "tensor `{name}` begins at byte {} of the data, expected a multiple of {alignment}",
                self.offset
            )));
        }
        let start = usize::try_from(self.offset)
            .ok()
            .and_then(|offset| data_start.checked_add(offset));
        let end = (weights / format.block_weights())
            .checked_mul(format.block_bytes())
            .and_then(|length| start?.checked_add(length));
        let (Some(start), Some(end)) = (start, end.filter(|&end| end <= file_length)) else {
            return Err(damaged(format!(
                "tensor `{name}` ({weights} weights in {}) should end at byte {}, the file has {file_length}",
                format.name(),
                end.map_or_else(|| "2^64 or later".to_owned(), |end| end.to_string()),
            )));
        };
        shape.reverse();
        Ok(TensorInfo {
            format,
            shape,
            start,
            end,
        })
    }
}

/// Reads forward, never past the end.
struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], PretrainedError> {
        match self.bytes[self.at..].get(..length) {
            Some(bytes) => {
                self.at += length;
                Ok(bytes)
            }
            None => Err(PretrainedError::damaged(
                self.path,
                format!(
                    "at byte {}, {what}: expected {length} more bytes, the file has {}",
                    self.at,
                    self.left()
                ),
            )),
        }
    }

    fn fixed<const SIZE: usize>(&mut self, what: &str) -> Result<[u8; SIZE], PretrainedError> {
        let mut fixed = [0; SIZE];
        fixed.copy_from_slice(self.take(SIZE, what)?);
        Ok(fixed)
    }

    fn u32(&mut self, what: &str) -> Result<u32, PretrainedError> {
        self.fixed(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, PretrainedError> {
        self.fixed(what).map(u64::from_le_bytes)
    }

    /// A number of things that take at least `least_size` bytes each.
    fn count(&mut self, what: &str, least_size: usize) -> Result<usize, PretrainedError> {
        let at = self.at;
        let count = self.u64(what)?;
        usize::try_from(count)
            .ok()
            .filter(|&count| count <= self.left() / least_size)
            .ok_or_else(|| {
                let left = self.left();
                PretrainedError::damaged(
                    self.path,
                    format!("at byte {at}, {what}: {count} cannot fit into the {left} bytes that the file has left"),
                )
            })
    }

    fn text(&mut self, what: &str) -> Result<String, PretrainedError> {
        let length = self.count(what, 1)?;
        let bytes = self.take(length, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|error| {
            PretrainedError::damaged(self.path, format!("{what} is not valid UTF-8: {error}"))
        })
    }

    fn kind(&mut self, key: &str) -> Result<Kind, PretrainedError> {
        let number = self.u32(key)?;
        Kind::from_number(number).ok_or_else(|| {
            PretrainedError::damaged(
                self.path,
                format!("metadata key `{key}` has the unknown type {number}"),
            )
        })
    }

    /// One value; an array is stepped over, and remembered by its place.
    fn value(&mut self, kind: Kind, key: &str) -> Result<Metadata, PretrainedError> {
        Ok(match kind {
            Kind::U8 => Metadata::Integer(u8::from_le_bytes(self.fixed(key)?).into()),
            Kind::I8 => Metadata::Integer(i8::from_le_bytes(self.fixed(key)?).into()),
            Kind::U16 => Metadata::Integer(u16::from_le_bytes(self.fixed(key)?).into()),
            Kind::I16 => Metadata::Integer(i16::from_le_bytes(self.fixed(key)?).into()),
            Kind::U32 => Metadata::Integer(self.u32(key)?.into()),
            Kind::I32 => Metadata::Integer(i32::from_le_bytes(self.fixed(key)?).into()),
            Kind::U64 => Metadata::Integer(self.u64(key)?.into()),
            Kind::I64 => Metadata::Integer(i64::from_le_bytes(self.fixed(key)?).into()),
            Kind::F32 => Metadata::Float(as_written(f32::from_le_bytes(self.fixed(key)?))),
            Kind::F64 => Metadata::Float(f64::from_le_bytes(self.fixed(key)?)),
            Kind::Text => Metadata::Text(self.text(key)?),
            Kind::Bool => match self.fixed::<1>(key)? {
                [0] => Metadata::Bool(false),
                [1] => Metadata::Bool(true),
                [other] => {
                    let problem =
                        format!("metadata key `{key}`: {other} is neither true (1) nor false (0)");
                    return Err(PretrainedError::damaged(self.path, problem));
                }
            },
            Kind::Array => {
                let element = self.kind(key)?;
                let count = self.count(key, element.least_size())?;
                let start = self.at;
                match element {
                    Kind::Text => (0..count).try_for_each(|_| self.text(key).map(drop))?,
                    Kind::Array => {
                        let problem =
                            format!("metadata key `{key}`: arrays of arrays are not supported");
                        return Err(PretrainedError::damaged(self.path, problem));
                    }
                    // `count` has checked that they fit.
                    fixed => self.at += count * fixed.least_size(),
                }
                Metadata::Array {
                    element,
                    count,
                    start,
                }
            }
        })
    }
}

/// The number that was rounded to 32 bits: 1e-5, not 9.999999747378752e-6.
fn as_written(stored: f32) -> f64 {
    stored
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(stored))
}
