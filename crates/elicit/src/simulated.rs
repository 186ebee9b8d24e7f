//! People whose wishes are known, for tests and studies, and a front for them to choose on.

use panacea_objectives::{Preference, sigmoid, simplex_grid};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

use crate::candidates::{Candidate, spread_preferences};
use crate::choice::Answer;
use crate::front::{Front, FrontPoint};
use crate::particles::dot;

/// A person with utility u = direction·r who takes left with probability σ((u(left) − u(right))/τ), and sometimes slips.
///
/// The direction is a λ*, or anything else: with negative parts, or over more scores than the belief knows, for a wish that
/// no objective was trained on. [`SimulatedUser::compare`] takes utilities from elsewhere.
///
/// ```
/// use panacea_elicit::{Answer, SimulatedUser};
///
/// let mut user = SimulatedUser::new(vec![0.8, 0.2], 7).with_temperature(0.01);
/// assert_eq!(user.answer(&[1.0, 0.0], &[0.0, 1.0]), Answer::Left);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedUser {
    direction: Vec<f64>,
    temperature: f64,
    slip: f64,
    tie_below: f64,
    change: Option<(usize, Vec<f64>)>,
    answers: usize,
    rng: ChaCha8Rng,
}

impl SimulatedUser {
    /// Without slips and ties, with τ = 0.15.
    #[must_use]
    pub fn new(direction: Vec<f64>, seed: u64) -> Self {
        Self {
            direction,
            temperature: 0.15,
            slip: 0.0,
            tie_below: 0.0,
            change: None,
            answers: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// With choice noise τ > 0.
    #[must_use]
    pub fn with_temperature(self, temperature: f64) -> Self {
        Self {
            temperature,
            ..self
        }
    }

    /// With probability `slip` of saying the other side than the one meant.
    #[must_use]
    pub fn with_slips(self, slip: f64) -> Self {
        Self { slip, ..self }
    }

    /// Who calls answers about equal when their utilities differ by less than `below`.
    #[must_use]
    pub fn with_ties(self, below: f64) -> Self {
        Self {
            tie_below: below,
            ..self
        }
    }

    /// Who wants `direction` from answer `answer` on, the first being 1.
    #[must_use]
    pub fn who_changes(self, answer: usize, direction: Vec<f64>) -> Self {
        let change = Some((answer, direction));
        Self { change, ..self }
    }

    /// What the person wants at the next answer.
    #[must_use]
    pub fn direction(&self) -> &[f64] {
        match &self.change {
            Some((from, direction)) if self.answers + 1 >= *from => direction,
            _ => &self.direction,
        }
    }

    /// Compares two texts by their scores.
    ///
    /// # Panics
    /// When there are more or fewer scores than parts of the direction.
    pub fn answer(&mut self, left: &[f64], right: &[f64]) -> Answer {
        let direction = self.direction();
        assert_eq!(direction.len(), left.len(), "number of scores of left");
        assert_eq!(direction.len(), right.len(), "number of scores of right");
        let (left, right) = (dot(direction, left), dot(direction, right));
        self.compare(left, right)
    }

    /// Compares two texts by what they are worth to the person.
    pub fn compare(&mut self, left: f64, right: f64) -> Answer {
        self.answers += 1;
        // Both numbers are drawn at every answer, so that users who differ in one thing are else the same.
        let (choice, slip): (f64, f64) = (self.rng.random(), self.rng.random());
        if (left - right).abs() < self.tie_below {
            return Answer::AboutEqual;
        }
        let means_left = choice < sigmoid((left - right) / self.temperature);
        match means_left != (slip < self.slip) {
            true => Answer::Left,
            false => Answer::Right,
        }
    }
}

/// A concave front that is known exactly: the positive part of the unit sphere, J(λ) = λ/|λ|, at the preferences of a lattice
/// with `divisions`. Its range is 1.
///
/// # Panics
/// With fewer than two objectives or without divisions.
#[must_use]
pub fn spherical_front(objectives: usize, divisions: usize) -> Front {
    assert!(
        objectives > 1 && divisions > 0,
        "a front has two ends or more"
    );
    let points = simplex_grid(objectives, divisions).into_iter();
    let points = points.map(|preference| FrontPoint {
        values: on_sphere(&preference),
        preference,
    });
    Front::new(points.collect()).expect("finite values")
}

/// `count` answers to one prompt on that front: written at spread λ, each score J_i(λ) + `noise`·N(0, 1), for answers are
/// seldom what was ordered. Their ids begin with `prompt`.
#[must_use]
pub fn spherical_answers<R: Rng + ?Sized>(
    prompt: &str,
    objectives: usize,
    count: usize,
    noise: f64,
    rng: &mut R,
) -> Vec<Candidate> {
    let spread = spread_preferences(objectives, count, rng);
    let answers = spread.into_iter().enumerate();
    let answer = |(place, preference): (usize, Preference)| {
        let mut scores = on_sphere(&preference);
        for score in &mut scores {
            let normal: f64 = StandardNormal.sample(rng);
            *score += noise * normal;
        }
        Candidate {
            id: format!("{prompt}/{place}"),
            preference: Some(preference),
            scores,
        }
    };
    answers.map(answer).collect()
}

fn on_sphere(preference: &Preference) -> Vec<f64> {
    let weights = preference.weights();
    let norm = dot(weights, weights).sqrt();
    weights.iter().map(|weight| weight / norm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: usize = 4000;

    fn share_of_left(mut user: SimulatedUser) -> f64 {
        let is_left = |_: &usize| user.answer(&[0.6, 0.5], &[0.5, 0.5]) == Answer::Left;
        (0..ANSWERS).filter(is_left).count() as f64 / ANSWERS as f64
    }

    #[test]
    fn users_choose_by_their_noise_and_slip() {
        let user = SimulatedUser::new(vec![1.0, 0.0], 1).with_temperature(0.1);
        let meant = sigmoid(1.0);
        assert!((share_of_left(user.clone()) - meant).abs() < 0.03);
        let slipping = meant * 0.8 + (1.0 - meant) * 0.2;
        assert!((share_of_left(user.clone().with_slips(0.2)) - slipping).abs() < 0.03);
        assert_eq!(share_of_left(user.with_ties(0.2)), 0.0);
    }

    #[test]
    fn a_mind_changes_at_the_answer_that_was_said() {
        let changed = vec![0.0, 1.0];
        let user = SimulatedUser::new(vec![1.0, 0.0], 1).with_temperature(1e-6);
        let mut user = user.who_changes(3, changed.clone());
        let answers: Vec<Answer> = (0..4)
            .map(|_| user.answer(&[1.0, 0.0], &[0.0, 1.0]))
            .collect();
        use Answer::{Left, Right};
        assert_eq!(answers, [Left, Left, Right, Right]);
        assert_eq!(user.direction(), changed);
    }
}
