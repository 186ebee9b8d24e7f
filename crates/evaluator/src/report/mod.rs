//! What a person reads after an evaluation: the front's data, its plots, a page and a report.

mod html;
pub(crate) mod markdown;
pub(crate) mod numbers;
mod terminal;

use std::path::{Path, PathBuf};

pub use numbers::Table;
pub use terminal::wrapped;

use serde::{Deserialize, Serialize};

use panacea_files::write_files;

use crate::{EvaluatorError, Front, plot};

/// A front with what else belongs into its report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The front.
    pub front: Front,
    /// Answers to the same prompts under several preferences; may be empty.
    pub samples: Vec<PromptSamples>,
    /// What was run: one line each, shown below the title.
    pub notes: Vec<String>,
    /// The title of the report and of its plot.
    pub title: String,
}

/// The answers to one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptSamples {
    /// The prompt, as a person would read it.
    pub prompt: String,
    /// The answers, in the order of the grid.
    pub answers: Vec<Answer>,
}

/// An answer under one preference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The method that gave it.
    pub method: String,
    /// The preference λ.
    pub lambda: Vec<f64>,
    /// The answer.
    pub text: String,
    /// Number of its tokens.
    pub tokens: usize,
}

impl PromptSamples {
    /// The samples of several runs in one list: the answers to the same prompt together, and of these the ones under the same
    /// preference beside each other, in the order of the runs.
    #[must_use]
    pub fn side_by_side(runs: Vec<Vec<Self>>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for sample in runs.into_iter().flatten() {
            match all.iter_mut().find(|known| known.prompt == sample.prompt) {
                Some(known) => known.answers.extend(sample.answers),
                None => all.push(sample),
            }
        }
        for sample in &mut all {
            let mut lambdas: Vec<Vec<f64>> = Vec::new();
            for answer in &sample.answers {
                if !lambdas.contains(&answer.lambda) {
                    lambdas.push(answer.lambda.clone());
                }
            }
            let place = |answer: &Answer| lambdas.iter().position(|known| *known == answer.lambda);
            sample.answers.sort_by_key(place);
        }
        all
    }
}

/// The front in deviations of the rewards in training, where it has that unit.
const DEVIATIONS: &str = "deviations.svg";

/// The files that a report may have.
pub const REPORT_FILES: [&str; 6] = [
    "front.json",
    "front.svg",
    "front.png",
    "front.html",
    "report.md",
    DEVIATIONS,
];

impl Report {
    /// Writes `front.json`, `front.svg`, `front.png`, `front.html` and `report.md` into the folder `dir`, which is made if it is
    /// absent, and returns their paths; of a front by rewards `deviations.svg` too, the front in deviations of the rewards in
    /// training, where these are known. Everything is drawn before the first file is written, and each file is written whole
    /// or not at all.
    ///
    /// # Errors
    /// When the drawing fails or a file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<Vec<PathBuf>, EvaluatorError> {
        let svg = plot::svg(&self.front, &self.title)?;
        let png = plot::png(&self.front, &self.title)?;
        let html = html::page(self, &svg);
        let markdown = markdown::report(self);
        let deviations = match self.front.in_deviations() {
            Some(front) => {
                let title = format!("{}: rewards in deviations", self.title);
                Some(plot::svg(&front, &title)?)
            }
            None => None,
        };

        let json = self.front.to_json();
        let contents: [Option<&[u8]>; 6] = [
            Some(json.as_bytes()),
            Some(svg.as_bytes()),
            Some(&png),
            Some(html.as_bytes()),
            Some(markdown.as_bytes()),
            deviations.as_ref().map(String::as_bytes),
        ];
        let files = REPORT_FILES.into_iter().zip(contents);
        let files: Vec<(&str, &[u8])> = files
            .filter_map(|(name, contents)| Some((name, contents?)))
            .collect();
        Ok(write_files(dir, &files)?)
    }

    /// The files that [`Report::write`] writes.
    #[must_use]
    pub fn files(&self) -> Vec<&'static str> {
        let deviations = self.front.in_deviations().is_some();
        let is_there = |name: &&str| deviations || *name != DEVIATIONS;
        REPORT_FILES.into_iter().filter(is_there).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cost, MethodPoints, PointRecords};

    /// Two objectives, three preferences, text that is hostile to HTML, Markdown and scripts.
    pub(super) fn report() -> Report {
        let objectives = ["helpful", "con|cise"].map(str::to_owned);
        let records = |weight: f64| PointRecords {
            lambda: vec![weight, 1.0 - weight],
            records: vec![
                vec![weight - 1.0, weight - 0.8, weight - 0.6],
                vec![-weight, 0.2 - weight],
            ],
            labelled: Some(vec![vec![0, 1, 2], vec![0, 2]]),
            accuracy: Some(vec![0.75, 0.5]),
            margin: Some(vec![0.1, -0.1]),
            response_tokens: Some(120.0 * weight + 30.0),
        };
        let points = [1.0, 0.5, 0.0].map(records).to_vec();
        let cost = Cost {
            train_seconds: 1080.0,
            trainings: 1,
            ..Cost::default()
        };
        let method =
            MethodPoints::from_records("panacea-linear", &objectives, points, None, Some(cost))
                .expect("valid");
        let front = Front::new(objectives.to_vec(), vec![method], None, None).expect("valid");
        let answer = |weight: f64, text: &str| Answer {
            method: "panacea-linear".to_owned(),
            lambda: vec![weight, 1.0 - weight],
            text: text.to_owned(),
            tokens: 7,
        };
        Report {
            front,
            samples: vec![PromptSamples {
                prompt: "What is <b>\"bold\"</b> & why?".to_owned(),
                answers: vec![
                    answer(1.0, "Long\n```\ncode\n```"),
                    answer(0.0, "</script><script>alert(1)</script>"),
                ],
            }],
            notes: vec!["model: <tiny>".to_owned()],
            title: "Tiny & small".to_owned(),
        }
    }

    #[test]
    fn answers_of_several_runs_stand_beside_each_other() {
        let samples = |method: &str, prompts: &[&str]| -> Vec<PromptSamples> {
            let answer = |weight: f64| Answer {
                method: method.to_owned(),
                lambda: vec![weight, 1.0 - weight],
                text: String::new(),
                tokens: 1,
            };
            let sample = |prompt: &&str| PromptSamples {
                prompt: (*prompt).to_owned(),
                answers: vec![answer(1.0), answer(0.0)],
            };
            prompts.iter().map(sample).collect()
        };
        let all =
            PromptSamples::side_by_side(vec![samples("a", &["x", "y"]), samples("b", &["y", "z"])]);
        let told: Vec<(&str, Vec<(&str, f64)>)> = (all.iter())
            .map(|sample| {
                let answers = sample.answers.iter();
                let answers = answers.map(|answer| (answer.method.as_str(), answer.lambda[0]));
                (sample.prompt.as_str(), answers.collect())
            })
            .collect();
        assert_eq!(
            told,
            [
                ("x", vec![("a", 1.0), ("a", 0.0)]),
                ("y", vec![("a", 1.0), ("b", 1.0), ("a", 0.0), ("b", 0.0)]),
                ("z", vec![("b", 1.0), ("b", 0.0)]),
            ]
        );
    }

    #[test]
    fn all_files_are_written_into_a_new_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path().join("runs/one");
        let report = report();
        let files = report.write(&dir).expect("written");
        let names: Vec<_> = files
            .iter()
            .filter_map(|path| path.file_name()?.to_str())
            .collect();
        assert_eq!(names, report.files());
        assert_eq!(Front::read(&files[0]).expect("reads back"), report.front);
        assert_eq!(
            std::fs::read_dir(&dir).expect("there").count(),
            5,
            "nothing else is left in the folder"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("written");
        let error = report()
            .write(&file.join("sub"))
            .expect_err("a file is no folder")
            .to_string();
        assert!(
            error.starts_with("cannot create the folder ") && error.contains("file/sub"),
            "{error}"
        );
    }
}
