//! `fetch`: puts a model under `models/`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use panacea_pretrained::fetch::fetch;

use crate::terminal::bytes_bar;

/// Download a model.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  cargo xtask fetch smollm2-135m-instruct\n  cargo xtask fetch Qwen/Qwen2.5-0.5B-Instruct\n\nHF_HOME, HF_ENDPOINT and HF_TOKEN are honoured. origin.json in the folder says where it comes from: what is trained on it and \
        exported names it so."
)]
pub struct Arguments {
    /// `smollm2-135m-instruct`, or a repository OWNER/NAME on the Hugging Face hub.
    name: String,
    /// The folder to put it into.
    #[arg(long, default_value = "models")]
    into: PathBuf,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let bar = bytes_bar()?;
        let path = fetch(&self.name, &self.into, &mut |progress| {
            bar.set_message(progress.file.to_owned());
            if let Some(total) = progress.total {
                bar.set_length(total);
            }
            bar.set_position(progress.bytes);
        })?;
        bar.finish_and_clear();
        say!("{}", path.display());
        Ok(ExitCode::SUCCESS)
    }
}
