//! # What a method trains, and what it serves a preference with
//!
//! A [`Method`] says which trainings it takes ([`Method::trainings`]). What they leave is a [`Trained`], which gives, for
//! any preference λ, what answers under it ([`Trained::serve`]).
//!
//! | method | trainings | served at λ |
//! |---|---|---|
//! | [Panacea](Method::Panacea) | one, which draws its preferences | its adapter at λ |
//! | [Rewarded Soups](Method::RewardedSoups) | one an objective | ΔW = Σ_i λ_i ΔW_i (Ramé et al. 2023) |
//! | [discrete](Method::Discrete) | one for each preference of a grid | the adapter of the nearest preference, as it was trained |
//! | [reward model](Method::RewardModel) | one, with a reward an objective | nothing: it scores, and no preference steers it |
//!
//! To add a method, add it to [`Method`]: the compiler then asks for its trainings, its label, and what it serves.

mod method;
mod trained;

pub use method::{Means, Method, Trainings};
pub use trained::{Member, NotServed, Served, Trained};
