//! Asks a run the same question under three preferences.
//!
//!     cargo run --release -p panacea-serving --example ask_run -- runs/mine "When does the library open?"

use std::env;
use std::error::Error;
use std::path::Path;

use burn_tensor::Device;
use panacea_methods::Served;
use panacea_model::{Decoder, Request};
use panacea_objectives::Preference;
use panacea_pretrained::Message;
use panacea_runs::RunFolder;
use panacea_serving::{Policy, open_model_of};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [run, question] = &arguments[..] else {
        return Err("usage: ask_run RUN QUESTION".into());
    };
    let run = RunFolder::open(Path::new(run))?;
    let plan = run.record()?.plan;
    let pretrained = open_model_of(&plan, None)?;
    let decoder = Decoder::load(&pretrained, &Device::flex())?;
    let policy = Policy::open(&run, &decoder)?;
    let tokenizer = pretrained.tokenizer()?;
    let prompt = tokenizer.encode_prompt(&[Message::new("user", question.as_str())])?;

    let m = plan.objectives().len();
    let preferences = [
        Preference::vertex(m, 0),
        Preference::uniform(m),
        Preference::vertex(m, m - 1),
    ];
    // One batch, each answer under its own λ.
    let mut requests = Vec::new();
    for preference in &preferences {
        let Served::Adapter(steering) = policy.serve(preference)?;
        requests.push(Request {
            steering: Some(steering),
            stop: tokenizer.stop_ids().to_vec(),
            ..Request::greedy(prompt.clone(), 64)
        });
    }
    println!("{}", policy.plan().objective_names().join(", "));
    for (preference, answer) in preferences.iter().zip(decoder.generate(requests)?) {
        println!(
            "{preference:.2}: {}",
            tokenizer.decode(&answer.tokens, true)?
        );
    }
    Ok(())
}
