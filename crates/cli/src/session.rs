//! What commands share: the model that is asked, and who steers it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use panacea_devices::Precision;
use panacea_interview::Profiles;
use panacea_methods::Served;
use panacea_model::{Bits, Decoder, Steering};
use panacea_objectives::Preference;
use panacea_pretrained::{ChatTokenizer, Pretrained};
use panacea_runs::RunFolder;
use panacea_serving::{Policy, open_language_model, open_model_of};

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

/// A model in memory, with what steers it.
pub struct Steered {
    pub pretrained: Pretrained,
    pub decoder: Decoder,
    pub steering: Option<Steering>,
}

impl ModelArguments {
    pub fn open(&self) -> Result<Steered> {
        let device = panacea_devices::select(&self.device)?;
        let run = self
            .run
            .as_ref()
            .map(|run| RunFolder::open(&RunFolder::locate(&self.runs, run)?));
        let run = run.transpose()?;
        let pretrained = match &run {
            Some(run) => open_model_of(&run.record()?.plan, Some(&self.model))?,
            None => open_language_model(&self.model)?,
        };
        // A model without a tokenizer can be asked where tokens are given.
        let notes = pretrained.tokenizer().map(ChatTokenizer::notes);
        say_aside(&notes.unwrap_or_default());
        let decoder = Decoder::load_in(&pretrained, &device, Precision::Auto.on(&device)?)?;
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

/// Lays out the weights in a few bits for decoding, and says what that costs.
pub fn pack(decoder: &mut Decoder, bits: Bits) -> Result<()> {
    let packing = decoder.pack(bits)?;
    eprintln!(
        "weights for decoding: {} bits, {:.0} MiB, off by {:.2} % (root mean square){}",
        bits.count(),
        packing.bytes as f64 / f64::from(1 << 20),
        100.0 * packing.relative_error(),
        match packing.dense {
            0 => String::new(),
            n => format!("; {n} matrices stay as they are, since 32 does not divide their columns"),
        }
    );
    Ok(())
}

/// The argument of `--bits`.
pub fn parse_bits(text: &str) -> Result<Bits, String> {
    match text {
        "8" => Ok(Bits::Eight),
        "4" => Ok(Bits::Four),
        _ => Err("expected 8 or 4".to_owned()),
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
