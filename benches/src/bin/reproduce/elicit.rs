//! How fast a person's preference is found from comparisons, on the quickstart's exact fronts.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use panacea_elicit::{Criterion, Settings, SimulatedUser, Study, StudyRow};
use panacea_evaluator::plot::{LineChart, Panel, lines_png, lines_svg};
use panacea_evaluator::statistics::{Estimate, estimate};
use panacea_objectives::{Preference, PreferenceSampler};
use panacea_runs::write_file;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

use crate::world::{Served, World, Worth};

/// Simulated people answer comparisons of the answers that the exact optimum gives, with 2, 3 and 5 objectives: what they
/// lose by the λ that is served to them after each answer.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask reproduce elicit
  cargo xtask reproduce elicit --users 20 --picture /tmp/elicit.svg

The tables go to standard output. Nothing is trained, and no model is loaded.")]
pub struct Elicit {
    /// The people that every number is a mean over.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..))]
    users: u32,
    /// The file for the curves: SVG, or PNG where its name ends so.
    #[arg(long, default_value = "docs/pictures/elicit.svg")]
    picture: PathBuf,
}

/// Configurations with the divisions of the grid of λ that is served. Every grid has the uniform λ.
const WORLDS: [(&str, usize); 3] = [
    ("quickstart.toml", 20),
    ("quickstart-3.toml", 9),
    ("quickstart-5.toml", 5),
];
const CRITERIA: [(Criterion, &str); 4] = [
    (Criterion::InformationGain, "information gain"),
    (Criterion::DOptimal, "D-optimal"),
    (Criterion::BinarySearch, "binary search"),
    (Criterion::RandomPair, "random pair"),
];
const ANSWERS: usize = 20;
/// The answer from which on a person who changes wants something else, the first being 1.
const CHANGES_AT: usize = 11;
/// Of the answers that are compared, of people's wishes, and of studies.
const SEEDS: [u64; 3] = [1, 2, 3];

/// What people are like, and what the belief thinks they are like.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// τ
    temperature: f64,
    slip: f64,
    changes: bool,
    settings: Settings,
}

/// What the criteria are compared on.
fn usual() -> Case {
    Case {
        name: "τ = 0.15, 5 % slips",
        temperature: 0.15,
        slip: 0.05,
        changes: false,
        settings: Settings::default(),
    }
}

/// The usual, and what differs from it, one thing a case.
fn cases() -> Vec<Case> {
    let usual = usual();
    let (ties, lasting) = (usual.settings.with_ties(), Settings::lasting());
    #[rustfmt::skip]
    let cases = vec![
        usual,
        Case { name: "τ = 0.05", temperature: 0.05, ..usual },
        Case { name: "τ = 0.5", temperature: 0.5, ..usual },
        Case { name: "no slips", slip: 0.0, ..usual },
        Case { name: "20 % slips", slip: 0.2, ..usual },
        Case { name: "ties offered", settings: ties, ..usual },
        Case { name: "another wish after answer 10", changes: true, ..usual },
        Case { name: "another wish after answer 10, h = 0.02", changes: true, settings: lasting, ..usual },
    ];
    cases
}

/// A world with the people in it.
struct Town {
    world: World,
    served: Served,
    /// λ* of each person, and what the ones who change want then.
    wishes: Vec<[Preference; 2]>,
}

impl Town {
    fn new(config: &str, worth: Worth, divisions: usize, users: usize) -> Result<Self> {
        let world = World::open(config, worth)?;
        let flat = PreferenceSampler::new(1.0, 0.0)?;
        let mut rng = ChaCha8Rng::seed_from_u64(SEEDS[1]);
        let mut wish = || flat.sample(world.objectives(), &mut rng);
        let wishes = (0..users).map(|_| [wish(), wish()]).collect();
        Ok(Self {
            served: world.open_to_people(divisions, SEEDS[0])?,
            world,
            wishes,
        })
    }

    fn users(&self, case: &Case) -> Vec<SimulatedUser> {
        let user = |([now, then], seed): (&[Preference; 2], u64)| {
            let user = SimulatedUser::new(now.weights().to_vec(), seed)
                .with_temperature(case.temperature)
                .with_slips(case.slip)
                .with_ties(case.settings.tie.map_or(0.0, |_| 0.02));
            match case.changes {
                true => user.who_changes(CHANGES_AT, then.weights().to_vec()),
                false => user,
            }
        };
        self.wishes.iter().zip(0..).map(user).collect()
    }

    /// The rows of one study; `untrained`: the place of what everybody wants, where no objective measures it.
    fn study(
        &self,
        case: &Case,
        criterion: Criterion,
        untrained: Option<usize>,
        answers: usize,
    ) -> Result<Vec<StudyRow>> {
        let mut users = self.users(case);
        if untrained.is_some() {
            // All want the same: every untrained objective has its share of the people.
            users.truncate(self.wishes.len().div_ceil(self.world.untrained.len()));
        }
        let study = Study {
            front: &self.served.front,
            prompts: &self.served.prompts,
            wish: untrained.map(|place| &self.served.wishes[place]),
            settings: case.settings,
            criterion,
            answers,
        };
        Ok(study.run(&users, SEEDS[2])?)
    }

    /// What people lose who are served the λ that each of `served` gives them, with J there, relative to the front's range.
    fn regret(&self, served: impl Fn(usize) -> Vec<f64>) -> Result<Estimate> {
        let front = &self.served.front;
        let regret = |(person, [wish, _]): (usize, &[Preference; 2])| {
            let utility = |values: &[f64]| -> f64 {
                let terms = wish.weights().iter().zip(values);
                terms.map(|(weight, value)| weight * value).sum()
            };
            let of_points = front.points().iter().map(|point| utility(&point.values));
            (of_points.fold(f64::MIN, f64::max) - utility(&served(person))) / front.range()
        };
        let regrets: Vec<f64> = self.wishes.iter().enumerate().map(regret).collect();
        estimate(&regrets).context("there are no people")
    }

    fn regret_of_uniform(&self) -> Result<Estimate> {
        let values = self
            .world
            .values(&Preference::uniform(self.world.objectives()));
        self.regret(|_| values.clone())
    }

    /// Of λ* itself, served as it is.
    fn regret_of_wish(&self) -> Result<Estimate> {
        let wishes: Vec<Preference> = self.wishes.iter().map(|[now, _]| now.clone()).collect();
        let values = self.world.all_values(&wishes);
        self.regret(|person| values[person].clone())
    }

    /// The spread of an untrained objective over the grid, in its own unit, and the regret of the uniform λ in that spread.
    fn untrained_spread(&self, place: usize) -> (f64, f64) {
        let points = &self.served.wishes[place].points;
        let best = points.iter().copied().fold(f64::MIN, f64::max);
        let worst = points.iter().copied().fold(f64::MAX, f64::min);
        let uniform = Preference::uniform(self.world.objectives());
        let value = self.world.values(&uniform)[self.world.objectives() + place];
        (best - worst, (best - value) / (best - worst))
    }
}

/// A study to do: of which town, case, criterion and untrained wish.
#[derive(Clone, Copy)]
struct Job {
    town: usize,
    case: Case,
    criterion: Criterion,
    untrained: Option<usize>,
}

/// What all studies of a town found.
#[derive(Default)]
struct Found {
    /// In the order of [`CRITERIA`].
    criteria: Vec<Vec<StudyRow>>,
    /// In the order of [`cases`].
    cases: Vec<Vec<StudyRow>>,
    /// In the order of the untrained objectives.
    untrained: Vec<Vec<StudyRow>>,
}

impl Elicit {
    pub fn run(self) -> Result<()> {
        let started = Instant::now();
        let of = |worth: Worth| -> Result<Vec<Town>> {
            let town = |&(config, divisions): &(&str, usize)| {
                Town::new(config, worth, divisions, self.users as usize)
            };
            WORLDS.iter().map(town).collect()
        };
        let mut towns = of(Worth::Scores)?;
        towns.extend(of(Worth::LogRatios)?);
        let found = studies(&towns)?;
        let (by_scores, by_ratios) = towns.split_at(WORLDS.len());
        let (of_scores, of_ratios) = found.split_at(WORLDS.len());
        println!("{}", tables(by_scores, of_scores)?);
        println!("{}", table_without_questions(by_ratios)?);
        print!("{}", table_of_criteria(by_ratios, of_ratios));
        let chart = chart(by_scores, of_scores)?;
        let is_png = self
            .picture
            .extension()
            .is_some_and(|ending| ending == "png");
        let picture = match is_png {
            true => lines_png(&chart)?,
            false => lines_svg(&chart)?.into_bytes(),
        };
        write_file(&self.picture, &picture)?;
        eprintln!(
            "{}, {:.0} s",
            self.picture.display(),
            started.elapsed().as_secs_f64()
        );
        Ok(())
    }
}

/// Does all studies, as many at once as there are threads.
fn studies(towns: &[Town]) -> Result<Vec<Found>> {
    let cases = cases();
    let jobs_of = |town: usize| {
        // What changes with people is found out where there is most to find out.
        let cases = match towns[town].world.worth {
            Worth::Scores => &cases[..],
            Worth::LogRatios => &cases[..1],
        };
        let job = Job {
            town,
            case: usual(),
            criterion: Criterion::InformationGain,
            untrained: None,
        };
        // The first criterion under the usual case is the first case.
        let criteria = CRITERIA[1..].iter();
        let criteria = criteria.map(move |&(criterion, _)| Job { criterion, ..job });
        let cases = cases.iter().map(move |&case| Job { case, ..job });
        let untrained = 0..towns[town].world.untrained.len();
        let untrained = untrained.map(move |place| Job {
            untrained: Some(place),
            ..job
        });
        cases.chain(criteria).chain(untrained)
    };
    // Those that take longest first.
    let jobs: Vec<Job> = (0..towns.len()).rev().flat_map(jobs_of).collect();
    let rows: Vec<Vec<StudyRow>> = jobs
        .par_iter()
        .with_max_len(1)
        .map(|job| towns[job.town].study(&job.case, job.criterion, job.untrained, ANSWERS))
        .collect::<Result<_>>()?;
    let mut found: Vec<Found> = towns.iter().map(|_| Found::default()).collect();
    for (job, rows) in jobs.iter().zip(rows) {
        let found = &mut found[job.town];
        if job.untrained.is_some() {
            found.untrained.push(rows);
        } else if job.criterion == CRITERIA[0].0 {
            if found.cases.is_empty() {
                found.criteria.push(rows.clone());
            }
            found.cases.push(rows);
        } else {
            found.criteria.push(rows);
        }
    }
    Ok(found)
}

fn show(found: Estimate) -> String {
    format!("{:.3} ± {:.3}", found.mean, found.stderr)
}

/// A line of a table.
fn line(text: &mut String, cells: impl IntoIterator<Item = String>) {
    let cells: Vec<String> = cells.into_iter().collect();
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

/// The head of a table, and the line below it.
fn head(text: &mut String, cells: &[&str]) {
    line(text, cells.iter().map(|&cell| cell.to_owned()));
    let _ = writeln!(text, "|{}", "---|".repeat(cells.len()));
}

fn tables(towns: &[Town], found: &[Found]) -> Result<String> {
    Ok(format!(
        "{}\n{}\n{}\n{}",
        table_without_questions(towns)?,
        table_of_criteria(towns, found),
        table_of_cases(found),
        table_of_untrained(towns, found)
    ))
}

/// The λ that need no answer.
fn table_without_questions(towns: &[Town]) -> Result<String> {
    let mut text = String::new();
    head(&mut text, &["", "m = 2", "m = 3", "m = 5"]);
    let mut row = |name: &str, cell: &dyn Fn(&Town) -> Result<String>| -> Result<()> {
        let cells: Vec<String> = towns.iter().map(cell).collect::<Result<_>>()?;
        line(&mut text, std::iter::once(name.to_owned()).chain(cells));
        Ok(())
    };
    row("λ on the grid", &|town| {
        Ok(town.served.front.points().len().to_string())
    })?;
    row("answers to a prompt, mean", &|town| {
        let prompts = &town.served.prompts;
        let answers: usize = prompts.iter().map(Vec::len).sum();
        Ok(format!("{:.1}", answers as f64 / prompts.len() as f64))
    })?;
    row("unit of the scores", &|town| {
        Ok(format!("{:.3}", town.world.unit))
    })?;
    let range = match towns.iter().all(|town| town.world.worth == Worth::Scores) {
        true => "range of the front, in that unit",
        false => "range of the front, in nats of a loss",
    };
    row(range, &|town| {
        Ok(format!("{:.3}", town.served.front.range()))
    })?;
    row("regret of the uniform λ", &|town| {
        Ok(show(town.regret_of_uniform()?))
    })?;
    row("regret of λ* itself", &|town| {
        Ok(show(town.regret_of_wish()?))
    })?;
    row(
        "regret of the best λ of the grid for λ* (oracle)",
        &|_| Ok("0".to_owned()),
    )?;
    Ok(text)
}

/// How questions are chosen: the regret, and what the belief expects of it.
fn table_of_criteria(towns: &[Town], found: &[Found]) -> String {
    let mut text = String::new();
    head(
        &mut text,
        &[
            "m",
            "questions by",
            "0 answers",
            "5",
            "10",
            "20",
            "stated / true",
        ],
    );
    for (town, found) in towns.iter().zip(found) {
        for ((_, name), rows) in CRITERIA.iter().zip(&found.criteria) {
            let cells = [0, 5, 10, 20].map(|answers| {
                let row = &rows[answers];
                format!("{} ({:.3})", show(row.regret), row.expected_regret.mean)
            });
            let [m, name] = [town.world.objectives().to_string(), (*name).to_owned()];
            let calibration = format!("{:.2}", stated_by_true(rows));
            line(
                &mut text,
                [m, name].into_iter().chain(cells).chain([calibration]),
            );
        }
    }
    text
}

/// The regret that beliefs expect by the one that there is, both as means over all numbers of answers.
fn stated_by_true(rows: &[StudyRow]) -> f64 {
    let sum = |value: fn(&StudyRow) -> f64| rows.iter().map(value).sum::<f64>();
    sum(|row| row.expected_regret.mean) / sum(|row| row.regret.mean)
}

/// The means at 5, 10 and 20 answers, and the standard error of the last.
fn course(rows: &[StudyRow]) -> String {
    let [five, ten, twenty] = [5, 10, 20].map(|answers| rows[answers].regret);
    format!("{:.3} / {:.3} / {}", five.mean, ten.mean, show(twenty))
}

/// What people may be like.
fn table_of_cases(found: &[Found]) -> String {
    let mut text = String::new();
    head(&mut text, &["people", "m = 2", "m = 3", "m = 5"]);
    for (place, case) in cases().iter().enumerate() {
        let cells = found.iter().map(|found| course(&found.cases[place]));
        line(
            &mut text,
            std::iter::once(case.name.to_owned()).chain(cells),
        );
    }
    text
}

/// What no objective measures: how far it goes over the front, the regret of the uniform λ, and that of what is served after
/// answers.
fn table_of_untrained(towns: &[Town], found: &[Found]) -> String {
    let mut text = String::new();
    head(
        &mut text,
        &[
            "m",
            "wish",
            "spread over the front",
            "uniform λ",
            "5 answers",
            "10",
            "20",
        ],
    );
    for (town, found) in towns.iter().zip(found) {
        let m = town.world.objectives().to_string();
        let mut sums = [0.0; 4];
        for (place, name) in town.world.untrained.iter().enumerate() {
            let (spread, uniform) = town.untrained_spread(place);
            let after = [5, 10, 20].map(|answers| found.untrained[place][answers].regret);
            sums[0] += uniform;
            for (sum, after) in sums[1..].iter_mut().zip(after) {
                *sum += after.mean;
            }
            let numbers = [spread, uniform].map(|number| format!("{number:.3}"));
            let cells = [m.clone(), name.clone()].into_iter().chain(numbers);
            line(&mut text, cells.chain(after.map(show)));
        }
        let means = sums.map(|sum| format!("{:.3}", sum / town.world.untrained.len() as f64));
        let cells = [m, "mean of all".to_owned(), String::new()];
        line(&mut text, cells.into_iter().chain(means));
    }
    text
}

fn chart(towns: &[Town], found: &[Found]) -> Result<LineChart> {
    let panel = |(town, found): (&Town, &Found)| {
        let curve = |rows: &Vec<StudyRow>| {
            let points = rows.iter().map(|row| (row.answers as f64, row.regret.mean));
            points.collect()
        };
        Ok(Panel {
            title: format!("{} objectives", town.world.objectives()),
            curves: found.criteria.iter().map(curve).collect(),
            levels: vec![town.regret_of_uniform()?.mean, town.regret_of_wish()?.mean],
        })
    };
    Ok(LineChart {
        title: "What is lost by the λ that is served, against the number of answers".to_owned(),
        subtitle: format!(
            "regret relative to the range of the front, means over {} simulated people, τ = 0.15, 5 % slips; 0: the best λ for each",
            towns[0].wishes.len()
        ),
        x: "answers".to_owned(),
        y: "regret".to_owned(),
        curves: CRITERIA.map(|(_, name)| name.to_owned()).to_vec(),
        levels: ["uniform λ", "λ* itself"].map(str::to_owned).to_vec(),
        panels: towns.iter().zip(found).map(panel).collect::<Result<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use panacea_objectives::simplex_grid;

    /// Where J is what the training optimises, nothing on the grid is better for a person than λ* itself, seldom is a corner
    /// best, and ten answers still leave less than half of what the uniform λ costs.
    #[test]
    fn by_its_own_losses_a_wish_is_served_best_by_itself() {
        let (config, divisions) = WORLDS[0];
        let town = Town::new(config, Worth::LogRatios, divisions, 40).expect("a world");
        let of_wish = town.regret_of_wish().expect("people").mean;
        assert!((-0.01..1e-9).contains(&of_wish), "{of_wish}");
        let corner = town.regret(|_| town.served.front.points()[0].values.clone());
        let [corner, uniform] = [corner, town.regret_of_uniform()].map(|r| r.expect("people").mean);
        assert!(uniform < corner, "{uniform} and {corner}");
        let rows = town.study(&usual(), Criterion::InformationGain, None, 10);
        let rows = rows.expect("a study");
        assert!(rows[10].regret.mean < 0.5 * uniform, "{rows:?}");
        let calibration = stated_by_true(&rows);
        assert!(calibration > 0.8, "{calibration}: {rows:?}");
    }

    /// Ten answers of 40 people: against the uniform λ, against what is chosen without an answer, and against what the belief
    /// says of itself.
    fn ten_answers_are_enough(world: usize, part: f64) {
        let (config, divisions) = WORLDS[world];
        let town = Town::new(config, Worth::Scores, divisions, 40).expect("a world");
        let uniform = town.regret_of_uniform().expect("people").mean;
        for criterion in [Criterion::InformationGain, Criterion::DOptimal] {
            let rows = town.study(&usual(), criterion, None, 10).expect("a study");
            let (chosen, regret) = (rows[0].regret.mean, rows[10].regret.mean);
            let before = uniform.min(chosen);
            assert!(regret < part * before, "{regret} of {before}: {rows:?}");
            let calibration = stated_by_true(&rows);
            assert!(calibration > 0.8, "{calibration}: {rows:?}");
        }
    }

    #[test]
    fn with_two_objectives_ten_answers_leave_less_than_a_fifth_of_the_regret_of_uniform() {
        ten_answers_are_enough(0, 1.0 / 5.0);
    }

    #[test]
    fn with_three_objectives_ten_answers_leave_less_than_a_third_of_the_regret_of_uniform() {
        ten_answers_are_enough(1, 1.0 / 3.0);
    }

    /// Neither the middles between points of the grid nor λ at random have anything better for people, 1e-3 apart; and what is
    /// best for almost all of them is a corner, since their utility has no penalty for leaving the reference, as the optimum's has.
    #[test]
    fn the_grid_costs_less_than_a_thousandth_and_corners_are_best() {
        for (config, divisions) in WORLDS {
            let town = Town::new(config, Worth::Scores, divisions, 400).expect("a world");
            let objectives = town.world.objectives();
            let mut rng = ChaCha8Rng::seed_from_u64(4);
            let flat = PreferenceSampler::new(1.0, 0.0).expect("a distribution");
            let mut others: Vec<Preference> =
                (0..60).map(|_| flat.sample(objectives, &mut rng)).collect();
            if objectives == 2 {
                others.extend(simplex_grid(objectives, 2 * divisions));
            }
            let values = town.world.all_values(&others);
            let points = town.served.front.points();
            let is_corner = |preference: &Preference| preference.weights().contains(&1.0);
            let utility = |person: usize, values: &[f64]| -> f64 {
                let weights = town.wishes[person][0].weights().iter();
                weights.zip(values).map(|(w, v)| w * v).sum()
            };
            let (mut gained, mut corners) = (0.0, 0);
            for person in 0..town.wishes.len() {
                let best = points.iter().max_by(|a, b| {
                    utility(person, &a.values).total_cmp(&utility(person, &b.values))
                });
                let best = best.expect("a point");
                corners += usize::from(is_corner(&best.preference));
                let other = values.iter().map(|values| utility(person, values));
                let other = other.fold(f64::MIN, f64::max);
                gained += (other - utility(person, &best.values)).max(0.0);
            }
            let mean = gained / town.wishes.len() as f64 / town.served.front.range();
            assert!(mean < 1e-3, "{config}: {mean}");
            // With five objectives a few want something in between.
            let least = if objectives < 5 { 400 } else { 360 };
            assert!(corners >= least, "{config}: {corners} of 400, {mean}");
        }
    }
}
