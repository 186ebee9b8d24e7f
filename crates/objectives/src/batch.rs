//! The losses of a batch of partly labelled records, and the coefficient of each of its responses.

use crate::{Dpo, PairLogProbs, PairTerm, SftTerm};

/// What a record contributes to one objective: a loss, and its derivative with respect to the summed
/// log-probability of each of its responses.
pub trait Term {
    /// ℓ.
    fn loss(&self) -> f64;
    /// ∂ℓ/∂log π(y_j), one number per response of the record.
    fn d_policy(&self) -> &[f64];
}

impl Term for PairTerm {
    fn loss(&self) -> f64 {
        self.loss
    }

    fn d_policy(&self) -> &[f64] {
        &self.d_policy
    }
}

impl Term for SftTerm {
    fn loss(&self) -> f64 {
        self.loss
    }

    fn d_policy(&self) -> &[f64] {
        &self.d_policy
    }
}

/// The terms of all records of a batch on all m objectives; a record may lack some.
///
/// ```text
/// L_i = (1/n_i) Σ_{records r labelled on i} ℓ_{r,i}                       n_i: how many they are
/// ∂aggregate/∂log π(y_{r,j}) = Σ_i w_i / n_i · ∂ℓ_{r,i}/∂log π(y_{r,j})    w_i = ∂aggregate/∂L_i
/// ```
///
/// The batch is the whole batch of a step: n_i and the worst objective belong to all of it, also where
/// the gradient is accumulated over micro-batches.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectiveBatch<T> {
    objectives: usize,
    /// One row per record, one entry per objective.
    terms: Vec<Vec<Option<T>>>,
}

impl<T: Term> ObjectiveBatch<T> {
    /// A batch from the terms of each record, `None` where the record is not labelled.
    ///
    /// # Panics
    /// When a record has not one entry per objective.
    #[must_use]
    pub fn new(objectives: usize, terms: Vec<Vec<Option<T>>>) -> Self {
        for (record, row) in terms.iter().enumerate() {
            assert_eq!(
                row.len(),
                objectives,
                "record {record}: one entry per objective"
            );
        }
        Self { objectives, terms }
    }

    /// The terms, one row per record, one entry per objective.
    #[must_use]
    pub fn terms(&self) -> &[Vec<Option<T>>] {
        &self.terms
    }

    /// n_i: the number of records labelled on each objective.
    #[must_use]
    pub fn counts(&self) -> Vec<usize> {
        (0..self.objectives)
            .map(|i| self.labelled(i).count())
            .collect()
    }

    /// L_i: the mean loss over the records labelled on each objective; `None` where there is none.
    #[must_use]
    pub fn losses(&self) -> Vec<Option<f64>> {
        self.means(T::loss)
    }

    /// ∂aggregate/∂(summed log-probability) of each response of each record, for `weights` w_i =
    /// ∂aggregate/∂L_i. A record without any label gets an empty row: nothing of it is to be
    /// differentiated.
    ///
    /// # Panics
    /// When there is not one weight per objective.
    #[must_use]
    pub fn coefficients(&self, weights: &[f64]) -> Vec<Vec<f64>> {
        assert_eq!(weights.len(), self.objectives, "one weight per objective");
        let counts = self.counts();
        self.terms
            .iter()
            .map(|record| {
                let mut coefficients = Vec::new();
                for (i, term) in record.iter().enumerate() {
                    let Some(term) = term else { continue };
                    coefficients.resize(term.d_policy().len(), 0.0);
                    // Left out rather than multiplied by 0: the derivative may be infinite.
                    if weights[i] != 0.0 {
                        for (sum, derivative) in coefficients.iter_mut().zip(term.d_policy()) {
                            *sum += weights[i] / counts[i] as f64 * derivative;
                        }
                    }
                }
                coefficients
            })
            .collect()
    }

    /// The mean of `number` over the records labelled on each objective.
    fn means(&self, number: impl Fn(&T) -> f64) -> Vec<Option<f64>> {
        (0..self.objectives)
            .map(|i| {
                let (sum, count) = self.labelled(i).fold((0.0, 0usize), |(sum, count), term| {
                    (sum + number(term), count + 1)
                });
                (count > 0).then(|| sum / count as f64)
            })
            .collect()
    }

    fn labelled(&self, objective: usize) -> impl Iterator<Item = &T> {
        self.terms
            .iter()
            .filter_map(move |record| record[objective].as_ref())
    }
}

impl ObjectiveBatch<PairTerm> {
    /// The DPO terms of `pairs`; `labels[r][i]` is the label of pair r on objective i, if it has one.
    ///
    /// # Panics
    /// When there is not one row of labels per pair and one label entry per objective.
    #[must_use]
    pub fn from_pairs(
        dpo: &Dpo,
        pairs: &[PairLogProbs],
        labels: &[Vec<Option<f64>>],
        objectives: usize,
    ) -> Self {
        assert_eq!(pairs.len(), labels.len(), "one row of labels per pair");
        let terms = pairs
            .iter()
            .zip(labels)
            .map(|(pair, labels)| {
                labels
                    .iter()
                    .map(|label| label.map(|label| dpo.term(pair, label)))
                    .collect()
            })
            .collect();
        Self::new(objectives, terms)
    }

    /// The mean reward margin over the pairs labelled on each objective.
    #[must_use]
    pub fn margins(&self) -> Vec<Option<f64>> {
        self.means(|term| term.margin)
    }

    /// The share of the pairs labelled on each objective where the policy leans to the preferred response.
    #[must_use]
    pub fn accuracies(&self) -> Vec<Option<f64>> {
        self.means(|term| f64::from(u8::from(term.correct)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DpoLoss, Sft};

    fn dpo() -> Dpo {
        Dpo {
            beta: 0.5,
            loss: DpoLoss::Sigmoid {
                label_smoothing: 0.0,
            },
            sft_weight: 0.0,
        }
    }

    fn pair(policy: [f64; 2]) -> PairLogProbs {
        PairLogProbs {
            policy,
            reference: [-10.0, -10.0],
            tokens: [5, 5],
        }
    }

    #[test]
    fn means_are_over_labelled_records_only() {
        let pairs = [
            pair([-9.0, -11.0]),
            pair([-12.0, -10.0]),
            pair([-10.0, -10.0]),
        ];
        let labels = [
            vec![Some(1.0), None, None],
            vec![Some(1.0), Some(0.0), None],
            vec![None, None, None],
        ];
        let batch = ObjectiveBatch::from_pairs(&dpo(), &pairs, &labels, 3);
        assert_eq!(batch.counts(), [2, 1, 0]);
        assert_eq!(batch.accuracies(), [Some(0.5), Some(1.0), None]);
        assert_eq!(batch.margins(), [Some(0.0), Some(1.0), None]);
        let expected = (dpo().term(&pairs[0], 1.0).loss + dpo().term(&pairs[1], 1.0).loss) / 2.0;
        assert_eq!(batch.losses()[0], Some(expected));
        assert_eq!(batch.losses()[2], None);

        let coefficients = batch.coefficients(&[0.5, 0.5, 0.0]);
        assert!(coefficients[2].is_empty());
        let second = 0.25 * dpo().term(&pairs[1], 1.0).d_policy[0]
            + 0.5 * dpo().term(&pairs[1], 0.0).d_policy[0];
        assert!((coefficients[1][0] - second).abs() < 1e-15);
    }

    #[test]
    fn single_responses_make_a_batch_too() {
        let sft = Sft { per_token: true };
        let terms = vec![
            vec![Some(sft.term(-6.0, 3)), None],
            vec![None, Some(sft.term(-8.0, 2))],
        ];
        let batch = ObjectiveBatch::new(2, terms);
        assert_eq!(batch.losses(), [Some(2.0), Some(4.0)]);
        assert_eq!(
            batch.coefficients(&[0.3, 0.6]),
            [vec![-0.3 / 3.0], vec![-0.3]]
        );
    }
}
