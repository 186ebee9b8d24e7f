//! The model card of an export: `README.md`, as the Hugging Face hub and people read it.

mod counts;
mod facts;
mod front_matter;
mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use panacea_config::Plan;
use panacea_evaluator::{Front, plot};
use panacea_files::write_new_file;
use panacea_objectives::rounded_weight;
use panacea_runs::RunRecord;

use crate::{Base, ExportError};
use front_matter::FrontMatter;
pub(crate) use usage::{Form, exact_arguments};

/// The file's name.
pub(crate) const README: &str = "README.md";
/// The picture of the front beside it.
const PICTURE: &str = "front.png";
/// Of a front with more points, the vertices alone are in the table.
const MOST_POINTS: usize = 66;

/// What a model card tells of the run that was exported.
#[derive(Debug)]
pub struct Card<'a> {
    run: &'a str,
    record: &'a RunRecord,
    counts: BTreeMap<PathBuf, usize>,
    front: Option<Front>,
    license: Option<String>,
    datasets: Vec<String>,
}

impl<'a> Card<'a> {
    /// Of the run of this name, with its plan and its files, which are counted where they are still those.
    #[must_use]
    pub fn of(run: &'a str, record: &'a RunRecord) -> Self {
        Self {
            run,
            record,
            counts: counts::counts(record),
            front: None,
            license: None,
            datasets: Vec::new(),
        }
    }

    /// With what was measured of it.
    #[must_use]
    pub fn with_front(self, front: Option<Front>) -> Self {
        Self { front, ..self }
    }

    /// With the identifier of its licence, in place of the base model's, and the data sets on the hub that it was trained on.
    #[must_use]
    pub fn with_terms(self, license: Option<String>, datasets: Vec<String>) -> Self {
        Self {
            license,
            datasets,
            ..self
        }
    }

    /// Writes `README.md` and the picture that it shows into a folder that has neither.
    pub(crate) fn write(&self, folder: &Path, base: &Base, form: &Form) -> Result<(), ExportError> {
        let text = self.text(base, form);
        write_new_file(&folder.join(README), text.as_bytes())?;
        if let Some(front) = &self.front {
            let picture = plot::png(front, self.run)?;
            write_new_file(&folder.join(PICTURE), &picture)?;
        }
        Ok(())
    }

    /// The same for the same run, front and form.
    fn text(&self, base: &Base, form: &Form) -> String {
        let plan = &self.record.plan;
        let sections = [
            format!("# {}\n\n{}", escaped(self.run), form.introduction()),
            facts::training(plan, &self.record.facts.panacea),
            facts::base(base, &self.record.facts),
            facts::data(plan, &self.record.facts, &self.counts),
            self.preference(plan, form),
            format!("## How to load it\n\n{}", form.usage(base)),
            facts::limits(plan, base, form, self.license(base).is_some()),
        ];
        let sections = sections.iter().map(|section| section.trim_end());
        let text: Vec<&str> = sections.filter(|section| !section.is_empty()).collect();
        format!("{}\n{}\n", self.front_matter(base, form), text.join("\n\n"))
    }

    fn license<'b>(&'b self, base: &'b Base) -> Option<&'b str> {
        self.license.as_deref().or(base.license())
    }

    fn front_matter(&self, base: &Base, form: &Form) -> String {
        let mut matter = FrontMatter::default();
        if let Some(repository) = base.repository() {
            matter.text("base_model", repository);
            matter.text("base_model_relation", form.relation());
        }
        if let Some(library) = form.library() {
            matter.text("library_name", library);
        }
        match self.license(base) {
            Some(license) => matter.text("license", license),
            None => matter.comment(
                "TODO: the licence is not known here. See what the base model's allows, and add a line that begins with license:",
            ),
        }
        matter.text("pipeline_tag", form.pipeline());
        matter.list("datasets", &self.datasets);
        let mut tags = vec!["panacea", facts::kind(self.record.plan.method())];
        tags.extend(
            ["multi-objective"]
                .iter()
                .filter(|_| self.record.plan.objectives().len() > 1),
        );
        tags.extend(form.tags());
        matter.list("tags", &tags);
        matter.finish()
    }

    /// Which preferences this has of those that were trained, and what was measured.
    fn preference(&self, plan: &Plan, form: &Form) -> String {
        let names = plan.objective_names();
        let mut text = String::from("## Preferences\n\n");
        match form.preference() {
            Some(preference) => {
                text += &format!("This is the run at λ = {}", weights(&names, preference));
                text += match plan.only_preference() {
                    Some(_) => ", the only one that it was trained for.\n",
                    None => {
                        ": one of all the preferences that it was trained for. For another λ, it is exported again.\n"
                    }
                };
            }
            None if plan.method().is_reward_model() => {
                text += "A reward model has a reward for each objective, and no preference steers it.\n";
            }
            None => {
                text += "Every preference λ is in it: weights on the objectives, at least 0, which sum to 1. In order: ";
                text += &names
                    .iter()
                    .map(|name| escaped(name))
                    .collect::<Vec<_>>()
                    .join(", ");
                text += ".\n";
                if let Some(only) = plan.only_preference() {
                    let only = weights(&names, only.weights());
                    text += &format!("It was trained at λ = {only} alone.\n");
                }
            }
        }
        let Some(front) = &self.front else {
            text += "\nWhat it reaches was not measured when this was written.\n";
            return text;
        };
        let table = front.value_table(MOST_POINTS);
        let measured = front.provenance.as_ref().and_then(|it| it.runs.first());
        let on = measured.map_or(String::new(), |run| {
            format!(" on {} {} records", run.records, run.origin)
        });
        text += &format!(
            "\n![What the run reaches under each preference]({PICTURE})\n\nValues of the objectives{on}, larger is \
             better, ± one standard error:\n\n{}",
            facts::table(&table.header, &table.rows)
        );
        if let Some(preference) = form.preference() {
            let of_this = |point: &&panacea_evaluator::FrontPoint| point.lambda == preference;
            let mut points = front.methods.iter().flat_map(|method| &method.points);
            if points.find(of_this).is_none() {
                text += "\nThe λ of this export is not among those that were measured.\n";
            }
        }
        text
    }
}

/// `helpfulness 0.3, conciseness 0.7`
fn weights(names: &[String], preference: &[f64]) -> String {
    let pairs = names.iter().zip(preference);
    let pairs: Vec<String> = pairs
        .map(|(name, weight)| format!("{} {}", escaped(name), rounded_weight(*weight, 3)))
        .collect();
    pairs.join(", ")
}

/// A name in Markdown, as it is and on one line.
fn escaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' => plain.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '!' | '~' | '$' | '&' => {
                plain.extend(['\\', letter]);
            }
            letter => plain.push(letter),
        }
    }
    plain
}
