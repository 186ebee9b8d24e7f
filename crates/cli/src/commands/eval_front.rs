//! `eval-front`: measures and draws the Pareto front of runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use panacea_config::{Learning, Plan};
use panacea_evaluator::{
    Answer, EvaluatorError, Front, MeasuredRun, PromptSamples, Provenance, REPORT_FILES, Report,
    check_reference, wrapped,
};
use panacea_measure::{Asked, Choices, MeasureError, Opened, Sample, Writing, grid};
use panacea_methods::Served;
use panacea_objectives::Preference;
use panacea_runs::{CountedProgress, RunFolder, write_file};
use panacea_trainer::{PromptText, Records};

use crate::evaluation::{keep_evaluation, refuse_occupied};
use crate::session::{RUNS, say_aside};
use crate::shell;
use crate::terminal::{columns, span};

/// Of a front with more points than this the terminal shows the vertices; the files have them all.
const SHOWN_POINTS: usize = 21;

/// Tokens of an answer, at most, where nothing else is said.
pub const MAX_NEW_TOKENS: usize = 256;
/// What may be asked of any model.
const ANY_PROMPT: &str = "Why is the sky blue?";

/// Characters of a prompt that is printed in a command, at most.
const LINE: usize = 80;

/// The scored answers of `--by rewards`.
const ANSWERS: &str = "answers.jsonl";

/// Measure a run's Pareto front on held-out records, and draw it.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask eval-front --run first --eval test.jsonl
  cargo xtask eval-front --run first --divisions 20 --prompts 0
  cargo xtask eval-front --run ppo --by rewards --sampled
  cargo xtask eval-front --run linear --run tchebycheff --out comparison
  cargo xtask eval-front --run ppo --run dpo --like ppo --out comparison")]
pub struct Arguments {
    /// The run; the newest one by default. Several are drawn together.
    #[arg(long)]
    run: Vec<String>,
    /// Measure every run by the loss and the held-out records of this one, which has the same objectives. Default: each
    /// by its own.
    #[arg(long, value_name = "RUN")]
    like: Option<String>,
    /// Held-out files. Default: those of the run.
    #[arg(long, num_args = 1..)]
    eval: Vec<PathBuf>,
    /// What a run is measured by: the held-out records' own responses, or, for RLHF, answers that its scorers score.
    #[arg(long, value_enum, default_value = "records")]
    by: By,
    /// With --by rewards: draw answers from the policy's probabilities, in place of the likeliest tokens.
    #[arg(long)]
    sampled: bool,
    /// Steps of the grid of preferences along each edge of the simplex. Default: 10 for two objectives,
    /// fewer for more, so that the grid stays below 100 points; and of a run that was trained at one λ, that one alone.
    #[arg(long)]
    divisions: Option<usize>,
    /// Held-out records that are measured, from the first on, or `all`. Default: as many as take a quarter of the time of
    /// the training, with the answers.
    #[arg(long)]
    records: Option<Count>,
    /// Held-out prompts that are answered under every vertex and the centre, or the only λ of a run; 0 is none. Default: 16, or as
    /// many as there is time for.
    #[arg(long)]
    prompts: Option<usize>,
    /// Tokens of an answer, at most; fewer where the model's context ends.
    #[arg(long, default_value_t = MAX_NEW_TOKENS)]
    max_new_tokens: usize,
    /// The reference of the hypervolume. Default: the componentwise minimum minus a tenth of the range.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    reference: Option<Vec<f64>>,
    /// The base model, where it is no longer at the path that the run was trained on.
    #[arg(long)]
    model: Option<PathBuf>,
    /// The folder to write to, without an evaluation in it. Default: the next of evaluations/001, 002 and so on in the (first)
    /// run's folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where runs are kept.
    #[arg(long, default_value = RUNS)]
    runs: PathBuf,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long, default_value = "flex")]
    device: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Log-probabilities of the responses that the records have.
    Records,
    /// Rewards of the answers that the policy writes; they are kept as answers.jsonl.
    Rewards,
}

/// So many, or all.
#[derive(Clone, Copy)]
struct Count(usize);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self(usize::MAX)),
            (_, Ok(count)) if count > 0 => Ok(Self(count)),
            _ => Err("expected a number from 1 on, or all".to_owned()),
        }
    }
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let names: Vec<Option<&str>> = match self.run.as_slice() {
            [] => vec![None],
            runs => runs.iter().map(|name| Some(name.as_str())).collect(),
        };
        if self.sampled && self.by != By::Rewards {
            bail!("--sampled is about the answers that --by rewards scores: give both, or neither");
        }
        if let Some(out) = &self.out {
            let files: Vec<&str> = REPORT_FILES.into_iter().chain([ANSWERS]).collect();
            refuse_occupied(out, &files)?;
        }
        let like = match &self.like {
            Some(name) => Some(RunFolder::find(&self.runs, Some(name))?.record()?.plan),
            None => None,
        };
        let plans = self.check(&names, like.as_ref())?;
        let (mut runs, mut fronts, mut measured_runs) = (Vec::new(), Vec::new(), Vec::new());
        let mut scored = String::new();
        let (mut samples, mut notes) = (Vec::new(), Vec::new());
        // All runs are measured on the records of the first.
        let mut sample: Option<Sample> = None;
        let mut prompt: Option<String> = None;
        for name in names {
            let mut opened = self.open(name, like.as_ref())?;
            let grid = opened.grid(self.divisions);
            let sample = match sample {
                Some(sample) => sample,
                None => *sample.insert(self.sample(&opened, &plans)?),
            };
            if prompt.is_none() && !opened.policy.plan().data().rendered {
                prompt = short_prompt(&opened.eval);
            }
            opened.measure_first(sample.records);
            let measured = match self.by {
                By::Records => opened.measure(&grid)?,
                By::Rewards => {
                    let writing = Writing {
                        max_new_tokens: self.max_new_tokens,
                        is_sampled: self.sampled,
                    };
                    let (measured, answers) = opened.measure_rewards(&grid, writing)?;
                    for answer in answers {
                        scored.push_str(&serde_json::to_string(&answer)?);
                        scored.push('\n');
                    }
                    measured
                }
            };
            fronts.push((opened.run.name(), measured.front));
            notes.extend(measured.notes);
            notes.push(files_note(&measured.provenance));
            measured_runs.push(measured.provenance);
            samples.push(match sample.prompts {
                0 => Vec::new(),
                count => self.answer(&opened, count, &mut notes)?,
            });
            runs.push(opened.run);
        }
        let names: Vec<&str> = fronts.iter().map(|(name, _)| name.as_str()).collect();
        // More names than that do not fit above a picture; the table and the legend tell the methods.
        let title = match names.len() {
            0..=2 => names.join(", "),
            more => format!("{more} runs"),
        };
        let (first, others) = measured_runs
            .split_first()
            .context("at least one run was opened")?;
        let unlike: Vec<String> = (others.iter())
            .filter_map(|other: &MeasuredRun| first.not_comparable(other))
            .map(|why| format!("The runs are not of one kind: {why}."))
            .collect();
        if !unlike.is_empty() {
            // What is best for one of them is not for all.
            fronts.iter_mut().for_each(|(_, front)| front.exact = None);
        }
        for warning in &unlike {
            warn!("{warning} --like measures all of them as one");
        }
        notes.extend(unlike);
        let mut front = Front::overlay(fronts, self.reference.clone())?;
        let provenance = Provenance {
            panacea: env!("CARGO_PKG_VERSION").to_owned(),
            command: shell::this_command(),
            runs: measured_runs,
        };
        notes.push(format!(
            "Made by panacea {}: {}",
            provenance.panacea, provenance.command
        ));
        front.provenance = Some(provenance);
        // Where several runs have one method, its name in the front says whose answers these are.
        for (samples, method) in samples.iter_mut().zip(&front.methods) {
            for answer in samples.iter_mut().flat_map(|sample| &mut sample.answers) {
                answer.method.clone_from(&method.method);
            }
        }
        for warning in front.warnings() {
            warn!("{warning}");
        }
        let columns = columns().unwrap_or(usize::MAX);
        say!("{}\n", front.value_table(SHOWN_POINTS).fitted(columns, 2));
        say!("{}\n", front.indicator_table().fitted(columns, 1));
        for paragraph in front.verdict() {
            say!("{}\n", wrapped(&paragraph, columns));
        }
        let reference: Vec<_> = front.reference.iter().map(|r| format!("{r:.4}")).collect();
        let reference = format!("reference of the hypervolume: {}", reference.join(", "));
        say!("{}", wrapped(&reference, columns));
        let objectives = front.objectives.clone();
        let report = Report {
            front,
            samples: PromptSamples::side_by_side(samples),
            notes,
            title,
        };
        let answers = (self.by == By::Rewards).then_some(scored);
        let first = runs.first().context("at least one run was opened")?;
        for file in self.keep(first, &report, answers.as_deref())? {
            say!("{}", file.display());
        }
        let is_steered = plans[0].only_preference().is_none();
        let weighed = if is_steered { &objectives[..] } else { &[] };
        say!(
            "next      {}",
            self.ask(first, weighed, prompt.as_deref().unwrap_or(ANY_PROMPT))
        );
        if is_steered {
            say!(
                "          other weights give other answers; {} serve{} shows them side by side in a browser",
                shell::program(),
                shell::run(first, &self.runs)
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Refuses what else would be refused when everything is measured; the plans of the runs.
    fn check(&self, names: &[Option<&str>], like: Option<&Plan>) -> Result<Vec<Plan>> {
        let mut plans: Vec<(String, Plan)> = Vec::new();
        for name in names {
            let run = RunFolder::find(&self.runs, *name)?;
            let (name, plan) = (run.name(), run.record()?.plan);
            if plans.iter().any(|(other, _)| *other == name) {
                bail!("--run {name} is given twice: give every run once");
            }
            plans.push((name, plan));
        }
        let names_of = |plan: &Plan| plan.objective_names();
        let (first, expected) = &plans[0];
        let other = |(_, plan): &&(String, Plan)| names_of(plan) != names_of(expected);
        if let Some((run, plan)) = plans.iter().find(other) {
            return Err(EvaluatorError::Objectives {
                run: run.clone(),
                found: names_of(plan),
                first: first.clone(),
                expected: names_of(expected),
            }
            .into());
        }
        let learns_from_rewards = |plan: &Plan| matches!(plan.method().learning, Learning::Rlhf(_));
        let without = |(_, plan): &&(String, Plan)| !learns_from_rewards(like.unwrap_or(plan));
        if self.by == By::Rewards
            && let Some((run, _)) = plans.iter().find(without)
        {
            return Err(MeasureError::NoRewards { run: run.clone() }.into());
        }
        if let Some(reference) = &self.reference {
            check_reference(reference, expected.objectives().len()).context("--reference")?;
        }
        Ok(plans.into_iter().map(|(_, plan)| plan).collect())
    }

    /// The command that answers a prompt at a preference, where there is something to weigh.
    fn ask(&self, run: &RunFolder, objectives: &[String], prompt: &str) -> String {
        let can_be_named = |name: &String| !name.contains([',', '=']);
        // Two are enough to show how it is said, and the line stays short.
        let weights: Vec<String> = match objectives.iter().all(can_be_named) {
            true => (objectives.iter().take(2))
                .map(|name| format!("{name}=1"))
                .collect(),
            false => vec!["1".to_owned(); objectives.len()],
        };
        let preference = match weights.is_empty() {
            true => String::new(),
            false => format!(" --preference {}", shell::word(weights.join(","))),
        };
        format!(
            "{} generate{}{}{preference} --prompt {}",
            shell::program(),
            shell::run(run, &self.runs),
            shell::option("--model", self.model.as_deref()),
            shell::word(prompt)
        )
    }

    /// Writes the report, and the scored answers if there are any, where they belong; the paths of the files.
    fn keep(
        &self,
        first: &RunFolder,
        report: &Report,
        answers: Option<&str>,
    ) -> Result<Vec<PathBuf>> {
        let write = |folder: &Path| -> Result<()> {
            report.write(folder)?;
            if let Some(answers) = answers {
                write_file(&folder.join(ANSWERS), answers.as_bytes())?;
            }
            Ok(())
        };
        let mut files = report.files();
        files.extend(answers.map(|_| ANSWERS));
        keep_evaluation(first, self.out.as_deref(), &files, write)
    }

    fn open(&self, name: Option<&str>, like: Option<&Plan>) -> Result<Opened> {
        let choices = Choices {
            like,
            eval: &self.eval,
            model: self.model.as_deref(),
            device: &self.device,
        };
        let opened = Opened::open(RunFolder::find(&self.runs, name)?, choices)?;
        say_aside(&opened.policy.notes);
        note!(
            "{} records of run {}\n{}",
            opened.origin,
            opened.run.name(),
            opened.eval.report
        );
        Ok(opened)
    }

    /// How much is measured, which is said before it is.
    fn sample(&self, opened: &Opened, plans: &[Plan]) -> Result<Sample> {
        // One of several runs may have a single preference.
        let most = |count: &dyn Fn(&Plan) -> usize| plans.iter().map(count).max().unwrap_or(1);
        let preferences = most(&|plan| grid(plan, self.divisions).len());
        let asked = Asked {
            records: self.records.map(|Count(records)| records),
            answered_at: most(&|plan| answered_at(plan).len()),
            prompts: self.prompts,
            max_new_tokens: self.max_new_tokens,
            ..opened.asked(preferences, self.by == By::Rewards)
        };
        let sample = opened.rates()?.sample(asked, opened.train_seconds()?);
        note!("{}", estimate("estimate", asked, sample));
        Ok(sample)
    }

    /// Greedy answers to the records' prompts at the vertices and the centre.
    fn answer(
        &self,
        opened: &Opened,
        count: usize,
        notes: &mut Vec<String>,
    ) -> Result<Vec<PromptSamples>> {
        let Opened {
            run,
            policy,
            base,
            eval,
            ..
        } = opened;
        let tokenizer = base.pretrained.tokenizer()?;
        let plan = policy.plan();
        let preferences = answered_at(plan);
        let (texts, prompts) = prompts(eval, count);
        let progress =
            CountedProgress::new(preferences.len(), format!("answers of {}", run.name()));
        let mut samples: Vec<PromptSamples> = texts
            .into_iter()
            .map(|prompt| PromptSamples {
                prompt,
                answers: Vec::new(),
            })
            .collect();
        for preference in &preferences {
            let writing = Writing {
                max_new_tokens: self.max_new_tokens,
                is_sampled: false,
            };
            let Served::Adapter(steering) = opened.policy.serve(preference)?;
            let answers = opened.write_answers(&prompts, Some(&steering), writing)?;
            let tokens: Vec<f64> = answers.iter().map(|a| a.tokens.len() as f64).collect();
            let mean = tokens.iter().sum::<f64>() / tokens.len().max(1) as f64;
            let note = format!(
                "Run {}: greedy answers to {} {} prompts at λ = ({preference:.2}): {mean:.1} tokens on average (at most {}).",
                run.name(),
                prompts.len(),
                opened.origin,
                self.max_new_tokens
            );
            progress.note(&note);
            notes.push(note);
            for (sample, answer) in samples.iter_mut().zip(answers) {
                sample.answers.push(Answer {
                    method: plan.method().label(),
                    lambda: preference.weights().to_vec(),
                    text: tokenizer.decode(&answer.tokens, true)?,
                    tokens: answer.tokens.len(),
                });
            }
            progress.inc();
        }
        progress.finish();
        Ok(samples)
    }
}

/// The preferences at which answers are written for people to read: the vertices and the centre, or the only one of a training.
pub fn answered_at(plan: &Plan) -> Vec<Preference> {
    if let Some(only) = plan.only_preference() {
        return vec![only];
    }
    let m = plan.objectives().len();
    let mut preferences: Vec<Preference> = (0..m).map(|i| Preference::vertex(m, i)).collect();
    preferences.insert(1, Preference::uniform(m));
    preferences
}

/// What a measurement takes, in words behind `title`.
pub fn estimate(title: &str, asked: Asked<'_>, sample: Sample) -> String {
    let of = asked.examples.len();
    let all = match sample.records < of {
        true => format!(" (--records all: {})", span(sample.all_seconds)),
        false => String::new(),
    };
    let at = |preferences: usize| match preferences {
        1 => String::new(),
        count => format!(" at {count} preferences"),
    };
    let mut text = format!(
        "{title:<12}{} of {of} records{}: {}{all}",
        sample.records,
        at(asked.preferences),
        span(sample.record_seconds)
    );
    if sample.prompts > 0 {
        text.push_str(&format!(
            "\n{:<12}answers to {} prompts{}: {} at most",
            "",
            sample.prompts,
            at(asked.answered_at),
            span(sample.answer_seconds)
        ));
    }
    text
}

/// Which files a run was measured on.
fn files_note(run: &MeasuredRun) -> String {
    let files = run.files.iter();
    let files: Vec<String> = files
        .map(|file| format!("{} (SHA-256 {})", file.path, file.sha256))
        .collect();
    format!("Run {}: records of {}.", run.run, files.join(", "))
}

/// The first question of the records that fits on a command line.
fn short_prompt(eval: &Records) -> Option<String> {
    let mut conversations = (eval.examples.iter()).map(|example| &example.words.prompt[..]);
    conversations.find_map(|turns| match turns {
        [only] if only.role == "user" => {
            let text = only.text();
            let is_short =
                !text.is_empty() && !text.starts_with('-') && text.chars().count() <= LINE;
            (is_short && !text.contains(char::is_control)).then(|| text.to_owned())
        }
        _ => None,
    })
}

/// The first `count` different prompts of the records, in words and in tokens.
fn prompts(eval: &Records, count: usize) -> (Vec<String>, Vec<Vec<u32>>) {
    let (mut texts, mut prompts): (Vec<String>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
    for example in &eval.examples {
        if prompts.len() == count {
            break;
        }
        if !prompts.contains(&example.prompt) {
            texts.push(PromptText::of(&example.words.prompt).text);
            prompts.push(example.prompt.clone());
        }
    }
    (texts, prompts)
}
