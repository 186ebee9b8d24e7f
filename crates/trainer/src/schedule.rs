//! The learning rate over the run: a warm-up from zero, then a constant, a line or half a cosine.

use std::f64::consts::PI;

use panacea_config::{OptimizerPlan, ScheduleKind};

/// The factor on every learning rate, by optimizer step.
///
/// With T steps, w of them warm-up, and the minimum r, the step that follows t finished ones has
///
/// ```text
/// t < w:  (t + 1) / w
/// t ≥ w:  r + (1 − r) · c(p),   p = (t − w) / (T − w)
///         c(p) = (1 + cos πp) / 2   cosine
///         c(p) = 1 − p              linear
///         c(p) = 1                  constant
/// ```
///
/// So no step is wasted on a factor of 0: the first has 1/w, and the minimum would be reached one step
/// after the last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    kind: ScheduleKind,
    total_steps: usize,
    warmup_steps: usize,
    min_ratio: f64,
}

impl Schedule {
    /// The schedule of a run of this many optimizer steps.
    pub fn of(plan: &OptimizerPlan, total_steps: usize) -> Self {
        Self::new(
            plan.schedule,
            total_steps,
            plan.warmup_ratio,
            plan.min_learning_rate_ratio,
        )
    }

    /// A schedule of `total_steps` steps; `warmup_ratio` (0 to 1) of them, rounded up, are warm-up.
    pub fn new(kind: ScheduleKind, total_steps: usize, warmup_ratio: f64, min_ratio: f64) -> Self {
        // The subtraction keeps 0.03 · 100 = 3.0000000000000004 from becoming 4 steps.
        let warmup_steps = (warmup_ratio * total_steps as f64 - 1e-9).ceil().max(0.0) as usize;
        Self {
            kind,
            total_steps,
            warmup_steps: warmup_steps.min(total_steps),
            min_ratio,
        }
    }

    /// Optimizer steps of the warm-up.
    pub fn warmup_steps(&self) -> usize {
        self.warmup_steps
    }

    /// The factor of the step that follows `finished` finished steps.
    pub fn factor(&self, finished: usize) -> f64 {
        if finished < self.warmup_steps {
            return (finished + 1) as f64 / self.warmup_steps as f64;
        }
        if finished >= self.total_steps {
            return match self.kind {
                ScheduleKind::Constant => 1.0,
                ScheduleKind::Cosine | ScheduleKind::Linear => self.min_ratio,
            };
        }
        let progress =
            (finished - self.warmup_steps) as f64 / (self.total_steps - self.warmup_steps) as f64;
        let curve = match self.kind {
            ScheduleKind::Cosine => (1.0 + (PI * progress).cos()) / 2.0,
            ScheduleKind::Linear => 1.0 - progress,
            ScheduleKind::Constant => return 1.0,
        };
        self.min_ratio + (1.0 - self.min_ratio) * curve
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schedule: Schedule, points: &[(usize, f64)]) {
        for &(finished, expected) in points {
            let found = schedule.factor(finished);
            assert!(
                (found - expected).abs() < 1e-12,
                "after {finished} steps: found {found}, expected {expected}"
            );
        }
    }

    #[test]
    fn cosine_passes_its_exact_points() {
        let half_root = 0.5_f64.sqrt();
        check(
            Schedule::new(ScheduleKind::Cosine, 10, 0.2, 0.0),
            &[
                (0, 0.5),
                (1, 1.0),
                (2, 1.0),
                (4, (1.0 + half_root) / 2.0),
                (6, 0.5),
                (8, (1.0 - half_root) / 2.0),
                (10, 0.0),
                (99, 0.0),
            ],
        );
    }

    #[test]
    fn linear_reaches_the_minimum_one_step_after_the_last() {
        check(
            Schedule::new(ScheduleKind::Linear, 4, 0.0, 0.2),
            &[(0, 1.0), (1, 0.8), (2, 0.6), (3, 0.4), (4, 0.2), (5, 0.2)],
        );
    }

    #[test]
    fn constant_keeps_one_whatever_the_minimum() {
        check(
            Schedule::new(ScheduleKind::Constant, 4, 0.5, 0.1),
            &[(0, 0.5), (1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0)],
        );
    }

    #[test]
    fn warm_up_is_rounded_up_and_never_off_by_rounding_noise() {
        let warmup =
            |total, ratio| Schedule::new(ScheduleKind::Cosine, total, ratio, 0.0).warmup_steps();
        assert_eq!(warmup(110, 0.03), 4);
        assert_eq!(warmup(100, 0.03), 3);
        assert_eq!(warmup(100, 0.07), 7);
        assert_eq!(warmup(10, 0.0), 0);
        assert_eq!(warmup(1, 0.5), 1);
        assert_eq!(warmup(3, 1.0), 3);
    }

    #[test]
    fn every_step_of_a_run_has_a_factor_above_the_minimum() {
        for kind in [ScheduleKind::Cosine, ScheduleKind::Linear] {
            let schedule = Schedule::new(kind, 50, 0.1, 0.05);
            for finished in 0..50 {
                let factor = schedule.factor(finished);
                assert!(
                    factor > 0.05 && factor <= 1.0,
                    "{kind:?} {finished}: {factor}"
                );
            }
        }
    }
}
