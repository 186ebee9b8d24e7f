//! The four tensors of an adapted matrix, and sets of them over a model.
//!
//! Parameters, gradients and the optimiser's moments all have this one form, so that adding, scaling,
//! saving and loading are written once.

use std::collections::BTreeMap;

use burn_tensor::{Device, Tensor};
use panacea_kernels::{add_each, matmul, scale_each, sum_of_squares};

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

    /// In the order of [`Part::ALL`].
    fn into_parts(self) -> Vec<Tensor<2>> {
        vec![self.u, self.v, self.sigma, self.s]
    }

    /// The inverse of [`Factors::into_parts`].
    fn of_parts(parts: Vec<Tensor<2>>) -> Self {
        let parts: Result<[Tensor<2>; 4], _> = parts.try_into();
        let [u, v, sigma, s] = parts.expect("a tensor for each part");
        Self { u, v, sigma, s }
    }

    fn on(self, device: &Device) -> Self {
        Self {
            u: self.u.to_device(device),
            v: self.v.to_device(device),
            sigma: self.sigma.to_device(device),
            s: self.s.to_device(device),
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

    /// The same numbers on another device.
    pub fn on(self, device: &Device) -> Self {
        let moved = |(name, factors): (String, Factors)| (name, factors.on(device));
        Self(self.0.into_iter().map(moved).collect())
    }

    /// Adds `factors` to those of `name`, or puts them there.
    pub fn accumulate(&mut self, name: &str, factors: Factors) {
        let sum = match self.0.remove(name) {
            None => factors,
            Some(sum) => Factors::of_parts(add_each(sum.into_parts(), &factors.into_parts())),
        };
        self.0.insert(name.to_owned(), sum);
    }

    /// Adds every element of `other`.
    pub fn add(&mut self, other: FactorSet) {
        for (name, factors) in other.0 {
            self.accumulate(&name, factors);
        }
    }

    /// Multiplies every element by `factor`.
    pub fn scale(&mut self, factor: f64) {
        let all = std::mem::take(&mut self.0).into_iter();
        let scaled = all.map(|(name, factors)| {
            let scaled = scale_each(factors.into_parts(), factor);
            (name, Factors::of_parts(scaled))
        });
        self.0 = scaled.collect();
    }

    /// Adds the gradient at `factors` of weight · Σ (‖UᵀU − I‖² + ‖VᵀV − I‖²), the sum over every matrix:
    /// 4 · weight · U (UᵀU − I), and for V alike. It keeps directions apart and their lengths at 1, so that
    /// σ and λ alone say how strong a direction is. Matrices that have no gradient yet are left out.
    pub fn add_orthogonality_gradient(&mut self, weight: f64, factors: &FactorSet) {
        if weight == 0.0 {
            return;
        }
        for (name, gradient) in &mut self.0 {
            for part in [Part::U, Part::V] {
                let x = factors.0[name].part(part).clone();
                let slope = matmul(&x, &gram_excess(&x)) * (4.0 * weight);
                let sum = gradient.part_mut(part);
                *sum = sum.clone() + slope;
            }
        }
    }

    /// √(Σ x²) over every element of these parts of every matrix.
    pub fn norm(&self, parts: &[Part]) -> f64 {
        let factors = self.0.values();
        let tensors: Vec<&Tensor<2>> = factors
            .flat_map(|factors| parts.iter().map(|&part| factors.part(part)))
            .collect();
        sum_of_squares(&tensors).sqrt()
    }
}

/// XᵀX − I `[columns, columns]` of X `[rows, columns]`.
fn gram_excess(x: &Tensor<2>) -> Tensor<2> {
    let identity = Tensor::eye(x.dims()[1], &x.device());
    matmul(&x.clone().transpose(), x) - identity
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;

    #[test]
    fn the_orthogonality_gradient_is_the_slope_of_its_penalty() {
        let device = panacea_devices::of_environment();
        let mut noise = Noise::new(5, &device);
        let mut random = |shape| noise.normal(shape) * 0.5;
        let mut factors = || Factors {
            u: random([7, 5]),
            v: random([6, 5]),
            sigma: random([1, 3]),
            s: random([1, 1]),
        };
        let (at, direction) = (factors(), factors());
        let set =
            |factors: &Factors| FactorSet(BTreeMap::from([("a".to_owned(), factors.clone())]));
        let mut gradients = set(&at).zeros_like();
        gradients.add_orthogonality_gradient(0.25, &set(&at));

        let sum = |x: Tensor<2>| f64::from(x.sum().into_scalar::<f32>());
        let moved = |part: Part, h: f64| {
            let x = at.part(part).clone() + direction.part(part).clone() * h;
            let excess = gram_excess(&x);
            0.25 * sum(excess.clone() * excess)
        };
        for part in [Part::U, Part::V] {
            let gradient = gradients.0["a"].part(part).clone();
            let expected = sum(gradient * direction.part(part).clone());
            let slope = (moved(part, 1e-2) - moved(part, -1e-2)) / 2e-2;
            assert!(
                (slope - expected).abs() < 1e-3 * slope.abs(),
                "{expected} against {slope}"
            );
        }
        for part in [Part::Sigma, Part::S] {
            assert_eq!(sum(gradients.0["a"].part(part).clone().abs()), 0.0);
        }
    }
}
