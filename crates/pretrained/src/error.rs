//! What can be wrong with a model, said so that a person can put it right.

use std::path::{Path, PathBuf};

/// Why a model, its tokenizer or its chat template cannot be used.
///
/// Every message begins with the file, names the field or tensor, and says what was found and what was
/// expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PretrainedError {
    /// The operating system refused to read or write a file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted, as in "cannot `action`".
        action: &'static str,
        /// The reason.
        source: std::io::Error,
    },
    /// The model is one that writes nothing.
    #[error(
        "{path} is a sequence classifier (its outputs: {outputs}), expected a language model; as a scorer it goes into an objective: reward = {{ model = \"{path}\" }}",
        path = path.display()
    )]
    Classifier {
        /// The model.
        path: PathBuf,
        /// What it says of a text.
        outputs: String,
    },
    /// A JSON file does not parse.
    #[error("{}: not valid JSON: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// The path holds nothing that can be opened as a model.
    #[error("{}: {problem}", path.display())]
    NotAModel {
        /// The path that was asked for.
        path: PathBuf,
        /// What is there instead, and what to do.
        problem: String,
    },
    /// The architecture is not one of those implemented.
    #[error("{}: field `{field}`: architecture \"{found}\" is not supported; supported are {supported}", path.display())]
    UnknownModelType {
        /// The configuration file, or the GGUF file.
        path: PathBuf,
        /// The field that names the architecture.
        field: &'static str,
        /// What it says.
        found: String,
        /// What is implemented.
        supported: String,
    },
    /// A field of a configuration or of GGUF metadata is missing, of the wrong kind, or asks for something that
    /// is not implemented.
    #[error("{}: field `{field}`: found {found}, expected {expected}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, with its parents: `rope_scaling.factor`.
        field: String,
        /// Its value, or "nothing".
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A binary file is cut short or contradicts itself.
    #[error("{}: truncated or damaged: {problem}; download or convert it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, what was found, what was expected.
        problem: String,
    },
    /// What a clone of a repository holds in place of a large file.
    #[error(
        "{}: {}, or with `cargo xtask fetch`",
        path.display(), panacea_files::LFS_ADVICE
    )]
    LfsPointer {
        /// The file.
        path: PathBuf,
    },
    /// A weight that no product can be computed with.
    #[error(
        "{}: tensor `{tensor}` holds {found} at {place:?}, expected finite numbers; the file is damaged, or its training diverged",
        path.display()
    )]
    NotFinite {
        /// The model.
        path: PathBuf,
        /// The tensor's Hugging Face name.
        tensor: String,
        /// The first value that is not finite.
        found: f32,
        /// Its indices.
        place: Vec<usize>,
    },
    /// A tensor that the model needs is not there.
    #[error("{}: tensor `{tensor}` is missing", path.display())]
    MissingTensor {
        /// The model, or the shard that should hold the tensor.
        path: PathBuf,
        /// Its Hugging Face name.
        tensor: String,
    },
    /// A tensor that this architecture has no use for, so that ignoring it would compute something else.
    #[error("{}: tensor `{tensor}` is not part of a {model_type} model of this configuration", path.display())]
    UnexpectedTensor {
        /// The model.
        path: PathBuf,
        /// The name in the file.
        tensor: String,
        /// The architecture.
        model_type: String,
    },
    /// A tensor's shape is not the one that the configuration implies.
    #[error("{}: tensor `{tensor}` has shape {found:?}, the configuration asks for {expected:?}", path.display())]
    Shape {
        /// The model.
        path: PathBuf,
        /// Its Hugging Face name.
        tensor: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the configuration implies.
        expected: Vec<usize>,
    },
    /// A tensor is stored in a number format that cannot be read.
    #[error("{}: tensor `{tensor}` is stored as {found}, which cannot be read; supported are {supported}", path.display())]
    UnsupportedType {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The format's name and number.
        found: String,
        /// The formats that can be read.
        supported: String,
    },
    /// The model comes without a tokenizer.
    #[error("{}: the model has no tokenizer: {looked_for} is missing; add it from the model's original source", path.display())]
    NoTokenizer {
        /// The model.
        path: PathBuf,
        /// What would have held it.
        looked_for: &'static str,
    },
    /// The tokenizer cannot be used.
    #[error("{}: tokenizer: {problem}", path.display())]
    Tokenizer {
        /// The file that the tokenizer came from.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The chat template does not parse, or refuses the conversation.
    #[error("{}: chat template: {problem}", path.display())]
    Template {
        /// The file that the template came from.
        path: PathBuf,
        /// What is wrong, with the template's line where known.
        problem: String,
    },
    /// A turn has no text, and the chat template reads nothing of what it has instead.
    #[error(
        "{}: chat template: turn {} ({role}) has no text, and {}", path.display(), turn + 1,
        match &keys[..] {
            [] => "nothing else".to_owned(),
            keys => format!("the template reads nothing of `{}`", keys.join("`, `")),
        }
    )]
    LostTurn {
        /// The file that the template came from.
        path: PathBuf,
        /// The turn, from 0.
        turn: usize,
        /// Whose it is.
        role: String,
        /// What it has.
        keys: Vec<String>,
    },
    /// A model cannot be written as asked.
    #[error("{}: cannot export: {problem}", path.display())]
    Export {
        /// The folder that was to be written.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Several things at once, all of them worth knowing.
    #[error("{} problems:\n  {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    Several(Vec<PretrainedError>),
}

impl PretrainedError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            path,
            action,
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            problem: problem.into(),
        }
    }

    pub(crate) fn export(path: &Path, problem: impl Into<String>) -> Self {
        Self::Export {
            path: path.to_path_buf(),
            problem: problem.into(),
        }
    }

    pub(crate) fn field(
        path: &Path,
        field: impl Into<String>,
        found: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        Self::Field {
            path: path.to_path_buf(),
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }

    pub(crate) fn tokenizer(path: &Path, problem: impl ToString) -> Self {
        Self::Tokenizer {
            path: path.to_path_buf(),
            problem: problem.to_string(),
        }
    }
}
