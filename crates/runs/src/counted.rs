//! How far a piece of work is that has no metrics of its own.

use std::cell::Cell;
use std::time::Instant;

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde_json::{Map, json};

use crate::progress::LINE_INTERVAL;
use crate::telling::{Level, tell, tell_event, telling};

/// How far a piece of work is: a bar on a terminal, a line now and then anywhere else.
pub struct CountedProgress {
    /// It hides itself where standard error is no terminal, and still counts.
    bar: ProgressBar,
    last_line: Cell<Instant>,
}

impl CountedProgress {
    /// Over `work` pieces of `what`.
    pub fn new(work: usize, what: String) -> Self {
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        Self {
            bar: ProgressBar::with_draw_target(Some(work as u64), telling().draw_target())
                .with_style(style)
                .with_message(what),
            last_line: Cell::new(Instant::now()),
        }
    }

    /// One piece more is done.
    pub fn inc(&self) {
        self.bar.inc(1);
        if !self.bar.is_hidden() || self.last_line.get().elapsed() < LINE_INTERVAL {
            return;
        }
        self.last_line.set(Instant::now());
        let (done, work) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let left = self
            .bar
            .elapsed()
            .mul_f64(work.saturating_sub(done) as f64 / done as f64);
        let what = self.bar.message();
        let text = format!("{what}: {done}/{work}, {} left", HumanDuration(left));
        let fields = Map::from_iter([
            ("step".to_owned(), json!(done)),
            ("of".to_owned(), json!(work)),
            ("remaining_seconds".to_owned(), json!(left.as_secs_f64())),
        ]);
        tell_event(Level::Note, "progress", &text, fields);
    }

    /// Says something in a line of its own, without disturbing the bar.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| tell(Level::Note, text));
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}
