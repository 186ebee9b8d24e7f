//! Threads that stay awake between the small operations of a decode step.
//!
//! A decode step is some hundreds of operations of a few 10 µs each. A thread that sleeps between them takes about as
//! long to wake as an operation takes to compute.

use std::cell::{Cell, UnsafeCell};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::ThreadId;

use rayon::prelude::*;

/// Turns of waiting after which a thread lets others have its core between two looks.
const SPINS: usize = 1 << 12;

thread_local! {
    /// The team that this thread leads.
    static LED: Cell<Option<*const Team>> = const { Cell::new(None) };
}

/// Runs `work`, during which the other threads of the pool wait for its operations without sleeping. For stretches of
/// small operations only: they take all cores.
pub(crate) fn stay_awake<T>(work: impl FnOnce() -> T) -> T {
    let helpers = rayon::current_num_threads() - 1;
    if helpers == 0 || LED.get().is_some() {
        return work();
    }
    let team = Team::new(helpers);
    rayon::in_place_scope(|scope| {
        scope.spawn_broadcast(|_, _| team.help());
        let _at_the_end = Dismiss(&team);
        LED.set(Some(&raw const team));
        work()
    })
}

/// Dismisses the team when work is done, or has panicked.
struct Dismiss<'a>(&'a Team);

impl Drop for Dismiss<'_> {
    fn drop(&mut self) {
        LED.set(None);
        self.0.is_dismissed.store(true, Ordering::Release);
    }
}

/// Calls `run` with every task, on the threads of [`stay_awake`] where it was called, on those of the pool otherwise.
pub(crate) fn for_each<T: Send>(tasks: Vec<T>, run: impl Fn(T) + Sync + Send) {
    let Some(team) = LED.get() else {
        return tasks.into_par_iter().for_each(run);
    };
    let tasks: Vec<Mutex<Option<T>>> = tasks.into_iter().map(|t| Mutex::new(Some(t))).collect();
    // SAFETY: `stay_awake` holds the team for as long as this thread leads it.
    let team = unsafe { &*team };
    team.run(tasks.len(), &|index: usize| {
        let task = tasks[index].lock().ok().and_then(|mut task| task.take());
        if let Some(task) = task {
            run(task);
        }
    });
}

type Job<'a> = &'a (dyn Fn(usize) + Sync);

struct Team {
    leader: ThreadId,
    /// Places for helpers that are still free.
    free: AtomicUsize,
    is_dismissed: AtomicBool,
    /// The number of the job, of its tasks, and of the next of them: 32, 16 and 16 bits. All in one word, so that
    /// whoever takes a task knows that the job of that task is not over.
    next: AtomicU64,
    /// Tasks that are not done.
    open: AtomicUsize,
    has_panicked: AtomicBool,
    job: UnsafeCell<Option<Job<'static>>>,
}

// SAFETY: the leader alone writes `job`, while no task is open; others read it while theirs is.
unsafe impl Sync for Team {}

const INDEX: u64 = 0xffff;

impl Team {
    fn new(helpers: usize) -> Self {
        Self {
            leader: std::thread::current().id(),
            free: AtomicUsize::new(helpers),
            is_dismissed: AtomicBool::new(false),
            next: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            has_panicked: AtomicBool::new(false),
            job: UnsafeCell::new(None),
        }
    }

    /// Calls `job` with every index below `tasks`, on the leader and its helpers.
    fn run(&self, tasks: usize, job: Job<'_>) {
        assert!(tasks <= INDEX as usize, "{tasks} tasks do not fit");
        // SAFETY: `Finish` waits until no task is open before this borrow of `job` ends, and nobody reads it then.
        let job = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        // SAFETY: no task is open, so nobody reads it.
        unsafe { *self.job.get() = Some(job) };
        self.open.store(tasks, Ordering::Relaxed);
        let number = (self.next.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        let first = number << 32 | (tasks as u64) << 16;
        self.next.store(first, Ordering::Release);
        let finish = Finish(self);
        while let Some(index) = self.take() {
            let done = Done(self);
            job(index);
            drop(done);
        }
        drop(finish);
        assert!(
            !self.has_panicked.load(Ordering::Relaxed),
            "a thread that helped has panicked"
        );
    }

    fn take(&self) -> Option<usize> {
        let mut next = self.next.load(Ordering::Acquire);
        loop {
            let (tasks, index) = (next >> 16 & INDEX, next & INDEX);
            if index >= tasks {
                return None;
            }
            let taken = self.next.compare_exchange_weak(
                next,
                next + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match taken {
                Ok(_) => return Some(index as usize),
                Err(found) => next = found,
            }
        }
    }

    /// Takes tasks until the team is dismissed.
    fn help(&self) {
        let has_place = || {
            let one_less = |free: usize| free.checked_sub(1);
            let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
            self.free.fetch_update(set, fetch, one_less).is_ok()
        };
        // The leader comes here if it waits for other work of the pool. It would wait for itself.
        if std::thread::current().id() == self.leader || !has_place() {
            return;
        }
        let mut spins = 0;
        while !self.is_dismissed.load(Ordering::Acquire) {
            let Some(index) = self.take() else {
                wait(&mut spins);
                continue;
            };
            spins = 0;
            let done = Done(self);
            // SAFETY: the task is open, so the job is there and stays.
            if let Some(job) = unsafe { *self.job.get() } {
                job(index);
            }
            drop(done);
        }
    }
}

fn wait(spins: &mut usize) {
    *spins += 1;
    if *spins < SPINS {
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

/// Closes a task, also one that panics.
struct Done<'a>(&'a Team);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.has_panicked.store(true, Ordering::Relaxed);
        }
        self.0.open.fetch_sub(1, Ordering::Release);
    }
}

/// Waits until no task is open; those that nobody has taken are closed, of which there are some after a panic only.
struct Finish<'a>(&'a Team);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        while self.0.take().is_some() {
            self.0.open.fetch_sub(1, Ordering::Release);
        }
        let mut spins = 0;
        while self.0.open.load(Ordering::Acquire) > 0 {
            wait(&mut spins);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// On a pool of four threads, whatever the machine has.
    fn on_a_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4);
        pool.build().expect("threads can be started").install(work)
    }

    #[test]
    fn every_task_of_every_job_is_run_once() {
        on_a_pool(|| {
            stay_awake(|| {
                for job in 0..2_000 {
                    let mut counts = vec![0u32; job % 50];
                    for_each(counts.iter_mut().collect(), |count: &mut u32| *count += 1);
                    assert!(counts.iter().all(|&count| count == 1), "{counts:?}");
                }
            });
        });
    }

    #[test]
    fn the_pool_works_while_a_team_stands() {
        let sum = on_a_pool(|| stay_awake(|| (0..100_000u64).into_par_iter().sum::<u64>()));
        assert_eq!(sum, 4_999_950_000);
    }

    #[test]
    fn teams_within_teams_and_after_each_other_are_one() {
        on_a_pool(|| {
            for _ in 0..100 {
                let mut seen = [false; 9];
                stay_awake(|| {
                    stay_awake(|| {
                        for_each(seen.iter_mut().collect(), |seen: &mut bool| *seen = true)
                    });
                });
                assert!(seen.iter().all(|&seen| seen));
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_leader_and_the_next_team_works() {
        let run = |bad: usize| {
            stay_awake(|| {
                for_each((0..64).collect(), |task: usize| {
                    assert_ne!(task, bad, "this task is bad");
                });
            });
        };
        on_a_pool(|| {
            for bad in [0, 31, 63] {
                assert!(catch_unwind(AssertUnwindSafe(|| run(bad))).is_err());
            }
            run(64);
        });
    }
}
