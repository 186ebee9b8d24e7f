//! What can go wrong around a training, in words a person can act on.

use std::io;
use std::path::{Path, PathBuf};

use panacea_data::BoxError;
use panacea_devices::{DeviceFailure, Memory};
use panacea_rewards::ScoreError;
use panacea_svd_lora::AdapterError;

use crate::divergence::{Collapse, Divergence};
use crate::problems::ConfigErrors;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// The configuration has mistakes; all of them are listed.
    #[error(transparent)]
    Config(#[from] ConfigErrors),

    /// The operating system refused to read or write something.
    #[error("cannot {action} {path}: {source}{hint}", path = path.display(), hint = io_hint(source))]
    Io {
        /// What was tried, as a verb: "write", "create the folder".
        action: &'static str,
        /// The file or folder it was tried on.
        path: PathBuf,
        /// The reason that the operating system gives.
        source: io::Error,
    },

    /// A new training was asked for in a folder that holds one already.
    #[error(
        "{path} already holds a run ({progress}); go on with it with --resume, give the new run another name with --run, or delete the folder",
        path = path.display()
    )]
    RunExists {
        /// The run's folder.
        path: PathBuf,
        /// How far that run has come.
        progress: String,
    },

    /// The folder of a new run holds files that no training wrote.
    #[error(
        "{path} is not empty ({found}) and holds no run; give the run another name with --run, or empty the folder",
        path = path.display()
    )]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// One of the things in it.
        found: String,
    },

    /// There is no run to go on with, or to read.
    #[error("{path} holds no run ({missing}); {advice}", path = path.display())]
    NoRun {
        /// The folder that was looked at.
        path: PathBuf,
        /// What a run would have there.
        missing: String,
        /// What to do.
        advice: &'static str,
    },

    /// Another process trains in the same folder.
    #[error(
        "another training{holder} is at work in {path}; wait for it, stop it, or give this run another name with --run",
        path = path.display()
    )]
    RunLocked {
        /// The run's folder.
        path: PathBuf,
        /// Who holds it: " (process 123)", or nothing where that is not known.
        holder: String,
    },

    /// A name that cannot be a folder's.
    #[error("\"{name}\" cannot name a run: {reason}")]
    RunName {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// A resumed run was given a plan that computes something else.
    #[error(
        "{path} was started with another configuration:\n  {list}\ngo on with the same values, or start a new run with another --run",
        path = path.display(), list = differences.join("\n  ")
    )]
    ResumeConflict {
        /// The run's folder.
        path: PathBuf,
        /// Every key that differs, with both values.
        differences: Vec<String>,
    },

    /// A line of a file that this crate wrote cannot be read back.
    #[error("{path}:{line}: {message}; {advice}", path = path.display())]
    BrokenLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
        /// What to do.
        advice: &'static str,
    },

    /// `run.toml` cannot be read back.
    #[error("{path}: {message}", path = path.display())]
    BrokenRun {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },

    /// The numbers left the range in which training makes sense.
    #[error(transparent)]
    Diverged(#[from] Divergence),

    /// Reinforcement learning has come to a policy that there is nothing to be learned from.
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

    /// A training by rewards was started without anybody to give them.
    #[error(
        "there is nobody to score answers: a training with loss = \"rlhf\" needs `Training::judges`"
    )]
    NoJudges,

    /// An adapter that is to be a reward model has nothing that reads rewards.
    #[error(
        "the adapter has no head that reads rewards; take one that was trained with method.name = \"reward-model\""
    )]
    NoHead,

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

    /// The handler of Ctrl-C could not be set.
    #[error("cannot listen for Ctrl-C: {0}")]
    Signal(#[from] ctrlc::Error),
}

impl TrainerError {
    /// Wraps an I/O error with what was tried, and on which path: `.map_err(TrainerError::io("write", path))`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// What to do about the I/O errors that people meet most.
impl From<AdapterError> for TrainerError {
    fn from(error: AdapterError) -> Self {
        match error {
            // With the advice that such an error carries here.
            AdapterError::Io { path, source } => Self::Io {
                action: "read or write",
                path,
                source,
            },
            other => Self::Adapter(other),
        }
    }
}

fn io_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space, then go on with --resume"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a folder that you may write to"
        }
        io::ErrorKind::NotADirectory => "; a file stands where a folder is needed",
        _ => "",
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
        let error = TrainerError::from(AdapterError::Io {
            path: "runs/first/adapter.safetensors".into(),
            source: io::ErrorKind::StorageFull.into(),
        });
        let message = error.to_string();
        assert!(message.starts_with("cannot read or write runs/first/adapter.safetensors: "));
        assert!(
            message.ends_with("free some space, then go on with --resume"),
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
