//! The best that any policy can do: exact fronts of problems with finitely many responses.
//!
//! Where every prompt has a finite menu of responses and labels are probabilities strictly between 0
//! and 1, the optimum of multi-objective DPO is finite for every preference, and so is its front: no
//! adapter, however large, gets beyond it. [`MenuProblem`] finds it under linear scalarisation and
//! under Tchebycheff. [`KlProblem`] is the problem of rewards under a KL penalty and [`SftProblem`] that of supervised
//! fine-tuning, whose optima under linear scalarisation have a closed form. What all know of their best values is
//! [`KnownOptima`]: it draws the exact front and measures a method's regret.

mod compare;
mod dpo;
mod kl;
mod newton;
mod sft;

pub use compare::KnownOptima;
pub use dpo::{Comparison, Menu, MenuError, MenuProblem, Optimum};
pub use kl::{KlError, KlMenu, KlOptimum, KlProblem};
pub use sft::{SftError, SftMenu, SftOptimum, SftProblem};
