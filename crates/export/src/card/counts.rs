//! How many records the files of a run have.

use std::collections::BTreeMap;
use std::path::PathBuf;

use panacea_data::{Loader, Part, fingerprint};
use panacea_runs::RunRecord;

/// Records in each file, by its path in the plan. Files that have moved or changed since are left out, with those that are read
/// together with them.
pub(super) fn counts(record: &RunRecord) -> BTreeMap<PathBuf, usize> {
    let plan = &record.plan;
    let mut counts = BTreeMap::new();
    for (part, shared) in [
        (Part::Train, &plan.data().train),
        (Part::Eval, &plan.data().eval),
    ] {
        let own = plan.objectives().iter().flat_map(|objective| match part {
            Part::Train => &objective.train,
            Part::Eval => &objective.eval,
        });
        let mut files = shared.iter().chain(own);
        let is_as_it_was = |file: &PathBuf| {
            let known = record.facts.data_fingerprints.get(file);
            known.is_some() && fingerprint(file).ok().as_ref() == known
        };
        if !files.all(is_as_it_was) {
            continue;
        }
        let loader = Loader {
            part,
            format: plan.data().format,
            tolerance: plan.data().tolerance,
            as_written: plan.data().rendered,
            own_responses: plan.method().learning.reads_own_responses(),
            ..Loader::new(plan.method().learning.record_kind())
        };
        // Without files there is nothing to read, which is an error of the loader's.
        if let Ok(report) = loader.report(shared, plan.objectives()) {
            counts.extend(
                report
                    .files
                    .into_iter()
                    .map(|file| (file.file, file.records)),
            );
        }
    }
    counts
}
