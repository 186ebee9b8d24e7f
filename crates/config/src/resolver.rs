//! What every section resolves with: defaults, ranges, and what is said where a value is outside of them.

use crate::names::MethodName;
use crate::problems::Problem;
use crate::schema::{Entry, HasUsual, Setting, Usual};
use crate::sources::Sources;
use crate::when::Choices;

/// Fills in and checks; gathers what is wrong.
pub(crate) struct Resolver {
    pub sources: Sources,
    pub warnings: Vec<String>,
}

impl Resolver {
    /// The value of a key that has a default of its own.
    pub(crate) fn take<T: Setting>(&mut self, entry: Entry<T, Usual<T>>) -> T {
        let default = entry.default;
        self.take_or(entry, default())
    }

    /// The value of a key whose default depends on other keys; the default as well where it is (which is a problem) out
    /// of range.
    pub(crate) fn take_or<T: Setting, D>(&mut self, entry: Entry<T, D>, default: T) -> T {
        self.take_if_given(entry).unwrap_or(default)
    }

    /// The value of a key that need not be there.
    pub(crate) fn take_if_given<T: Setting, D>(&mut self, entry: Entry<T, D>) -> Option<T> {
        match entry.out_of_range() {
            None => entry.given,
            // Of a key that has no effect it was said with that.
            Some(_) if self.is_broken(entry.key) => None,
            Some(message) => {
                self.problem(entry.key, message);
                None
            }
        }
    }

    /// Warns where a key has no effect, unless its value is the default. A value that is out of its range is refused here, too:
    /// it may have an effect tomorrow.
    pub(crate) fn warn_if_idle<T: Setting + PartialEq, D: HasUsual<T>>(
        &mut self,
        entry: &Entry<T, D>,
        choices: &Choices,
    ) {
        let (Some(given), Some(when)) = (&entry.given, &entry.when) else {
            return;
        };
        let is_default = entry.default.usual().as_ref() == Some(given);
        if is_default || (when.holds)(choices) {
            return;
        }
        // What a reward model needs is said of all other methods.
        let why = match choices.method {
            MethodName::RewardModel if when.is_of_method() => {
                " with method.name = \"reward-model\"".to_owned()
            }
            _ => format!(": it needs {}", when.words),
        };
        if let Some(message) = entry.out_of_range() {
            self.problem(
                entry.key,
                format!("{message}; besides, it has no effect{why}"),
            );
            return;
        }
        let place = (self.sources.origins.get(entry.key)).map(|origin| format!("{origin}: "));
        self.warnings.push(format!(
            "{}{} has no effect{why}",
            place.unwrap_or_default(),
            entry.key
        ));
    }

    pub(crate) fn problem(&mut self, key: &str, message: String) {
        self.sources.problems.push(Problem {
            origin: self.sources.origins.get(key).cloned(),
            key: key.to_owned(),
            message,
        });
    }

    /// A value that is not there. If it is there but could not be read, that was said already.
    pub(crate) fn missing(&mut self, key: &str, message: &str) {
        if !self.is_broken(key) {
            self.problem(key, message.to_owned());
        }
    }

    /// Whether the key, or an element of it, has been reported.
    pub(crate) fn is_broken(&self, key: &str) -> bool {
        self.sources
            .problems
            .iter()
            .any(|problem| problem.key.split('[').next() == Some(key))
    }
}
