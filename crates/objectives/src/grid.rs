//! Evenly spaced preferences.

use crate::Preference;

/// Divisions that give a front enough points to see and few enough to measure: 10 for up to three
/// objectives, then fewer, so that [`simplex_grid`] stays below 100 points. For more than twelve
/// objectives the grid has only the vertices.
#[must_use]
pub fn usual_divisions(objectives: usize) -> usize {
    match objectives {
        0..=3 => 10,
        4 => 6,
        5 => 4,
        6 => 3,
        7..=12 => 2,
        _ => 1,
    }
}

/// All preferences whose weights are multiples of 1/d, d = `divisions`: the simplex lattice of Das and
/// Dennis ("Normal-Boundary Intersection", 1998). There are C(m+d−1, d) of them, for m = `objectives`.
///
/// They come in descending lexicographic order: for two objectives from (1, 0) to (0, 1). With 0
/// divisions there is one composition only, and it gives the uniform preference; with 0 objectives
/// there is none.
#[must_use]
pub fn simplex_grid(objectives: usize, divisions: usize) -> Vec<Preference> {
    if objectives == 0 {
        return Vec::new();
    }
    if divisions == 0 {
        return vec![Preference::uniform(objectives)];
    }
    compositions(objectives, divisions)
        .into_iter()
        .map(|parts| {
            parts
                .iter()
                .map(|&part| part as f64 / divisions as f64)
                .collect()
        })
        .map(Preference::from_simplex)
        .collect()
}

/// All ways to write `total` as an ordered sum of `parts` non-negative integers, largest first part first.
fn compositions(parts: usize, total: usize) -> Vec<Vec<usize>> {
    if parts == 1 {
        return vec![vec![total]];
    }
    let mut all = Vec::new();
    for first in (0..=total).rev() {
        for rest in compositions(parts - 1, total - first) {
            let mut composition = Vec::with_capacity(parts);
            composition.push(first);
            composition.extend(rest);
            all.push(composition);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binomial(n: usize, k: usize) -> usize {
        (0..k).fold(1, |product, i| product * (n - i) / (i + 1))
    }

    #[test]
    fn the_usual_grids_have_less_than_a_hundred_points() {
        for objectives in 2..=12 {
            let points = simplex_grid(objectives, usual_divisions(objectives)).len();
            assert!((11..100).contains(&points), "{objectives}: {points}");
        }
    }

    #[test]
    fn the_number_of_points_is_the_number_of_compositions() {
        for objectives in 1..=6 {
            for divisions in 0..=8 {
                let grid = simplex_grid(objectives, divisions);
                assert_eq!(
                    grid.len(),
                    binomial(objectives + divisions - 1, divisions),
                    "m={objectives} d={divisions}"
                );
            }
        }
        assert!(simplex_grid(0, 3).is_empty());
    }

    #[test]
    fn every_point_is_on_the_simplex_once_and_in_descending_order() {
        let grid = simplex_grid(4, 6);
        for point in &grid {
            assert!(
                Preference::new(point.weights().to_vec()).as_ref() == Ok(point),
                "{point}"
            );
        }
        for pair in grid.windows(2) {
            assert!(pair[0].weights() > pair[1].weights());
        }
    }

    #[test]
    fn two_objectives_go_from_one_end_to_the_other() {
        let grid: Vec<String> = simplex_grid(2, 10)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(grid[0], "1,0");
        assert_eq!(grid[3], "0.7,0.3");
        assert_eq!(grid[10], "0,1");
        assert_eq!(grid.len(), 11);
    }
}
