//! A device that is not the CPU: a graphics card, or Mesa's driver that computes on the CPU as one would.

use std::process::Command;

use crate::Failure;
use crate::build::{built_for_tests, cargo};
use crate::system;

/// Cargo, to run what is checked on WGPU's first device, which is there.
pub fn on_wgpu() -> Result<Command, Failure> {
    let panacea = built_for_tests("panacea")?;
    let computes = || {
        let mut ask = Command::new(&panacea);
        let said = ask.args(["devices", "--device", "wgpu"]).output().ok()?;
        said.status.success().then_some(())
    };
    system::found_or_installed(computes, "mesa-vulkan-drivers")?.ok_or_else(|| {
        Failure::new(
            "there is no device for WGPU, on which the checks of devices run: install a driver for Vulkan; without a \
             graphics card, Mesa's, which computes on the CPU (Debian: apt-get install mesa-vulkan-drivers)"
                .to_owned(),
        )
    })?;
    let mut cargo = cargo();
    cargo.env("PANACEA_DEVICE", "wgpu");
    Ok(cargo)
}
