//! The trainings that each method takes for three objectives.
//!
//!     cargo run -p panacea-methods --example what_is_trained

use panacea_methods::{Means, Method, Trainings};

fn main() {
    let methods = [
        Method::Panacea,
        Method::RewardedSoups,
        Method::Discrete { divisions: 4 },
    ];
    for method in methods {
        let label = method.label(Means::Linear);
        match method.trainings(3) {
            Trainings::One => println!("{label}: one, under preferences that it draws"),
            Trainings::Each(preferences) => {
                println!(
                    "{label}: {}, the first for λ = {:.2}",
                    preferences.len(),
                    preferences[0]
                );
            }
        }
    }
}
