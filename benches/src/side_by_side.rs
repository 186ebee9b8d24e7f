//! The same work in other people's programs and in ours, each in a process of its own, so that its peak memory is its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::median;

/// One line of a program's output.
#[derive(Deserialize)]
struct Line {
    measure: String,
    rows: Option<usize>,
    seconds: Option<Vec<f64>>,
    median: Option<f64>,
    /// Of the process, or of the device where the work is done on another than the CPU.
    peak_rss_gb: Option<f64>,
    value: Option<f64>,
}

/// What a measure came to, over the rounds.
#[derive(Default)]
pub struct Measured {
    /// Seconds of every repetition.
    pub seconds: Vec<f64>,
    /// The most memory, in units of 2³⁰ bytes; 0 where it is not told.
    pub peak_gib: f64,
    /// What was computed, where that is a number.
    pub value: Option<f64>,
}

/// Measures by name.
pub type Side = BTreeMap<String, Measured>;

/// How many times as fast ours is.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    /// The peer's median, in seconds.
    pub slow: f64,
    /// Our median.
    pub fast: f64,
    /// The least ratio of a round.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Ratio {
    /// Of what both took, round by round.
    pub fn of(peer: &Measured, ours: &Measured) -> Self {
        let rounds = peer.seconds.iter().zip(&ours.seconds).map(|(a, b)| a / b);
        let (least, most) = rounds.fold((f64::INFINITY, 0.0f64), |(least, most), ratio| {
            (least.min(ratio), most.max(ratio))
        });
        Self {
            slow: median(&peer.seconds),
            fast: median(&ours.seconds),
            least,
            most,
        }
    }
}

/// A program of this package, which lies beside the one that calls.
pub fn ours(program: &str) -> Result<Command> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(format!("{program}{}", std::env::consts::EXE_SUFFIX));
    Ok(Command::new(path))
}

/// A script of `peers/`.
pub fn peer(python: &Path, script: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(script);
    let mut command = Command::new(python);
    command.arg(path);
    command
}

/// Runs a program and takes in what it measured.
pub fn run(mut command: Command, side: &mut Side) -> Result<()> {
    let called = format!("{command:?}");
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {called}"))?;
    if !output.status.success() {
        bail!("{called} ended with {}", output.status);
    }
    for text in String::from_utf8_lossy(&output.stdout).lines() {
        let line: Line = serde_json::from_str(text).with_context(|| format!("printed {text}"))?;
        let name = match line.rows {
            Some(rows) => format!("{}, {rows} rows", line.measure),
            None => line.measure,
        };
        let measured = side.entry(name).or_default();
        measured
            .seconds
            .extend(line.seconds.unwrap_or(line.median.into_iter().collect()));
        measured.peak_gib = measured.peak_gib.max(line.peak_rss_gb.unwrap_or(0.0));
        measured.value = line.value.or(measured.value);
    }
    Ok(())
}
