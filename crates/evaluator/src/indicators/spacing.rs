//! How evenly points are spread.

/// Spacing (Schott 1995), the smaller the more even: the standard deviation, with N−1 in the denominator,
/// of the distance of each of the N points to its nearest other one,
///
/// ```text
/// d_j = min_{l≠j} ‖ξ_j − ξ_l‖₂        spacing = √( 1/(N−1) · Σ_j (d_j − d̄)² )
/// ```
///
/// All points count, dominated ones too: they are what the preferences of the grid gave. `None` for fewer
/// than two.
#[must_use]
pub fn spacing(points: &[Vec<f64>]) -> Option<f64> {
    let count = points.len();
    if count < 2 {
        return None;
    }
    let nearest: Vec<f64> = (0..count)
        .map(|j| {
            (0..count)
                .filter(|&l| l != j)
                .map(|l| distance(&points[j], &points[l]))
                .fold(f64::INFINITY, f64::min)
        })
        .collect();
    let mean = nearest.iter().sum::<f64>() / count as f64;
    let squares: f64 = nearest.iter().map(|d| (d - mean).powi(2)).sum();
    Some((squares / (count - 1) as f64).sqrt())
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_points_have_no_spacing() {
        assert_eq!(
            spacing(&[vec![0.0, 2.0], vec![1.0, 1.0], vec![2.0, 0.0]]),
            Some(0.0)
        );
        assert_eq!(spacing(&[vec![0.0, 2.0], vec![1.0, 1.0]]), Some(0.0));
    }

    #[test]
    fn uneven_points_have_the_deviation_of_their_nearest_distances() {
        // Nearest distances 1, 1, 3: mean 5/3, squares 4/9 + 4/9 + 16/9, over 2, root.
        let found = spacing(&[vec![0.0], vec![1.0], vec![4.0]]).expect("three points");
        assert!((found - (12.0f64 / 9.0).sqrt()).abs() < 1e-15);
        assert_eq!(spacing(&[vec![0.0]]), None);
    }
}
