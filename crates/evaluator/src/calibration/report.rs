//! What a person and a program read about a reward model.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{LengthRule, ObjectiveCalibration};
use crate::report::Table;
use crate::report::markdown::{escaped, table};
use crate::report::numbers::{dash, estimate, texts};
use panacea_files::{read_text, write_files};

use crate::{EvaluatorError, plot};

/// How good a reward model is on each of its objectives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationReport {
    /// The title of the report and of its plot.
    pub title: String,
    /// What was run: one line each, shown below the title.
    pub notes: Vec<String>,
    /// The objectives.
    pub objectives: Vec<ObjectiveCalibration>,
}

/// The files of a report.
pub const CALIBRATION_FILES: [&str; 4] = [
    "calibration.json",
    "calibration.svg",
    "calibration.png",
    "calibration.md",
];

impl CalibrationReport {
    /// One row per objective: accuracy beside the length rule's, log loss, calibration error.
    #[must_use]
    pub fn table(&self) -> Table {
        let header = texts(&[
            "objective",
            "pairs",
            "accuracy ↑",
            "95 %",
            "length rule",
            "gain ↑",
            "in standard errors",
            "log loss ↓",
            "ECE ↓",
            "by chance",
        ]);
        let rows = (self.objectives.iter())
            .map(|found| {
                let rule = match found.baseline {
                    LengthRule::Longer => "longer",
                    LengthRule::Shorter => "shorter",
                };
                let baseline = estimate(found.baseline_accuracy, found.baseline_stderr);
                vec![
                    found.objective.clone(),
                    found.pairs.to_string(),
                    estimate(found.accuracy, found.accuracy_stderr),
                    interval(found.accuracy_interval),
                    format!("{rule}: {baseline}"),
                    estimate(found.gain, found.gain_stderr),
                    (found.gain_in_stderrs).map_or_else(dash, |ratio| format!("{ratio:.1}")),
                    estimate(found.log_loss, found.log_loss_stderr),
                    format!("{:.4}", found.calibration_error),
                    format!("{:.4}", found.calibration_error_by_chance),
                ]
            })
            .collect();
        Table { header, rows }
    }

    /// One row per bin of confidence of each objective.
    #[must_use]
    pub fn reliability_table(&self) -> Table {
        let header = texts(&[
            "objective",
            "confidences",
            "pairs",
            "confidence",
            "accuracy",
            "95 %",
        ]);
        let rows = (self.objectives.iter())
            .flat_map(|found| found.bins.iter().map(|bin| (&found.objective, bin)))
            .map(|(objective, bin)| {
                vec![
                    objective.clone(),
                    interval(bin.range),
                    bin.pairs.to_string(),
                    format!("{:.3}", bin.confidence),
                    format!("{:.3}", bin.accuracy),
                    interval(bin.accuracy_interval),
                ]
            })
            .collect();
        Table { header, rows }
    }

    /// Writes `calibration.json`, `calibration.svg`, `calibration.png` and `calibration.md` into the folder `dir`, which
    /// is made if it is absent, and returns their paths. Everything is drawn before the first file is written, and each
    /// file is written whole or not at all.
    ///
    /// # Errors
    /// When the drawing fails or a file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<Vec<PathBuf>, EvaluatorError> {
        let svg = plot::calibration_svg(&self.objectives, &self.title)?;
        let png = plot::calibration_png(&self.objectives, &self.title)?;
        let mut json = serde_json::to_string_pretty(self).expect("a report is plain data");
        json.push('\n');

        let markdown = self.markdown();
        let contents: [&[u8]; 4] = [json.as_bytes(), svg.as_bytes(), &png, markdown.as_bytes()];
        let files: Vec<(&str, &[u8])> = CALIBRATION_FILES.into_iter().zip(contents).collect();
        Ok(write_files(dir, &files)?)
    }

    /// Reads a `calibration.json`.
    ///
    /// # Errors
    /// When the file cannot be read or is none.
    pub fn read(path: &Path) -> Result<Self, EvaluatorError> {
        serde_json::from_str(&read_text(path)?).map_err(|source| EvaluatorError::Json {
            path: path.to_owned(),
            source,
        })
    }

    fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n", escaped(&self.title));
        for note in &self.notes {
            text += &format!("- {}\n", escaped(note));
        }
        text += "\n![Calibration](calibration.svg)\n\n## Accuracy\n\n";
        text += &table(&self.table());
        text += "\nThe length rule prefers the longer answer or the shorter one, whichever was right more often on the \
                 training pairs; the gain over it is paired by pair. Values are means over these pairs ± one \
                 standard error; the log loss of a model that knows nothing is 0.6931. ECE is the expected calibration \
                 error, and \"by chance\" about what a model that is calibrated exactly would show on so few pairs.\n\n\
                 ## Reliability\n\n";
        text += &table(&self.reliability_table());
        text += "\nBins of about equal counts by confidence, the probability of the answer that the model prefers; the \
                 accuracy with its 95 % interval (Wilson).\n";
        text
    }
}

fn interval([low, high]: [f64; 2]) -> String {
    format!("{low:.3}–{high:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::tests::pair;

    fn report() -> CalibrationReport {
        let objective = |name: &str, baseline| {
            let pairs: Vec<_> = (0..40)
                .map(|i| {
                    let label = f64::from(u8::from(i % 4 != 0));
                    pair(0.3 + f64::from(i) / 60.0, label, [3, i as usize % 7])
                })
                .collect();
            ObjectiveCalibration::new(name, &pairs, baseline).expect("valid")
        };
        CalibrationReport {
            title: "Tiny & small".to_owned(),
            notes: vec!["model: <tiny>".to_owned()],
            objectives: vec![
                objective("helpful", LengthRule::Longer),
                objective("con|cise", LengthRule::Shorter),
            ],
        }
    }

    #[test]
    fn all_files_are_written_and_the_numbers_read_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path().join("rewards/one");
        let report = report();
        let files = report.write(&dir).expect("written");
        let names: Vec<_> = (files.iter())
            .filter_map(|path| path.file_name()?.to_str())
            .collect();
        assert_eq!(
            names,
            [
                "calibration.json",
                "calibration.svg",
                "calibration.png",
                "calibration.md"
            ]
        );
        assert_eq!(CalibrationReport::read(&files[0]).expect("read"), report);
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&files[0]).expect("text")).expect("JSON");
        assert_eq!(json["objectives"][1]["baseline"], "shorter");
    }

    #[test]
    fn the_markdown_holds_every_part_escaped() {
        let text = report().markdown();
        for part in [
            "# Tiny & small",
            "- model: \\<tiny\\>",
            "(calibration.svg)",
            "| con\\|cise | 40 |",
            "| shorter: 0.",
            "## Reliability",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn every_row_has_the_columns_of_its_header() {
        let report = report();
        for (table, rows) in [(report.table(), 2), (report.reliability_table(), 20)] {
            assert_eq!(table.rows.len(), rows);
            assert!(table.rows.iter().all(|row| row.len() == table.header.len()));
        }
    }

    #[test]
    fn a_file_that_is_no_report_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("calibration.json");
        std::fs::write(&path, "{}").expect("written");
        let message = CalibrationReport::read(&path)
            .expect_err("no report")
            .to_string();
        assert!(
            message.contains("calibration.json") && message.contains("title"),
            "{message}"
        );
    }
}
