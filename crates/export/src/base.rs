//! The base model of an export, by the name that other people load it by.

use std::path::{Path, PathBuf};

use panacea_pretrained::{Origin, Pretrained, is_repository};

use crate::ExportError;

/// A base model, and what other people call it.
#[derive(Debug)]
pub struct Base<'a> {
    pretrained: &'a Pretrained,
    name: Name,
    license: Option<String>,
}

/// What a base model is called.
#[derive(Debug)]
enum Name {
    /// By everybody.
    Published(Origin),
    /// On this machine.
    Folder(PathBuf),
    /// By nobody who loads Hugging Face models: it is a GGUF file. What its metadata says.
    Unknown(Vec<String>),
}

impl<'a> Base<'a> {
    /// `pretrained` by the name that a person has given, or else the one that its own files say.
    ///
    /// # Errors
    /// When the name is neither `owner/name` nor a folder, and when a record of where the model comes from cannot be read.
    pub fn of(pretrained: &'a Pretrained, given: Option<&str>) -> Result<Self, ExportError> {
        let provenance = pretrained.provenance()?;
        let (mut name, mut license) = match (provenance.origin, pretrained.gguf_path()) {
            (Some(origin), _) => (Name::Published(origin), provenance.license),
            (None, None) => (Name::Folder(absolute(pretrained.source())), None),
            (None, Some(_)) => (Name::Unknown(provenance.hints), provenance.license),
        };
        if let Some(given) = given {
            let is_same = matches!(&name, Name::Published(origin) if origin.repository == given);
            if !is_same {
                name = named(given)?;
                license = None;
            }
        }
        Ok(Self {
            pretrained,
            name,
            license,
        })
    }

    /// The model's files.
    pub fn pretrained(&self) -> &'a Pretrained {
        self.pretrained
    }

    /// What PEFT loads it by: `owner/name`, or an absolute path; nothing where neither is known.
    pub fn name(&self) -> Option<String> {
        match &self.name {
            Name::Published(origin) => Some(origin.repository.clone()),
            Name::Folder(path) => Some(path.display().to_string()),
            Name::Unknown(_) => None,
        }
    }

    /// Its repository on the hub, if it is known.
    pub fn repository(&self) -> Option<&str> {
        match &self.name {
            Name::Published(origin) => Some(&origin.repository),
            _ => None,
        }
    }

    /// The commit there, if it is known.
    pub fn revision(&self) -> Option<&str> {
        match &self.name {
            Name::Published(origin) => origin.revision.as_deref(),
            _ => None,
        }
    }

    /// Its licence's identifier, if it is known.
    pub fn license(&self) -> Option<&str> {
        self.license.as_deref()
    }

    /// What a person should know of the name, each a sentence.
    pub fn notes(&self) -> Vec<String> {
        let note = match &self.name {
            Name::Published(_) => None,
            Name::Folder(path) => Some(format!(
                "the base model is named by its folder on this machine, {}, which nobody else has: give its name on the Hugging \
                 Face hub with --base-name OWNER/NAME",
                path.display()
            )),
            Name::Unknown(hints) => {
                let hints = match hints.is_empty() {
                    true => String::new(),
                    false => format!(" (of it the file says: {})", hints.join("; ")),
                };
                Some(format!(
                    "no base model is named: {} is a GGUF file that does not say which model of the Hugging Face hub it \
                     was made from{hints}; give that with --base-name OWNER/NAME",
                    self.pretrained.source().display()
                ))
            }
        };
        note.into_iter().collect()
    }
}

fn named(given: &str) -> Result<Name, ExportError> {
    // Other people's software looks for a folder first, too.
    let path = Path::new(given);
    if path.is_dir() {
        return Ok(Name::Folder(absolute(path)));
    }
    if !is_repository(given) {
        let name = given.to_owned();
        return Err(ExportError::BaseName { name });
    }
    Ok(Name::Published(Origin {
        repository: given.to_owned(),
        revision: None,
        license: None,
    }))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
