//! What a reward model says of answers: a run of ours, or a published classifier.
//!
//!     cargo run --release -p panacea-reward-models --example ask_reward_model -- MODEL QUESTION ANSWER…

use std::env;
use std::error::Error;
use std::path::Path;

use burn_tensor::Device;
use panacea_pretrained::Message;
use panacea_reward_models::{Conversation, RewardModel};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, question, answers @ ..] = &arguments[..] else {
        return Err("usage: ask_reward_model MODEL QUESTION ANSWER…".into());
    };
    let model = RewardModel::open(Path::new(model), &Device::flex(), None)?;
    let prompt = [Message::new("user", question.as_str())];
    let conversations: Vec<Conversation<'_>> = (answers.iter())
        .map(|response| Conversation {
            prompt: &prompt,
            variables: None,
            response,
        })
        .collect();
    println!("{}", model.outputs().join(", "));
    for (answer, rewards) in answers.iter().zip(model.rewards(&conversations)?) {
        println!("{rewards:.3?}  {answer}");
    }
    Ok(())
}
