//! How much a wrong λ costs after every answer, for people whose wishes are known.

use panacea_objectives::{Estimate, estimate};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::candidates::Candidate;
use crate::error::ElicitError;
use crate::front::Front;
use crate::queries::Criterion;
use crate::session::Session;
use crate::settings::Settings;
use crate::simulated::SimulatedUser;

/// Simulated people, each asked so many questions about answers to prompts that are drawn at random.
#[derive(Clone, Copy, Debug)]
pub struct Study<'a> {
    /// The front that they choose on.
    pub front: &'a Front,
    /// The answers to each prompt; a question compares two answers to one of them. At least one prompt.
    pub prompts: &'a [Vec<Candidate>],
    /// How beliefs are made.
    pub settings: Settings,
    /// How questions are chosen.
    pub criterion: Criterion,
    /// Answers of each person.
    pub answers: usize,
}

/// What was known after some answers, as means over people with their standard errors, relative to the front's range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StudyRow {
    /// Number of answers; 0 is the prior.
    pub answers: usize,
    /// What people lose by the point that was chosen for them.
    pub regret: Estimate,
    /// What the beliefs expected that to be. Calibrated beliefs have the same mean in both.
    pub expected_regret: Estimate,
}

impl Study<'_> {
    /// Asks every one of `users`, and has a row for each number of answers from 0 on. No row without users.
    ///
    /// # Errors
    /// When candidates, settings or the wishes of a user do not fit the front, or there is no prompt.
    pub fn run(&self, users: &[SimulatedUser], seed: u64) -> Result<Vec<StudyRow>, ElicitError> {
        if self.prompts.is_empty() {
            return Err(ElicitError::NoPrompt);
        }
        let mut seeds = ChaCha8Rng::seed_from_u64(seed);
        let courses = users.iter().map(|user| {
            let (belief, prompts) = (seeds.random(), seeds.random());
            self.ask(user, belief, prompts)
        });
        let courses: Vec<Vec<[f64; 2]>> = courses.collect::<Result<_, _>>()?;
        let row = |answers: usize| {
            let column = |i: usize| {
                let values: Vec<f64> = courses.iter().map(|course| course[answers][i]).collect();
                estimate(&values)
            };
            Some(StudyRow {
                answers,
                regret: column(0)?,
                expected_regret: column(1)?,
            })
        };
        Ok((0..=self.answers).filter_map(row).collect())
    }

    /// Regret and expected regret after each number of answers of one person; a seed for the belief and another for the prompts,
    /// which are to have nothing in common.
    fn ask(
        &self,
        user: &SimulatedUser,
        belief: u64,
        prompts: u64,
    ) -> Result<Vec<[f64; 2]>, ElicitError> {
        let mut user = user.clone();
        let mut rng = ChaCha8Rng::seed_from_u64(prompts);
        let names = (1..=self.front.objectives()).map(|i| format!("objective {i}"));
        let mut session = Session::new(names.collect(), self.settings, belief)?;
        let mut course = Vec::new();
        loop {
            let chosen = self.front.choice(session.belief())?;
            let expected = self.front.expected_regret_of(session.belief(), chosen)?;
            course.push([self.front.regret(user.direction(), chosen)?, expected]);
            if course.len() > self.answers {
                return Ok(course);
            }
            let candidates = &self.prompts[rng.random_range(0..self.prompts.len())];
            // A prompt whose pairs were all asked teaches nothing, and counts.
            let Some(question) = session.ask(self.criterion, candidates)? else {
                continue;
            };
            let (left, right) = (&candidates[question.left], &candidates[question.right]);
            let answer = user.answer(&left.scores, &right.scores);
            session.answer(left, right, answer, None)?;
        }
    }
}
