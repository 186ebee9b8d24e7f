//! The four tensors of an adapted matrix, and sets of them over a model.
//!
//! Parameters, gradients and the optimiser's moments all have this one form, so that adding, scaling,
//! saving and loading are written once.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

/// Which of the four tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// U: left factors.
    U,
    /// V: right factors.
    V,
    /// σ: learned singular values.
    Sigma,
    /// s: the magnitude of the preference vector.
    S,
}

impl Part {
    /// All four, in the order in which they are stored.
    pub const ALL: [Part; 4] = [Part::U, Part::V, Part::Sigma, Part::S];

    /// The suffix of the tensor's name in an adapter file.
    pub fn name(self) -> &'static str {
        match self {
            Part::U => "u",
            Part::V => "v",
            Part::Sigma => "sigma",
            Part::S => "s",
        }
    }

    /// Whether it is one of the singular values (σ, s), which have a learning rate of their own.
    pub fn is_singular(self) -> bool {
        matches!(self, Part::Sigma | Part::S)
    }
}

/// U, V, σ and s of one adapted matrix, or anything of the same shape (gradients, moments).
#[derive(Debug, Clone)]
pub struct Factors {
    /// `[d_out, k+m]`
    pub u: Tensor<2>,
    /// `[d_in, k+m]`
    pub v: Tensor<2>,
    /// `[1, k]`
    pub sigma: Tensor<2>,
    /// `[1, 1]`
    pub s: Tensor<2>,
}

impl Factors {
    /// One of the four.
    pub fn part(&self, part: Part) -> &Tensor<2> {
        match part {
            Part::U => &self.u,
            Part::V => &self.v,
            Part::Sigma => &self.sigma,
            Part::S => &self.s,
        }
    }

    /// One of the four, to be replaced.
    pub fn part_mut(&mut self, part: Part) -> &mut Tensor<2> {
        match part {
            Part::U => &mut self.u,
            Part::V => &mut self.v,
            Part::Sigma => &mut self.sigma,
            Part::S => &mut self.s,
        }
    }

    /// The same shapes, every element zero.
    pub fn zeros_like(&self) -> Self {
        Self {
            u: self.u.zeros_like(),
            v: self.v.zeros_like(),
            sigma: self.sigma.zeros_like(),
            s: self.s.zeros_like(),
        }
    }
}

/// Factors of every adapted matrix of a model, by name (`layers.0.q_proj`).
#[derive(Debug, Clone, Default)]
pub struct FactorSet(pub BTreeMap<String, Factors>);

impl FactorSet {
    /// The same names and shapes, every element zero.
    pub fn zeros_like(&self) -> Self {
        Self(
            self.0
                .iter()
                .map(|(name, factors)| (name.clone(), factors.zeros_like()))
                .collect(),
        )
    }

    /// Adds `factors` to those of `name`, or puts them there.
    pub fn accumulate(&mut self, name: &str, factors: Factors) {
        match self.0.get_mut(name) {
            None => {
                self.0.insert(name.to_owned(), factors);
            }
            Some(sum) => {
                for part in Part::ALL {
                    let total = sum.part_mut(part);
                    *total = total.clone() + factors.part(part).clone();
                }
            }
        }
    }

    /// Adds every element of `other`.
    pub fn add(&mut self, other: FactorSet) {
        for (name, factors) in other.0 {
            self.accumulate(&name, factors);
        }
    }

    /// Multiplies every element by `factor`.
    pub fn scale(&mut self, factor: f64) {
        for factors in self.0.values_mut() {
            for part in Part::ALL {
                let tensor = factors.part_mut(part);
                *tensor = tensor.clone() * factor;
            }
        }
    }

    /// √(Σ x²) over every element of every tensor.
    pub fn norm(&self) -> f64 {
        let squares = self.0.values().flat_map(|factors| {
            Part::ALL.map(|part| {
                let x = factors.part(part).clone();
                let sum: f32 = (x.clone() * x).sum().into_scalar();
                f64::from(sum)
            })
        });
        squares.sum::<f64>().sqrt()
    }
}
