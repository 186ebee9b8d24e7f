//! What can go wrong around a training, in words a person can act on.

use std::io;
use std::path::{Path, PathBuf};

use panacea_config::ConfigErrors;
use panacea_data::{BoxError, DataError, DataReport};
use panacea_devices::{DeviceError, DeviceFailure, Memory};
use panacea_files::FileError;
use panacea_pretrained::PretrainedError;
use panacea_reward_models::ModelScorerError;
use panacea_rewards::{ScoreError, SpecError};
use panacea_runs::RunError;
use panacea_svd_lora::AdapterError;

use crate::divergence::{Collapse, Divergence};

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// The folder of the run, or its configuration.
    #[error(transparent)]
    Run(#[from] RunError),

    /// A plan that cannot be completed.
    #[error(transparent)]
    Config(#[from] ConfigErrors),

    /// A device that is not there, or does not compute as it should.
    #[error(transparent)]
    NoSuchDevice(#[from] DeviceError),

    /// The files of the base model.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),

    /// The numbers left the range in which training makes sense.
    #[error(transparent)]
    Diverged(#[from] Divergence),

    /// The policy has collapsed: its answers give nothing to learn from any more.
    #[error(transparent)]
    Collapsed(#[from] Collapse),

    /// The device did not carry out a step.
    #[error(
        "{device} failed in step {step}: {failure}{memory}\n{advice}; {saved}",
        memory = held(.memory),
        advice = if failure.is_out_of_memory() {
            "set optimizer.activations = \"recompute\", or a smaller optimizer.micro_batch_size, which changes no result"
        } else {
            "see whether `panacea devices` still lists it"
        },
        saved = match checkpoint {
            Some(step) => format!("the checkpoint of step {step} is as it was, and --resume goes on from there"),
            None => "there was no checkpoint yet".to_owned(),
        }
    )]
    Device {
        /// The device's name.
        device: String,
        /// The step that it was in.
        step: usize,
        /// What it said.
        failure: DeviceFailure,
        /// Its memory, where that is known.
        memory: Option<Memory>,
        /// The step of the last checkpoint.
        checkpoint: Option<usize>,
    },

    /// A checkpoint from which the run cannot be resumed.
    #[error("cannot go on from {path}: {source}{way_back}", path = path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What to do about it.
        way_back: String,
        /// What is wrong with it.
        source: Box<TrainerError>,
    },

    /// The base model does not compute a number for a record.
    #[error(
        "{record}: the model without an adapter gives a response the log-probability {value}, expected a finite number; with \
         precision.base = \"f16\" large numbers do not fit: take \"bf16\" or \"f32\"; with another one look at the model's files"
    )]
    NoReference {
        /// Where the record stands.
        record: String,
        /// What came out.
        value: f64,
    },

    /// An RLHF training was started without scorers.
    #[error(
        "there is nobody to score answers: a training with loss = \"rlhf\" needs `Training::judges`"
    )]
    NoJudges,

    /// An adapter that is to be a reward model has nothing that reads rewards.
    #[error(
        "the adapter has no head that reads rewards; take one that was trained with method.name = \"reward-model\""
    )]
    NoHead,

    /// The files of the records.
    #[error(transparent)]
    Data(#[from] DataError),

    /// Everything that was read had to be left out.
    #[error("no record is left of {files}:\n{report}")]
    NoRecords {
        /// What was read.
        files: String,
        /// Why nothing is left.
        report: Box<DataReport>,
    },

    /// A scorer cannot be made as it is described.
    #[error(transparent)]
    ScorerSpec(#[from] SpecError),

    /// A model that is to score cannot be opened.
    #[error(transparent)]
    Scorer(#[from] ModelScorerError),

    /// A record without a response, in a run that learns from those as well.
    #[error(
        "{record} has no response, expected one in every record with rlhf.ptx_weight = {weight}; give it one, leave the record out, or set rlhf.ptx_weight = 0"
    )]
    NoOwnResponse {
        /// Where the record stands.
        record: String,
        /// The weight of the loss on it.
        weight: f64,
    },

    /// There is no prompt left in a step to learn from, since too many answers were left out.
    #[error(
        "step {step}: {read} of {of} answers have a reward, since the rest of what the judges said could not be read, and no prompt has \
         enough of them to learn from (one with rlhf.advantages = \"gae\", else two); see what the judges reply, or let a number \
         count with `on_unreadable`"
    )]
    TooFewScored {
        /// The step.
        step: usize,
        /// Answers with a reward.
        read: usize,
        /// All answers.
        of: usize,
    },

    /// A scorer failed.
    #[error(transparent)]
    Score(#[from] ScoreError),

    /// Tokens that the policy wrote could not be put into words.
    #[error("cannot turn the tokens of an answer into text: {0}")]
    Decode(#[source] BoxError),

    /// The network, or a request that it cannot answer.
    #[error(transparent)]
    Model(#[from] panacea_model::ModelError),

    /// An adapter's files.
    #[error(transparent)]
    Adapter(AdapterError),
}

impl TrainerError {
    /// Whether files of a run are not what was once written.
    pub(crate) fn is_of_damaged_files(&self) -> bool {
        matches!(
            self,
            Self::Run(RunError::BrokenRun { .. }) | Self::Adapter(AdapterError::Malformed { .. })
        )
    }

    /// Wraps an I/O error with what was tried, and on which path: `.map_err(TrainerError::io("write", path))`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let wrap = RunError::io(action, path);
        move |source| Self::Run(wrap(source))
    }
}

impl From<FileError> for TrainerError {
    fn from(error: FileError) -> Self {
        Self::Run(error.into())
    }
}

impl From<AdapterError> for TrainerError {
    fn from(error: AdapterError) -> Self {
        match error {
            // With the advice that such an error carries here.
            AdapterError::File(error) => error.into(),
            other => Self::Adapter(other),
        }
    }
}

/// How full the memory of a device is, in brackets.
fn held(memory: &Option<Memory>) -> String {
    let gib = |bytes: u64| bytes as f64 / f64::powi(2.0, 30);
    memory.map_or_else(String::new, |memory| {
        format!(
            " ({:.1} of {:.1} GiB are free)",
            gib(memory.free),
            gib(memory.total)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_under_an_adapter_comes_with_advice() {
        let path = Path::new("runs/first/adapter.safetensors");
        let full = FileError::of("write", path)(io::ErrorKind::StorageFull.into());
        let error = TrainerError::from(AdapterError::File(full));
        let message = error.to_string();
        assert!(message.starts_with("cannot write runs/first/adapter.safetensors: "));
        assert!(
            message.ends_with("free some space; a training then goes on with --resume"),
            "{message}"
        );
    }

    #[test]
    fn a_device_that_runs_out_of_memory_says_how_much_there_is_and_that_nothing_is_lost() {
        let gib = |count: u64| count << 30;
        let failed = |message: &str, memory, checkpoint| {
            let failure = panacea_devices::guarded(|| -> () { panic!("{message}") });
            let error = TrainerError::Device {
                device: "cuda:1".to_owned(),
                step: 8,
                failure: failure.expect_err("a panic is a failure"),
                memory,
                checkpoint,
            };
            error.to_string()
        };
        let memory = Memory {
            total: gib(80),
            free: gib(1) / 2,
        };
        assert_eq!(
            failed(
                "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
                Some(memory),
                Some(5)
            ),
            "cuda:1 failed in step 8: CUDA_ERROR_OUT_OF_MEMORY: out of memory (0.5 of 80.0 GiB are free)\n\
             set optimizer.activations = \"recompute\", or a smaller optimizer.micro_batch_size, which changes no \
             result; the checkpoint of step 5 is as it was, and --resume goes on from there"
        );
        assert_eq!(
            failed("device lost", None, None),
            "cuda:1 failed in step 8: device lost\n\
             see whether `panacea devices` still lists it; there was no checkpoint yet"
        );
    }
}
