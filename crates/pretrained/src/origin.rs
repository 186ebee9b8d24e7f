//! Where a model was published, so that what is trained on it can name it to other people.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::gguf::{GgufFile, keys::of_origin};
use crate::names::is_repository;
use crate::{Pretrained, PretrainedError};

/// The file in a model's folder that [`crate::fetch::fetch`] leaves.
const FILE: &str = "origin.json";
/// What addresses of the hub begin with.
const HUB: [&str; 2] = ["https://huggingface.co/", "https://hf.co/"];

/// A model on the Hugging Face hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `owner/name`.
    pub repository: String,
    /// The commit, where it is known.
    pub revision: Option<String>,
    /// The licence's identifier, where it is known.
    pub license: Option<String>,
}

/// What a model's files say of where it was published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Provenance {
    /// Where, if they say it without doubt.
    pub origin: Option<Origin>,
    /// The licence, if they name one.
    pub license: Option<String>,
    /// What else they say, for a person who knows better: names, and models that it was made from.
    pub hints: Vec<String>,
}

/// [`FILE`]: where the model of this fingerprint was fetched from.
#[derive(Deserialize, Serialize)]
struct Fetched {
    repository: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    license: Option<String>,
    /// [`Pretrained::fingerprint`]: files that were changed since come from nowhere that is known.
    fingerprint: String,
}

impl Origin {
    /// Leaves word of it beside the files of `pretrained`, which lie in `folder`.
    pub(crate) fn record(
        &self,
        folder: &Path,
        pretrained: &Pretrained,
    ) -> Result<(), PretrainedError> {
        let fetched = Fetched {
            repository: self.repository.clone(),
            revision: self.revision.clone(),
            license: self.license.clone(),
            fingerprint: pretrained.fingerprint()?,
        };
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(&fetched).map_err(|source| {
            let path = path.clone();
            PretrainedError::Json { path, source }
        })?;
        std::fs::write(&path, text + "\n").map_err(PretrainedError::io(&path, "write"))
    }

    /// What [`Origin::record`] left in `folder`, if the files are still those.
    fn recorded(folder: &Path, pretrained: &Pretrained) -> Result<Option<Self>, PretrainedError> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(PretrainedError::io(&path, "read"))?;
        let fetched: Fetched = match serde_json::from_str(&text) {
            Ok(fetched) => fetched,
            Err(source) => return Err(PretrainedError::Json { path, source }),
        };
        let is_same = fetched.fingerprint == pretrained.fingerprint()?;
        let origin = Self {
            repository: fetched.repository,
            revision: fetched.revision,
            license: fetched.license,
        };
        Ok((is_same && is_repository(&origin.repository)).then_some(origin))
    }

    /// Of a snapshot in the cache of the hub's own tools: `models--OWNER--NAME/snapshots/COMMIT`.
    fn cached(folder: &Path) -> Option<Self> {
        let mut parts = folder.components().rev();
        let mut part = || match parts.next() {
            Some(Component::Normal(part)) => part.to_str(),
            _ => None,
        };
        let (commit, snapshots, model) = (part()?, part()?, part()?);
        let repository = model.strip_prefix("models--")?.replacen("--", "/", 1);
        let is_snapshot = snapshots == "snapshots" && is_repository(&repository);
        is_snapshot.then(|| Self {
            repository,
            revision: Some(commit.to_owned()),
            license: None,
        })
    }
}

/// `owner/name` of an address of the hub, of a page inside the repository too.
fn repository_of(address: &str) -> Option<String> {
    let path = HUB.iter().find_map(|hub| address.strip_prefix(hub))?;
    let mut parts = path.split(['/', '?', '#']);
    let repository = format!("{}/{}", parts.next()?, parts.next()?);
    let is_model = !matches!(path.split('/').next(), Some("datasets" | "spaces"));
    (is_model && is_repository(&repository)).then_some(repository)
}

/// Of metadata. A file says by `general.source` which model it was converted from. What it calls its base model is that model's
/// own, which a chat model was trained from: unless both have one name, it is another model.
fn of_gguf(file: &GgufFile) -> Provenance {
    // What is of another type than it should be says nothing, and stops nobody.
    let text = |key: &str| file.text(key).ok().flatten();
    let mut found = text(of_origin::SOURCE_REPOSITORY)
        .filter(|name| is_repository(name))
        .map(str::to_owned);
    found = found.or_else(|| text(of_origin::SOURCE_ADDRESS).and_then(repository_of));
    let base = text(of_origin::BASE_ADDRESS).and_then(repository_of);
    let plain = |name: &str| -> String {
        let letters = name.chars().filter(char::is_ascii_alphanumeric);
        letters.collect::<String>().to_ascii_lowercase()
    };
    let name = text(of_origin::NAME);
    if let (None, Some(base), Some(name)) = (&found, &base, name)
        && base.split('/').nth(1).map(plain) == Some(plain(name))
    {
        found = Some(base.clone());
    }
    let mut hints = Vec::new();
    if found.is_none() {
        hints.extend(name.map(|name| format!("its name is {name:?}")));
        let by = text(of_origin::ORGANIZATION);
        hints.extend(by.map(|by| format!("it is by {by:?}")));
        let repository = text(of_origin::ADDRESS).and_then(repository_of);
        hints.extend(repository.map(|at| format!("it was published at {at}")));
        hints.extend(base.map(|base| {
            format!("the model that it was made from may have been trained from {base}")
        }));
    }
    let license = text(of_origin::LICENSE).map(str::to_owned);
    Provenance {
        origin: found.map(|repository| Origin {
            repository,
            revision: None,
            license: license.clone(),
        }),
        license,
        hints,
    }
}

impl Pretrained {
    /// Where this model was published, as far as its files say it: the record that [`crate::fetch::fetch`] left beside them, their
    /// place in the hub's cache, or the metadata of a GGUF file.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn provenance(&self) -> Result<Provenance, PretrainedError> {
        let folder = match self.gguf_path() {
            Some(file) => file.parent().unwrap_or(Path::new("")),
            None => self.source(),
        };
        let recorded = Origin::recorded(folder, self)?;
        let known = recorded.or_else(|| Origin::cached(folder).filter(|_| self.gguf().is_none()));
        Ok(match (known, self.gguf()) {
            (Some(origin), _) => Provenance {
                license: origin.license.clone(),
                origin: Some(origin),
                hints: Vec::new(),
            },
            (None, Some(model)) => of_gguf(&model.file),
            (None, None) => Provenance::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_places_of_the_hub_are_read() {
        for (address, expected) in [
            (
                "https://huggingface.co/Qwen/Qwen3-0.6B",
                Some("Qwen/Qwen3-0.6B"),
            ),
            ("https://hf.co/a/b/tree/main", Some("a/b")),
            ("https://huggingface.co/datasets/a/b", None),
            ("https://huggingface.co/a", None),
            ("https://example.org/a/b", None),
            ("https://huggingface.co/../b", None),
        ] {
            assert_eq!(repository_of(address).as_deref(), expected, "{address}");
        }
        let of = |path: &str| Origin::cached(Path::new(path));
        let found = of("/home/hub/models--Qwen--Qwen3-0.6B/snapshots/0123abcd").unwrap();
        assert_eq!(found.repository, "Qwen/Qwen3-0.6B");
        assert_eq!(found.revision.as_deref(), Some("0123abcd"));
        for other in [
            "models/snapshots/01",
            "models--a--b/blobs/01",
            "models--a/snapshots/01",
            "01",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_recorded_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let config = serde_json::json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 272, "hidden_size": 16,
            "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
            "head_dim": 8, "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": true
        });
        panacea_test_support::TinyModel::well_behaved(config, 0.5).write(folder.path());
        let pretrained = Pretrained::open(folder.path()).unwrap();
        for revision in [None, Some("0123".to_owned())] {
            let origin = Origin {
                repository: "owner/tiny".to_owned(),
                license: revision.as_ref().map(|_| "mit".to_owned()),
                revision,
            };
            origin.record(folder.path(), &pretrained).unwrap();
            assert_eq!(pretrained.provenance().unwrap().origin, Some(origin));
        }
    }
}
