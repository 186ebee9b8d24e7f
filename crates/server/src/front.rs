//! What was measured of a run, as its page and its clients see it.

use serde::Serialize;
use utoipa::ToSchema;

/// What a run reaches over a grid of preferences, by measurement on records.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MeasuredFront {
    /// The name of the method that was measured.
    pub method: String,
    /// The objectives, in the order of every list.
    pub objectives: Vec<String>,
    /// One point for each preference that was measured.
    pub points: Vec<MeasuredPoint>,
    /// Points of the best front that any policy reaches, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<Vec<Vec<f64>>>,
}

/// What a run reaches under one preference.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct MeasuredPoint {
    /// The preference λ.
    pub lambda: Vec<f64>,
    /// The mean of each objective, the higher the better.
    pub values: Vec<f64>,
    /// The standard error of each mean.
    pub stderr: Vec<f64>,
    /// How the errors of two objectives go together: row i has the correlation with each objective before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Vec<Vec<f64>>>,
    /// The best values that any policy reaches under the same preference, where they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<Vec<f64>>,
}
