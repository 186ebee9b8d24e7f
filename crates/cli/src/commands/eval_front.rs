//! `eval-front`: measures and draws the Pareto front of runs.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use panacea_data::Part;
use panacea_evaluator::{Answer, Front, MethodPoints, PointRecords, PromptSamples, Report};
use panacea_model::{Decoder, GenerateRequest, Sampling, select_device};
use panacea_objectives::{Preference, simplex_grid};
use panacea_pretrained::{ChatTokenizer, Message, Pretrained};
use panacea_svd_lora::Adapters;
use panacea_trainer::{
    Plan, RunFolder, Terms, evaluate, record_values, references, summarise, train_seconds,
};

use crate::session::{Loaded, RUNS, load_examples, locate_run, open_adapters, open_plan};

/// Measure a run's Pareto front on held-out records, and draw it.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask eval-front --run first --eval test.jsonl
  cargo xtask eval-front --run first --divisions 20 --prompts 0
  cargo xtask eval-front --run linear --run tchebycheff --out comparison")]
pub struct Arguments {
    /// The run; the newest one by default. Several are drawn together.
    #[arg(long)]
    run: Vec<String>,
    /// Held-out files. Default: those of the run.
    #[arg(long, num_args = 1..)]
    eval: Vec<PathBuf>,
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
    /// Tokens of an answer, at most.
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

/// A run with all that measuring it takes.
struct Opened {
    run: RunFolder,
    plan: Plan,
    pretrained: Pretrained,
    decoder: Decoder,
    adapters: Adapters,
    eval: Loaded,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let names: Vec<Option<&str>> = match self.run.as_slice() {
            [] => vec![None],
            runs => runs.iter().map(|name| Some(name.as_str())).collect(),
        };
        let mut fronts = Vec::new();
        let (mut samples, mut notes) = (Vec::new(), Vec::new());
        let mut out = self.out.clone();
        for name in names {
            let opened = self.open(name)?;
            out.get_or_insert_with(|| opened.run.path().to_owned());
            fronts.push((opened.run.name(), self.measure(&opened)?));
            notes.push(format!(
                "Run {}: {} held-out records, log-probabilities of their given responses.",
                opened.run.name(),
                opened.eval.examples.len()
            ));
            if samples.is_empty() && self.prompts > 0 {
                samples = self.answer(&opened, &mut notes)?;
            }
        }
        let title = fronts
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        let front = Front::overlay(fronts, self.reference.clone())?;
        for warning in front.warnings() {
            eprintln!("warning: {warning}");
        }
        print_table(&front)?;
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
        Ok(ExitCode::SUCCESS)
    }

    fn open(&self, name: Option<&str>) -> Result<Opened> {
        let run = locate_run(&self.runs, name)?;
        let plan = open_plan(&run)?;
        let pretrained = Pretrained::open(self.model.as_deref().unwrap_or(plan.model()))?;
        let files = if self.eval.is_empty() {
            &plan.data().eval
        } else {
            &self.eval
        };
        if files.is_empty() && plan.objectives().iter().all(|o| o.eval.is_empty()) {
            bail!(
                "run {} was trained without held-out files: give some with --eval",
                run.name()
            );
        }
        let mut eval = load_examples(&plan, Part::Eval, files, pretrained.tokenizer()?)?;
        eprintln!("held-out records of run {}\n{}", run.name(), eval.report);
        if let Some(records) = self.records {
            eval.examples.truncate(records);
        }
        let decoder = Decoder::load(&pretrained, &select_device(&self.device)?)?;
        let adapters = open_adapters(&run, &decoder)?;
        Ok(Opened {
            run,
            plan,
            pretrained,
            decoder,
            adapters,
            eval,
        })
    }

    /// The front of one run over the grid of preferences.
    fn measure(&self, opened: &Opened) -> Result<Front> {
        let Opened {
            run,
            plan,
            decoder,
            adapters,
            eval,
            ..
        } = opened;
        let objectives = plan.objective_names();
        let loss = &plan.method().loss;
        let grid = simplex_grid(
            objectives.len(),
            self.divisions
                .unwrap_or_else(|| divisions(objectives.len())),
        );

        let work = (eval.examples.len() * (grid.len() + 1)) as u64;
        let bar = progress(work, &format!("front of {}", run.name()));
        let reference = references(decoder, loss, &eval.examples, || bar.inc(1))?;
        let mut points = Vec::with_capacity(grid.len());
        for preference in &grid {
            let terms = evaluate(
                decoder,
                adapters,
                loss,
                &eval.examples,
                &reference,
                preference,
                || bar.inc(1),
            )?;
            points.push(point(preference, &objectives, &terms));
        }
        bar.finish_and_clear();
        let method = method_name(plan);
        let seconds = train_seconds(&run.metrics()).ok();
        let method = MethodPoints::from_records(&method, &objectives, points, seconds)?;
        Ok(Front::new(
            objectives,
            vec![method],
            self.reference.clone(),
            None,
        )?)
    }

    /// Greedy answers to held-out prompts at the vertices and the centre.
    fn answer(&self, opened: &Opened, notes: &mut Vec<String>) -> Result<Vec<PromptSamples>> {
        let Opened {
            run,
            plan,
            pretrained,
            decoder,
            adapters,
            eval,
        } = opened;
        let tokenizer = pretrained.tokenizer()?;
        let m = plan.objectives().len();
        let mut preferences: Vec<Preference> = (0..m).map(|i| Preference::vertex(m, i)).collect();
        if m > 1 {
            preferences.insert(m.min(1), Preference::uniform(m));
        }

        let (texts, prompts) = prompts(
            eval,
            tokenizer,
            plan.data().limits.max_prompt_tokens,
            self.prompts,
        )?;
        let bar = progress(
            preferences.len() as u64,
            &format!("answers of {}", run.name()),
        );
        let mut samples: Vec<PromptSamples> = texts
            .into_iter()
            .map(|prompt| PromptSamples {
                prompt,
                answers: Vec::new(),
            })
            .collect();
        for preference in &preferences {
            let requests: Vec<_> = prompts
                .iter()
                .map(|prompt| GenerateRequest {
                    prompt,
                    preference: preference.weights(),
                    max_new_tokens: self.max_new_tokens,
                    seed: 0,
                })
                .collect();
            let answers = decoder.generate(
                &requests,
                Some(adapters),
                &Sampling::greedy(),
                tokenizer.stop_ids(),
            )?;
            let tokens: Vec<f64> = answers.iter().map(|a| a.tokens.len() as f64).collect();
            let mean = tokens.iter().sum::<f64>() / tokens.len().max(1) as f64;
            let note = format!(
                "Greedy answers to {} held-out prompts at λ = ({preference}): {mean:.1} tokens on average (at most {}).",
                prompts.len(),
                self.max_new_tokens
            );
            bar.suspend(|| eprintln!("{note}"));
            notes.push(note);
            for (sample, answer) in samples.iter_mut().zip(answers) {
                sample.answers.push(Answer {
                    method: method_name(plan),
                    lambda: preference.weights().to_vec(),
                    text: tokenizer.decode(&answer.tokens, true)?,
                    tokens: answer.tokens.len(),
                });
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(samples)
    }
}

/// `panacea-linear`, `panacea-tchebycheff`
fn method_name(plan: &Plan) -> String {
    format!("panacea-{}", plan.method().aggregation.name())
}

/// The first `count` different prompts of the records that fit, in words and in tokens.
fn prompts(
    eval: &Loaded,
    tokenizer: &ChatTokenizer,
    max_tokens: usize,
    count: usize,
) -> Result<(Vec<String>, Vec<Vec<u32>>)> {
    let (mut texts, mut prompts): (Vec<String>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
    for messages in &eval.prompts {
        if prompts.len() == count {
            break;
        }
        let tokens = tokenizer.encode_prompt(messages)?;
        if tokens.len() <= max_tokens && !prompts.contains(&tokens) {
            texts.push(transcript(messages));
            prompts.push(tokens);
        }
    }
    Ok((texts, prompts))
}

fn transcript(messages: &[Message]) -> String {
    match messages {
        [only] => only.content.clone(),
        many => many
            .iter()
            .map(|m| format!("{}: {}", m.role, m.content))
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

fn point(preference: &Preference, objectives: &[String], terms: &[Vec<Terms>]) -> PointRecords {
    let summary = summarise(objectives, terms);
    PointRecords {
        lambda: preference.weights().to_vec(),
        records: (0..objectives.len())
            .map(|i| record_values(terms, i))
            .collect(),
        accuracy: summary.iter().map(|objective| objective.accuracy).collect(),
        margin: summary.iter().map(|objective| objective.margin).collect(),
        response_tokens: None,
    }
}

/// 10 for two objectives; for more, the most that keeps the grid below 100 points.
fn divisions(objectives: usize) -> usize {
    match objectives {
        0..=2 => 10,
        3 => 10,
        4 => 6,
        5 => 4,
        6 => 3,
        _ => 2,
    }
}

fn print_table(front: &Front) -> Result<()> {
    for method in &front.methods {
        say!("{}", method.method);
        let header: Vec<String> = front
            .objectives
            .iter()
            .map(|name| format!("{name:>24}"))
            .collect();
        say!("  {:<24}{}", "λ", header.join(""));
        for point in &method.points {
            let lambda: Vec<String> = point.lambda.iter().map(|w| format!("{w:.2}")).collect();
            let values: Vec<String> = point
                .values
                .iter()
                .zip(&point.stderr)
                .map(|(value, error)| format!("{:>24}", format!("{value:.4} ± {error:.4}")))
                .collect();
            say!("  {:<24}{}", lambda.join(","), values.join(""));
        }
        let shown =
            |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| format!("{v:.5}"));
        let indicators = &method.indicators;
        say!(
            "  hypervolume {:.5} (reference {}), inner product {:.4}, sparsity {}, spacing {}",
            indicators.hypervolume,
            front
                .reference
                .iter()
                .map(|r| format!("{r:.4}"))
                .collect::<Vec<_>>()
                .join(","),
            indicators.inner_product,
            shown(indicators.sparsity),
            shown(indicators.spacing),
        );
    }
    Ok(())
}

fn progress(work: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(work)
        .with_style(style)
        .with_message(what.to_owned())
}
