//! Adapters for llama.cpp's server, whose requests say a scale for each.

use std::path::Path;

use panacea_files::{write_file, write_folder};
use panacea_methods::Trained;
use panacea_objectives::Preference;
use panacea_pretrained::{ChatTokenizer, GgufType, Pretrained, write_gguf, write_gguf_adapter};
use serde_json::json;

use crate::card::{Form, README};
use crate::error::refuse_existing;
use crate::lora::file_names;
use crate::{Base, Card, ExportError, Split, merged};

/// The model beside the adapters, where it is not a GGUF file already.
const MODEL: &str = "model.gguf";

/// Which set of LoRAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LlamaForm {
    /// One of rank k that every λ has, and one of rank 1 for each objective.
    Parts,
    /// What every λ has is added to the weights, which are written as well; only those of rank 1 remain.
    Folded(GgufType),
    /// One of rank k + 1 for each objective, which is useful alone too.
    Specialists,
}

/// Writes a folder of GGUF files, and what to do with them in its `README.md`, under the `card` where there is one; returns what
/// to do. `preference` only decides the scales in it.
///
/// # Errors
/// For a policy that is not linear in λ, and for architectures whose GGUF files are not known.
pub fn write_llama_lora(
    out: &Path,
    base: &Base,
    trained: &Trained,
    form: LlamaForm,
    preference: &Preference,
    card: Option<&Card>,
) -> Result<String, ExportError> {
    refuse_existing(out)?;
    let pretrained = base.pretrained();
    let mut split = match form {
        LlamaForm::Specialists => Split::specialists(trained)?,
        LlamaForm::Parts | LlamaForm::Folded(_) => Split::parts(trained)?,
    };
    split.check(preference)?;
    let folded = match (form, trained) {
        (LlamaForm::Folded(dtype), Trained::Panacea(adapters)) => {
            split.base = None;
            let nothing = vec![0.0; split.objectives.len()];
            Some((dtype, merged(pretrained, adapters, &nothing)?))
        }
        (LlamaForm::Folded(_), _) => return Err(ExportError::NothingToFold),
        _ => None,
    };
    let loras = split.weighted(preference.weights());
    let names = file_names(loras.iter().map(|(name, _, _)| *name));
    let files: Vec<String> = names.iter().map(|name| format!("{name}.gguf")).collect();
    let scales: Vec<f64> = loras.iter().map(|(_, _, weight)| *weight).collect();
    let text = instructions(out, pretrained, &split, &files, &scales, folded.is_some());
    write_folder(out, |folder| -> Result<(), ExportError> {
        if let Some((dtype, weights)) = &folded {
            write_gguf(&folder.join(MODEL), pretrained, weights, *dtype)?;
        }
        for ((task, lora, _), file) in loras.iter().zip(&files) {
            // At scale 1 it adds alpha / rank · B A.
            let alpha = lora.rank as f32;
            write_gguf_adapter(&folder.join(file), pretrained, task, alpha, &lora.matrices)?;
        }
        let form = Form::LlamaLora {
            instructions: &text,
            has_model: folded.is_some(),
        };
        match card {
            Some(card) => card.write(folder, base, &form),
            None => {
                let text = format!("# Every λ in llama.cpp\n\n{text}");
                Ok(write_file(&folder.join(README), text.as_bytes())?)
            }
        }
    })?;
    Ok(text)
}

/// How the server is started, what a request says, and what goes wrong without a word.
fn instructions(
    out: &Path,
    pretrained: &Pretrained,
    split: &Split,
    files: &[String],
    scales: &[f64],
    is_folded: bool,
) -> String {
    let absolute = |path: &Path| {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        quoted(&absolute.display().to_string())
    };
    let (base, before) = match (is_folded, pretrained.gguf_path()) {
        (true, _) => (MODEL.to_owned(), String::new()),
        (false, Some(file)) => (absolute(file), String::new()),
        (false, None) => (
            MODEL.to_owned(),
            panacea_runs::as_called(&format!(
                "The base model as a GGUF file, unless you have it (llama.cpp's converter writes the same):\n\n    \
                 cargo xtask export --format gguf --base --model {} --dtype f16 --out {}\n\n",
                absolute(pretrained.source()),
                absolute(&out.join(MODEL))
            )),
        ),
    };
    let (scaled, request): (Vec<_>, Vec<_>) = (files.iter().zip(scales).enumerate())
        .map(|(id, (file, scale))| (format!("{file}:{scale}"), json!({"id": id, "scale": scale})))
        .unzip();
    let first = files.len() - split.objectives.len();
    let ids = split.objectives.iter().enumerate();
    let ids: String = ids
        .map(|(i, (name, _))| format!("- id {}: λ of {name}\n", first + i))
        .collect();
    let notes = llama_notes(pretrained).into_iter();
    let notes: String = notes.map(|note| format!("- {note}.\n")).collect();
    let base_id = match first {
        0 => "",
        _ => "- id 0: what every λ has, always with scale 1\n",
    };
    format!(
        "{before}In this folder, with a llama-server from after the end of 2025 (pull request 18469, scales in \
         requests):\n\n    \
         llama-server --model {base} --lora-scaled {scaled} --cache-ram 0\n\n\
         A request to /completion, /v1/completions or /v1/chat/completions says its λ:\n\n    \
         \"lora\": {request}\n\n\
         {base_id}{ids}\n\
         The scales of the objectives are at least 0 and sum to 1. The server checks none of it, so:\n\n\
         - Send every id in every request. An id that is left out has scale 0, one that does not exist is ignored.\n\
         - A request without `lora`, or with an empty list, has the scales of the command line. Without `--lora-scaled` they \
         are all 1, which is no λ, and `--lora-init-without-apply` leaves them so.\n\
         - `--cache-ram 0` turns off its store of earlier prompts, which hands out what was read under another λ (its issue \
         26207).\n\
         - Requests of different λ do not share a batch there, and a slot that changes λ reads its prompt again.\n{notes}",
        scaled = scaled.join(","),
        request = json!(request),
    )
}

/// What llama.cpp does otherwise with a model, whatever its file says.
pub fn llama_notes(pretrained: &Pretrained) -> Vec<String> {
    let layers = pretrained.config().attention.iter();
    let window = layers.filter_map(|layer| layer.window).min();
    let window = window.map(|window| {
        format!(
            "llama.cpp lets every token see all before it, this model the last {window}: longer texts are continued \
             otherwise there"
        )
    });
    let has_template = pretrained.tokenizer().map(ChatTokenizer::has_template);
    let template = matches!(has_template, Ok(false)).then(|| {
        "the model has no chat template, and llama.cpp makes up one (ChatML) for /v1/chat/completions: send the plain text \
         to /completion, the messages one line after the other, as they were trained on here"
            .to_owned()
    });
    let unwritten = pretrained.unwritten().ok().flatten();
    window
        .into_iter()
        .chain(template)
        .chain(unwritten)
        .collect()
}

/// A path as a word of a shell.
pub(crate) fn quoted(path: &str) -> String {
    // Nothing quotes a zero, which no path holds.
    shlex::try_quote(path).map_or_else(|_| path.to_owned(), |word| word.into_owned())
}
