//! Measuring a run: its front over a grid of preferences, and the exact one where it is known.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use panacea_config::{Learning, Plan, Rlhf};
use panacea_data::{Example, Part};
use panacea_evaluator::exact::{Comparison, KlMenu, KlProblem, Menu, MenuProblem};
use panacea_evaluator::{Cost, ExactFront, Front, MethodPoints, PointRecords};
use panacea_methods::{Served, Trained, Trainings};
use panacea_model::{Generated, Request, Sampling, Steering};
use panacea_objectives::{DpoLoss, Loss, Preference, simplex_grid, usual_divisions};
use panacea_reward_models::Base;
use panacea_runs::{RunFolder, training_totals};
use panacea_svd_lora::ADAPTER_FILE;
use panacea_trainer::{
    Evaluated, References, evaluate, record_values, references, response_log_probs, summarise,
};
use serde::Serialize;

use crate::progress::Progress;
use crate::session::{
    Loaded, computed_by, judges, load_examples, open_language_model, open_plan, open_trained,
};

/// Steps along an edge of the simplex at which the exact front of two objectives is drawn.
const EXACT_DIVISIONS: usize = 100;

/// What a user may choose about a measurement.
#[derive(Clone, Copy)]
pub struct Choices<'a> {
    /// Held-out files; empty: those of the run.
    pub eval: &'a [PathBuf],
    /// Held-out records, at most.
    pub records: Option<usize>,
    /// What a run is measured by, in place of its own objectives, loss and held-out records.
    pub like: Option<&'a Plan>,
    /// The base model, where it has moved.
    pub model: Option<&'a Path>,
    pub device: &'a str,
}

/// A run with all that measuring it takes.
pub struct Opened {
    pub run: RunFolder,
    /// What was trained.
    pub plan: Plan,
    /// What it is measured by: its own plan, or that of another run with the same objectives.
    pub yardstick: Plan,
    pub base: Base,
    pub trained: Trained,
    pub eval: Loaded,
    references: References,
}

/// A measured run.
pub struct Measured {
    pub front: Front,
    /// What a reader of the numbers should know.
    pub notes: Vec<String>,
}

impl Opened {
    pub fn open(run: RunFolder, choices: Choices<'_>) -> Result<Self> {
        let plan = open_plan(&run)?;
        let yardstick = choices.like.unwrap_or(&plan).clone();
        if yardstick.objective_names() != plan.objective_names() {
            bail!(
                "run {} was trained on the objectives {}, and is to be measured like a run on {}: they have to be the same",
                run.name(),
                plan.objective_names().join(", "),
                yardstick.objective_names().join(", ")
            );
        }
        let pretrained = open_language_model(choices.model.unwrap_or(plan.model()))?;
        let files = if choices.eval.is_empty() {
            &yardstick.data().eval
        } else {
            choices.eval
        };
        if files.is_empty() && yardstick.objectives().iter().all(|o| o.eval.is_empty()) {
            bail!(
                "run {} was trained without held-out files: give some with --eval",
                run.name()
            );
        }
        let mut eval = load_examples(&yardstick, Part::Eval, files, pretrained.tokenizer()?)?;
        if let Some(records) = choices.records {
            eval.examples.truncate(records);
        }
        let device = panacea_devices::select(choices.device)?;
        let weights = plan.precision().on(&device)?;
        let base = Base::load(pretrained, &device, weights)?;
        let Base {
            pretrained,
            decoder,
        } = &base;
        let trained = open_trained(&run, &plan, decoder)?;
        // What the trainings computed; measuring leaves their folder as it is.
        let runs = run.path().parent().unwrap_or(Path::new("."));
        let references = References::read(
            runs,
            &pretrained.fingerprint()?,
            &computed_by(choices.device, weights),
        )?;
        Ok(Self {
            run,
            plan,
            yardstick,
            base,
            trained,
            eval,
            references,
        })
    }

    /// The grid of preferences with `divisions` steps along each edge of the simplex; by default 10 for two
    /// and three objectives, and for more the most that keeps it below 100 points.
    pub fn grid(&self, divisions: Option<usize>) -> Vec<Preference> {
        let objectives = self.plan.objectives().len();
        simplex_grid(
            objectives,
            divisions.unwrap_or_else(|| usual_divisions(objectives)),
        )
    }

    /// The front of the run over a grid of preferences.
    pub fn measure(&self, grid: &[Preference]) -> Result<Measured> {
        let objectives = self.plan.objective_names();
        let learning = &self.yardstick.method().learning;
        let examples = &self.eval.examples;

        let work = examples.len() * (grid.len() + 1);
        let progress = Progress::new(work, format!("front of {}", self.run.name()));
        let known = &self.references;
        let reference = references(known, &self.base.decoder, learning, examples, || {
            progress.inc()
        })?;
        let mut points = Vec::with_capacity(grid.len());
        let (mut least_mass, mut switch_seconds) = (f64::INFINITY, 0.0);
        for preference in grid {
            let started = Instant::now();
            let Served::Adapter(steering) = self.trained.serve(preference);
            switch_seconds += started.elapsed().as_secs_f64() / grid.len() as f64;
            let log_probs: Vec<Vec<f64>> = match learning {
                Learning::Supervised(loss) => {
                    let records = evaluate(
                        &self.base.decoder,
                        &steering,
                        loss,
                        examples,
                        &reference,
                        || progress.inc(),
                    )?;
                    points.push(point(preference, &objectives, &records));
                    records.into_iter().map(|record| record.outputs).collect()
                }
                Learning::Rlhf(rlhf) => {
                    let log_probs = examples.iter().map(|example| {
                        progress.inc();
                        response_log_probs(&self.base.decoder, Some(&steering), example)
                    });
                    let log_probs = log_probs.collect::<Result<Vec<_>, _>>()?;
                    points.push(menu_point(
                        preference, examples, &log_probs, &reference, rlhf,
                    )?);
                    log_probs
                }
            };
            least_mass = least_mass.min(menu_mass(&log_probs));
        }
        progress.finish();

        let mut notes = vec![format!(
            "Run {}: {} held-out records, log-probabilities of their given responses.",
            self.run.name(),
            examples.len()
        )];
        let mut method = MethodPoints::from_records(
            &self.plan.method().label(),
            &objectives,
            points,
            Some(self.cost(switch_seconds)?),
        )?;
        let mut exact = None;
        let drawn = match objectives.len() {
            2 => &simplex_grid(2, EXACT_DIVISIONS),
            _ => grid,
        };
        let aggregation = &self.yardstick.method().aggregation;
        match learning {
            Learning::Supervised(loss) => {
                if let Some(problem) = menu_problem(objectives.len(), loss, examples) {
                    method.compare(&problem, aggregation);
                    exact = Some(ExactFront::of(&problem, drawn));
                }
            }
            Learning::Rlhf(rlhf) => {
                let problem = kl_problem(objectives.len(), rlhf, examples, &reference)?;
                method.compare(&problem, aggregation);
                exact = Some(ExactFront::of(&problem, drawn));
            }
        }
        if exact.is_some() {
            notes.push(format!(
                "Run {}: every response of the records is judged, so that the exact front over all policies on them is known. \
                 The responses of the records hold at least {:.2} % of the policy's probability at every λ.",
                self.run.name(),
                100.0 * least_mass
            ));
        }
        let front = Front::new(objectives, vec![method], None, exact)?;
        Ok(Measured { front, notes })
    }
}

/// How answers are written.
#[derive(Clone, Copy)]
pub struct Writing {
    /// Tokens of an answer, at most.
    pub max_new_tokens: usize,
    /// Drawn from the policy's probabilities; otherwise the likeliest token, always.
    pub is_sampled: bool,
}

/// A scored answer, as it is kept beside the front.
#[derive(Serialize)]
pub struct ScoredAnswer {
    lambda: Vec<f64>,
    record: String,
    prompt: String,
    answer: String,
    tokens: usize,
    rewards: BTreeMap<String, f64>,
}

impl Opened {
    /// Answers of the policy to prompts, under one preference.
    pub fn write_answers(
        &self,
        prompts: &[impl AsRef<[u32]>],
        steering: &Steering,
        writing: Writing,
    ) -> Result<Vec<Generated>> {
        let decoder = &self.base.decoder;
        let stop = self.base.pretrained.tokenizer()?.stop_ids();
        let prompts = prompts.iter().map(AsRef::as_ref).zip(self.plan.seed()..);
        let requests = prompts.map(|(prompt, seed): (&[u32], u64)| Request {
            prompt: prompt.to_vec(),
            steering: Some(steering.clone()),
            sampling: match writing.is_sampled {
                true => Sampling::exact(),
                false => Sampling::greedy(),
            },
            stop: stop.to_vec(),
            max_new_tokens: writing.max_new_tokens.min(decoder.room_after(prompt)),
            seed,
        });
        Ok(decoder.generate(requests)?)
    }

    /// The front of the run over a grid of preferences, by what its scorers say of its answers to the held-out
    /// prompts; and the answers.
    pub fn measure_rewards(
        &self,
        grid: &[Preference],
        writing: Writing,
    ) -> Result<(Measured, Vec<ScoredAnswer>)> {
        if !matches!(self.yardstick.method().learning, Learning::Rlhf(_)) {
            bail!(
                "run {} has no rewards to score answers by: --by rewards is for runs with method.loss = \"rlhf\"",
                self.run.name()
            );
        }
        let objectives = self.plan.objective_names();
        let tokenizer = self.base.pretrained.tokenizer()?;
        let decode = |tokens: &[u32]| Ok(tokenizer.decode(tokens, true)?);
        let judges = judges(
            &self.yardstick,
            &self.base,
            &self.eval.prompts,
            &decode,
            tokenizer.stop_ids(),
        )?;
        let examples = &self.eval.examples;
        let prompts: Vec<&[u32]> = examples.iter().map(|e| e.prompt.as_slice()).collect();
        let progress = Progress::new(grid.len(), format!("answers of {}", self.run.name()));
        let (mut points, mut kept) = (Vec::with_capacity(grid.len()), Vec::new());
        let mut switch_seconds = 0.0;
        for preference in grid {
            let started = Instant::now();
            let Served::Adapter(steering) = self.trained.serve(preference);
            switch_seconds += started.elapsed().as_secs_f64() / grid.len() as f64;
            let answers = self.write_answers(&prompts, &steering, writing)?;
            let tokens = answers.iter().map(|answer| answer.tokens.as_slice());
            let answered: Vec<(&Example, &[u32])> = examples.iter().zip(tokens).collect();
            let scored = judges.score(&answered)?;
            let column = |i: usize| scored.iter().map(|scored| scored.rewards[i]).collect();
            let lengths = answered.iter().map(|(_, tokens)| tokens.len() as f64);
            points.push(PointRecords {
                lambda: preference.weights().to_vec(),
                records: (0..objectives.len()).map(column).collect(),
                accuracy: None,
                margin: None,
                response_tokens: Some(lengths.sum::<f64>() / answered.len() as f64),
            });
            for ((example, tokens), scored) in answered.iter().zip(scored) {
                kept.push(ScoredAnswer {
                    lambda: preference.weights().to_vec(),
                    record: example.source.to_string(),
                    prompt: judges.prompts[&example.source].text.clone(),
                    answer: scored.text,
                    tokens: tokens.len(),
                    rewards: objectives.iter().cloned().zip(scored.rewards).collect(),
                });
            }
            progress.inc();
        }
        progress.finish();
        let note = format!(
            "Run {}: rewards of {} answers to {} held-out prompts at each λ, {} tokens at most.",
            self.run.name(),
            if writing.is_sampled {
                "sampled"
            } else {
                "greedy"
            },
            self.eval.examples.len(),
            writing.max_new_tokens
        );
        let label = self.plan.method().label();
        let cost = Some(self.cost(switch_seconds)?);
        let method = MethodPoints::from_records(&label, &objectives, points, cost)?;
        let front = Front::new(objectives, vec![method], None, None)?;
        let notes = vec![note];
        Ok((Measured { front, notes }, kept))
    }

    /// What the method took: every training, and every file that has to be kept to serve any preference.
    fn cost(&self, switch_seconds: f64) -> Result<Cost> {
        let folders: Vec<PathBuf> = match self.plan.trainings() {
            Trainings::One => vec![self.run.path().to_owned()],
            Trainings::Each(preferences) => (0..preferences.len())
                .map(|index| self.run.member(index))
                .collect(),
        };
        let mut cost = Cost {
            trainings: folders.len(),
            switch_seconds,
            ..Cost::default()
        };
        for folder in &folders {
            let folder = RunFolder::open(folder)?;
            let totals = training_totals(&folder.metrics())?;
            cost.train_seconds += totals.seconds;
            cost.train_tokens += totals.tokens;
            let adapter = folder.adapter().join(ADAPTER_FILE);
            // A run that is not finished has no adapter yet; its checkpoint's is of the same size.
            cost.bytes += adapter.metadata().map_or(0, |file| file.len());
        }
        Ok(cost)
    }
}

fn point(preference: &Preference, objectives: &[String], records: &[Evaluated]) -> PointRecords {
    let summary = summarise(objectives, records);
    PointRecords {
        lambda: preference.weights().to_vec(),
        records: (0..objectives.len())
            .map(|i| record_values(records, i))
            .collect(),
        accuracy: summary.iter().map(|objective| objective.accuracy).collect(),
        margin: summary.iter().map(|objective| objective.margin).collect(),
        response_tokens: None,
    }
}

/// J_i = E(r_i) − β KL(π ‖ π_ref) of every record, over its own responses, whose probabilities are made to sum to 1.
fn menu_point(
    preference: &Preference,
    examples: &[Example],
    log_probs: &[Vec<f64>],
    references: &[Vec<f64>],
    rlhf: &Rlhf,
) -> Result<PointRecords> {
    let objectives = preference.len();
    let mut values = vec![Vec::with_capacity(examples.len()); objectives];
    for ((example, log_probs), reference) in examples.iter().zip(log_probs).zip(references) {
        let menu = kl_menu(objectives, example, reference)?;
        let problem = KlProblem::new(objectives, rlhf.beta, vec![menu])?;
        let of_record = problem.values(std::slice::from_ref(log_probs));
        for (values, value) in values.iter_mut().zip(of_record) {
            values.push(value);
        }
    }
    Ok(PointRecords {
        lambda: preference.weights().to_vec(),
        records: values,
        accuracy: None,
        margin: None,
        response_tokens: None,
    })
}

/// The problem that RLHF solves on the records' own responses.
fn kl_problem(
    objectives: usize,
    rlhf: &Rlhf,
    examples: &[Example],
    references: &[Vec<f64>],
) -> Result<KlProblem> {
    let menus = examples.iter().zip(references);
    let menus = menus.map(|(example, reference)| kl_menu(objectives, example, reference));
    Ok(KlProblem::new(
        objectives,
        rlhf.beta,
        menus.collect::<Result<_>>()?,
    )?)
}

/// The responses of a record with its own scores of them.
fn kl_menu(objectives: usize, example: &Example, reference: &[f64]) -> Result<KlMenu> {
    let mut rewards = vec![vec![0.0; objectives]; example.responses.len()];
    for judgement in &example.judgements {
        for (reward, score) in rewards[judgement.response]
            .iter_mut()
            .zip(&judgement.labels)
        {
            *reward = score.with_context(|| {
                format!(
                    "{}: response {} has no score on every objective; the front of rewards is measured over the records' own scored responses",
                    example.source,
                    judgement.response + 1
                )
            })?;
        }
    }
    Ok(KlMenu {
        reference: reference.to_vec(),
        rewards,
    })
}

/// The mean over records of the probability that the policy gives to the record's responses together.
fn menu_mass(log_probs: &[Vec<f64>]) -> f64 {
    let mass = |record: &Vec<f64>| record.iter().map(|log| log.exp()).sum::<f64>();
    log_probs.iter().map(mass).sum::<f64>() / log_probs.len() as f64
}

/// The problem of the records as one whose optimum is known: every label is a probability strictly between
/// 0 and 1, no two records share a prompt, and the loss is DPO's without an SFT term.
fn menu_problem(objectives: usize, loss: &Loss, examples: &[Example]) -> Option<MenuProblem> {
    let Loss::Dpo(dpo) = loss else {
        return None;
    };
    let (DpoLoss::Sigmoid { label_smoothing }, 0.0) = (dpo.loss(), dpo.sft_weight()) else {
        return None;
    };
    let prompts: HashSet<&[u32]> = examples.iter().map(|e| e.prompt.as_slice()).collect();
    if prompts.len() < examples.len() {
        return None;
    }
    let smoothed = |label: f64| label * (1.0 - label_smoothing) + (1.0 - label) * label_smoothing;
    let menu = |example: &Example| {
        let comparisons = example.judgements.iter().map(|judgement| {
            let labels = judgement.labels.iter();
            Some(Comparison {
                first: judgement.response,
                second: judgement.against?,
                labels: labels
                    .map(|label| label.map(smoothed))
                    .collect::<Option<_>>()?,
            })
        });
        Some(Menu {
            responses: example.responses.len(),
            comparisons: comparisons.collect::<Option<_>>()?,
        })
    };
    let menus: Option<Vec<Menu>> = examples.iter().map(menu).collect();
    MenuProblem::new(objectives, menus?).ok()
}
