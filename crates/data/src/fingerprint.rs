//! The fingerprint of a data file, by which a run folder knows its data again.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::DataError;

/// SHA-256 of the file as it lies on the disk, in hexadecimal digits.
pub fn fingerprint(file: &Path) -> Result<String, DataError> {
    let read_error = |error| DataError::Read {
        file: file.to_owned(),
        error,
    };
    let mut reader = BufReader::new(File::open(file).map_err(read_error)?);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = reader.read(&mut buffer).map_err(read_error)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    Ok(hex::encode(hasher.finalize()))
}
