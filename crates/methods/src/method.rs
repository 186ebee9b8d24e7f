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

/// How each training of a method learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// From labelled records, by the weighted sum of the losses.
    Linear,
    /// From labelled records, by the largest weighted loss.
    Tchebycheff,
    /// From labelled records, by the smooth maximum of the weighted losses.
    SmoothTchebycheff,
    /// From rewards, with a critic.
    Ppo,
    /// From rewards, each answer against the mean of the others.
    Rloo,
    /// From rewards, by mean and deviation of what all answers to a prompt are worth.
    Grpo,
    /// From rewards, by mean and deviation of all answers to a prompt, objective by objective.
    Gdpo,
}

impl Means {
    fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Tchebycheff => "tchebycheff",
            Self::SmoothTchebycheff => "smooth-tchebycheff",
            Self::Ppo => "ppo",
            Self::Rloo => "rloo",
            Self::Grpo => "grpo",
            Self::Gdpo => "gdpo",
        }
    }
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

    /// The method's name in fronts and tables, such as `panacea-linear`.
    pub fn label(&self, by: Means) -> String {
        let name = by.name();
        match (self, by) {
            (Self::Panacea, _) => format!("panacea-{name}"),
            // With one objective in each training, all aggregations are the same.
            (
                Self::RewardedSoups,
                Means::Linear | Means::Tchebycheff | Means::SmoothTchebycheff,
            ) => "rewarded-soups".to_owned(),
            (Self::RewardedSoups, Means::Ppo | Means::Rloo | Means::Grpo | Means::Gdpo) => {
                format!("rewarded-soups-{name}")
            }
            (Self::Discrete { .. }, Means::Linear) => "discrete".to_owned(),
            (Self::Discrete { .. }, _) => format!("discrete-{name}"),
            (Self::RewardModel, _) => "reward-model".to_owned(),
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
        assert_eq!(preferences(grid).len(), 6);
    }

    #[test]
    fn labels_tell_methods_apart() {
        let grid = Method::Discrete { divisions: 4 };
        assert_eq!(Method::Panacea.label(Means::Rloo), "panacea-rloo");
        assert_eq!(
            Method::RewardedSoups.label(Means::Tchebycheff),
            "rewarded-soups"
        );
        assert_eq!(
            Method::RewardedSoups.label(Means::Ppo),
            "rewarded-soups-ppo"
        );
        assert_eq!(grid.label(Means::Linear), "discrete");
        assert_eq!(grid.label(Means::Tchebycheff), "discrete-tchebycheff");
        assert_eq!(
            Method::Panacea.label(Means::SmoothTchebycheff),
            "panacea-smooth-tchebycheff"
        );
    }
}
