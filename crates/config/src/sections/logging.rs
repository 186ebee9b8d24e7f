//! `[logging]`: where metrics are written beside the run's folder.

use std::path::PathBuf;

use crate::resolver::Resolver;

section! {
    /// Where metrics are written, beside `metrics.jsonl` and TensorBoard's files in the run's folder.
    LoggingSpec at "logging." {
        /// A folder such as `"mlruns"`, in the form of MLflow's file store: the run with its metrics, the keys of its configuration
        /// and where it lies, in the experiment `panacea`. What is there of other runs stays.
        mlflow: PathBuf, default "nothing is written for MLflow";
    }
}

/// Where metrics are written beside the run's folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LoggingPlan {
    /// The folder of MLflow's file store.
    pub mlflow: Option<PathBuf>,
}

impl LoggingSpec {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl LoggingPlan {
    pub(crate) fn to_spec(&self) -> LoggingSpec {
        LoggingSpec {
            mlflow: self.mlflow.clone(),
        }
    }
}

impl Resolver {
    pub(crate) fn logging(&mut self, spec: &LoggingSpec) -> LoggingPlan {
        LoggingPlan {
            mlflow: self.take_if_given(spec.mlflow()),
        }
    }
}
