//! A device that is not the CPU: a graphics card, or Mesa's driver that computes on the CPU as one would.

use std::fs;
use std::process::Command;

use crate::Failure;
use crate::build::cargo;
use crate::system;

/// Where Linux keeps a file for each driver of Vulkan.
const DRIVERS: [&str; 2] = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

/// Cargo, to run what is checked on WGPU's first device, where there is a driver for one.
pub fn on_wgpu() -> Result<Command, Failure> {
    system::found_or_installed(driver, "mesa-vulkan-drivers")?.ok_or_else(|| {
        Failure::new(
            "there is no driver for Vulkan, on which the checks of devices run: install one; without a graphics card, \
             Mesa's, which computes on the CPU (Debian: apt-get install mesa-vulkan-drivers)"
                .to_owned(),
        )
    })?;
    let mut cargo = cargo();
    cargo.env("PANACEA_DEVICE", "wgpu");
    Ok(cargo)
}

/// Whether WGPU has what it takes. On Linux that is a driver for Vulkan: OpenGL is refused, on which WGPU was seen to panic. Other
/// systems have an interface of their own.
fn driver() -> Option<()> {
    let any = |folder: &str| fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some());
    (!cfg!(target_os = "linux") || DRIVERS.into_iter().any(any)).then_some(())
}
