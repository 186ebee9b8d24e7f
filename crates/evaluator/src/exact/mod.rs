//! The best that any policy can do: exact fronts of problems with finitely many responses.
//!
//! Where every prompt has a finite menu of responses and labels are probabilities strictly between 0
//! and 1, the optimum of multi-objective DPO is finite for every preference, and so is its front: no
//! adapter, however large, gets beyond it. [`MenuProblem`] finds it under linear scalarisation and
//! under Tchebycheff; [`kl_regularised`] gives the closed form for rewards under a KL penalty.

mod compare;
mod dpo;
mod kl;
mod newton;

pub use dpo::{Comparison, Menu, MenuError, MenuProblem, Optimum};
pub use kl::{KlOptimum, kl_regularised};
