//! Prints how fast each criterion finds out what simulated people want, and how long a question takes to choose.
//!
//! `cargo run --release -p panacea-elicit --example study -- [NOISE OF SCORES] [USERS]`

use std::error::Error;
use std::time::Instant;

use panacea_elicit::{
    Answer, AskedPairs, Belief, Candidate, Criterion, Settings, SimulatedUser, Study,
    next_question, spherical_answers, spherical_front,
};
use panacea_objectives::PreferenceSampler;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const CRITERIA: [Criterion; 4] = [
    Criterion::RandomPair,
    Criterion::BinarySearch,
    Criterion::InformationGain,
    Criterion::DOptimal,
];

/// What varies between studies.
struct Case {
    name: &'static str,
    /// τ of everyone; nothing where each has one from the prior.
    temperature: Option<f64>,
    slip: f64,
    /// A new wish at answer 10.
    changes: bool,
    settings: Settings,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let noise: f64 = arguments.next().map_or(Ok(0.1), |text| text.parse())?;
    let users: usize = arguments.next().map_or(Ok(120), |text| text.parse())?;
    time_questions()?;
    let sitting = Settings::default();
    let case = |name, temperature, slip, settings| Case {
        name,
        temperature: Some(temperature),
        slip,
        changes: false,
        settings,
    };
    let usual = case("τ 0.15, 5 % slips", 0.15, 0.05, sitting);
    println!("\nregret x 1000 (expected by the belief), scores with noise {noise}, {users} users");
    for objectives in [2, 3, 5] {
        for criterion in CRITERIA {
            print(objectives, noise, users, criterion, &usual)?;
        }
    }
    let sure = Settings {
        slip: 0.001,
        ..sitting
    };
    let cases = [
        case("τ 0.05", 0.05, 0.05, sitting),
        case("τ 0.5", 0.5, 0.05, sitting),
        case("no slips", 0.15, 0.0, sitting),
        case("20 % slips", 0.15, 0.2, sitting),
        case("20 % slips, γ 0.001", 0.15, 0.2, sure),
        case("ties offered", 0.15, 0.05, sitting.with_ties()),
        Case {
            changes: true,
            ..case("changes at 10", 0.15, 0.05, sitting)
        },
        Case {
            changes: true,
            ..case("changes at 10, h 0.02", 0.15, 0.05, Settings::lasting())
        },
        Case {
            temperature: None,
            ..case("people of the prior", 0.0, 0.1, sitting)
        },
        case("h 0.02", 0.15, 0.05, Settings::lasting()),
    ];
    for case in &cases {
        print(3, noise, users, Criterion::InformationGain, case)?;
    }
    Ok(())
}

fn print(
    objectives: usize,
    noise: f64,
    count: usize,
    criterion: Criterion,
    case: &Case,
) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let front = spherical_front(objectives, [0, 0, 200, 30, 0, 8][objectives]);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let prompts: Vec<Vec<Candidate>> = (0..60)
        .map(|i| spherical_answers(&format!("prompt {i}"), objectives, 20, noise, &mut rng))
        .collect();
    let flat = PreferenceSampler::new(1.0, 0.0)?;
    let mut wish = || flat.sample(objectives, &mut rng).weights().to_vec();
    let users: Vec<SimulatedUser> = (0..count as u64)
        .map(|seed| {
            let drawn = (seed as f64 + 0.5) / count as f64 * 0.03_f64.ln();
            let user = SimulatedUser::new(wish(), seed)
                .with_temperature(case.temperature.unwrap_or(drawn.exp()))
                .with_slips(case.slip)
                .with_ties(if case.settings.tie.is_some() {
                    0.02
                } else {
                    0.0
                });
            let next = wish();
            if case.changes {
                user.who_changes(11, next)
            } else {
                user
            }
        })
        .collect();
    let study = Study {
        front: &front,
        prompts: &prompts,
        wish: None,
        settings: case.settings,
        criterion,
        answers: 20,
    };
    let rows = study.run(&users, 5)?;
    let criterion = format!("{criterion:?}");
    print!("m = {objectives}  {criterion:16} {:22}", case.name);
    for row in [0, 5, 10, 20].map(|answers| &rows[answers]) {
        print!(
            " {:6.1} ± {:4.1} ({:6.1})",
            1e3 * row.regret.mean,
            1e3 * row.regret.stderr,
            1e3 * row.expected_regret.mean
        );
    }
    println!("   {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// How long each criterion takes for all pairs of 20 candidates, and an answer to be learnt.
fn time_questions() -> Result<(), Box<dyn Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for settings in [Settings::default(), Settings::default().with_ties()] {
        let mut belief = Belief::new(3, &settings, 1)?;
        let candidates = spherical_answers("prompt", 3, 20, 0.1, &mut rng);
        let scores = |i: usize| &candidates[i].scores[..];
        for pair in 0..6 {
            belief.update(scores(2 * pair), scores(2 * pair + 1), Answer::Left)?;
        }
        for criterion in CRITERIA {
            let started = Instant::now();
            for _ in 0..20 {
                let asked = AskedPairs::default();
                next_question(criterion, &belief, &candidates, &asked, &mut rng)?;
            }
            let milliseconds = started.elapsed().as_secs_f64() * 1e3 / 20.0;
            println!(
                "{criterion:?}, ties {:?}: {milliseconds:.2} ms",
                settings.tie
            );
        }
        let (started, before) = (Instant::now(), belief.resamplings());
        for pair in 0..20 {
            belief.update(scores(pair % 20), scores((pair + 7) % 20), Answer::Left)?;
        }
        let milliseconds = started.elapsed().as_secs_f64() * 1e3 / 20.0;
        let resamplings = belief.resamplings() - before;
        println!("an answer: {milliseconds:.2} ms, with {resamplings} of 20 resampled");
    }
    Ok(())
}
