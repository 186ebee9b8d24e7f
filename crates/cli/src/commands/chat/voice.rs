//! Who answers in a chat: a run, at the λ of the moment.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use panacea_interview::Profiles;
use panacea_methods::Served;
use panacea_model::{Decoder, Steering};
use panacea_objectives::{Preference, Weights};
use panacea_runs::RunFolder;
use panacea_serving::Policy;

use crate::session::{preference_of, say_aside};
use crate::shell;

/// A run that answers.
pub struct Run {
    folder: RunFolder,
    policy: Policy,
    objectives: Vec<String>,
    /// Where it lies among others.
    runs: PathBuf,
}

/// A run at one λ.
#[derive(Clone)]
pub struct Voice {
    /// What was asked for.
    pub preference: Preference,
    /// What answers.
    pub steering: Steering,
    /// λ by name, with what answers in its place where nothing was trained for it.
    pub label: String,
}

impl Run {
    /// Opens a run among others in `runs`.
    pub fn open(folder: RunFolder, runs: &Path, decoder: &Decoder) -> Result<Self> {
        let policy = Policy::open(&folder, decoder)?;
        say_aside(&policy.notes);
        Ok(Self {
            objectives: policy.plan().objective_names(),
            folder,
            policy,
            runs: runs.to_owned(),
        })
    }

    pub fn name(&self) -> String {
        self.folder.name()
    }

    /// The voice at these weights, divided by their sum.
    pub fn at_weights(&self, weights: &Weights) -> Result<Voice> {
        self.at(&weights.preference(&self.objectives)?)
    }

    pub fn at(&self, preference: &Preference) -> Result<Voice> {
        let Served::Adapter(steering) = self.policy.serve(preference)?;
        let answering = self.policy.answering(preference);
        let asked = preference.by_name(&self.objectives);
        let label = match answering == preference {
            true => asked,
            false => format!(
                "{asked}, for which {} answers, the nearest that was trained",
                answering.by_name(&self.objectives)
            ),
        };
        Ok(Voice {
            preference: preference.clone(),
            steering,
            label,
        })
    }

    /// The voice while nobody has said a preference.
    pub fn at_usual_weights(&self) -> Result<Voice> {
        self.at(&self.policy.plan().usual_preference())
    }

    /// The voice of each objective alone.
    pub fn at_each_alone(&self) -> Result<Vec<Voice>> {
        let m = self.objectives.len();
        let vertices = (0..m).map(|objective| Preference::vertex(m, objective));
        vertices.map(|preference| self.at(&preference)).collect()
    }

    /// The voice for a person, and after how many of their answers it was found.
    pub fn for_profile(&self, name: &str) -> Result<(Voice, usize)> {
        let (preference, answers) = preference_of(name, &self.folder, self.policy.plan())?;
        Ok((self.at(&preference)?, answers))
    }

    /// The names of the profiles that there are.
    pub fn profile_names(&self) -> Result<Vec<String>> {
        let names = Profiles::of(&self.folder, self.policy.plan())?.names()?;
        if names.is_empty() {
            let run = self.name();
            bail!(
                "run {run} has no profile yet: cargo xtask elicit --run {}{} --prompts FILE --profile NAME makes one",
                shell::word(&run),
                shell::runs(&self.runs)
            );
        }
        Ok(names)
    }
}
