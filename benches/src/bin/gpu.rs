//! `cargo xtask bench gpu`: DPO steps and generation of three sizes of models in PyTorch + PEFT and in Panacea, in turn, on
//! one GPU, and tables of ratios; `cargo xtask bench gpu suite`: whether the device computes what the CPU does.

use std::path::PathBuf;
use std::process;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use panacea_benches::median;
use panacea_benches::side_by_side::{Measured, Ratio, Side, ours, peer, run};

#[derive(Parser)]
#[command(
    name = "cargo xtask bench gpu",
    about = "Run PyTorch and Panacea in turn on a GPU",
    after_help = "Example:
  python3 -m venv .venv && .venv/bin/pip install -r benches/peers/requirements.txt
  cargo xtask bench gpu --device cuda --python .venv/bin/python
  cargo xtask bench gpu suite --device cuda",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// A Python with what benches/peers/requirements.txt lists, torch being one for CUDA.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// The device of Panacea; PyTorch takes CUDA.
    #[arg(long, default_value = "cuda")]
    device: String,
    /// The sizes that are measured.
    #[arg(long, num_args = 1.., default_values = ["smollm2-135m", "llama-1b", "llama-8b"])]
    shapes: Vec<String>,
    /// Tokens of a pair as PyTorch sees it, a prompt and a response of half as many each.
    #[arg(long, num_args = 1.., default_values_t = [512, 1024])]
    tokens: Vec<usize>,
    /// Pairs of a step.
    #[arg(long, default_value_t = 8)]
    pairs: usize,
    /// Steps that are timed, after one that is not.
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Panacea alone, where there is no PyTorch.
    #[arg(long)]
    alone: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Checks that the device computes what the CPU does: products, operations, networks, answers and trainings.
    Suite {
        /// The device that is checked.
        #[arg(long, default_value = "cuda")]
        device: String,
        #[command(flatten)]
        choice: libtest_mimic::Arguments,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::Suite { device, choice }) = &arguments.command {
        let device = panacea_devices::select(device)?;
        panacea_device_suite::run(choice, &device).exit();
    }
    println!(
        "| model | tokens | activations | peer, s | Panacea, s | times as fast (range) | with the reference's pass, s | \
         peer, GiB | Panacea, GiB | Panacea, 10¹² operations/s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    // What a card has too little memory for fails alone: the other rows are measured all the same.
    let mut failed = 0;
    let mut note = |result: Result<()>| {
        if let Err(error) = result {
            eprintln!("error: {error:#}");
            failed += 1;
        }
    };
    for shape in &arguments.shapes {
        for tokens in &arguments.tokens {
            for recompute in [false, true] {
                note(arguments.compare(shape, *tokens, recompute));
            }
        }
    }
    note(arguments.own_preferences());
    println!(
        "\n| model | rows | peer, tokens/s | Panacea, tokens/s | times as fast | under own λ, tokens/s |"
    );
    println!("|---|---|---|---|---|---|");
    for shape in &arguments.shapes {
        note(arguments.generation(shape));
    }
    match failed {
        0 => Ok(()),
        1 => bail!("one measurement failed: see above"),
        count => bail!("{count} measurements failed: see above"),
    }
}

/// The measure of this name that a program prints.
fn measured(command: process::Command, name: &str) -> Result<Measured> {
    let mut side = Side::new();
    run(command, &mut side)?;
    side.remove(name)
        .with_context(|| format!("{name} was not measured"))
}

impl Arguments {
    /// One row of the table. A side that fails leaves its cells empty.
    fn compare(&self, shape: &str, tokens: usize, recompute: bool) -> Result<()> {
        let half = (tokens / 2).to_string();
        let common = [
            ("--shape", shape.to_owned()),
            ("--pairs", self.pairs.to_string()),
            ("--tokens", half),
            ("--steps", self.steps.to_string()),
        ];
        let common: Vec<&str> = common.iter().flat_map(|(k, v)| [*k, v.as_str()]).collect();
        let again: &[&str] = if recompute { &["--recompute"] } else { &[] };

        let (name, kept) = if recompute {
            ("panacea_dpo_step_recompute", "again")
        } else {
            ("panacea_dpo_step", "kept")
        };
        let step = |name: &str, more: &[&str]| {
            let mut command = ours("dpo_step")?;
            command
                .args(&common)
                .args(again)
                .args(["--device", &self.device])
                .args(more);
            measured(command, name)
        };
        let own = step(name, &[]);
        // The peer's step reads the reference policy each time.
        let with_reference = step(&format!("{name}_with_reference"), &["--with-reference"]);
        let theirs = (!self.alone).then(|| {
            let mut command = peer(&self.python, "torch_gpu.py");
            command.args(&common).args(again);
            measured(command, "torch_dpo_step")
        });

        let cells = |side: Option<&Measured>| {
            let cells = |side: &Measured| {
                let seconds = format!("{:.3}", median(&side.seconds));
                (seconds, format!("{:.1}", side.peak_gib))
            };
            side.map(cells).unwrap_or_default()
        };
        let of_peer = theirs.as_ref().and_then(|side| side.as_ref().ok());
        let of_own = own.as_ref().ok();
        let ratio = of_peer.zip(of_own).map(|(theirs, own)| {
            let ratio = Ratio::of(theirs, own);
            let times = ratio.slow / ratio.fast;
            format!("{times:.2} ({:.2}–{:.2})", ratio.least, ratio.most)
        });
        let rate = of_own.and_then(|own| own.value);
        let ((slow, their_memory), (fast, memory)) = (cells(of_peer), cells(of_own));
        println!(
            "| {shape} | {tokens} | {kept} | {slow} | {fast} | {} | {} | {their_memory} | {memory} | {} |",
            ratio.unwrap_or_default(),
            cells(with_reference.as_ref().ok()).0,
            rate.map_or_else(String::new, |rate| format!("{rate:.1}")),
        );
        own?;
        with_reference?;
        theirs.transpose()?;
        Ok(())
    }

    /// 64 tokens behind 64, for 1, 8 and 64 rows: the base model on both sides, and ours with a λ for every row.
    fn generation(&self, shape: &str) -> Result<()> {
        const ROWS: [usize; 3] = [1, 8, 64];
        const TOKENS: usize = 64;
        let (mut theirs, mut own) = (Side::new(), Side::new());
        let mut command = ours("generate")?;
        command.args(["--shape", shape, "--device", &self.device]);
        for rows in ROWS {
            command.args(["--rows", &rows.to_string()]);
        }
        run(command, &mut own)?;
        if !self.alone {
            let mut command = peer(&self.python, "torch_generate.py");
            command.args(["--random-weights", "--shape", shape, "--device", "cuda"]);
            command
                .arg("--rows")
                .args(ROWS.map(|rows| rows.to_string()));
            run(command, &mut theirs)?;
        }
        for rows in ROWS {
            let rate = |side: &Side, measure: &str| -> Option<f64> {
                let measured = side.get(&format!("{measure}, {rows} rows"))?;
                Some((rows * TOKENS) as f64 / median(&measured.seconds))
            };
            let ours = |measure| {
                rate(&own, measure)
                    .with_context(|| format!("{measure} was not measured for {rows} rows"))
            };
            let (base, steered) = (ours("generate_base")?, ours("generate_own_preferences")?);
            let (peer, ratio) = match rate(&theirs, "generate_base") {
                Some(peer) => (format!("{peer:.1}"), format!("{:.2}", base / peer)),
                None => Default::default(),
            };
            println!("| {shape} | {rows} | {peer} | {base:.1} | {ratio} | {steered:.1} |");
        }
        Ok(())
    }

    /// What a preference of its own costs every pair: 64 of them against one for all.
    fn own_preferences(&self) -> Result<()> {
        let mut own = Side::new();
        for preferences in ["1", "64"] {
            let mut command = ours("dpo_step")?;
            command.args([
                "--pairs",
                "64",
                "--tokens",
                "64",
                "--preferences",
                preferences,
            ]);
            command.args(["--steps", &self.steps.to_string(), "--device", &self.device]);
            run(command, &mut own)?;
        }
        let of = |name: &str| {
            own.get(name)
                .with_context(|| format!("{name} was not measured"))
        };
        let ratio = Ratio::of(
            of("panacea_dpo_step_64_preferences")?,
            of("panacea_dpo_step")?,
        );
        println!(
            "\n64 pairs under 64 preferences take {:.3} of the time under one.",
            ratio.slow / ratio.fast
        );
        Ok(())
    }
}
