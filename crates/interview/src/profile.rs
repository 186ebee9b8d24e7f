//! What is known of a person, kept beside the run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use panacea_config::Plan;
use panacea_elicit::{
    Answer, Criterion, ElicitError, Front, FrontPoint, Progress, Question, Scale, Session, Settings,
};
use panacea_files::{FileError, folder_names, read_text, write_file};
use panacea_objectives::Preference;
use panacea_runs::RunFolder;
use serde_json::{Value, json};

use crate::error::InterviewError;
use crate::measured::Measured;
use crate::pool::{Pool, Prompt, WrittenAnswer};
use crate::yardstick::Yardstick;

/// Answers that are written to a prompt, and compared, where nobody says another number.
pub const USUAL_ANSWERS: usize = 20;

const PROFILE: &str = "profile.jsonl";
const PREFERENCES: &str = "preferences.jsonl";
const LOCK: &str = ".lock";
/// How far weights may be from what stands in a profile: another machine may round differently, which is far below this.
const MOST_DRIFT: f64 = 1e-6;
/// Bytes of a profile's name.
const LONGEST_NAME: usize = 64;

/// The profiles of a run.
#[derive(Debug, Clone)]
pub struct Profiles {
    folder: PathBuf,
    run: String,
    objectives: Vec<String>,
    yardstick: Yardstick,
    front: Option<Arc<Front>>,
    /// What a person should know of the front, such as that there is none.
    pub notes: Vec<String>,
}

/// What is known of one person, and the λ to serve them.
#[derive(Debug, Clone)]
pub struct Profile {
    name: String,
    folder: PathBuf,
    run: String,
    session: Session,
    front: Option<Arc<Front>>,
    yardstick: Yardstick,
    /// What the file holds; empty where there is none.
    written: String,
}

impl Profiles {
    /// Those of a run. Nothing is made or changed.
    ///
    /// # Errors
    /// When the run's checkpoint or its measured front cannot be read.
    pub fn of(run: &RunFolder, plan: &Plan) -> Result<Self, InterviewError> {
        let yardstick = Yardstick::of(run, plan)?;
        let (front, note) = measured_front(run, plan, &yardstick)?;
        let front = front.map(Arc::new);
        Ok(Self {
            folder: run.path().join("profiles"),
            run: run.name(),
            objectives: plan.objective_names(),
            notes: yardstick.note.iter().cloned().chain(note).collect(),
            yardstick,
            front,
        })
    }

    /// What scores the answers that are compared.
    #[must_use]
    pub fn yardstick(&self) -> &Yardstick {
        &self.yardstick
    }

    /// The run's measured front, in the unit of the scores.
    #[must_use]
    pub fn front(&self) -> Option<&Front> {
        self.front.as_deref()
    }

    /// The names of those that there are, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>, InterviewError> {
        let mut names = folder_names(&self.folder)?;
        names.retain(|name| is_name(name) && self.path(name).is_file());
        Ok(names)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name).join(PROFILE)
    }

    /// The profile of that name.
    ///
    /// # Errors
    /// When there is none, or it is of other objectives or scores.
    pub fn open(&self, name: &str) -> Result<Profile, InterviewError> {
        self.read(name)?.ok_or_else(|| InterviewError::NoProfile {
            name: name.to_owned(),
            run: self.run.clone(),
            known: self.names().unwrap_or_default(),
        })
    }

    /// The profile of that name; one that is not there begins, with ties offered, and is written with its first answer.
    ///
    /// # Errors
    /// When the one that is there is of other objectives or scores.
    pub fn open_or_begin(&self, name: &str, seed: u64) -> Result<Profile, InterviewError> {
        if let Some(profile) = self.read(name)? {
            return Ok(profile);
        }
        let settings = Settings::lasting().with_ties();
        let session = Session::new(self.objectives.clone(), settings, seed)?;
        Ok(self.profile(name, session, String::new()))
    }

    fn read(&self, name: &str) -> Result<Option<Profile>, InterviewError> {
        if !is_name(name) {
            return Err(InterviewError::Name {
                name: name.to_owned(),
            });
        }
        let path = self.path(name);
        if !path.exists() {
            return Ok(None);
        }
        let text = read_text(&path)?;
        let session = Session::replay(&text).map_err(|source| InterviewError::Profile {
            path: path.clone(),
            source,
        })?;
        let header = session.header();
        let other = |what, found: String, expected: String| {
            Err(InterviewError::OtherProfile {
                path: path.clone(),
                what,
                found,
                expected,
                run: self.run.clone(),
            })
        };
        if header.objectives != self.objectives {
            let (found, expected) = (header.objectives.join(", "), self.objectives.join(", "));
            return other("the objectives", found, expected);
        }
        if header.scores.of != self.yardstick.name() {
            let expected = self.yardstick.name().to_owned();
            return other("the scores", header.scores.of.clone(), expected);
        }
        if session.drift() > MOST_DRIFT {
            let drift = session.drift();
            return Err(InterviewError::Edited { path, drift });
        }
        Ok(Some(self.profile(name, session, text)))
    }

    fn profile(&self, name: &str, session: Session, written: String) -> Profile {
        Profile {
            name: name.to_owned(),
            folder: self.folder.join(name),
            run: self.run.clone(),
            session,
            front: self.front.clone(),
            yardstick: self.yardstick.clone(),
            written,
        }
    }
}

impl Profile {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is kept.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was asked and what it came to.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The λ to serve this person: that of the best measured point, or the estimate where no front was measured.
    #[must_use]
    pub fn preference(&self) -> Preference {
        let front = self.front.as_ref();
        let served = front.and_then(|front| self.session.serve(front).ok().cloned());
        served.unwrap_or_else(|| self.session.estimate())
    }

    /// What the person is thought to lose by it, against the best point of the front and relative to the front's range.
    #[must_use]
    pub fn expected_regret(&self) -> Option<f64> {
        let front = self.front.as_ref()?;
        front.expected_regret(self.session.belief()).ok()
    }

    /// Whether to ask on.
    ///
    /// # Errors
    /// Never for a profile of its own run.
    pub fn progress(&self) -> Result<Progress, InterviewError> {
        Ok(self.session.progress(self.front.as_deref())?)
    }

    /// The two answers of a pool that it is best to ask about, by their places; nothing when all pairs of them were asked. The
    /// first pool of a profile decides the unit of its scores: their largest range.
    ///
    /// # Errors
    /// When the answers are all the same, or their scores nearly are, or much further apart than the first ones were.
    pub fn ask(&mut self, pool: &Pool) -> Result<Option<Question>, InterviewError> {
        if pool.answers().len() < 2 {
            return Err(InterviewError::OneAnswer {
                run: self.run.clone(),
            });
        }
        let (range, (smallest_range, smallest_unit)) = (pool.range(), self.yardstick.smallest());
        if range < smallest_range {
            return Err(InterviewError::NoDifference {
                run: self.run.clone(),
                range,
                scores: self.yardstick.name(),
            });
        }
        if self.session.entries().is_empty() {
            let header = self.session.header();
            let scale = Scale {
                of: self.yardstick.name().to_owned(),
                unit: range.max(smallest_unit),
            };
            let (objectives, settings, seed) =
                (header.objectives.clone(), header.settings, header.seed);
            self.session = Session::with_scores(objectives, scale, settings, seed)?;
        }
        let candidates = pool.candidates(&self.session);
        let question = (self.session).ask(Criterion::InformationGain, &candidates);
        question.map_err(|error| match error {
            source @ ElicitError::ScoresApart { .. } => InterviewError::FarApart { source },
            error => error.into(),
        })
    }

    /// Whether the file is as this profile was read from it, or written to it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_current(&self) -> Result<bool, InterviewError> {
        Ok(text_of(&self.folder.join(PROFILE))? == self.written)
    }

    /// Learns what the person said about two answers of a pool, and keeps it: the profile, and which of the two was preferred.
    ///
    /// # Errors
    /// When the answer does not fit, or somebody else wrote to the profile meanwhile; nothing is learnt then. Where only the
    /// record of what was preferred cannot be written, the answer is learnt all the same.
    pub fn answer(
        &mut self,
        pool: &Pool,
        (left, right): (usize, usize),
        answer: Answer,
    ) -> Result<(), InterviewError> {
        let path = self.folder.join(PROFILE);
        let mut session = self.session.clone();
        let candidates = pool.candidates(&session);
        let front = self.front.as_deref();
        session.answer(&candidates[left], &candidates[right], answer, front)?;
        let text = session.to_text();
        let locked = self.lock()?;
        if !self.is_current()? {
            return Err(InterviewError::Changed { path });
        }
        write_file(&path, text.as_bytes())?;
        (self.session, self.written) = (session, text);
        // Behind the profile: an answer without its record is better than a record without its answer.
        let (left, right) = (&pool.answers()[left], &pool.answers()[right]);
        match answer {
            Answer::Left => self.keep_preference(pool, left, right)?,
            Answer::Right => self.keep_preference(pool, right, left)?,
            Answer::AboutEqual | Answer::Skip => {}
        }
        drop(locked);
        Ok(())
    }

    /// Waits until nobody else writes to this profile. The operating system gives the lock back with the file.
    fn lock(&self) -> Result<File, FileError> {
        fs::create_dir_all(&self.folder)
            .map_err(FileError::of("create the folder", &self.folder))?;
        let path = self.folder.join(LOCK);
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(FileError::of("write", &path))?;
        file.lock().map_err(FileError::of("lock", &path))?;
        Ok(file)
    }

    /// Adds a record in TRL's conversational form. Training has no use for a text without words.
    fn keep_preference(
        &self,
        pool: &Pool,
        chosen: &WrittenAnswer,
        rejected: &WrittenAnswer,
    ) -> Result<(), InterviewError> {
        if chosen.text.trim().is_empty() || rejected.text.trim().is_empty() {
            return Ok(());
        }
        let path = self.folder.join(PREFERENCES);
        let mut records = text_of(&path)?;
        let said = |answer: &WrittenAnswer| json!([{"role": "assistant", "content": answer.text}]);
        let Prompt {
            messages,
            variables,
            ..
        } = pool.prompt();
        let mut record = json!({
            "prompt": messages,
            "chosen": said(chosen),
            "rejected": said(rejected),
        });
        // What the template saw beside the turns, where records have it.
        let mut others = variables.clone();
        for column in ["tools", "documents"] {
            if let Some(value) = others.remove(column) {
                record[column] = value;
            }
        }
        if !others.is_empty() {
            record["chat_template_kwargs"] = Value::Object(others);
        }
        records += &record.to_string();
        records.push('\n');
        Ok(write_file(&path, records.as_bytes())?)
    }
}

/// What is in a file; nothing where there is none.
fn text_of(path: &Path) -> Result<String, FileError> {
    match path.exists() {
        true => read_text(path),
        false => Ok(String::new()),
    }
}

/// A name that is safe as that of a folder, in an address and in a command.
fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.len() <= LONGEST_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(is_plain)
}

/// The front that was measured of a run, if there is one, and what is to be said of that.
fn measured_front(
    run: &RunFolder,
    plan: &Plan,
    yardstick: &Yardstick,
) -> Result<(Option<Front>, Option<String>), InterviewError> {
    let none = |why: String| Ok((None, Some(why)));
    if yardstick.note.is_some() {
        return none(
            "the front is of rewards, which these answers are not compared by: what a wrong preference costs is not known"
                .to_owned(),
        );
    }
    let Some(Measured { method, note, .. }) = Measured::of(run, &plan.objective_names())? else {
        return none(format!(
            "run {name} has no measured front: cargo xtask eval-front --run {name} measures one, and then it is known what a \
             wrong preference costs",
            name = run.name()
        ));
    };
    let mut points = Vec::with_capacity(method.points.len());
    for (place, point) in method.points.iter().enumerate() {
        let preference = Preference::normalised(point.lambda.clone());
        let values = point.values.iter().enumerate();
        points.push(FrontPoint {
            preference: preference.map_err(|source| ElicitError::Preference {
                what: format!("point {} of the front", place + 1),
                source,
            })?,
            values: values
                .map(|(objective, &value)| yardstick.front_value(objective, value))
                .collect(),
        });
    }
    Ok((Some(Front::new(points)?), note))
}
