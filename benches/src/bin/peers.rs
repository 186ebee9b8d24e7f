//! `cargo xtask bench peers`: the same work in the tools that people use today and in Panacea, in turn, and a table
//! of ratios. Every program runs in a process of its own, so that its peak memory is its own.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use panacea_benches::side_by_side::{Ratio, Side, ours, peer, run};

#[derive(Parser)]
#[command(
    name = "cargo xtask bench peers",
    about = "Run PyTorch and Panacea in turn on the same work",
    after_help = "Example:
  python3 -m venv .venv && .venv/bin/pip install -r benches/peers/requirements.txt
  cargo xtask bench peers --python .venv/bin/python"
)]
struct Arguments {
    /// A Python with what benches/peers/requirements.txt lists.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Rounds; each runs every program once.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Threads of both sides. Default: what each chooses.
    #[arg(long)]
    threads: Option<usize>,
}

/// A row of the table: what is compared, the peer's measure and ours.
const COMPARISONS: [(&str, &str, &str); 17] = [
    (
        "DPO step, 4 pairs; PyTorch as usual",
        "dpo_step_usual",
        "panacea_dpo_step",
    ),
    (
        "DPO step, 4 pairs; PyTorch with the same savings",
        "dpo_step_savings",
        "panacea_dpo_step",
    ),
    (
        "DPO step, 4 pairs; Panacea keeps layer inputs only",
        "dpo_step_usual",
        "panacea_dpo_step_recompute",
    ),
    (
        "forward over 256 tokens, all logits",
        "forward, 1 rows",
        "forward, 1 rows",
    ),
    (
        "generation, 1 row; no adapter",
        "generate_base, 1 rows",
        "generate_base, 1 rows",
    ),
    (
        "generation, 1 row; Panacea steered",
        "generate_base, 1 rows",
        "generate_one_preference, 1 rows",
    ),
    (
        "generation, 8 rows; no adapter",
        "generate_base, 8 rows",
        "generate_base, 8 rows",
    ),
    (
        "generation, 8 rows; Panacea steered",
        "generate_base, 8 rows",
        "generate_one_preference, 8 rows",
    ),
    (
        "generation, 8 rows; each its own preference",
        "generate_base, 8 rows",
        "generate_own_preferences, 8 rows",
    ),
    (
        "generation, 1 row; Panacea steered, decoding from 8 bits",
        "generate_base, 1 rows",
        "generate_one_preference_8_bits, 1 rows",
    ),
    (
        "generation, 1 row; Panacea steered, decoding from 4 bits",
        "generate_base, 1 rows",
        "generate_one_preference_4_bits, 1 rows",
    ),
    (
        "generation, 8 rows; Panacea steered, decoding from 8 bits",
        "generate_base, 8 rows",
        "generate_one_preference_8_bits, 8 rows",
    ),
    (
        "generation, 8 rows; Panacea steered, decoding from 4 bits",
        "generate_base, 8 rows",
        "generate_one_preference_4_bits, 8 rows",
    ),
    (
        "DPO step; every pair its own preference",
        "dpo_step_usual",
        "panacea_dpo_step_4_preferences",
    ),
    (
        "hypervolume, 3 objectives, 1000 points (moocore)",
        "hypervolume_m3_n1000",
        "hypervolume_m3_n1000",
    ),
    (
        "hypervolume, 4 objectives, 500 points (moocore)",
        "hypervolume_m4_n500",
        "hypervolume_m4_n500",
    ),
    (
        "hypervolume, 5 objectives, 200 points (moocore)",
        "hypervolume_m5_n200",
        "hypervolume_m5_n200",
    ),
];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (mut theirs, mut own) = (Side::new(), Side::new());
    let points = tempfile::tempdir()?;
    let folder = points.path().display().to_string();
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}", arguments.rounds);
        for (program, options) in [
            ("dpo_step", vec!["--steps", "1"]),
            ("dpo_step", vec!["--steps", "1", "--recompute"]),
            ("dpo_step", vec!["--steps", "1", "--preferences", "4"]),
            ("generate", vec!["--repeats", "1"]),
            ("hypervolume", vec!["--points", &folder]),
        ] {
            arguments.run_ours(program, &options, &mut own)?;
        }
        for (script, options) in [
            (
                "torch_dpo_step.py",
                vec!["--random-weights", "--steps", "1"],
            ),
            (
                "torch_generate.py",
                vec!["--random-weights", "--repeats", "1"],
            ),
            ("moocore_hypervolume.py", vec![folder.as_str()]),
        ] {
            arguments.run_peer(script, &options, &mut theirs)?;
        }
    }
    print_table(&theirs, &own)
}

impl Arguments {
    fn run_ours(&self, program: &str, options: &[&str], side: &mut Side) -> Result<()> {
        let mut command = ours(program)?;
        command.args(options);
        if let Some(threads) = self.threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        run(command, side)
    }

    fn run_peer(&self, script: &str, options: &[&str], side: &mut Side) -> Result<()> {
        let mut command = peer(&self.python, script);
        command.args(options);
        if let Some(threads) = self.threads.filter(|_| script.starts_with("torch")) {
            command.args(["--threads", &threads.to_string()]);
        }
        run(command, side)
    }
}

fn print_table(theirs: &Side, own: &Side) -> Result<()> {
    println!(
        "| work | peer, s | Panacea, s | times as fast (range) | peer, GiB | Panacea, GiB | memory |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (work, peer_name, our_name) in COMPARISONS {
        let missing = |name: &str| format!("{name} was not measured");
        let peer = theirs.get(peer_name).with_context(|| missing(peer_name))?;
        let ours = own.get(our_name).with_context(|| missing(our_name))?;
        let agree = match (peer.value, ours.value) {
            // Times alone.
            (None, None) => !peer_name.starts_with("hypervolume"),
            (Some(theirs), Some(own)) => (theirs - own).abs() <= 1e-9 * theirs.abs(),
            // JSON has no NaN.
            _ => false,
        };
        if !agree {
            bail!(
                "{work}: the results differ: {:?} and {:?}",
                peer.value,
                ours.value
            );
        }
        let Ratio {
            slow,
            fast,
            least,
            most,
        } = Ratio::of(peer, ours);
        let memory = if peer.peak_gib > 0.0 && ours.peak_gib > 0.0 {
            format!(
                "{:.2} | {:.2} | {:.2}",
                peer.peak_gib,
                ours.peak_gib,
                ours.peak_gib / peer.peak_gib
            )
        } else {
            " | | ".to_owned()
        };
        println!(
            "| {work} | {slow:.4} | {fast:.4} | {:.2} ({least:.2}–{most:.2}) | {memory} |",
            slow / fast
        );
    }
    Ok(())
}
