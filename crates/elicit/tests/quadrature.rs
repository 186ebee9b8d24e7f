//! Particles against sums over a fine grid of (λ_1, ln τ), which two objectives allow.

use panacea_elicit::{
    Answer, AskedPairs, Belief, Candidate, Criterion, Settings, d_optimality, information_gain,
    next_question,
};
use panacea_objectives::{Preference, sigmoid};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const CELLS: usize = 500;
const TEMPERATURES: usize = 100;

/// The posterior on a grid, by the recursion g ← ((1 − h)·g/∫g + h)·L.
struct Grid {
    settings: Settings,
    /// (λ_1, ln τ, probability)
    cells: Vec<(f64, f64, f64)>,
}

impl Grid {
    fn prior(settings: Settings) -> Self {
        let (low, high) = (0.03_f64.ln(), 0.0);
        let mut cells = Vec::new();
        for i in 0..CELLS {
            for k in 0..TEMPERATURES {
                let lambda = (i as f64 + 0.5) / CELLS as f64;
                let share = (k as f64 + 0.5) / TEMPERATURES as f64;
                let probability = 1.0 / (CELLS * TEMPERATURES) as f64;
                cells.push((lambda, low + share * (high - low), probability));
            }
        }
        Self { settings, cells }
    }

    /// Written out once more, from the formulas.
    fn likelihoods(&self, x: f64) -> [f64; 3] {
        let slip = self.settings.slip;
        match self.settings.tie {
            None => {
                let meant = sigmoid(x);
                let left = (1.0 - slip) * meant + slip * (1.0 - meant);
                [left, 1.0 - left, 0.0]
            }
            Some(tie) => {
                let (left, right) = (sigmoid(x - tie), sigmoid(-x - tie));
                let meant = [left, right, 1.0 - left - right];
                // What was meant and said, or one of the two others meant and this one said.
                meant.map(|p| (1.0 - slip) * p + slip / 2.0 * (1.0 - p))
            }
        }
    }

    fn update(&mut self, left: &[f64], right: &[f64], answer: Answer) {
        let place = match answer {
            Answer::Left => 0,
            Answer::Right => 1,
            Answer::AboutEqual => 2,
            Answer::Skip => return,
        };
        let prior = 1.0 / self.cells.len() as f64;
        let h = self.settings.forgetting;
        for i in 0..self.cells.len() {
            let x = utility(&self.cells[i], left, right);
            let likelihood = self.likelihoods(x)[place];
            let probability = &mut self.cells[i].2;
            *probability = ((1.0 - h) * *probability + h * prior) * likelihood;
        }
        let sum: f64 = self.cells.iter().map(|cell| cell.2).sum();
        for cell in &mut self.cells {
            cell.2 /= sum;
        }
    }

    fn moments(&self) -> [f64; 4] {
        moments(self.cells.iter().copied())
    }

    fn information_gain(&self, left: &[f64], right: &[f64]) -> f64 {
        let entropy = |p: [f64; 3]| -> f64 {
            let some = p.into_iter().filter(|&p| p > 0.0);
            some.map(|p| -p * p.ln()).sum()
        };
        let (mut mean, mut conditional) = ([0.0; 3], 0.0);
        for cell in &self.cells {
            let p = self.likelihoods(utility(cell, left, right));
            for i in 0..3 {
                mean[i] += cell.2 * p[i];
            }
            conditional += cell.2 * entropy(p);
        }
        entropy(mean) - conditional
    }
}

fn utility(cell: &(f64, f64, f64), left: &[f64], right: &[f64]) -> f64 {
    let better = cell.0 * (left[0] - right[0]) + (1.0 - cell.0) * (left[1] - right[1]);
    better / cell.1.exp()
}

/// Mean and standard deviation of λ_1 and of ln τ.
fn moments(points: impl Iterator<Item = (f64, f64, f64)> + Clone) -> [f64; 4] {
    let mean = |value: &dyn Fn(&(f64, f64, f64)) -> f64| -> f64 {
        points.clone().map(|point| point.2 * value(&point)).sum()
    };
    let (lambda, temperature) = (mean(&|point| point.0), mean(&|point| point.1));
    let lambda_spread = mean(&|point| (point.0 - lambda).powi(2)).sqrt();
    let temperature_spread = mean(&|point| (point.1 - temperature).powi(2)).sqrt();
    [lambda, lambda_spread, temperature, temperature_spread]
}

fn moments_of(belief: &Belief) -> [f64; 4] {
    let guesses = belief.guesses();
    let points: Vec<(f64, f64, f64)> = guesses.map(|(p, tau, w)| (p[0], tau.ln(), w)).collect();
    moments(points.into_iter())
}

/// Scores of two texts and what a person with λ_1 = `wish` and τ = 0.15 says, with ties where they are offered.
fn question(wish: f64, settings: &Settings, rng: &mut ChaCha8Rng) -> ([f64; 2], [f64; 2], Answer) {
    let mut scores = || [rng.random::<f64>(), rng.random::<f64>()];
    let (left, right) = (scores(), scores());
    let better = wish * (left[0] - right[0]) + (1.0 - wish) * (left[1] - right[1]);
    let answer = if settings.tie.is_some() && better.abs() < 0.05 {
        Answer::AboutEqual
    } else if rng.random::<f64>() < sigmoid(better / 0.15) {
        Answer::Left
    } else {
        Answer::Right
    };
    (left, right, answer)
}

/// Asks 50 questions, a new wish at the 26th, and compares after each.
fn agrees(settings: Settings, wishes: [f64; 2]) {
    let settings = Settings {
        particles: 20_000,
        ..settings
    };
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut belief = Belief::new(2, &settings, 3).expect("a belief");
    let mut grid = Grid::prior(settings);
    for n in 0..50 {
        let (left, right, answer) = question(wishes[n / 25], &settings, &mut rng);
        let gain = information_gain(&belief, &left, &right).expect("scores");
        let exact = grid.information_gain(&left, &right);
        assert!(
            (gain - exact).abs() < 0.01,
            "gain {gain}, by the grid {exact}"
        );
        belief.update(&left, &right, answer).expect("an answer");
        grid.update(&left, &right, answer);
        let (found, expected) = (moments_of(&belief), grid.moments());
        // An effective size of at least P/2, of particles that are not quite independent: 5 standard errors of P/8.
        let error = 5.0 / (settings.particles as f64 / 8.0).sqrt();
        for (place, spread) in [(0, 1), (1, 1), (2, 3), (3, 3)] {
            assert!(
                (found[place] - expected[place]).abs() < error * expected[spread],
                "{wishes:?}, answer {}, {} resamplings: {found:?}, by the grid {expected:?}",
                n + 1,
                belief.resamplings()
            );
        }
    }
    assert!(belief.resamplings() > 1, "{}", belief.resamplings());
}

#[test]
fn a_sitting_agrees_with_the_grid_in_the_middle_and_at_an_end() {
    agrees(Settings::default(), [0.6, 0.6]);
    agrees(Settings::default(), [0.98, 0.98]);
}

#[test]
fn ties_agree_with_the_grid() {
    agrees(Settings::default().with_ties(), [0.3, 0.3]);
}

#[test]
fn a_lasting_belief_agrees_with_the_grid_when_a_mind_changes() {
    agrees(Settings::lasting(), [0.1, 0.9]);
    let hasty = Settings {
        forgetting: 0.2,
        ..Settings::default()
    };
    agrees(hasty, [0.1, 0.9]);
}

#[test]
fn a_skip_changes_nothing_and_a_tie_must_be_offered() {
    let settings = Settings::lasting();
    let mut belief = Belief::new(2, &settings, 3).expect("a belief");
    let before = belief.clone();
    let (left, right) = ([1.0, 0.0], [0.0, 1.0]);
    belief.update(&left, &right, Answer::Skip).expect("a skip");
    let refused = belief.update(&left, &right, Answer::AboutEqual);
    assert!(refused.unwrap_err().to_string().contains("offers no ties"));
    let refused = belief.update(&[1.0, f64::NAN], &right, Answer::Left);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("number 2 of the scores of left is NaN")
    );
    let refused = belief.update(&left, &[0.0], Answer::Left);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("the scores of right has 1 number")
    );
    assert!(belief == before && belief.answers() == 0);
}

/// The question that is chosen by the table has the largest gain by the formula.
#[test]
fn the_chosen_question_is_the_best_by_the_formula() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let candidates: Vec<Candidate> = (0..8)
        .map(|i| Candidate {
            id: format!("{i}"),
            preference: None,
            scores: vec![rng.random(), rng.random()],
        })
        .collect();
    for settings in [Settings::default(), Settings::default().with_ties()] {
        let mut belief = Belief::new(2, &settings, 3).expect("a belief");
        let mut asked = AskedPairs::default();
        for _ in 0..4 {
            let information = Criterion::InformationGain;
            let question = next_question(information, &belief, &candidates, &asked, &mut rng);
            let question = question.expect("candidates").expect("a pair");
            let scores = |i: usize| &candidates[i].scores[..];
            let id = |i: usize| &candidates[i].id[..];
            let gain =
                |l: usize, r: usize| information_gain(&belief, scores(l), scores(r)).unwrap();
            let chosen = gain(question.left, question.right);
            assert!((chosen - question.value).abs() < 1e-5);
            for left in 0..8 {
                for right in 0..left {
                    let other = gain(left, right);
                    assert!(chosen > other - 1e-5 || asked.contains(id(left), id(right)));
                }
            }
            asked.insert(id(question.right), id(question.left));
            let (left, right) = (scores(question.left), scores(question.right));
            belief.update(left, right, Answer::Left).expect("an answer");
        }
    }
}

#[test]
fn regions_and_intervals_hold_their_share() {
    let mut belief = Belief::new(2, &Settings::default(), 3).expect("a belief");
    let (low, high) = belief.interval(0, 0.9);
    assert!(
        (low - 0.05).abs() < 0.01 && (high - 0.95).abs() < 0.01,
        "{low} {high}"
    );
    for _ in 0..10 {
        belief
            .update(&[0.7, 0.3], &[0.3, 0.7], Answer::Left)
            .expect("an answer");
    }
    let (low, high) = belief.interval(0, 0.9);
    assert!(low > 0.5 && high > 0.9 && high < 1.0);
    let region = belief.credible_region(0.9);
    // Copies of a particle that no move took away have their place together; each has its weight.
    let weight = |p: &Preference| -> f64 {
        let there = |lambda: &[f64]| (lambda[0] - p.weights()[0]).abs() < 1e-12;
        let guesses = belief.guesses().filter(|(lambda, ..)| there(lambda));
        guesses.map(|(_, _, weight)| weight).sum()
    };
    let mut places = region.clone();
    places.dedup();
    let held: f64 = places.iter().map(weight).sum();
    assert!((held - 0.9).abs() < 0.005, "{held}");
    // One-sided answers: the densest guesses are at the end, and the mean within.
    assert!(region[0].weights()[0] > belief.mean().weights()[0]);
    let covariance = belief.covariance();
    assert!((covariance[0] + covariance[1]).abs() < 1e-12 && covariance[0] > 0.0);
}

/// dᵀΣd is the variance of λ·d.
#[test]
fn d_optimality_is_the_spread_of_the_difference_where_the_answer_is_open() {
    let mut belief = Belief::new(3, &Settings::default(), 3).expect("a belief");
    let (left, right) = ([0.7, 0.1, 0.4], [0.3, 0.5, 0.6]);
    belief
        .update(&left, &right, Answer::Left)
        .expect("an answer");
    let better = |p: &[f64]| (0..3).map(|i| p[i] * (left[i] - right[i])).sum::<f64>();
    let mean: f64 = belief.guesses().map(|(p, _, w)| w * better(p)).sum();
    let variance: f64 = belief
        .guesses()
        .map(|(p, _, w)| w * (better(p) - mean).powi(2))
        .sum();
    let temperature: f64 = belief.guesses().map(|(_, tau, w)| w * tau).sum();
    let s = sigmoid(mean / temperature);
    let expected = (s * (1.0 - s)).powi(2) * variance;
    let found = d_optimality(&belief, &left, &right).expect("scores");
    assert!(
        (found / expected - 1.0).abs() < 1e-9,
        "{found}, not {expected}"
    );
}

/// Where the answer is all but sure, 1 − σ would be 0 on one side and not on the other.
#[test]
fn d_optimality_is_the_same_from_either_side() {
    let belief = Belief::new(2, &Settings::default(), 3).expect("a belief");
    let (left, right) = ([20.0, 10.0], [0.0, 0.0]);
    let value = |left: &[f64], right: &[f64]| d_optimality(&belief, left, right).expect("scores");
    assert!(value(&left, &right) > 0.0);
    assert_eq!(value(&left, &right), value(&right, &left));
}
