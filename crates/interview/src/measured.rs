//! What was measured of a run.

use panacea_evaluator::{Front, MeasuredRun, MethodFront, Provenance};
use panacea_runs::RunFolder;

use crate::error::InterviewError;

/// What `eval-front` has left in the folder of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What the run reaches.
    pub method: MethodFront,
    /// Points of the best front that any policy reaches, where it is known.
    pub exact: Option<Vec<Vec<f64>>>,
    /// What was measured, and on what, where that was kept.
    pub provenance: Option<Provenance>,
    /// What is to be said of it: that the run has gone on since.
    pub note: Option<String>,
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
        let measured = front.provenance.as_ref().and_then(|all| all.runs.first());
        let note = match measured {
            Some(measured) => note_of_step(run, measured)?,
            None => None,
        };
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
        Ok(Some(Self {
            method,
            exact,
            provenance: front.provenance,
            note,
        }))
    }
}

/// Says of which step a front is, where the run is at another one by now.
fn note_of_step(run: &RunFolder, measured: &MeasuredRun) -> Result<Option<String>, InterviewError> {
    let Some(now) = run.served_steps(&run.record()?)? else {
        return Ok(None);
    };
    Ok(measured.of_another_step(now).map(|then| {
        format!(
            "the measured front of run {name} is that of step {then}, and the run is at step {now} by now: cargo xtask eval-front \
             --run {name} measures it anew",
            name = run.name()
        )
    }))
}
