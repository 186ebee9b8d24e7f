//! Supervised fine-tuning: the loss of one response.

use super::Term;

/// The SFT loss of a response: −log π(y|x), or its mean per token.
///
/// Averaged over the records of objective i it is −J_SFT,i, with J_SFT,i = E log π(y|x). Per token, every
/// record counts the same however long it is; summed, every token does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sft {
    /// Whether the loss is divided by the number of response tokens.
    pub per_token: bool,
}

impl Sft {
    /// The loss of a response of `tokens` tokens whose log-probabilities sum to `log_prob`.
    #[must_use]
    pub fn term(&self, log_prob: f64, tokens: usize) -> Term {
        // A response without tokens has a log-probability of 0, so its mean is taken as 0.
        let scale = if self.per_token {
            1.0 / tokens.max(1) as f64
        } else {
            1.0
        };
        Term {
            loss: -scale * log_prob,
            gradient: [-scale, 0.0],
            margin: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_the_negative_log_probability_and_its_derivative_constant() {
        let (log_prob, tokens, step) = (-12.0, 8, 1e-5);
        for (sft, expected) in [
            (Sft { per_token: false }, 12.0),
            (Sft { per_token: true }, 1.5),
        ] {
            let term = sft.term(log_prob, tokens);
            assert_eq!(term.loss, expected);
            let numeric = (sft.term(log_prob + step, tokens).loss
                - sft.term(log_prob - step, tokens).loss)
                / (2.0 * step);
            assert!((numeric - term.gradient[0]).abs() < 1e-9);
        }
    }
}
