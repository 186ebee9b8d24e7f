//! Writes a run at one preference as a LoRA that PEFT loads.
//!
//!     cargo run --release -p panacea-export --example export_peft -- runs/mine adapter 0.3,0.7

use std::env;
use std::error::Error;
use std::path::Path;

use burn_tensor::Device;
use panacea_export::{Base, write_peft};
use panacea_methods::Served;
use panacea_model::Decoder;
use panacea_runs::RunFolder;
use panacea_serving::{Policy, open_model_of};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [run, out, preference] = &arguments[..] else {
        return Err("usage: export_peft RUN FOLDER PREFERENCE".into());
    };
    let run = RunFolder::open(Path::new(run))?;
    let pretrained = open_model_of(&run.record()?.plan, None)?;
    let decoder = Decoder::load(&pretrained, &Device::flex())?;
    let policy = Policy::open(&run, &decoder)?;
    let Served::Adapter(steering) = policy.serve(&preference.parse()?)?;
    write_peft(
        Path::new(out),
        &Base::of(&pretrained, None)?,
        &steering,
        None,
    )?;
    println!("PeftModel.from_pretrained(model, {out:?})");
    Ok(())
}
