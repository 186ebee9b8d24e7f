//! The operations of a decoder on SmolLM2-135M's shapes, one at a time: 4 pairs of 128 + 2 × 127 tokens where
//! training is meant, 1 row and 8 where decoding is. `PANACEA_DEVICE` names the device, which is waited for.

use std::ops::Range;
use std::sync::LazyLock;

use burn_tensor::{Device, Distribution, Tensor};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use panacea_devices::of_environment;
use panacea_kernels::{
    AdamWStep, AdamWUpdate, Bits, CacheRow, CacheRows, Gate, Heads, PackedMatrix, Rotation,
    Segment, Visibility, Weight, adamw, attention, attention_backward, attention_decode, gated,
    gated_backward, head_log_probs, linear_each, logit_blocks, matmul, rms_norm, rms_norm_backward,
    sum_of_squares, write_cache,
};
use panacea_svd_lora::{Factors, SvdLora};

const ROWS: usize = 4 * (128 + 2 * 127);
const HIDDEN: usize = 576;
const INTERMEDIATE: usize = 1536;
const VOCABULARY: usize = 49_152;
const HEADS: Heads = Heads {
    kv: 3,
    group: 3,
    dim: 64,
};

static DEVICE: LazyLock<Device> = LazyLock::new(of_environment);

/// Until the device has done all that it was told.
fn done<T>(result: T) -> T {
    DEVICE.sync().expect("the device computes");
    result
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    done(Tensor::random(
        shape,
        Distribution::Normal(0.0, 1.0),
        &*DEVICE,
    ))
}

fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("product");
    let weight = random([INTERMEDIATE, HIDDEN]);
    for rows in [1, 8, ROWS] {
        let x = random([rows, HIDDEN]);
        group.bench_function(BenchmarkId::new("x W^T", rows), |b| {
            b.iter(|| done(matmul(&x, &weight.clone().transpose())));
        });
    }
    // What has few bits is read by kernels for the CPU.
    let is_on_cpu = *DEVICE == Device::flex();
    for bits in [Bits::Eight, Bits::Four].into_iter().filter(|_| is_on_cpu) {
        let packed = PackedMatrix::pack(&weight, bits).expect("whole blocks");
        for (rows, weight, how) in [
            (1, Weight::Integers(&packed), ""),
            (8, Weight::Integers(&packed), ""),
            (1, Weight::Packed(&packed), ", exactly"),
            (ROWS, Weight::Packed(&packed), ", exactly"),
        ] {
            let x = random([rows, HIDDEN]);
            let name = format!("x W^T, {} bits{how}", bits.count());
            group.bench_function(BenchmarkId::new(name, rows), |b| {
                b.iter(|| linear_each(&x, &[weight]));
            });
        }
    }
    group.finish();
}

fn side_path(criterion: &mut Criterion) {
    let factors = Factors {
        u: random([INTERMEDIATE, 10]),
        v: random([HIDDEN, 10]),
        sigma: random([1, 8]),
        s: random([1, 1]),
    };
    let layer = SvdLora {
        factors: &factors,
        scale: 8.0,
    };
    let mut group = criterion.benchmark_group("side_path");
    for rows in [1, 8, ROWS] {
        let (x, dy) = (random([rows, HIDDEN]), random([rows, INTERMEDIATE]));
        let preferences = Tensor::full([rows, 2], 0.5, &*DEVICE);
        group.bench_function(BenchmarkId::new("forward", rows), |b| {
            b.iter_batched(
                || random([rows, INTERMEDIATE]),
                |y| done(layer.add_projected(y, matmul(&x, &factors.v), &preferences)),
                BatchSize::LargeInput,
            );
        });
        if rows == ROWS {
            group.bench_function(BenchmarkId::new("backward", rows), |b| {
                b.iter_batched(
                    || random([rows, HIDDEN]),
                    |dx| done(layer.backward(&x, &preferences, &dy, dx)),
                    BatchSize::LargeInput,
                );
            });
        }
    }
    group.finish();
}

fn attentions(criterion: &mut Criterion) {
    let segment = |prefix: Range<usize>, own: Range<usize>| Segment { prefix, own };
    let segments = (0..4).flat_map(|pair| {
        let start = pair * (128 + 2 * 127);
        let prompt = start..start + 128;
        [
            segment(0..0, prompt.clone()),
            segment(prompt.clone(), start + 128..start + 255),
            segment(prompt, start + 255..start + 382),
        ]
    });
    let visibility = Visibility::new(segments.collect(), HEADS, None, &DEVICE);
    let width = HEADS.queries() * HEADS.dim;
    let (q, k, v) = (
        random([ROWS, width]),
        random([ROWS, HEADS.kv * HEADS.dim]),
        random([ROWS, HEADS.kv * HEADS.dim]),
    );
    let d_out = random([ROWS, width]);
    let (out, log_sum) = attention(&q, &k, &v, &visibility);
    let mut group = criterion.benchmark_group("attention");
    group.bench_function("forward", |b| {
        b.iter(|| done(attention(&q, &k, &v, &visibility)));
    });
    group.bench_function("backward", |b| {
        b.iter(|| {
            done(attention_backward(
                &q,
                &k,
                &v,
                &out,
                &log_sum,
                &d_out,
                &visibility,
            ))
        });
    });
    for rows in [1, 8] {
        let cache = || random([rows, HEADS.kv, 512, HEADS.dim]);
        let (keys, values, q) = (cache(), cache(), random([rows, width]));
        let seen = |slot| CacheRow {
            slot,
            visible: 0..512,
        };
        let seen = CacheRows::new((0..rows).map(seen).collect(), &q.device());
        group.bench_function(BenchmarkId::new("decode", rows), |b| {
            b.iter(|| done(attention_decode(q.clone(), &keys, &values, &seen, HEADS)));
        });
        let new = random([rows, HEADS.kv * HEADS.dim]);
        let mut cache = Some(keys);
        group.bench_function(BenchmarkId::new("write_cache", rows), |b| {
            b.iter(|| {
                let written = write_cache(cache.take().expect("it is put back"), &new, &seen);
                cache = Some(done(written));
            });
        });
    }
    group.finish();
}

fn elementwise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("elementwise");
    let (x, dy) = (random([ROWS, HIDDEN]), random([ROWS, HIDDEN]));
    let weight = random([1, HIDDEN]);
    group.bench_function("rms_norm", |b| {
        b.iter(|| done(rms_norm(&x, &weight, 1e-5)));
    });
    group.bench_function("rms_norm_backward", |b| {
        b.iter(|| done(rms_norm_backward(&x, &weight, 1e-5, dy.clone(), None)));
    });
    let wide = || random([ROWS, INTERMEDIATE]);
    let (gate, up, d) = (wide(), wide(), wide());
    group.bench_function("swiglu", |b| {
        b.iter(|| done(gated(Gate::Silu, &gate, &up)));
    });
    group.bench_function("swiglu_backward", |b| {
        b.iter_batched(
            || done((gate.clone() + 0.0, up.clone() + 0.0)),
            |(gate, up)| done(gated_backward(Gate::Silu, gate, up, d.clone())),
            BatchSize::LargeInput,
        );
    });
    let positions: Vec<usize> = (0..ROWS).map(|row| row % 255).collect();
    let frequencies: Vec<f32> = (0..HEADS.dim / 2).map(|i| 0.7_f32.powi(i as i32)).collect();
    let rotation = Rotation::new(&positions, &frequencies, &DEVICE);
    let queries = random([ROWS, HEADS.queries() * HEADS.dim]);
    group.bench_function("rotation", |b| {
        b.iter_batched(
            || done(queries.clone() + 0.0),
            |queries| done(rotation.apply(queries)),
            BatchSize::LargeInput,
        );
    });
    for rows in [1, 8] {
        let logits = random([rows, VOCABULARY]);
        let temperatures = vec![0.7; rows];
        group.bench_function(BenchmarkId::new("logit_blocks", rows), |b| {
            b.iter(|| done(logit_blocks(&logits, &temperatures)));
        });
    }
    let (h, head) = (random([128, HIDDEN]), random([VOCABULARY, HIDDEN]));
    let tokens: Vec<u32> = (0..128).map(|row| row * 300).collect();
    group.sample_size(20);
    group.bench_function("head_log_probs", |b| {
        b.iter(|| {
            done(head_log_probs(
                &h,
                Weight::Dense(&head),
                &tokens,
                None,
                true,
            ))
        });
    });
    group.finish();
}

/// The adapter of one matrix: U, V, σ and s.
fn optimiser(criterion: &mut Criterion) {
    let shapes = [[INTERMEDIATE, 10], [HIDDEN, 10], [1, 8], [1, 1]];
    let gradients = shapes.map(random);
    let step = AdamWStep {
        betas: [0.9, 0.999],
        corrections: [0.1, 0.001],
        eps: 1e-8,
        weight_decay: 0.01,
    };
    let mut group = criterion.benchmark_group("optimiser");
    group.bench_function("adamw", |b| {
        b.iter_batched(
            || shapes.map(|shape| (random(shape), [random(shape), done(random(shape).abs())])),
            |tensors| {
                let update = |((parameter, moments), gradient)| AdamWUpdate {
                    parameter,
                    moments,
                    gradient,
                    rate: 1e-3,
                };
                let updates = tensors.into_iter().zip(&gradients).map(update);
                done(adamw(updates.collect(), &step))
            },
            BatchSize::LargeInput,
        );
    });
    let all: Vec<&Tensor<2>> = gradients.iter().collect();
    group.bench_function("sum_of_squares", |b| b.iter(|| sum_of_squares(&all)));
    group.finish();
}

criterion_group!(
    benches,
    products,
    side_path,
    attentions,
    elementwise,
    optimiser
);
criterion_main!(benches);
