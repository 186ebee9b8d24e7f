//! wip
mod divergence;
mod error;
mod files;
mod interrupt;
mod problems;
mod run_folder;
mod schedule;
pub use divergence::*;
pub use error::*;
pub use files::*;
pub use interrupt::*;
pub use problems::*;
pub use run_folder::*;
pub use schedule::*;
