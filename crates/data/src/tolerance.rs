//! What becomes of records that cannot be used: everything that refuses one comes here.

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Refusal};
use crate::report::{DataReport, SkipReason, Skipped};

/// What to do with a record that cannot be used: a line that is no JSON, a field of another form, a label that is none, a
/// conversation that the chat template refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BadRecords {
    /// Stop with an error that names it.
    #[default]
    Error,
    /// Leave it out, counted and named in the report. A file that is broken as a whole is still an error.
    Skip,
}

/// How many records may be unusable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// What to do with one.
    pub bad_records: BadRecords,
    /// The largest share of the records read that may be skipped for being unusable, from 0 to 1; rounded up to whole records.
    pub max_skipped: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            bad_records: BadRecords::Error,
            max_skipped: Self::MAX_SKIPPED,
        }
    }
}

impl Tolerance {
    /// The usual [`max_skipped`](Self::max_skipped).
    pub const MAX_SKIPPED: f64 = 0.1;

    /// What becomes of a record that cannot be used.
    pub(crate) fn refuse(self, refusal: Refusal, report: &mut DataReport) -> Result<(), DataError> {
        match self.bad_records {
            BadRecords::Error => Err(refusal.into()),
            BadRecords::Skip => {
                report.skipped.push(Skipped {
                    source: refusal.record,
                    reason: SkipReason::Refused(refusal.problem),
                });
                Ok(())
            }
        }
    }

    /// Stops where more records were refused than may be.
    pub(crate) fn check(self, report: &DataReport) -> Result<(), DataError> {
        let refused = report.refused();
        // Rounded up, so that one bad record does not stop a small file.
        let most = (self.max_skipped * report.read as f64).ceil();
        if refused as f64 <= most {
            return Ok(());
        }
        Err(DataError::TooManyRefused {
            refused,
            read: report.read,
            max_skipped: self.max_skipped,
            reasons: report.refusals(),
        })
    }
}
