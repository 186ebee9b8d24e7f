//! An opened model, wherever its parts are stored.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::gguf::{self, GgufModel};
use crate::safetensors::{self, SafetensorsFolder};
use crate::tensors::{HEAD, Place};
use crate::tokenizer::TokenizerFiles;
use crate::{
    ChatOptions, ChatTokenizer, ModelConfig, PretrainedError, QuantisedMatrix, TensorF32, names,
};

/// An opened model: its configuration, its tokenizer, and its weights, which are read when they are asked for.
#[derive(Debug)]
pub struct Pretrained {
    source: PathBuf,
    config: ModelConfig,
    weights: Weights,
    /// What the configuration asks for: the name and shape of all that the files must hold.
    expected: BTreeMap<String, Vec<usize>>,
    /// Where each tensor stands there.
    places: BTreeMap<String, Place>,
    chat: ChatOptions,
    tokenizer: OnceLock<ChatTokenizer>,
}

/// Where the weights are.
#[derive(Debug)]
enum Weights {
    Safetensors(SafetensorsFolder),
    Gguf(Box<GgufModel>),
}

impl Pretrained {
    /// Opens a Hugging Face folder, a GGUF file, or a folder that holds exactly one GGUF file.
    ///
    /// Headers are read and checked; weights are not touched yet. [`check`](Self::check) compares all of them with the
    /// configuration.
    pub fn open(path: &Path) -> Result<Self, PretrainedError> {
        let (config, weights) = match locate(path)? {
            Location::Folder(folder) => (
                ModelConfig::from_folder(&folder)?,
                Weights::Safetensors(SafetensorsFolder::open(&folder)?),
            ),
            Location::Gguf(file) => {
                let model = GgufModel::open(&file)?;
                (model.config.clone(), Weights::Gguf(Box::new(model)))
            }
        };
        let stored = config.stored_tensors().into_iter();
        let expected = stored.map(|stored| (stored.name, stored.shape)).collect();
        let places = config.places().into_iter().collect();
        Ok(Self {
            source: path.to_path_buf(),
            config,
            weights,
            expected,
            places,
            chat: ChatOptions::default(),
            tokenizer: OnceLock::new(),
        })
    }

    /// [`open`](Self::open) for a model that writes: a published classifier has lost the head for that.
    pub fn open_language_model(path: &Path) -> Result<Self, PretrainedError> {
        let pretrained = Self::open(path)?;
        match &pretrained.config.labels {
            None => Ok(pretrained),
            Some(labels) => Err(PretrainedError::Classifier {
                path: path.to_owned(),
                outputs: labels.join(", "),
            }),
        }
    }

    /// The same model, with what `chat` says of its tokenizer and chat template.
    #[must_use]
    pub fn with_chat(self, chat: ChatOptions) -> Self {
        Self {
            chat,
            tokenizer: OnceLock::new(),
            ..self
        }
    }

    /// What is said of its tokenizer and chat template beside its own files.
    pub(crate) fn chat(&self) -> &ChatOptions {
        &self.chat
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The path that was opened.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The tokenizer and chat template, read at the first call.
    pub fn tokenizer(&self) -> Result<&ChatTokenizer, PretrainedError> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = ChatTokenizer::new(&self.tokenizer_files()?, &self.config, &self.chat)?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }

    /// Whether the chat template asks what day it is.
    pub fn template_asks_for_the_date(&self) -> Result<bool, PretrainedError> {
        let files = self.tokenizer_files()?;
        Ok(files
            .template()?
            .is_some_and(|template| template.contains("strftime_now")))
    }

    /// What is told to the chat template and stands in no file that is written of the model, for a person to read.
    pub fn unwritten(&self) -> Result<Option<String>, PretrainedError> {
        let mut told = Vec::new();
        if let Some(date) = &self.chat.date
            && self.template_asks_for_the_date()?
        {
            told.push(format!("the date {date}"));
        }
        for (name, value) in &self.chat.variables {
            told.push(format!("{name} = {}", Json::from(value)));
        }
        Ok((!told.is_empty()).then(|| {
            format!(
                "the chat template was trained with {}, which no file carries: give the same where the model is used",
                told.join(", ")
            )
        }))
    }

    pub(crate) fn tokenizer_files(&self) -> Result<TokenizerFiles, PretrainedError> {
        let mut files = match (&self.chat.tokenizer, &self.weights) {
            (Some(folder), _) => TokenizerFiles::from_folder(folder)?,
            (None, Weights::Safetensors(_)) => TokenizerFiles::from_folder(&self.source)?,
            (None, Weights::Gguf(model)) => gguf::tokenizer_files(&model.file)?,
        };
        if let Some(template) = &self.chat.template {
            files.take_template(template)?;
        }
        Ok(files)
    }

    /// The names of the tensors in the model's files, as Hugging Face calls them.
    pub fn tensor_names(&self) -> Vec<String> {
        self.stored_names().map(str::to_owned).collect()
    }

    /// Whether the files hold this tensor, alone or as a part of one.
    pub fn has_tensor(&self, name: &str) -> bool {
        let stored = self.places.get(name).map_or(name, |place| &place.stored);
        self.shape(stored).is_some()
    }

    /// Reads one of the tensors that the configuration asks for, by its Hugging Face name.
    ///
    /// A value that is not finite is an error: no answer could be computed with it.
    ///
    /// With a tied head there is no `lm_head.weight`: use `model.embed_tokens.weight`. A sequence classifier
    /// ([`ModelConfig::labels`]) has `score.weight` `[labels, hidden]` instead.
    pub fn tensor(&self, name: &str) -> Result<TensorF32, PretrainedError> {
        let missing = || PretrainedError::MissingTensor {
            path: self.source.clone(),
            tensor: name.to_owned(),
        };
        let place = self.places.get(name).ok_or_else(missing)?;
        self.check_shape(&place.stored, &self.expected[&place.stored])?;
        let tensor = match &self.weights {
            Weights::Safetensors(folder) => folder.read(place).ok_or_else(missing)??,
            Weights::Gguf(model) => model.read(&place.stored).ok_or_else(missing)?,
        };
        match tensor.first_not_finite() {
            None => Ok(tensor),
            Some((found, place)) => Err(PretrainedError::NotFinite {
                path: self.source.clone(),
                tensor: name.to_owned(),
                found,
                place,
            }),
        }
    }

    /// One of the matrices that the configuration asks for, as its GGUF file has it. `None` where the model is in other
    /// files, or the matrix is not quantised there.
    pub fn quantised(&self, name: &str) -> Option<QuantisedMatrix> {
        let place = self.places.get(name)?;
        match &self.weights {
            Weights::Safetensors(_) => None,
            // What stands there among others, or has another shape than it should, is not read by itself.
            Weights::Gguf(model) if model.shape(&place.stored) == Some(&place.shape) => {
                model.blocks(&place.stored)
            }
            Weights::Gguf(_) => None,
        }
    }

    /// How many numbers the network has.
    pub fn parameters(&self) -> usize {
        let sizes = self
            .expected
            .values()
            .map(|shape| shape.iter().product::<usize>());
        sizes.sum()
    }

    /// Compares the files with the configuration: every tensor that it asks for is there with the right shape, and none
    /// besides. All problems are reported at once.
    pub fn check(&self) -> Result<(), PretrainedError> {
        let mut problems: Vec<PretrainedError> = self
            .expected
            .iter()
            .filter_map(|(name, shape)| self.check_shape(name, shape).err())
            .collect();
        problems.extend(
            self.stored_names()
                .filter(|name| !self.is_accounted_for(name))
                .map(|name| PretrainedError::UnexpectedTensor {
                    path: self.source.clone(),
                    tensor: name.to_owned(),
                    model_type: self.config.model_type.clone(),
                }),
        );
        match problems.pop() {
            None => Ok(()),
            Some(only) if problems.is_empty() => Err(only),
            Some(last) => {
                problems.push(last);
                Err(PretrainedError::Several(problems))
            }
        }
    }

    /// A short identity of configuration and weights: the same for the same model wherever it lies, different (but for
    /// deliberate forgery) after fine-tuning or requantisation.
    ///
    /// SHA-256 over the configuration and, for each tensor, its name, format, shape, length and sixteen evenly spread
    /// pieces of 4 KiB: reading all of a large model would take longer than opening it may.
    pub fn fingerprint(&self) -> Result<String, PretrainedError> {
        const PIECES: usize = 16;
        const PIECE_BYTES: usize = 4096;
        let mut hasher = Sha256::new();
        hasher.update(self.config.identity());
        for name in self.expected.keys() {
            let (Some(shape), Some((format, bytes))) = (self.shape(name), self.stored(name)) else {
                return Err(PretrainedError::MissingTensor {
                    path: self.source.clone(),
                    tensor: name.clone(),
                });
            };
            hasher.update(format!("{name} {format} {shape:?} {}\n", bytes.len()));
            if bytes.len() <= PIECES * PIECE_BYTES {
                hasher.update(bytes);
                continue;
            }
            for piece in 0..PIECES {
                let start = piece * (bytes.len() - PIECE_BYTES) / (PIECES - 1);
                hasher.update(&bytes[start..start + PIECE_BYTES]);
            }
        }
        Ok(hex::encode(hasher.finalize()))
    }

    /// The Hugging Face folder, if that is what was opened.
    pub(crate) fn folder(&self) -> Option<&Path> {
        matches!(self.weights, Weights::Safetensors(_)).then_some(self.source.as_path())
    }

    /// The path of the GGUF file, if that is what was opened, itself or by the folder that holds it.
    pub fn gguf_path(&self) -> Option<&Path> {
        self.gguf().map(|model| model.file.path.as_path())
    }

    /// The GGUF file, if that is what was opened.
    pub(crate) fn gguf(&self) -> Option<&GgufModel> {
        match &self.weights {
            Weights::Safetensors(_) => None,
            Weights::Gguf(model) => Some(model),
        }
    }

    fn check_shape(&self, name: &str, expected: &[usize]) -> Result<(), PretrainedError> {
        match self.shape(name) {
            None => Err(PretrainedError::MissingTensor {
                path: self.source.clone(),
                tensor: name.to_owned(),
            }),
            Some(found) if found != expected => Err(PretrainedError::Shape {
                path: self.source.clone(),
                tensor: name.to_owned(),
                found: found.to_vec(),
                expected: expected.to_vec(),
            }),
            Some(_) => Ok(()),
        }
    }

    /// Needed, or known to change nothing: the copy of a tied head, the language-model head that a classifier was left
    /// with, and the rotary frequencies that early Llama checkpoints carry.
    fn is_accounted_for(&self, name: &str) -> bool {
        self.expected.contains_key(name) || name == HEAD || name.ends_with(".rotary_emb.inv_freq")
    }

    fn stored_names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.weights {
            Weights::Safetensors(folder) => Box::new(folder.names()),
            Weights::Gguf(model) => Box::new(model.names()),
        }
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        match &self.weights {
            Weights::Safetensors(folder) => folder.shape(name),
            Weights::Gguf(model) => model.shape(name),
        }
    }

    fn stored(&self, name: &str) -> Option<(&str, &[u8])> {
        match &self.weights {
            Weights::Safetensors(folder) => folder.stored(name),
            Weights::Gguf(model) => model.stored(name),
        }
    }
}

/// What a path turned out to be.
enum Location {
    Folder(PathBuf),
    Gguf(PathBuf),
}

fn locate(path: &Path) -> Result<Location, PretrainedError> {
    let refuse = |problem: String| {
        Err(PretrainedError::NotAModel {
            path: path.to_path_buf(),
            problem,
        })
    };
    if path.is_file() {
        let is_named_gguf = path
            .extension()
            .is_some_and(|extension| extension == "gguf");
        return match is_named_gguf || begins_like_gguf(path)? {
            true => Ok(Location::Gguf(path.to_path_buf())),
            false => refuse("not a GGUF file; of a Hugging Face model, give the folder".to_owned()),
        };
    }
    if !path.is_dir() {
        let hint = names::meant_by(path).map(|name| {
            format!(
                "; if the model {name} of the Hugging Face hub is meant, fetch it first: `cargo xtask fetch {name}` prints the \
                 folder that it is put into"
            )
        });
        let hint = hint.unwrap_or_default();
        return refuse(format!("there is no such file or folder{hint}"));
    }
    let has = |name: &str| path.join(name).is_file();
    let mut gguf_files = gguf_files(path)?;
    let has_safetensors = has(safetensors::SINGLE) || has(safetensors::INDEX);
    match gguf_files.len() {
        1 if !has_safetensors => Ok(Location::Gguf(gguf_files.remove(0))),
        _ if has("config.json") => Ok(Location::Folder(path.to_path_buf())),
        0 => refuse(
            "no model in this folder: expected config.json with *.safetensors, or one *.gguf file"
                .to_owned(),
        ),
        count => refuse(format!(
            "{count} GGUF files in this folder: give the path of one of them"
        )),
    }
}

fn begins_like_gguf(path: &Path) -> Result<bool, PretrainedError> {
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(PretrainedError::io(path, "open"))?;
    file.take(gguf::MAGIC.len() as u64)
        .read_to_end(&mut start)
        .map_err(PretrainedError::io(path, "read"))?;
    Ok(start == gguf::MAGIC)
}

fn gguf_files(folder: &Path) -> Result<Vec<PathBuf>, PretrainedError> {
    let entries = std::fs::read_dir(folder).map_err(PretrainedError::io(folder, "list"))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(PretrainedError::io(folder, "list"))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "gguf")
            && path.is_file()
        {
            files.push(path);
        }
    }
    Ok(files)
}
