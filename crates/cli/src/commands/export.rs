//! `export`: what a run serves, as files for other people's software.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use panacea_config::Plan;
use panacea_evaluator::{ExactFront, Front, MethodPoints};
use panacea_export::{
    Base, Card, LlamaForm, llama_notes, write_classifier, write_gguf, write_llama_lora,
    write_merged, write_peft, write_peft_parts,
};
use panacea_interview::Measured;
use panacea_model::{Decoder, Steering};
use panacea_objectives::{Preference, Weights};
use panacea_pretrained::{GgufType, Pretrained, convert_to_gguf};
use panacea_runs::{RunFolder, RunRecord};
use panacea_serving::{Policy, RewardModelRun, changed_since, open_model_of};

use crate::session::{RUNS, open_at, preference_for, say_aside, say_warnings};

/// Write a run for other software: with every preference, or at one.
#[derive(Args)]
#[command(after_help = "Examples, with every preference:
  cargo xtask export --run first --format llama-lora
  cargo xtask export --run first --format llama-lora --fold --dtype q8_0
  cargo xtask export --run first --format peft-parts
At one:
  cargo xtask export --run first --preference 0.5,0.5 --format peft
  cargo xtask export --run first --preference brevity=2,detail=1 --format merged --out models/first-brief
  cargo xtask export --run first --preference 1,0 --format gguf --dtype f16 --out first-helpful.gguf
The model alone, and a reward model:
  cargo xtask export --base --model models/smollm2-135m-instruct --format gguf --dtype f16 --out base.gguf
  cargo xtask export --run reward-model --format merged
To publish: a model card (README.md) lies in every folder, and beside a GGUF file that is alone in its folder.
  cargo xtask export --run first --format peft-parts --base-name Qwen/Qwen3-0.6B --license apache-2.0 \\
      --dataset nvidia/HelpSteer2 --out first-parts

docs/elsewhere.md shows what each is for.")]
pub struct Arguments {
    /// The run; the newest one by default.
    #[arg(long)]
    run: Option<String>,
    /// Weights on the run's objectives, in their order or by name, such as 0.3,0.7 or brevity=2,detail=1; they are divided by
    /// their sum, and an objective without a name has 0. A run that was trained at one λ needs none, and a reward model has none;
    /// where every preference is written, it only decides which one the files begin with.
    #[arg(long, value_name = "WEIGHTS")]
    preference: Option<Weights>,
    /// What to write.
    #[arg(long)]
    format: Format,
    /// llama-lora: add what every preference has to the weights, and write these as well.
    #[arg(long, conflicts_with = "specialists")]
    fold: bool,
    /// llama-lora: an adapter for each objective that is useful alone, in place of a common one and small ones.
    #[arg(long)]
    specialists: bool,
    /// gguf: the base model, without a run.
    #[arg(long, conflicts_with_all = ["run", "preference"], requires_all = ["model", "out"])]
    base: bool,
    /// gguf, and llama-lora --fold: f32, f16, bf16 or q8_0, of the weights that are written anew: of a model in a GGUF file,
    /// those that the adapter changes. Default: f32.
    #[arg(long)]
    dtype: Option<GgufType>,
    /// The new folder; of gguf, the new file. Default: export-FORMAT-PREFERENCE in the run's folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The base model, where it is no longer at the path that the run was trained on.
    #[arg(long)]
    model: Option<PathBuf>,
    /// What other people load the base model by: OWNER/NAME on the Hugging Face hub. Where `fetch` brought it, or its GGUF file
    /// says it, it is known.
    #[arg(long, conflicts_with = "base")]
    base_name: Option<String>,
    /// The identifier of the licence, such as apache-2.0, for the model card. Default: the base model's, if it is known.
    #[arg(long, conflicts_with = "base")]
    license: Option<String>,
    /// A data set on the Hugging Face hub, OWNER/NAME, that the model card names; may be given several times.
    #[arg(long, value_name = "OWNER/NAME", conflicts_with = "base")]
    dataset: Vec<String>,
    /// Where runs are kept.
    #[arg(long, default_value = RUNS)]
    runs: PathBuf,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long, default_value = "flex")]
    device: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Adapters for llama.cpp's server, whose requests say their preference.
    LlamaLora,
    /// Adapters for PEFT, with a program that sets the preference.
    PeftParts,
    /// At one preference: an adapter folder for transformers + PEFT.
    Peft,
    /// At one preference: a whole Hugging Face model; of a reward model, a sequence classifier.
    Merged,
    /// At one preference: a whole model for llama.cpp.
    Gguf,
}

/// What is to be written.
enum Form {
    LlamaLora(LlamaForm, Preference),
    PeftParts(Preference),
    Peft(Preference),
    Merged(Preference),
    Gguf(Preference),
    Classifier,
}

/// The same, with what was trained.
enum Content {
    LlamaLora(LlamaForm, Preference, Policy),
    PeftParts(Preference, Policy),
    Peft(Steering),
    Merged(Steering),
    Gguf(Steering),
    Classifier(RewardModelRun),
}

impl Content {
    /// The one preference that it is written at.
    fn preference(&self) -> &[f64] {
        match self {
            Self::LlamaLora(..) | Self::PeftParts(..) | Self::Classifier(_) => &[],
            Self::Peft(steering) | Self::Merged(steering) | Self::Gguf(steering) => {
                &steering.preference
            }
        }
    }
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        self.check_options()?;
        if let (true, Some(model), Some(out)) = (self.base, &self.model, &self.out) {
            let pretrained = Pretrained::open_language_model(model)?;
            convert_to_gguf(out, &pretrained, self.dtype())?;
            say_aside(&llama_notes(&pretrained));
            say!("{}", out.display());
            return Ok(ExitCode::SUCCESS);
        }
        let run = RunFolder::find(&self.runs, self.run.as_deref())?;
        let record = run.record()?;
        let plan = &record.plan;
        let form = self.form(&run, plan)?;
        self.out.as_deref().map_or(Ok(()), refuse_existing)?;
        let pretrained = open_model_of(plan, self.model.as_deref())?;
        say_warnings(&changed_since(&record, &pretrained));
        let base = Base::of(&pretrained, self.base_name.as_deref())?;
        let decoder = Decoder::load(&pretrained, &panacea_devices::select(&self.device)?)?;
        let content = open(form, &run, &decoder)?;
        // The adapters were held against it. The weights that are written come from the files, and need its memory.
        drop(decoder);
        // A grid of preferences does not serve every one that is asked for: the name says which is in it.
        let out = match &self.out {
            Some(out) => out.clone(),
            None => run.path().join(self.default_name(content.preference())),
        };
        refuse_existing(&out)?;
        let name = run.name();
        let card = self.card(&name, &run, &record);
        self.write(content, &base, &card, &out)?;
        say!("{}", out.display());
        Ok(ExitCode::SUCCESS)
    }

    /// Options that would do nothing are mistakes.
    fn check_options(&self) -> Result<()> {
        let is_gguf = self.format == Format::Gguf;
        for (given, option, fits, needs) in [
            (
                self.fold,
                "--fold",
                self.format == Format::LlamaLora,
                "llama-lora",
            ),
            (
                self.specialists,
                "--specialists",
                self.format == Format::LlamaLora,
                "llama-lora",
            ),
            (self.base, "--base", is_gguf, "gguf"),
            (
                self.dtype.is_some(),
                "--dtype",
                is_gguf || self.fold,
                "gguf, or llama-lora with --fold",
            ),
        ] {
            if given && !fits {
                bail!("{option} has no effect here: it belongs to --format {needs}");
            }
        }
        Ok(())
    }

    fn dtype(&self) -> GgufType {
        self.dtype.unwrap_or(GgufType::F32)
    }

    /// What is to be written of `run`.
    fn form(&self, run: &RunFolder, plan: &Plan) -> Result<Form> {
        let objectives = plan.objective_names();
        if plan.method().is_reward_model() {
            return match (self.format, &self.preference) {
                (Format::Merged, None) => Ok(Form::Classifier),
                (Format::Merged, Some(_)) => bail!(
                    "run {} is a reward model, which no preference steers: leave --preference out",
                    run.name()
                ),
                _ => bail!(
                    "run {} is a reward model: --format merged writes it as a sequence classifier, which transformers opens",
                    run.name()
                ),
            };
        }
        let given = self.preference.as_ref();
        let given = given.map(|weights| preference_for(weights, plan, run));
        let given = given.transpose()?;
        let preference = || {
            let given = given.clone().or_else(|| plan.only_preference());
            given.with_context(|| {
                format!(
                    "--preference is missing: the objectives of run {} are {}",
                    run.name(),
                    objectives.join(", ")
                )
            })
        };
        let first = || given.clone().unwrap_or_else(|| plan.usual_preference());
        Ok(match self.format {
            Format::LlamaLora => {
                let form = match (self.fold, self.specialists) {
                    (true, _) => LlamaForm::Folded(self.dtype()),
                    (_, true) => LlamaForm::Specialists,
                    _ => LlamaForm::Parts,
                };
                Form::LlamaLora(form, first())
            }
            Format::PeftParts => Form::PeftParts(first()),
            Format::Peft => Form::Peft(preference()?),
            Format::Merged => Form::Merged(preference()?),
            Format::Gguf => Form::Gguf(preference()?),
        })
    }

    /// `export-FORMAT-PREFERENCE`
    fn default_name(&self, preference: &[f64]) -> String {
        let format = self.format.to_possible_value();
        let mut name =
            format.map_or_else(String::new, |value| format!("export-{}", value.get_name()));
        match self.format {
            Format::LlamaLora if self.fold => name += "-fold",
            Format::LlamaLora if self.specialists => name += "-specialists",
            _ => {}
        }
        name.extend(preference.iter().map(|weight| format!("-{weight}")));
        if self.format == Format::Gguf {
            name += ".gguf";
        }
        name
    }

    /// What the model card tells of the run.
    fn card<'a>(&self, name: &'a str, run: &RunFolder, record: &'a RunRecord) -> Card<'a> {
        let front = measured(run, &record.plan.objective_names()).unwrap_or_else(|error| {
            warn!("what was measured of the run is left out of the model card: {error:#}");
            None
        });
        let card = Card::of(name, record).with_front(front);
        card.with_terms(self.license.clone(), self.dataset.clone())
    }

    fn write(&self, content: Content, base: &Base, card: &Card, out: &Path) -> Result<()> {
        let pretrained = base.pretrained();
        let card = Some(card);
        match content {
            Content::LlamaLora(form, preference, policy) => {
                let text = write_llama_lora(out, base, policy.trained(), form, &preference, card)?;
                say!("{text}");
            }
            Content::PeftParts(preference, policy) => {
                let example = write_peft_parts(out, base, policy.trained(), &preference, card)?;
                note!("{example} in it loads the adapters and sets λ");
                say_aside(&base.notes());
            }
            Content::Peft(steering) => {
                write_peft(out, base, &steering, card)?;
                say_aside(&base.notes());
            }
            Content::Merged(steering) => write_merged(out, base, &steering, card)?,
            Content::Gguf(steering) => {
                if !write_gguf(out, base, &steering, self.dtype(), card)? {
                    note!("no model card was written: the file is not alone in its folder");
                }
                say_aside(&llama_notes(pretrained));
            }
            Content::Classifier(RewardModelRun { adapters, .. }) => {
                for (output, bias) in write_classifier(out, base, adapters, card)? {
                    note!(
                        "{output}: a classifier's head has no bias, so every reward is {bias:.4} less than here; differences \
                         are the same"
                    );
                }
            }
        }
        // llama.cpp's notes have it among them.
        if !matches!(self.format, Format::LlamaLora | Format::Gguf) {
            say_aside(pretrained.unwritten()?.as_slice());
        }
        Ok(())
    }
}

/// What was measured of `run`, if it was.
fn measured(run: &RunFolder, objectives: &[String]) -> Result<Option<Front>> {
    let Some(measured) = Measured::of(run, objectives)? else {
        return Ok(None);
    };
    say_aside(measured.note.as_slice());
    let Measured {
        method,
        exact,
        provenance,
        ..
    } = measured;
    let (methods, exact) = (vec![MethodPoints::from(method)], exact.map(ExactFront::new));
    let front = Front::new(objectives.to_vec(), methods, None, exact)?;
    Ok(Some(Front {
        provenance,
        ..front
    }))
}

/// Opens what `run` has trained, beside its model.
fn open(form: Form, run: &RunFolder, decoder: &Decoder) -> Result<Content> {
    let at = |preference| open_at(run, &preference, decoder);
    let policy = || -> Result<Policy> {
        let policy = Policy::open(run, decoder)?;
        say_aside(&policy.notes);
        Ok(policy)
    };
    Ok(match form {
        Form::LlamaLora(form, preference) => Content::LlamaLora(form, preference, policy()?),
        Form::PeftParts(preference) => Content::PeftParts(preference, policy()?),
        Form::Peft(preference) => Content::Peft(at(preference)?),
        Form::Merged(preference) => Content::Merged(at(preference)?),
        Form::Gguf(preference) => Content::Gguf(at(preference)?),
        Form::Classifier => {
            let run = RewardModelRun::open(run, decoder)?;
            say_aside(&run.notes);
            Content::Classifier(run)
        }
    })
}

fn refuse_existing(out: &Path) -> Result<()> {
    if out.exists() {
        bail!(
            "{} exists already: remove it, or give another --out",
            out.display()
        );
    }
    Ok(())
}
