//! # What does this person want?
//!
//! A policy that follows a preference λ needs somebody's λ, and few people know theirs as numbers. Here it is found from a
//! few comparisons: two answers are shown, the person says which is better, and a belief about λ gets narrower.
//!
//! ```text
//! utility of a text y       u(y) = λ·r(y)                              r ∈ R^m: its scores on the m objectives
//! left over right           γ + (1 − 2γ)·σ(λ·d/τ)                      d = r(left) − r(right)
//! prior                     λ ~ Dirichlet(1), ln τ ~ U(ln 0.03, ln 1)  τ: taste noise, learnt with λ
//! next question             max H(Σ_j w_j p_j) − Σ_j w_j H(p_j)        over pairs of about 20 answers to a prompt
//! λ̂                         posterior mean
//! λ to serve                that of the point of the measured front with the largest λ̂·J
//! enough                    expected regret of that point below 0.02 of the front's range, or 20 answers
//!                           in one sitting
//! ```
//!
//! ## Is this for you?
//! Yes, if you have texts with scores on several objectives, and a person who can compare them. Bring each objective's scores
//! to a range of about 1 from bad to good, or say their [`Scale`]: that is the unit of τ ([`LARGEST_DIFFERENCE`]). Nothing here knows where texts and
//! scores come from: no tensors, no model, and no files but a profile as text.
//!
//! [`Session`] is all that most need: it asks, learns, says when it is enough, and is written and replayed as a profile.
//! When it is sure, that is a promise about one λ: the one of [`Session::serve`], at which the front was measured. λ̂ says what
//! the person wants. A model seldom puts the best answer for λ̂ at λ̂ exactly, and what it does there was not measured.
//!
//! Below it are [`Belief`] (weighted particles, [`ChoiceModel`]), [`next_question`] with its [`Criterion`], and [`Front`],
//! which says what a wrong λ costs. [`spread_preferences`] says at which λ to write the answers that are compared.
//! [`SimulatedUser`] and [`Study`] measure all of it on people whose wishes are known, an [`UntrainedWish`] among them.
//!
//! ```
//! use panacea_elicit::{Candidate, Criterion, Progress, Session, Settings, SimulatedUser};
//! use panacea_elicit::{spherical_answers, spherical_front};
//! use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//!
//! let objectives = vec!["helpfulness".to_owned(), "conciseness".to_owned()];
//! let mut session = Session::new(objectives, Settings::default(), 7)?;
//! let mut rng = ChaCha8Rng::seed_from_u64(1);
//!
//! // The front of a trained model, and a person; in earnest both are out there.
//! let front = spherical_front(2, 100);
//! let mut person = SimulatedUser::new(vec![0.9, 0.1], 3);
//!
//! let mut prompt = 0;
//! while session.progress(Some(&front))? == Progress::AskOn {
//!     // Answers of the model to a prompt, at λ spread over the simplex, with their scores.
//!     prompt += 1;
//!     let answers: Vec<Candidate> = spherical_answers(&format!("prompt {prompt}"), 2, 20, 0.1, &mut rng);
//!     let Some(question) = session.ask(Criterion::InformationGain, &answers)? else { break };
//!     let (left, right) = (&answers[question.left], &answers[question.right]);
//!     let answer = person.answer(&left.scores, &right.scores);
//!     session.answer(left, right, answer, Some(&front))?;
//! }
//! assert!(session.estimate().weights()[0] > 0.5);
//! // The λ to serve from now on.
//! assert!(session.serve(&front)?.weights()[0] > 0.5);
//!
//! let profile = session.to_text();
//! assert_eq!(Session::replay(&profile)?.belief(), session.belief());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod belief;
mod candidates;
mod choice;
mod dirichlet;
mod error;
mod estimates;
mod front;
mod history;
mod limits;
mod moves;
mod particles;
mod profile;
mod queries;
mod session;
mod settings;
mod simulated;
mod study;

pub use belief::Belief;
pub use candidates::{AskedPairs, Candidate, ranges, spread_preferences};
pub use choice::{Answer, ChoiceModel};
pub use error::ElicitError;
pub use front::{Front, FrontPoint};
pub use limits::{LARGEST_DIFFERENCE, LONGEST_NAME, MOST_OBJECTIVES, MOST_QUESTIONS};
pub use profile::{Entry, Header, ProfileError, Scale};
pub use queries::{Criterion, Question, d_optimality, information_gain, next_question};
pub use session::{ANSWERS_BEFORE_SURE, Progress, QUESTIONS_PER_ANSWER, Session};
pub use settings::Settings;
pub use simulated::{SimulatedUser, spherical_answers, spherical_front};
pub use study::{Study, StudyRow, UntrainedWish};
