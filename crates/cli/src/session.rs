//! What commands share: the model that is asked, and who steers it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use panacea_config::{InputPlan, Plan};
use panacea_devices::{Device, Precision};
use panacea_interview::Profiles;
use panacea_methods::Served;
use panacea_model::{Bits, Decoder, Sampling, Steering};
use panacea_objectives::{Preference, Weights};
use panacea_pretrained::{ChatOptions, ChatTokenizer, Pretrained};
use panacea_runs::{RunFolder, RunRecord};
use panacea_serving::{Policy, changed_since};

use crate::input::InputArguments;

/// Where runs are kept.
pub const RUNS: &str = "runs";

/// A model, optionally steered by a run's adapter.
#[derive(Args)]
pub struct ModelArguments {
    /// A folder in Hugging Face layout, or a GGUF file. Default: the model that the run was trained on.
    #[arg(long, required_unless_present = "run")]
    pub model: Option<PathBuf>,
    /// The run whose adapter steers the model; without it, the base model.
    #[arg(long)]
    pub run: Option<String>,
    /// Weights on the run's objectives, in their order or by name, such as 0.3,0.7 or brevity=2,detail=1; they are divided by
    /// their sum, and an objective without a name has 0. A run that was trained at one λ needs none.
    #[arg(long, requires = "run", group = "steered by", value_name = "WEIGHTS")]
    pub preference: Option<Weights>,
    /// The profile of a person, made by `elicit`: the preference that was found for them.
    #[arg(long, requires = "run", group = "steered by")]
    pub profile: Option<String>,
    /// Where runs are kept.
    #[arg(long, default_value = RUNS)]
    pub runs: PathBuf,
    #[command(flatten)]
    pub input: InputArguments,
    /// flex (the CPU), wgpu, vulkan, cuda or cuda:INDEX.
    #[arg(long, default_value = "flex")]
    pub device: String,
}

/// How the tokens of an answer are chosen.
#[derive(Args)]
pub struct SamplingArguments {
    /// The likeliest token, always.
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p"])]
    greedy: bool,
    /// Logits are divided by it; 0 is greedy.
    #[arg(long, default_value_t = 0.7)]
    temperature: f64,
    /// Only the k likeliest tokens; 0 is off.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Only the smallest set of the likeliest tokens whose probabilities add up to this.
    #[arg(long, default_value_t = 0.95)]
    top_p: f64,
    /// Above 1, tokens that were seen become less likely.
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f64,
    /// New tokens of an answer, at most; fewer where the model's context ends.
    #[arg(long, default_value_t = 256)]
    pub max_new_tokens: usize,
    /// The seed of sampling.
    #[arg(long, default_value_t = 17)]
    pub seed: u64,
}

impl SamplingArguments {
    pub fn sampling(&self) -> Sampling {
        Sampling {
            repetition_penalty: self.repetition_penalty,
            temperature: if self.greedy { 0.0 } else { self.temperature },
            top_k: self.top_k,
            top_p: if self.greedy { 1.0 } else { self.top_p },
        }
    }
}

/// A model with what steers it, by their files: no weight is in memory yet, so that what is given to it can be checked first.
pub struct Opened {
    pub pretrained: Pretrained,
    /// How conversations are written and files read.
    pub input: InputPlan,
    /// What steers the model, and at which preference.
    run: Option<(RunFolder, RunRecord, Preference)>,
    device: Device,
}

/// A model in memory, with what steers it.
pub struct Steered {
    pub pretrained: Pretrained,
    pub decoder: Decoder,
    pub steering: Option<Steering>,
}

impl ModelArguments {
    /// Finds the run and the profile, and opens the model's files.
    pub fn open(&self) -> Result<Opened> {
        let run = self.run.as_ref().map(|run| self.open_run(run));
        let run = run.transpose()?;
        let plan = run.as_ref().map(|(_, record, _)| &record.plan);
        let input = self.input.over(plan)?;
        let device = panacea_devices::select(&self.device)?;
        let model = model_or_of_run(self.model.as_deref(), plan)?;
        let records = run.iter().map(|(_, record, _)| record);
        let pretrained = open_model(model, input.chat.clone(), records)?;
        Ok(Opened {
            pretrained,
            input,
            run,
            device,
        })
    }

    /// The run, at what was asked for, or was found for the person whose profile it is.
    fn open_run(&self, name: &str) -> Result<(RunFolder, RunRecord, Preference)> {
        let run = RunFolder::open(&RunFolder::locate(&self.runs, name)?)?;
        let record = run.record()?;
        let preference = match (&self.preference, &self.profile) {
            (Some(weights), _) => preference_for(weights, &record.plan, &run)?,
            (None, Some(profile)) => {
                let (preference, answers) = preference_of(profile, &run, &record.plan)?;
                note!("profile {profile}: λ = {preference:.3}, after {answers} answers");
                preference
            }
            (None, None) => record.plan.only_preference().with_context(|| {
                let objectives = record.plan.objective_names().join(", ");
                format!(
                    "--preference or --profile is missing: it says how run {name} is steered, whose objectives are {objectives}"
                )
            })?,
        };
        Ok((run, record, preference))
    }
}

/// The model that was given, or else the one that a run was trained on.
pub fn model_or_of_run<'a>(given: Option<&'a Path>, run: Option<&'a Plan>) -> Result<&'a Path> {
    let model = given.or_else(|| run.map(Plan::model));
    model.context("either --model or --run says which model answers")
}

/// The preference over the objectives of a run that these weights are. Says it by name.
pub fn preference_for(weights: &Weights, plan: &Plan, run: &RunFolder) -> Result<Preference> {
    let objectives = plan.objective_names();
    let preference = weights.preference(&objectives);
    let preference = preference.with_context(|| {
        format!(
            "--preference {weights}: the objectives of run {} are {}",
            run.name(),
            objectives.join(", ")
        )
    })?;
    say_aside(weights.division().as_slice());
    note!("λ: {}", preference.by_name(&objectives));
    Ok(preference)
}

/// The preference that was found for the person of a profile, and after how many of their answers.
pub fn preference_of(profile: &str, run: &RunFolder, plan: &Plan) -> Result<(Preference, usize)> {
    let profiles = Profiles::of(run, plan)?;
    say_aside(&profiles.notes);
    let profile = profiles.open(profile)?;
    let answers = profile.session().belief().answers();
    Ok((profile.preference(), answers))
}

impl Opened {
    pub fn tokenizer(&self) -> Result<&ChatTokenizer> {
        Ok(self.pretrained.tokenizer()?)
    }

    /// The run's objectives; none where the base model answers.
    pub fn objectives(&self) -> Option<Vec<String>> {
        let plan = self.run.as_ref().map(|(_, record, _)| &record.plan);
        plan.map(Plan::objective_names)
    }

    /// Reads the weights, of few bits if so many are said.
    pub fn load(self, bits: Option<FewBits>) -> Result<Steered> {
        let decoder = load(&self.pretrained, &self.device, bits)?;
        let steering = match &self.run {
            Some((run, _, preference)) => Some(open_at(run, preference, &decoder)?),
            None => None,
        };
        Ok(Steered {
            pretrained: self.pretrained,
            decoder,
            steering,
        })
    }
}

impl Steered {
    pub fn tokenizer(&self) -> Result<&ChatTokenizer> {
        Ok(self.pretrained.tokenizer()?)
    }
}

/// What a run serves one preference with.
pub fn open_at(run: &RunFolder, preference: &Preference, decoder: &Decoder) -> Result<Steering> {
    let policy = Policy::open(run, decoder)?;
    say_aside(&policy.notes);
    let Served::Adapter(steering) = policy.serve(preference)?;
    if steering.preference != preference.weights() {
        let served = Preference::new(steering.preference.clone())?;
        note!(
            "run {} has no adapter for λ = {preference:.3}: the one for λ = {served:.3} answers",
            run.name()
        );
    }
    Ok(steering)
}

/// The weights of few bits that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FewBits {
    /// Rounded to so many, beside those with all bits.
    Rounded(Bits),
    /// As the model's GGUF file has them, and nothing beside.
    OfFile,
}

/// The network of a model's files on the device of this name. Says what its weights take where they have few bits.
pub fn load(pretrained: &Pretrained, device: &Device, bits: Option<FewBits>) -> Result<Decoder> {
    let all_bits = || -> Result<Decoder> {
        let precision = Precision::Auto.on(device)?;
        Ok(Decoder::load_in(pretrained, device, precision)?)
    };
    let (decoder, what) = match bits {
        None => return all_bits(),
        Some(FewBits::Rounded(bits)) => {
            let mut decoder = all_bits()?;
            let packing = decoder.pack(bits)?;
            let what = format!(
                "weights for decoding: {} bits, {:.0} MiB beside the exact ones, off by {:.2} % (root mean square)",
                bits.count(),
                mebibytes(packing.bytes as u64),
                100.0 * packing.relative_error()
            );
            (decoder, what)
        }
        Some(FewBits::OfFile) => {
            let decoder = Decoder::load_as_stored(pretrained, device)?;
            let memory = decoder.weight_memory();
            let what = format!(
                "weights: the file's, {:.0} MiB in {:.2} bits each",
                mebibytes(memory.bytes),
                memory.bits()
            );
            (decoder, what)
        }
    };
    let memory = decoder.weight_memory();
    if memory.packed == 0 {
        bail!(
            "--bits: {} has no matrix that can be read so; --bits file takes GGUF files with Q8_0, Q4_0, Q4_1, Q4_K or \
             Q6_K, --bits 8 any model whose widths are multiples of 32",
            pretrained.source().display()
        );
    }
    note!(
        "{what}{}",
        match memory.dense {
            0 => String::new(),
            n => format!("; {n} matrices are floats, since they are in no form that is read so"),
        }
    );
    Ok(decoder)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// With how many bits of the weights answers are written.
#[derive(Args)]
pub struct BitsArguments {
    /// Decode from weights of 8 or 4 bits instead of 32, or from the blocks of a GGUF file as they are, on the CPU: faster,
    /// and a little less exact, since what they are multiplied with is rounded, too. Prompts are read exactly. With
    /// `file`, the weights take the memory that they take in the file; with 8 or 4, those of 32 bits are kept beside them.
    #[arg(long, value_name = "8|4|file", value_parser = parse_bits)]
    pub bits: Option<FewBits>,
}

/// The argument of `--bits`.
fn parse_bits(text: &str) -> Result<FewBits, String> {
    match text {
        "8" => Ok(FewBits::Rounded(Bits::Eight)),
        "4" => Ok(FewBits::Rounded(Bits::Four)),
        "file" => Ok(FewBits::OfFile),
        _ => Err("expected 8, 4 or file".to_owned()),
    }
}

/// Opens the files of a model, with its conversations written as `chat` says, and tells what a person should know of them: of the
/// tokenizer, and what has changed since these runs were trained on it.
pub fn open_model<'a>(
    model: &Path,
    chat: ChatOptions,
    records: impl IntoIterator<Item = &'a RunRecord>,
) -> Result<Pretrained> {
    let pretrained = Pretrained::open_language_model(model)?.with_chat(chat);
    // A model without a tokenizer can be asked where tokens are given.
    let notes = pretrained.tokenizer().map(ChatTokenizer::notes);
    say_aside(&notes.unwrap_or_default());
    for record in records {
        say_warnings(&changed_since(record, &pretrained));
    }
    Ok(pretrained)
}

/// Does what may use this device. One that fails (out of memory, lost) is an error; on the CPU a panic is a mistake of ours, and
/// shown as one.
pub fn on_device<T>(device: Option<&str>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(device) = device.filter(|device| !device.starts_with("flex")) else {
        return work();
    };
    panacea_devices::guarded(work).unwrap_or_else(|failure| {
        let advice = match failure.is_out_of_memory() {
            true => {
                ". Shorter prompts and answers take less, and fewer answers together; if the model alone is too large, take a \
                 smaller one, or compute on the CPU (--device flex)"
            }
            false => "",
        };
        bail!("{device} failed: {failure}{advice}")
    })
}

/// What a person should know, and no program reads.
pub fn say_aside(notes: &[String]) {
    for note in notes {
        note!("{note}");
    }
}

/// What a person should change, or be aware of.
pub fn say_warnings(warnings: &[String]) {
    for warning in warnings {
        warn!("{warning}");
    }
}

/// `a.jsonl, b.jsonl`
pub fn list(paths: &[&Path]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_fails_is_an_error() {
        let failed = |said: &'static str| {
            let error = on_device::<()>(Some("cuda:1"), || panic!("{said}")).unwrap_err();
            error.to_string()
        };
        assert_eq!(failed("it is gone"), "cuda:1 failed: it is gone");
        let message = failed("out of memory");
        assert!(message.starts_with("cuda:1 failed: out of memory. Shorter"));
        let refused = on_device::<()>(Some("cuda:1"), || bail!("no such file"));
        assert_eq!(refused.unwrap_err().to_string(), "no such file");
    }
}
