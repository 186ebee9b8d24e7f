//! From a row of logits to the next token.

mod row;

use crate::ModelError;
use row::Temperature;
pub(crate) use row::{LogitsRow, Unread};

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

    /// Whether tokens are drawn, each with a random number.
    pub(crate) fn draws(&self) -> bool {
        self.temperature > 0.0
    }

    /// The next token of a row, drawn with the random number `u` in 0 … 1; the blocks to be read first, if there are any. What
    /// was seen is already penalised.
    pub(crate) fn choose(&self, row: &LogitsRow<'_>, u: f64) -> Result<Drawn, Unread> {
        if !self.draws() {
            return Ok(Drawn {
                token: row.argmax()?,
                log_prob: 0.0,
            });
        }
        let max = row.max();
        // Not the logarithm of the weight, which may be too small to have one.
        let log_weight = |logit: f64| (logit - max) / self.temperature;
        let all = || row.weights(Temperature::OfSampling(self.temperature));
        let is_cut = self.top_k > 0 && self.top_k < row.vocabulary();
        if !is_cut && self.top_p == 1.0 {
            let weights = all();
            let token = row.at_share(u, &weights, self.temperature)?;
            let total: f64 = weights.iter().sum();
            return Ok(Drawn {
                token,
                log_prob: log_weight(row.logit(token)?) - total.ln(),
            });
        }

        let weight = |&(_, logit): &(u32, f32)| log_weight(f64::from(logit)).exp();
        // As many of the first as have this weight together.
        let first_of = |candidates: &[(u32, f32)], wanted: f64| {
            let mut sum = 0.0;
            let reaches = |candidate| {
                sum += weight(candidate);
                sum >= wanted
            };
            candidates.iter().position(reaches).map(|last| last + 1)
        };
        let candidates = if is_cut {
            let count = self.top_k;
            let mut candidates =
                row.likeliest(count, |some| (some.len() >= count).then_some(count))?;
            if self.top_p < 1.0 {
                let wanted = self.top_p * candidates.iter().map(weight).sum::<f64>();
                let kept = first_of(&candidates, wanted).unwrap_or(count);
                candidates.truncate(kept);
            }
            candidates
        } else {
            let wanted = self.top_p * all().iter().sum::<f64>();
            row.likeliest(1, |some| first_of(some, wanted))?
        };

        let total: f64 = candidates.iter().map(weight).sum();
        let mut left = u * total;
        let drawn = candidates.iter().position(|candidate| {
            left -= weight(candidate);
            left < 0.0
        });
        let (token, logit) = candidates[drawn.unwrap_or(candidates.len() - 1)];
        Ok(Drawn {
            token,
            log_prob: log_weight(f64::from(logit)) - total.ln(),
        })
    }

    /// Whether tokens that were seen are to be made less likely.
    pub(crate) fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0
    }

    /// Positive logits of `seen` tokens are divided by the penalty, negative ones multiplied
    /// (Keskar et al., "CTRL", 2019, as Hugging Face applies it).
    pub(crate) fn penalise(&self, logits: &mut [f32], seen: &[u32]) {
        let penalty = self.repetition_penalty;
        let mut seen = seen.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for id in seen {
            let logit = &mut logits[id as usize];
            let penalised = if *logit > 0.0 {
                f64::from(*logit) / penalty
            } else {
                f64::from(*logit) * penalty
            };
            // Of a penalty near 0, what 32 bits do not hold.
            *logit = penalised.clamp(f32::MIN.into(), f32::MAX.into()) as f32;
        }
    }
}

/// What the model makes of `token`, and of the `count` tokens that it finds likeliest.
pub(crate) fn likelihood(
    row: &LogitsRow<'_>,
    token: u32,
    count: usize,
) -> Result<Likelihood, Unread> {
    let total: f64 = row.weights(Temperature::OfModel).iter().sum();
    let log_sum = row.max() + total.ln();
    let likeliest = match count {
        0 => Vec::new(),
        _ => row.likeliest(count, |some| (some.len() >= count).then_some(count))?,
    };
    let with_log_prob = |(id, logit): (u32, f32)| (id, f64::from(logit) - log_sum);
    Ok(Likelihood {
        log_prob: row.logit(token)? - log_sum,
        likeliest: likeliest.into_iter().map(with_log_prob).collect(),
    })
}

#[cfg(test)]
mod tests {
    use panacea_kernels::{logit_blocks, select_logit_blocks};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Drawn from logits that lie on the host.
    fn choose(sampling: &Sampling, logits: &[f32], seen: &[u32], rng: &mut ChaCha8Rng) -> Drawn {
        let mut logits = logits.to_vec();
        sampling.penalise(&mut logits, seen);
        sampling
            .choose(&LogitsRow::here(logits), rng.random())
            .unwrap()
    }

    fn shares(sampling: &Sampling, logits: &[f32], seen: &[u32]) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[choose(sampling, logits, seen, &mut rng).token as usize] += 1.0 / 20_000.0;
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
            choose(&Sampling::greedy(), &[1.0, 2.0, 2.0], &[], &mut rng),
            Drawn {
                token: 1,
                log_prob: 0.0
            }
        );
        let penalised = Sampling {
            repetition_penalty: 1.5,
            ..Sampling::greedy()
        };
        assert_eq!(choose(&penalised, &[1.9, 2.0], &[1], &mut rng).token, 0);
        assert_eq!(choose(&penalised, &[-1.0, -1.2], &[0], &mut rng).token, 1);
    }

    #[test]
    fn a_token_comes_with_the_probability_it_was_drawn_with() {
        let logits = [0.5f32, 0.3, 0.15, 0.05].map(|p| p.ln() + 3.0);
        let check = |sampling: Sampling, probabilities: &[f64]| {
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            for _ in 0..50 {
                let Drawn { token, log_prob } = choose(&sampling, &logits, &[], &mut rng);
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
        let row = LogitsRow::here(&logits[..]);
        let found = likelihood(&row, 2, 3).unwrap();
        assert!((found.log_prob - 0.15f64.ln()).abs() < 1e-6, "{found:?}");
        for ((id, log_prob), (expected_id, p)) in
            (found.likeliest.iter()).zip([(0, 0.5f64), (1, 0.3), (2, 0.15)])
        {
            assert_eq!(*id, expected_id);
            assert!((log_prob - p.ln()).abs() < 1e-6, "{found:?}");
        }
        assert_eq!(found.likeliest.len(), 3);
        assert_eq!(likelihood(&row, 3, 9).unwrap().likeliest.len(), 4);
        assert_eq!(likelihood(&row, 3, 0).unwrap().likeliest, []);
    }

    /// The definitions, one after the other, over all tokens in the order of their logits.
    fn by_definition(sampling: &Sampling, logits: &[f32], u: f64) -> (u32, f64) {
        let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
        let logit = |token: &u32| f64::from(logits[*token as usize]);
        let is_cut = sampling.top_k > 0 && sampling.top_k < tokens.len();
        if is_cut || sampling.top_p < 1.0 {
            tokens.sort_by(|a, b| logit(b).total_cmp(&logit(a)));
        }
        if is_cut {
            tokens.truncate(sampling.top_k);
        }
        let max = tokens.iter().map(logit).fold(f64::NEG_INFINITY, f64::max);
        let weight = |token: &u32| ((logit(token) - max) / sampling.temperature).exp();
        let total = |tokens: &[u32]| tokens.iter().map(weight).sum::<f64>();
        // Weights of the first, the first two, and so on.
        let sums = |tokens: &[u32]| -> Vec<f64> {
            let add = |sum: &mut f64, token: &u32| {
                *sum += weight(token);
                Some(*sum)
            };
            tokens.iter().scan(0.0, add).collect()
        };
        let wanted = sampling.top_p * total(&tokens);
        if sampling.top_p < 1.0
            && let Some(last) = sums(&tokens).iter().position(|&sum| sum >= wanted)
        {
            tokens.truncate(last + 1);
        }
        let passed = u * total(&tokens);
        let drawn = sums(&tokens).iter().position(|&sum| sum > passed);
        let drawn = drawn.unwrap_or(tokens.len() - 1);
        (
            tokens[drawn],
            (weight(&tokens[drawn]) / total(&tokens)).ln(),
        )
    }

    /// A row is read as from a device: nothing of it but what is asked for.
    fn in_blocks<T>(
        logits: &[f32],
        temperature: f64,
        ask: impl Fn(&LogitsRow<'_>) -> Result<T, Unread>,
    ) -> (T, usize) {
        let device = burn_tensor::Device::flex();
        let data = burn_tensor::TensorData::new(logits.to_vec(), [1, logits.len()]);
        let tensor = burn_tensor::Tensor::<2>::from_data(data, &device);
        let values = |x: burn_tensor::Tensor<2>| x.into_data().try_to_vec::<f32>().unwrap();
        let known = values(logit_blocks(&tensor, &[temperature]));
        let mut row = LogitsRow::on_device(logits.len(), &known);
        let mut read = 0;
        loop {
            match ask(&row) {
                Ok(answer) => return (answer, read),
                Err(Unread(blocks)) => {
                    for block in blocks {
                        read += 1;
                        row.give(block, &values(select_logit_blocks(&tensor, &[[0, block]])));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_read_in_blocks_is_drawn_as_from_the_whole_row_and_by_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let mut most = [0; 2];
        for case in 0..600 {
            let vocabulary = [3, 255, 300, 5000, 20_000][case % 5];
            let spread = [1.0, 6.0, 25.0][case % 3];
            // Some logits are equal.
            let logits: Vec<f32> = (0..vocabulary)
                .map(|_| (spread * rng.random::<f32>() * 64.0).round() / 64.0)
                .collect();
            let sampling = Sampling {
                temperature: [0.0, 0.3, 1.0, 1.7][case % 4],
                top_k: [0, 0, 1, 40, 700][rng.random_range(0..5)],
                top_p: [1.0, 1.0, 0.95, 0.3][rng.random_range(0..4)],
                ..Sampling::greedy()
            };
            let u: f64 = rng.random();
            let what = format!("{case}: {vocabulary} tokens, {sampling:?}, {u}");
            let whole = LogitsRow::here(&logits[..]);
            let expected = sampling.choose(&whole, u).unwrap();
            let divisor = if sampling.draws() {
                sampling.temperature
            } else {
                1.0
            };
            let (found, read) = in_blocks(&logits, divisor, |row| sampling.choose(row, u));
            assert_eq!(found.token, expected.token, "{what}");
            assert!((found.log_prob - expected.log_prob).abs() < 1e-5, "{what}");
            let is_one = !sampling.draws() || (sampling.top_k == 0 && sampling.top_p == 1.0);
            most[usize::from(is_one)] = read.max(most[usize::from(is_one)]);
            if sampling.draws() {
                let (token, log_prob) = by_definition(&sampling, &logits, u);
                assert_eq!(expected.token, token, "{what}");
                assert!((expected.log_prob - log_prob).abs() < 1e-9, "{what}");
            }
            let count = rng.random_range(0..30);
            let expected = likelihood(&whole, found.token, count).unwrap();
            let (found, _) = in_blocks(&logits, divisor, |row| likelihood(row, found.token, count));
            let tokens = |l: &Likelihood| l.likeliest.iter().map(|of| of.0).collect::<Vec<_>>();
            assert_eq!(tokens(&found), tokens(&expected), "{what}");
            assert!((found.log_prob - expected.log_prob).abs() < 1e-5, "{what}");
        }
        assert_eq!(most[1], 1, "one block is enough to draw from all tokens");
        assert!(most[0] > 1);
    }

    #[test]
    fn logits_that_are_no_numbers_do_no_harm() {
        for logits in [[f32::NAN; 3], [f32::NEG_INFINITY; 3], [f32::INFINITY; 3]] {
            for (top_k, top_p) in [(0, 1.0), (2, 1.0), (0, 0.5)] {
                let sampling = Sampling {
                    top_k,
                    top_p,
                    ..Sampling::exact()
                };
                let drawn = sampling.choose(&LogitsRow::here(&logits[..]), 0.5).unwrap();
                assert!(drawn.token < 3);
            }
        }
        // A block of which nothing can be drawn changes nothing.
        let logits = [[0.0; 256], [f32::NEG_INFINITY; 256]].concat();
        let draw = |row: &LogitsRow<'_>| Sampling::exact().choose(row, 0.75);
        let (found, _) = in_blocks(&logits, 1.0, draw);
        assert_eq!(found, draw(&LogitsRow::here(&logits[..])).unwrap());
        assert_eq!(found.token, 192);
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
