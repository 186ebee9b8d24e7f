//! Numbers and preferences as people read them in pictures, tables and sentences.

use panacea_objectives::rounded_weight;

/// A number with a true minus sign, and without one where nothing but zeros is shown.
pub(crate) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.chars().all(|c| c == '0' || c == '.') => digits.to_owned(),
        Some(digits) => format!("−{digits}"),
        None => text,
    }
}

/// A preference, with at most two decimals: `(0.5, 0.5)`.
pub(crate) fn preference(lambda: &[f64]) -> String {
    let weights: Vec<String> = (lambda.iter())
        .map(|&weight| rounded_weight(weight, 2))
        .collect();
    format!("({})", weights.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_has_two_decimals_at_most() {
        assert_eq!(preference(&[1.0, 0.0]), "(1, 0)");
        assert_eq!(preference(&[1.0 / 3.0, 2.0 / 3.0]), "(0.33, 0.67)");
    }

    #[test]
    fn zeros_have_no_sign() {
        assert_eq!(number(-0.004, 2), "0.00");
        assert_eq!(number(-0.5, 1), "−0.5");
    }
}
