//! Does the model follow its preference?

/// The mean over the preferences of ⟨λ, ξ(λ)⟩, with ξ(λ) the values reached under λ; the greater the
/// better. `None` without a point.
#[must_use]
pub fn inner_product(lambdas: &[Vec<f64>], values: &[Vec<f64>]) -> Option<f64> {
    let products: Vec<f64> = lambdas
        .iter()
        .zip(values)
        .map(|(lambda, value)| {
            lambda
                .iter()
                .zip(value)
                .map(|(weight, value)| weight * value)
                .sum()
        })
        .collect();
    (!products.is_empty()).then(|| products.iter().sum::<f64>() / products.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_mean_of_the_weighted_values() {
        let lambdas = [vec![1.0, 0.0], vec![0.5, 0.5]];
        let values = [vec![2.0, 9.0], vec![1.0, 3.0]];
        assert_eq!(inner_product(&lambdas, &values), Some(2.0));
        assert_eq!(inner_product(&[], &[]), None);
    }
}
