//! What was measured of a run.

use panacea_evaluator::{Front, MethodFront};
use panacea_runs::RunFolder;

use crate::error::InterviewError;

/// What `eval-front` has left in the folder of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What the run reaches.
    pub method: MethodFront,
    /// Points of the best front that any policy reaches, where it is known.
    pub exact: Option<Vec<Vec<f64>>>,
}

impl Measured {
    /// Reads the newest `front.json` of a run with these objectives; nothing where there is none. Of several runs that were
    /// measured together, the first is the one in whose folder the file lies.
    ///
    /// # Errors
    /// When it is broken, or of something else.
    pub fn of(run: &RunFolder, objectives: &[String]) -> Result<Option<Self>, InterviewError> {
        let Some(path) = run.newest_front()? else {
            return Ok(None);
        };
        let front = Front::read(&path)?;
        let refuse = |problem: String| {
            Err(InterviewError::Front {
                path: path.clone(),
                problem,
                run: run.name(),
            })
        };
        if front.objectives != objectives {
            return refuse(format!(
                "objectives {:?}, expected those of the run, {objectives:?}",
                front.objectives
            ));
        }
        let Some(method) = front.methods.into_iter().next() else {
            return refuse("there is no method in it".to_owned());
        };
        let exact = front.exact.map(|exact| exact.values);
        let wrong = (method.points.iter())
            .flat_map(|point| [&point.lambda, &point.values, &point.stderr])
            .chain(exact.iter().flatten())
            .find(|list| list.len() != objectives.len());
        if let Some(wrong) = wrong {
            return refuse(format!("{wrong:?} are not {} numbers", objectives.len()));
        }
        Ok(Some(Self { method, exact }))
    }
}
