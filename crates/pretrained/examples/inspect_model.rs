//! What is in a model's files, and what its chat template makes of a question.
//!
//!     cargo run -p panacea-pretrained --example inspect_model -- MODEL "Name three colours."

use std::env;
use std::error::Error;
use std::path::Path;

use panacea_pretrained::{Message, Pretrained};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args()
        .nth(1)
        .ok_or("usage: inspect_model MODEL [QUESTION]")?;
    let question = env::args()
        .nth(2)
        .unwrap_or_else(|| "Name three colours.".to_owned());
    let model = Pretrained::open(Path::new(&path))?;
    model.check()?;
    println!("{} parameters", model.parameters());
    println!("{:#?}", model.config());
    let tokenizer = model.tokenizer()?;
    let prompt = tokenizer.encode_prompt(&[Message::new("user", question)])?;
    println!(
        "{} tokens: {prompt:?}\n{:?}",
        prompt.len(),
        tokenizer.decode(&prompt, false)?
    );
    Ok(())
}
