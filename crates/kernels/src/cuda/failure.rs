//! Why a product was not computed.

use std::fmt;

use cudarc::cublaslt::{result as lt, sys as lt_sys};
use cudarc::driver::DriverError;

#[derive(Debug)]
pub enum Failure {
    /// There is no way to compute this.
    Way,
    Driver(DriverError),
    Library(lt::CublasError),
    /// A buffer that has no address.
    Buffer(String),
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

impl From<lt::CublasError> for Failure {
    fn from(error: lt::CublasError) -> Self {
        Self::Library(error)
    }
}

impl Failure {
    /// Whether it would be the same another time.
    pub fn is_for_good(&self) -> bool {
        let unsupported = lt_sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED;
        match self {
            Self::Way => true,
            Self::Library(error) => error.0 == unsupported,
            Self::Driver(_) | Self::Buffer(_) => false,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Way => f.write_str("cuBLASLt knows no way to compute it"),
            Self::Driver(error) => write!(f, "the driver says {error:?}"),
            Self::Library(error) => write!(f, "cuBLASLt says {error:?}"),
            Self::Buffer(error) => f.write_str(error),
        }
    }
}
