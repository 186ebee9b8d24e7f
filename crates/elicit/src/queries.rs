//! Which two answers to ask about next.

use std::collections::HashSet;

use panacea_objectives::sigmoid;
use rand::{Rng, RngExt};

use crate::belief::Belief;
use crate::candidates::{AskedPairs, Candidate, ranges};
use crate::choice::{ChoiceTable, entropy};
use crate::error::{ElicitError, check_differences};
use crate::particles::dot;

/// How the next pair is chosen among all pairs of candidates that were not asked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// The pair whose answer is expected to say most about the person:
    /// H(Σ_j w_j p_j) − Σ_j w_j H(p_j), over all answers that are offered (Houlsby et al., "Bayesian Active Learning for
    /// Classification and Preference Learning", 2011). For tens of candidates; it takes all particles for every pair.
    InformationGain,
    /// The pair with the largest [s(1 − s)]²·dᵀΣd, s = σ(λ̄·d/τ̄), with Σ the posterior covariance and λ̄, τ̄ the posterior means
    /// (D-optimality; Shenfeld et al., "PReF", 2025). For thousands of candidates: a pair takes m² operations.
    DOptimal,
    /// Any pair: what a study compares the others with.
    RandomPair,
    /// The pair that half of the belief would answer either way, |Σ_j w_j sign(λ_j·d)| least (generalised binary search, Nowak
    /// 2011): for studies too. It does not see that people are unsure about answers that are much alike.
    BinarySearch,
}

/// A pair to ask about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Question {
    /// Place of one candidate.
    pub left: usize,
    /// Place of the other.
    pub right: usize,
    /// What the criterion gives the pair, larger is better: nats for information gain, nothing of meaning for a random pair.
    pub value: f64,
}

/// The best pair of `candidates` by `criterion` that is not among `asked`; nothing when all were, or have the same scores on
/// both sides. Which of the two is left is drawn from `rng`, so that a habit of taking the left one teaches nothing.
///
/// # Errors
/// When a candidate does not fit the belief, two have the same id, or two have scores further apart than
/// [`LARGEST_DIFFERENCE`](crate::LARGEST_DIFFERENCE).
pub fn next_question<R: Rng + ?Sized>(
    criterion: Criterion,
    belief: &Belief,
    candidates: &[Candidate],
    asked: &AskedPairs,
    rng: &mut R,
) -> Result<Option<Question>, ElicitError> {
    let mut ids = HashSet::new();
    for candidate in candidates {
        candidate.check(belief.objectives())?;
        if !ids.insert(&candidate.id) {
            return Err(ElicitError::DuplicateCandidate(candidate.id.clone()));
        }
    }
    let scores: Vec<&[f64]> = candidates.iter().map(|c| &c.scores[..]).collect();
    if !candidates.is_empty() {
        check_differences(ranges(scores.iter().copied(), belief.objectives()))?;
    }
    let pairs = (0..candidates.len()).flat_map(|left| (0..left).map(move |right| (left, right)));
    let pairs = pairs.filter(|&(left, right)| {
        let (left, right) = (&candidates[left], &candidates[right]);
        left.scores != right.scores && !asked.contains(&left.id, &right.id)
    });
    let best = match criterion {
        Criterion::InformationGain => best_pair(pairs, by_information(belief, &scores)),
        Criterion::DOptimal => best_pair(pairs, by_covariance(belief, &scores)),
        Criterion::BinarySearch => best_pair(pairs, by_halves(belief, &scores)),
        Criterion::RandomPair => best_pair(pairs, |_, _| rng.random()),
    };
    let turned = rng.random::<bool>();
    Ok(best.map(|question| match turned {
        true => Question {
            left: question.right,
            right: question.left,
            ..question
        },
        false => question,
    }))
}

/// The pair of the largest value, the first of them.
fn best_pair(
    pairs: impl Iterator<Item = (usize, usize)>,
    mut value: impl FnMut(usize, usize) -> f64,
) -> Option<Question> {
    let mut best: Option<Question> = None;
    for (left, right) in pairs {
        let value = value(left, right);
        if best.is_none_or(|best| value > best.value) {
            best = Some(Question { left, right, value });
        }
    }
    best
}

/// The information gain of a question about texts with scores `left` and `right`, `[m]` each, in nats, by its formula.
///
/// # Errors
/// When the scores are not m finite numbers, or further apart than [`LARGEST_DIFFERENCE`](crate::LARGEST_DIFFERENCE).
pub fn information_gain(belief: &Belief, left: &[f64], right: &[f64]) -> Result<f64, ElicitError> {
    let difference = belief.difference(left, right)?;
    let model = belief.choice_model();
    let (mut mean, mut conditional) = ([0.0; 3], 0.0);
    let utilities = belief.particles().utilities(&difference);
    for (&x, weight) in utilities.iter().zip(belief.particles().weights()) {
        for (mean, p) in mean.iter_mut().zip(model.probabilities(x)) {
            *mean += weight * p;
        }
        conditional += weight * model.entropy(x);
    }
    Ok(entropy(mean) - conditional)
}

/// The D-optimal value of a question about texts with scores `left` and `right`, `[m]` each.
///
/// # Errors
/// When the scores are not m finite numbers, or further apart than [`LARGEST_DIFFERENCE`](crate::LARGEST_DIFFERENCE).
pub fn d_optimality(belief: &Belief, left: &[f64], right: &[f64]) -> Result<f64, ElicitError> {
    belief.difference(left, right)?;
    Ok(by_covariance(belief, &[left, right])(0, 1))
}

/// The information gain of pairs, with all that does not depend on the pair done once: λ·r/τ of every candidate and
/// particle, whose difference is x, and the probabilities of answers as a table over x.
fn by_information(belief: &Belief, scores: &[&[f64]]) -> impl Fn(usize, usize) -> f64 {
    let utilities = utilities(belief, scores);
    let weights = belief.particles().weights().to_vec();
    let offers_ties = belief.choice_model().offers_ties();
    let table = ChoiceTable::new(belief.choice_model());
    move |left, right| {
        let (mut p_left, mut p_right, mut conditional) = (0.0, 0.0, 0.0);
        let xs = utilities[left].iter().zip(&utilities[right]);
        for ((l, r), weight) in xs.zip(&weights) {
            let [left, right, entropy] = table.at(l - r);
            p_left += weight * left;
            p_right += weight * right;
            conditional += weight * entropy;
        }
        let equal = match offers_ties {
            true => (1.0 - p_left - p_right).max(0.0),
            false => 0.0,
        };
        entropy([p_left, p_right, equal]) - conditional
    }
}

/// [s(1 − s)]²·dᵀΣd of pairs.
fn by_covariance<'a>(
    belief: &Belief,
    scores: &'a [&[f64]],
) -> impl Fn(usize, usize) -> f64 + use<'a> {
    let mean = belief.mean_weights();
    let temperature = belief.mean_temperature();
    let covariance = belief.covariance();
    move |left, right| {
        let (left, right) = (scores[left], scores[right]);
        let x = (dot(&mean, left) - dot(&mean, right)) / temperature;
        let difference = || left.iter().zip(right).map(|(l, r)| l - r);
        let rows = covariance.chunks_exact(left.len()).zip(difference());
        let row = |(row, d): (&[f64], f64)| {
            let products = row.iter().zip(difference()).map(|(c, d)| c * d);
            d * products.sum::<f64>()
        };
        // σ(−x) for 1 − σ(x), which is 0 for a large x: a pair is worth the same from either side.
        (sigmoid(x) * sigmoid(-x)).powi(2) * rows.map(row).sum::<f64>()
    }
}

/// 1 − |Σ_j w_j sign(λ_j·d)| of pairs.
fn by_halves(belief: &Belief, scores: &[&[f64]]) -> impl Fn(usize, usize) -> f64 {
    let utilities = utilities(belief, scores);
    let weights = belief.particles().weights().to_vec();
    move |left, right| {
        let xs = utilities[left].iter().zip(&utilities[right]);
        let signs = xs.zip(&weights).map(|((l, r), weight)| match l > r {
            true => *weight,
            false => -weight,
        });
        1.0 - signs.sum::<f64>().abs()
    }
}

/// λ·r/τ for every candidate and, within, every particle.
fn utilities(belief: &Belief, scores: &[&[f64]]) -> Vec<Vec<f64>> {
    let particles = belief.particles();
    scores
        .iter()
        .map(|scores| particles.utilities(scores))
        .collect()
}
