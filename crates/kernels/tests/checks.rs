//! Every public operation refuses arguments that do not fit, with its name, the argument and the axis; in the form
//! for the CPU (f32) as in the one for all other devices, which doubles take on the CPU too.
#![cfg(feature = "flex")]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn_tensor::{DType, Device, Tensor};
use panacea_kernels::{
    Bits, CacheRow, CacheRows, Gate, Heads, PackedMatrix, Rotation, Segment, Steered, Visibility,
    Weight, add_each, attention, attention_backward, attention_decode, gated, gated_backward,
    head_log_probs, linear_add, linear_backward, linear_each, matmul, matmul_add, rms_norm,
    rms_norm_backward, steer, steer_backward, write_cache,
};

/// A call that does not fit, beside what it panics with.
type Case<'a> = (&'a str, Box<dyn Fn() + 'a>);

/// What a call is that gives anything.
fn call<'a, T>(call: impl Fn() -> T + 'a) -> Box<dyn Fn() + 'a> {
    Box::new(move || drop(call()))
}

#[track_caller]
fn assert_refused(cases: Vec<Case<'_>>) {
    for (expected, call) in cases {
        let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else {
            panic!("not refused: {expected}");
        };
        let formatted = panic.downcast_ref::<String>().map(String::as_str);
        let found = formatted.or_else(|| panic.downcast_ref::<&str>().copied());
        assert_eq!(found, Some(expected));
    }
}

/// Calls `test` with tensors for either form.
fn in_both_forms(test: impl Fn(DType)) {
    for dtype in [DType::F32, DType::F64] {
        test(dtype);
    }
}

fn zeros<const D: usize>(dtype: DType, shape: [usize; D]) -> Tensor<D> {
    Tensor::zeros(shape, (&Device::flex(), dtype))
}

const HEADS: Heads = Heads {
    kv: 2,
    group: 3,
    dim: 4,
};

fn segment(prefix: Range<usize>, own: Range<usize>) -> Segment {
    Segment { prefix, own }
}

fn visibility(segments: Vec<Segment>) -> Visibility {
    Visibility::new(segments, HEADS, None, &Device::flex())
}

#[test]
fn products() {
    in_both_forms(|dtype| {
        let x = |shape: [usize; 2]| zeros(dtype, shape);
        let pack = |shape| PackedMatrix::pack(&zeros(DType::F32, shape), Bits::Eight);
        let narrow = pack([5, 64]).expect("whole blocks");
        let linear = |rows: usize, last: Weight<'_>| {
            let first = x([7, 96]);
            linear_each(&x([rows, 96]), &[Weight::Dense(&first), last])
        };
        let add = |onto, rows, weight: Weight<'_>| linear_add(x(onto), &x([rows, 96]), weight);
        let back = |rows, weight: Weight<'_>, onto: Option<[usize; 2]>| {
            linear_backward(&x([rows, 5]), weight, onto.map(x))
        };
        assert_refused(vec![
            (
                "matmul: axis 0 of `b` is 4, expected 3 as axis 1 of `a`",
                call(|| matmul(&x([2, 3]), &x([4, 3]))),
            ),
            (
                "matmul_add: axis 0 of `b` is 4, expected 3 as axis 1 of `a`",
                call(|| matmul_add(x([2, 5]), &x([2, 3]), &x([4, 5]))),
            ),
            (
                "matmul_add: axis 0 of `c` is 1, expected 2 as in `a`",
                call(|| matmul_add(x([1, 5]), &x([2, 3]), &x([3, 5]))),
            ),
            (
                "matmul_add: axis 1 of `c` is 1, expected 5 as in `b`",
                call(|| matmul_add(x([2, 1]), &x([2, 3]), &x([3, 5]))),
            ),
            (
                "linear_add: axis 0 of `onto` is 2, expected 3 as in `x`",
                call(|| add([2, 5], 3, Weight::Dense(&x([5, 96])))),
            ),
        ]);
        for rows in [1, 40] {
            assert_refused(vec![
                (
                    "linear_each: axis 1 of `weights[1]` is 95, expected 96 as in `x`",
                    call(|| linear(rows, Weight::Dense(&x([5, 95])))),
                ),
                (
                    "linear_each: axis 1 of `weights[1]` is 64, expected 96 as in `x`",
                    call(|| linear(rows, Weight::Packed(&narrow))),
                ),
                (
                    "linear_each: axis 1 of `weights[1]` is 64, expected 96 as in `x`",
                    call(|| linear(rows, Weight::Integers(&narrow))),
                ),
                (
                    "linear_add: axis 1 of `weight` is 64, expected 96 as in `x`",
                    call(|| add([rows, 5], rows, Weight::Packed(&narrow))),
                ),
                (
                    "linear_add: axis 1 of `onto` is 4, expected 5 as axis 0 of `weight`",
                    call(|| add([rows, 4], rows, Weight::Dense(&x([5, 96])))),
                ),
                (
                    "linear_backward: axis 0 of `weight` is 6, expected 5 as axis 1 of `dy`",
                    call(|| back(rows, Weight::Dense(&x([6, 96])), None)),
                ),
                (
                    "linear_backward: axis 1 of `onto` is 65, expected 64 as axis 1 of `weight`",
                    call(|| back(rows, Weight::Packed(&narrow), Some([rows, 65]))),
                ),
                (
                    "select: `indices[1]` is 5, expected less than 5, axis 0 of the weight",
                    call(|| Weight::Packed(&narrow).select(&[4, 5], &Device::flex())),
                ),
            ]);
        }
        assert_eq!(linear(1, Weight::Dense(&x([5, 96]))).len(), 2);
    });
}

#[test]
fn rows_and_elements() {
    in_both_forms(|dtype| {
        let x = |shape: [usize; 2]| zeros(dtype, shape);
        let rotation = Rotation::new(&[0, 1, 2], &[1.0, 0.5], &Device::flex());
        assert_refused(vec![
            (
                "gated: axis 0 of `up` is 1, expected 2 as in `gate`",
                call(|| gated(Gate::Silu, &x([2, 4]), &x([1, 4]))),
            ),
            (
                "gated: axis 1 of `up` is 3, expected 4 as in `gate`",
                call(|| gated(Gate::Silu, &x([2, 4]), &x([2, 3]))),
            ),
            (
                "gated_backward: axis 0 of `up` is 1, expected 2 as in `gate`",
                call(|| gated_backward(Gate::Silu, x([2, 4]), x([1, 4]), x([2, 4]))),
            ),
            (
                "gated_backward: axis 1 of `up` is 1, expected 4 as in `gate`",
                call(|| gated_backward(Gate::Silu, x([2, 4]), x([2, 1]), x([2, 4]))),
            ),
            (
                "gated_backward: axis 0 of `d` is 3, expected 2 as in `gate`",
                call(|| gated_backward(Gate::Silu, x([2, 4]), x([2, 4]), x([3, 4]))),
            ),
            (
                "gated_backward: axis 1 of `d` is 5, expected 4 as in `gate`",
                call(|| gated_backward(Gate::Silu, x([2, 4]), x([2, 4]), x([2, 5]))),
            ),
            (
                "rms_norm: axis 0 of `weight` is 2, expected 1 in front of the width",
                call(|| rms_norm(&x([2, 4]), &x([2, 4]), 1e-5)),
            ),
            (
                "rms_norm: axis 1 of `weight` is 1, expected 4 as in `x`",
                call(|| rms_norm(&x([2, 4]), &x([1, 1]), 1e-5)),
            ),
            (
                "rms_norm: axis 1 of `x` is 0, expected at least 1",
                call(|| rms_norm(&x([2, 0]), &x([1, 0]), 1e-5)),
            ),
            (
                "rms_norm_backward: axis 0 of `weight` is 2, expected 1 in front of the width",
                call(|| rms_norm_backward(&x([2, 4]), &x([2, 4]), 1e-5, x([2, 4]), None)),
            ),
            (
                "rms_norm_backward: axis 1 of `weight` is 5, expected 4 as in `x`",
                call(|| rms_norm_backward(&x([2, 4]), &x([1, 5]), 1e-5, x([2, 4]), None)),
            ),
            (
                "rms_norm_backward: axis 1 of `x` is 0, expected at least 1",
                call(|| rms_norm_backward(&x([2, 0]), &x([1, 0]), 1e-5, x([2, 0]), None)),
            ),
            (
                "rms_norm_backward: axis 0 of `dy` is 1, expected 2 as in `x`",
                call(|| rms_norm_backward(&x([2, 4]), &x([1, 4]), 1e-5, x([1, 4]), None)),
            ),
            (
                "rms_norm_backward: axis 1 of `dy` is 3, expected 4 as in `x`",
                call(|| rms_norm_backward(&x([2, 4]), &x([1, 4]), 1e-5, x([2, 3]), None)),
            ),
            (
                "rms_norm_backward: axis 0 of `onto` is 1, expected 2 as in `x`",
                call(|| {
                    let onto = Some(x([1, 4]));
                    rms_norm_backward(&x([2, 4]), &x([1, 4]), 1e-5, x([2, 4]), onto)
                }),
            ),
            (
                "rms_norm_backward: axis 1 of `onto` is 1, expected 4 as in `x`",
                call(|| {
                    let onto = Some(x([2, 1]));
                    rms_norm_backward(&x([2, 4]), &x([1, 4]), 1e-5, x([2, 4]), onto)
                }),
            ),
            (
                "Rotation::new: axis 0 of `inverse_frequencies` is 0, expected at least 1",
                call(|| Rotation::new(&[0, 1], &[], &Device::flex())),
            ),
            (
                "Rotation::apply: axis 0 of `x` is 2, expected 3 as `positions` of the rotation",
                call(|| rotation.apply(x([2, 8]))),
            ),
            (
                "Rotation::apply: axis 1 of `x` is 6, expected a multiple of 4, twice the \
                 `inverse_frequencies` of the rotation",
                call(|| rotation.apply(x([3, 6]))),
            ),
            (
                "Rotation::apply_backward: axis 0 of `dy` is 4, expected 3 as `positions` of the \
                 rotation",
                call(|| rotation.apply_backward(x([4, 8]))),
            ),
            (
                "Rotation::apply_backward: axis 1 of `dy` is 2, expected a multiple of 4, twice the \
                 `inverse_frequencies` of the rotation",
                call(|| rotation.apply_backward(x([3, 2]))),
            ),
        ]);
        // What does not fit is at fault above, and nothing else.
        assert_eq!(gated(Gate::Silu, &x([2, 4]), &x([2, 4])).dims(), [2, 4]);
        assert_eq!(rms_norm(&x([2, 4]), &x([1, 4]), 1e-5).dims(), [2, 4]);
    });
}

#[test]
fn side_paths() {
    in_both_forms(|dtype| {
        let x = |shape: [usize; 2]| zeros(dtype, shape);
        let steered =
            |p, sigma, s, preferences| steer(x(p), &x(sigma), &x(s), &x(preferences), 2.0);
        assert_refused(vec![
            (
                "steer: axis 0 of `sigma` is 3, expected 1 for all rows",
                call(|| steered([3, 7], [3, 5], [1, 1], [3, 2])),
            ),
            (
                "steer: axis 1 of `sigma` is 0, expected at least 1",
                call(|| steered([3, 2], [1, 0], [1, 1], [3, 2])),
            ),
            (
                "steer: axis 1 of `p` is 7, expected 6 as `sigma` and `preferences` have together",
                call(|| steered([3, 7], [1, 4], [1, 1], [3, 2])),
            ),
            (
                "steer: axis 1 of `p` is 7, expected 9 as `sigma` and `preferences` have together",
                call(|| steered([3, 7], [1, 8], [1, 1], [3, 1])),
            ),
            (
                "steer: axis 0 of `s` is 3, expected 1 for all rows",
                call(|| steered([3, 7], [1, 5], [3, 1], [3, 2])),
            ),
            (
                "steer: axis 1 of `s` is 0, expected 1 for all objectives",
                call(|| steered([3, 7], [1, 5], [1, 0], [3, 2])),
            ),
            (
                "steer: axis 0 of `preferences` is 1, expected 3 as in `p`",
                call(|| steered([3, 7], [1, 5], [1, 1], [1, 2])),
            ),
            (
                "steer: axis 1 of `p` is 7, expected 8 as `sigma` and `preferences` have together",
                call(|| steered([3, 7], [1, 5], [1, 1], [3, 3])),
            ),
        ]);
        assert_eq!(steered([3, 7], [1, 5], [1, 1], [3, 2]).dims(), [3, 7]);
        let (sigma, s, preferences) = (x([1, 5]), x([1, 1]), x([3, 2]));
        let backward = |p, d| steer_backward(x(p), &sigma, &s, &preferences, 2.0, x(d));
        assert_refused(vec![
            (
                "steer_backward: axis 1 of `p` is 6, expected 7 as `sigma` and `preferences` have together",
                call(|| backward([3, 6], [3, 6])),
            ),
            (
                "steer_backward: axis 0 of `d_output` is 1, expected 3 as in `p`",
                call(|| backward([3, 7], [1, 7])),
            ),
        ]);
        let Steered { d_sigma, d_s, .. } = backward([3, 7], [3, 7]);
        assert_eq!((d_sigma.dims(), d_s.dims()), ([1, 5], [1, 1]));
        let sums = || vec![x([2, 3]), x([1, 1])];
        assert_refused(vec![
            (
                "add_each: axis 0 of `more` is 1, expected 2 as in `sums`",
                call(|| add_each(sums(), &[x([2, 3])])),
            ),
            (
                "add_each: axis 1 of `more[1]` is 3, expected 1 as in `sums`",
                call(|| add_each(sums(), &[x([2, 3]), x([1, 3])])),
            ),
        ]);
    });
}

#[test]
fn log_probs() {
    in_both_forms(|dtype| {
        let log_probs = |weight: [usize; 2], tokens: &[u32], keep| {
            head_log_probs(
                &zeros(dtype, [2, 3]),
                Weight::Dense(&zeros(dtype, weight)),
                tokens,
                None,
                keep,
            )
        };
        for keep in [false, true] {
            assert_refused(vec![
                (
                    "head_log_probs: axis 1 of `weight` is 4, expected 3 as in `h`",
                    call(|| log_probs([5, 4], &[0, 4], keep)),
                ),
                (
                    "head_log_probs: axis 0 of `tokens` is 1, expected 2 as in `h`",
                    call(|| log_probs([5, 3], &[0], keep)),
                ),
                (
                    "head_log_probs: axis 0 of `tokens` is 3, expected 2 as in `h`",
                    call(|| log_probs([5, 3], &[0, 1, 2], keep)),
                ),
                (
                    "head_log_probs: `tokens[1]` is 5, expected less than 5, axis 0 of `weight`",
                    call(|| log_probs([5, 3], &[4, 5], keep)),
                ),
                (
                    "head_log_probs: `tokens[0]` is 4294967295, expected less than 5, axis 0 of \
                     `weight`",
                    call(|| log_probs([5, 3], &[u32::MAX, 0], keep)),
                ),
                (
                    "head_log_probs: `tokens[0]` is 0, expected less than 0, axis 0 of `weight`",
                    call(|| log_probs([0, 3], &[0, 0], keep)),
                ),
            ]);
        }
        assert_eq!(log_probs([5, 3], &[0, 4], true).0.len(), 2);
    });
}

#[test]
fn who_sees_whom() {
    let of = |kv, group, dim| {
        let heads = Heads { kv, group, dim };
        call(move || Visibility::new(vec![], heads, None, &Device::flex()))
    };
    let half = 1 << (usize::BITS / 2);
    let too_many = format!(
        "Visibility::new: `heads` are too many: Heads {{ kv: {half}, group: {half}, dim: 1 }}"
    );
    assert_refused(vec![
        (
            "Visibility::new: `heads.kv` is 0, expected at least 1",
            of(0, 1, 1),
        ),
        (
            "Visibility::new: `heads.group` is 0, expected at least 1",
            of(1, 0, 1),
        ),
        (
            "Visibility::new: `heads.dim` is 0, expected at least 1",
            of(1, 1, 0),
        ),
        (&too_many, of(half, half, 1)),
        (
            "Visibility::new: `window` is 0, expected at least 1",
            call(|| Visibility::new(vec![], HEADS, Some(0), &Device::flex())),
        ),
        (
            "Visibility::new: `segments[0].own` is 1..3, expected a range from 0 on: segments \
             follow each other",
            call(|| visibility(vec![segment(0..0, 1..3)])),
        ),
        (
            "Visibility::new: `segments[1].own` is 2..5, expected a range from 3 on: segments \
             follow each other",
            call(|| visibility(vec![segment(0..0, 0..3), segment(0..0, 2..5)])),
        ),
        (
            "Visibility::new: `segments[1].own` is 3..1, expected a range from 3 on: segments \
             follow each other",
            call(|| {
                visibility(vec![
                    segment(0..0, 0..3),
                    segment(0..0, Range { start: 3, end: 1 }),
                ])
            }),
        ),
        (
            "Visibility::new: `segments[1].prefix` is 0..2, expected nothing or 0..3, the last \
             segment without one",
            call(|| visibility(vec![segment(0..0, 0..3), segment(0..2, 3..5)])),
        ),
        (
            "Visibility::new: `segments[0].prefix` is 0..9, expected nothing or 0..0, the last \
             segment without one",
            call(|| visibility(vec![segment(0..9, 0..3)])),
        ),
    ]);
}

#[test]
fn attentions() {
    let seen = visibility(vec![segment(0..0, 0..3), segment(0..3, 3..5)]);
    in_both_forms(|dtype| {
        let x = |shape: [usize; 2]| zeros(dtype, shape);
        let forward = |q, k, v| attention(&x(q), &x(k), &x(v), &seen);
        let backward = |q, k, v, out, log_sum, d_out| {
            let [q, k, v] = [q, k, v].map(x);
            let [out, log_sum, d_out] = [out, log_sum, d_out].map(x);
            attention_backward(&q, &k, &v, &out, &log_sum, &d_out, &seen)
        };
        let (q, k, l) = ([5, 24], [5, 8], [5, 6]);
        assert_refused(vec![
            (
                "attention: axis 0 of `q` is 4, expected 5 as `segments` have together",
                call(|| forward([4, 24], k, k)),
            ),
            (
                "attention: axis 0 of `q` is 6, expected 5 as `segments` have together",
                call(|| forward([6, 24], k, k)),
            ),
            (
                "attention: axis 1 of `q` is 8, expected 24 for kv × group × dim of `heads`",
                call(|| forward([5, 8], k, k)),
            ),
            (
                "attention: axis 0 of `k` is 3, expected 5 as `segments` have together",
                call(|| forward(q, [3, 8], k)),
            ),
            (
                "attention: axis 1 of `k` is 24, expected 8 for kv × dim of `heads`",
                call(|| forward(q, [5, 24], k)),
            ),
            (
                "attention: axis 0 of `v` is 3, expected 5 as `segments` have together",
                call(|| forward(q, k, [3, 8])),
            ),
            (
                "attention: axis 1 of `v` is 4, expected 8 for kv × dim of `heads`",
                call(|| forward(q, k, [5, 4])),
            ),
            (
                "attention_backward: axis 0 of `q` is 4, expected 5 as `segments` have together",
                call(|| backward([4, 24], k, k, q, l, q)),
            ),
            (
                "attention_backward: axis 1 of `q` is 8, expected 24 for kv × group × dim of \
                 `heads`",
                call(|| backward([5, 8], k, k, q, l, q)),
            ),
            (
                "attention_backward: axis 0 of `k` is 4, expected 5 as `segments` have together",
                call(|| backward(q, [4, 8], k, q, l, q)),
            ),
            (
                "attention_backward: axis 1 of `k` is 7, expected 8 for kv × dim of `heads`",
                call(|| backward(q, [5, 7], k, q, l, q)),
            ),
            (
                "attention_backward: axis 0 of `v` is 1, expected 5 as `segments` have together",
                call(|| backward(q, k, [1, 8], q, l, q)),
            ),
            (
                "attention_backward: axis 1 of `v` is 9, expected 8 for kv × dim of `heads`",
                call(|| backward(q, k, [5, 9], q, l, q)),
            ),
            (
                "attention_backward: axis 0 of `out` is 4, expected 5 as in `q`",
                call(|| backward(q, k, k, [4, 24], l, q)),
            ),
            (
                "attention_backward: axis 1 of `out` is 8, expected 24 as in `q`",
                call(|| backward(q, k, k, [5, 8], l, q)),
            ),
            (
                "attention_backward: axis 0 of `log_sum` is 1, expected 5 as in `q`",
                call(|| backward(q, k, k, q, [1, 6], q)),
            ),
            (
                "attention_backward: axis 1 of `log_sum` is 2, expected 6 for kv × group of \
                 `heads`",
                call(|| backward(q, k, k, q, [5, 2], q)),
            ),
            (
                "attention_backward: axis 0 of `d_out` is 1, expected 5 as in `q`",
                call(|| backward(q, k, k, q, l, [1, 24])),
            ),
            (
                "attention_backward: axis 1 of `d_out` is 1, expected 24 as in `q`",
                call(|| backward(q, k, k, q, l, [5, 1])),
            ),
        ]);
        assert_eq!(forward(q, k, k).0.dims(), q);
        assert_eq!(backward(q, k, k, q, l, q).0.dims(), q);
    });
}

#[test]
fn caches() {
    let row = |slot, visible| CacheRow { slot, visible };
    let told = |rows: &[CacheRow]| CacheRows::new(rows.to_vec(), &Device::flex());
    let two = |second: CacheRow| [row(0, 0..9), second];
    in_both_forms(|dtype| {
        let cache = |shape: [usize; 4]| zeros(dtype, shape);
        let decode = |q: [usize; 2], keys, values, rows: &[CacheRow], heads| {
            attention_decode(
                zeros(dtype, q),
                &cache(keys),
                &cache(values),
                &told(rows),
                heads,
            )
        };
        let write = |into: [usize; 4], new: [usize; 2], rows: &[CacheRow]| {
            write_cache(cache(into), &zeros(dtype, new), &told(rows))
        };
        let (q, c, good) = ([2, 24], [3, 2, 9, 4], two(row(2, 3..5)));
        let of = |heads| call(move || decode(q, c, c, &two(row(2, 3..5)), heads));
        let reversed = two(row(2, Range { start: 5, end: 3 }));
        let (beyond, nothing, no_slot) = (two(row(2, 3..10)), two(row(2, 3..3)), two(row(3, 3..5)));
        let cases: Vec<Case<'_>> = vec![
            (
                "attention_decode: `heads.kv` is 0, expected at least 1",
                of(Heads { kv: 0, ..HEADS }),
            ),
            (
                "attention_decode: `heads.group` is 0, expected at least 1",
                of(Heads { group: 0, ..HEADS }),
            ),
            (
                "attention_decode: `heads.dim` is 0, expected at least 1",
                of(Heads { dim: 0, ..HEADS }),
            ),
            (
                "attention_decode: axis 1 of `q` is 24, expected 16 for kv × group × dim of `heads`",
                of(Heads { group: 2, ..HEADS }),
            ),
            (
                "attention_decode: axis 1 of `keys` is 2, expected 3 for kv of `heads`",
                of(Heads {
                    kv: 3,
                    group: 2,
                    dim: 4,
                }),
            ),
            (
                "attention_decode: axis 3 of `keys` is 4, expected 6 for dim of `heads`",
                of(Heads {
                    kv: 2,
                    group: 2,
                    dim: 6,
                }),
            ),
            (
                "attention_decode: axis 0 of `values` is 2, expected 3 as in `keys`",
                call(|| decode(q, c, [2, 2, 9, 4], &good, HEADS)),
            ),
            (
                "attention_decode: axis 1 of `values` is 1, expected 2 as in `keys`",
                call(|| decode(q, c, [3, 1, 9, 4], &good, HEADS)),
            ),
            (
                "attention_decode: axis 2 of `values` is 8, expected 9 as in `keys`",
                call(|| decode(q, c, [3, 2, 8, 4], &good, HEADS)),
            ),
            (
                "attention_decode: axis 3 of `values` is 3, expected 4 as in `keys`",
                call(|| decode(q, c, [3, 2, 9, 3], &good, HEADS)),
            ),
            (
                "attention_decode: axis 0 of `rows` is 1, expected 2 as in `q`",
                call(|| decode(q, c, c, &good[..1], HEADS)),
            ),
            (
                "attention_decode: axis 0 of `rows` is 2, expected 1 as in `q`",
                call(|| decode([1, 24], c, c, &good, HEADS)),
            ),
            (
                "attention_decode: `rows[1].slot` is 3, expected less than 3, axis 0 of `keys`",
                call(|| decode(q, c, c, &no_slot, HEADS)),
            ),
            (
                "attention_decode: `rows[1].visible` is 3..10, expected some of 0..9, axis 2 of \
                 `keys`",
                call(|| decode(q, c, c, &beyond, HEADS)),
            ),
            (
                "attention_decode: `rows[1].visible` is 3..3, expected some of 0..9, axis 2 of \
                 `keys`",
                call(|| decode(q, c, c, &nothing, HEADS)),
            ),
            (
                "attention_decode: `rows[1].visible` is 5..3, expected some of 0..9, axis 2 of \
                 `keys`",
                call(|| decode(q, c, c, &reversed, HEADS)),
            ),
            (
                "write_cache: axis 1 of `new` is 24, expected 8 as axes 1 and 3 of `cache` have \
                 together",
                call(|| write(c, [2, 24], &good)),
            ),
            (
                "write_cache: axis 0 of `rows` is 2, expected 1 as in `new`",
                call(|| write(c, [1, 8], &good)),
            ),
            (
                "write_cache: axis 0 of `rows` is 1, expected 2 as in `new`",
                call(|| write(c, [2, 8], &good[..1])),
            ),
            (
                "write_cache: `rows[1].slot` is 3, expected less than 3, axis 0 of `cache`",
                call(|| write(c, [2, 8], &no_slot)),
            ),
            (
                "write_cache: `rows[1].visible` is 3..10, expected some of 0..9, axis 2 of `cache`",
                call(|| write(c, [2, 8], &beyond)),
            ),
            (
                "write_cache: `rows[1].visible` is 3..3, expected some of 0..9, axis 2 of `cache`",
                call(|| write(c, [2, 8], &nothing)),
            ),
            (
                "write_cache: `rows[1].visible` is 5..3, expected some of 0..9, axis 2 of `cache`",
                call(|| write(c, [2, 8], &reversed)),
            ),
        ];
        assert_refused(cases);
        assert_eq!(decode(q, c, c, &good, HEADS).dims(), q);
        assert_eq!(write(c, [2, 8], &good).dims(), c);
    });
}

/// An axis without elements is no reason to panic in one form and not in the other.
#[test]
fn of_nothing_comes_nothing() {
    in_both_forms(|dtype| {
        let x = |shape: [usize; 2]| zeros(dtype, shape);
        let (d_gate, d_up) = gated_backward(Gate::Silu, x([0, 4]), x([0, 4]), x([0, 4]));
        assert_eq!((d_gate.dims(), d_up.dims()), ([0, 4], [0, 4]));
        assert_eq!(gated(Gate::Silu, &x([3, 0]), &x([3, 0])).dims(), [3, 0]);
        assert_eq!(rms_norm(&x([0, 4]), &x([1, 4]), 1e-5).dims(), [0, 4]);
        let onto = Some(x([0, 4]));
        let dx = rms_norm_backward(&x([0, 4]), &x([1, 4]), 1e-5, x([0, 4]), onto);
        assert_eq!(dx.dims(), [0, 4]);
        let none = Rotation::new(&[], &[1.0], &Device::flex());
        assert_eq!(none.apply(x([0, 4])).dims(), [0, 4]);
        let two = Rotation::new(&[0, 1], &[1.0], &Device::flex());
        assert_eq!(two.apply(x([2, 0])).dims(), [2, 0]);
        let steered =
            |p, sigma, preferences| steer(x(p), &x(sigma), &x([1, 1]), &x(preferences), 1.0).dims();
        assert_eq!(steered([0, 3], [1, 2], [0, 1]), [0, 3]);
        assert_eq!(steered([2, 2], [1, 2], [2, 0]), [2, 2]);
        let cache = zeros(dtype, [3, 2, 9, 4]);
        let no_rows = CacheRows::new(vec![], &Device::flex());
        let decoded = attention_decode(x([0, 24]), &cache, &cache, &no_rows, HEADS);
        assert_eq!(decoded.dims(), [0, 24]);
        assert_eq!(
            write_cache(cache, &x([0, 8]), &no_rows).dims(),
            [3, 2, 9, 4]
        );
        for [m, k, n] in [[0, 3, 2], [2, 3, 0], [0, 0, 0]] {
            assert_eq!(matmul(&x([m, k]), &x([k, n])).dims(), [m, n]);
            assert_eq!(matmul_add(x([m, n]), &x([m, k]), &x([k, n])).dims(), [m, n]);
        }
    });
    // A packed weight without rows, too.
    let (x, dense) = (zeros(DType::F32, [2, 64]), zeros(DType::F32, [0, 64]));
    let packed = PackedMatrix::pack(&dense, Bits::Four).expect("whole blocks");
    for weight in [Weight::Packed(&packed), Weight::Integers(&packed)] {
        assert_eq!(linear_each(&x, &[weight])[0].dims(), [2, 0]);
        let no_columns = zeros(DType::F32, [2, 0]);
        assert_eq!(linear_add(no_columns.clone(), &x, weight).dims(), [2, 0]);
        let dx = linear_backward(&no_columns, weight, None);
        assert_eq!(dx.dims(), [2, 64]);
        assert_eq!(dx.sum().into_scalar::<f32>(), 0.0);
    }
    assert!(linear_each(&x, &[]).is_empty());
}
