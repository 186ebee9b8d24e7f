//! Asking one person: the belief, what was asked, and when it is enough.

use std::collections::{HashMap, HashSet};

use panacea_objectives::Preference;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::belief::Belief;
use crate::candidates::{AskedPairs, Candidate};
use crate::choice::Answer;
use crate::error::{ElicitError, check_length};
use crate::front::Front;
use crate::limits::MOST_QUESTIONS;
use crate::profile::{
    Entry, Header, KIND_OF_SCORES, ProfileError, Scale, line, read_entries, read_header,
    refused_entry, refused_header,
};
use crate::queries::{Criterion, Question, next_question};
use crate::settings::Settings;

/// Scores below 1e100, divided by a unit above this, are finite.
const SMALLEST_UNIT: f64 = 1e-100;

/// Whether to ask on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another answer is worth asking for.
    AskOn,
    /// The expected regret of what [`Session::serve`] gives is below what is enough.
    Sure,
    /// So many questions were asked in this sitting that the person should be left alone, or the profile has [`MOST_QUESTIONS`].
    AskedEnough,
}

/// Answers of each sitting that are asked for before a belief that forgets may be [`Progress::Sure`]: what it was sure of when
/// the person left may no longer be wanted.
pub const ANSWERS_BEFORE_SURE: usize = 3;
/// Questions of a sitting, skipped ones included, for each of `enough_answers`, at which it ends.
pub const QUESTIONS_PER_ANSWER: usize = 2;

/// The questions to one person and the answers, with what they come to. A session is written as a profile
/// ([`Session::to_text`]), read back ([`Session::replay`]), and goes on from there.
///
/// A sitting begins with [`Session::new`] or [`Session::replay`]; how much is asked ([`Session::progress`]) counts from there.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    header: Header,
    entries: Vec<Entry>,
    asked: AskedPairs,
    /// The scores that each id has.
    scores: HashMap<String, Vec<f64>>,
    belief: Belief,
    /// Number of entries when this sitting began.
    began: usize,
    drift: f64,
}

impl Session {
    /// Nothing asked yet.
    ///
    /// # Errors
    /// With fewer than two objectives or more than 64, without a name of each, or when a setting is outside of its range.
    pub fn new(
        objectives: Vec<String>,
        settings: Settings,
        seed: u64,
    ) -> Result<Self, ElicitError> {
        Self::with_scores(objectives, Scale::default(), settings, seed)
    }

    /// Nothing asked yet, with scores of another kind and unit than 1. Candidates and profile have the scores as they are; the
    /// belief sees them divided by the unit.
    ///
    /// # Errors
    /// As for [`Session::new`], and when the unit is not a finite number above 0.
    pub fn with_scores(
        objectives: Vec<String>,
        scores: Scale,
        settings: Settings,
        seed: u64,
    ) -> Result<Self, ElicitError> {
        Self::begin(Header::new(objectives, scores, seed, settings))
    }

    fn begin(header: Header) -> Result<Self, ElicitError> {
        let Scale { of, unit } = &header.scores;
        check_length(KIND_OF_SCORES, of)?;
        if !(unit.is_finite() && *unit > SMALLEST_UNIT) {
            return Err(ElicitError::Unit(*unit));
        }
        let mut names = HashSet::new();
        for (place, name) in header.objectives.iter().enumerate() {
            check_length("the name of an objective", name)?;
            if name.is_empty() || !names.insert(name) {
                return Err(ElicitError::ObjectiveName {
                    position: place + 1,
                    name: name.clone(),
                });
            }
        }
        Ok(Self {
            belief: Belief::new(names.len(), &header.settings, header.seed)?,
            header,
            entries: Vec::new(),
            asked: AskedPairs::default(),
            scores: HashMap::new(),
            began: 0,
            drift: 0.0,
        })
    }

    /// The best question among `candidates` that was not asked in this session, in whichever sitting; nothing when all were.
    /// Two candidates of the same scores are not asked about: no answer would say anything about λ.
    ///
    /// # Errors
    /// When a candidate does not fit the objectives, two have the same id or scores further apart than
    /// [`LARGEST_DIFFERENCE`](crate::LARGEST_DIFFERENCE), or one has other scores than it had in an earlier question.
    pub fn ask(
        &self,
        criterion: Criterion,
        candidates: &[Candidate],
    ) -> Result<Option<Question>, ElicitError> {
        for candidate in candidates {
            self.expect_scores(candidate)?;
        }
        // A stream for each question, and none of the belief's, so that a belief is replayed without asking.
        let mut rng = ChaCha8Rng::seed_from_u64(self.header.seed);
        rng.set_stream(self.entries.len() as u64 + 1);
        let seen: Vec<Candidate> = candidates.iter().map(|c| self.seen(c)).collect();
        next_question(criterion, &self.belief, &seen, &self.asked, &mut rng)
    }

    /// A candidate as the belief sees it.
    fn seen(&self, candidate: &Candidate) -> Candidate {
        let mut seen = candidate.clone();
        for score in &mut seen.scores {
            *score /= self.header.scores.unit;
        }
        seen
    }

    /// The scores that a candidate had in an earlier question, by its id: nothing where it was in none.
    #[must_use]
    pub fn known_scores(&self, id: &str) -> Option<&[f64]> {
        self.scores.get(id).map(Vec::as_slice)
    }

    /// Learns what the person said about two candidates. `front` is what the expected regret is on, where one was measured.
    ///
    /// # Errors
    /// When a candidate or the front does not fit the objectives, both candidates are the same or have scores further apart than
    /// [`LARGEST_DIFFERENCE`](crate::LARGEST_DIFFERENCE), one has other scores than it had in an earlier question, the pair was
    /// asked before, ties are not offered and the answer is one, or the session has [`MOST_QUESTIONS`]. Nothing is learnt then.
    pub fn answer(
        &mut self,
        left: &Candidate,
        right: &Candidate,
        answer: Answer,
        front: Option<&Front>,
    ) -> Result<&Entry, ElicitError> {
        if let Some(front) = front {
            front.expect_objectives(self.belief.objectives())?;
        }
        self.learn(left, right, answer)?;
        let regret = front.map(|front| front.expected_regret(&self.belief));
        self.entries.push(Entry {
            question: self.entries.len() + 1,
            left: left.clone(),
            right: right.clone(),
            answer,
            estimate: self.belief.mean(),
            expected_regret: regret.transpose()?,
        });
        Ok(&self.entries[self.entries.len() - 1])
    }

    fn learn(
        &mut self,
        left: &Candidate,
        right: &Candidate,
        answer: Answer,
    ) -> Result<(), ElicitError> {
        if self.entries.len() >= MOST_QUESTIONS {
            return Err(ElicitError::TooManyQuestions);
        }
        for candidate in [left, right] {
            candidate.check(self.belief.objectives())?;
            self.expect_scores(candidate)?;
        }
        if left.id == right.id {
            return Err(ElicitError::SameCandidate(left.id.clone()));
        }
        if self.asked.contains(&left.id, &right.id) {
            return Err(ElicitError::AskedBefore {
                left: left.id.clone(),
                right: right.id.clone(),
            });
        }
        let (seen_left, seen_right) = (self.seen(left), self.seen(right));
        (self.belief).update(&seen_left.scores, &seen_right.scores, answer)?;
        self.asked.insert(&left.id, &right.id);
        for candidate in [left, right] {
            if !self.scores.contains_key(&candidate.id) {
                let scores = candidate.scores.clone();
                self.scores.insert(candidate.id.clone(), scores);
            }
        }
        Ok(())
    }

    /// Whether a candidate that was in a question has the scores that it had there.
    fn expect_scores(&self, candidate: &Candidate) -> Result<(), ElicitError> {
        match self.scores.get(&candidate.id) {
            Some(scores) if *scores != candidate.scores => {
                Err(ElicitError::ScoresChanged(candidate.id.clone()))
            }
            _ => Ok(()),
        }
    }

    /// The session as a profile, in JSON Lines: a header and a line for each question. A new answer only adds a line.
    ///
    /// ```text
    /// {"format":"panacea-elicit","version":1,"objectives":["helpfulness","conciseness"],"scores":{"of":"scores","unit":1.0},
    ///  "seed":7,"settings":{"particles":4000,"slip":0.1,"tie":null,"forgetting":0.0,"enough_regret":0.02,"enough_answers":20}}
    /// {"question":1,"left":{"id":"a","preference":[1.0,0.0],"scores":[0.9,0.2]},"right":{"id":"b","preference":null,
    ///  "scores":[0.3,0.8]},"answer":"left","estimate":[0.62,0.38],"expected_regret":0.08}
    /// ```
    ///
    /// Each is one line, broken here to be read. Answers are `left`, `right`, `about_equal` and `skip`.
    #[must_use]
    pub fn to_text(&self) -> String {
        let entries = self.entries.iter().map(line);
        line(&self.header) + &entries.collect::<String>()
    }

    /// Reads a profile and learns all its answers again. On the machine and with the program that wrote it, the belief is the
    /// same bit for bit; [`Session::drift`] says how far it is from what was written.
    ///
    /// # Errors
    /// When the text is not a profile of the known version; the error names line and field.
    pub fn replay(text: &str) -> Result<Self, ProfileError> {
        let header = read_header(text)?;
        let mut session = Self::begin(header).map_err(|error| refused_header(&error))?;
        for entry in read_entries(text, session.belief.objectives()) {
            let (line, entry) = entry?;
            session
                .learn(&entry.left, &entry.right, entry.answer)
                .map_err(|error| refused_entry(line, &entry, &error))?;
            let estimate = session.belief.mean();
            let each = estimate.weights().iter().zip(entry.estimate.weights());
            let differences = each.map(|(now, then)| (now - then).abs());
            session.drift = differences.fold(session.drift, f64::max);
            session.entries.push(entry);
        }
        session.began = session.entries.len();
        Ok(session)
    }

    /// The largest difference between a weight of λ̂ and what the profile that was replayed says of it, over all its lines: 0,
    /// but for a profile that was edited, or written where numbers are rounded differently. Later answers leave it as it is.
    #[must_use]
    pub fn drift(&self) -> f64 {
        self.drift
    }

    /// The λ to serve this person on a measured front: that of the point with the largest expected utility. [`Progress::Sure`]
    /// and the expected regrets of the profile are about this λ.
    ///
    /// # Errors
    /// When the front has another number of objectives.
    pub fn serve<'a>(&self, front: &'a Front) -> Result<&'a Preference, ElicitError> {
        front.preference_for(&self.belief)
    }

    /// λ̂, the posterior mean: what the person wants, to be shown, or served where no front was measured. With a front serve
    /// [`Session::serve`]: no regret was measured at λ̂ itself, and [`Progress::Sure`] promises nothing about it.
    #[must_use]
    pub fn estimate(&self) -> Preference {
        self.belief.mean()
    }

    /// Whether to ask on: until the expected regret on `front`, where one was measured, is below `enough_regret`, or
    /// `enough_answers` were given in this sitting, skips aside, or [`QUESTIONS_PER_ANSWER`] times as many questions were
    /// asked, skips included. A belief that forgets is not sure before [`ANSWERS_BEFORE_SURE`] answers of this sitting.
    /// All this is advice: asking on is allowed, up to [`MOST_QUESTIONS`] in the life of a profile.
    ///
    /// # Errors
    /// When the front has another number of objectives.
    pub fn progress(&self, front: Option<&Front>) -> Result<Progress, ElicitError> {
        let settings = &self.header.settings;
        let regret = front.map(|front| front.expected_regret(&self.belief));
        let is_low = (regret.transpose()?).is_some_and(|regret| regret < settings.enough_regret);
        let sitting = &self.entries[self.began..];
        let answers = sitting.iter().filter(|entry| entry.answer != Answer::Skip);
        let (questions, answers) = (sitting.len(), answers.count());
        let most_questions = settings.enough_answers.saturating_mul(QUESTIONS_PER_ANSWER);
        let is_full = self.entries.len() >= MOST_QUESTIONS;
        let is_long = answers >= settings.enough_answers || questions >= most_questions;
        let may_be_sure = settings.forgetting == 0.0 || answers >= ANSWERS_BEFORE_SURE;
        Ok(if is_low && may_be_sure {
            Progress::Sure
        } else if is_long || is_full {
            Progress::AskedEnough
        } else {
            Progress::AskOn
        })
    }

    /// What is known of the person.
    #[must_use]
    pub fn belief(&self) -> &Belief {
        &self.belief
    }

    /// Objectives, seed and settings.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Every question with its answer, in their order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
