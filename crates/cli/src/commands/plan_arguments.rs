//! What a command line says of a plan.

use std::path::{Path, PathBuf};

use clap::Args;
use panacea_config::Overrides;

use crate::shell;

/// What the command line says on top of a configuration.
#[derive(Args)]
pub struct PlanArguments {
    /// The model to adapt, in place of model.path.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Files to train on, in place of data.train.
    #[arg(long, num_args = 1..)]
    train: Vec<PathBuf>,
    /// Held-out files, in place of data.eval.
    #[arg(long, num_args = 1..)]
    eval: Vec<PathBuf>,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX; several of a kind with commas between them.
    #[arg(long)]
    device: Option<String>,
    /// The seed of every random choice.
    #[arg(long)]
    seed: Option<u64>,
    /// Optimizer steps.
    #[arg(long)]
    steps: Option<usize>,
    /// Any other value, as SECTION.KEY=VALUE in TOML's syntax, or SECTION.KEY= for the default in place of the file's; may be
    /// given often.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl PlanArguments {
    /// As they are typed.
    pub fn as_typed(&self) -> String {
        let mut typed = shell::option("--model", self.model.as_deref());
        for (option, files) in [("--train", &self.train), ("--eval", &self.eval)] {
            if !files.is_empty() {
                let files: Vec<String> = files.iter().map(shell::word).collect();
                typed += &format!(" {option} {}", files.join(" "));
            }
        }
        typed += &shell::option("--device", self.device.as_deref().map(Path::new));
        for (option, number) in [
            ("--seed", self.seed.map(|seed| seed.to_string())),
            ("--steps", self.steps.map(|steps| steps.to_string())),
        ] {
            typed += &shell::option(option, number.as_deref().map(Path::new));
        }
        for set in &self.set {
            typed += &shell::option("--set", Some(Path::new(set)));
        }
        typed
    }

    pub fn overrides(self) -> Overrides {
        Overrides {
            model: self.model,
            train: self.train,
            eval: self.eval,
            device: self.device,
            seed: self.seed,
            steps: self.steps,
            set: self.set,
        }
    }
}
