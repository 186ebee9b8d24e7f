//! What the optimiser does with all tensors at once.

use burn_tensor::{Device, Tensor};
use panacea_kernels::{AdamWStep, AdamWUpdate, adamw, add_each, scale_each, sum_of_squares};

use crate::near::{Noise, assert_as_on_the_cpu, assert_close, lying_transposed, values};
use crate::{Check, named};

pub const CHECKS: &[Check] = named!["optimizer": adamw_is_its_formula, several_tensors_are_added_to_and_scaled_as_on_the_cpu, squares_of_all_tensors_add_up];

fn adamw_is_its_formula(device: &Device) {
    let mut noise = Noise::of(4);
    let step = AdamWStep {
        betas: [0.9, 0.99],
        corrections: [1.0 - 0.9_f64.powi(3), 1.0 - 0.99_f64.powi(3)],
        eps: 1e-8,
        weight_decay: 0.1,
    };
    // More than are updated at once.
    let shapes = [[37, 10], [1, 1], [1, 8], [300, 3], [2, 2], [70, 7]];
    let given = shapes.map(|shape| {
        let [p, g, m] = [(); 3].map(|()| noise.tensor(shape, device));
        [p, m, noise.tensor(shape, device).powi_scalar(2), g]
    });
    let before = given.clone().map(|given| given.map(values));
    let held = given.clone().map(|[p, ..]| p);
    let gradients = given.clone().map(|[.., g]| g);
    let rate = |i: usize| 0.01 * (i + 1) as f64;
    let each = given.into_iter().zip(&gradients).enumerate();
    let updates = each.map(|(i, ([parameter, m, v, _], gradient))| AdamWUpdate {
        parameter,
        moments: [m, v],
        gradient,
        rate: rate(i),
    });
    let found = adamw(updates.collect(), &step);
    // What others hold stays as it was.
    for (held, before) in held.into_iter().zip(&before) {
        assert_eq!(&values(held), &before[0]);
    }
    for (i, (found, before)) in found.into_iter().zip(before).enumerate() {
        let mut expected: [Vec<f64>; 3] = Default::default();
        for (at, g) in before[3].iter().enumerate() {
            let [p, m, v] = [0, 1, 2].map(|j: usize| f64::from(before[j][at]));
            let g = f64::from(*g);
            let m = 0.9 * m + 0.1 * g;
            let v = 0.99 * v + 0.01 * g * g;
            let [correction1, correction2] = step.corrections;
            let direction = m / correction1 / ((v / correction2).sqrt() + 1e-8);
            expected[0].push(p - rate(i) * (direction + 0.1 * p));
            expected[1].push(m);
            expected[2].push(v);
        }
        for ((name, found), expected) in ["p", "m", "v"].into_iter().zip(found).zip(expected) {
            assert_close(&format!("{name} of {i}"), &values(found), &expected, 1e-6);
        }
    }
}

fn several_tensors_are_added_to_and_scaled_as_on_the_cpu(device: &Device) {
    assert_as_on_the_cpu(device, "several", |device, mut noise| {
        // More than are updated at once.
        let shapes = [[1, 1], [3000, 3], [1, 8], [37, 10], [2, 5], [300, 2]];
        let mut tensors = || shapes.map(|shape| noise.tensor(shape, device));
        let (sums, more) = (tensors(), tensors());
        let lying = more.clone().map(|x| lying_transposed(&x));
        let mut all = add_each(sums.to_vec(), &lying);
        all.extend(scale_each(add_each(sums.to_vec(), &more), -0.3));
        // What others hold stays as it was.
        all.extend(sums);
        all
    });
    assert!(add_each(vec![], &[]).is_empty() && scale_each(vec![], 2.0).is_empty());
}

fn squares_of_all_tensors_add_up(device: &Device) {
    let mut noise = Noise::of(5);
    // More than are summed at once.
    let shapes = [[1, 1], [1, 8], [576, 10], [3000, 10], [3, 7]].repeat(3);
    let tensors = shapes.into_iter().map(|shape| noise.tensor(shape, device));
    let tensors: Vec<Tensor<2>> = tensors.collect();
    let expected: f64 = tensors
        .iter()
        .flat_map(|x| values(x.clone()))
        .map(|x| f64::from(x).powi(2))
        .sum();
    let found = sum_of_squares(&tensors.iter().collect::<Vec<_>>());
    assert!(
        (found / expected - 1.0).abs() < 1e-5,
        "{found}, expected {expected}"
    );
    assert_eq!(sum_of_squares(&[]), 0.0);
}
