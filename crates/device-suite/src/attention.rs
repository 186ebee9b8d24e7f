//! Attention: over segments, with prefixes and within windows, and of rows that are decoded one by one.

use burn_tensor::{Device, Tensor};
use panacea_kernels::{
    CacheRow, CacheRows, Heads, Segment, Visibility, attention, attention_backward,
    attention_decode, write_cache,
};

use crate::near::{assert_as_on_the_cpu, lying_transposed, lying_wide};
use crate::{Check, named};

pub const CHECKS: &[Check] = named!["attention": attention_is_as_on_the_cpu, attention_behind_given_rows_is_as_on_the_cpu, decoding_is_as_on_the_cpu];

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

fn attention_is_as_on_the_cpu(device: &Device) {
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
        assert_as_on_the_cpu(device, &what, |device, mut noise| {
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

fn attention_behind_given_rows_is_as_on_the_cpu(device: &Device) {
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
        assert_as_on_the_cpu(device, &what, |device, mut noise| {
            let visibility = Visibility::behind(given, of.clone(), heads, window, device);
            let rows = of.last().expect("there are some").own.end;
            let q = noise.tensor([rows - given, 30], device) * 3.0;
            let [k, v] = [(); 2].map(|()| noise.tensor([rows, 10], device) * 3.0);
            let (out, log_sum) = attention(&q, &k, &v, &visibility);
            vec![out, log_sum]
        });
    }
}

fn decoding_is_as_on_the_cpu(device: &Device) {
    for (kv, group, dim, columns) in [
        (1, 1, 1, 1),
        (3, 2, 20, 9),
        (2, 3, 64, 700),
        (1, 2, 250, 40),
    ] {
        let heads = Heads { kv, group, dim };
        let what = format!("{heads:?}, {columns} columns");
        assert_as_on_the_cpu(device, &what, |device, mut noise| {
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
