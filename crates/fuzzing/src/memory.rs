//! The memory that is held at once, counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// How much memory a reader may hold at once, in bytes: `constant + times × length of the input`.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// What any input may take.
    pub constant: usize,
    /// What each byte of it may take.
    pub times: usize,
}

/// What is allocated now,
static HELD: AtomicUsize = AtomicUsize::new(0);
/// the most since the measurement began,
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// and what may be.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// The most that an input took so far, to choose bounds by.
static WORST: AtomicUsize = AtomicUsize::new(0);
/// Whether one who exceeded the limit is being reported.
static REPORTING: AtomicBool = AtomicBool::new(false);

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

impl Counting {
    fn took(&self, bytes: usize) {
        let held = HELD.fetch_add(bytes, Relaxed).wrapping_add(bytes);
        PEAK.fetch_max(held, Relaxed);
        if held > LIMIT.load(Relaxed) && !REPORTING.swap(true, Relaxed) {
            let limit = LIMIT.load(Relaxed);
            // A test's own output would be lost with the process.
            let _ = writeln!(
                io::stderr(),
                "memory: {bytes} more bytes make {held}, allowed were {limit}\n{}",
                Backtrace::force_capture()
            );
            std::process::abort();
        }
    }
}

// SAFETY: every call goes to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.took(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both blocks may exist for a moment.
        self.took(size);
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

impl Bound {
    /// What an input of this length may take.
    pub fn of(self, length: usize) -> usize {
        self.constant + self.times * length
    }

    /// Runs `read` on an input of `length` bytes and says how many bytes were held at once, also those that other threads took
    /// meanwhile; the process ends where it takes too much.
    pub(crate) fn hold(self, name: &str, length: usize, read: impl FnOnce()) -> usize {
        let before = HELD.load(Relaxed);
        PEAK.store(before, Relaxed);
        LIMIT.store(before + self.of(length), Relaxed);
        read();
        LIMIT.store(usize::MAX, Relaxed);
        let most = PEAK.load(Relaxed) - before;
        if most > WORST.load(Relaxed) / 10 * 11 {
            WORST.store(most, Relaxed);
            eprintln!("memory: {most} bytes for {length} of input of {name}");
        }
        most
    }
}
