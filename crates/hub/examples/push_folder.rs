//! Pushes a folder to the Hugging Face hub, as who `HF_TOKEN` or `hf auth login` says.
//!
//!     cargo run -p panacea-hub --example push_folder -- FOLDER OWNER/NAME

use std::env;
use std::error::Error;
use std::path::Path;

use panacea_hub::{Access, Push, push};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [folder, repository] = &arguments[..] else {
        return Err("usage: push_folder FOLDER OWNER/NAME".into());
    };
    let wanted = Push {
        private: true,
        ..Push::new(Path::new(folder), repository)
    };
    let pushed = push(&Access::from_environment(), &wanted, &mut |progress| {
        println!("{} {}", progress.doing, progress.file);
    })?;
    println!("{}: {} files are new", pushed.url, pushed.added.len());
    Ok(())
}
