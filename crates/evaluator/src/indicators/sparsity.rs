//! How far apart the points of a front lie.

use panacea_objectives::non_dominated;

/// Sparsity as in PGMORL (Xu et al. 2020), the smaller the better: over the N non-dominated points, with
/// each objective's values sorted on its own,
///
/// ```text
/// 1/(N−1) · Σ_i Σ_j (v_i,(j+1) − v_i,(j))²
/// ```
///
/// It is not divided by the number of objectives. `None` for fewer than two non-dominated points.
#[must_use]
pub fn sparsity(points: &[Vec<f64>]) -> Option<f64> {
    let marks = non_dominated(points);
    let front: Vec<&Vec<f64>> = points
        .iter()
        .zip(marks)
        .filter_map(|(point, mark)| mark.then_some(point))
        .collect();
    if front.len() < 2 {
        return None;
    }
    let squared_gaps: f64 = (0..front[0].len())
        .map(|objective| {
            let mut values: Vec<f64> = front.iter().map(|point| point[objective]).collect();
            values.sort_by(f64::total_cmp);
            values
                .windows(2)
                .map(|pair| (pair[1] - pair[0]).powi(2))
                .sum::<f64>()
        })
        .sum();
    Some(squared_gaps / (front.len() - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_of_the_non_dominated_points_are_squared_and_averaged() {
        // Front: (0,3), (1,1), (3,0); gaps 1, 2 and 1, 2: (1 + 4 + 1 + 4) / 2.
        let points = [
            vec![3.0, 0.0],
            vec![0.0, 3.0],
            vec![1.0, 1.0],
            vec![0.5, 0.5],
        ];
        assert_eq!(sparsity(&points), Some(5.0));
    }

    #[test]
    fn a_single_point_has_none() {
        assert_eq!(sparsity(&[vec![1.0, 2.0]]), None);
        assert_eq!(sparsity(&[vec![1.0, 2.0], vec![0.0, 0.0]]), None);
        assert_eq!(sparsity(&[]), None);
    }
}
