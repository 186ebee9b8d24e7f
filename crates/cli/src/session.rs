//! What commands share: the model that is asked, and who steers it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use panacea_devices::{Device, Precision};
use panacea_interview::Profiles;
use panacea_methods::Served;
use panacea_model::{Bits, Decoder, Sampling, Steering};
use panacea_objectives::Preference;
use panacea_pretrained::{ChatTokenizer, Pretrained};
use panacea_runs::RunFolder;
use panacea_serving::{Policy, changed_since, open_language_model, open_model_of};

/// Where runs are kept.
pub const RUNS: &str = "runs";

/// A model, optionally steered by a run's adapter.
#[derive(Args)]
pub struct ModelArguments {
    /// A folder in Hugging Face layout, or a GGUF file.
    #[arg(long)]
    pub model: PathBuf,
    /// The run whose adapter steers the model; without it, the base model.
    #[arg(long, requires = "steered by")]
    pub run: Option<String>,
    /// Weights on the run's objectives, in their order, such as 0.3,0.7.
    #[arg(long, requires = "run", group = "steered by")]
    pub preference: Option<Preference>,
    /// The profile of a person, made by `elicit`: the preference that was found for them.
    #[arg(long, requires = "run", group = "steered by")]
    pub profile: Option<String>,
    /// Where runs are kept.
    #[arg(long, default_value = RUNS)]
    pub runs: PathBuf,
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

/// A model in memory, with what steers it.
pub struct Steered {
    pub pretrained: Pretrained,
    pub decoder: Decoder,
    pub steering: Option<Steering>,
}

impl ModelArguments {
    /// The model with all bits of its weights.
    pub fn open(&self) -> Result<Steered> {
        self.open_in(None)
    }

    /// The model with weights of few bits, if so many are said.
    pub fn open_in(&self, bits: Option<FewBits>) -> Result<Steered> {
        let run = self
            .run
            .as_ref()
            .map(|run| RunFolder::open(&RunFolder::locate(&self.runs, run)?));
        let run = run.transpose()?;
        let device = panacea_devices::select(&self.device)?;
        let pretrained = match &run {
            Some(run) => open_model_of(&run.record()?.plan, Some(&self.model))?,
            None => open_language_model(&self.model)?,
        };
        // A model without a tokenizer can be asked where tokens are given.
        let notes = pretrained.tokenizer().map(ChatTokenizer::notes);
        say_aside(&notes.unwrap_or_default());
        if let Some(run) = &run {
            say_aside(&changed_since(&run.record()?, &pretrained));
        }
        let decoder = load(&pretrained, &device, bits)?;
        let steering = match &run {
            Some(run) => Some(open_at(run, &self.preference_on(run)?, &decoder)?),
            None => None,
        };
        Ok(Steered {
            pretrained,
            decoder,
            steering,
        })
    }
}

impl ModelArguments {
    /// What was asked for, or was found for the person whose profile it is.
    fn preference_on(&self, run: &RunFolder) -> Result<Preference> {
        if let Some(preference) = &self.preference {
            return Ok(preference.clone());
        }
        let name = self.profile.as_deref();
        let name = name.context("either --preference or --profile says how it is steered")?;
        let profiles = Profiles::of(run, &run.record()?.plan)?;
        say_aside(&profiles.notes);
        let profile = profiles.open(name)?;
        let preference = profile.preference();
        eprintln!(
            "profile {name}: λ = {preference:.3}, after {} answers",
            profile.session().belief().answers()
        );
        Ok(preference)
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
        eprintln!(
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
    eprintln!(
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

/// The argument of `--bits`.
pub fn parse_bits(text: &str) -> Result<FewBits, String> {
    match text {
        "8" => Ok(FewBits::Rounded(Bits::Eight)),
        "4" => Ok(FewBits::Rounded(Bits::Four)),
        "file" => Ok(FewBits::OfFile),
        _ => Err("expected 8, 4 or file".to_owned()),
    }
}

/// What a person should know, and no program reads.
pub fn say_aside(notes: &[String]) {
    for note in notes {
        eprintln!("{note}");
    }
}

/// `a.jsonl, b.jsonl`
pub fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|p| p.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
