//! A front by rewards in other units: deviations of these rewards in training.

use crate::front::{Front, FrontPoint};
use crate::method::MethodPoints;
use crate::provenance::MeasuredRun;

impl Front {
    /// The run whose rewards in training are the unit of all values in deviations: the first that has one for each objective.
    /// None where a value is no plain reward.
    pub(crate) fn unit(&self) -> Option<&MeasuredRun> {
        let runs = &self.provenance.as_ref()?.runs;
        let of_rewards = runs.iter().all(MeasuredRun::has_plain_rewards);
        let has_scales = |run: &&MeasuredRun| run.reward_scales.len() == self.objectives.len();
        runs.iter().find(has_scales).filter(|_| of_rewards)
    }

    /// The same points with J_i, its error and the reference in deviations: (J_i − mean) / deviation of the rewards of
    /// [`Front::unit`]. None without a unit, or where the rewards of an objective deviated too little for numbers.
    pub(crate) fn in_deviations(&self) -> Option<Self> {
        let scales = &self.unit()?.reward_scales;
        let rescaled = |values: &[f64]| -> Option<Vec<f64>> {
            let both = values.iter().zip(scales);
            both.map(|(&value, scale)| scale.in_deviations(value))
                .collect()
        };
        let point = |point: &FrontPoint| -> Option<FrontPoint> {
            let errors = point.stderr.iter().zip(scales);
            Some(FrontPoint {
                lambda: point.lambda.clone(),
                values: rescaled(&point.values)?,
                stderr: errors
                    .map(|(error, scale)| error / scale.deviation)
                    .collect(),
                correlation: point.correlation.clone(),
                ..FrontPoint::default()
            })
        };
        let methods = self.methods.iter().map(|method| {
            Some(MethodPoints {
                method: method.method.clone(),
                points: method.points.iter().map(point).collect::<Option<_>>()?,
                ordering: Vec::new(),
                effects: Vec::new(),
                cost: None,
            })
        });
        let (methods, reference) = (methods.collect::<Option<_>>()?, rescaled(&self.reference)?);
        Self::new(self.objectives.clone(), methods, Some(reference), None).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Provenance;

    fn front(deviation: f64, by: &str) -> Front {
        let point = FrontPoint {
            lambda: vec![1.0, 0.0],
            values: vec![3.0, -1.0],
            stderr: vec![0.5, 0.25],
            correlation: Some(vec![vec![], vec![0.4]]),
            ..FrontPoint::default()
        };
        let method = MethodPoints {
            method: "panacea-ppo".to_owned(),
            points: vec![point],
            ordering: Vec::new(),
            effects: Vec::new(),
            cost: None,
        };
        let objectives = ["helpful", "concise"].map(str::to_owned).to_vec();
        let front = Front::new(objectives, vec![method], Some(vec![1.0, -2.0]), None);
        let run =
            MeasuredRun::of_rewards(by, &[("helpful", 1.0, 0.5), ("concise", -1.0, deviation)]);
        Front {
            provenance: Some(Provenance::of_runs(vec![run])),
            ..front.expect("valid")
        }
    }

    #[test]
    fn values_errors_and_reference_take_the_unit() {
        let found = front(4.0, "rewards of greedy answers").in_deviations();
        let found = found.expect("it has a unit");
        assert_eq!(found.reference, [0.0, -0.25]);
        let point = &found.methods[0].points[0];
        assert_eq!(point.values, [4.0, 0.0]);
        assert_eq!(point.stderr, [1.0, 0.0625]);
        assert_eq!(point.correlation_of(0, 1), Some(0.4));
        // (4 − 0) × (0 + ¼)
        assert_eq!(found.methods[0].indicators.hypervolume, 1.0);
    }

    #[test]
    fn what_did_not_deviate_or_is_no_plain_reward_has_none() {
        for (deviation, by) in [(0.0, "rewards of greedy answers"), (4.0, "records")] {
            assert_eq!(front(deviation, by).in_deviations(), None);
        }
    }
}
