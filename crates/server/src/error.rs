//! Why there is no server.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Every failure before the first request and after the last one; what is wrong with a request is an answer to it.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}; choose another --port, or end what has it")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Everybody could ask, and nobody said that this is meant.
    #[error(
        "{address} can be reached from other machines, and there is no API key: name a file that holds one with --api-key-file, or say --without-api-key"
    )]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// A key that nobody could send.
    #[error("{path}: {problem}; expected a file with one line, the key", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Two models of one name, of which nobody could ask for the second.
    #[error("two models are called `{name}`; rename the run's folder, or the model's")]
    SameName {
        /// The name.
        name: String,
    },
    /// The system does not do what a server needs.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}
