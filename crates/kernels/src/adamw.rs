//! AdamW's update of some tensors.

use burn_tensor::Tensor;

use crate::shape;

/// The numbers that all updates of a step take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Decays of the two moments.
    pub betas: [f64; 2],
    /// 1 − β₁ᵗ and 1 − β₂ᵗ at the t-th step.
    pub corrections: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// What is updated, all `[rows, columns]`.
#[derive(Debug)]
pub struct AdamWUpdate<'a> {
    /// Where it stands.
    pub parameter: Tensor<2>,
    /// Its two moments.
    pub moments: [Tensor<2>; 2],
    /// Its gradient.
    pub gradient: &'a Tensor<2>,
    /// How far it moves.
    pub rate: f64,
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2): the new parameter and moments of each update.
///
/// ```text
/// m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) g²
/// p ← p − rate · ( (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε) + decay · p )
/// ```
///
/// # Panics
/// If the shapes of an update differ.
pub fn adamw(updates: Vec<AdamWUpdate<'_>>, step: &AdamWStep) -> Vec<[Tensor<2>; 3]> {
    for update in &updates {
        let expected = update.parameter.dims();
        let [first, second] = &update.moments;
        for (name, x) in [
            ("first", first),
            ("second", second),
            ("gradient", update.gradient),
        ] {
            shape::same("adamw", name, x.dims(), expected, "as in `parameter`");
        }
    }
    #[cfg(feature = "gpu")]
    let updates = match on_gpu::update(updates, step) {
        Ok(updated) => return updated,
        Err(elsewhere) => elsewhere,
    };
    let updated = updates.into_iter().map(|update| portable(update, step));
    updated.collect()
}

fn portable(update: AdamWUpdate<'_>, step: &AdamWStep) -> [Tensor<2>; 3] {
    let AdamWStep {
        betas: [b1, b2],
        corrections: [correction1, correction2],
        eps,
        weight_decay,
    } = *step;
    let (rate, g) = (update.rate, update.gradient.clone());
    let [first, second] = update.moments;
    let m = first * b1 + g.clone() * (1.0 - b1);
    let v = second * b2 + g.clone() * g * (1.0 - b2);
    let direction = (m.clone() / correction1) / ((v.clone() / correction2).sqrt() + eps);
    let p = update.parameter * (1.0 - rate * weight_decay) - direction * rate;
    [p, m, v]
}

#[cfg(feature = "gpu")]
mod on_gpu {
    use burn_cubecl::cubecl;
    use burn_cubecl::cubecl::prelude::*;
    use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
    use burn_cubecl::tensor::CubeTensor;
    use burn_tensor::Tensor as BurnTensor;

    use super::{AdamWStep, AdamWUpdate};
    use crate::gpu::{open, tensor};
    use crate::launch::{a_thread_each, operands, single, together};

    /// Updates of one launch, where a GPU binds as many buffers: four for each, and one for numbers.
    const TOGETHER: usize = 4;

    /// A thread an element, those of one tensor behind those of another.
    #[cube(launch)]
    fn adamw_kernel(
        gradients: Sequence<LinearView<'static, f32>>,
        mut parameters: Sequence<LinearViewMut<'static, f32>>,
        mut firsts: Sequence<LinearViewMut<'static, f32>>,
        mut seconds: Sequence<LinearViewMut<'static, f32>>,
        starts: Sequence<usize>,
        rates: Sequence<f32>,
        keeps: Sequence<f32>,
        b1: f32,
        rest1: f32,
        correction1: f32,
        b2: f32,
        rest2: f32,
        correction2: f32,
        eps: f32,
    ) {
        #[unroll]
        for tensor in 0..gradients.len() {
            let start = starts[tensor];
            if ABSOLUTE_POS >= start && ABSOLUTE_POS - start < gradients[tensor].shape() {
                let at = ABSOLUTE_POS - start;
                let g = gradients[tensor].read(at);
                let m = firsts[tensor].read(at) * b1 + g * rest1;
                let v = seconds[tensor].read(at) * b2 + g * g * rest2;
                let direction = (m / correction1) / ((v / correction2).sqrt() + eps);
                let p = parameters[tensor].read(at) * keeps[tensor] - direction * rates[tensor];
                parameters.index_mut(tensor).write(at, p);
                firsts.index_mut(tensor).write(at, m);
                seconds.index_mut(tensor).write(at, v);
            }
        }
    }

    /// One launch for several. The updates alone where their tensors do not lie on one GPU.
    pub fn update<'a>(
        updates: Vec<AdamWUpdate<'a>>,
        step: &AdamWStep,
    ) -> Result<Vec<[BurnTensor<2>; 3]>, Vec<AdamWUpdate<'a>>> {
        let Some(device) = updates.first().map(|update| update.parameter.device()) else {
            return Err(updates);
        };
        let usable = |update: &AdamWUpdate<'_>| {
            let [first, second] = &update.moments;
            let tensors = [update.gradient, &update.parameter, first, second];
            update.parameter.device() == device && operands(tensors).is_some()
        };
        if !updates.iter().all(usable) {
            return Err(updates);
        }
        let opened: Vec<([CubeTensor; 4], f64)> = updates
            .into_iter()
            .map(|update| {
                let [first, second] = update.moments;
                let gradient = open(update.gradient.clone()).expect("it was opened above");
                let [parameter, first, second] = [update.parameter, first, second].map(single);
                ([gradient, parameter, first, second], update.rate)
            })
            .collect();
        let together = together(&opened[0].0[0], 4, 1, TOGETHER);
        for updates in opened.chunks(together) {
            launch(updates, step);
        }
        let updated = opened.into_iter();
        Ok(updated
            .map(|([_, p, m, v], _)| [p, m, v].map(tensor))
            .collect())
    }

    fn launch(updates: &[([CubeTensor; 4], f64)], step: &AdamWStep) {
        let mut elements = 0;
        let starts: Vec<usize> = updates
            .iter()
            .map(|([gradient, ..], _)| {
                let start = elements;
                elements += gradient.meta.num_elements();
                start
            })
            .collect();
        let (x, _) = &updates[0];
        let (cubes, threads) = a_thread_each(&x[0], elements);
        let view = |i: usize| {
            let each = updates.iter();
            each.map(move |(x, _)| x[i].clone().into_linear_view())
        };
        let rates = updates.iter().map(|&(_, rate)| rate);
        let [b1, b2] = step.betas;
        let [correction1, correction2] = step.corrections;
        adamw_kernel::launch(
            &x[0].client,
            cubes,
            threads,
            view(0).collect(),
            view(1).collect(),
            view(2).collect(),
            view(3).collect(),
            starts.into_iter().collect(),
            rates.clone().map(|rate| rate as f32).collect(),
            rates
                .map(|rate| (1.0 - rate * step.weight_decay) as f32)
                .collect(),
            b1 as f32,
            (1.0 - b1) as f32,
            correction1 as f32,
            b2 as f32,
            (1.0 - b2) as f32,
            correction2 as f32,
            step.eps as f32,
        );
    }
}
