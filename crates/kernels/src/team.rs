//! Threads that stay awake between the small operations of a decode step.
//!
//! A decode step is some hundreds of operations of a few 10 µs each. A thread that sleeps between them takes about as
//! long to wake as an operation takes to compute.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::prelude::*;

/// Turns of waiting after which a thread lets others have its core between two looks.
const SPINS: usize = 1 << 12;

/// How long a helper waits for its first task (see [`Team::help`]).
const PATIENCE: Duration = Duration::from_millis(100);

/// What a thread is in a team.
#[derive(Clone, Copy)]
enum Role {
    /// It is in none.
    None,
    /// It leads this one, and is not in a task.
    Leads(*const Team),
    /// It helps, or is the leader in a task. It joins no team, and runs all tasks of a nested [`for_each`] itself.
    Works,
}

thread_local! {
    static ROLE: Cell<Role> = const { Cell::new(Role::None) };
}

/// Runs `work`, during which the other threads of the pool wait for its operations without sleeping. For stretches of
/// small operations only: they take all cores. `work` must not wait for another thread's work on the pool, which
/// may come only when it is done.
pub(crate) fn stay_awake<T>(work: impl FnOnce() -> T) -> T {
    lead(PATIENCE, work)
}

fn lead<T>(patience: Duration, work: impl FnOnce() -> T) -> T {
    let helpers = rayon::current_num_threads() - 1;
    if helpers == 0 || !matches!(ROLE.get(), Role::None) {
        return work();
    }
    let team = Team::new(helpers, patience);
    rayon::in_place_scope(|scope| {
        scope.spawn_broadcast(|_, _| team.help());
        let _at_the_end = Dismiss(&team);
        ROLE.set(Role::Leads(&raw const team));
        work()
    })
}

/// Dismisses the team when work is done, or has panicked.
struct Dismiss<'a>(&'a Team);

impl Drop for Dismiss<'_> {
    fn drop(&mut self) {
        ROLE.set(Role::None);
        self.0.is_dismissed.store(true, Ordering::Release);
    }
}

/// Calls `run` with every task: on the threads of [`stay_awake`] where it was called, right here if this is inside of
/// a task already, on the threads of the pool otherwise. It comes back when `run` has come back from every task.
///
/// On a team `run` must not wait for work that it gives to the pool: the threads of the pool are the team.
///
/// # Panics
/// If `run` panics, on any thread; no task is running any more by then.
pub(crate) fn for_each<T: Send>(tasks: Vec<T>, run: impl Fn(T) + Sync + Send) {
    let team = match ROLE.get() {
        Role::None => return tasks.into_par_iter().for_each(run),
        Role::Works => return tasks.into_iter().for_each(run),
        Role::Leads(team) => team,
    };
    let tasks: Vec<Mutex<Option<T>>> = tasks.into_iter().map(|t| Mutex::new(Some(t))).collect();
    // SAFETY: this thread leads the team, so it is within `work` of `stay_awake`, below which the team lies on the
    // stack: `Dismiss` takes the role away before that ends.
    let team = unsafe { &*team };
    team.run(tasks.len(), &|index: usize| {
        let task = tasks[index].lock().map(|mut task| task.take());
        let task = task.expect("nobody panics who holds a lock");
        run(task.expect("every task is taken once"));
    });
}

/// A closure that its maker waits for, without its type and lifetime.
#[derive(Clone, Copy)]
struct Job {
    data: *const (),
    /// Calls the closure at `data`.
    call: unsafe fn(*const (), usize),
}

impl Job {
    fn new<F: Fn(usize) + Sync>(closure: &F) -> Self {
        /// # Safety
        /// `data` points to an F that is there and may be called from this thread.
        unsafe fn call<F: Fn(usize) + Sync>(data: *const (), index: usize) {
            // SAFETY: the caller promises it.
            let closure = unsafe { &*data.cast::<F>() };
            closure(index);
        }
        Self {
            data: (&raw const *closure).cast(),
            call: call::<F>,
        }
    }

    /// What stands there before the first job.
    fn none() -> Self {
        unsafe fn nothing(_: *const (), _: usize) {}
        Self {
            data: std::ptr::null(),
            call: nothing,
        }
    }
}

struct Team {
    /// Places for helpers that are still free.
    free: AtomicUsize,
    /// How long a helper waits for its first task.
    patience: Duration,
    is_dismissed: AtomicBool,
    /// The job's number of tasks and the index of the next one, 32 bits each. They share one word, so that a thread
    /// that takes a task knows that it belongs to the current job.
    next: AtomicU64,
    /// Tasks of the job that are not done.
    open: AtomicUsize,
    job: UnsafeCell<Job>,
    /// The payload of the first task that panicked.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: all fields but `job` may be used by several threads at once. For `job` it has to be shown that nobody reads
// it while it is written, and that nobody calls what it points to when that is gone.
//
// Who writes. `run` alone does, on the leader: it is called by `for_each` in the thread whose role is `Leads`, which
// only the thread that has made the team ever has. `run` is not entered twice, because the leader is not `Leads` but
// `Works` while it is in there. (Outside of `run`, while it waits for the pool, it may run somebody else's work, which may
// call `run`: that is on its thread as well, and so one after the other.)
//
// Who reads. The leader in `run`, behind its own write; and helpers in `help`, who have *taken a task* just before,
// that is, have raised the index in `next` from i to i + 1, i being below the number of tasks, in one atomic step.
//
// Every task of a job is taken once, since that step cannot happen twice from the same i. A job is *over* when all of
// its tasks are taken and `open` is 0. `run` writes the number of tasks into `open` before it publishes them in
// `next`, every taker lowers it by one after its task, and `run` comes back only when it has seen 0: so when it
// comes back its job is over. It cannot leave earlier by a panic either. Between publishing and that 0 it takes
// tasks, calls them and waits; a task that panics is caught in `call`.
//
// No read before the write. `run` writes `job` and then stores `next` with Release. Whoever takes a task has read a
// value of `next`, with Acquire, that this store has written or that others made from it by taking tasks (atomic
// steps that only change the index continue the release sequence of the store). So the write of `job` happened before
// the read.
//
// No write before the read is done. A taker reads `job`, calls it, and then lowers `open` with Release. The leader
// reads the 0 in `open` with Acquire; all who lowered it stand in the release sequence that ends in this 0. So every
// read of `job`, every call, and all that the calls have written happened before `run` comes back, and thereby before
// the next write of `job` and before the closure ends.
//
// No old job. A helper may be delayed for any time between looking at `next` and the atomic step. The step succeeds
// only where `next` is, at that moment, a job with the task i open, however often it has changed in between; what is
// taken then is the task i of *that* job, and `job` is read after it, so it is that job's. That it looked the same
// before changes nothing, which is why jobs need no number that could wrap around. Between jobs all tasks are taken,
// so that nobody can take one while `run` writes.
//
// How long the team itself lives. Helpers use it inside of the scope in `stay_awake`, which waits for them, also when
// `work` panics.
unsafe impl Sync for Team {}

impl Team {
    fn new(helpers: usize, patience: Duration) -> Self {
        Self {
            free: AtomicUsize::new(helpers),
            patience,
            is_dismissed: AtomicBool::new(false),
            next: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            job: UnsafeCell::new(Job::none()),
            panic: Mutex::new(None),
        }
    }

    /// Calls `closure` with every index below `tasks`, on the leader and its helpers. On the leader only, and never
    /// inside of itself: [`for_each`] sees to that.
    fn run<F: Fn(usize) + Sync>(&self, tasks: usize, closure: &F) {
        let count = u32::try_from(tasks).expect("tasks fit into 32 bits");
        ROLE.set(Role::Works);
        let job = Job::new(closure);
        // SAFETY: no task is open, so nobody reads it (see `Sync`).
        unsafe { *self.job.get() = job };
        self.open.store(tasks, Ordering::Relaxed);
        self.next.store(u64::from(count) << 32, Ordering::Release);
        while let Some(index) = self.take() {
            // SAFETY: the closure is borrowed until the end of this function.
            unsafe { self.call(job, index) };
        }
        let mut spins = 0;
        while self.open.load(Ordering::Acquire) > 0 {
            wait(&mut spins);
        }
        ROLE.set(Role::Leads(self));
        let panic = self
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Takes a task of the job, if there is one left.
    fn take(&self) -> Option<usize> {
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            let (tasks, index) = (next >> 32, next & u64::from(u32::MAX));
            if index >= tasks {
                return None;
            }
            let taken = self.next.compare_exchange_weak(
                next,
                next + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match taken {
                Ok(_) => return Some(index as usize),
                Err(found) => next = found,
            }
        }
    }

    /// Runs a task that was taken and closes it, also where it panics. It does not panic.
    ///
    /// # Safety
    /// The closure that `job` was made from is there.
    unsafe fn call(&self, job: Job, index: usize) {
        // `run` goes on with the panic, so what it has left half done is seen by those only who catch it there.
        // SAFETY: the caller says that it is there.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { (job.call)(job.data, index) }));
        if let Err(panic) = result {
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            match &*first {
                None => *first = Some(panic),
                // Dropping it may panic.
                Some(_) => std::mem::forget(panic),
            }
        }
        self.open.fetch_sub(1, Ordering::Release);
    }

    /// Takes tasks until the team is dismissed.
    ///
    /// A thread of the pool may enter here while it waits for part of other work. If that work belongs to the leader,
    /// the leader and this thread would wait for each other forever. Therefore a thread that already leads or helps
    /// does not enter, and a helper that gets no first task within its patience leaves. Once it has had a task it may
    /// stay, since the leader was then handing out tasks and not waiting for the pool.
    fn help(&self) {
        if !matches!(ROLE.get(), Role::None) || !self.take_place() {
            return;
        }
        ROLE.set(Role::Works);
        let start = Instant::now();
        let (mut spins, mut has_had_one) = (0, false);
        while !self.is_dismissed.load(Ordering::Acquire) {
            if let Some(index) = self.take() {
                // SAFETY: a task is taken and not closed, so the job is written and stays, as does its closure (see
                // `Sync`).
                unsafe { self.call(*self.job.get(), index) };
                (spins, has_had_one) = (0, true);
                continue;
            }
            wait(&mut spins);
            if !has_had_one && spins > SPINS && start.elapsed() > self.patience {
                break;
            }
        }
        ROLE.set(Role::None);
    }

    fn take_place(&self) -> bool {
        let one_less = |free: usize| free.checked_sub(1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.free.fetch_update(set, fetch, one_less).is_ok()
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread::ThreadId;

    use super::*;

    const THREADS: usize = 4;

    /// On a pool of four threads, whatever the machine has.
    fn on_a_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS);
        pool.build().expect("threads can be started").install(work)
    }

    /// Calls `run` with the numbers of four tasks, each on another thread of a team: a task waits until all are taken.
    fn on_every_thread_of_a_team(run: impl Fn(usize) + Sync + Send) {
        let all_are_taken = Barrier::new(THREADS);
        let run = |task| {
            all_are_taken.wait();
            run(task);
        };
        on_a_pool(|| lead(Duration::MAX, || for_each((0..THREADS).collect(), run)));
    }

    fn this_thread() -> ThreadId {
        std::thread::current().id()
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
    fn there_may_be_more_tasks_than_16_bits_count() {
        let mut counts = vec![0u8; 100_000];
        on_a_pool(|| {
            stay_awake(|| for_each(counts.iter_mut().collect(), |count: &mut u8| *count += 1));
        });
        assert!(counts.iter().all(|&count| count == 1));
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
    fn teams_of_several_leaders_do_not_wait_for_each_other() {
        on_a_pool(|| {
            (0..200usize).into_par_iter().for_each(|leader| {
                let mut sums = [leader; 17];
                stay_awake(|| for_each(sums.iter_mut().collect(), |sum: &mut usize| *sum += 1));
                assert_eq!(sums, [leader + 1; 17]);
            });
        });
    }

    #[test]
    fn tasks_within_tasks_are_run_in_place_by_leader_and_helpers() {
        let threads = Mutex::new(Vec::new());
        on_every_thread_of_a_team(|task| {
            let thread = this_thread();
            let mut inner = [0; 30];
            for round in 0..100 {
                for_each(inner.iter_mut().collect(), |x: &mut usize| {
                    assert_eq!(this_thread(), thread);
                    *x += task + round;
                });
            }
            assert_eq!(inner, [100 * task + 4950; 30]);
            threads.lock().unwrap().push(thread);
        });
        let mut threads = threads.into_inner().unwrap();
        threads.sort_by_key(|thread| format!("{thread:?}"));
        threads.dedup();
        assert_eq!(threads.len(), THREADS, "leader and helpers have all nested");
    }

    #[test]
    fn a_team_is_not_led_within_a_task() {
        on_every_thread_of_a_team(|task| {
            let mut inner = [task; 5];
            stay_awake(|| for_each(inner.iter_mut().collect(), |x: &mut usize| *x += 1));
            assert_eq!(inner, [task + 1; 5]);
        });
    }

    #[test]
    fn after_tasks_within_tasks_the_team_goes_on() {
        on_a_pool(|| {
            stay_awake(|| {
                for _ in 0..500 {
                    let mut sums = [0; 20];
                    for_each(sums.iter_mut().collect(), |sum: &mut usize| {
                        let mut parts = [1; 3];
                        for_each(parts.iter_mut().collect(), |part: &mut usize| *part += 1);
                        *sum = parts.iter().sum();
                    });
                    assert_eq!(sums, [6; 20]);
                }
            });
        });
    }

    /// What `work` panics with.
    fn panic_of(work: impl FnOnce()) -> String {
        let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("it panics");
        let message = panic.downcast_ref::<String>().expect("a formatted message");
        message.clone()
    }

    #[test]
    fn a_panic_reaches_the_leader_from_every_thread_when_all_tasks_are_done() {
        for of_leader in [true, false] {
            let all_are_taken = Barrier::new(THREADS);
            let done = AtomicUsize::new(0);
            on_a_pool(|| {
                let leader = this_thread();
                lead(Duration::MAX, || {
                    let message = panic_of(|| {
                        for_each((0..THREADS).collect(), |task: usize| {
                            all_are_taken.wait();
                            if (this_thread() == leader) == of_leader {
                                panic!("task {task} is bad");
                            }
                            done.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                    assert!(message.ends_with("is bad"), "{message}");
                    let expected = if of_leader { THREADS - 1 } else { 1 };
                    assert_eq!(done.load(Ordering::Relaxed), expected);
                    // The same team has all its threads still.
                    for_each((0..THREADS).collect(), |_: usize| {
                        all_are_taken.wait();
                        done.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!(done.load(Ordering::Relaxed), expected + THREADS);
                });
            });
        }
    }

    #[test]
    fn a_panic_ends_the_team_and_the_next_works() {
        let run = |bad: usize| {
            stay_awake(|| {
                for_each((0..64).collect(), |task: usize| {
                    assert!(task != bad, "task {task} is bad");
                });
            });
        };
        on_a_pool(|| {
            for bad in [0, 31, 63] {
                assert_eq!(panic_of(|| run(bad)), format!("task {bad} is bad"));
            }
            run(64);
        });
    }

    #[test]
    fn a_helper_that_the_leader_waits_for_leaves() {
        let (is_there, may_help) = (AtomicBool::new(false), AtomicBool::new(false));
        let is_back = AtomicBool::new(false);
        let wait_for = |flag: &AtomicBool| {
            while !flag.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
        pool.build().expect("threads can be started").install(|| {
            rayon::in_place_scope(|scope| {
                scope.spawn(|_| {
                    is_there.store(true, Ordering::Release);
                    wait_for(&may_help);
                    // It looks for other work, as a thread does that waits for a part of its own, and finds the team.
                    rayon::yield_now();
                    is_back.store(true, Ordering::Release);
                });
                wait_for(&is_there);
                stay_awake(|| {
                    may_help.store(true, Ordering::Release);
                    wait_for(&is_back);
                });
            });
        });
    }
}
