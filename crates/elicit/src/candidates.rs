//! Answers that can be compared, and the pairs of them that were.

use std::collections::{HashMap, HashSet};

use panacea_objectives::{Preference, PreferenceSampler, simplex_grid};
use rand::Rng;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{ElicitError, check_length, check_numbers};

/// An answer with its scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// What the caller knows it by, in at most 1000 bytes: unique among everything that a profile asks about, and always with
    /// the same scores.
    pub id: String,
    /// The λ that it was written at, where there is one.
    #[serde(deserialize_with = "present")]
    pub preference: Option<Preference>,
    /// r ∈ R^m: its score on each objective, larger is better, brought to one scale (about 1 from bad to good).
    /// [`LARGEST_DIFFERENCE`](crate::LARGEST_DIFFERENCE) says why.
    pub scores: Vec<f64>,
}

impl Candidate {
    /// Whether it fits m = `objectives`.
    pub(crate) fn check(&self, objectives: usize) -> Result<(), ElicitError> {
        check_length("the id of a candidate", &self.id)?;
        check_numbers(
            &format!("the scores of `{}`", self.id),
            &self.scores,
            objectives,
        )?;
        let Some(preference) = &self.preference else {
            return Ok(());
        };
        let fits = preference.expect_len(objectives);
        fits.map_err(|source| ElicitError::Preference {
            what: format!("`{}`", self.id),
            source,
        })
    }
}

/// How far apart the scores of each of m = `objectives` are over the rows, each of m scores: `[m]`. Without rows, −∞ for each.
pub fn ranges<'a>(
    rows: impl Iterator<Item = &'a [f64]> + Clone,
    objectives: usize,
) -> impl Iterator<Item = f64> {
    (0..objectives).map(move |i| {
        let scores = rows.clone().filter_map(|row| row.get(i).copied());
        scores.clone().fold(f64::MIN, f64::max) - scores.fold(f64::MAX, f64::min)
    })
}

/// An option whose field must be there, `null` or not: without this serde takes a missing one for `None`.
pub(crate) fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer)
}

/// Pairs that were asked, whichever side each was on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AskedPairs {
    /// The others that each id was compared with; a pair stands under both.
    others: HashMap<String, HashSet<String>>,
}

impl AskedPairs {
    /// Remembers a pair by its ids.
    pub fn insert(&mut self, left: &str, right: &str) {
        for (one, other) in [(left, right), (right, left)] {
            let others = self.others.entry(one.to_owned()).or_default();
            others.insert(other.to_owned());
        }
    }

    /// Whether it was asked.
    #[must_use]
    pub fn contains(&self, left: &str, right: &str) -> bool {
        let others = self.others.get(left);
        others.is_some_and(|others| others.contains(right))
    }
}

/// `count` preferences at which to write the answers to one prompt, spread over the simplex: the largest lattice of Das
/// and Dennis that takes at most two thirds of them, and random ones. They do not follow the belief: the answers that it
/// already likes are too much alike to tell it anything.
///
/// # Panics
/// When `objectives` is 0.
#[must_use]
pub fn spread_preferences<R: Rng + ?Sized>(
    objectives: usize,
    count: usize,
    rng: &mut R,
) -> Vec<Preference> {
    let uniform = PreferenceSampler::new(1.0, 0.0).expect("a flat Dirichlet distribution");
    let mut spread = Vec::new();
    // The lattice of m ≥ 2 objectives grows with every division.
    for divisions in 1..=count {
        let lattice = simplex_grid(objectives, divisions);
        if lattice.len() * 3 > count * 2 {
            break;
        }
        spread = lattice;
    }
    while spread.len() < count {
        spread.push(uniform.sample(objectives, rng));
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn a_pair_is_the_same_from_either_side() {
        let mut asked = AskedPairs::default();
        asked.insert("b", "a");
        assert!(asked.contains("a", "b") && asked.contains("b", "a"));
        assert!(!asked.contains("a", "c"));
    }

    #[test]
    fn preferences_are_spread_and_have_the_corners_where_there_is_room() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for objectives in 1..=5 {
            for count in [0, 1, 2, 20] {
                let spread = spread_preferences(objectives, count, &mut rng);
                assert_eq!(spread.len(), count);
                if count == 20 {
                    let corner = Preference::vertex(objectives, 0);
                    assert!(spread.contains(&corner), "{objectives}");
                }
            }
        }
    }
}
