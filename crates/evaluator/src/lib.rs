//! # Pareto fronts and reward models: indicators, statistics, plots and reports
//!
//! A model that is steered by a preference λ gives one vector of values ξ(λ) = (J_1, …, J_m) per λ of a
//! grid. This crate says how good such a set of points is, whether it is ordered by λ beyond noise, draws
//! it, and writes it down for people and for programs. Numbers come in, files go out: it knows no tensor,
//! no model and no loss. All objectives are maximised.
//!
//! ```text
//! hypervolume     volume of ∪_λ [r, ξ(λ)], r the reference              how much is dominated
//! inner product   mean over λ of ⟨λ, ξ(λ)⟩                              does the model follow λ
//! sparsity        1/(N−1) Σ_i Σ_j (v_i,(j+1) − v_i,(j))²                how large are the gaps
//! spacing         standard deviation of the distance to the nearest     how even are they
//! ```
//!
//! ## Is this for you?
//! Yes, if you have points of two to ten objectives: [`IndicatorSet`] for all indicators of a plain set,
//! [`hypervolume`] and its neighbours one by one, [`read_points`] for points in a file. Yes, if you
//! compare methods over the same grid: [`MethodPoints::from_records`] makes points with standard errors
//! and an ordering from the values of single records, [`Front::new`] measures methods under one reference,
//! [`Front::overlay`] does so for several runs, and [`Report::write`] writes `front.json`, `front.svg`,
//! `front.png`, `front.html` and `report.md`, of rewards also `deviations.svg`. Yes, if you want to know whether to believe a reward model: [`calibration`]
//! says how often its preferences are the labels', beside the rule that only looks at lengths, and whether its
//! probabilities are what they say. And for curves of anything, a panel for each setting: [`plot::LineChart`].
//!
//! ```
//! use panacea_evaluator::{Front, MethodPoints, PointRecords};
//!
//! // The values of the same two held-out records under three preferences.
//! let point = |weight: f64, helpful: [f64; 2], concise: [f64; 2]| PointRecords {
//!     lambda: vec![weight, 1.0 - weight],
//!     records: vec![helpful.to_vec(), concise.to_vec()],
//!     ..PointRecords::default()
//! };
//! let objectives = ["helpfulness", "conciseness"].map(str::to_owned);
//! let points = vec![
//!     point(1.0, [-0.6, -0.8], [-0.7, -0.6]),
//!     point(0.5, [-0.7, -0.9], [-0.6, -0.5]),
//!     point(0.0, [-0.9, -1.0], [-0.4, -0.5]),
//! ];
//! let method = MethodPoints::from_records("panacea-linear", &objectives, points, None, None)?;
//! let front = Front::new(objectives.to_vec(), vec![method], Some(vec![-1.0, -1.0]), None)?;
//!
//! let panacea = &front.methods[0];
//! assert_eq!(panacea.ordering[0].kendall_tau, Some(1.0));
//! assert!(panacea.indicators.hypervolume > 0.0 && front.warnings().is_empty());
//! # Ok::<(), panacea_evaluator::EvaluatorError>(())
//! ```

pub mod calibration;
#[cfg(test)]
#[path = "../../objectives/src/cases.rs"]
mod cases;
mod effects;
mod error;
pub mod exact;
mod front;
mod indicators;
mod method;
pub mod plot;
mod points_file;
mod provenance;
mod report;
pub mod statistics;
mod text;
mod verdict;

pub use effects::ObjectiveEffect;
pub use error::{EvaluatorError, IndicatorError};
pub use front::{Cost, ExactFront, ExactPoint, Front, FrontPoint, Indicators, MethodFront};
pub use indicators::{
    Hypervolume, IndicatorSet, check_reference, default_reference, hypervolume, inner_product,
    spacing, sparsity,
};
pub use method::{MethodPoints, PointRecords};
pub use points_file::read_points;
pub use provenance::{MeasuredFile, MeasuredRun, Provenance, RewardScale};
pub use report::{Answer, PromptSamples, REPORT_FILES, Report, Table, wrapped};
