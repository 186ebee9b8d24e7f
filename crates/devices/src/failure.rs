//! What a device said when it failed.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once};

/// An operation that a device did not carry out: out of memory, lost, refused by its driver.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct DeviceFailure {
    message: String,
}

impl DeviceFailure {
    pub(crate) fn new(message: String) -> Self {
        Self { message }
    }

    /// Whether memory ran out.
    pub fn is_out_of_memory(&self) -> bool {
        let message = self.message.to_lowercase();
        ["out of memory", "out_of_memory", "outofmemory", "oom"]
            .iter()
            .any(|word| message.contains(word))
    }
}

thread_local! {
    /// How many [`guarded`] calls this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// How many [`guarded`] calls there are in all threads.
static GUARDS: AtomicUsize = AtomicUsize::new(0);

/// What a device's own threads said when they panicked while somebody waited for them.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn said() -> MutexGuard<'static, Vec<String>> {
    SAID.lock().unwrap_or_else(|broken| broken.into_inner())
}

/// Does `work`, and gives what was said in place of a panic: tensor operations have no other way to say that a device
/// failed. Nothing is printed meanwhile. After a failure the device is not to be used again.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, DeviceFailure> {
    listen();
    DEPTH.set(DEPTH.get() + 1);
    GUARDS.fetch_add(1, Ordering::SeqCst);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDS.fetch_sub(1, Ordering::SeqCst);
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|panic| {
        // The cause first: what is said here is often no more than that a thread of the device is gone.
        let mut words = std::mem::take(&mut *said());
        words.push(message(panic.as_ref()));
        words.dedup();
        DeviceFailure::new(words.join("; "))
    })
}

/// Puts a hook before the one that prints panics, once: it keeps to itself what this thread says within [`guarded`], and
/// takes note of what threads of a device say meanwhile.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |info| {
            if DEPTH.get() > 0 {
            } else if GUARDS.load(Ordering::SeqCst) > 0 && of_device(info) {
                said().push(message(info.payload()));
            } else {
                print(info);
            }
        }));
    });
}

/// Whether a panic comes from the libraries that drive devices.
fn of_device(info: &PanicHookInfo<'_>) -> bool {
    info.location().is_some_and(|location| {
        ["cubecl", "wgpu", "cudarc"]
            .iter()
            .any(|name| location.file().contains(name))
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it failed without a word".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        let failure = guarded(|| -> u8 { panic!("out of memory: asked for {} bytes", 5) });
        let failure = failure.unwrap_err();
        assert_eq!(failure.to_string(), "out of memory: asked for 5 bytes");
        assert!(failure.is_out_of_memory());
        assert_eq!(guarded(|| 3), Ok(3));
    }

    #[test]
    fn failures_within_each_other_stay_apart() {
        let outer = guarded(|| {
            let inner = guarded(|| panic!("lost"));
            assert_eq!(inner.unwrap_err().to_string(), "lost");
            7
        });
        assert_eq!(outer, Ok(7));
    }
}
