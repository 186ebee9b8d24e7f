//! From a row of logits to the next token.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::ModelError;

/// How the next token is chosen. The filters apply in the order of the fields, as Hugging Face's do.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// > 1 makes tokens that were already seen (prompt included) less likely; 1 = off.
    pub repetition_penalty: f64,
    /// Logits are divided by it; 0 = greedy.
    pub temperature: f64,
    /// Only the k likeliest tokens; 0 = off.
    pub top_k: usize,
    /// Only the smallest set of the likeliest tokens whose probabilities add up to this; 1 = off.
    pub top_p: f64,
}

/// A token, and what it was drawn from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Drawn {
    pub token: u32,
    /// The logarithm of the probability that it was drawn with, all filters applied; 0 for greedy.
    pub log_prob: f64,
}

/// Log-probabilities under the model itself: no temperature, no filter, no penalty.
#[derive(Debug, Clone, PartialEq)]
pub struct Likelihood {
    /// That of the token that was drawn.
    pub log_prob: f64,
    /// The likeliest tokens, in order, each with its own.
    pub likeliest: Vec<(u32, f64)>,
}

impl Sampling {
    /// The likeliest token, always.
    pub fn greedy() -> Self {
        Self {
            repetition_penalty: 1.0,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
        }
    }

    /// From the model's own probabilities, with no filter. RLHF needs such samples for an unbiased gradient.
    pub fn exact() -> Self {
        Self {
            temperature: 1.0,
            ..Self::greedy()
        }
    }

    /// Every parameter in its range.
    pub fn check(&self) -> Result<(), ModelError> {
        let wrong = |name, value: String, expected| {
            Err(ModelError::Sampling {
                name,
                value,
                expected,
            })
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return wrong(
                "temperature",
                self.temperature.to_string(),
                "a number ≥ 0 (0 = greedy)",
            );
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top_p", self.top_p.to_string(), "a number in (0, 1]");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return wrong(
                "repetition_penalty",
                self.repetition_penalty.to_string(),
                "a number > 0",
            );
        }
        Ok(())
    }

    /// The next token of one row; `seen` holds the tokens in front of it.
    pub(crate) fn choose(&self, logits: &[f32], seen: &[u32], rng: &mut ChaCha8Rng) -> Drawn {
        let mut logits: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
        self.penalise(&mut logits, seen);
        if self.temperature == 0.0 {
            return Drawn {
                token: argmax(&logits),
                log_prob: 0.0,
            };
        }

        let mut candidates: Vec<u32> = (0..logits.len() as u32).collect();
        let descending = |a: &u32, b: &u32| {
            logits[*b as usize]
                .total_cmp(&logits[*a as usize])
                .then(a.cmp(b))
        };
        if self.top_k > 0 && self.top_k < candidates.len() {
            candidates.select_nth_unstable_by(self.top_k - 1, descending);
            candidates.truncate(self.top_k);
        }
        if self.top_p < 1.0 {
            candidates.sort_unstable_by(descending);
        }
        let values = candidates.iter().map(|&id| logits[id as usize]);
        let max = values.fold(f64::NEG_INFINITY, f64::max);
        let weight = |&id: &u32| ((logits[id as usize] - max) / self.temperature).exp();
        let mut weights: Vec<f64> = candidates.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        if self.top_p < 1.0 {
            let mut sum = 0.0;
            let enough = weights.iter().position(|w| {
                sum += w / total;
                sum >= self.top_p
            });
            weights.truncate(enough.map_or(weights.len(), |last| last + 1));
        }

        let total = weights.iter().sum::<f64>();
        let mut left = rng.random::<f64>() * total;
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        let drawn = drawn.unwrap_or(weights.len() - 1);
        let token = candidates[drawn];
        // Not the logarithm of the weight, which may be too small to have one.
        let log_weight = (logits[token as usize] - max) / self.temperature;
        Drawn {
            token,
            log_prob: log_weight - total.ln(),
        }
    }

    /// Positive logits of seen tokens are divided by the penalty, negative ones multiplied
    /// (Keskar et al., "CTRL", 2019, as Hugging Face applies it).
    fn penalise(&self, logits: &mut [f64], seen: &[u32]) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        let mut seen = seen.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for id in seen {
            let logit = &mut logits[id as usize];
            *logit = if *logit > 0.0 {
                *logit / self.repetition_penalty
            } else {
                *logit * self.repetition_penalty
            };
        }
    }
}

/// What the model makes of `token`, and of the `count` tokens that it finds likeliest.
pub(crate) fn likelihood(logits: &[f32], token: u32, count: usize) -> Likelihood {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let weights = logits.iter().map(|&logit| (f64::from(logit) - max).exp());
    let log_sum = max + weights.sum::<f64>().ln();
    let log_prob = |id: u32| f64::from(logits[id as usize]) - log_sum;
    let descending = |a: &u32, b: &u32| {
        let [a_logit, b_logit] = [a, b].map(|&id| logits[id as usize]);
        b_logit.total_cmp(&a_logit).then(a.cmp(b))
    };
    let mut likeliest: Vec<u32> = (0..logits.len() as u32).collect();
    let count = count.min(likeliest.len());
    if 0 < count && count < likeliest.len() {
        likeliest.select_nth_unstable_by(count - 1, descending);
    }
    likeliest.truncate(count);
    likeliest.sort_unstable_by(descending);
    Likelihood {
        log_prob: log_prob(token),
        likeliest: likeliest.into_iter().map(|id| (id, log_prob(id))).collect(),
    }
}

fn argmax(logits: &[f64]) -> u32 {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn shares(sampling: &Sampling, logits: &[f32], seen: &[u32]) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampling.choose(logits, seen, &mut rng).token as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_shares(found: &[f64], expected: &[f64]) {
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 0.015, "{found:?} against {expected:?}");
        }
    }

    #[test]
    fn temperature_sharpens() {
        let sampling = Sampling {
            temperature: 0.5,
            ..Sampling::greedy()
        };
        let logits = [0.0, 1.0, 2.0];
        let weights: Vec<f64> = [0.0f64, 2.0, 4.0].iter().map(|l| l.exp()).collect();
        let total: f64 = weights.iter().sum();
        let expected: Vec<f64> = weights.iter().map(|w| w / total).collect();
        assert_shares(&shares(&sampling, &logits, &[]), &expected);
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits = [0.5f32, 0.3, 0.15, 0.05].map(f32::ln);
        let top_k = Sampling {
            temperature: 1.0,
            top_k: 2,
            ..Sampling::greedy()
        };
        assert_shares(&shares(&top_k, &logits, &[]), &[0.625, 0.375, 0.0, 0.0]);
        let top_p = Sampling {
            temperature: 1.0,
            top_p: 0.9,
            ..Sampling::greedy()
        };
        assert_shares(
            &shares(&top_p, &logits, &[]),
            &[0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0],
        );
    }

    #[test]
    fn greedy_takes_the_first_of_the_best_unless_it_was_seen() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        assert_eq!(
            Sampling::greedy().choose(&[1.0, 2.0, 2.0], &[], &mut rng),
            Drawn {
                token: 1,
                log_prob: 0.0
            }
        );
        let penalised = Sampling {
            repetition_penalty: 1.5,
            ..Sampling::greedy()
        };
        assert_eq!(penalised.choose(&[1.9, 2.0], &[1], &mut rng).token, 0);
        assert_eq!(penalised.choose(&[-1.0, -1.2], &[0], &mut rng).token, 1);
    }

    #[test]
    fn a_token_comes_with_the_probability_it_was_drawn_with() {
        let logits = [0.5f32, 0.3, 0.15, 0.05].map(|p| p.ln() + 3.0);
        let check = |sampling: Sampling, probabilities: &[f64]| {
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            for _ in 0..50 {
                let Drawn { token, log_prob } = sampling.choose(&logits, &[], &mut rng);
                let expected = probabilities[token as usize].ln();
                assert!((log_prob - expected).abs() < 1e-6, "{token}: {log_prob}");
            }
        };
        check(Sampling::exact(), &[0.5, 0.3, 0.15, 0.05]);
        let cut = Sampling {
            top_p: 0.9,
            ..Sampling::exact()
        };
        check(cut, &[0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]);
    }

    #[test]
    fn likelihoods_are_the_models_own() {
        let logits = [0.5f32, 0.3, 0.15, 0.05].map(|p| p.ln() + 3.0);
        let found = likelihood(&logits, 2, 3);
        assert!((found.log_prob - 0.15f64.ln()).abs() < 1e-6, "{found:?}");
        for ((id, log_prob), (expected_id, p)) in
            (found.likeliest.iter()).zip([(0, 0.5f64), (1, 0.3), (2, 0.15)])
        {
            assert_eq!(*id, expected_id);
            assert!((log_prob - p.ln()).abs() < 1e-6, "{found:?}");
        }
        assert_eq!(found.likeliest.len(), 3);
        assert_eq!(likelihood(&logits, 3, 9).likeliest.len(), 4);
        assert_eq!(likelihood(&logits, 3, 0).likeliest, []);
    }

    #[test]
    fn a_parameter_out_of_range_is_named() {
        let message = Sampling {
            top_p: 0.0,
            ..Sampling::greedy()
        }
        .check()
        .unwrap_err()
        .to_string();
        assert!(message.contains("top_p = 0"), "{message}");
    }
}
