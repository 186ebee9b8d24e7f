//! The quickstart's world as one that a person chooses in: what its exact optimum answers at any λ, and what an answer and a λ
//! are worth there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use panacea_config::{Learning, Overrides, Plan, Spec};
use panacea_data::{Loader, Record};
use panacea_elicit::{Candidate, Front, FrontPoint, UntrainedWish, spread_preferences};
use panacea_evaluator::exact::{Comparison, Menu, MenuProblem};
use panacea_objectives::{Judgement, Loss, Preference, RecordKind, simplex_grid};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

/// Where the records' own scores on everything that the world knows are rewards.
const ALL: &str = "quickstart-rlhf-10.toml";
/// The λ at which the answers to one prompt are written.
const WRITTEN_AT: usize = 20;

/// What answers and λ are worth by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// An answer by its own scores, and J_i is their mean under the policy.
    Scores,
    /// An answer by log π(λ = e_i) − log π_base, and J_i is −L_i, the training's own: what a run that learnt from pairs has.
    LogRatios,
}

/// A configuration of the quickstart, its exact optimum, and the scores of all answers.
pub struct World {
    /// The objectives that it trains, m of them.
    pub trained: Vec<String>,
    /// What the world scores as well; nothing where answers are not worth their scores.
    pub untrained: Vec<String>,
    /// What it goes by.
    pub worth: Worth,
    problem: MenuProblem,
    beta: f64,
    /// Of each answer of each menu: the trained objectives' scores in one unit for all, then each untrained one's in its
    /// own.
    scores: Vec<Vec<Vec<f64>>>,
    /// What the scores were divided by.
    pub unit: f64,
}

impl World {
    /// From the name of a configuration.
    pub fn open(config: &str, worth: Worth) -> Result<Self> {
        let (plan, all) = (plan(config)?, plan(ALL)?);
        let trained = plan.objective_names();
        let of_all = all.objective_names();
        let is_scored = |name: &&String| worth == Worth::Scores && !trained.contains(name);
        let untrained: Vec<String> = of_all.iter().filter(is_scored).cloned().collect();
        let place = |name: &String| {
            let place = of_all.iter().position(|other| other == name);
            place.with_context(|| format!("{ALL} has no objective `{name}`"))
        };
        let places: Vec<usize> = (trained.iter().chain(&untrained))
            .map(place)
            .collect::<Result<_>>()?;

        let Learning::Supervised(Loss::Dpo(dpo)) = &plan.method().learning else {
            bail!("{config} does not train with DPO, whose optimum is what is served here");
        };
        let labelled = records(&plan, RecordKind::Pair)?;
        let problem = MenuProblem::new(
            trained.len(),
            labelled.iter().map(menu).collect::<Result<_>>()?,
        )?;
        let mut world = Self {
            trained,
            untrained,
            worth,
            problem,
            beta: dpo.beta(),
            scores: Vec::new(),
            unit: 1.0,
        };
        world.scores = match worth {
            Worth::Scores => (records(&all, RecordKind::Prompt)?.iter())
                .map(|record| own_scores(record, &places))
                .collect::<Result<_>>()?,
            Worth::LogRatios => world.log_ratios(),
        };
        world.scale();
        Ok(world)
    }

    /// log π(y|x; λ = e_i) − log π_base(y|x) of each answer y of each menu x.
    fn log_ratios(&self) -> Vec<Vec<Vec<f64>>> {
        let vertices = (0..self.objectives()).map(|i| Preference::vertex(self.objectives(), i));
        let specialists: Vec<Vec<Vec<f64>>> = vertices.map(|vertex| self.policy(&vertex)).collect();
        let menu = |x: usize| {
            let answers = specialists[0][x].len();
            let ratios =
                move |y: usize, policy: &Vec<Vec<f64>>| (policy[x][y] * answers as f64).ln();
            let answer = |y: usize| specialists.iter().map(|policy| ratios(y, policy)).collect();
            (0..answers).map(answer).collect()
        };
        (0..specialists[0].len()).map(menu).collect()
    }

    /// Scores go from bad to good within 1: by one unit for all trained objectives, and by each untrained one's own.
    fn scale(&mut self) {
        let range = |i: usize| {
            let ranges = self.scores.iter();
            let ranges = ranges.map(|menu| range(menu.iter().map(|r| r[i])));
            ranges.fold(0.0, f64::max)
        };
        let trained = self.objectives();
        self.unit = (0..trained).map(range).fold(0.0, f64::max);
        let untrained = (trained..trained + self.untrained.len()).map(range);
        let units: Vec<f64> = std::iter::repeat_n(self.unit, trained)
            .chain(untrained)
            .collect();
        for answer in self.scores.iter_mut().flatten() {
            for (score, unit) in answer.iter_mut().zip(&units) {
                *score /= unit;
            }
        }
    }

    /// The number m of objectives.
    pub fn objectives(&self) -> usize {
        self.trained.len()
    }

    /// The probability that the exact optimum at λ gives to each answer of each menu: ∝ exp(h/β), with h the optimal
    /// implicit rewards, since the reference gives all answers of a menu the same probability.
    fn policy(&self, preference: &Preference) -> Vec<Vec<f64>> {
        let optimum = self.problem.linear(preference.weights());
        let policy = |rewards: &Vec<f64>| {
            let largest = rewards.iter().copied().fold(f64::MIN, f64::max);
            let tilts = rewards.iter().map(|h| ((h - largest) / self.beta).exp());
            let tilts: Vec<f64> = tilts.collect();
            let sum: f64 = tilts.iter().sum();
            tilts.iter().map(|tilt| tilt / sum).collect()
        };
        optimum.scores.iter().map(policy).collect()
    }

    /// J at λ: where answers are worth their scores, the mean over menus of the expected scores of an answer of the optimum,
    /// untrained ones behind the others; else −L_i of the optimum.
    pub fn values(&self, preference: &Preference) -> Vec<f64> {
        if self.worth == Worth::LogRatios {
            return self.problem.linear(preference.weights()).values;
        }
        let mut values = vec![0.0; self.trained.len() + self.untrained.len()];
        for (probabilities, scores) in self.policy(preference).iter().zip(&self.scores) {
            for (probability, scores) in probabilities.iter().zip(scores) {
                for (value, score) in values.iter_mut().zip(scores) {
                    *value += probability * score / self.scores.len() as f64;
                }
            }
        }
        values
    }

    /// The values at every one of `preferences`.
    pub fn all_values(&self, preferences: &[Preference]) -> Vec<Vec<f64>> {
        preferences.par_iter().map(|p| self.values(p)).collect()
    }

    /// What is served and asked about.
    pub fn open_to_people(&self, divisions: usize, seed: u64) -> Result<Served> {
        let grid = simplex_grid(self.objectives(), divisions);
        let values = self.all_values(&grid);
        let points = grid.into_iter().zip(&values);
        let points = points.map(|(preference, values)| FrontPoint {
            preference,
            values: values[..self.objectives()].to_vec(),
        });
        let front = Front::new(points.collect())?;
        let (prompts, responses) = self.answers(seed);
        let wish = |column: usize| UntrainedWish {
            answers: (responses.iter().zip(&self.scores))
                .map(|(places, menu)| places.iter().map(|&y| menu[y][column]).collect())
                .collect(),
            points: values.iter().map(|values| values[column]).collect(),
        };
        let columns = self.objectives()..self.objectives() + self.untrained.len();
        Ok(Served {
            front,
            prompts,
            wishes: columns.map(wish).collect(),
        })
    }

    /// The answers that people compare: for each prompt one drawn from the optimum at each of twenty spread λ, each once;
    /// with their places in the menu.
    fn answers(&self, seed: u64) -> (Vec<Vec<Candidate>>, Vec<Vec<usize>>) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let spread = spread_preferences(self.objectives(), WRITTEN_AT, &mut rng);
        let policies: Vec<Vec<Vec<f64>>> = spread.par_iter().map(|p| self.policy(p)).collect();
        let menus = self.scores.iter().enumerate();
        let answers = menus.map(|(menu, scores)| {
            let (mut candidates, mut places) = (Vec::new(), Vec::new());
            let mut written = HashSet::new();
            for (preference, policy) in spread.iter().zip(&policies) {
                let place = draw(&policy[menu], rng.random());
                if written.insert(place) {
                    candidates.push(Candidate {
                        id: format!("prompt {}, answer {}", menu + 1, place + 1),
                        preference: Some(preference.clone()),
                        scores: scores[place][..self.objectives()].to_vec(),
                    });
                    places.push(place);
                }
            }
            (candidates, places)
        });
        answers.unzip()
    }
}

/// What there is for people to compare, and to be served.
pub struct Served {
    /// The grid of λ with J.
    pub front: Front,
    /// The answers to each prompt.
    pub prompts: Vec<Vec<Candidate>>,
    /// The wish for each untrained objective.
    pub wishes: Vec<UntrainedWish>,
}

/// The place that a uniform number in [0, 1) falls on.
fn draw(probabilities: &[f64], number: f64) -> usize {
    let mut reached = 0.0;
    let found = probabilities.iter().position(|probability| {
        reached += probability;
        number < reached
    });
    found.unwrap_or(probabilities.len() - 1)
}

fn range(values: impl Iterator<Item = f64> + Clone) -> f64 {
    values.clone().fold(f64::MIN, f64::max) - values.fold(f64::MAX, f64::min)
}

fn root() -> &'static Path {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
    benches.parent().expect("benches lie in the workspace")
}

fn plan(config: &str) -> Result<Plan> {
    let spec = Spec::read(&root().join("configs").join(config))?;
    Ok(Plan::resolve(spec, &Overrides::default())?)
}

fn records(plan: &Plan, kind: RecordKind) -> Result<Vec<Record>> {
    let files = plan.data().train.iter().map(|file| root().join(file));
    let files: Vec<PathBuf> = files.collect();
    Ok(Loader::new(kind).load(&files, plan.objectives())?.0)
}

/// The comparisons of a record, as the training reads them.
fn menu(record: &Record) -> Result<Menu> {
    let comparison = |judgement: &Judgement| {
        Some(Comparison {
            first: judgement.response,
            second: judgement.against?,
            labels: judgement.labels.iter().copied().collect::<Option<_>>()?,
        })
    };
    let comparisons: Option<Vec<Comparison>> = record.judgements.iter().map(comparison).collect();
    Ok(Menu {
        responses: record.responses.len(),
        comparisons: comparisons
            .with_context(|| format!("{}: a comparison lacks a label", record.source))?,
    })
}

/// The record's scores of each of its answers on the objectives at these places.
fn own_scores(record: &Record, places: &[usize]) -> Result<Vec<Vec<f64>>> {
    let answer = |scores: &Vec<Option<f64>>| places.iter().map(|&i| scores[i]).collect();
    let scores: Option<Vec<Vec<f64>>> = record.scores.iter().map(answer).collect();
    scores.with_context(|| format!("{}: a score is missing", record.source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use panacea_objectives::sigmoid;

    /// The problem is the one whose front `eval-front` measures the quickstart against: docs/results.md has its reference,
    /// the worst values of the exact front minus a tenth of their range.
    #[test]
    fn the_problem_is_that_of_the_documentation() {
        let world = World::open("quickstart.toml", Worth::Scores).expect("a world");
        let front = simplex_grid(2, 10);
        let front = front
            .iter()
            .map(|p| world.problem.linear(p.weights()).values);
        let front: Vec<Vec<f64>> = front.collect();
        for (i, published) in [-1.1224, -1.1243].into_iter().enumerate() {
            let values = front.iter().map(|values| values[i]);
            let worst = values.clone().fold(f64::MAX, f64::min);
            let reference = worst - 0.1 * range(values);
            assert!((reference - published).abs() < 5e-5, "{reference}");
        }
        assert_eq!(world.beta, 1.0);
        assert_eq!(world.untrained.len(), 8);
    }

    /// Scores and labels are of the same answers and objectives: a label is σ of the difference of two scores.
    #[test]
    fn scores_explain_the_labels() {
        let config = "quickstart-3.toml";
        let world = World::open(config, Worth::Scores).expect("a world");
        let plan = plan(config).expect("a plan");
        let records = records(&plan, RecordKind::Pair).expect("records");
        assert_eq!(records.len(), 24);
        for (record, scores) in records.iter().zip(&world.scores) {
            assert_eq!(record.judgements.len(), 45);
            for judgement in &record.judgements {
                let against = judgement.against.expect("a pair");
                for (i, label) in judgement.labels.iter().enumerate() {
                    let difference = scores[judgement.response][i] - scores[against][i];
                    let expected = sigmoid(difference * world.unit);
                    assert!((label.expect("a label") - expected).abs() < 1e-9);
                }
            }
        }
    }

    /// The optimum follows λ, and scores go from bad to good within 1.
    #[test]
    fn the_optimum_serves_what_is_asked_for() {
        let world = World::open("quickstart.toml", Worth::Scores).expect("a world");
        let [brevity, detail] = [0, 1].map(|i| world.values(&Preference::vertex(2, i)));
        assert!(brevity[0] > detail[0] + 0.2 && detail[1] > brevity[1] + 0.2);
        for i in 0..10 {
            let ranges = world.scores.iter();
            let ranges = ranges.map(|menu| range(menu.iter().map(|scores| scores[i])));
            let largest = ranges.fold(0.0, f64::max);
            assert!(largest <= 1.0 + 1e-12 && (i < 2 || largest > 1.0 - 1e-12));
        }
        let total: f64 = world.policy(&Preference::uniform(2))[3].iter().sum();
        assert!((total - 1.0).abs() < 1e-12);
    }

    #[test]
    fn numbers_fall_on_answers_by_their_probabilities() {
        let places = [0.0, 0.24, 0.25, 0.99].map(|number| draw(&[0.25, 0.0, 0.75], number));
        assert_eq!(places, [0, 0, 2, 2]);
    }
}
