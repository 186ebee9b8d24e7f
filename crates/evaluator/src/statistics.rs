//! Is a front ordered, and is what it shows more than noise?

use std::cmp::Ordering;

pub use panacea_objectives::{Estimate, estimate};
use serde::{Deserialize, Serialize};

/// The mean of `high[r] − low[r]` over records r, with the standard error of that mean: what the records
/// have in common cancels. `None` without a record.
///
/// # Panics
/// When the two are not of one length.
#[must_use]
pub fn paired_difference(high: &[f64], low: &[f64]) -> Option<Estimate> {
    assert_eq!(
        high.len(),
        low.len(),
        "a paired difference is over the same records"
    );
    let differences: Vec<f64> = high.iter().zip(low).map(|(high, low)| high - low).collect();
    estimate(&differences)
}

/// The correlation of the errors of two means, each over records of its own, of which they share some or all:
///
/// ```text
/// ρ = Σ_{r in both} d_r e_r / √(Σ_r d_r² Σ_r e_r²)
/// ```
///
/// with d and e the differences of the single records from either mean. Times both standard errors it estimates the covariance of
/// the two means; where all records are shared, that is the sample covariance divided by their number. Since ρ is the cosine of
/// an angle, it is between −1 and 1, and the correlations of any number of means belong together. 0 where a mean has no spread,
/// or no record is shared. `records` name the records of the values, in ascending order.
///
/// # Panics
/// When there is not one record for each value.
#[must_use]
pub fn error_correlation(values: [&[f64]; 2], records: [&[usize]; 2]) -> f64 {
    for (values, records) in values.iter().zip(records) {
        assert_eq!(values.len(), records.len(), "one record for each value");
    }
    let [d, e] = values.map(differences);
    let (mut i, mut k, mut shared) = (0, 0, 0.0);
    while i < d.len() && k < e.len() {
        match records[0][i].cmp(&records[1][k]) {
            Ordering::Less => i += 1,
            Ordering::Greater => k += 1,
            Ordering::Equal => {
                shared += d[i] * e[k];
                (i, k) = (i + 1, k + 1);
            }
        }
    }
    let squares = |of: &[f64]| of.iter().map(|x| x * x).sum::<f64>();
    // One root for each: the product of two small sums may be 0.
    let scale = squares(&d).sqrt() * squares(&e).sqrt();
    match scale > 0.0 {
        true => (shared / scale).clamp(-1.0, 1.0),
        false => 0.0,
    }
}

/// What is left of each value without their mean.
fn differences(values: &[f64]) -> Vec<f64> {
    let mean = estimate(values).map_or(0.0, |estimate| estimate.mean);
    values.iter().map(|value| value - mean).collect()
}

/// The 95 % interval of a share p of `count` cases (Wilson 1927), z = 1.96 standard errors of the true share around it:
///
/// ```text
/// (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n)
/// ```
///
/// Unlike p ± z √(p(1−p)/n) it stays within 0 and 1 and has a width where all cases agree. Where cases are shares
/// themselves, which vary less than 0 and 1 do, it is wider than need be. Without a case it is everything.
#[must_use]
pub fn wilson_interval(share: f64, count: usize) -> [f64; 2] {
    const Z: f64 = 1.959_963_984_540_054;
    if count == 0 {
        return [0.0, 1.0];
    }
    let n = count as f64;
    let scale = 1.0 + Z * Z / n;
    let centre = (share + Z * Z / (2.0 * n)) / scale;
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

/// Kendall's rank correlation τ-b of two sequences (Kendall 1945):
///
/// ```text
/// τ_b = (C − D) / √((n₀ − n_x)(n₀ − n_y))        n₀ = n(n−1)/2
/// ```
///
/// with C concordant and D discordant pairs, and n_x, n_y the pairs tied in x and in y. 1: y rises
/// wherever x does; `None` where x or y is constant, or shorter than two.
///
/// # Panics
/// When the two are not of one length.
#[must_use]
pub fn kendall_tau(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "a rank correlation is of paired values");
    let (mut score, mut untied_x, mut untied_y) = (0i64, 0u64, 0u64);
    for i in 0..x.len() {
        for j in 0..i {
            let [dx, dy] = [sign(x[i] - x[j]), sign(y[i] - y[j])];
            score += dx * dy;
            untied_x += dx.unsigned_abs();
            untied_y += dy.unsigned_abs();
        }
    }
    // One root of the product: without ties it is exact, and so is a τ of 1.
    let scale = (untied_x as f64 * untied_y as f64).sqrt();
    (scale > 0.0).then(|| score as f64 / scale)
}

fn sign(difference: f64) -> i64 {
    i64::from(difference > 0.0) - i64::from(difference < 0.0)
}

/// How one objective follows its weight along the grid of preferences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveOrdering {
    /// The objective.
    pub objective: String,
    /// [`kendall_tau`] of λ_i and J_i over the points; null where one of them is constant.
    pub kendall_tau: Option<f64>,
    /// The mean over records of J_i where λ_i is greatest, less J_i where it is least (on a grid of two
    /// objectives: the two ends).
    pub end_difference: f64,
    /// The standard error of that paired difference.
    pub end_difference_stderr: f64,
    /// The difference in standard errors; null where the error is 0.
    pub end_difference_in_stderrs: Option<f64>,
    /// Number of records labelled on the objective.
    pub records: usize,
}

impl ObjectiveOrdering {
    /// The ordering of an objective of which point p has the weight `weights[p]` and, for each record,
    /// the value `records[p][r]`. Where several points share the greatest (or the least) weight, their
    /// mean stands for them, record by record. `None` without a point or a record.
    ///
    /// # Panics
    /// When there is not one row of records per weight, or the rows differ in length.
    #[must_use]
    pub fn new(objective: &str, weights: &[f64], records: &[&[f64]]) -> Option<Self> {
        assert_eq!(weights.len(), records.len(), "one row of records per point");
        let values: Vec<f64> = records
            .iter()
            .map(|row| estimate(row).map(|e| e.mean))
            .collect::<Option<_>>()?;
        let greatest = weights.iter().copied().reduce(f64::max)?;
        let least = weights.iter().copied().reduce(f64::min)?;
        let difference = paired_difference(
            &mean_by_record(weights, records, greatest),
            &mean_by_record(weights, records, least),
        )?;
        Some(Self {
            objective: objective.to_owned(),
            kendall_tau: kendall_tau(weights, &values),
            end_difference: difference.mean,
            end_difference_stderr: difference.stderr,
            end_difference_in_stderrs: difference.in_stderrs(),
            records: records[0].len(),
        })
    }
}

/// The mean, record by record, over the points of a given weight.
fn mean_by_record(weights: &[f64], records: &[&[f64]], weight: f64) -> Vec<f64> {
    let rows: Vec<&[f64]> = weights
        .iter()
        .zip(records)
        .filter(|(w, _)| **w == weight)
        .map(|(_, row)| *row)
        .collect();
    (0..rows[0].len())
        .map(|record| rows.iter().map(|row| row[record]).sum::<f64>() / rows.len() as f64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_standard_error_is_of_the_mean() {
        let found = estimate(&[1.0, 2.0, 3.0, 4.0]).expect("values");
        assert_eq!(found.mean, 2.5);
        assert!((found.stderr - (5.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-15);
        assert_eq!(
            estimate(&[7.0]),
            Some(Estimate {
                mean: 7.0,
                stderr: 0.0
            })
        );
        assert_eq!(estimate(&[]), None);
    }

    #[test]
    fn pairing_removes_what_the_records_share() {
        let found = paired_difference(&[101.0, 5.0, -7.0], &[100.0, 4.0, -8.0]).expect("records");
        assert_eq!(
            found,
            Estimate {
                mean: 1.0,
                stderr: 0.0
            }
        );
    }

    #[test]
    fn errors_of_the_same_records_go_together() {
        let all = [0, 1, 2, 3];
        let (x, y) = ([1.0, 2.0, 4.0, 5.0], [2.0, 1.0, 7.0, 2.0]);
        let found = error_correlation([&x, &y], [&all, &all]);
        // By hand: means 3 and 3, Σ d e = 2 + 2 + 4 − 2 = 6, Σ d² = 10, Σ e² = 22.
        assert!((found - 6.0 / 220.0f64.sqrt()).abs() < 1e-15, "{found}");
        let twice = x.map(|value| 7.0 - 2.0 * value);
        assert!((error_correlation([&x, &twice], [&all, &all]) + 1.0).abs() < 1e-15);
        // Two of four records in common: d = (1, 2), e = (−1, −2) there.
        let found = error_correlation([&x, &y], [&all, &[2, 3, 8, 9]]);
        assert!((found - (-1.0 - 4.0) / 220.0f64.sqrt()).abs() < 1e-15);
        assert_eq!(error_correlation([&x, &y], [&all, &[4, 5, 6, 7]]), 0.0);
        assert_eq!(error_correlation([&x, &[3.0; 4]], [&all, &all]), 0.0);
        assert_eq!(error_correlation([&[1.0], &[2.0]], [&[0], &[0]]), 0.0);
    }

    /// Means of records drawn anew, again and again: how they vary together is what one draw says on average.
    #[test]
    fn the_covariance_is_that_of_means_over_new_records() {
        let mut state = 1u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        // Of 30 records the first 20 have a value of x, the last 20 one of y, so that 10 have both.
        let records: [Vec<usize>; 2] = [(0..20).collect(), (10..30).collect()];
        const DRAWS: usize = 20_000;
        let (mut means, mut said) = (Vec::with_capacity(DRAWS), 0.0);
        for _ in 0..DRAWS {
            let common: Vec<f64> = (0..30).map(|_| uniform()).collect();
            let columns: Vec<Vec<f64>> = ([(1.0, 0.5), (-2.0, 1.5)].iter().zip(&records))
                .map(|((shared, own), records)| {
                    let value = |r: &usize| shared * common[*r] + own * uniform();
                    records.iter().map(value).collect()
                })
                .collect();
            let [x, y] = [0, 1].map(|i| estimate(&columns[i]).expect("values"));
            let rho = error_correlation([&columns[0], &columns[1]], [&records[0], &records[1]]);
            said += rho * x.stderr * y.stderr / DRAWS as f64;
            means.push((x.mean, y.mean));
        }
        let (x, y): (Vec<f64>, Vec<f64>) = means.into_iter().unzip();
        let [d, e] = [&x, &y].map(|means| differences(means));
        let products: Vec<f64> = d.iter().zip(&e).map(|(d, e)| d * e).collect();
        let seen = estimate(&products).expect("draws");
        // The true one: 10 shared records of 20 · 20 pairs, each with 1 · −2 · (1/12).
        let truth = -10.0 / 400.0 * 2.0 / 12.0;
        assert!(
            (seen.mean - truth).abs() < 4.0 * seen.stderr,
            "{seen:?}, {truth}"
        );
        // Its bias is a share of 1/20.
        assert!((said - truth).abs() < 0.06 * -truth, "{said}, {truth}");
    }

    #[test]
    fn kendall_counts_pairs_and_ties() {
        assert_eq!(kendall_tau(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), Some(1.0));
        assert_eq!(kendall_tau(&[1.0, 2.0, 3.0], &[6.0, 5.0, 4.0]), Some(-1.0));
        // One discordant pair of six: (5 − 1) / 6.
        let one_swap =
            kendall_tau(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0]).expect("not constant");
        assert!((one_swap - 4.0 / 6.0).abs() < 1e-15);
        // x: one tie of three pairs; y untied: 2 / √(2·3).
        let tied = kendall_tau(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0]).expect("not constant");
        assert!((tied - 2.0 / 6.0f64.sqrt()).abs() < 1e-15);
        assert_eq!(kendall_tau(&[1.0, 2.0], &[3.0, 3.0]), None);
        assert_eq!(kendall_tau(&[1.0], &[3.0]), None);
    }

    proptest! {
        #![proptest_config(crate::cases::fixed())]

        #[test]
        fn prop_kendall_is_symmetric_bounded_and_odd(
            pairs in prop::collection::vec(((0u8..5).prop_map(f64::from), (0u8..5).prop_map(f64::from)), 0..12)
        ) {
            let (x, y): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let negative: Vec<f64> = y.iter().map(|v| -v).collect();
            let tau = kendall_tau(&x, &y);
            prop_assert_eq!(tau, kendall_tau(&y, &x));
            prop_assert_eq!(tau.map(|t| -t), kendall_tau(&x, &negative));
            prop_assert!(tau.is_none_or(|t| t.abs() <= 1.0 + 1e-12));
        }
    }

    #[test]
    fn an_interval_of_a_share_is_wilsons() {
        // Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
        for (cases, count, expected) in [
            (81, 263, [0.2553, 0.3662]),
            (15, 148, [0.0624, 0.1605]),
            (0, 20, [0.0, 0.1611]),
            (1, 29, [0.0061, 0.1718]),
        ] {
            let found = wilson_interval(f64::from(cases) / count as f64, count);
            for (found, expected) in found.into_iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 5e-5,
                    "{cases} of {count}: {found}"
                );
            }
        }
        assert_eq!(wilson_interval(0.0, 0), [0.0, 1.0]);
    }

    #[test]
    fn an_ordering_compares_the_ends_of_the_grid() {
        let rows: [&[f64]; 3] = [&[3.0, 5.0], &[2.0, 4.0], &[1.0, 2.0]];
        let ordering = ObjectiveOrdering::new("helpful", &[1.0, 0.5, 0.0], &rows).expect("records");
        assert_eq!(ordering.kendall_tau, Some(1.0));
        assert_eq!((ordering.end_difference, ordering.records), (2.5, 2));
        assert!((ordering.end_difference_stderr - 0.5).abs() < 1e-15);
        assert_eq!(ordering.end_difference_in_stderrs, Some(5.0));
        assert!(ObjectiveOrdering::new("helpful", &[1.0, 0.0], &[&[], &[]]).is_none());
    }

    #[test]
    fn points_of_one_weight_stand_together_at_an_end() {
        let rows: [&[f64]; 3] = [&[4.0, 4.0], &[1.0, 1.0], &[3.0, 1.0]];
        let ordering = ObjectiveOrdering::new("a", &[1.0, 0.0, 0.0], &rows).expect("records");
        assert_eq!(ordering.end_difference, 2.5);
    }
}
