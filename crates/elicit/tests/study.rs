//! The whole method in small, on people whose wishes are known: τ = 0.15, 5 % slips, a concave front.

use panacea_elicit::{
    Candidate, Criterion, Front, Settings, SimulatedUser, Study, StudyRow, UntrainedWish,
    spherical_answers, spherical_front,
};
use panacea_objectives::PreferenceSampler;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A front, answers to prompts on it, and wishes.
struct World {
    front: Front,
    prompts: Vec<Vec<Candidate>>,
    wishes: Vec<Vec<f64>>,
}

impl World {
    fn new(objectives: usize, divisions: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let prompts = (0..30)
            .map(|i| spherical_answers(&format!("prompt {i}"), objectives, 12, 0.1, &mut rng));
        let prompts = prompts.collect();
        let flat = PreferenceSampler::new(1.0, 0.0).expect("a distribution");
        let wishes = (0..80).map(|_| flat.sample(objectives, &mut rng).weights().to_vec());
        Self {
            front: spherical_front(objectives, divisions),
            prompts,
            wishes: wishes.collect(),
        }
    }

    /// `count` people.
    fn users(&self, count: usize) -> Vec<SimulatedUser> {
        let wishes = self.wishes.iter().take(count).zip(0..);
        let user = |(wish, seed): (&Vec<f64>, u64)| {
            SimulatedUser::new(wish.clone(), seed).with_slips(0.05)
        };
        wishes.map(user).collect()
    }

    fn run(
        &self,
        users: &[SimulatedUser],
        criterion: Criterion,
        settings: Settings,
        answers: usize,
    ) -> Vec<StudyRow> {
        let settings = Settings {
            particles: 3000,
            ..settings
        };
        let study = Study {
            front: &self.front,
            prompts: &self.prompts,
            wish: None,
            settings,
            criterion,
            answers,
        };
        study.run(users, 5).expect("what fits the front")
    }
}

/// Ten answers of 40 people: against uniform λ's, against random pairs, and against what the belief expects.
fn ten_answers_are_enough(world: &World, at_most: f64) {
    let users = world.users(40);
    let settings = Settings::default();
    let run = |criterion| world.run(&users, criterion, settings, 10);
    let (random, gain, optimal) = (
        run(Criterion::RandomPair),
        run(Criterion::InformationGain),
        run(Criterion::DOptimal),
    );
    let told = format!("random {random:?}\ninformation gain {gain:?}\nD-optimal {optimal:?}");
    let uniform = gain[0].regret.mean;
    for rows in [&gain, &optimal] {
        let regret = rows[10].regret.mean;
        assert!(regret < at_most * uniform, "{regret} of {uniform}\n{told}");
        assert!(regret < random[10].regret.mean, "{regret}\n{told}");
    }
    for rows in [&random, &gain, &optimal] {
        let mean = |value: fn(&StudyRow) -> f64| rows.iter().map(value).sum::<f64>();
        let expected = mean(|row| row.expected_regret.mean);
        let regret = mean(|row| row.regret.mean);
        assert!(expected > 0.8 * regret, "{expected} {regret}\n{told}");
    }
}

#[test]
fn with_two_objectives_ten_answers_leave_less_than_a_fifth_of_the_regret() {
    ten_answers_are_enough(&World::new(2, 40), 1.0 / 5.0);
}

#[test]
fn with_three_objectives_ten_answers_leave_less_than_a_third_of_the_regret() {
    ten_answers_are_enough(&World::new(3, 8), 1.0 / 3.0);
}

/// Who wants something else from answer 11 on is understood again at answer 20 by a belief that forgets.
#[test]
fn a_mind_that_changes_is_followed_by_forgetting() {
    let world = World::new(3, 6);
    let users = world.users(80);
    let (before, after) = users.split_at(40);
    let users: Vec<SimulatedUser> = before
        .iter()
        .zip(after)
        .map(|(user, next)| user.clone().who_changes(11, next.direction().to_vec()))
        .collect();
    let run = |settings| {
        let rows = world.run(&users, Criterion::DOptimal, settings, 20);
        rows[20].regret.mean
    };
    let (keeping, forgetting) = (run(Settings::default()), run(Settings::lasting()));
    assert!(
        forgetting < 0.7 * keeping,
        "{forgetting} with forgetting, {keeping} without"
    );
}

/// A wish for something that no objective measures: half of it is the first objective, and the rest is noise to every
/// belief. What can be known of it is found.
#[test]
fn an_untrained_wish_is_served_as_far_as_the_objectives_reach() {
    let world = World::new(2, 20);
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let prompts = world.prompts.iter();
    let answers = prompts.map(|prompt| {
        let worth = |text: &Candidate| 0.5 * text.scores[0] + 0.5 * rng.random::<f64>();
        prompt.iter().map(worth).collect()
    });
    let wish = UntrainedWish {
        answers: answers.collect(),
        points: (world.front.points().iter())
            .map(|point| point.values[0])
            .collect(),
    };
    let study = Study {
        front: &world.front,
        prompts: &world.prompts,
        wish: Some(&wish),
        settings: Settings::default(),
        criterion: Criterion::DOptimal,
        answers: 20,
    };
    // What they would want by the objectives is not looked at.
    let users: Vec<SimulatedUser> = (0..40)
        .map(|seed| SimulatedUser::new(vec![0.0, 1.0], seed).with_slips(0.05))
        .collect();
    let rows = study.run(&users, 5).expect("what fits the front");
    let (before, after) = (rows[0].regret.mean, rows[20].regret.mean);
    assert!(before > 0.25, "{before}");
    assert!(after < 0.06, "{after}");
}

#[test]
fn what_does_not_fit_the_front_is_refused() {
    let world = World::new(2, 4);
    let study = |prompts| Study {
        front: &world.front,
        prompts,
        wish: None,
        settings: Settings::default(),
        criterion: Criterion::RandomPair,
        answers: 1,
    };
    let run = |study: Study, wish: &[f64]| {
        let error = study.run(&[SimulatedUser::new(wish.to_vec(), 1)], 1);
        error.expect_err("what does not fit").to_string()
    };
    let wish = [0.2, 0.3, 0.5];
    assert!(run(study(&world.prompts), &wish).contains("wants has 3 number(s)"));
    assert_eq!(run(study(&[]), &wish[1..]), "the study has no prompt");

    let fitting = UntrainedWish {
        answers: vec![vec![0.0; 12]; 30],
        points: vec![0.0; 5],
    };
    let refused = |wish: &UntrainedWish| {
        let wish = Some(wish);
        run(
            Study {
                wish,
                ..study(&world.prompts)
            },
            &[0.5, 0.5],
        )
    };
    let mut broken = fitting.clone();
    broken.points.pop();
    let message = "the untrained wish has 4 worth(s) or list(s) of them for the points of the front, of which there are 5";
    assert_eq!(refused(&broken), message);
    let mut broken = fitting.clone();
    broken.answers.pop();
    assert!(refused(&broken).contains("29 worth(s) or list(s) of them for the prompts"));
    let mut broken = fitting.clone();
    broken.answers[2].push(0.0);
    assert!(
        refused(&broken).contains("13 worth(s) or list(s) of them for the candidates of prompt 3")
    );
    let mut broken = fitting;
    broken.answers[2][1] = f64::NAN;
    assert!(refused(&broken).contains("number 2 of the candidates of prompt 3 is NaN"));
}
