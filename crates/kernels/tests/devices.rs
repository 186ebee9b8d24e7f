//! What every device computes alike, on the one that the environment names.

use burn_tensor::{Device, Tensor, TensorData};
use panacea_kernels::{
    AdamWStep, AdamWUpdate, CacheRow, CacheRows, Gate, Heads, Rotation, Segment, Steered,
    Visibility, Weight, adamw, add_each, attention, attention_backward, attention_decode, gated,
    gated_backward, head_log_probs, matmul, matmul_add, rms_norm, rms_norm_backward, scale_each,
    steer, steer_backward, sum_of_squares, write_cache,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random numbers in −1 … 1.
struct Noise(ChaCha8Rng);

impl Noise {
    fn of(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.0.random_range(-1.0..1.0)).collect()
    }

    fn tensor(&mut self, [rows, columns]: [usize; 2], device: &Device) -> Tensor<2> {
        let values = self.values(rows * columns);
        Tensor::from_data(TensorData::new(values, [rows, columns]), device)
    }
}

fn values(x: Tensor<2>) -> Vec<f32> {
    x.into_data().try_to_vec().expect("it is f32")
}

fn assert_close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (f64::from(*found) - expected).abs();
        assert!(
            apart <= tolerance * (1.0 + expected.abs()),
            "{what}[{i}]: {found}, expected {expected}"
        );
    }
}

/// What `compute` makes on the device equals what it makes on the CPU, and itself when it is done again, bit by bit.
fn assert_as_on_the_cpu(what: &str, compute: impl Fn(&Device, Noise) -> Vec<Tensor<2>>) {
    let all = |device: &Device| -> Vec<Vec<f32>> {
        let computed = compute(device, Noise::of(7));
        computed.into_iter().map(values).collect()
    };
    let device = panacea_devices::of_environment();
    let (found, expected) = (all(&device), all(&Device::flex()));
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let expected: Vec<f64> = expected.iter().copied().map(f64::from).collect();
        assert_close(&format!("{what}, result {i}"), found, &expected, 1e-5);
    }
    assert!(found == all(&device), "{what}: not the same twice");
}

/// The same numbers, as a part of a larger tensor.
fn lying_wide(x: &Tensor<2>) -> Tensor<2> {
    let [rows, columns] = x.dims();
    let more = Tensor::cat(vec![x.clone() + 1.0, x.clone()], 1);
    more.slice([0..rows, columns..2 * columns])
}

/// The same numbers, column by column.
fn lying_transposed(x: &Tensor<2>) -> Tensor<2> {
    (x.clone().transpose() + 0.0).transpose()
}

/// 10 bits of mantissa, which GPUs like to multiply with, would be off by 1e-3.
#[test]
fn products_of_32_bits_are_computed_in_32_bits() {
    let device = panacea_devices::of_environment();
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
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), &device)
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
            let c = noise.tensor([m, n], &device);
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
#[test]
fn products_and_other_operations_wait_for_each_other() {
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
    let device = panacea_devices::of_environment();
    for n in [16, 100, 256] {
        let expected: Vec<f64> = chain(&Device::flex(), n)
            .into_iter()
            .map(f64::from)
            .collect();
        assert_close(&format!("{n}"), &chain(&device, n), &expected, 1e-3);
    }
}

#[test]
fn adamw_is_its_formula() {
    let device = panacea_devices::of_environment();
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
        let [p, g, m] = [(); 3].map(|()| noise.tensor(shape, &device));
        [p, m, noise.tensor(shape, &device).powi_scalar(2), g]
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

#[test]
fn several_tensors_are_added_to_and_scaled_as_on_the_cpu() {
    assert_as_on_the_cpu("several", |device, mut noise| {
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

#[test]
fn squares_of_all_tensors_add_up() {
    let device = panacea_devices::of_environment();
    let mut noise = Noise::of(5);
    // More than are summed at once.
    let shapes = [[1, 1], [1, 8], [576, 10], [3000, 10], [3, 7]].repeat(3);
    let tensors = shapes.into_iter().map(|shape| noise.tensor(shape, &device));
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

#[test]
fn norms_are_as_on_the_cpu() {
    for [rows, width] in SIZES {
        assert_as_on_the_cpu(&format!("{rows} × {width}"), |device, mut noise| {
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
        });
    }
}

#[test]
fn gates_are_as_on_the_cpu() {
    for shape in SIZES {
        for kind in [Gate::Silu, Gate::GeluTanh] {
            assert_as_on_the_cpu(&format!("{kind:?}, {shape:?}"), |device, mut noise| {
                // Far enough to where an exponential has no number of 32 bits.
                let gate = noise.tensor(shape, device) * 150.0;
                let [up, d] = [(); 2].map(|()| noise.tensor(shape, device));
                let y = gated(kind, &gate, &up);
                let lying = gated(kind, &lying_wide(&gate), &lying_transposed(&up));
                let (d_gate, d_up) = gated_backward(kind, gate, up, d);
                vec![y, lying, d_gate, d_up]
            });
        }
    }
}

#[test]
fn rotations_are_as_on_the_cpu() {
    for (rows, heads, half) in [(1, 1, 1), (3, 5, 4), (257, 3, 33), (70_000, 1, 2)] {
        let what = format!("{rows} rows, {heads} heads of {}", 2 * half);
        assert_as_on_the_cpu(&what, |device, mut noise| {
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

#[test]
fn steering_is_as_on_the_cpu() {
    for (rows, rank, m) in [(1, 1, 1), (3, 8, 2), (300, 5, 3), (1030, 16, 1)] {
        let what = format!("{rows} rows, rank {rank}, {m} objectives");
        assert_as_on_the_cpu(&what, |device, mut noise| {
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

/// Segments of these lengths, each with the lengths of those that have it as a prefix.
fn segments(of: &[(usize, &[usize])]) -> Vec<Segment> {
    let (mut segments, mut end) = (Vec::new(), 0);
    let mut push = |prefix, length| {
        let own = end..end + length;
        end += length;
        segments.push(Segment {
            prefix,
            own: own.clone(),
        });
        own
    };
    for &(prompt, responses) in of {
        let prefix = push(0..0, prompt);
        for &response in responses {
            push(prefix.clone(), response);
        }
    }
    segments
}

#[test]
fn attention_is_as_on_the_cpu() {
    let small = Heads {
        kv: 2,
        group: 3,
        dim: 5,
    };
    let large = Heads {
        kv: 4,
        group: 2,
        dim: 3,
    };
    for (heads, window, of) in [
        (small, None, segments(&[(1, &[])])),
        (
            small,
            None,
            segments(&[(100, &[70, 1]), (3, &[86]), (70, &[])]),
        ),
        (
            small,
            Some(7),
            segments(&[(30, &[20, 0, 301]), (2, &[5, 5, 5])]),
        ),
        // Too different to be padded to one size.
        (
            large,
            None,
            segments(&[(700, &[9, 40]), (1, &[2]), (400, &[])]),
        ),
    ] {
        let rows = of.last().expect("there are some").own.end;
        let what = format!("{rows} rows, {heads:?}, window {window:?}");
        assert_as_on_the_cpu(&what, |device, mut noise| {
            let visibility = Visibility::new(of.clone(), heads, window, device);
            let width = heads.queries() * heads.dim;
            let q = noise.tensor([rows, width], device) * 3.0;
            let [k, v] = [(); 2].map(|()| noise.tensor([rows, heads.kv * heads.dim], device) * 3.0);
            let d_out = noise.tensor([rows, width], device);
            let (out, log_sum) = attention(&q, &k, &v, &visibility);
            let (d_q, d_k, d_v) =
                attention_backward(&q, &k, &v, &out, &log_sum, &d_out, &visibility);
            let lying = attention(&lying_wide(&q), &lying_transposed(&k), &v, &visibility);
            vec![out, log_sum, d_q, d_k, d_v, lying.0]
        });
    }
}

#[test]
fn attention_behind_given_rows_is_as_on_the_cpu() {
    let heads = Heads {
        kv: 2,
        group: 3,
        dim: 5,
    };
    // What is given to each segment, and its own rows.
    let lengths = [(70, 1), (0, 3), (301, 86), (5, 20)];
    let given: usize = lengths.iter().map(|(given, _)| given).sum();
    let (mut before, mut end) = (0, given);
    let segment = |(known, own): (usize, usize)| {
        (before, end) = (before + known, end + own);
        Segment {
            prefix: before - known..before,
            own: end - own..end,
        }
    };
    let of: Vec<Segment> = lengths.into_iter().map(segment).collect();
    for window in [None, Some(7)] {
        let what = format!("{given} rows are given, window {window:?}");
        assert_as_on_the_cpu(&what, |device, mut noise| {
            let visibility = Visibility::behind(given, of.clone(), heads, window, device);
            let rows = of.last().expect("there are some").own.end;
            let q = noise.tensor([rows - given, 30], device) * 3.0;
            let [k, v] = [(); 2].map(|()| noise.tensor([rows, 10], device) * 3.0);
            let (out, log_sum) = attention(&q, &k, &v, &visibility);
            vec![out, log_sum]
        });
    }
}

#[test]
fn decoding_is_as_on_the_cpu() {
    for (kv, group, dim, columns) in [
        (1, 1, 1, 1),
        (3, 2, 20, 9),
        (2, 3, 64, 700),
        (1, 2, 250, 40),
    ] {
        let heads = Heads { kv, group, dim };
        let what = format!("{heads:?}, {columns} columns");
        assert_as_on_the_cpu(&what, |device, mut noise| {
            // Rows that see different parts of their caches, slots in another order.
            let row = |i: usize| CacheRow {
                slot: 4 - i,
                visible: match i {
                    0 => 0..1,
                    _ => columns / 7 * (i - 1)..columns.min(columns / i + 1),
                },
            };
            let rows = CacheRows::new((0..4).map(row).collect(), device);
            let mut cache = || {
                let all = noise.tensor([5 * kv * columns, dim], device) * 3.0;
                all.reshape([5, kv, columns, dim])
            };
            let (keys, values) = (cache(), cache());
            let new = noise.tensor([4, kv * dim], device);
            let q = noise.tensor([4, heads.queries() * dim], device) * 3.0;
            // While somebody else holds the cache, and when nobody does.
            let written = write_cache(keys.clone(), &lying_wide(&new), &rows);
            let kept = keys.clone().reshape([5 * kv * columns, dim]) + 0.0;
            let again = write_cache(keys, &new, &rows);
            let out = attention_decode(q.clone(), &again, &values, &rows, heads);
            let lying = attention_decode(lying_transposed(&q), &written, &values, &rows, heads);
            let whole = |cache: Tensor<4>| cache.reshape([5 * kv * columns, dim]);
            vec![whole(written), kept, whole(again), out, lying]
        });
    }
}

#[test]
fn log_probabilities_are_as_on_the_cpu() {
    for (rows, hidden, vocabulary, cap) in [
        (1, 1, 1, None),
        (3, 7, 1000, None),
        (3, 7, 1000, Some(2.0)),
        // Two pieces, the last one with fewer columns.
        (20_000, 2, 2500, None),
    ] {
        for keep in [false, true] {
            let what = format!("{rows} rows, {hidden} wide, {vocabulary} tokens, {cap:?}, {keep}");
            assert_as_on_the_cpu(&what, |device, mut noise| {
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
