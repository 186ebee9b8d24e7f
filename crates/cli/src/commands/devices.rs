//! `devices`: what this build offers on this machine.

use std::process::ExitCode;

use clap::Args;
use panacea_devices::{DeviceInfo, DeviceKind};

/// List the devices that this build offers on this machine.
#[derive(Args)]
#[command(after_help = "Examples:
  cargo xtask devices
  cargo xtask devices --device wgpu --device cuda")]
pub struct Arguments {
    /// A device to look for, such as cuda or cuda:1; `cargo xtask` compiles in what it takes. May be given often.
    #[arg(long)]
    device: Vec<String>,
}

impl Arguments {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let rows: Vec<[String; 4]> = panacea_devices::available().iter().map(row).collect();
        print(&rows)?;
        let lacking: Vec<String> = (DeviceKind::ALL.iter())
            .filter(|kind| !kind.is_built())
            .map(DeviceKind::to_string)
            .collect();
        if !lacking.is_empty() {
            say!(
                "not in this build: {}; in the project's folder, cargo xtask devices --device NAME compiles one in",
                lacking.join(", ")
            );
        }
        for name in &self.device {
            panacea_devices::select(name)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(info: &DeviceInfo) -> [String; 4] {
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::powi(2.0, 30));
    let memory = info.memory.map_or_else(
        || "not told by the driver".to_owned(),
        |memory| format!("{} free of {}", gib(memory.free), gib(memory.total)),
    );
    let (hardware, dtypes) = match &info.hardware {
        Ok(name) => (name.clone(), info.dtypes.join(" ")),
        Err(failure) => (format!("does not compute: {failure}"), String::new()),
    };
    [info.name.clone(), hardware, memory, dtypes]
}

fn print(rows: &[[String; 4]]) -> anyhow::Result<()> {
    let head = ["device", "hardware", "memory", "computes in"].map(str::to_owned);
    let widths = [0, 1, 2].map(|column| {
        let cells = rows.iter().chain([&head]);
        cells
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    });
    for [name, hardware, memory, dtypes] in [&head].into_iter().chain(rows) {
        let [a, b, c] = widths;
        say!("{name:<a$}  {hardware:<b$}  {memory:<c$}  {dtypes}");
    }
    Ok(())
}
