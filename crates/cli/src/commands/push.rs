//! `push`: puts a folder that was exported on the Hugging Face hub.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use indicatif::HumanBytes;
use panacea_hub::{Access, Push, push};
use panacea_pretrained::is_repository;

use crate::session::say_aside;
use crate::terminal::bytes_bar;

/// Upload an exported folder to the Hugging Face hub.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask export --run first --format peft-parts --out first-parts
  cargo xtask push first-parts --to me/first --private
  cargo xtask push first-parts --to me/first --revision second-try --message 'Twice the steps'

One commit holds all files of the folder but .git and .cache. A file of the same name is replaced, which is said, and the commit
before has it still; what is there as it is is not sent again, and nothing is removed. The token is HF_TOKEN, or that of
`hf auth login`. HF_HOME and HF_ENDPOINT are honoured.")]
pub struct Arguments {
    /// The folder.
    folder: PathBuf,
    /// The repository, OWNER/NAME.
    #[arg(long, value_name = "OWNER/NAME")]
    to: String,
    /// Make a new repository for its owner alone; one that everybody can read is refused.
    #[arg(long)]
    private: bool,
    /// The branch, which is made if it is not there. Default: main.
    #[arg(long, value_name = "BRANCH")]
    revision: Option<String>,
    /// The first line of the commit.
    #[arg(long, default_value = "Upload folder with Panacea")]
    message: String,
    /// Make no repository: one that is not there is an error.
    #[arg(long)]
    no_create: bool,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        if !is_repository(&self.to) {
            bail!("--to {:?}: expected OWNER/NAME, such as me/first", self.to);
        }
        let bar = bytes_bar()?;
        let wanted = Push {
            folder: &self.folder,
            repository: &self.to,
            revision: self.revision.as_deref(),
            private: self.private,
            create: !self.no_create,
            message: &self.message,
        };
        let mut doing = "";
        let pushed = push(&Access::from_environment(), &wanted, &mut |progress| {
            if doing != progress.doing {
                // Reading is faster than sending: neither's rate is the other's.
                doing = progress.doing;
                bar.reset();
            }
            bar.set_message(format!("{doing} {}", progress.file));
            bar.set_length(progress.total);
            bar.set_position(progress.bytes);
        });
        bar.finish_and_clear();
        let pushed = pushed?;
        say_aside(&pushed.warnings);
        for (what, names) in [
            ("new", &pushed.added),
            ("replaced", &pushed.changed),
            ("left out by the repository's .gitignore", &pushed.ignored),
        ] {
            for name in names {
                note!("{what}: {name}");
            }
        }
        match pushed.commit {
            None => note!("nothing has changed: there is no new commit"),
            Some(_) => note!(
                "{} of large files sent, {} files there already as they are",
                HumanBytes(pushed.sent),
                pushed.unchanged.len()
            ),
        }
        say!("{}", pushed.url);
        Ok(ExitCode::SUCCESS)
    }
}
