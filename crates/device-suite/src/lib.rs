//! # What every device computes alike
//!
//! A list of named checks of one device: its products, fused operations, networks, answers and trainings against what the CPU
//! makes of the same numbers, against a formula, or against values of other people's software. Fused operations, drawn answers and
//! trainings are also held against themselves, done again, bit by bit.
//!
//! The test `devices` runs them on the device that `PANACEA_DEVICE` names, and `cargo xtask bench gpu suite` on one with a GPU.
//!
//! ```
//! let device = panacea_devices::select("flex")?;
//! let check = panacea_device_suite::checks().find(|check| check.name == "optimizer::adamw_is_its_formula");
//! check.expect("it is on the list").run(&device);
//! # Ok::<(), panacea_devices::DeviceError>(())
//! ```

mod attention;
mod decoder;
mod layers;
mod near;
mod optimizer;
mod products;
mod tiny_llama;
mod training;

use libtest_mimic::{Arguments, Conclusion, Trial};
use panacea_devices::Device;
use panacea_runs::{Telling, tell_so};

/// Something that has to hold on every device.
#[derive(Clone, Copy)]
pub struct Check {
    /// Module and name, such as `layers::norms_are_as_on_the_cpu`.
    pub name: &'static str,
    run: fn(&Device),
}

impl Check {
    /// Returns if it holds on `device`.
    ///
    /// # Panics
    /// If it does not, with what was computed, where, and what was expected.
    pub fn run(&self, device: &Device) {
        (self.run)(device);
    }
}

/// Checks by the names of their functions.
macro_rules! named {
    ($module:literal: $($name:ident),+ $(,)?) => {
        &[$($crate::Check { name: concat!($module, "::", stringify!($name)), run: $name }),+]
    };
}
use named;

/// All of them, from products to whole trainings.
pub fn checks() -> impl Iterator<Item = Check> {
    let parts: [&[Check]; 7] = [
        products::CHECKS,
        optimizer::CHECKS,
        layers::CHECKS,
        attention::CHECKS,
        tiny_llama::CHECKS,
        decoder::CHECKS,
        training::CHECKS,
    ];
    parts.into_iter().flatten().copied()
}

/// Runs those that `arguments` choose on `device`, as tests are run, and says how each went.
pub fn run(arguments: &Arguments, device: &Device) -> Conclusion {
    // What trainings tell people would stand between the names of checks.
    tell_so(Telling {
        quiet: true,
        ..Telling::default()
    });
    let trial = |check: Check| {
        let device = device.clone();
        Trial::test(check.name, move || {
            check.run(&device);
            Ok(())
        })
    };
    libtest_mimic::run(arguments, checks().map(trial).collect())
}
