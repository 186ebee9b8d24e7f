//! Finds out how short you like answers, and how polite, by showing you two at a time. With weights as an argument, somebody who
//! has these is asked in your place.
//!
//!     cargo run -p panacea-elicit --example ask_a_person
//!     cargo run -p panacea-elicit --example ask_a_person -- 0.8,0.2

use std::env;
use std::error::Error;
use std::io;

use panacea_elicit::{Answer, Candidate, Criterion, Session, Settings, SimulatedUser};
use panacea_objectives::Preference;

/// Answers to "When does the library open?", with brevity and politeness from 0 to 1.
const ANSWERS: [(&str, [f64; 2]); 5] = [
    ("At nine.", [1.0, 0.1]),
    ("It opens at nine.", [0.8, 0.3]),
    (
        "The library opens at nine, and you are welcome.",
        [0.5, 0.6],
    ),
    (
        "Good morning! The library opens at nine. Do come in whenever you like.",
        [0.2, 0.9],
    ),
    (
        "Thank you for asking! It would be our pleasure to see you from nine o'clock on.",
        [0.1, 1.0],
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let simulated: Option<Preference> = env::args().nth(1).map(|text| text.parse()).transpose()?;
    let mut simulated = simulated.map(|it| SimulatedUser::new(it.weights().to_vec(), 1));

    let objectives = ["brevity", "politeness"].map(str::to_owned).to_vec();
    let mut session = Session::new(objectives, Settings::default(), 7)?;
    let answers: Vec<Candidate> = (ANSWERS.iter())
        .map(|(text, scores)| Candidate {
            id: (*text).to_owned(),
            preference: None,
            scores: scores.to_vec(),
        })
        .collect();
    while let Some(question) = session.ask(Criterion::InformationGain, &answers)? {
        let (left, right) = (&answers[question.left], &answers[question.right]);
        let answer = match &mut simulated {
            Some(person) => person.answer(&left.scores, &right.scores),
            None => {
                println!(
                    "\n1  {}\n2  {}\nWhich is better? (1, 2, nothing to end)",
                    left.id, right.id
                );
                let mut line = String::new();
                io::stdin().read_line(&mut line)?;
                match line.trim() {
                    "1" => Answer::Left,
                    "2" => Answer::Right,
                    _ => break,
                }
            }
        };
        session.answer(left, right, answer, None)?;
    }
    println!(
        "after {} answers: {:.2}",
        session.entries().len(),
        session.estimate()
    );
    Ok(())
}
