//! Profiles that were written once must be replayed the same for as long as their version is read: a replay depends on every
//! constant of the method and on the order of its random draws. Whoever changes one of them gives profiles a new version, and
//! writes these again:
//!
//! `WRITE_PROFILES=1 cargo test -p panacea-elicit --test golden`

use std::path::PathBuf;

use panacea_elicit::{
    Answer, Criterion, Session, Settings, SimulatedUser, spherical_answers, spherical_front,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// Another machine's exponential function may round differently, which is far below this. Another random number is far above.
const ROUNDING: f64 = 1e-6;
const NAMES: [&str; 2] = ["two_objectives_and_ties", "three_objectives_that_forget"];

fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/profiles");
    folder.join(format!("{name}.jsonl"))
}

#[test]
fn profiles_are_replayed_as_they_were_written() {
    if std::env::var_os("WRITE_PROFILES").is_some() {
        write();
    }
    for name in NAMES {
        let text = std::fs::read_to_string(path(name)).expect("a profile");
        let session = Session::replay(&text).expect("a profile");
        let belief = session.belief();
        assert!(session.drift() < ROUNDING, "{name}: {}", session.drift());
        assert_eq!(session.to_text(), text, "{name}");
        assert!(
            belief.resamplings() >= 3,
            "{name}: {}",
            belief.resamplings()
        );
        let said = |answer| session.entries().iter().any(|entry| entry.answer == answer);
        assert!(said(Answer::Left) && said(Answer::Right) && said(Answer::Skip));
        assert_eq!(said(Answer::AboutEqual), belief.settings().tie.is_some());
        assert_eq!(belief.settings().forgetting > 0.0, name == NAMES[1]);
    }
}

/// A person who slips, skips each seventh question, and wants the opposite from the answer in the middle on.
fn asked(wish: &[f64], settings: Settings, questions: usize) -> Session {
    let objectives = wish.len();
    let settings = Settings {
        particles: 3000,
        ..settings
    };
    let names = (1..=objectives).map(|i| format!("objective {i}"));
    let mut session = Session::new(names.collect(), settings, 7).expect("a session");
    let opposite = wish.iter().rev().copied().collect();
    let mut user = SimulatedUser::new(wish.to_vec(), 3)
        .with_slips(0.05)
        .who_changes(questions / 2, opposite);
    if settings.tie.is_some() {
        user = user.with_ties(0.05);
    }
    let front = spherical_front(objectives, 10);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for number in 1..=questions {
        let prompt = format!("prompt {number}");
        let candidates = spherical_answers(&prompt, objectives, 6, 0.1, &mut rng);
        let question = session.ask(Criterion::InformationGain, &candidates);
        let question = question.expect("candidates").expect("a pair");
        let (left, right) = (&candidates[question.left], &candidates[question.right]);
        let answer = match number % 7 {
            0 => Answer::Skip,
            _ => user.answer(&left.scores, &right.scores),
        };
        let entry = session.answer(left, right, answer, Some(&front));
        entry.expect("an answer");
    }
    session
}

fn write() {
    let sessions = [
        asked(&[0.9, 0.1], Settings::default().with_ties(), 30),
        asked(&[0.1, 0.2, 0.7], Settings::lasting(), 30),
    ];
    for (name, session) in NAMES.into_iter().zip(sessions) {
        std::fs::write(path(name), session.to_text()).expect("a file");
    }
}
