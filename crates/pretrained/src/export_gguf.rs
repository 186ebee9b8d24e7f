//! Writing GGUF files: whole models, and adapters for llama.cpp.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::export::check_replacement;
use crate::gguf::{self, Entry, Format, Metadata, ROPE_FACTORS, RowOrder, TEMPLATE, Value};
use crate::partial::whole_file;
use crate::{
    ChatOptions, ChatTokenizer, Message, ModelConfig, Pretrained, PretrainedError, RopeScaling,
    TensorF32,
};

/// The formats in which weights are written. Norms and biases are always 32-bit floats, and so are matrices whose rows fill
/// no whole blocks of Q8_0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgufType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats of IEEE 754.
    F16,
    /// The upper 16 bits of 32-bit floats.
    Bf16,
    /// 8 bits and a scale for every 32 weights.
    Q8_0,
}

impl GgufType {
    /// All of them, with their names.
    pub const ALL: [(GgufType, &str); 4] = [
        (Self::F32, "f32"),
        (Self::F16, "f16"),
        (Self::Bf16, "bf16"),
        (Self::Q8_0, "q8_0"),
    ];

    fn format(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::F16 => Format::F16,
            Self::Bf16 => Format::Bf16,
            Self::Q8_0 => Format::Q8_0,
        }
    }

    /// The format of a tensor of this shape.
    fn format_of(self, shape: &[usize]) -> Format {
        let fills_blocks =
            (shape.last()).is_some_and(|row| row.is_multiple_of(self.format().block_weights()));
        match shape.len() > 1 && fills_blocks {
            true => self.format(),
            false => Format::F32,
        }
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = Self::ALL.iter().find(|(dtype, _)| dtype == self);
        f.write_str(own.map_or("", |(_, name)| name))
    }
}

impl FromStr for GgufType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(_, name)| *name == text);
        let names = Self::ALL.map(|(_, name)| name).join(", ");
        known
            .map(|(dtype, _)| *dtype)
            .ok_or_else(|| format!("expected one of {names}"))
    }
}

/// The low-rank update alpha / r · B A of one weight.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraMatrices {
    /// The weight, by Hugging Face's name.
    pub weight: String,
    /// `[r, in_features]`
    pub a: TensorF32,
    /// `[out_features, r]`
    pub b: TensorF32,
}

/// Writes a whole model as a GGUF file that llama.cpp loads: the weights of `model`, but for the `overrides`, which replace
/// tensors by their Hugging Face names.
///
/// Where `model` is a GGUF file itself, its metadata and all tensors that are not replaced stay as they are stored, and
/// `dtype` is that of the replaced ones alone. The file appears whole or not at all, and is read back before it does:
/// what a GGUF file cannot say of a model is an error. It has the tokenizer and the template that stand in for the model's
/// own, but not what is told to the template ([`Pretrained::unwritten`]).
///
/// # Errors
/// Architectures and tokenizers whose layout in GGUF files is not known here, and a file that stands at `path` already.
pub fn write_gguf(
    path: &Path,
    model: &Pretrained,
    overrides: &BTreeMap<String, TensorF32>,
    dtype: GgufType,
) -> Result<(), PretrainedError> {
    let shapes: BTreeMap<_, _> = model.config().tensors().into_iter().collect();
    for (name, tensor) in overrides {
        check_replacement(path, name, tensor, shapes.get(name))?;
    }
    write_model(path, model, dtype, Some(overrides))
}

/// Writes a model as [`write_gguf`] does, with all its weights in `dtype`, those of a GGUF file too.
///
/// # Errors
/// Those of [`write_gguf`].
pub fn convert_to_gguf(
    path: &Path,
    model: &Pretrained,
    dtype: GgufType,
) -> Result<(), PretrainedError> {
    write_model(path, model, dtype, None)
}

/// Writes a model with `overrides` in place of its own tensors. Of a GGUF file all others stay as they are stored; without
/// `overrides`, all its tensors are written anew.
fn write_model(
    path: &Path,
    model: &Pretrained,
    dtype: GgufType,
    overrides: Option<&BTreeMap<String, TensorF32>>,
) -> Result<(), PretrainedError> {
    let architecture = architecture(path, model)?;
    model.check()?;
    let config = model.config();
    let encoded = |entry: &Entry, name: &str| {
        let TensorF32 { shape, data } = match overrides.and_then(|overrides| overrides.get(name)) {
            Some(tensor) => tensor.clone(),
            None => model.tensor(name)?,
        };
        let data = RowOrder::of(config, &entry.name).apply(data, row_length(&shape));
        let bytes = gguf::encode(entry.format, &data).map_err(|value| {
            let format = entry.format.name();
            PretrainedError::export(
                path,
                format!("tensor `{name}` holds {value}, which {format} cannot hold"),
            )
        });
        bytes.map(Cow::Owned)
    };
    whole_file(path, |partial| {
        match model.gguf() {
            Some(source) => {
                let file = &source.file;
                let is_new =
                    |name: &str| overrides.is_none_or(|overrides| overrides.contains_key(name));
                let new_name =
                    |entry: &str| gguf::hugging_face_name(entry).filter(|name| is_new(name));
                let entries: Vec<Entry> = (file.tensors.iter())
                    .map(|(name, info)| Entry {
                        name: name.clone(),
                        shape: info.shape.clone(),
                        format: match new_name(name) {
                            Some(_) => dtype.format_of(&info.shape),
                            None => info.format,
                        },
                    })
                    .collect();
                let all_in = overrides.is_none().then_some(dtype.format());
                let mut metadata = gguf::for_replaced(file, all_in);
                replace_texts(path, model, &mut metadata)?;
                gguf::write(
                    partial,
                    &metadata,
                    file.alignment,
                    &entries,
                    |entry| match new_name(&entry.name) {
                        Some(name) => encoded(entry, &name),
                        None => Ok(Cow::Borrowed(file.bytes(&file.tensors[&entry.name]))),
                    },
                )?;
            }
            None => {
                let name = model.source().file_name().unwrap_or_default();
                let mut metadata = gguf::for_model(
                    architecture,
                    &name.to_string_lossy(),
                    config,
                    dtype.format(),
                );
                metadata.extend(tokenizer_metadata(path, model)?);
                let entries = new_entries(path, config, dtype)?;
                gguf::write(partial, &metadata, gguf::ALIGNMENT, &entries, |entry| {
                    match gguf::hugging_face_name(&entry.name) {
                        Some(name) => encoded(entry, &name),
                        // What has no name in Hugging Face's files.
                        None => Ok(Cow::Owned(rotary_divisors(config))),
                    }
                })?;
            }
        }
        // What no file says is told to both alike ([`Pretrained::unwritten`]).
        let ChatOptions {
            variables, date, ..
        } = model.chat().clone();
        let read_back = Pretrained::open(partial)?.with_chat(ChatOptions {
            variables,
            date,
            ..ChatOptions::default()
        });
        read_back.check()?;
        let problem = match difference(config, read_back.config()) {
            None => tokenizer_difference(model, &read_back)?,
            problem => problem,
        };
        match problem {
            None => Ok(()),
            Some(problem) => Err(PretrainedError::export(
                path,
                format!("a GGUF file cannot say that {problem}"),
            )),
        }
    })
}

/// Tokenizer and chat template in a file's metadata.
fn tokenizer_metadata(path: &Path, model: &Pretrained) -> Result<Metadata, PretrainedError> {
    let rows = model.config().vocab_size;
    let written = gguf::tokenizer_metadata(&model.tokenizer_files()?, rows, model.tokenizer()?);
    written.map_err(|problem| PretrainedError::export(path, problem))
}

/// In a GGUF file's own metadata, puts the tokenizer and the template that stand in for its own in their place.
fn replace_texts(
    path: &Path,
    model: &Pretrained,
    metadata: &mut Metadata,
) -> Result<(), PretrainedError> {
    let chat = model.chat();
    if chat.tokenizer.is_some() {
        metadata.retain(|(key, _)| !key.starts_with("tokenizer."));
        metadata.extend(tokenizer_metadata(path, model)?);
    } else if chat.template.is_some() {
        let files = model.tokenizer_files()?;
        let template = files.template()?.unwrap_or_default();
        metadata.retain(|(key, _)| key != TEMPLATE);
        metadata.push((TEMPLATE.to_owned(), Value::text(template)));
    }
    Ok(())
}

/// The bytes of the tensor that says how frequencies are divided.
fn rotary_divisors(config: &ModelConfig) -> Vec<u8> {
    let divisors = config.attention[0].rope.divisors(config.head_dim);
    divisors.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Writes one LoRA for `model` as llama.cpp's `--lora` takes it, in 32-bit floats. Its listing shows `task`.
///
/// # Errors
/// Architectures whose layout in GGUF files is not known here, matrices that do not fit the model, and a file that stands
/// at `path` already.
pub fn write_gguf_adapter(
    path: &Path,
    model: &Pretrained,
    task: &str,
    alpha: f32,
    matrices: &[LoraMatrices],
) -> Result<(), PretrainedError> {
    let architecture = architecture(path, model)?;
    let shapes: BTreeMap<_, _> = model.config().tensors().into_iter().collect();
    let mut entries = Vec::new();
    let mut data = BTreeMap::new();
    for LoraMatrices { weight, a, b } in matrices {
        let fits = matches!(
            (shapes.get(weight).map(Vec::as_slice), &a.shape[..], &b.shape[..]),
            (Some([rows, columns]), [r, a_columns], [b_rows, b_r]) if columns == a_columns && rows == b_rows && r == b_r
        );
        let (Some(name), true) = (gguf::gguf_name(weight), fits) else {
            let problem = format!(
                "the update of `{weight}` has A {:?} and B {:?}, which do not fit {:?}",
                a.shape,
                b.shape,
                shapes.get(weight)
            );
            return Err(PretrainedError::export(path, problem));
        };
        let rows = RowOrder::of(model.config(), &name);
        let b_data = rows.apply(b.data.clone(), row_length(&b.shape));
        for (letter, shape, values) in [("a", &a.shape, a.data.clone()), ("b", &b.shape, b_data)] {
            let name = format!("{name}.lora_{letter}");
            entries.push(Entry {
                name: name.clone(),
                shape: shape.clone(),
                format: Format::F32,
            });
            data.insert(name, values);
        }
    }
    let metadata = gguf::for_adapter(architecture, task, alpha);
    whole_file(path, |partial| {
        gguf::write(partial, &metadata, gguf::ALIGNMENT, &entries, |entry| {
            Ok(Cow::Owned(
                data[&entry.name]
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            ))
        })?;
        gguf::GgufFile::open(partial).map(drop)
    })
}

/// The architecture in GGUF's words, of models whose layout in such files is known.
fn architecture(path: &Path, model: &Pretrained) -> Result<&'static str, PretrainedError> {
    let config = model.config();
    let refuse = |problem: String| Err(PretrainedError::export(path, problem));
    if let Some(labels) = &config.labels {
        return refuse(format!(
            "the model is a sequence classifier (its outputs: {}), expected a language model",
            labels.join(", ")
        ));
    }
    match gguf::architecture(config) {
        Some(architecture) if !config.joined_projections => Ok(architecture),
        _ => refuse(format!(
            "how GGUF files hold a model of the kind {} is not known here, only those of llama, mistral, qwen2 and qwen3; \
             write --format merged and convert it with llama.cpp's convert_hf_to_gguf.py",
            config.model_type
        )),
    }
}

fn row_length(shape: &[usize]) -> usize {
    shape.iter().skip(1).product()
}

/// The tensors of a model that was no GGUF file.
fn new_entries(
    path: &Path,
    config: &ModelConfig,
    dtype: GgufType,
) -> Result<Vec<Entry>, PretrainedError> {
    let mut entries = Vec::new();
    for (name, shape) in config.tensors() {
        let Some(theirs) = gguf::gguf_name(&name) else {
            return Err(PretrainedError::export(
                path,
                format!("tensor `{name}` has no place in a GGUF file"),
            ));
        };
        entries.push(Entry {
            name: theirs,
            format: dtype.format_of(&shape),
            shape,
        });
    }
    if let RopeScaling::Llama3 { .. } | RopeScaling::Factors(_) = config.attention[0].rope.scaling {
        entries.push(Entry {
            name: ROPE_FACTORS.to_owned(),
            shape: vec![config.head_dim / 2],
            format: Format::F32,
        });
    }
    Ok(entries)
}

/// What of a network is not the same after it was read back.
fn difference(model: &ModelConfig, read_back: &ModelConfig) -> Option<String> {
    let missing = (model.eos_token_ids.iter()).find(|id| !read_back.eos_token_ids.contains(id));
    if let Some(id) = missing {
        return Some(format!("generation ends at token {id}"));
    }
    for (layer, attention) in model.attention.iter().enumerate() {
        let (ours, theirs) = (&attention.rope, &read_back.attention[layer].rope);
        let frequencies = (ours.inverse_frequencies(model.head_dim).into_iter())
            .zip(theirs.inverse_frequencies(model.head_dim));
        let mut frequencies =
            frequencies.map(|(ours, theirs)| (ours - theirs).abs() <= 1e-6 * ours);
        if !frequencies.all(|same| same) || attention.window != read_back.attention[layer].window {
            return Some(format!(
                "layer {layer} attends as {attention:?}; it would be read as {:?}",
                read_back.attention[layer]
            ));
        }
    }
    // What is compared above, what has another name there, and what is told by the tokenizer.
    let rest = |config: &ModelConfig| ModelConfig {
        model_type: String::new(),
        attention: Vec::new(),
        eos_token_ids: Vec::new(),
        bos_token_id: None,
        // Rounded to 32 bits in the file.
        rms_norm_eps: f64::from(config.rms_norm_eps as f32),
        ..config.clone()
    };
    (rest(model) != rest(read_back)).then(|| {
        format!(
            "it is {:?}; it would be read as {:?}",
            rest(model),
            rest(read_back)
        )
    })
}

/// What of a tokenizer is not the same after it was read back. A model that came without one has nothing to compare.
fn tokenizer_difference(
    model: &Pretrained,
    read_back: &Pretrained,
) -> Result<Option<String>, PretrainedError> {
    let Ok(ours) = model.tokenizer() else {
        return Ok(None);
    };
    let theirs = read_back.tokenizer()?;
    let stops = |tokenizer: &ChatTokenizer| -> BTreeSet<u32> {
        tokenizer.stop_ids().iter().copied().collect()
    };
    if (ours.end_of_turn(), stops(ours)) != (theirs.end_of_turn(), stops(theirs)) {
        return Ok(Some(format!(
            "answers end at one of the tokens {:?}; it would be read as {:?}",
            ours.stop_ids(),
            theirs.stop_ids()
        )));
    }
    // Words, numbers, spaces, lines and letters of several bytes: where ways to split a text differ.
    let question = [Message::new(
        "user",
        "It's 2026:\n\n  where is the na\u{ef}ve caf\u{e9}?",
    )];
    Ok(
        match (
            ours.encode_prompt(&question),
            theirs.encode_prompt(&question),
        ) {
            (Ok(ours), Ok(theirs)) if ours != theirs => Some(format!(
                "a question becomes the tokens {ours:?}; it would be read as {theirs:?}"
            )),
            (Ok(_), Err(error)) => Some(format!("a question becomes tokens; reading it: {error}")),
            // A template may want other conversations.
            _ => None,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tiny;
    use crate::gguf::GgufFile;
    use panacea_test_support::Noise;

    fn tensor(shape: [usize; 2], noise: &mut Noise) -> TensorF32 {
        TensorF32 {
            shape: shape.to_vec(),
            data: (0..shape[0] * shape[1]).map(|_| noise.weight()).collect(),
        }
    }

    /// B A, row by row.
    fn product(a: &[f32], b: &[f32], r: usize) -> Vec<f32> {
        let columns = a.len() / r;
        let rows = b.chunks(r);
        rows.flat_map(|row| {
            (0..columns).map(|column| {
                (row.iter().enumerate())
                    .map(|(i, b)| b * a[i * columns + column])
                    .sum()
            })
        })
        .collect()
    }

    /// As they are stored, base + alpha / r · B A is the merged model: the rows of B are where those of the weight are.
    #[test]
    fn a_base_and_its_adapter_are_the_merged_model() {
        for family in ["llama", "mistral", "qwen2", "qwen3"] {
            let folder = tempfile::tempdir().unwrap();
            tiny::tiny_model(family).write(folder.path());
            let model = Pretrained::open(folder.path()).unwrap();
            let (r, alpha) = (3, 1.5);
            let mut noise = Noise(11);
            let mut merged = BTreeMap::new();
            let mut matrices = Vec::new();
            let tensors = model.config().tensors();
            for (weight, shape) in tensors
                .iter()
                .filter(|(name, _)| name.contains("_proj.weight"))
            {
                let (a, b) = (
                    tensor([r, shape[1]], &mut noise),
                    tensor([shape[0], r], &mut noise),
                );
                let mut whole = model.tensor(weight).unwrap();
                for (value, change) in whole.data.iter_mut().zip(product(&a.data, &b.data, r)) {
                    *value += alpha / r as f32 * change;
                }
                merged.insert(weight.clone(), whole);
                matrices.push(LoraMatrices {
                    weight: weight.clone(),
                    a,
                    b,
                });
            }
            let path = |name: &str| folder.path().join(name);
            let none = BTreeMap::new();
            write_gguf(&path("base.gguf"), &model, &none, GgufType::F32).unwrap();
            write_gguf(&path("merged.gguf"), &model, &merged, GgufType::F32).unwrap();
            write_gguf_adapter(&path("adapter.gguf"), &model, "wit", alpha, &matrices).unwrap();

            let [base, merged, adapter] = ["base.gguf", "merged.gguf", "adapter.gguf"]
                .map(|name| GgufFile::open(&path(name)).unwrap());
            let values = |file: &GgufFile, name: &str| {
                let info = &file.tensors[name];
                (info.shape.clone(), info.format.dequantise(file.bytes(info)))
            };
            assert_eq!(adapter.tensors.len(), 2 * 2 * 7);
            assert_eq!(adapter.text("adapter.lora.task_name").unwrap(), Some("wit"));
            assert_eq!(adapter.positive("adapter.lora.alpha").unwrap(), Some(1.5));
            for name in adapter
                .tensors
                .keys()
                .filter_map(|name| name.strip_suffix(".lora_a"))
            {
                let (a_shape, a) = values(&adapter, &format!("{name}.lora_a"));
                let (b_shape, b) = values(&adapter, &format!("{name}.lora_b"));
                let (shape, base) = values(&base, name);
                assert_eq!(
                    (a_shape, b_shape),
                    (vec![r, shape[1]], vec![shape[0], r]),
                    "{name}"
                );
                let merged = values(&merged, name).1;
                for ((base, change), merged) in base.iter().zip(product(&a, &b, r)).zip(merged) {
                    let found = base + alpha / r as f32 * change;
                    assert!(
                        (found - merged).abs() < 1e-5,
                        "{family} {name}: {found} {merged}"
                    );
                }
            }
            let wrong = vec![LoraMatrices {
                b: tensor([5, r], &mut noise),
                ..matrices[0].clone()
            }];
            let refused = write_gguf_adapter(&path("wrong.gguf"), &model, "wit", alpha, &wrong);
            assert!(refused.unwrap_err().to_string().contains("B [5, 3]"));
        }
    }
}
