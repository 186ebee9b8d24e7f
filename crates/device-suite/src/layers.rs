//! The operations of a layer but attention, each with its gradient, and the log-probabilities behind the last one.

use burn_tensor::{Device, Tensor, TensorData};
use panacea_kernels::{
    Gate, Rotation, Steered, Weight, gated, gated_backward, head_log_probs, logit_blocks, rms_norm,
    rms_norm_backward, select_logit_blocks, steer, steer_backward,
};

use crate::near::{assert_as_on_the_cpu, lying_transposed, lying_wide};
use crate::{Check, named};

pub const CHECKS: &[Check] = named!["layers": norms_are_as_on_the_cpu, gates_are_as_on_the_cpu, rotations_are_as_on_the_cpu, steering_is_as_on_the_cpu, log_probabilities_are_as_on_the_cpu, blocks_of_logits_are_as_on_the_cpu];

/// Sizes that fill no group of threads, one row, rows wider than a group, and more rows than a GPU may count in one direction.
const SIZES: [[usize; 2]; 7] = [
    [1, 1],
    [1, 2050],
    [3, 7],
    [5, 64],
    [701, 130],
    [33, 1000],
    [70_000, 2],
];

fn norms_are_as_on_the_cpu(device: &Device) {
    for [rows, width] in SIZES {
        assert_as_on_the_cpu(
            device,
            &format!("{rows} × {width}"),
            |device, mut noise| {
                let [x, dy, onto] = [(); 3].map(|()| noise.tensor([rows, width], device));
                let weight = noise.tensor([1, width], device);
                let (kept, epsilon) = (onto.clone(), 1e-3);
                let backward = |x: &Tensor<2>, dy: &Tensor<2>, onto| {
                    rms_norm_backward(x, &weight, epsilon, dy.clone(), onto)
                };
                vec![
                    rms_norm(&x, &weight, epsilon),
                    rms_norm(&lying_transposed(&x), &weight, epsilon),
                    backward(&x, &dy, None),
                    backward(&x, &dy, Some(onto)),
                    backward(&lying_wide(&x), &lying_transposed(&dy), Some(kept.clone())),
                    kept,
                ]
            },
        );
    }
}

fn gates_are_as_on_the_cpu(device: &Device) {
    for shape in SIZES {
        for kind in [Gate::Silu, Gate::GeluTanh] {
            assert_as_on_the_cpu(
                device,
                &format!("{kind:?}, {shape:?}"),
                |device, mut noise| {
                    // Far enough to where an exponential has no number of 32 bits.
                    let gate = noise.tensor(shape, device) * 150.0;
                    let [up, d] = [(); 2].map(|()| noise.tensor(shape, device));
                    let y = gated(kind, &gate, &up);
                    let lying = gated(kind, &lying_wide(&gate), &lying_transposed(&up));
                    let (d_gate, d_up) = gated_backward(kind, gate, up, d);
                    vec![y, lying, d_gate, d_up]
                },
            );
        }
    }
}

fn rotations_are_as_on_the_cpu(device: &Device) {
    for (rows, heads, half) in [(1, 1, 1), (3, 5, 4), (257, 3, 33), (70_000, 1, 2)] {
        let what = format!("{rows} rows, {heads} heads of {}", 2 * half);
        assert_as_on_the_cpu(device, &what, |device, mut noise| {
            let x = noise.tensor([rows, heads * 2 * half], device);
            let twice = Tensor::cat(vec![x.clone() - 0.5, x.clone()], 1);
            let positions: Vec<usize> = (0..rows).map(|row| (row * 7) % 50).collect();
            let frequencies: Vec<f32> = (0..half).map(|i| 0.7_f32.powi(i as i32)).collect();
            let rotation = Rotation::new(&positions, &frequencies, device);
            vec![
                rotation.apply(x.clone()),
                rotation.apply(lying_wide(&x)),
                rotation.apply_backward(lying_transposed(&x)),
            ]
            .into_iter()
            .chain(rotation.apply_each([x.clone(), twice.clone()]))
            .chain(rotation.apply_backward_each([twice, x]))
            .collect()
        });
    }
}

fn steering_is_as_on_the_cpu(device: &Device) {
    for (rows, rank, m) in [(1, 1, 1), (3, 8, 2), (300, 5, 3), (1030, 16, 1)] {
        let what = format!("{rows} rows, rank {rank}, {m} objectives");
        assert_as_on_the_cpu(device, &what, |device, mut noise| {
            let shape = [rows, rank + m];
            let [p, d] = [(); 2].map(|()| noise.tensor(shape, device));
            let (sigma, s) = (
                noise.tensor([1, rank], device),
                noise.tensor([1, 1], device),
            );
            let preferences = noise.tensor([rows, m], device);
            let forward = steer(p.clone(), &sigma, &s, &preferences, 0.5);
            let (p, d) = (lying_wide(&p), lying_transposed(&d));
            let Steered {
                output,
                d_p,
                d_sigma,
                d_s,
            } = steer_backward(p, &sigma, &s, &preferences, 0.5, d);
            vec![forward, output, d_p, d_sigma, d_s]
        });
    }
}

fn log_probabilities_are_as_on_the_cpu(device: &Device) {
    for (rows, hidden, vocabulary, cap) in [
        (1, 1, 1, None),
        (3, 7, 1000, None),
        (3, 7, 1000, Some(2.0)),
        // Two pieces, the last one with fewer columns.
        (20_000, 2, 2500, None),
    ] {
        for keep in [false, true] {
            let what = format!("{rows} rows, {hidden} wide, {vocabulary} tokens, {cap:?}, {keep}");
            assert_as_on_the_cpu(device, &what, |device, mut noise| {
                let h = noise.tensor([rows, hidden], device) * 5.0;
                let weight = noise.tensor([vocabulary, hidden], device) * 5.0;
                let token = |row: usize| (row * 977 % vocabulary) as u32;
                let tokens: Vec<u32> = (0..rows).map(token).collect();
                let (log_probs, slopes) =
                    head_log_probs(&h, Weight::Dense(&weight), &tokens, cap, keep);
                let log_probs = TensorData::new(log_probs, [1, rows]);
                let mut all = vec![Tensor::from_data(log_probs, device)];
                all.extend(slopes);
                all
            });
        }
    }
}

/// What is known of blocks of the vocabulary, and the logits of some of them.
fn blocks_of_logits_are_as_on_the_cpu(device: &Device) {
    for (rows, vocabulary) in [(1, 1), (3, 256), (5, 700), (64, 5000)] {
        let what = format!("{rows} rows of {vocabulary}");
        assert_as_on_the_cpu(device, &what, |device, mut noise| {
            let logits = noise.tensor([rows, vocabulary], device) * 20.0;
            let temperatures: Vec<f64> = (0..rows).map(|row| 0.3 + 0.1 * row as f64).collect();
            let last = vocabulary.div_ceil(256) - 1;
            let some = [[rows - 1, last], [0, 0], [rows / 2, last / 2]];
            vec![
                logit_blocks(&logits, &temperatures),
                logit_blocks(&lying_wide(&logits), &temperatures),
                select_logit_blocks(&logits, &some),
                select_logit_blocks(&lying_transposed(&logits), &some),
            ]
        });
    }
}
