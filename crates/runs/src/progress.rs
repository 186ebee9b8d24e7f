//! How far the training is: a bar on a terminal, plain lines now and then anywhere else.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, json};

use crate::metrics::{MetricsLine, RlhfMetrics, StepMetrics};
use crate::telling::{Level, Telling, tell, telling};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressMode {
    /// A bar where standard error is a terminal, else lines every [`LINE_INTERVAL`].
    Auto,
    /// A bar.
    Bar,
    /// Lines on standard error, at least this far apart.
    Lines(Duration),
    /// Nothing.
    Hidden,
}

/// The pause between two lines where standard error is not a terminal: short enough to see that
/// training is alive, long enough to keep an hour's log on a few screens.
pub const LINE_INTERVAL: Duration = Duration::from_secs(15);

/// Shows step, time, speed, the loss of each objective and λ.
pub struct Progress {
    total: usize,
    finished: usize,
    /// Steps that an earlier process had finished: they took none of this one's time.
    resumed_at: usize,
    started: Instant,
    tokens: usize,
    seconds: f64,
    output: Output,
}

enum Output {
    Bar(ProgressBar),
    Lines {
        interval: Duration,
        last: Option<Instant>,
        telling: Telling,
        sink: Box<dyn Write + Send>,
    },
    Hidden,
}

impl Progress {
    /// Progress over `total` optimizer steps, of which `finished` were done before.
    pub fn new(total: usize, finished: usize, mode: ProgressMode) -> Self {
        let telling = telling();
        let draws = telling.draws_bars() && io::stderr().is_terminal();
        let lines = |interval| Output::lines(interval, telling, Box::new(io::stderr()));
        let output = match mode {
            ProgressMode::Auto if draws => Output::bar(total, finished),
            ProgressMode::Auto => lines(LINE_INTERVAL),
            ProgressMode::Bar => Output::bar(total, finished),
            ProgressMode::Lines(interval) => lines(interval),
            ProgressMode::Hidden => Output::Hidden,
        };
        Self::with_output(total, finished, output)
    }

    fn with_output(total: usize, finished: usize, output: Output) -> Self {
        Self {
            total,
            finished,
            resumed_at: finished,
            started: Instant::now(),
            tokens: 0,
            seconds: 0.0,
            output,
        }
    }

    /// Shows a finished step.
    pub fn step(&mut self, metrics: &StepMetrics) {
        self.step_after(self.started.elapsed(), metrics);
    }

    fn step_after(&mut self, elapsed: Duration, metrics: &StepMetrics) {
        self.finished = metrics.step;
        self.tokens += metrics.tokens;
        self.seconds += metrics.seconds;
        let (left, rate) = (self.time_left(elapsed), self.tokens as f64 / self.seconds);
        let losses = describe_losses(metrics);
        let position = format!("step {}/{}", self.finished, self.total);
        let is_last = self.finished >= self.total;
        match &mut self.output {
            Output::Bar(bar) => {
                bar.set_position(self.finished as u64);
                bar.set_message(format!(
                    "{} left · {losses} · {rate:.0} tokens/s",
                    clock(left)
                ));
            }
            Output::Lines {
                interval,
                last,
                telling,
                sink,
            } => {
                if is_last || last.is_none_or(|last| last.elapsed() >= *interval) {
                    *last = Some(Instant::now());
                    let text = format!(
                        "{position} · {} elapsed, {} left · {losses} · {rate:.0} tokens/s",
                        clock(elapsed),
                        clock(left)
                    );
                    let values = MetricsLine::Train(metrics.clone()).scalars();
                    let values = values.into_iter().map(|(tag, value)| (tag, json!(value)));
                    let fields = Map::from_iter([
                        ("step".to_owned(), json!(self.finished)),
                        ("of".to_owned(), json!(self.total)),
                        ("elapsed_seconds".to_owned(), json!(elapsed.as_secs_f64())),
                        ("remaining_seconds".to_owned(), json!(left.as_secs_f64())),
                        ("tokens_per_s".to_owned(), json!(rate)),
                        ("values".to_owned(), values.collect::<Map<_, _>>().into()),
                    ]);
                    print(sink, telling.line(Level::Note, "step", &text, fields));
                }
            }
            Output::Hidden => {}
        }
    }

    /// Says something in a line of its own, without disturbing the bar.
    pub fn note(&mut self, text: &str) {
        match &mut self.output {
            Output::Bar(bar) => bar.println(text),
            Output::Lines { telling, sink, .. } => {
                print(sink, telling.line(Level::Note, "message", text, Map::new()));
            }
            Output::Hidden => {}
        }
    }

    /// Takes the bar away and says how the training ended.
    pub fn finish(mut self, text: &str) {
        if let Output::Bar(bar) = &self.output {
            bar.finish_and_clear();
            // A cleared bar prints nothing more.
            tell(Level::Note, text);
        } else {
            self.note(text);
        }
    }

    fn time_left(&self, elapsed: Duration) -> Duration {
        let finished_here = self.finished.saturating_sub(self.resumed_at).max(1);
        let left = self.total.saturating_sub(self.finished);
        elapsed.mul_f64(left as f64 / finished_here as f64)
    }
}

impl Output {
    fn bar(total: usize, finished: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{bar:20} {pos}/{len} · {elapsed} · {wide_msg}")
                .expect("the template is a constant that the tests draw"),
        );
        bar.set_position(finished as u64);
        bar.reset_eta();
        // A step can take many seconds; the clock goes on meanwhile.
        bar.enable_steady_tick(Duration::from_secs(1));
        Self::Bar(bar)
    }

    fn lines(interval: Duration, telling: Telling, sink: Box<dyn Write + Send>) -> Self {
        Self::Lines {
            interval,
            last: None,
            telling,
            sink,
        }
    }
}

/// Standard error may be closed while training goes on; that is no reason to stop it.
fn print(sink: &mut dyn Write, line: Option<String>) {
    if let Some(line) = line {
        let _ = writeln!(sink, "{line}");
    }
}

/// `loss helpfulness 0.6931, conciseness — · λ 0.25,0.75`; with several λ, which would fill a screen, what each objective came to
/// over all of them and under the λ with the greatest weight on it: `loss helpfulness 0.6931 (0.5012 at 0.97), … · 16 λ`
fn describe_losses(metrics: &StepMetrics) -> String {
    let losses: Vec<String> = (metrics.objectives.iter())
        .map(|objective| {
            let number = objective.loss.or(objective.reward);
            let number = number.map_or_else(|| "—".to_owned(), |number| format!("{number:.4}"));
            let nearest = objective.nearest.map_or_else(String::new, |nearest| {
                format!(" ({:.4} at {:.2})", nearest.value, nearest.weight)
            });
            format!("{} {number}{nearest}", objective.name)
        })
        .collect();
    let lambda = match metrics.lambda.as_slice() {
        [lambda] => {
            let weights: Vec<String> = lambda.iter().map(|weight| format!("{weight:.2}")).collect();
            format!("λ {}", weights.join(","))
        }
        several => format!("{} λ", several.len()),
    };
    let what = match metrics.rlhf {
        Some(RlhfMetrics { kl, .. }) => format!("KL {kl:.2} · reward"),
        None => "loss".to_owned(),
    };
    let token_loss = metrics.token_loss;
    let token_loss = token_loss.map_or_else(String::new, |loss| format!(" · {loss:.4} a token"));
    format!("{what} {}{token_loss} · {lambda}", losses.join(", "))
}

/// `0:07`, `12:34`, `1:02:03`
fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::metrics::tests::step_metrics;
    use crate::{LogFormat, NearestVertex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(total: usize, finished: usize, interval: Duration) -> (Progress, Page) {
        told_so(Telling::default(), total, finished, interval)
    }

    fn told_so(
        telling: Telling,
        total: usize,
        finished: usize,
        interval: Duration,
    ) -> (Progress, Page) {
        let page = Page::default();
        let output = Output::lines(interval, telling, Box::new(page.clone()));
        (Progress::with_output(total, finished, output), page)
    }

    #[test]
    fn a_line_names_step_times_losses_preference_and_speed() {
        let (mut progress, page) = lines(10, 0, Duration::ZERO);
        progress.step_after(Duration::from_secs(2), &step_metrics(1));
        assert_eq!(
            page.text(),
            "step 1/10 · 0:02 elapsed, 0:18 left · loss helpfulness 0.5000, conciseness — · λ 0.25,0.75 · 300 tokens/s\n"
        );
    }

    #[test]
    fn many_preferences_are_one_line() {
        let mut metrics = step_metrics(1);
        metrics.lambda = vec![vec![0.75, 0.25]; 16];
        metrics.token_loss = Some(1.25);
        metrics.objectives[0].nearest = Some(NearestVertex {
            weight: 0.97,
            value: 0.25,
        });
        assert_eq!(
            describe_losses(&metrics),
            "loss helpfulness 0.5000 (0.2500 at 0.97), conciseness — · 1.2500 a token · 16 λ"
        );
    }

    #[test]
    fn a_line_for_programs_has_the_numbers() {
        let json = Telling {
            format: LogFormat::Json,
            ..Telling::default()
        };
        let (mut progress, page) = told_so(json, 10, 0, Duration::ZERO);
        progress.step_after(Duration::from_secs(2), &step_metrics(1));
        let line: serde_json::Value = serde_json::from_str(&page.text()).unwrap();
        assert_eq!(
            (&line["event"], &line["level"]),
            (&json!("step"), &json!("info"))
        );
        assert_eq!((&line["step"], &line["of"]), (&json!(1), &json!(10)));
        assert_eq!(line["remaining_seconds"], 18.0);
        assert_eq!(line["tokens_per_s"], 300.0);
        assert_eq!(line["values"]["loss/helpfulness"], 0.5);
        assert!(line["message"].as_str().unwrap().starts_with("step 1/10"));

        let quiet = Telling {
            quiet: true,
            ..Telling::default()
        };
        let (mut progress, page) = told_so(quiet, 10, 0, Duration::ZERO);
        progress.step_after(Duration::from_secs(2), &step_metrics(1));
        progress.note("a note");
        progress.finish("done");
        assert_eq!(page.text(), "");
    }

    #[test]
    fn lines_are_sparse_but_the_first_and_the_last_step_are_always_shown() {
        let (mut progress, page) = lines(5, 0, Duration::from_secs(3600));
        for step in 1..=5 {
            progress.step(&step_metrics(step));
        }
        progress.note("checkpoint saved");
        progress.finish("done");
        let text = page.text();
        let starts: Vec<&str> = text
            .lines()
            .map(|line| line.split(" · ").next().unwrap())
            .collect();
        assert_eq!(starts, ["step 1/5", "step 5/5", "checkpoint saved", "done"]);
    }

    #[test]
    fn time_left_counts_only_the_steps_of_this_process() {
        let (mut progress, _page) = lines(110, 100, Duration::ZERO);
        progress.finished = 102;
        assert_eq!(
            progress.time_left(Duration::from_secs(4)),
            Duration::from_secs(16)
        );
    }

    #[test]
    fn a_hidden_progress_and_a_bar_take_the_same_calls() {
        for mode in [ProgressMode::Hidden, ProgressMode::Bar, ProgressMode::Auto] {
            let mut progress = Progress::new(2, 0, mode);
            progress.step(&step_metrics(1));
            progress.note("a note");
            progress.finish("the end");
        }
    }

    #[test]
    fn times_read_like_a_clock() {
        let read = |seconds| clock(Duration::from_secs(seconds));
        assert_eq!(
            [read(7), read(754), read(3723)],
            ["0:07", "12:34", "1:02:03"]
        );
    }
}
