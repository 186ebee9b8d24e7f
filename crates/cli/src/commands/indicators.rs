//! `indicators`: hypervolume and the others, of a table of points.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use panacea_evaluator::{IndicatorSet, read_points};

/// Hypervolume and the other indicators of a table of points, all objectives maximised.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask indicators front.csv --reference 0,0
  cargo xtask indicators points.json --reference -0.1,-0.1 --json")]
pub struct Arguments {
    /// A CSV file, with or without a header, or a JSON array of rows.
    file: PathBuf,
    /// The reference point, one number per objective; points that do not exceed it everywhere add nothing.
    #[arg(
        long,
        value_delimiter = ',',
        allow_hyphen_values = true,
        required = true
    )]
    reference: Vec<f64>,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub fn run(self) -> Result<ExitCode> {
        let points = read_points(&self.file)?;
        let set = IndicatorSet::new(&points, &self.reference)?;
        if let Some(warning) = set.warning() {
            warn!("{warning}");
        }
        if self.json {
            say!("{}", serde_json::to_string(&set)?);
            return Ok(ExitCode::SUCCESS);
        }
        let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| v.to_string());
        say!("hypervolume    {}", set.hypervolume);
        say!("sparsity       {}", shown(set.sparsity));
        say!("spacing        {}", shown(set.spacing));
        say!("points         {}", set.points);
        say!("non-dominated  {}", set.non_dominated);
        say!("ignored        {}", set.ignored);
        let reference: Vec<String> = set.reference.iter().map(f64::to_string).collect();
        say!("reference      {}", reference.join(","));
        Ok(ExitCode::SUCCESS)
    }
}
