//! How far a measurement is: a bar on a terminal, a line now and then anywhere else.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use panacea_trainer::LINE_INTERVAL;

pub struct Progress {
    /// Hidden where standard error is no terminal; it still counts.
    bar: ProgressBar,
    what: String,
    is_terminal: bool,
    started: Instant,
    last_line: Cell<Instant>,
}

impl Progress {
    /// Over `work` pieces of `what`.
    pub fn new(work: usize, what: String) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(work as u64), target)
            .with_style(style)
            .with_message(what.clone());
        Self {
            bar,
            what,
            is_terminal,
            started: Instant::now(),
            last_line: Cell::new(Instant::now()),
        }
    }

    /// One piece more is done.
    pub fn inc(&self) {
        self.bar.inc(1);
        if self.is_terminal || self.last_line.get().elapsed() < LINE_INTERVAL {
            return;
        }
        self.last_line.set(Instant::now());
        let (done, work) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let elapsed = self.started.elapsed();
        let left = elapsed.mul_f64(work.saturating_sub(done) as f64 / done as f64);
        eprintln!("{}: {done}/{work}, {} left", self.what, HumanDuration(left));
    }

    /// Says something in a line of its own, without disturbing the bar.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}
