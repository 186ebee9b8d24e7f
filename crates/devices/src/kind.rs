//! The kinds of devices.

use std::fmt;

use burn_tensor::{DType, Device};

use crate::Memory;
use crate::host_memory::{free_memory_bytes, total_memory_bytes};

/// A kind of device, each with a cargo feature of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// The CPU.
    Flex,
    /// A GPU by whichever graphics API is there.
    Wgpu,
    /// A GPU by Vulkan.
    Vulkan,
    /// An NVIDIA GPU.
    Cuda,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flex => "flex",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
        })
    }
}

impl DeviceKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Flex, Self::Wgpu, Self::Vulkan, Self::Cuda];

    /// The kind of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_string() == name)
    }

    /// Whether this build has it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Flex => cfg!(feature = "flex"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// Those of this machine. None is opened: opening one whose driver is missing panics below.
    pub(crate) fn devices(self) -> Vec<Device> {
        #[allow(unused_imports)]
        use burn_tensor::DeviceType;
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => vec![Device::flex()],
            #[cfg(feature = "wgpu")]
            Self::Wgpu if has_opengl_alone() => Vec::new(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Device::enumerate(DeviceType::Wgpu).into_iter().collect(),
            #[cfg(feature = "vulkan")]
            Self::Vulkan => Device::enumerate(DeviceType::Vulkan).into_iter().collect(),
            #[cfg(feature = "cuda")]
            Self::Cuda => Device::enumerate(DeviceType::Cuda).into_iter().collect(),
            #[allow(unreachable_patterns)]
            _ => Vec::new(),
        }
    }

    /// The name of the device with this index.
    pub(crate) fn name(self, index: usize) -> String {
        match self {
            Self::Flex => self.to_string(),
            _ => format!("{self}:{index}"),
        }
    }

    /// Why a machine may have none, or no further one.
    pub(crate) fn why_absent(self) -> &'static str {
        match self {
            Self::Flex => "the CPU is one device",
            Self::Wgpu => {
                "no driver for Vulkan, Metal or DirectX 12 offers one, and OpenGL's do not serve (on Debian, \
                 mesa-vulkan-drivers has one for the CPU)"
            }
            Self::Vulkan => {
                "no Vulkan driver offers one (on Debian, mesa-vulkan-drivers has one for the CPU)"
            }
            Self::Cuda => "no NVIDIA driver (libcuda) offers one",
        }
    }

    /// What the hardware calls itself.
    pub(crate) fn hardware(self, device: &Device) -> String {
        #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
        if let Some(identity) = device.identity() {
            return identity.name;
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let _ = device;
        format!("CPU, {threads} threads")
    }

    /// Whether it computes in a type. The CPU takes numbers of 16 bits and computes with 32, which is no gain.
    pub(crate) fn computes_in(self, device: &Device, dtype: DType) -> bool {
        match self {
            Self::Flex => dtype == DType::F32,
            _ => device.supports_dtype(dtype),
        }
    }

    pub(crate) fn memory(self, device: &Device) -> Option<Memory> {
        match self {
            Self::Flex => Some(Memory {
                total: total_memory_bytes()?,
                free: free_memory_bytes()?,
            }),
            #[cfg(feature = "cuda")]
            Self::Cuda => of_nvidia(device),
            _ => {
                let _ = device;
                None
            }
        }
    }
}

/// Whether WGPU would take OpenGL, having nothing better. It adds two numbers there, and panics in attention (wgpu-hal 30, Mesa).
#[cfg(feature = "wgpu")]
fn has_opengl_alone() -> bool {
    use burn_cubecl::cubecl::wgpu::{AutoGraphicsApi, Backend, GraphicsApi};
    AutoGraphicsApi::backend() == Backend::Gl
}

/// By the card's address, since CUDA and the driver's library count cards in different orders.
#[cfg(feature = "cuda")]
fn of_nvidia(device: &Device) -> Option<Memory> {
    let address = device.identity()?.physical?.pci_address?;
    let driver = nvml_wrapper::Nvml::init().ok()?;
    let card = driver.device_by_pci_bus_id(address.to_string()).ok()?;
    let memory = card.memory_info().ok()?;
    Some(Memory {
        total: memory.total,
        free: memory.free,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_kinds() {
        for kind in DeviceKind::ALL {
            assert_eq!(DeviceKind::named(&kind.to_string()), Some(kind));
        }
        assert_eq!(DeviceKind::named("rocm"), None);
    }
}
