//! Mappings that remember what a template asked them for: what it leaves out of a conversation is known by turn and key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectExt};

/// A mapping from names to values, as templates see it.
#[derive(Debug, Default)]
pub(crate) struct Watched(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    key: String,
    value: Value,
    is_read: AtomicBool,
}

impl Watched {
    /// A mapping in the order given, of which nothing was asked.
    pub fn new(entries: impl IntoIterator<Item = (String, Value)>) -> Arc<Self> {
        let entries = entries.into_iter().map(|(key, value)| Entry {
            key,
            value,
            is_read: AtomicBool::new(false),
        });
        Arc::new(Self(entries.collect()))
    }

    /// What a template sees.
    pub fn value(self: &Arc<Self>) -> Value {
        Value::from_dyn_object(Arc::clone(self))
    }

    /// Whether any rendering has asked for the value of a key that is there.
    pub fn has_read(&self, key: &str) -> bool {
        self.entry(key)
            .is_some_and(|entry| entry.is_read.load(Ordering::Relaxed))
    }

    /// The keys that no rendering has asked for.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        let unread = self.0.iter();
        let unread = unread.filter(|entry| !entry.is_read.load(Ordering::Relaxed));
        unread.map(|entry| entry.key.as_str())
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.key == key)
    }
}

impl Entry {
    fn read(&self) {
        self.is_read.store(true, Ordering::Relaxed);
    }
}

impl Object for Watched {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let entry = self.entry(key)?;
        entry.read();
        Some(entry.value.clone())
    }

    /// Who goes through the keys, as `tojson` does, reads each of them.
    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_enumerator(|watched| {
            Box::new(watched.0.iter().map(|entry| {
                entry.read();
                Value::from(entry.key.as_str())
            }))
        })
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.len())
    }
}

/// All variables of a rendering, those before which others go last.
#[derive(Debug)]
pub(crate) struct Given {
    pub always: [(&'static str, Value); 4],
    pub of_all: Arc<[(String, Value)]>,
    pub own: Arc<Watched>,
}

impl Object for Given {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let of_all = || self.of_all.iter().rev().find(|(name, _)| name == key);
        let always = || self.always.iter().find(|(name, _)| *name == key);
        (self.own.get_value_by_str(key))
            .or_else(|| of_all().map(|(_, value)| value.clone()))
            .or_else(|| always().map(|(_, value)| value.clone()))
    }
}
