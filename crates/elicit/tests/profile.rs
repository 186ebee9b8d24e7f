//! Profiles: replayed bit for bit, gone on with, and refused with line and field.

use panacea_elicit::{
    ANSWERS_BEFORE_SURE, Answer, Candidate, Criterion, ElicitError, MOST_QUESTIONS, Progress,
    QUESTIONS_PER_ANSWER, Scale, Session, Settings, SimulatedUser, spherical_answers,
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
        assert!(replayed.belief() == session.belief() && replayed.to_text() == text);
        assert_eq!(replayed.drift(), 0.0);
        let mut same_user = user.clone();
        go_on(&mut session, &mut user, "more", 5);
        go_on(&mut replayed, &mut same_user, "more", 5);
        assert!(replayed.belief() == session.belief() && replayed.entries() == session.entries());
        assert!(
            session.to_text().starts_with(&text),
            "answers only add lines"
        );
        assert_eq!(session.entries().len(), 17);
    }
}

/// Scores that are four times as large in a unit that is four times as large say the same, and stand in the profile as they are.
#[test]
fn scores_are_read_in_their_unit() {
    let scale = Scale {
        of: "nats".to_owned(),
        unit: 4.0,
    };
    let settings = Settings::default();
    let mut one = Session::new(names(), settings, 7).expect("a session");
    let mut other = Session::with_scores(names(), scale, settings, 7).expect("a session");
    let candidates = answers("p");
    let larger: Vec<Candidate> = (candidates.iter().cloned())
        .map(|mut candidate| {
            candidate.scores.iter_mut().for_each(|score| *score *= 4.0);
            candidate
        })
        .collect();
    for _ in 0..6 {
        let question = one.ask(Criterion::InformationGain, &candidates);
        let question = question.expect("candidates").expect("a pair");
        let asked = other.ask(Criterion::InformationGain, &larger);
        assert_eq!(asked.expect("candidates"), Some(question));
        let (left, right) = (question.left, question.right);
        for (session, candidates) in [(&mut one, &candidates), (&mut other, &larger)] {
            let (left, right) = (&candidates[left], &candidates[right]);
            let answer = session.answer(left, right, Answer::Left, None);
            answer.expect("an answer");
        }
    }
    assert!(one.belief() == other.belief() && one.belief().answers() == 6);
    let known = other.entries()[0].left.clone();
    assert!(larger.contains(&known));
    assert_eq!(other.known_scores(&known.id), Some(&known.scores[..]));
    assert_eq!(other.known_scores("none"), None);
    let replayed = Session::replay(&other.to_text()).expect("a profile");
    assert!(replayed.belief() == one.belief());
    assert_eq!(replayed.header().scores.of, "nats");
}

#[test]
fn other_seeds_are_other_beliefs() {
    let text = session(Settings::default().with_ties(), 3).0.to_text();
    let other = text.replacen("\"seed\":7", "\"seed\":8", 1);
    let replayed = Session::replay(&other).expect("a profile");
    assert!(replayed.drift() > 0.0 && replayed.drift() < 0.05);
}

/// Also where a later line agrees, and after more answers.
#[test]
fn the_largest_drift_of_all_lines_is_kept() {
    let (session, mut user) = session(Settings::default().with_ties(), 4);
    let text = session.to_text();
    let estimate = session.entries()[1].estimate.weights();
    let written = format!("\"estimate\":[{},{}]", estimate[0], estimate[1]);
    assert_eq!(text.matches(&written).count(), 1, "{written} in {text}");
    let edited = text.replace(&written, "\"estimate\":[0,1]");
    let mut replayed = Session::replay(&edited).expect("a profile");
    assert!((replayed.drift() - estimate[0]).abs() < 1e-12);
    go_on(&mut replayed, &mut user, "more", 2);
    assert!((replayed.drift() - estimate[0]).abs() < 1e-12);
}

/// A sitting is counted from its beginning, and ends by skipped questions too.
#[test]
fn who_comes_back_is_asked_again() {
    let front = spherical_front(2, 1);
    for (settings, at_once) in [
        (Settings::default(), Progress::Sure),
        (Settings::lasting(), Progress::AskOn),
    ] {
        let mut session = Session::new(names(), settings, 7).expect("a session");
        want_the_first(&mut session, 20, Answer::Left);
        assert_eq!(session.progress(Some(&front)), Ok(Progress::Sure));
        assert_eq!(session.progress(None), Ok(Progress::AskedEnough));
        let mut back = Session::replay(&session.to_text()).expect("a profile");
        assert_eq!(back.progress(None), Ok(Progress::AskOn));
        assert_eq!(back.progress(Some(&front)), Ok(at_once));
        want_the_first(&mut back, 1, Answer::Skip);
        want_the_first(&mut back, ANSWERS_BEFORE_SURE - 1, Answer::Left);
        assert_eq!(back.progress(Some(&front)), Ok(at_once));
        want_the_first(&mut back, 1, Answer::Left);
        assert_eq!(back.progress(Some(&front)), Ok(Progress::Sure));
    }
    let mut session = Session::new(names(), Settings::default(), 7).expect("a session");
    want_the_first(&mut session, 20 * QUESTIONS_PER_ANSWER - 1, Answer::Skip);
    assert_eq!(session.progress(None), Ok(Progress::AskOn));
    want_the_first(&mut session, 1, Answer::Skip);
    assert_eq!(session.progress(None), Ok(Progress::AskedEnough));
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

/// A profile of one question, with scores and estimate that are easily found.
const ONE_QUESTION: &str = r#"{"format":"panacea-elicit","version":1,"objectives":["a","b"],"scores":{"of":"scores","unit":1.0},"seed":7,"settings":{"particles":3000,"slip":0.1,"tie":null,"forgetting":0.0,"enough_regret":0.02,"enough_answers":20}}
{"question":1,"left":{"id":"l","preference":[1.0,0.0],"scores":[0.9,0.2]},"right":{"id":"r","preference":null,"scores":[0.3,0.8]},"answer":"left","estimate":[0.625,0.375],"expected_regret":0.08}
"#;

/// What is said of that profile in which `from`, which it has once, stands as `to`.
fn one_refused(from: &str, to: &str) -> String {
    assert_eq!(ONE_QUESTION.matches(from).count(), 1, "{from}");
    let error = Session::replay(&ONE_QUESTION.replace(from, to));
    error.expect_err("no profile").to_string()
}

#[test]
fn numbers_that_are_too_many_or_none_are_refused_with_their_place() {
    assert!(Session::replay(ONE_QUESTION).is_ok());
    let same = |from: &str, to: &str, message: &str| {
        let said = one_refused(from, to);
        assert!(said.starts_with(message), "{said}\nnot: {message}");
    };
    same(
        "[0.9,0.2]",
        "[0.9,0.2,0.5]",
        "line 2, field `left.scores`: the scores of `l` has 3 number(s), but there are 2 objective(s)",
    );
    same(
        "[0.9,0.2]",
        "[0.9]",
        "line 2, field `left.scores`: the scores of `l` has 1 number(s), but there are 2 objective(s)",
    );
    same(
        "0.9",
        "null",
        "line 2, field `left.scores[0]`: invalid type: null, expected f64 (column",
    );
    same(
        "0.9",
        "NaN",
        "line 2, field `left.scores[0]`: expected value",
    );
    same(
        "0.8",
        "1e999",
        "line 2, field `right.scores[1]`: number out of range",
    );
    same(
        "0.9",
        "1e200",
        "line 2, field `left.scores`: number 1 of the scores of `l` is 1000",
    );
    same(
        "0.9",
        "51.0",
        "line 2, field `right.scores`: the scores of two candidates on objective 1 are 50.7 apart",
    );
    same(
        "\"unit\":1.0",
        "\"unit\":0.0",
        "line 1, field `scores.unit`: the unit of the scores is 0; it must be a finite number above 0",
    );
    same(
        "[0.625,0.375]",
        "[0.5,0.3,0.2]",
        "line 2, field `estimate`: the estimate has 3 number(s), but there are 2 objective(s)",
    );
    same("[0.625,0.375]", "[0.625,0.5]", "line 2, field `estimate`: ");
    same(
        "[1.0,0.0]",
        "[0.5,0.3,0.2]",
        "line 2, field `left.preference`: the preference of `l`",
    );
    same(
        ":0.08",
        ":-0.08",
        "line 2, field `expected_regret`: -0.08 is no expected regret",
    );
    same(
        ":0.08",
        ":1e999",
        "line 2, field `expected_regret`: number out of range",
    );
}

#[test]
fn every_field_must_be_there() {
    for (field, name) in [
        ("\"format\":\"panacea-elicit\",", "format"),
        ("\"version\":1,", "version"),
        ("\"objectives\":[\"a\",\"b\"],", "objectives"),
        ("\"scores\":{\"of\":\"scores\",\"unit\":1.0},", "scores"),
        ("\"seed\":7,", "seed"),
        ("\"particles\":3000,", "particles"),
        ("\"tie\":null,", "tie"),
        (",\"enough_answers\":20", "enough_answers"),
        ("\"question\":1,", "question"),
        ("\"id\":\"l\",", "id"),
        ("\"preference\":null,", "preference"),
        (",\"scores\":[0.3,0.8]", "scores"),
        ("\"answer\":\"left\",", "answer"),
        ("\"estimate\":[0.625,0.375],", "estimate"),
        (",\"expected_regret\":0.08", "expected_regret"),
    ] {
        let said = one_refused(field, "");
        assert!(said.contains(&format!("missing field `{name}`")), "{said}");
    }
}

/// Each would take more memory or time than there is, were it not refused before.
#[test]
fn hostile_profiles_are_refused() {
    let names = |count: usize| {
        let names: Vec<String> = (0..count).map(|i| format!("\"{i}\"")).collect();
        names.join(",")
    };
    let many = |particles: &str, objectives: usize| {
        let text = ONE_QUESTION.replace("3000", particles);
        let text = text.replace("\"a\",\"b\"", &names(objectives));
        Session::replay(&text).expect_err("no profile").to_string()
    };
    let said = many("1000000", 100_000);
    assert!(
        said.starts_with("line 1, field `objectives`: 100000 objectives; there may be 64"),
        "{said}"
    );
    for particles in ["1000000", "62501"] {
        let said = many(particles, 64);
        let start = format!("line 1, field `settings.particles`: particles is {particles}; it");
        assert!(said.starts_with(&start), "{said}");
    }
    let said = many("18446744073709551615", 2);
    assert!(said.starts_with("line 1, field `settings.particles`"));
    let long = "x".repeat(1001);
    let said = one_refused("\"a\"", &format!("\"{long}\""));
    assert!(
        said.starts_with("line 1, field `objectives`: the name of an objective has 1001 bytes"),
        "{said}"
    );
    let said = one_refused("\"l\"", &format!("\"{long}\""));
    assert!(
        said.starts_with("line 2, field `left.id`: the id of a candidate has 1001 bytes"),
        "{said}"
    );
    let deep = one_refused("[0.9,0.2]", &"[".repeat(1_000_000));
    assert!(deep.starts_with("line 2, field `left.scores"), "{deep}");
}

#[test]
fn a_profile_holds_so_many_questions() {
    let settings = Settings {
        particles: 3000,
        ..Settings::default()
    };
    let mut session = Session::new(names(), settings, 7).expect("a session");
    want_the_first(&mut session, MOST_QUESTIONS, Answer::Skip);
    let text = session.to_text();
    let refused = session.answer(&answers("p")[0], &answers("p")[1], Answer::Skip, None);
    assert_eq!(refused, Err(ElicitError::TooManyQuestions));
    let back = Session::replay(&text).expect("a profile");
    assert_eq!(back.progress(None), Ok(Progress::AskedEnough));
    let last = text.lines().last().expect("a line");
    let one_more = last.replace("999/", "1000/").replace(":1000,", ":1001,");
    let said = Session::replay(&(text.clone() + &one_more)).expect_err("one too many");
    assert!(
        said.to_string()
            .starts_with("line 1002, field `.`: the profile has 1000 questions"),
        "{said}"
    );
}

#[test]
fn what_was_asked_is_not_asked_again_and_keeps_its_scores() {
    let mut session = Session::new(names(), Settings::default(), 7).expect("a session");
    let mut candidates = answers("p");
    let three = &candidates[..3];
    for (left, right, answer) in [(0, 1, Answer::Left), (1, 2, Answer::Skip)] {
        let answer = session.answer(&three[left], &three[right], answer, None);
        assert!(answer.is_ok());
    }
    let before = session.clone();
    for (left, right) in [(0, 1), (1, 0), (2, 1)] {
        let again = session.answer(&three[left], &three[right], Answer::Left, None);
        let (left, right) = (three[left].id.clone(), three[right].id.clone());
        assert_eq!(again, Err(ElicitError::AskedBefore { left, right }));
    }
    candidates[0].scores[1] += 0.1;
    let changed = Err(ElicitError::ScoresChanged("p/0".to_owned()));
    let answer = session.answer(&candidates[3], &candidates[0], Answer::Left, None);
    assert_eq!(answer, changed.clone().map(|()| &before.entries()[0]));
    let question = session.ask(Criterion::DOptimal, &candidates);
    assert_eq!(question, changed.map(|()| None));
    assert!(session == before);

    let again = |from: &str, to: &str| {
        let line = ONE_QUESTION.lines().last().expect("a line");
        let line = line
            .replace("\"question\":1", "\"question\":2")
            .replace(from, to);
        let text = ONE_QUESTION.to_owned() + &line;
        Session::replay(&text).expect_err("no profile").to_string()
    };
    let said = again("", "");
    assert!(
        said.starts_with("line 3, field `right.id`: `l` and `r` were asked about before"),
        "{said}"
    );
    for (from, side, id) in [("0.9", "left", "l"), ("0.8", "right", "r")] {
        let said = again(from, "0.7");
        let start = format!("line 3, field `{side}.scores`: `{id}` had other scores");
        assert!(said.starts_with(&start), "{said}");
    }
}

/// Scores in another unit are no taste noise between 0.03 and 1.
#[test]
fn scores_that_are_far_apart_are_refused() {
    let mut session = Session::new(names(), Settings::default(), 7).expect("a session");
    let mut candidates = answers("p");
    candidates[2].scores[1] = -200.0;
    let apart = |error: ElicitError| match error {
        ElicitError::ScoresApart { position, .. } => position,
        error => panic!("{error}"),
    };
    let question = session.ask(Criterion::DOptimal, &candidates);
    assert_eq!(question.map_err(apart), Err(2));
    let answer = session.answer(&candidates[1], &candidates[2], Answer::Skip, None);
    assert_eq!(answer.map_err(apart).err(), Some(2));
    let said = session
        .answer(&candidates[2], &candidates[1], Answer::Left, None)
        .expect_err("far apart");
    assert!(
        said.to_string()
            .contains("bring the scores of each objective to a range of about 1")
    );
    assert!(session.entries().is_empty());
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
