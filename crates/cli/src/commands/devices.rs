//! `devices`: what this build offers on this machine.

use std::process::ExitCode;

use clap::Args;

/// List the devices that this build offers on this machine.
#[derive(Args)]
pub struct Arguments {
    /// The kind of device to look for; it is compiled in when asked for.
    #[arg(long)]
    device: Option<String>,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(device) = &self.device {
            panacea_model::select_device(device)?;
        }
        for name in panacea_model::available_devices() {
            say!("{name}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
