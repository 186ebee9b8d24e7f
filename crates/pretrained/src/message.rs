//! One turn of a conversation, in the form chat templates take.

use serde::{Deserialize, Serialize};

/// A message of a conversation: who speaks, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, …, as chat templates name them.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}
