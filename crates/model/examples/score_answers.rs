//! How likely a model finds answers to a question, in nats; the question is computed once for all of them.
//!
//!     cargo run --release -p panacea-model --example score_answers -- MODEL QUESTION ANSWER…

use std::env;
use std::error::Error;
use std::path::Path;

use burn_tensor::Device;
use panacea_model::{Decoder, PackedBatch, Sequence};
use panacea_pretrained::{Answer, Message, Pretrained};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, question, answers @ ..] = &arguments[..] else {
        return Err("usage: score_answers MODEL QUESTION ANSWER…".into());
    };
    let pretrained = Pretrained::open_language_model(Path::new(model))?;
    let tokenizer = pretrained.tokenizer()?;
    let prompt = tokenizer.prompt(&[Message::new("user", question.as_str())])?;
    let texts: Vec<Answer> = answers.iter().map(|text| text.as_str().into()).collect();
    let answered = tokenizer.answered(&prompt, &texts)?;

    let decoder = Decoder::load(&pretrained, &Device::flex())?;
    let batch = PackedBatch::new(&[Sequence {
        prompt: &answered.prompt,
        responses: answered.responses.iter().map(Vec::as_slice).collect(),
        preference: &[],
    }])?;
    let log_probs = batch.sums(&decoder.log_probs(&batch, None)?);
    for ((text, log_prob), tokens) in answers.iter().zip(log_probs).zip(&answered.responses) {
        println!("{log_prob:>9.3} ({} tokens)  {text}", tokens.len());
    }
    Ok(())
}
