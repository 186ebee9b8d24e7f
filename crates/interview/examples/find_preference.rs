//! Finds the preference of somebody who cares for the first objective alone, on a run's own answers, and keeps it beside the run.
//!
//!     cargo run --release -p panacea-interview --example find_preference -- runs/mine somebody "When does the library open?"

use std::env;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use burn_tensor::Device;
use panacea_elicit::Answer;
use panacea_interview::{Criteria, Pool, Profiles, Prompt, Writing, spread, write_answers};
use panacea_model::Decoder;
use panacea_pretrained::{JsonObject, Message};
use panacea_reward_models::Base;
use panacea_runs::RunFolder;
use panacea_serving::{Policy, open_model_of};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [run, name, question] = &arguments[..] else {
        return Err("usage: find_preference RUN NAME QUESTION".into());
    };
    let run = RunFolder::open(Path::new(run))?;
    let pretrained = Arc::new(open_model_of(&run.record()?.plan, None)?);
    let decoder = Arc::new(Decoder::load(&pretrained, &Device::flex())?);
    let policy = Policy::open(&run, &decoder)?;
    let base = Base {
        pretrained: Arc::clone(&pretrained),
        decoder: Arc::clone(&decoder),
    };
    let profiles = Profiles::of(&run, policy.plan())?;
    let criteria = Criteria::open(profiles.yardstick().clone(), &policy, &base)?;
    let mut profile = profiles.open_or_begin(name, 17)?;

    let tokenizer = pretrained.tokenizer()?;
    let messages = vec![Message::new("user", question.as_str())];
    let prompt = Prompt::new(messages, JsonObject::new(), tokenizer)?;
    for round in 0..4 {
        // Answers at λ spread over the simplex, and what each objective says of them.
        let preferences = spread(profile.session(), 6);
        let writing = Writing::new(24, 1.0, 100 * round);
        let answers = write_answers(
            &decoder,
            tokenizer,
            &policy,
            &prompt,
            &preferences,
            &writing,
        )?;
        let scores = criteria.score(&decoder, &prompt, &answers)?;
        let firsts: Vec<f64> = scores
            .iter()
            .map(|it| it.as_ref().map_or(0.0, |it| it[0]))
            .collect();
        let texts: Vec<String> = answers.iter().map(|answer| answer.text.clone()).collect();
        let pool = Pool::new(prompt.clone(), answers, scores);
        let Some(question) = profile.ask(&pool)? else {
            continue;
        };
        let liking = |place: usize| {
            let text = &pool.answers()[place].text;
            let first = texts.iter().position(|other| other == text);
            first.map_or(0.0, |first| firsts[first])
        };
        let answer = match liking(question.left) >= liking(question.right) {
            true => Answer::Left,
            false => Answer::Right,
        };
        profile.answer(&pool, (question.left, question.right), answer)?;
    }
    println!(
        "{:.2}, kept in {}",
        profile.preference(),
        profile.folder().display()
    );
    Ok(())
}
