//! A batch whose records follow several preferences: the losses of each group, and the coefficient of each response.

use crate::{Aggregate, Aggregation, Judgement, Preference, RecordTerms, mismatched_kl};

/// The records of a batch, dealt to preferences in turn: record r follows the preference r mod the number of groups.
///
/// ```text
/// L_{g,i} = (1/n_{g,i}) Σ ℓ_{r,j,i}                  over the judgements j of records r of group g that have a label on i
/// ∂aggregate/∂output = (1/G) Σ_i w_{g,i} / n_{g,i} · ∂ℓ_{r,j,i}/∂output        w_{g,i} = ∂aggregate_g/∂L_{g,i}
/// ```
///
/// Each group is aggregated by its own λ, and the aggregates of the G groups are averaged. The batch is the whole batch
/// of a step: n and the worst objective belong to all of it, also where its gradient is accumulated over micro-batches.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch<'a> {
    preferences: &'a [Preference],
    /// n_{g,i}: judgements of group g that are labelled on objective i.
    counts: Vec<Vec<usize>>,
    records: usize,
}

impl<'a> Batch<'a> {
    /// Deals records, of which these are the judgements, to `preferences`. Those that would be left without a record
    /// are left out.
    ///
    /// # Panics
    /// When there is no preference or no record, or a judgement has not one entry per objective.
    #[must_use]
    pub fn deal<'j>(
        preferences: &'a [Preference],
        judgements: impl IntoIterator<Item = &'j [Judgement]>,
    ) -> Self {
        let objectives = preferences[0].len();
        let mut counts = vec![vec![0; objectives]; preferences.len()];
        let mut records = 0;
        for (record, judgements) in judgements.into_iter().enumerate() {
            records += 1;
            let counts = &mut counts[record % preferences.len()];
            for Judgement { labels, .. } in judgements {
                assert_eq!(
                    labels.len(),
                    objectives,
                    "record {record}: one entry per objective"
                );
                for (count, label) in counts.iter_mut().zip(labels) {
                    *count += usize::from(label.is_some());
                }
            }
        }
        assert!(records > 0, "a batch without records");
        let groups = preferences.len().min(records);
        counts.truncate(groups);
        Self {
            preferences: &preferences[..groups],
            counts,
            records,
        }
    }

    /// m.
    #[must_use]
    pub fn objectives(&self) -> usize {
        self.preferences[0].len()
    }

    /// G.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.preferences.len()
    }

    /// The preference that a record follows.
    #[must_use]
    pub fn preference(&self, record: usize) -> &'a Preference {
        &self.preferences[self.group(record)]
    }

    /// The group of a record.
    #[must_use]
    pub fn group(&self, record: usize) -> usize {
        record % self.preferences.len()
    }

    /// z₀ of each group, from the log-ratio of each record: [`mismatched_kl`] under the group's preference.
    ///
    /// # Panics
    /// When there is not one log-ratio a record.
    #[must_use]
    pub fn kl(&self, log_ratios: &[f64]) -> Vec<f64> {
        assert_eq!(log_ratios.len(), self.records, "one log-ratio a record");
        let of_group = |group| log_ratios.iter().skip(group).step_by(self.groups());
        (0..self.groups())
            .map(|group| mismatched_kl(of_group(group).copied()))
            .collect()
    }

    /// L_{g,i}, from the terms of all records; `None` where no judgement of a group is labelled on i.
    #[must_use]
    pub fn losses(&self, terms: &[RecordTerms]) -> Vec<Vec<Option<f64>>> {
        let mut sums = vec![vec![0.0; self.objectives()]; self.groups()];
        for (record, terms) in terms.iter().enumerate() {
            for (i, sum) in sums[self.group(record)].iter_mut().enumerate() {
                for term in terms.of(i) {
                    *sum += term.loss;
                }
            }
        }
        let mean = |(sums, counts): (Vec<f64>, &Vec<usize>)| {
            let each = sums.into_iter().zip(counts);
            each.map(|(sum, &n)| (n > 0).then(|| sum / n as f64))
                .collect()
        };
        sums.into_iter().zip(&self.counts).map(mean).collect()
    }

    /// The aggregate of each group under its preference, from [`Self::losses`].
    ///
    /// # Panics
    /// As [`Aggregation::aggregate`] does.
    #[must_use]
    pub fn aggregate(
        &self,
        aggregation: &Aggregation,
        losses: &[Vec<Option<f64>>],
    ) -> Vec<Aggregate> {
        let each = self.preferences.iter().zip(losses);
        each.map(|(preference, losses)| aggregation.aggregate(preference, losses))
            .collect()
    }

    /// The aggregates before anything is known of the losses; `None` where their weights depend on losses.
    #[must_use]
    pub fn aggregate_beforehand(&self, aggregation: &Aggregation) -> Option<Vec<Aggregate>> {
        match aggregation {
            Aggregation::Linear => {
                // A loss of 0 wherever a group has a label.
                let zeros =
                    |counts: &Vec<usize>| counts.iter().map(|&n| (n > 0).then_some(0.0)).collect();
                let zeros: Vec<_> = self.counts.iter().map(zeros).collect();
                Some(self.aggregate(aggregation, &zeros))
            }
            Aggregation::Tchebycheff { .. } => None,
        }
    }

    /// ∂(mean of the groups' aggregates)/∂output, one number for each output of the records from `first` on, of which these
    /// are the terms.
    ///
    /// # Panics
    /// When there is not one aggregate per group.
    #[must_use]
    pub fn coefficients(
        &self,
        aggregates: &[Aggregate],
        first: usize,
        terms: &[RecordTerms],
    ) -> Vec<f64> {
        assert_eq!(aggregates.len(), self.groups(), "one aggregate per group");
        let mut coefficients = Vec::new();
        for (record, terms) in terms.iter().enumerate() {
            let group = self.group(first + record);
            let start = coefficients.len();
            coefficients.resize(start + terms.outputs, 0.0);
            let of_record = &mut coefficients[start..];
            for judgement in &terms.judgements {
                for (i, term) in judgement.terms.iter().enumerate() {
                    let weight = aggregates[group].weights[i];
                    // Left out rather than multiplied by 0: the derivative may be infinite.
                    let Some(term) = term.as_ref().filter(|_| weight != 0.0) else {
                        continue;
                    };
                    let share = weight / self.counts[group][i] as f64 / self.groups() as f64;
                    for (response, gradient) in judgement.responses.iter().zip(term.gradient) {
                        if let Some(response) = response {
                            of_record[response * terms.width + i % terms.width] += share * gradient;
                        }
                    }
                }
            }
        }
        coefficients
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dpo, DpoLoss, Loss, Record, Sft};

    fn preferences(weights: &[[f64; 2]]) -> Vec<Preference> {
        let preference =
            |weights: &[f64; 2]| Preference::new(weights.to_vec()).expect("a preference");
        weights.iter().map(preference).collect()
    }

    fn dpo() -> Loss {
        let plain = DpoLoss::Sigmoid {
            label_smoothing: 0.0,
        };
        Loss::Dpo(Dpo::new(0.5, plain, 0.0).expect("valid"))
    }

    fn terms(loss: &Loss, outputs: &[f64], judgements: &[Judgement]) -> RecordTerms {
        loss.terms(&Record {
            outputs,
            reference: &vec![-10.0; outputs.len()],
            kl: 0.0,
            tokens: &vec![5; outputs.len()],
            judgements,
        })
    }

    #[test]
    fn means_are_over_labelled_judgements_only() {
        let judgements = [
            vec![Judgement::pair(0, 1, vec![Some(1.0), None])],
            vec![Judgement::pair(0, 1, vec![Some(1.0), Some(0.0)])],
            vec![Judgement::pair(0, 1, vec![None, None])],
        ];
        let outputs = [[-9.0, -11.0], [-12.0, -10.0], [-10.0, -10.0]];
        let records = outputs.iter().zip(&judgements);
        let terms: Vec<_> = records
            .map(|(outputs, judgements)| terms(&dpo(), outputs, judgements))
            .collect();
        let preferences = preferences(&[[0.5, 0.5]]);
        let batch = Batch::deal(&preferences, judgements.iter().map(Vec::as_slice));
        let losses = batch.losses(&terms);
        let first = |i: usize| terms[i].of(0).next().expect("labelled").loss;
        assert_eq!(losses[0][0], Some((first(0) + first(1)) / 2.0));

        let aggregates = batch.aggregate(&Aggregation::Linear, &losses);
        let coefficients = batch.coefficients(&aggregates, 0, &terms);
        let [both, other] = [0, 1].map(|i| terms[1].of(i).next().expect("labelled").gradient[0]);
        assert!((coefficients[2] - (0.25 * both + 0.5 * other)).abs() < 1e-15);
        assert_eq!(coefficients[4..], [0.0, 0.0]);
        // Weights that do not depend on losses are known before them.
        let beforehand = batch
            .aggregate_beforehand(&Aggregation::Linear)
            .expect("linear");
        assert_eq!(batch.coefficients(&beforehand, 0, &terms), coefficients);
    }

    #[test]
    fn every_group_has_its_own_preference_and_counts() {
        let sft = Loss::Sft(Sft { per_token: true });
        let judgements = [
            vec![Judgement::single(vec![Some(1.0), None])],
            vec![Judgement::single(vec![Some(1.0), None])],
            vec![Judgement::single(vec![None, Some(1.0)])],
        ];
        let outputs = [-10.0, -20.0, -30.0];
        let records = outputs.iter().zip(&judgements);
        let terms: Vec<_> = records
            .map(|(&output, judgements)| terms(&sft, &[output], judgements))
            .collect();
        let preferences = preferences(&[[0.25, 0.75], [0.5, 0.5]]);
        let batch = Batch::deal(&preferences, judgements.iter().map(Vec::as_slice));
        let losses = batch.losses(&terms);
        assert_eq!(losses, [vec![Some(2.0), Some(6.0)], vec![Some(4.0), None]]);
        let aggregates = batch.aggregate(&Aggregation::Linear, &losses);
        // 1/2 groups · λ_i / n · 1/5 tokens; the second half of the batch as it is when it comes alone.
        let expected = [-0.25 / 10.0, -0.5 / 10.0, -0.75 / 10.0];
        let coefficients = batch.coefficients(&aggregates, 0, &terms);
        for (found, expected) in coefficients.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15);
        }
        assert_eq!(
            batch.coefficients(&aggregates, 1, &terms[1..]),
            coefficients[1..]
        );
        assert_eq!(batch.preference(2), &preferences[0]);
    }

    #[test]
    fn a_group_has_a_kl_of_its_own_that_is_never_negative() {
        let judgements = vec![vec![Judgement::single(vec![Some(1.0), None])]; 5];
        let preferences = preferences(&[[0.25, 0.75], [0.5, 0.5]]);
        let batch = Batch::deal(&preferences, judgements.iter().map(Vec::as_slice));
        assert_eq!(batch.kl(&[1.0, -4.0, 2.0, 3.0, 6.0]), [3.0, 0.0]);
    }

    #[test]
    fn a_group_without_a_record_does_not_count() {
        let judgements = [Judgement::single(vec![Some(1.0), None])];
        let preferences = preferences(&[[0.25, 0.75], [0.5, 0.5]]);
        assert_eq!(Batch::deal(&preferences, [&judgements[..]]).groups(), 1);
    }
}
