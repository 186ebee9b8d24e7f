//! What a configuration comes to, or every mistake in it with its line.
//!
//!     cargo run -p panacea-config --example explain_config -- configs/quickstart.toml

use std::env;
use std::error::Error;
use std::path::Path;

use panacea_config::{Overrides, Plan, Spec, about};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: explain_config FILE")?;
    let plan = match Plan::resolve(Spec::read(Path::new(&path))?, &Overrides::default()) {
        Ok(plan) => plan,
        Err(mistakes) => {
            println!("{mistakes}");
            return Ok(());
        }
    };
    println!("model       {}", plan.model().display());
    println!("objectives  {}", plan.objective_names().join(", "));
    println!("rank        {}", plan.adapter().rank);
    println!("rate        {}", plan.optimizer().learning_rate);
    println!("\n{}", about("preference.vertex_probability")?);
    Ok(())
}
