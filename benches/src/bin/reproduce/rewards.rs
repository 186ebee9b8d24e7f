//! The quickstart's world by reinforcement learning: with a critic and without, against the optimum.

use crate::trainings::{Group, Setting, Table};

/// Eight answers to a prompt, which are compared with each other, and one update from them.
macro_rules! without_critic {
    ($advantages:literal) => {
        &[
            concat!("rlhf.advantages=\"", $advantages, "\""),
            "rlhf.gae_lambda=",
            "rlhf.samples=8",
            "rlhf.epochs=1",
        ]
    };
}

const METHODS: [Setting; 2] = [("ppo", &[]), ("rloo", without_critic!("rloo"))];

/// Their optimum is another one than the known.
const NORMALISED: [Setting; 2] = [
    ("grpo", without_critic!("grpo")),
    ("gdpo", without_critic!("gdpo")),
];

/// PPO, and what compares the answers to a prompt, with 2 and 3 objectives.
pub const TABLE: Table = Table {
    name: "rewards",
    groups: &[
        Group::new("m2", "quickstart-rlhf.toml", &[&METHODS, &NORMALISED]),
        Group::new("m3", "quickstart-rlhf-3.toml", &[&METHODS]),
    ],
};
