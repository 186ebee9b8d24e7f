//! Rotary position embeddings: the frequencies, and how they are stretched for long contexts.

use std::f64::consts::TAU;

use serde::Serialize;

/// The rotary embedding of a model.
///
/// Pair *j* of a head's dimensions is rotated at position *p* by the angle *p·ω_j*, with
/// ω_j = θ^(−2j/d) before scaling (Su et al., RoFormer, 2021, eq. 15).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rope {
    /// The base θ.
    pub theta: f64,
    /// How the frequencies are changed for long contexts.
    pub scaling: RopeScaling,
}

/// A change of the rotary frequencies ω_j.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum RopeScaling {
    /// ω_j as they are.
    None,
    /// ω_j / factor (position interpolation, Chen et al. 2023).
    Linear {
        /// How many times longer the context became.
        factor: f64,
    },
    /// Llama 3.1's: wavelengths λ_j = 2π/ω_j longer than `original / low_freq_factor` are divided by `factor`,
    /// those shorter than `original / high_freq_factor` are kept, and between them the two are blended by
    /// t = (original/λ_j − low) / (high − low):  ω_j · ((1 − t)/factor + t).
    Llama3 {
        /// How many times longer the context became.
        factor: f64,
        /// `low_freq_factor`.
        low_freq_factor: f64,
        /// `high_freq_factor`.
        high_freq_factor: f64,
        /// The context length of the original training, in tokens.
        original_max_position_embeddings: usize,
    },
    /// ω_j / factors\[j\], one divisor for each pair of dimensions, as GGUF files store Llama 3.1's scaling.
    Factors(Vec<f32>),
}

impl Rope {
    /// The scaled frequencies ω_j, j = 0 .. head_dim/2.
    ///
    /// Computed in 64 bits and rounded once.
    pub fn inverse_frequencies(&self, head_dim: usize) -> Vec<f32> {
        (0..head_dim / 2)
            .map(|pair| {
                let frequency = self.theta.powf(-((2 * pair) as f64) / head_dim as f64);
                (frequency / self.divisor(pair, frequency)) as f32
            })
            .collect()
    }

    /// What the frequencies are divided by, pair by pair.
    pub(crate) fn divisors(&self, head_dim: usize) -> Vec<f32> {
        (0..head_dim / 2)
            .map(|pair| {
                let frequency = self.theta.powf(-((2 * pair) as f64) / head_dim as f64);
                self.divisor(pair, frequency) as f32
            })
            .collect()
    }

    fn divisor(&self, pair: usize, frequency: f64) -> f64 {
        match &self.scaling {
            RopeScaling::None => 1.0,
            RopeScaling::Linear { factor } => *factor,
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                let original = *original_max_position_embeddings as f64;
                let wavelength = TAU / frequency;
                if wavelength > original / low_freq_factor {
                    *factor
                } else if wavelength < original / high_freq_factor {
                    1.0
                } else {
                    let blend = (original / wavelength - low_freq_factor)
                        / (high_freq_factor - low_freq_factor);
                    1.0 / ((1.0 - blend) / factor + blend)
                }
            }
            // One factor for each pair: checked where the file is read. A pair without one is left alone.
            RopeScaling::Factors(factors) => {
                factors.get(pair).map_or(1.0, |&factor| f64::from(factor))
            }
        }
    }

    /// Llama 3.1's rule, where per-pair divisors follow it with the constants that its models were published with.
    ///
    /// A configuration file can state that rule but not a list of divisors.
    pub(crate) fn as_llama3(&self, head_dim: usize) -> Option<Rope> {
        let RopeScaling::Factors(factors) = &self.scaling else {
            return None;
        };
        let factor = factors.iter().copied().fold(1.0_f32, f32::max);
        let candidate = Rope {
            theta: self.theta,
            scaling: RopeScaling::Llama3 {
                factor: f64::from(factor),
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192,
            },
        };
        let agrees = self
            .inverse_frequencies(head_dim)
            .iter()
            .zip(candidate.inverse_frequencies(head_dim))
            .all(|(ours, theirs)| (ours - theirs).abs() <= 1e-5 * theirs);
        agrees.then_some(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama3() -> Rope {
        Rope {
            theta: 500_000.0,
            scaling: RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192,
            },
        }
    }

    #[test]
    fn unscaled_frequencies_are_powers_of_theta() {
        let rope = Rope {
            theta: 10_000.0,
            scaling: RopeScaling::None,
        };
        let frequencies = rope.inverse_frequencies(8);
        for (found, expected) in frequencies.iter().zip([1.0, 0.1, 0.01, 0.001]) {
            assert!((found - expected).abs() < 1e-7, "{found} {expected}");
        }
        let linear = Rope {
            theta: 10_000.0,
            scaling: RopeScaling::Linear { factor: 4.0 },
        };
        for (found, plain) in linear.inverse_frequencies(8).iter().zip(&frequencies) {
            assert_eq!(*found, plain / 4.0);
        }
    }

    /// Values of transformers 5.23 `_compute_llama3_parameters` for head_dim 128, theta 500000, factor 8, 1, 4, 8192.
    #[test]
    fn llama3_frequencies_are_those_of_transformers() {
        let frequencies = llama3().inverse_frequencies(128);
        for (pair, expected) in LLAMA3_REFERENCE {
            let found = frequencies[pair];
            assert!(
                (found - expected).abs() <= 2e-6 * expected,
                "pair {pair}: {found} {expected}"
            );
        }
    }

    const LLAMA3_REFERENCE: [(usize, f32); 6] = [
        (0, 1.0),
        (20, 0.016_560_44),
        (30, 0.001_371_893_7),
        (32, 0.000_524_846),
        (40, 3.428_102_4e-5),
        (63, 3.068_926e-7),
    ];

    #[test]
    fn factors_that_follow_llama3_are_recognised() {
        let exact = llama3();
        let plain = Rope {
            theta: exact.theta,
            scaling: RopeScaling::None,
        };
        let factors = plain
            .inverse_frequencies(128)
            .iter()
            .zip(exact.inverse_frequencies(128))
            .map(|(a, b)| a / b)
            .collect();
        let stored = Rope {
            theta: exact.theta,
            scaling: RopeScaling::Factors(factors),
        };
        assert_eq!(stored.as_llama3(128), Some(exact));

        let other = Rope {
            theta: 1e4,
            scaling: RopeScaling::Factors(vec![1.0, 3.0, 2.0, 1.0]),
        };
        assert_eq!(other.as_llama3(8), None);
    }
}
