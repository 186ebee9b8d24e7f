//! Devices by name: which this build offers, and the one that a name means.

use burn::tensor::Device;

/// A device that this build or this machine does not have.
#[derive(Debug, thiserror::Error)]
#[error("no device {asked:?}: this build offers {}", .offered.join(", "))]
pub struct DeviceError {
    /// The name as given.
    pub asked: String,
    /// The names that would have worked.
    pub offered: Vec<String>,
}

/// Names of the devices that [`select_device`] accepts here.
pub fn available_devices() -> Vec<String> {
    let mut names = Vec::new();
    if cfg!(feature = "flex") {
        names.push("flex".to_owned());
    }
    #[cfg(feature = "cuda")]
    for index in 0..Device::enumerate(burn::tensor::DeviceType::Cuda).len() {
        names.push(format!("cuda:{index}"));
    }
    #[cfg(all(feature = "wgpu", not(feature = "vulkan")))]
    if !Device::enumerate(burn::tensor::DeviceType::Wgpu).is_empty() {
        names.push("wgpu".to_owned());
    }
    #[cfg(feature = "vulkan")]
    if !Device::enumerate(burn::tensor::DeviceType::Vulkan).is_empty() {
        names.push("vulkan".to_owned());
    }
    names
}

/// The device of a name: `flex` (the CPU), `wgpu`, `vulkan`, `cuda` or `cuda:INDEX`.
///
/// Devices are enumerated before one is opened, since opening an absent one panics below.
pub fn select_device(name: &str) -> Result<Device, DeviceError> {
    let offered = available_devices();
    let full = if name == "cuda" { "cuda:0" } else { name };
    if !offered.iter().any(|n| n == full) {
        return Err(DeviceError {
            asked: name.to_owned(),
            offered,
        });
    }
    match full {
        #[cfg(feature = "flex")]
        "flex" => Ok(Device::flex()),
        #[cfg(all(feature = "wgpu", not(feature = "vulkan")))]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "cuda")]
        cuda if cuda.starts_with("cuda:") => {
            let index: usize = cuda["cuda:".len()..].parse().map_err(|_| DeviceError {
                asked: name.to_owned(),
                offered: offered.clone(),
            })?;
            Ok(Device::cuda(index))
        }
        _ => Err(DeviceError {
            asked: name.to_owned(),
            offered,
        }),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn an_absent_device_is_an_error_that_lists_those_present() {
        let message = select_device("tpu").unwrap_err().to_string();
        assert!(
            message.contains("\"tpu\"") && message.contains("flex"),
            "{message}"
        );
        assert!(select_device("flex").is_ok());
    }
}
