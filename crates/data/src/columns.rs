//! The columns of a file, and which of them are of no use.

use std::collections::{BTreeMap, BTreeSet};

use crate::readers::fields::Row;

/// Columns of a file that hold something, and whether they are read.
#[derive(Default)]
pub(crate) struct Columns(BTreeMap<String, bool>);

impl Columns {
    /// Adds the columns of a row; of those that are new, `is_read` says whether they are read.
    pub(crate) fn add(&mut self, row: &Row, is_read: impl Fn(&str) -> bool) {
        for (column, value) in row {
            if !value.is_null() && !self.0.contains_key(column) {
                self.0.insert(column.clone(), is_read(column));
            }
        }
    }

    /// Those that nobody reads.
    pub(crate) fn unread(self) -> Vec<String> {
        let unread = self.0.into_iter().filter(|(_, is_read)| !is_read);
        unread.map(|(column, _)| column).collect()
    }
}

/// Adds the names that are new; most rows bring none, and then nothing is copied.
pub(crate) fn note<'a>(names: &mut BTreeSet<String>, more: impl Iterator<Item = &'a String>) {
    for name in more {
        if !names.contains(name) {
            names.insert(name.clone());
        }
    }
}
