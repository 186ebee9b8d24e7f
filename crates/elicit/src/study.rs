//! How much a wrong λ costs after every answer, for people whose wishes are known.

use panacea_objectives::{Estimate, estimate};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::candidates::Candidate;
use crate::error::{ElicitError, check_numbers};
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
    /// What everybody wants in place of the directions, where no objective measures it.
    pub wish: Option<&'a UntrainedWish>,
    /// How beliefs are made.
    pub settings: Settings,
    /// How questions are chosen.
    pub criterion: Criterion,
    /// Answers of each person.
    pub answers: usize,
}

/// A wish for something that no objective measures: what each answer and each point of the front is worth by it. People
/// compare by it; beliefs are told nothing of it, and explain the answers by the objectives as well as these can.
#[derive(Clone, Debug, PartialEq)]
pub struct UntrainedWish {
    /// For each prompt of the study, the worth of each of its candidates, in the unit of τ.
    pub answers: Vec<Vec<f64>>,
    /// The worth of each point of the front.
    pub points: Vec<f64>,
}

impl UntrainedWish {
    /// What is lost by point `chosen`, relative to the spread of the worth over all points.
    fn regret(&self, chosen: usize) -> f64 {
        let best = self.points.iter().copied().fold(f64::MIN, f64::max);
        let worst = self.points.iter().copied().fold(f64::MAX, f64::min);
        match best > worst {
            true => (best - self.points[chosen]) / (best - worst),
            false => 0.0,
        }
    }
}

/// What was known after some answers, as means over people with their standard errors, relative to the front's range; regret
/// of an untrained wish is relative to its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StudyRow {
    /// Number of answers; 0 is the prior.
    pub answers: usize,
    /// What people lose by the point that was chosen for them.
    pub regret: Estimate,
    /// What the beliefs expected that to be. Calibrated beliefs have the same mean in both, where the objectives measure what
    /// people want.
    pub expected_regret: Estimate,
}

impl Study<'_> {
    /// Asks every one of `users`, and has a row for each number of answers from 0 on. No row without users.
    ///
    /// # Errors
    /// When candidates, settings or the wishes of a user do not fit the front, there is no prompt, or an untrained wish does not
    /// say of every candidate and point what it is worth.
    pub fn run(&self, users: &[SimulatedUser], seed: u64) -> Result<Vec<StudyRow>, ElicitError> {
        if self.prompts.is_empty() {
            return Err(ElicitError::NoPrompt);
        }
        self.check_wish()?;
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

    /// Whether the untrained wish, where there is one, has a worth for everything.
    fn check_wish(&self) -> Result<(), ElicitError> {
        let Some(wish) = self.wish else {
            return Ok(());
        };
        let expect = |what: &str, worths: &[f64], expected: usize| match worths.len() == expected {
            true => check_numbers(what, worths, expected),
            false => Err(ElicitError::Wish {
                what: what.to_owned(),
                found: worths.len(),
                expected,
            }),
        };
        expect(
            "the points of the front",
            &wish.points,
            self.front.points().len(),
        )?;
        if wish.answers.len() != self.prompts.len() {
            return Err(ElicitError::Wish {
                what: "the prompts".to_owned(),
                found: wish.answers.len(),
                expected: self.prompts.len(),
            });
        }
        for (place, (worths, candidates)) in wish.answers.iter().zip(self.prompts).enumerate() {
            let what = format!("the candidates of prompt {}", place + 1);
            expect(&what, worths, candidates.len())?;
        }
        Ok(())
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
            let regret = match self.wish {
                Some(wish) => wish.regret(chosen),
                None => self.front.regret(user.direction(), chosen)?,
            };
            course.push([regret, expected]);
            if course.len() > self.answers {
                return Ok(course);
            }
            let prompt = rng.random_range(0..self.prompts.len());
            let candidates = &self.prompts[prompt];
            // A prompt whose pairs were all asked teaches nothing, and counts.
            let Some(question) = session.ask(self.criterion, candidates)? else {
                continue;
            };
            let (left, right) = (&candidates[question.left], &candidates[question.right]);
            let answer = match self.wish {
                Some(UntrainedWish { answers, .. }) => user.compare(
                    answers[prompt][question.left],
                    answers[prompt][question.right],
                ),
                None => user.answer(&left.scores, &right.scores),
            };
            session.answer(left, right, answer, None)?;
        }
    }
}
