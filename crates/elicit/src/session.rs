//! Asking one person: the belief, what was asked, and when it is enough.

use panacea_objectives::Preference;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::belief::Belief;
use crate::candidates::{AskedPairs, Candidate};
use crate::choice::Answer;
use crate::error::ElicitError;
use crate::front::Front;
use crate::profile::{
    Entry, Header, ProfileError, line, read_entries, read_header, refused_entry, refused_header,
};
use crate::queries::{Criterion, Question, next_question};
use crate::settings::Settings;

/// Whether to ask on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another answer is worth asking for.
    AskOn,
    /// The expected regret of what [`Session::serve`] gives is below what is enough.
    Sure,
    /// So many questions were answered that the person should be left alone.
    AskedEnough,
}

/// The questions to one person and the answers, with what they come to. A session is written as a profile
/// ([`Session::to_text`]), read back ([`Session::replay`]), and goes on from there.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    header: Header,
    entries: Vec<Entry>,
    asked: AskedPairs,
    belief: Belief,
}

impl Session {
    /// Nothing asked yet.
    ///
    /// # Errors
    /// With fewer than two objectives, without a name of each, or when a setting is outside of its range.
    pub fn new(
        objectives: Vec<String>,
        settings: Settings,
        seed: u64,
    ) -> Result<Self, ElicitError> {
        Self::begin(Header::new(objectives, seed, settings))
    }

    fn begin(header: Header) -> Result<Self, ElicitError> {
        let names = &header.objectives;
        for (place, name) in names.iter().enumerate() {
            if name.is_empty() || names[..place].contains(name) {
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
        })
    }

    /// The best question among `candidates` that was not asked in this session, in whichever sitting; nothing when all were.
    ///
    /// # Errors
    /// When a candidate does not fit the objectives, or two have the same id.
    pub fn ask(
        &self,
        criterion: Criterion,
        candidates: &[Candidate],
    ) -> Result<Option<Question>, ElicitError> {
        // A stream for each question, and none of the belief's, so that a belief is replayed without asking.
        let mut rng = ChaCha8Rng::seed_from_u64(self.header.seed);
        rng.set_stream(self.entries.len() as u64 + 1);
        next_question(criterion, &self.belief, candidates, &self.asked, &mut rng)
    }

    /// Learns what the person said about two candidates. `front` is what the expected regret is on, where one was measured.
    ///
    /// # Errors
    /// When a candidate or the front does not fit the objectives, both candidates are the same, or ties are not offered and the
    /// answer is one. Nothing is learnt then.
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
        left.check(self.belief.objectives())?;
        right.check(self.belief.objectives())?;
        if left.id == right.id {
            return Err(ElicitError::SameCandidate(left.id.clone()));
        }
        self.belief.update(&left.scores, &right.scores, answer)?;
        self.asked.insert(&left.id, &right.id);
        Ok(())
    }

    /// The session as a profile, in JSON Lines: a header and a line for each question. A new answer only adds a line.
    ///
    /// ```text
    /// {"format":"panacea-elicit","version":1,"objectives":["helpfulness","conciseness"],"seed":7,"settings":{"particles":4000,
    ///  "slip":0.1,"tie":null,"forgetting":0.0,"enough_regret":0.02,"enough_answers":20}}
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
                .map_err(|error| refused_entry(line, &error))?;
            session.entries.push(entry);
        }
        Ok(session)
    }

    /// The largest difference between a weight of λ̂ and what the last line of the profile says of it: 0, but for a profile
    /// that was edited, or written where numbers are rounded differently.
    #[must_use]
    pub fn drift(&self) -> f64 {
        let Some(last) = self.entries.last() else {
            return 0.0;
        };
        let estimate = self.belief.mean();
        let each = estimate.weights().iter().zip(last.estimate.weights());
        each.map(|(now, then)| (now - then).abs())
            .fold(0.0, f64::max)
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
    /// `enough_answers` were given in the life of the profile, skips aside. It is advice: asking on is allowed, as for a lasting
    /// profile that comes back.
    ///
    /// # Errors
    /// When the front has another number of objectives.
    pub fn progress(&self, front: Option<&Front>) -> Result<Progress, ElicitError> {
        let settings = &self.header.settings;
        let regret = front.map(|front| front.expected_regret(&self.belief));
        let is_sure = (regret.transpose()?).is_some_and(|regret| regret < settings.enough_regret);
        Ok(match is_sure {
            true => Progress::Sure,
            false if self.belief.answers() >= settings.enough_answers => Progress::AskedEnough,
            false => Progress::AskOn,
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
