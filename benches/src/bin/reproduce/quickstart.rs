//! The quickstart's world: every method against the optimum.

use crate::trainings::{Group, Setting, Table};

/// A step of so many records under one λ, for the largest loss is to be that of more than one of them.
macro_rules! tchebycheff {
    ($records:literal $(, $more:literal)*) => {
        &[
            "method.aggregation=\"tchebycheff\"",
            $($more,)*
            "preference.groups=1",
            concat!("optimizer.batch_size=", $records),
            "optimizer.steps=200",
            "optimizer.learning_rate=3e-3",
        ]
    };
}

/// The methods that are tried with every number of objectives. "Plain" learns s from 0, and all records of a step have one λ, uniform on
/// the simplex.
const METHODS: [Setting; 6] = [
    ("panacea-linear", &[]),
    (
        "panacea-linear, plain",
        &[
            "adapter.s=learned",
            "preference.groups=1",
            "preference.concentration=1.0",
            "optimizer.batch_size=8",
            "optimizer.steps=200",
            "optimizer.learning_rate=4e-3",
            "optimizer.schedule=\"cosine\"",
        ],
    ),
    ("panacea-tchebycheff", tchebycheff!("8")),
    (
        "panacea-smooth-tchebycheff",
        tchebycheff!("8", "method.smoothing=0.03"),
    ),
    // All records of the world in every step.
    ("panacea-tchebycheff, 24 records a step", tchebycheff!("24")),
    ("rewarded-soups", &["method.name=\"rewarded_soups\""]),
];
/// A training for each λ of the grid.
const DISCRETE: [Setting; 1] = [("discrete", &["method.name=\"discrete\""])];

const RANKS: [Setting; 2] = [
    ("rank 2", &["adapter.rank=2", "adapter.alpha=16.0"]),
    ("rank 16", &["adapter.rank=16", "adapter.alpha=128.0"]),
];
const ONE_AT_A_TIME: [Setting; 6] = [
    ("s learned", &["adapter.s=learned"]),
    ("1 λ a step", &["preference.groups=1"]),
    (
        "8 records a step",
        &[
            "optimizer.batch_size=8",
            "preference.groups=8",
            "optimizer.steps=200",
            "optimizer.learning_rate=3e-3",
        ],
    ),
    ("no vertices", &["preference.vertex_probability=0.0"]),
    ("half vertices", &["preference.vertex_probability=0.5"]),
    ("cosine schedule", &["optimizer.schedule=\"cosine\""]),
];
const UNIFORM: [Setting; 1] = [("uniform λ", &["preference.concentration=1.0"])];

/// Every method with 2, 3, 5 and 10 objectives, and one setting changed at a time with 2 and 5.
pub const TABLE: Table = Table {
    name: "quickstart",
    groups: &[
        Group::new("m2", "quickstart.toml", &[&METHODS, &DISCRETE]),
        Group::new("m3", "quickstart-3.toml", &[&METHODS]),
        Group::new("m5", "quickstart-5.toml", &[&METHODS]),
        Group::new("m10", "quickstart-10.toml", &[&METHODS]),
        Group::new("ablation2", "quickstart.toml", &[&RANKS, &ONE_AT_A_TIME]).not_drawn(),
        Group::new(
            "ablation5",
            "quickstart-5.toml",
            &[&ONE_AT_A_TIME, &UNIFORM],
        )
        .not_drawn(),
    ],
};
