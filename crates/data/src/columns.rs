//! The columns of a file, and which of them are of no use.

use std::collections::{BTreeMap, BTreeSet};

use crate::readers::fields::Row;

/// In how many records of a file a column holds something that nobody reads.
#[derive(Default)]
pub(crate) struct Columns(BTreeMap<String, usize>);

impl Columns {
    /// Adds the columns of a row; `is_read` says of each whether it is read. That depends on the row: where two columns may hold the
    /// prompt, the first is read, and the second only where it is alone.
    pub(crate) fn add(&mut self, row: &Row, is_read: impl Fn(&str) -> bool) {
        let filled = row.iter().filter(|(_, value)| !value.is_null());
        for (column, _) in filled.filter(|(column, _)| !is_read(column)) {
            match self.0.get_mut(column) {
                Some(records) => *records += 1,
                None => _ = self.0.insert(column.clone(), 1),
            }
        }
    }

    /// Those that hold something which nobody reads.
    pub(crate) fn unread(self) -> BTreeMap<String, usize> {
        self.0
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
