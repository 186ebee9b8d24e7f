//! What all targets share: memory that is counted, folders for the files, and a thread with the stack of any other.

use std::panic;
use std::sync::{Mutex, Once, PoisonError};

mod memory;
mod model;
mod records;
mod scratch;
mod seeds;

pub use memory::Bound;
pub use model::{open_and_use_tokenizer, use_model};
pub use records::load_records;
pub use scratch::Scratch;
pub use seeds::{CONFIG, VOCABULARY, tiny};

/// What the last panic said.
static SAID: Mutex<String> = Mutex::new(String::new());

/// The stack of a thread that Rust starts, as a server's are. The main thread has more.
const STACK: usize = 2 << 20;

/// Runs `read`, which must not panic, overflow its stack, or hold more memory at once than `bound` allows for `length` bytes
/// of input.
pub fn check(bound: Bound, length: usize, read: impl FnOnce() + Send) {
    // libFuzzer's own ends the process at every panic, also at those that a reader turns into an error.
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        panic::set_hook(Box::new(|panic| {
            *SAID.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
        }));
    });
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let reading = thread.spawn_scoped(scope, || bound.hold(length, read));
        reading
            .expect("threads can be started")
            .join()
            .unwrap_or_else(|_| {
                eprintln!("{}", SAID.lock().unwrap_or_else(PoisonError::into_inner));
                std::process::abort();
            });
    });
}
