//! Whole models at one λ.

use std::fs::create_dir_all;
use std::path::Path;

use panacea_files::{FileError, write_folder};
use panacea_model::Steering;
use panacea_pretrained::{GgufType, write_model};

use crate::card::{Form, README};
use crate::error::refuse_existing;
use crate::{Base, Card, ExportError, merged};

/// Writes a Hugging Face model folder: the base model with the adapter at its λ in its weights.
pub fn write_merged(
    out: &Path,
    base: &Base,
    steering: &Steering,
    card: Option<&Card>,
) -> Result<(), ExportError> {
    refuse_existing(out)?;
    let weights = merged(base.pretrained(), &steering.adapters, &steering.preference)?;
    write_folder(out, |folder| {
        write_model(folder, base.pretrained(), &weights)?;
        match card {
            Some(card) => card.write(folder, base, &Form::Merged(&steering.preference)),
            None => Ok(()),
        }
    })
}

/// Writes the same as one GGUF file. Its card is `README.md` beside it, where its folder holds nothing else; whether it was
/// written.
pub fn write_gguf(
    out: &Path,
    base: &Base,
    steering: &Steering,
    dtype: GgufType,
    card: Option<&Card>,
) -> Result<bool, ExportError> {
    refuse_existing(out)?;
    let folder = match out.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let is_alone = !folder.exists() || folder.read_dir().is_ok_and(|mut all| all.next().is_none());
    let weights = merged(base.pretrained(), &steering.adapters, &steering.preference)?;
    create_dir_all(folder).map_err(FileError::of("create the folder", folder))?;
    panacea_pretrained::write_gguf(out, base.pretrained(), &weights, dtype)?;
    match (card, out.file_name()) {
        (Some(card), Some(name)) if is_alone && !folder.join(README).exists() => {
            let name = name.to_string_lossy();
            let form = Form::Gguf(&steering.preference, &name);
            card.write(folder, base, &form)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
