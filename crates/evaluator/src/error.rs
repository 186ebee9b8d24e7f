//! What can go wrong, said so that it can be put right.

use std::path::PathBuf;

use panacea_files::FileError;

/// Why an indicator cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum IndicatorError {
    /// There is no point.
    #[error("there is no point; indicators need at least one")]
    NoPoints,
    /// Points have another number of objectives than expected.
    #[error("point {point} has {found} value(s), expected {expected} (one per objective)")]
    PointLength {
        /// 1-based position of the point.
        point: usize,
        /// Number of its values.
        found: usize,
        /// Number of objectives.
        expected: usize,
    },
    /// A value is NaN or infinite.
    #[error("point {point}, objective {objective}: {value} is not a finite number")]
    NotFinite {
        /// 1-based position of the point.
        point: usize,
        /// 1-based position of the objective.
        objective: usize,
        /// The value.
        value: f64,
    },
    /// The reference has another number of objectives than the points.
    #[error(
        "the reference has {found} value(s), but the points have {expected} objective(s); give one value per objective"
    )]
    ReferenceLength {
        /// Number of values of the reference.
        found: usize,
        /// Number of objectives.
        expected: usize,
    },
    /// A value of the reference is NaN or infinite.
    #[error("the reference value of objective {objective} is {value}; it must be a finite number")]
    ReferenceNotFinite {
        /// 1-based position of the objective.
        objective: usize,
        /// The value.
        value: f64,
    },
}

/// Why a front cannot be built, read, drawn or written.
#[derive(Debug, thiserror::Error)]
pub enum EvaluatorError {
    /// A front without objectives or without methods.
    #[error(
        "a front needs at least one objective and one method with points; found {objectives} objective(s) and {methods} method(s)"
    )]
    Empty {
        /// Number of objectives.
        objectives: usize,
        /// Number of methods.
        methods: usize,
    },
    /// The same name for two methods.
    #[error("two methods of the front are called `{0}`; give each its own name")]
    DuplicateMethod(String),
    /// A list of a point has not one entry per objective.
    #[error(
        "{method}, point {point}: {field} has {found} value(s), expected {expected} (one per objective)"
    )]
    PointField {
        /// The method.
        method: String,
        /// 1-based position of the point.
        point: usize,
        /// The list.
        field: &'static str,
        /// Its length.
        found: usize,
        /// Number of objectives.
        expected: usize,
    },
    /// The correlations of a point's errors are none.
    #[error(
        "{method}, point {point}: correlation has {found}, expected {objectives} row(s) of 0, 1, 2, … numbers from -1 to 1: in row i the correlations with the objectives before it"
    )]
    Correlation {
        /// The method.
        method: String,
        /// 1-based position of the point.
        point: usize,
        /// What is there.
        found: String,
        /// Number of objectives.
        objectives: usize,
    },
    /// The records of an objective are not named one for each value.
    #[error(
        "{method}, point {point}: `labelled` of objective `{objective}` names {found}, expected {expected} record(s) in ascending order, one for each value"
    )]
    Labelled {
        /// The method.
        method: String,
        /// 1-based position of the point.
        point: usize,
        /// The objective.
        objective: String,
        /// What is there.
        found: String,
        /// Number of values.
        expected: usize,
    },
    /// Objectives with values of different numbers of records, and nothing says which.
    #[error(
        "{method}, point {point}: {found} value(s) of objective `{objective}`, but {expected} of the first objective; say in `labelled` which records these are"
    )]
    UnknownRecords {
        /// The method.
        method: String,
        /// 1-based position of the point.
        point: usize,
        /// The objective.
        objective: String,
        /// Number of its values.
        found: usize,
        /// Number of values of the first objective.
        expected: usize,
    },
    /// No record tells the value of an objective.
    #[error(
        "{method}, point {point}: no evaluation record is labelled on objective `{objective}`; evaluate on records that are"
    )]
    NoRecords {
        /// The method.
        method: String,
        /// 1-based position of the point.
        point: usize,
        /// The objective.
        objective: String,
    },
    /// Two points were evaluated on different records.
    #[error(
        "{method}, point {point}: {found} record(s) on objective `{objective}`, but the first point has {expected}; evaluate every point on the same records"
    )]
    RecordCount {
        /// The method.
        method: String,
        /// 1-based position of the point.
        point: usize,
        /// The objective.
        objective: String,
        /// Number of records of the point.
        found: usize,
        /// Number of records of the first point.
        expected: usize,
    },
    /// The untrained model was measured on other records than the points.
    #[error(
        "{method}: {found} record(s) of the untrained model on objective `{objective}`, but the points have {expected}; evaluate both on the same records"
    )]
    UntrainedCount {
        /// The method.
        method: String,
        /// The objective.
        objective: String,
        /// Number of records of the untrained model.
        found: usize,
        /// Number of records of the points.
        expected: usize,
    },
    /// The effects of λ are not of every objective over every objective.
    #[error(
        "{method}: effects on or over {found} objective(s), expected {expected}; measure the front again"
    )]
    Effects {
        /// The method.
        method: String,
        /// Number of objectives of the effects.
        found: usize,
        /// Number of objectives of the front.
        expected: usize,
    },
    /// The points of a method are no points.
    #[error("{method}: {source}")]
    Method {
        /// The method.
        method: String,
        /// What is wrong.
        source: IndicatorError,
    },
    /// The reference or the points do not fit.
    #[error(transparent)]
    Indicator(#[from] IndicatorError),
    /// The fronts to overlay are about different objectives.
    #[error(
        "`{run}` has the objectives {found:?}, `{first}` has {expected:?}; only fronts of the same objectives can be drawn together"
    )]
    Objectives {
        /// The run whose front does not fit.
        run: String,
        /// Its objectives.
        found: Vec<String>,
        /// The first run.
        first: String,
        /// Its objectives.
        expected: Vec<String>,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not JSON of the expected form.
    #[error("{}: line {}, column {}: {}", path.display(), source.line(), source.column(), without_place(source))]
    Json {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// A line of a table of points is no point.
    #[error("{}: line {line}: {problem}", path.display())]
    PointsLine {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: usize,
        /// What was found and what was expected.
        problem: String,
    },
    /// A row of a JSON array of points is no point.
    #[error("{}: row {row}: {problem}", path.display())]
    PointsRow {
        /// The file.
        path: PathBuf,
        /// 1-based row.
        row: usize,
        /// What was found and what was expected.
        problem: String,
    },
    /// A file of points holds none.
    #[error("{}: there is no point in it; expected a CSV of one point a line or a JSON array of rows, as in [[1, 2], [3, 4]]", path.display())]
    NoPoints {
        /// The file.
        path: PathBuf,
    },
    /// There is no pair to say how good a reward model is on an objective.
    #[error(
        "no pair of the evaluation is labelled on objective `{0}`; evaluate on records that are"
    )]
    NoComparisons(String),
    /// A pair's probability or label is none.
    #[error(
        "objective `{objective}`, pair {pair}: the {field} is {found}, expected a number from 0 to 1"
    )]
    Comparison {
        /// The objective.
        objective: String,
        /// 1-based position of the pair.
        pair: usize,
        /// Which of the two.
        field: &'static str,
        /// The value.
        found: f64,
    },
    /// A plot cannot be drawn.
    #[error("the plot cannot be drawn: {0}")]
    Plot(String),
}

/// What serde_json says, without the place behind it.
fn without_place(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    error.to_string().replace(&place, "")
}
