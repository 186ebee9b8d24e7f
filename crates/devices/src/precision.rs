//! The type of a model's frozen weights.

use burn_tensor::{DType, Device, FloatDType};
use serde::{Deserialize, Serialize};

use crate::{DeviceError, kind_of};

/// The type of a model's frozen weights, in which products with them are computed. All else has 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// `bf16` where the device computes in it, `f32` elsewhere, such as on the CPU.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits with the range of 32: 8 bits of precision.
    Bf16,
    /// 16 bits, 11 of precision; numbers beyond 65,504 overflow.
    F16,
}

impl Precision {
    /// The type on `device`. One that it only stores is an error: computing would be slower there, or wrong.
    pub fn on(self, device: &Device) -> Result<FloatDType, DeviceError> {
        let computes_in =
            |dtype| kind_of(device).is_some_and(|kind| kind.computes_in(device, dtype));
        let dtype = match self {
            Self::Auto if computes_in(DType::BF16) => DType::BF16,
            Self::Auto | Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        };
        if dtype != DType::F32 && !computes_in(dtype) {
            let kind = kind_of(device).map_or_else(String::new, |kind| kind.to_string());
            return Err(DeviceError::Precision {
                asked: dtype.name(),
                device: kind,
            });
        }
        Ok(dtype.into())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_computes_in_32_bits() {
        let cpu = crate::select("flex").unwrap();
        assert_eq!(Precision::Auto.on(&cpu), Ok(FloatDType::F32));
        let message = Precision::Bf16.on(&cpu).unwrap_err().to_string();
        assert!(
            message.contains("bf16") && message.contains("f32"),
            "{message}"
        );
    }
}
