//! pretrained

mod message;
pub use message::Message;
