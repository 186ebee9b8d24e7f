//! Products, which on a GPU may be made by other libraries, in other queues of work.

use burn_tensor::{Device, Tensor, TensorData};
use panacea_kernels::{matmul, matmul_add};

use crate::near::{Noise, assert_close, lying_transposed, lying_wide, values};
use crate::{Check, named};

pub const CHECKS: &[Check] = named!["products": products_of_32_bits_are_computed_in_32_bits, products_and_other_operations_wait_for_each_other];

/// 10 bits of mantissa, which GPUs like to multiply with, would be off by 1e-3.
fn products_of_32_bits_are_computed_in_32_bits(device: &Device) {
    for [m, k, n] in [[1, 1, 1], [3, 70, 5], [64, 576, 10], [130, 96, 200]] {
        let mut noise = Noise::of(1);
        let (a, b) = (noise.values(m * k), noise.values(k * n));
        let expected: Vec<f64> = (0..m * n)
            .map(|i| {
                let terms =
                    (0..k).map(|j| f64::from(a[i / n * k + j]) * f64::from(b[j * n + i % n]));
                terms.sum()
            })
            .collect();
        let tensor = |values: &[f32], shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), device)
        };
        let (a, b) = (tensor(&a, [m, k]), tensor(&b, [k, n]));
        for (how, a, b) in [
            ("as they are", a.clone(), b.clone()),
            (
                "the other way round",
                lying_transposed(&a),
                lying_transposed(&b),
            ),
            ("parts of larger ones", lying_wide(&a), lying_wide(&b)),
        ] {
            let what = format!("{m} × {k} × {n}, {how}");
            assert_close(&what, &values(matmul(&a, &b)), &expected, 1e-5);
            let mut noise = Noise::of(2);
            let c = noise.tensor([m, n], device);
            let kept = c.clone();
            let before = values(c.clone());
            let sum: Vec<f64> = before
                .iter()
                .zip(&expected)
                .map(|(c, x)| f64::from(*c) + x)
                .collect();
            // While somebody else holds c, and when nobody does.
            assert_close(&what, &values(matmul_add(c, &a, &b)), &sum, 1e-5);
            assert_eq!(values(kept.clone()), before, "{what}");
            assert_close(&what, &values(matmul_add(kept, &a, &b)), &sum, 1e-5);
        }
    }
}

/// A GPU may have more than one queue of work: a product begins when its operands are there, and what comes after it waits.
fn products_and_other_operations_wait_for_each_other(device: &Device) {
    let chain = |device: &Device, n: usize| {
        let mut noise = Noise::of(3);
        let mut x = noise.tensor([n, n], device);
        let w = noise.tensor([n, n], device) * (2.0 / (n as f64).sqrt());
        let (v, u) = (noise.tensor([n, 10], device), noise.tensor([10, n], device));
        for i in 0..30 {
            let w = if i % 2 == 0 {
                w.clone()
            } else {
                w.clone().transpose()
            };
            let y = matmul(&x, &w);
            let y = matmul_add(y, &(matmul(&x, &v) * 0.1), &u) * 0.1;
            x = y.clone().tanh() + x * 0.5 + y.slice([0..1, 0..n]);
        }
        values(x)
    };
    for n in [16, 100, 256] {
        let expected: Vec<f64> = chain(&Device::flex(), n)
            .into_iter()
            .map(f64::from)
            .collect();
        assert_close(&format!("{n}"), &chain(device, n), &expected, 1e-3);
    }
}
