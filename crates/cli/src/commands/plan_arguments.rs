//! What a command line says of a plan.

use std::path::PathBuf;

use clap::Args;
use panacea_config::Overrides;

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
    /// Any other value, as SECTION.KEY=VALUE in TOML's syntax; may be given often.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl PlanArguments {
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
