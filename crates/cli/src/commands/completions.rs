//! `completions`: what a shell needs to complete commands and options.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use clap_complete::{Shell, generate};

/// Print a script that lets a shell complete commands and options.
#[derive(Args)]
#[command(after_help = "Examples:
  panacea completions bash > ~/.local/share/bash-completion/completions/panacea
  panacea completions zsh > ~/.zfunc/_panacea
  panacea completions fish > ~/.config/fish/completions/panacea.fish

It is about `panacea`, as `cargo install --path crates/cli --locked` puts it on the path.")]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        generate(self.shell, &mut super::command(), "panacea", &mut script);
        io::stdout().lock().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
