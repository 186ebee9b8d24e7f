//! What a chat template may take of time, memory and stack. It is a program that came with somebody's model.

use std::thread;

/// The most steps for one conversation: about a second's work. 64 bytes of what is made count as a step, so that the memory
/// is bounded too.
pub(crate) const MOST_STEPS: u64 = 1_000_000;

/// Room for values as deep as so many steps can nest them. A value is freed by a call for each list that it stands in, of 300
/// bytes in the development profile.
const DEEP_STACK: usize = 512 << 20;

/// A template that is no longer than this cannot write more brackets than an ordinary stack has room for.
const SHORT: usize = 8 << 10;

/// Whether a template might put a value into a list, that one into another, and so on: written out, or by what goes on from one
/// round of a loop or call to the next.
pub(crate) fn might_nest(source: &str) -> bool {
    const GROWING: [&str; 3] = ["namespace", "macro", "recursive"];
    source.len() > SHORT || GROWING.iter().any(|word| source.contains(word))
}

/// Runs `work` on a thread of its own, which has room for deep values.
pub(crate) fn with_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .stack_size(DEEP_STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| format!("no thread to render it on: {error}"))?;
        match thread.join() {
            Ok(done) => Ok(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
