//! # What reads people's files, called with any bytes
//!
//! A [`Target`] for each reader: how it is given an input, what a program then asks of what was read, and the memory that it may
//! hold meanwhile. [`seeds`] makes small valid inputs. The tests here run every target on its seeds and on large inputs that
//! were made to take memory; the crate in `fuzz/`, outside of the workspace, has libFuzzer change the seeds.
//!
//! ```
//! use panacea_fuzzing::{seeds, target};
//!
//! let points = target("points").ready();
//! assert!(points.read(b"helpful,concise\n1,2\n").is_some());
//! assert!(points.read(b"\xff,[").is_some(), "an error, and no panic");
//! assert_eq!(seeds("points").len(), 2);
//! ```

mod memory;
mod model;
mod records;
mod scratch;
mod seeds;
mod targets;

use std::panic;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{fs, io, process, thread};

pub use memory::Bound;
use scratch::Scratch;
pub use seeds::{Seed, seeds};
pub use targets::{TARGETS, Target};

/// The stack of a thread that Rust starts, as a server's are. The main thread has more.
const STACK: usize = 2 << 20;

/// The target of this name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("there is no target {name}"))
}

/// A target with the folder that it reads from.
pub struct Ready {
    target: &'static Target,
    folder: Scratch,
}

impl Target {
    /// Makes its folder, with what stands beside the input.
    pub fn ready(&'static self) -> Ready {
        let folder = Scratch::new();
        (self.prepare)(&folder);
        Ready {
            target: self,
            folder,
        }
    }
}

impl Ready {
    /// Has the input read, and says how many bytes were held at once for it; nothing where the bytes are no input. The process
    /// ends where they are more than the target's bound allows, or where they do not fit on an ordinary stack.
    ///
    /// # Panics
    /// Where reading does.
    pub fn read(&self, input: &[u8]) -> Option<usize> {
        if !(self.target.lay)(&self.folder, input) {
            return None;
        }
        let read = || (self.target.read)(&self.folder, input);
        let held = || (self.target.bound).hold(self.target.name, input.len(), read);
        thread::scope(|scope| {
            let thread = thread::Builder::new().stack_size(STACK);
            let reading = thread.spawn_scoped(scope, held);
            let read = reading.expect("threads can be started").join();
            Some(read.unwrap_or_else(|panic| panic::resume_unwind(panic)))
        })
    }
}

/// What the last panic said.
static SAID: Mutex<String> = Mutex::new(String::new());

/// As [`Ready::read`] for libFuzzer, which makes the targets ready by `ready`: the process ends at a panic that nobody catches.
pub fn fuzz(ready: &Ready, input: &[u8]) {
    // Its own hook ends the process at every panic, also at those that a reader turns into an error.
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|panic| {
            *SAID.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
        }));
    });
    let read = panic::catch_unwind(panic::AssertUnwindSafe(|| ready.read(input)));
    if read.is_err() {
        eprintln!("{}", SAID.lock().unwrap_or_else(PoisonError::into_inner));
        process::abort();
    }
}

/// Writes all seeds, a folder for each target.
///
/// # Errors
/// Where `corpus` cannot be written.
pub fn write_seeds(corpus: &Path) -> io::Result<()> {
    for target in &TARGETS {
        let folder = corpus.join(target.name);
        fs::create_dir_all(&folder)?;
        for seed in seeds(target.name) {
            fs::write(folder.join(seed.name), seed.input)?;
        }
    }
    Ok(())
}
