//! Where values stand, for messages that name the place.

use std::collections::BTreeMap;

use crate::problems::{Origin, Problem};

/// Where each key came from, and the mistakes met while reading.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    pub(crate) origins: BTreeMap<String, Origin>,
    pub(crate) problems: Vec<Problem>,
    /// The file is no TOML at all: what is missing from it cannot be told.
    pub(crate) is_unreadable: bool,
}

/// Two configurations are equal if they say the same, wherever they say it.
impl PartialEq for Sources {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
