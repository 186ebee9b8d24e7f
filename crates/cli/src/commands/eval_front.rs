//! `eval-front`: measures and draws the Pareto front of runs.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use panacea_config::Plan;
use panacea_evaluator::{Answer, Front, PromptSamples, Report, wrapped};
use panacea_measure::{Choices, Opened, Writing};
use panacea_methods::Served;
use panacea_objectives::Preference;
use panacea_runs::{CountedProgress, RunFolder, write_file};
use panacea_trainer::{PromptText, Records};

use crate::session::{RUNS, say_aside};
use crate::terminal::columns;

/// Of a front with more points than this the terminal shows the vertices; the files have them all.
const SHOWN_POINTS: usize = 21;

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
    /// fewer for more, so that the grid stays below 100 points.
    #[arg(long)]
    divisions: Option<usize>,
    /// Held-out records that are measured. Default: all.
    #[arg(long)]
    records: Option<usize>,
    /// Held-out prompts that are answered under every vertex and the centre; 0 is none.
    #[arg(long, default_value_t = 20)]
    prompts: usize,
    /// Tokens of an answer, at most; fewer where the model's context ends.
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// The reference of the hypervolume. Default: the componentwise minimum minus a tenth of the range.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    reference: Option<Vec<f64>>,
    /// The base model, where it is no longer at the path that the run was trained on.
    #[arg(long)]
    model: Option<PathBuf>,
    /// The folder to write to. Default: the (first) run's folder.
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

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let names: Vec<Option<&str>> = match self.run.as_slice() {
            [] => vec![None],
            runs => runs.iter().map(|name| Some(name.as_str())).collect(),
        };
        if self.sampled && self.by != By::Rewards {
            bail!("--sampled is about the answers that --by rewards scores: give both, or neither");
        }
        let like = match &self.like {
            Some(name) => Some(RunFolder::find(&self.runs, Some(name))?.record()?.plan),
            None => None,
        };
        let mut fronts = Vec::new();
        let mut scored = String::new();
        let (mut samples, mut notes) = (Vec::new(), Vec::new());
        let mut out = self.out.clone();
        for name in names {
            let opened = self.open(name, like.as_ref())?;
            out.get_or_insert_with(|| opened.run.path().to_owned());
            let grid = opened.grid(self.divisions);
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
            if samples.is_empty() && self.prompts > 0 {
                samples = self.answer(&opened, &mut notes)?;
            }
        }
        let names: Vec<&str> = fronts.iter().map(|(name, _)| name.as_str()).collect();
        // More names than that do not fit above a picture; the table and the legend tell the methods.
        let title = match names.len() {
            0..=2 => names.join(", "),
            more => format!("{more} runs"),
        };
        let front = Front::overlay(fronts, self.reference.clone())?;
        // Where several runs have one method, its name in the front says whose answers these are.
        for answer in samples.iter_mut().flat_map(|sample| &mut sample.answers) {
            answer.method.clone_from(&front.methods[0].method);
        }
        for warning in front.warnings() {
            eprintln!("warning: {warning}");
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
        let report = Report {
            front,
            samples,
            notes,
            title,
        };
        let out = out.context("at least one run was opened")?;
        std::fs::create_dir_all(&out)
            .with_context(|| format!("cannot create {}", out.display()))?;
        for path in report.write(&out)? {
            say!("{}", path.display());
        }
        if self.by == By::Rewards {
            let path = out.join("answers.jsonl");
            write_file(&path, scored.as_bytes())?;
            say!("{}", path.display());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn open(&self, name: Option<&str>, like: Option<&Plan>) -> Result<Opened> {
        let choices = Choices {
            like,
            eval: &self.eval,
            records: self.records,
            model: self.model.as_deref(),
            device: &self.device,
        };
        let opened = Opened::open(RunFolder::find(&self.runs, name)?, choices)?;
        say_aside(&opened.policy.notes);
        eprintln!(
            "held-out records of run {}\n{}",
            opened.run.name(),
            opened.eval.report
        );
        Ok(opened)
    }

    /// Greedy answers to held-out prompts at the vertices and the centre.
    fn answer(&self, opened: &Opened, notes: &mut Vec<String>) -> Result<Vec<PromptSamples>> {
        let Opened {
            run,
            policy,
            base,
            eval,
            ..
        } = opened;
        let tokenizer = base.pretrained.tokenizer()?;
        let plan = policy.plan();
        let m = plan.objectives().len();
        let mut preferences: Vec<Preference> = (0..m).map(|i| Preference::vertex(m, i)).collect();
        if m > 1 {
            preferences.insert(m.min(1), Preference::uniform(m));
        }

        let (texts, prompts) = prompts(eval, self.prompts);
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
                "Greedy answers to {} held-out prompts at λ = ({preference:.2}): {mean:.1} tokens on average (at most {}).",
                prompts.len(),
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
