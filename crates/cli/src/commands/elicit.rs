//! `elicit`: finds a person's preference from a few comparisons, in the terminal.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use panacea_elicit::{Answer, Progress};
use panacea_interview::{
    Criteria, Pool, Profile, Profiles, Prompt, USUAL_ANSWERS, Writing, WrittenAnswer, spread,
    write_answers,
};
use panacea_objectives::Preference;
use panacea_reward_models::Base;
use panacea_runs::RunFolder;
use panacea_serving::Policy;

use crate::input::{InputArguments, STDIN, read_prompts};
use crate::session::{RUNS, open_model, say_aside};
use crate::shell;
use crate::terminal::shown;

/// Find the preference that fits you: compare two answers a few times.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask elicit --run first --prompts prompts.txt
  cargo xtask elicit --run first --prompts prompts.jsonl --profile anna
  cargo xtask generate --run first --profile anna --prompt 'Why is the sky blue?'

Records are read as the run read its own: data.format, data.rendered, data.bad_records and data.max_skipped of its run.toml
count, but for what --set says. What is skipped is counted on standard error.

Every prompt is answered at preferences spread over all that the run can do; you see the two answers that say most about
you. What you say is kept at once in runs/NAME/profiles/PROFILE: profile.jsonl, which generate and serve take and the next
elicit goes on with, and preferences.jsonl, records that a training reads.")]
pub struct Arguments {
    /// The run; the newest one by default.
    #[arg(long)]
    run: Option<String>,
    /// What is asked of the model: records in any format that `train` reads, which are read as the run read its own, or a
    /// text file with a prompt on each line.
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// The name of the profile, which begins here or goes on.
    #[arg(long, default_value = "me")]
    profile: String,
    /// The base model, where it is no longer at the path that the run was trained on.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Where runs are kept.
    #[arg(long, default_value = RUNS)]
    runs: PathBuf,
    /// Answers that are written to a prompt, of which two at a time are compared.
    #[arg(long, default_value_t = USUAL_ANSWERS, value_parser = RangedU64ValueParser::<usize>::new().range(2..=200))]
    answers: usize,
    /// Questions about the answers to one prompt, before the next prompt.
    #[arg(long, default_value_t = 3, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    per_prompt: usize,
    /// New tokens of an answer, at most.
    #[arg(long, default_value_t = 128, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    max_new_tokens: usize,
    /// Logits are divided by it; 0 is greedy.
    #[arg(long, default_value_t = 0.7)]
    temperature: f64,
    /// The seed of sampling, and of a new profile.
    #[arg(long, default_value_t = 17)]
    seed: u64,
    #[command(flatten)]
    input: InputArguments,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long, default_value = "flex")]
    device: String,
}

/// A model with a run on it, and how its answers are written.
struct Interview {
    base: Base,
    policy: Policy,
    criteria: Criteria,
    writing: Writing,
}

/// What a person says to a question.
enum Said {
    Answer(Answer),
    Leave,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        if self.prompts == Path::new(STDIN) {
            bail!("--prompts -: standard input is where your answers come from; give a file");
        }
        let run = RunFolder::find(&self.runs, self.run.as_deref())?;
        let record = run.record()?;
        let plan = &record.plan;
        let profiles = Profiles::of(&run, plan)?;
        let mut profile = profiles.open_or_begin(&self.profile, self.seed)?;
        say_aside(&profiles.notes);
        let device = panacea_devices::select(&self.device)?;
        let input = self.input.over(Some(plan))?;
        let model = self.model.as_deref().unwrap_or(plan.model());
        let pretrained = open_model(model, input.chat.clone(), [&record])?;
        let prompts = read_prompts(&self.prompts, &input, &pretrained)?.all;
        let base = Base::load(pretrained, &device, plan.precision().on(&device)?)?;
        let policy = Policy::open(&run, &base.decoder)?;
        say_aside(&policy.notes);
        let writing = Writing::new(self.max_new_tokens, self.temperature, self.seed);
        writing.sampling.check()?;
        let mut interview = Interview {
            criteria: Criteria::open(profiles.yardstick().clone(), &policy, &base)?,
            writing,
            base,
            policy,
        };
        let before = profile.session().entries().len();
        let mut last = None;
        // Prompts on end whose answers left nothing to ask.
        let mut in_vain = 0;
        'asking: for (turn, asked) in prompts.iter().cycle().enumerate() {
            // Prompts come round again with new answers, but not where none of them has any.
            if profile.progress()? != Progress::AskOn || in_vain == prompts.len() {
                break;
            }
            in_vain += 1;
            let prompt = Prompt {
                messages: asked.words.prompt.clone(),
                variables: asked.words.variables.clone(),
                tokens: asked.prompt.clone(),
            };
            let preferences = spread(profile.session(), self.answers);
            // When a prompt comes round again, its answers are others.
            interview.writing.seed = self.seed.wrapping_add((turn * self.answers) as u64);
            let pool = interview.write(&prompt, &preferences)?;
            for _ in 0..self.per_prompt {
                if profile.progress()? != Progress::AskOn {
                    break;
                }
                let question = match profile.ask(&pool) {
                    Ok(Some(question)) => question,
                    Ok(None) => break,
                    // The next prompt may do.
                    Err(error) if error.is_of_these_answers() => {
                        note!("{error}");
                        break;
                    }
                    Err(error) => return Err(error.into()),
                };
                in_vain = 0;
                let pair = (question.left, question.right);
                let asked = profile.session().entries().len() - before + 1;
                show_question(asked, &pool, pair)?;
                match read_answer()? {
                    Said::Leave => {
                        last = Some(prompt);
                        break 'asking;
                    }
                    Said::Answer(answer) => profile.answer(&pool, pair, answer)?,
                }
                say!("{}", belief(&profile));
            }
            last = Some(prompt);
        }
        if profile.session().entries().is_empty() {
            bail!("nothing was answered, and nothing is kept");
        }
        say!("{}", outcome(&profile)?);
        if let Some(prompt) = last {
            interview.show_difference(&profile, &prompt)?;
        }
        say!(
            "\nkept in {}\nnext: {} generate{} --run {}{} --profile {} --prompt '…'",
            profile.folder().display(),
            shell::program(),
            shell::option("--model", self.model.as_deref()),
            shell::word(run.name()),
            shell::runs(&self.runs),
            profile.name(),
        );
        Ok(ExitCode::SUCCESS)
    }
}

impl Interview {
    /// Answers to a prompt at these preferences, with their scores.
    fn write(&self, prompt: &Prompt, preferences: &[Preference]) -> Result<Pool> {
        let started = Instant::now();
        note!("writing {} answers …", preferences.len());
        let answers = self.answers(prompt, preferences)?;
        let decoder = &self.base.decoder;
        let scores = self.criteria.score(decoder, prompt, &answers)?;
        let pool = Pool::new(prompt.clone(), answers, scores);
        let different = pool.answers().len();
        note!(
            "{different} different ones in {:.1} s",
            started.elapsed().as_secs_f64()
        );
        Ok(pool)
    }

    fn answers(&self, prompt: &Prompt, preferences: &[Preference]) -> Result<Vec<WrittenAnswer>> {
        let tokenizer = self.base.pretrained.tokenizer()?;
        Ok(write_answers(
            &self.base.decoder,
            tokenizer,
            &self.policy,
            prompt,
            preferences,
            &self.writing,
        )?)
    }

    /// What was found, beside what everybody gets.
    fn show_difference(&self, profile: &Profile, prompt: &Prompt) -> Result<()> {
        let found = profile.preference();
        let uniform = Preference::uniform(found.len());
        let answers = self.answers(prompt, &[found, uniform])?;
        say!("\n{}", question_text(prompt));
        for (name, answer) in ["at your preference", "at equal weights"]
            .iter()
            .zip(&answers)
        {
            let preference = &answer.preference;
            say!(
                "\n── {name} ({preference:.2})\n{}",
                answer_text(&answer.text)
            );
        }
        Ok(())
    }
}

/// What the person sees.
fn show_question(number: usize, pool: &Pool, (left, right): (usize, usize)) -> Result<()> {
    let text = |place: usize| answer_text(&pool.answers()[place].text);
    say!(
        "\n━━ question {number} ━━ {}\n\n── left\n{}\n\n── right\n{}\n",
        question_text(pool.prompt()),
        text(left),
        text(right)
    );
    Ok(())
}

/// The last thing that was said to the model.
fn question_text(prompt: &Prompt) -> String {
    let last = prompt.messages.last();
    last.map_or_else(String::new, |message| shown(message.text().trim()))
}

/// An answer; one that says nothing, as something that can be seen.
fn answer_text(text: &str) -> String {
    match text.trim() {
        "" => "(nothing)".to_owned(),
        text => shown(text),
    }
}

/// Asks until there is an answer, or nobody who answers.
fn read_answer() -> Result<Said> {
    let mut lines = io::stdin().lock().lines();
    loop {
        if io::stdin().is_terminal() {
            eprint!("Which is better? [l]eft, [r]ight, about [e]qual, [s]kip, [q]uit: ");
            io::stderr().flush()?;
        }
        let Some(line) = lines.next().transpose()? else {
            return Ok(Said::Leave);
        };
        return Ok(match line.trim().to_lowercase().as_str() {
            "l" | "left" => Said::Answer(Answer::Left),
            "r" | "right" => Said::Answer(Answer::Right),
            "e" | "equal" => Said::Answer(Answer::AboutEqual),
            "s" | "skip" => Said::Answer(Answer::Skip),
            "q" | "quit" => Said::Leave,
            other => {
                reply!("`{other}` is none of l, r, e, s and q");
                continue;
            }
        });
    }
}

/// What is known of the person: each weight with the interval that holds 90 % of the belief, as numbers and as a bar.
fn belief(profile: &Profile) -> String {
    const WIDTH: usize = 30;
    let session = profile.session();
    let (names, belief) = (&session.header().objectives, session.belief());
    let longest = names.iter().map(|name| name.chars().count()).max();
    let estimate = session.estimate();
    let mut lines = Vec::with_capacity(names.len() + 1);
    for (objective, (name, weight)) in names.iter().zip(estimate.weights()).enumerate() {
        let (low, high) = belief.interval(objective, 0.9);
        let place = |value: f64| (value * (WIDTH - 1) as f64).round() as usize;
        let cell = |at: usize| match at {
            at if at == place(*weight) => '●',
            at if (place(low)..=place(high)).contains(&at) => '━',
            _ => '·',
        };
        let bar: String = (0..WIDTH).map(cell).collect();
        lines.push(format!(
            "{name:longest$}  {bar}  {weight:.2}  (90 %: {low:.2} to {high:.2})",
            longest = longest.unwrap_or(0)
        ));
    }
    if let Some(regret) = profile.expected_regret() {
        lines.push(format!(
            "what a wrong guess is thought to cost: {:.1} % of what the run can vary",
            100.0 * regret
        ));
    }
    lines.join("\n")
}

/// What was found, and why it ended.
fn outcome(profile: &Profile) -> Result<String> {
    let why = match profile.progress()? {
        Progress::Sure => "more answers would hardly change it",
        Progress::AskedEnough => "that is enough for one sitting; it goes on where it was left",
        Progress::AskOn => "more answers would make it surer",
    };
    let names = &profile.session().header().objectives;
    let preference = profile.preference();
    let named: Vec<String> = names
        .iter()
        .zip(preference.weights())
        .map(|(name, weight)| format!("{name} {weight:.2}"))
        .collect();
    let answers = profile.session().belief().answers();
    Ok(format!(
        "\nyour preference after {answers} answers: {} ({why})",
        named.join(", ")
    ))
}
