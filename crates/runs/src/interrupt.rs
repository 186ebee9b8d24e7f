//! Ctrl-C: the first one asks the loop to save and stop, the second one ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::RunError;
use crate::telling::{Level, tell};

/// The exit code of a run that a person stopped: 128 + SIGINT, as shells have it.
pub const EXIT_INTERRUPTED: i32 = 130;

/// A flag that Ctrl-C (SIGINT, SIGTERM or SIGHUP) raises, and that the loop looks at after each step.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
}

impl Interrupt {
    /// A flag that only [`Interrupt::request`] raises: for tests, and for programs with signal handlers
    /// of their own.
    pub fn manual() -> Self {
        Self::default()
    }

    /// Listens for the signals, from now to the end of the process. A process can do so once: a second
    /// call is an error.
    pub fn install() -> Result<Self, RunError> {
        let interrupt = Self::manual();
        let flag = interrupt.clone();
        ctrlc::set_handler(move || {
            if flag.request() {
                tell(
                    Level::Reply,
                    "\nstopping again: ending at once; the last checkpoint is kept",
                );
                std::process::exit(EXIT_INTERRUPTED);
            }
            tell(
                Level::Reply,
                "\nstopping: the step at hand is finished and a checkpoint is saved; press Ctrl-C again to end at once",
            );
        })?;
        Ok(interrupt)
    }

    /// Asks the loop to stop. True where that had been asked before.
    pub fn request(&self) -> bool {
        self.requested.swap(true, Ordering::SeqCst)
    }

    /// Whether the loop was asked to stop.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_seen_by_every_clone_and_remembered() {
        let interrupt = Interrupt::manual();
        let seen_by_the_loop = interrupt.clone();
        assert!(!seen_by_the_loop.requested());
        assert!(!interrupt.request());
        assert!(seen_by_the_loop.requested());
        assert!(interrupt.request());
    }
}
