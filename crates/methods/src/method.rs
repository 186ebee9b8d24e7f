//! The methods, and the trainings that each takes.

use panacea_objectives::{Preference, simplex_grid};

/// How one model comes to serve many preferences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// One adapter, steered by the preference.
    Panacea,
    /// One adapter for each objective; their updates are mixed by the preference (Ramé et al. 2023).
    RewardedSoups,
    /// One adapter for each preference of a grid.
    Discrete {
        /// Steps along each edge of the simplex.
        divisions: usize,
    },
    /// One adapter with a reward for each objective, learned from pairs: it scores answers and writes none.
    RewardModel,
}

/// The trainings that a method takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Trainings {
    /// One, under the preferences of its plan.
    One,
    /// One for each of these preferences, which its training holds on to.
    Each(Vec<Preference>),
}

impl Method {
    /// What is to be trained for so many objectives.
    pub fn trainings(&self, objectives: usize) -> Trainings {
        match self {
            Self::Panacea | Self::RewardModel => Trainings::One,
            Self::RewardedSoups => {
                let vertices = (0..objectives).map(|i| Preference::vertex(objectives, i));
                Trainings::Each(vertices.collect())
            }
            Self::Discrete { divisions } => Trainings::Each(simplex_grid(objectives, *divisions)),
        }
    }

    /// The method's name in fronts and tables, such as `panacea-linear`; `learning` names what each of its trainings
    /// does, such as `linear`, `tchebycheff` or `ppo`.
    pub fn label(&self, learning: &str) -> String {
        match self {
            Self::Panacea => format!("panacea-{learning}"),
            // With one objective in each training, all aggregations are the same.
            Self::RewardedSoups if matches!(learning, "linear" | "tchebycheff") => {
                "rewarded-soups".to_owned()
            }
            Self::RewardedSoups => format!("rewarded-soups-{learning}"),
            Self::Discrete { .. } if learning == "linear" => "discrete".to_owned(),
            Self::Discrete { .. } => format!("discrete-{learning}"),
            Self::RewardModel => "reward-model".to_owned(),
        }
    }
}

impl Trainings {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::One => 1,
            Self::Each(preferences) => preferences.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_says_what_it_trains() {
        let preferences = |method: Method| match method.trainings(3) {
            Trainings::One => Vec::new(),
            Trainings::Each(preferences) => preferences,
        };
        assert!(preferences(Method::Panacea).is_empty());
        let vertices = preferences(Method::RewardedSoups);
        assert_eq!(vertices.len(), 3);
        assert_eq!(vertices[1].weights(), [0.0, 1.0, 0.0]);
        let grid = Method::Discrete { divisions: 2 };
        assert_eq!(grid.trainings(3).count(), 6);
        assert_eq!(Method::Panacea.trainings(3).count(), 1);
    }

    #[test]
    fn labels_tell_methods_apart() {
        let grid = Method::Discrete { divisions: 4 };
        assert_eq!(Method::Panacea.label("rloo"), "panacea-rloo");
        assert_eq!(Method::RewardedSoups.label("tchebycheff"), "rewarded-soups");
        assert_eq!(Method::RewardedSoups.label("ppo"), "rewarded-soups-ppo");
        assert_eq!(grid.label("linear"), "discrete");
        assert_eq!(grid.label("tchebycheff"), "discrete-tchebycheff");
    }
}
