//! Writing a model as a Hugging Face folder, so that other people's tools can use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::config::LayerAttention;
use crate::json::{read_object, read_object_if_present};
use crate::partial::PartialFolder;
use crate::safetensors::{INDEX, SINGLE};
use crate::tensors::{SCORE, Stored};
use crate::tokenizer::{SPECIAL_TOKENS_MAP, TOKENIZER, TOKENIZER_CONFIG};
use crate::{ModelConfig, Pretrained, PretrainedError, RopeScaling, TensorF32};

/// What is copied as it is from a Hugging Face folder, where it is there.
const COPIED: [&str; 9] = [
    TOKENIZER,
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS_MAP,
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
];
const CONFIG: &str = "config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
/// A file of weights is not made larger than 4 GB, so that every file system and host takes it.
const LARGEST_SHARD: usize = 4_000_000_000;

/// Writes a Hugging Face model folder with 32-bit weights: those of `model`, but for the `overrides`, which replace tensors
/// by name.
///
/// `dir` must not exist yet (or be empty). It is written beside its place and renamed: it appears whole or not at all. A
/// model that has no tokenizer is written without one.
pub fn write_model(
    dir: &Path,
    model: &Pretrained,
    overrides: &BTreeMap<String, TensorF32>,
) -> Result<(), PretrainedError> {
    let export = Export {
        dir,
        model,
        config: model.config().clone(),
        overrides,
        score: None,
    };
    export.write(LARGEST_SHARD)
}

/// Writes a sequence classifier, which transformers opens with `AutoModelForSequenceClassification`: the layers of `model`
/// with the `overrides`, as [`write_model`] writes them, under a head that reads one number for each of the `labels`.
///
/// `score` is its weight, `[labels, hidden]`. Transformers' head has no bias: one that was trained is left out, which
/// moves all texts' numbers alike.
///
/// Transformers reads the last token that is not padding. So that this is the one that the numbers belong to, give it
/// conversations that end with the end-of-turn token ([`crate::ChatTokenizer::answered`]; chat templates may write
/// a line break behind it). The padding token of many models is the one that ends a turn, which would then be skipped;
/// in its place the folder names a token that no conversation has.
pub fn write_classifier(
    dir: &Path,
    model: &Pretrained,
    overrides: &BTreeMap<String, TensorF32>,
    labels: &[String],
    score: &TensorF32,
) -> Result<(), PretrainedError> {
    let distinct: BTreeSet<&String> = labels.iter().collect();
    if labels.is_empty() || distinct.len() < labels.len() {
        let problem =
            format!("found the labels {labels:?}, expected at least one and no name twice");
        return Err(PretrainedError::export(dir, problem));
    }
    let export = Export {
        dir,
        model,
        config: ModelConfig {
            labels: Some(labels.to_vec()),
            ..model.config().clone()
        },
        overrides,
        score: Some(score),
    };
    export.write(LARGEST_SHARD)
}

/// A model as it is to be written.
struct Export<'a> {
    /// Where to.
    dir: &'a Path,
    /// What the tensors and files are taken from.
    model: &'a Pretrained,
    /// What is written: the model's, but for the labels.
    config: ModelConfig,
    overrides: &'a BTreeMap<String, TensorF32>,
    /// The head of a classifier, where `model` is to become one.
    score: Option<&'a TensorF32>,
}

impl Export<'_> {
    fn write(&self, largest_shard: usize) -> Result<(), PretrainedError> {
        self.model.check()?;
        let shapes: BTreeMap<_, _> = self.config.tensors().into_iter().collect();
        for (name, tensor) in self.replacements() {
            check_replacement(self.dir, name, tensor, shapes.get(name))?;
        }
        let folder = PartialFolder::beside(self.dir)?;
        self.describe(folder.path())?;
        self.write_weights(folder.path(), largest_shard)?;
        folder.finish()
    }

    /// What stands in place of the model's own tensors.
    fn replacements(&self) -> impl Iterator<Item = (&str, &TensorF32)> {
        let overrides = self.overrides.iter();
        let score = self.score.map(|score| (SCORE, score));
        (overrides.map(|(name, tensor)| (name.as_str(), tensor))).chain(score)
    }

    /// Configuration, tokenizer and chat template.
    fn describe(&self, folder: &Path) -> Result<(), PretrainedError> {
        let source = self.model.folder();
        let mut config = match source {
            Some(source) => {
                let mut config = read_object(&source.join(CONFIG))?;
                config.remove("dtype");
                // Code of the model's own, which is not copied; transformers has all that can be opened here.
                config.remove("auto_map");
                config.insert("torch_dtype".to_owned(), json!("float32"));
                config
            }
            None => hugging_face_config(self.dir, &self.config)?,
        };
        match source {
            Some(source) => self.copy_description(source, folder)?,
            None => self.describe_gguf(folder)?,
        }
        if self.score.is_some() {
            describe_labels(&mut config, &self.config);
            config.insert("pad_token_id".to_owned(), json!(self.set_padding(folder)?));
        }
        write_json(&folder.join(CONFIG), &Value::Object(config))
    }

    /// What a Hugging Face folder says of texts, with the tokenizer and the chat template that stand in for its own.
    fn copy_description(&self, source: &Path, folder: &Path) -> Result<(), PretrainedError> {
        let chat = self.model.chat();
        copy_files(chat.tokenizer.as_deref().unwrap_or(source), &COPIED, folder)?;
        copy_files(source, &[GENERATION_CONFIG], folder)?;
        if let Some(template) = &chat.template {
            let text = fs::read(template).map_err(PretrainedError::io(template, "read"))?;
            write_file(&folder.join("chat_template.jinja"), &text)?;
        }
        Ok(())
    }

    /// What the metadata of a GGUF file says, in the files of a Hugging Face model.
    fn describe_gguf(&self, folder: &Path) -> Result<(), PretrainedError> {
        let config = &self.config;
        if !config.eos_token_ids.is_empty() {
            let generation =
                json!({"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_ids});
            write_json(&folder.join(GENERATION_CONFIG), &generation)?;
        }
        match self.model.tokenizer_files() {
            Err(PretrainedError::NoTokenizer { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(files) => {
                write_file(&folder.join(TOKENIZER), &files.tokenizer)?;
                write_json(&folder.join(TOKENIZER_CONFIG), &Value::Object(files.config))
            }
        }
    }

    /// Names a padding token that no conversation has in the tokenizer's files, and returns its id. Without such a token,
    /// or a tokenizer, there is none: transformers then refuses to read several texts at once.
    fn set_padding(&self, folder: &Path) -> Result<Option<u32>, PretrainedError> {
        let files = match self.model.tokenizer_files() {
            Err(PretrainedError::NoTokenizer { .. }) => return Ok(None),
            files => files?,
        };
        let Some((id, token)) = self.model.tokenizer()?.padding(&files)? else {
            return Ok(None);
        };
        // The older of the two files is not always there; where it is, it counts as well.
        for (name, needed) in [(TOKENIZER_CONFIG, true), (SPECIAL_TOKENS_MAP, false)] {
            let path = folder.join(name);
            let object = read_object_if_present(&path)?;
            if object.is_some() || needed {
                let mut object = object.unwrap_or_default();
                object.insert("pad_token".to_owned(), json!(token));
                write_json(&path, &Value::Object(object))?;
            }
        }
        Ok(Some(id))
    }

    /// All tensors, into one file or into shards with an index.
    fn write_weights(&self, folder: &Path, largest_shard: usize) -> Result<(), PretrainedError> {
        let replacements: BTreeMap<_, _> = self.replacements().collect();
        let shards = shards(self.config.stored_tensors(), largest_shard);
        let mut weight_map = Map::new();
        let mut total_size = 0;
        for (position, shard) in shards.iter().enumerate() {
            let name = match shards.len() {
                1 => SINGLE.to_owned(),
                count => format!("model-{:05}-of-{count:05}.safetensors", position + 1),
            };
            write_safetensors(&folder.join(&name), shard, |tensor| {
                match replacements.get(tensor) {
                    Some(replacement) => Ok(replacement.data.clone()),
                    None => self.model.tensor(tensor).map(|tensor| tensor.data),
                }
            })?;
            for tensor in shard {
                weight_map.insert(tensor.name.clone(), json!(name));
                total_size += byte_length(&tensor.shape);
            }
        }
        if shards.len() > 1 {
            let index = json!({"metadata": {"total_size": total_size}, "weight_map": weight_map});
            write_json(&folder.join(INDEX), &index)?;
        }
        Ok(())
    }
}

/// Copies what describes a Hugging Face model beside its configuration.
fn copy_files(source: &Path, names: &[&str], folder: &Path) -> Result<(), PretrainedError> {
    for name in names {
        let from = source.join(name);
        if from.is_file() {
            // Read and written, not copied: a copy would inherit the permissions of a read-only cache.
            let bytes = fs::read(&from).map_err(PretrainedError::io(&from, "read"))?;
            write_file(&folder.join(name), &bytes)?;
        }
    }
    Ok(())
}

/// Makes a configuration that of a classifier, as transformers' `PreTrainedConfig` writes it: the number of labels is
/// that of the names.
fn describe_labels(object: &mut Map<String, Value>, config: &ModelConfig) {
    let labels = config.labels.as_deref().unwrap_or_default();
    let by_index = labels.iter().enumerate();
    let id2label: Map<_, _> = (by_index.clone().map(|(i, l)| (i.to_string(), json!(l)))).collect();
    let label2id: Map<_, _> = by_index.map(|(i, l)| (l.clone(), json!(i))).collect();
    let architecture = format!("{}ForSequenceClassification", architecture(config));
    object.remove("num_labels");
    object.extend([
        ("architectures".to_owned(), json!([architecture])),
        ("id2label".to_owned(), Value::Object(id2label)),
        ("label2id".to_owned(), Value::Object(label2id)),
        // Numbers, not classes: pipelines then apply no sigmoid or softmax.
        ("problem_type".to_owned(), json!("regression")),
    ]);
}

/// What the names of a model's classes in transformers begin with.
fn architecture(config: &ModelConfig) -> &'static str {
    match config.model_type.as_str() {
        "mistral" => "Mistral",
        "qwen2" => "Qwen2",
        "qwen3" => "Qwen3",
        // transformers has several classes for Gemma 3; this is the one of classifiers that read text alone.
        "gemma3_text" => "Gemma3Text",
        "phi3" => "Phi3",
        _ => "Llama",
    }
}

/// A replacement has the shape of what it replaces.
pub(crate) fn check_replacement(
    dir: &Path,
    name: &str,
    tensor: &TensorF32,
    expected: Option<&Vec<usize>>,
) -> Result<(), PretrainedError> {
    let refuse = |problem: String| Err(PretrainedError::export(dir, problem));
    match expected {
        None => refuse(format!(
            "tensor `{name}` is to be replaced, but the model has none of that name"
        )),
        Some(expected) if *expected != tensor.shape => refuse(format!(
            "tensor `{name}` is to be replaced by one of shape {:?}, expected {expected:?}",
            tensor.shape
        )),
        Some(expected) if expected.iter().product::<usize>() != tensor.data.len() => {
            refuse(format!(
                "the replacement of tensor `{name}` has {} values for the shape {expected:?}",
                tensor.data.len()
            ))
        }
        Some(_) => Ok(()),
    }
}

/// A `config.json` from which transformers (4 and 5) builds the model.
fn hugging_face_config(
    dir: &Path,
    config: &ModelConfig,
) -> Result<Map<String, Value>, PretrainedError> {
    // The layers of what GGUF files hold are all of one kind.
    let LayerAttention { window, rope } = &config.attention[0];
    let rope = rope
        .as_llama3(config.head_dim)
        .unwrap_or_else(|| rope.clone());
    let rope_scaling = match rope.scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_position_embeddings
        }),
        RopeScaling::Factors(_) => {
            let problem = "the model divides its rotary frequencies by a list of factors (rope_freqs.weight) that does not \
                           follow Llama 3's rule; config.json cannot say that";
            return Err(PretrainedError::export(dir, problem));
        }
    };
    let Value::Object(mut object) = json!({
        "architectures": [format!("{}ForCausalLM", architecture(config))],
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": rope.theta,
        "rope_scaling": rope_scaling,
        "tie_word_embeddings": config.tie_word_embeddings,
        "sliding_window": window,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_ids.first(),
        "torch_dtype": "float32"
    }) else {
        unreachable!("an object was written out");
    };
    if config.model_type.starts_with("qwen") {
        let is_windowed = window.is_some();
        // The first layer with a window.
        let first = if is_windowed {
            0
        } else {
            config.num_hidden_layers
        };
        object.insert("use_sliding_window".to_owned(), json!(is_windowed));
        object.insert("max_window_layers".to_owned(), json!(first));
    }
    Ok(object)
}

/// Fills files in the order of the tensors; a tensor larger than a shard has one for itself.
fn shards(tensors: Vec<Stored>, largest: usize) -> Vec<Vec<Stored>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0;
    for tensor in tensors {
        let length = byte_length(&tensor.shape);
        if filled > 0 && filled + length > largest {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += length;
        let last = shards.len() - 1;
        shards[last].push(tensor);
    }
    shards
}

fn byte_length(shape: &[usize]) -> usize {
    shape.iter().product::<usize>() * size_of::<f32>()
}

/// Writes one safetensors file, one tensor in memory at a time.
fn write_safetensors(
    path: &Path,
    tensors: &[Stored],
    values: impl Fn(&str) -> Result<Vec<f32>, PretrainedError>,
) -> Result<(), PretrainedError> {
    let mut header = Map::new();
    // Loaders of transformers ask for this entry.
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut offset = 0;
    for Stored { name, shape, .. } in tensors {
        let end = offset + byte_length(shape);
        header.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}),
        );
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // The data is to begin at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');

    let failed = |error: io::Error| PretrainedError::io(path, "write")(error);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    file.write_all(&(header.len() as u64).to_le_bytes())
        .map_err(failed)?;
    file.write_all(&header).map_err(failed)?;
    for (part, _) in tensors.iter().flat_map(|tensor| &tensor.parts) {
        for value in values(part)? {
            file.write_all(&value.to_le_bytes()).map_err(failed)?;
        }
    }
    let file = file
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)
}

fn write_json(path: &Path, value: &Value) -> Result<(), PretrainedError> {
    write_file(path, format!("{value:#}\n").as_bytes())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), PretrainedError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(PretrainedError::io(path, "write"))
}

#[cfg(test)]
#[path = "../tests/models/tiny.rs"]
#[allow(
    dead_code,
    reason = "shared with the integration tests, which use all of it"
)]
pub(crate) mod tiny;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChatOptions;

    #[test]
    fn shards_keep_the_order_and_the_limit() {
        let tensors: Vec<Stored> = [3, 4, 20, 1, 1, 1]
            .iter()
            .map(|&n| Stored {
                name: format!("t{n}"),
                shape: vec![n],
                parts: vec![(format!("t{n}"), vec![n])],
            })
            .collect();
        let sizes: Vec<Vec<usize>> = shards(tensors, 7 * 4)
            .into_iter()
            .map(|shard| shard.into_iter().map(|tensor| tensor.shape[0]).collect())
            .collect();
        assert_eq!(sizes, [vec![3, 4], vec![20], vec![1, 1, 1]]);
    }

    #[test]
    fn a_template_that_stands_in_is_written_with_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir(&source).unwrap();
        tiny::tiny_model("llama").write(&source);
        let template = folder.path().join("mine.jinja");
        fs::write(&template, "mine").unwrap();
        let model = Pretrained::open(&source).unwrap().with_chat(ChatOptions {
            template: Some(template),
            ..ChatOptions::default()
        });
        let target = folder.path().join("target");
        write_model(&target, &model, &BTreeMap::new()).unwrap();
        let written = Pretrained::open(&target).unwrap();
        assert_eq!(
            written.tokenizer().unwrap().render(&[], true).unwrap(),
            "mine"
        );
    }

    #[test]
    fn a_large_model_is_written_in_shards() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir(&source).unwrap();
        tiny::tiny_model("qwen2").write(&source);
        let model = Pretrained::open(&source).unwrap();
        let target = folder.path().join("target");
        let export = Export {
            dir: &target,
            model: &model,
            config: model.config().clone(),
            overrides: &BTreeMap::new(),
            score: None,
        };
        export.write(20_000).unwrap();

        assert!(!target.join(SINGLE).exists() && target.join(INDEX).is_file());
        let shards = fs::read_dir(&target).unwrap().filter(|entry| {
            entry.as_ref().is_ok_and(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .ends_with(".safetensors")
            })
        });
        assert!(shards.count() > 3);
        let reopened = Pretrained::open(&target).unwrap();
        reopened.check().unwrap();
        for (name, _) in model.config().tensors() {
            assert_eq!(
                reopened.tensor(&name).unwrap(),
                model.tensor(&name).unwrap(),
                "{name}"
            );
        }
        let total = read_object(&target.join(INDEX)).unwrap()["metadata"]["total_size"].as_u64();
        let expected: usize = model
            .config()
            .tensors()
            .iter()
            .map(|(_, shape)| byte_length(shape))
            .sum();
        assert_eq!(total, Some(expected as u64));
    }
}
