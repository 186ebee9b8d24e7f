//! What every section resolves with: defaults, ranges, and what is said where a value is outside of them.

use std::fmt::Display;

use crate::problems::Problem;
use crate::sources::Sources;

/// Fills in and checks; gathers what is wrong.
pub(crate) struct Resolver {
    pub sources: Sources,
    pub warnings: Vec<String>,
}

impl Resolver {
    pub(crate) fn count(&mut self, key: &str, value: Option<usize>, default: usize) -> usize {
        self.number(key, value, default, "1 or more", |count| count >= 1)
    }

    pub(crate) fn positive(&mut self, key: &str, value: Option<f64>, default: f64) -> f64 {
        self.number(key, value, default, "a finite number above 0", |x| {
            x > 0.0 && x.is_finite()
        })
    }

    pub(crate) fn not_negative(&mut self, key: &str, value: Option<f64>, default: f64) -> f64 {
        self.number(key, value, default, "a finite number, 0 or more", |x| {
            x >= 0.0 && x.is_finite()
        })
    }

    pub(crate) fn ratio(&mut self, key: &str, value: Option<f64>, default: f64) -> f64 {
        self.number(key, value, default, "a number from 0 to 1", |x| {
            (0.0..=1.0).contains(&x)
        })
    }

    /// The value, or its default where it is missing or (which is a problem) out of range.
    pub(crate) fn number<T: Copy + Display>(
        &mut self,
        key: &str,
        value: Option<T>,
        default: T,
        expected: &str,
        is_valid: impl Fn(T) -> bool,
    ) -> T {
        match value {
            Some(value) if !is_valid(value) => {
                self.problem(key, format!("found {value}, expected {expected}"));
                default
            }
            Some(value) => value,
            None => default,
        }
    }

    /// Warns that a key has no effect, unless its value is the default.
    pub(crate) fn no_effect<T: PartialEq>(
        &mut self,
        key: &str,
        value: Option<T>,
        default: T,
        why: &str,
    ) {
        if value.is_some_and(|value| value != default) {
            let place = self
                .sources
                .origins
                .get(key)
                .map(|origin| format!("{origin}: "));
            self.warnings.push(format!(
                "{}{key} has no effect {why}",
                place.unwrap_or_default()
            ));
        }
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
