//! Profiles: replayed bit for bit, gone on with, and refused with line and field.

use panacea_elicit::{
    Answer, Candidate, Criterion, Progress, Session, Settings, SimulatedUser, spherical_answers,
    spherical_front,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn names() -> Vec<String> {
    ["helpfulness", "conciseness"].map(str::to_owned).to_vec()
}

fn answers(prompt: &str) -> Vec<Candidate> {
    let mut rng = ChaCha8Rng::seed_from_u64(prompt.len() as u64);
    spherical_answers(prompt, 2, 12, 0.1, &mut rng)
}

/// Asks so many questions about one prompt.
fn go_on(session: &mut Session, user: &mut SimulatedUser, prompt: &str, questions: usize) {
    let candidates = answers(prompt);
    let front = spherical_front(2, 20);
    for _ in 0..questions {
        let question = session.ask(Criterion::InformationGain, &candidates);
        let question = question.expect("candidates").expect("a pair");
        let (left, right) = (&candidates[question.left], &candidates[question.right]);
        let answer = user.answer(&left.scores, &right.scores);
        session
            .answer(left, right, answer, Some(&front))
            .expect("an answer");
    }
}

fn session(settings: Settings, questions: usize) -> (Session, SimulatedUser) {
    let mut session = Session::new(names(), settings, 7).expect("a session");
    let mut user = SimulatedUser::new(vec![0.8, 0.2], 3)
        .with_slips(0.05)
        .with_ties(0.02);
    go_on(&mut session, &mut user, "p", questions);
    (session, user)
}

#[test]
fn a_profile_is_replayed_bit_for_bit_and_goes_on_as_if_never_left() {
    for settings in [Settings::default(), Settings::lasting()] {
        let (mut session, mut user) = session(settings.with_ties(), 12);
        assert!(session.belief().resamplings() > 0);
        let text = session.to_text();
        let mut replayed = Session::replay(&text).expect("a profile");
        assert!(replayed == session && replayed.to_text() == text);
        assert_eq!(replayed.drift(), 0.0);
        let mut same_user = user.clone();
        go_on(&mut session, &mut user, "more", 5);
        go_on(&mut replayed, &mut same_user, "more", 5);
        assert!(replayed == session);
        assert!(
            session.to_text().starts_with(&text),
            "answers only add lines"
        );
        assert_eq!(session.entries().len(), 17);
    }
}

#[test]
fn other_seeds_are_other_beliefs() {
    let text = session(Settings::default().with_ties(), 3).0.to_text();
    let other = text.replacen("\"seed\":7", "\"seed\":8", 1);
    let replayed = Session::replay(&other).expect("a profile");
    assert!(replayed.drift() > 0.0 && replayed.drift() < 0.05);
}

#[test]
fn no_pair_is_asked_twice() {
    let candidates = &answers("p")[..4];
    for criterion in [
        Criterion::InformationGain,
        Criterion::DOptimal,
        Criterion::BinarySearch,
        Criterion::RandomPair,
    ] {
        let mut session = Session::new(names(), Settings::default(), 7).expect("a session");
        let mut asked = 0;
        while let Some(question) = session.ask(criterion, candidates).expect("candidates") {
            assert_eq!(session.ask(criterion, candidates), Ok(Some(question)));
            let (left, right) = (&candidates[question.left], &candidates[question.right]);
            session
                .answer(left, right, Answer::Skip, None)
                .expect("a skip");
            asked += 1;
        }
        assert_eq!(asked, 6, "{criterion:?}");
        assert_eq!(session.belief().answers(), 0);
    }
}

/// Answers, without chance, the question whether the first objective is worth more: always by as much as it takes.
fn want_the_first(session: &mut Session, answers: usize, answer: Answer) {
    for _ in 0..answers {
        let number = session.entries().len();
        let candidate = |side: &str, scores: [f64; 2]| Candidate {
            id: format!("{number}/{side}"),
            preference: None,
            scores: scores.to_vec(),
        };
        let (left, right) = (
            candidate("left", [0.8, 0.2]),
            candidate("right", [0.2, 0.8]),
        );
        session
            .answer(&left, &right, answer, None)
            .expect("an answer");
    }
}

#[test]
fn nothing_more_is_asked_when_it_is_known_or_too_much() {
    // Two points: who prefers the first of them is served by it.
    let front = spherical_front(2, 1);
    let mut session = Session::new(names(), Settings::default(), 7).expect("a session");
    want_the_first(&mut session, 1, Answer::Left);
    assert_eq!(session.progress(Some(&front)), Ok(Progress::AskOn));
    want_the_first(&mut session, 18, Answer::Left);
    assert_eq!(session.progress(Some(&front)), Ok(Progress::Sure));
    let served = session.serve(&front).expect("a preference");
    assert_eq!(served.weights(), [1.0, 0.0]);
    assert_eq!(session.progress(None), Ok(Progress::AskOn));
    want_the_first(&mut session, 1, Answer::Left);
    assert_eq!(session.progress(None), Ok(Progress::AskedEnough));
}

#[test]
fn a_front_of_other_objectives_is_refused_before_anything_is_learnt() {
    let (mut session, _) = session(Settings::default().with_ties(), 2);
    let before = session.clone();
    let front = spherical_front(3, 2);
    let [left, right, ..] = &answers("more")[..] else {
        panic!("two answers")
    };
    let refused = session.answer(left, right, Answer::Left, Some(&front));
    let refused = refused.expect_err("another number of objectives");
    assert_eq!(
        refused.to_string(),
        "each point of the front has 3 number(s), but there are 2 objective(s)"
    );
    assert!(session == before);
    assert_eq!(session.progress(Some(&front)), Err(refused.clone()));
    assert_eq!(session.serve(&front), Err(refused));
}

/// What is said of a profile in which `from` stands as `to`.
fn refused(from: &str, to: &str) -> String {
    let text = session(Settings::default().with_ties(), 3).0.to_text();
    assert!(text.contains(from), "no {from} in {text}");
    let error = Session::replay(&text.replacen(from, to, 1));
    error.expect_err("no profile").to_string()
}

#[test]
fn what_is_no_profile_is_refused_with_line_and_field() {
    assert!(
        Session::replay("")
            .unwrap_err()
            .to_string()
            .contains("is empty")
    );
    let header = "\"format\":\"panacea-elicit\"";
    assert!(refused(header, "\"format\":\"other\"").starts_with("line 1, field `format`: `other`"));
    let newer = refused("\"version\":1,", "\"version\":2,\"more\":0,");
    assert!(
        newer.starts_with("line 1, field `version`: version 2 is not known"),
        "{newer}"
    );
    let unknown = refused("\"particles\"", "\"swarm\":1,\"particles\"");
    assert!(unknown.starts_with("line 1, field `settings"), "{unknown}");
    let few = refused("\"particles\":4000", "\"particles\":40");
    assert!(
        few.starts_with("line 1, field `settings.particles`: particles is 40"),
        "{few}"
    );
    let same = refused("\"conciseness\"", "\"helpfulness\"");
    assert!(same.starts_with("line 1, field `objectives[1]`"), "{same}");

    let moved = refused("\"question\":2", "\"question\":3");
    assert!(
        moved.starts_with("line 3, field `question`: this is question 3"),
        "{moved}"
    );
    let answer = refused("\"answer\":\"", "\"answer\":\"x");
    assert!(
        answer.starts_with("line 2, field `answer`: unknown variant"),
        "{answer}"
    );
    let without = refused("\"expected_regret\"", "\"regret\"");
    assert!(without.starts_with("line 2, field `"), "{without}");
    let twice = refused("}\n{\"question\":2", "}{}\n{\"question\":2");
    assert!(
        twice.starts_with("line 2, field `.`: more follows"),
        "{twice}"
    );
    let cut = refused("\"question\":3", "");
    assert!(cut.starts_with("line 4, field `"), "{cut}");
}

#[test]
fn numbers_that_are_too_many_or_none_are_refused_with_their_place() {
    let more = refused("\"scores\":[", "\"scores\":[0.5,");
    assert!(
        more.starts_with("line 2, field `left.scores`: the scores of `p/"),
        "{more}"
    );
    assert!(
        more.ends_with("has 3 number(s), but there are 2 objective(s)"),
        "{more}"
    );
    let null = refused("\"scores\":[", "\"scores\":[null,");
    assert!(
        null.starts_with("line 2, field `left.scores[0]`: invalid type: null"),
        "{null}"
    );
    assert!(!null.contains("at line 1"), "{null}");
    for endless in ["NaN", "1e999", "Infinity"] {
        let error = refused("\"scores\":[", &format!("\"scores\":[{endless},"));
        assert!(error.starts_with("line 2, field `left.scores"), "{error}");
    }
    let huge = refused("\"scores\":[", "\"scores\":[1e200],\"x\":[");
    assert!(huge.starts_with("line 2, field `left"), "{huge}");
    let off = refused("\"estimate\":[", "\"estimate\":[0.5,");
    assert!(off.starts_with("line 2, field `estimate`"), "{off}");
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let message = |names: &[&str], settings: Settings| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Session::new(names, settings, 1)
            .expect_err("no session")
            .to_string()
    };
    let settings = Settings::default();
    assert!(message(&["a"], settings).starts_with("1 objective(s)"));
    assert!(message(&["a", ""], settings).starts_with("objective 2 is named ``"));
    let wild = Settings {
        slip: f64::NAN,
        ..settings
    };
    assert!(message(&["a", "b"], wild).starts_with("slip is NaN"));
    let wild = Settings {
        tie: Some(0.0),
        ..settings
    };
    assert!(message(&["a", "b"], wild).starts_with("tie is 0"));
    let wild = Settings {
        forgetting: 0.6,
        ..settings
    };
    assert!(message(&["a", "b"], wild).starts_with("forgetting is 0.6"));

    let mut session = Session::new(names(), settings, 1).expect("a session");
    let mut candidates = answers("p");
    let same = session.answer(&candidates[0], &candidates[0], Answer::Left, None);
    assert!(same.unwrap_err().to_string().contains("both sides"));
    candidates[1].id = candidates[0].id.clone();
    let twice = session.ask(Criterion::DOptimal, &candidates);
    assert!(
        twice
            .unwrap_err()
            .to_string()
            .contains("two candidates have the id `p/0`")
    );
    candidates[1].preference = Some("1,0,0".parse().expect("a preference"));
    let other = session.ask(Criterion::DOptimal, &candidates);
    assert!(
        other
            .unwrap_err()
            .to_string()
            .starts_with("the preference of `p/0`")
    );
    assert!(session.entries().is_empty());
}
