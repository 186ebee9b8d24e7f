//! # Devices by name
//!
//! Which devices this build and this machine offer ([`available`]), the one that a name means ([`select`]), and what a
//! device said when it failed, as an error in place of the panic that comes from below ([`guarded`]).
//!
//! | name | what it is | cargo feature |
//! |---|---|---|
//! | `flex` | the CPU | `flex` (default) |
//! | `wgpu`, `wgpu:1` | a GPU by whichever graphics API is there | `wgpu` |
//! | `vulkan`, `vulkan:1` | a GPU by Vulkan, compiled to SPIR-V | `vulkan` |
//! | `cuda`, `cuda:1` | an NVIDIA GPU | `cuda` |
//!
//! A name without an index is the first of its kind; one binary can hold all of them.
//!
//! ## Is this for you?
//! Yes, if you write a program on burn that chooses its device at run time and should say what is there when it is
//! not the one that was asked for.
//!
//! ```
//! let device = panacea_devices::select("flex")?;
//! assert!(panacea_devices::select("tpu").unwrap_err().to_string().contains("flex"));
//! # Ok::<(), panacea_devices::DeviceError>(())
//! ```

mod failure;
mod host_memory;
mod kind;
mod precision;

use burn_tensor::{DType, Tensor};

pub use burn_tensor::{Device, FloatDType};
pub use failure::{DeviceFailure, guarded};
pub use host_memory::peak_memory_bytes;
pub use kind::DeviceKind;
pub use precision::Precision;

/// The variable that names the device of tests and benches.
pub const VARIABLE: &str = "PANACEA_DEVICE";

/// A device that cannot be had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DeviceError {
    /// No device has such a name.
    #[error(
        "no device is called {asked:?}: expected flex, wgpu, vulkan or cuda, with an index where there are several, such \
         as cuda:1; here there {}",
        list(.available)
    )]
    Unknown {
        /// The name as given.
        asked: String,
        /// The names of those that are here.
        available: Vec<String>,
    },
    /// The program was built without what the device needs.
    #[error(
        "this build has no {kind} in it, which {asked:?} needs: build with --features {kind}; here there {}",
        list(.available)
    )]
    NotBuilt {
        /// The name as given.
        asked: String,
        /// What is missing.
        kind: DeviceKind,
        /// The names of those that are here.
        available: Vec<String>,
    },
    /// The machine has no such device, or no driver for it.
    #[error(
        "this machine has no {asked:?}: {}; here there {}",
        .kind.why_absent(),
        list(.available)
    )]
    Absent {
        /// The name as given.
        asked: String,
        /// Its kind.
        kind: DeviceKind,
        /// The names of those that are here.
        available: Vec<String>,
    },
    /// The device is there and does not compute.
    #[error("{asked:?} is there and does not compute: {failure}")]
    Broken {
        /// The name as given.
        asked: String,
        /// What it said.
        failure: DeviceFailure,
    },
    /// Devices that do not go together.
    #[error("{asked:?} names devices of several kinds: expected one kind, such as cuda:0,cuda:1")]
    Mixed {
        /// The names as given.
        asked: String,
    },
    /// The device does not compute in the type that was asked for.
    #[error(
        "{device} does not compute in {asked}: set precision.base to f32, or to auto, which takes what there is"
    )]
    Precision {
        /// The type.
        asked: &'static str,
        /// The device's kind.
        device: String,
    },
}

fn list(names: &[String]) -> String {
    match names {
        [] => "is none".to_owned(),
        [one] => format!("is {one}"),
        several => format!("are {}", several.join(", ")),
    }
}

/// What is known of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceInfo {
    /// What [`select`] calls it.
    pub name: String,
    /// Its kind.
    pub kind: DeviceKind,
    /// What the hardware calls itself; what failed, where it does not compute.
    pub hardware: Result<String, DeviceFailure>,
    /// Bytes of memory, where the driver tells.
    pub memory: Option<Memory>,
    /// The types that it computes in, not only stores: `f32`, `bf16`, `f16`.
    pub dtypes: Vec<&'static str>,
}

/// Bytes of a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// The part that is not in use.
    pub free: u64,
}

/// The devices of this build on this machine. Each of them is opened.
pub fn available() -> Vec<DeviceInfo> {
    let of_kind = |kind: DeviceKind| {
        let devices = kind.devices().into_iter().enumerate();
        devices.map(move |(index, device)| describe(kind, index, &device))
    };
    DeviceKind::ALL.into_iter().flat_map(of_kind).collect()
}

/// The memory of a device, where the driver tells.
pub fn memory_of(device: &Device) -> Option<Memory> {
    // Trainings ask at every step: without looking for devices again.
    let is_cpu = DeviceKind::Flex.devices().contains(device);
    let kind = if is_cpu {
        DeviceKind::Flex
    } else {
        DeviceKind::Cuda
    };
    kind.memory(device)
}

fn kind_of(device: &Device) -> Option<DeviceKind> {
    let mut kinds = DeviceKind::ALL.into_iter();
    kinds.find(|kind| kind.devices().contains(device))
}

/// The device of a name, after it has computed something.
pub fn select(name: &str) -> Result<Device, DeviceError> {
    let asked = name.to_owned();
    let unknown = || DeviceError::Unknown {
        asked: name.to_owned(),
        available: names(),
    };
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let kind = DeviceKind::named(kind).ok_or_else(unknown)?;
    let index: usize = index.parse().map_err(|_| unknown())?;
    if !kind.is_built() {
        let available = names();
        return Err(DeviceError::NotBuilt {
            asked,
            kind,
            available,
        });
    }
    let Some(device) = kind.devices().into_iter().nth(index) else {
        let available = names();
        return Err(DeviceError::Absent {
            asked,
            kind,
            available,
        });
    };
    match try_out(&device) {
        Ok(()) => Ok(device),
        Err(failure) => Err(DeviceError::Broken { asked, failure }),
    }
}

/// The devices of a list of names, `cuda:0,cuda:1`: one or more of one kind.
pub fn select_all(names: &str) -> Result<Vec<Device>, DeviceError> {
    let kind = |name: &str| DeviceKind::named(name.split(':').next().unwrap_or(name));
    let mut kinds = names.split(',').filter_map(kind);
    let first = kinds.next();
    if kinds.any(|kind| Some(kind) != first) {
        return Err(DeviceError::Mixed {
            asked: names.to_owned(),
        });
    }
    names.split(',').map(select).collect()
}

/// The device that [`VARIABLE`] names, `flex` where it is not set: what tests and benches compute on.
///
/// # Panics
/// If there is no such device: a test must not pass on another one.
pub fn of_environment() -> Device {
    let name = std::env::var(VARIABLE).unwrap_or_else(|_| "flex".to_owned());
    select(&name).unwrap_or_else(|error| panic!("{VARIABLE}: {error}"))
}

/// Names of the devices that are here, none of which is opened.
fn names() -> Vec<String> {
    let of_kind = |kind: DeviceKind| (0..kind.devices().len()).map(move |index| kind.name(index));
    DeviceKind::ALL.into_iter().flat_map(of_kind).collect()
}

fn describe(kind: DeviceKind, index: usize, device: &Device) -> DeviceInfo {
    let hardware = try_out(device).and_then(|()| guarded(|| kind.hardware(device)));
    let computes = hardware.is_ok();
    let dtypes = [
        ("f32", DType::F32),
        ("bf16", DType::BF16),
        ("f16", DType::F16),
    ];
    let in_it = |dtype: DType| computes && kind.computes_in(device, dtype);
    DeviceInfo {
        name: kind.name(index),
        kind,
        memory: (computes.then(|| kind.memory(device))).flatten(),
        dtypes: (dtypes.into_iter())
            .filter_map(|(name, dtype)| in_it(dtype).then_some(name))
            .collect(),
        hardware,
    }
}

/// Whether the device adds two numbers: drivers that are too old are found out at the first operation.
fn try_out(device: &Device) -> Result<(), DeviceFailure> {
    let sum = guarded(|| {
        let one = Tensor::<1>::ones([1], device);
        (one.clone() + one).into_data().try_into_vec_as::<f32>()
    })?;
    match sum.as_deref() {
        Ok([2.0]) => Ok(()),
        other => Err(DeviceFailure::new(format!("1 + 1 is {other:?} on it"))),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_device_is_an_error_that_lists_those_present() {
        for name in ["tpu", "flex:one", "cuda:-1", ""] {
            let error = select(name).unwrap_err();
            assert!(
                matches!(error, DeviceError::Unknown { .. }),
                "{name}: {error}"
            );
            let message = error.to_string();
            assert!(
                message.contains(&format!("{name:?}")) && message.contains("flex"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_list_of_devices_is_of_one_kind() {
        assert_eq!(select_all("flex").unwrap().len(), 1);
        assert_eq!(select_all("flex,flex:0").unwrap().len(), 2);
        let message = select_all("flex,cuda").unwrap_err().to_string();
        assert!(message.contains("several kinds"), "{message}");
        let message = select_all("flex,").unwrap_err().to_string();
        assert!(message.contains("no device is called \"\""), "{message}");
    }

    #[test]
    fn there_is_one_cpu() {
        assert!(select("flex").is_ok() && select("flex:0").is_ok());
        let message = select("flex:1").unwrap_err().to_string();
        assert!(message.contains("flex:1"), "{message}");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn what_is_not_built_in_is_named() {
        let message = select("cuda:1").unwrap_err().to_string();
        assert!(message.contains("--features cuda"), "{message}");
    }

    #[test]
    fn the_cpu_is_described() {
        let all = available();
        let cpu = all.iter().find(|info| info.name == "flex").unwrap();
        assert_eq!(cpu.dtypes, ["f32"]);
        assert!(cpu.hardware.as_ref().is_ok_and(|name| !name.is_empty()));
        if let Some(memory) = cpu.memory {
            assert!(memory.free <= memory.total && memory.total > 1 << 28);
        }
    }
}
