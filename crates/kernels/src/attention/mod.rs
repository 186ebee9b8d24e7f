//! Causal grouped-query attention over packed segments, and its gradient.
//!
//! Every segment's queries see its prefix and, causally, itself. Forward keeps one number per query and
//! head, the logarithm of the softmax's denominator; backward computes the weights again from it
//! (Dao et al., "FlashAttention", 2022, section 3.1), so that attention weights are never kept.

use std::borrow::Cow;
use std::ops::Range;

use burn_tensor::{Device, Tensor};

use crate::shape;

use portable::Blocks;

mod decode;
#[cfg(feature = "gpu")]
mod on_gpu;
#[cfg(feature = "flex")]
mod on_host;
mod portable;

pub use decode::{CacheRow, CacheRows, attention_decode, write_cache};

/// Numbers of heads and their width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Key/value heads.
    pub kv: usize,
    /// Query heads per key head.
    pub group: usize,
    /// Width of a head.
    pub dim: usize,
}

/// A run of rows that attend to a prefix and, causally, to themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Rows of the prefix in front of it; empty, or exactly the rows of an earlier segment that has none, or rows that have keys
    /// and values only ([`Visibility::behind`]).
    pub prefix: Range<usize>,
    /// Its own rows.
    pub own: Range<usize>,
}

/// Who sees whom in a packed batch.
#[derive(Debug, Clone)]
pub struct Visibility {
    segments: Vec<Segment>,
    /// Rows in front of all segments that have keys and values and no queries.
    given: usize,
    heads: Heads,
    window: Option<usize>,
    /// The segments as composed operations take them; `None` where the loops of the CPU need nothing but positions, and where
    /// kernels of our own compute.
    blocks: Option<Blocks>,
    /// The segments as kernels of our own take them, where there is a GPU.
    #[cfg(feature = "gpu")]
    on_gpu: Option<on_gpu::Blocks>,
}

impl Visibility {
    /// `segments` follow each other without a gap, and those that share a prefix stand behind it and next
    /// to each other. Keys `window` or more positions back are hidden where the model has a window.
    ///
    /// # Panics
    /// If the segments do not lie so, a window or one of the numbers of `heads` is 0, or they are too many to be counted.
    pub fn new(
        segments: Vec<Segment>,
        heads: Heads,
        window: Option<usize>,
        device: &Device,
    ) -> Self {
        Self::behind(0, segments, heads, window, device)
    }

    /// As [`Visibility::new`], where keys and values have `given` rows more than queries have: those in front, whose keys and
    /// values were computed before. Segments begin behind them, and the prefix of each may be any of them. There is no backward
    /// pass.
    ///
    /// # Panics
    /// As [`Visibility::new`].
    pub fn behind(
        given: usize,
        segments: Vec<Segment>,
        heads: Heads,
        window: Option<usize>,
        device: &Device,
    ) -> Self {
        let operation = "Visibility::new";
        heads.check(operation);
        shape::some(operation, "`window`", window.unwrap_or(1));
        let mut end = given;
        let mut prompt = 0..0;
        for (i, Segment { prefix, own }) in segments.iter().enumerate() {
            assert!(
                own.start == end && own.start <= own.end,
                "{operation}: `segments[{i}].own` is {own:?}, expected a range from {end} on: segments follow each other"
            );
            end = own.end;
            if prefix.is_empty() {
                prompt = own.clone();
            } else if prefix.end > given {
                assert!(
                    *prefix == prompt,
                    "{operation}: `segments[{i}].prefix` is {prefix:?}, expected nothing or {prompt:?}, the last segment \
                     without one"
                );
            }
        }
        let mut visibility = Self {
            segments,
            given,
            heads,
            window,
            blocks: None,
            #[cfg(feature = "gpu")]
            on_gpu: None,
        };
        // Empty segments have neither queries nor keys.
        visibility
            .segments
            .retain(|segment| !segment.own.is_empty());
        if is_cpu(device) {
            return visibility;
        }
        #[cfg(feature = "gpu")]
        {
            visibility.on_gpu =
                on_gpu::Blocks::new(given, &visibility.segments, heads, window, device);
            if visibility.on_gpu.is_some() {
                return visibility;
            }
        }
        visibility.build_blocks(device);
        visibility
    }

    /// Rows of the batch.
    fn rows(&self) -> usize {
        let end = self.segments.last().map(|segment| segment.own.end);
        end.map_or(0, |end| end - self.given)
    }

    /// Its blocks, which the loops of the CPU and kernels of our own do without.
    fn blocks(&self, device: &Device) -> Cow<'_, Blocks> {
        match &self.blocks {
            Some(blocks) => Cow::Borrowed(blocks),
            None => {
                let Self {
                    given,
                    heads,
                    window,
                    ..
                } = *self;
                Cow::Owned(Blocks::new(given, &self.segments, heads, window, device))
            }
        }
    }

    /// Whether q, k and v have a row for each of the segments', and columns for the heads.
    fn check(&self, operation: &str, q: &Tensor<2>, k: &Tensor<2>, v: &Tensor<2>) {
        let Heads { kv, dim, .. } = self.heads;
        let queries = self.heads.queries() * dim;
        let of_segments = "as `segments` have together";
        let q_is = [
            (self.rows(), of_segments),
            (queries, "for kv × group × dim of `heads`"),
        ];
        shape::check(operation, "q", q.dims(), q_is);
        let of_keys = match self.given {
            0 => of_segments,
            _ => "as `segments` and what is given have together",
        };
        let k_is = [
            (self.given + self.rows(), of_keys),
            (kv * dim, "for kv × dim of `heads`"),
        ];
        shape::check(operation, "k", k.dims(), k_is);
        shape::check(operation, "v", v.dims(), k_is);
    }

    fn build_blocks(&mut self, device: &Device) {
        self.blocks = Some(self.blocks(device).into_owned());
    }
}

/// Keys that a query at `position` sees, by their positions.
fn visible_keys(position: usize, window: Option<usize>) -> Range<usize> {
    window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1
}

#[cfg(feature = "flex")]
fn is_cpu(device: &Device) -> bool {
    matches!(device.as_dispatch(), burn_dispatch::DispatchDevice::Flex(_))
}

#[cfg(not(feature = "flex"))]
fn is_cpu(_: &Device) -> bool {
    false
}

impl Heads {
    /// Query heads.
    pub fn queries(self) -> usize {
        self.kv * self.group
    }

    fn scale(self) -> f64 {
        1.0 / (self.dim as f64).sqrt()
    }

    /// kv × group × dim, which can be counted and of which none is 0.
    fn check(self, operation: &str) -> usize {
        let Self { kv, group, dim } = self;
        for (name, count) in [("kv", kv), ("group", group), ("dim", dim)] {
            shape::some(operation, format_args!("`heads.{name}`"), count);
        }
        let columns = kv
            .checked_mul(group)
            .and_then(|queries| queries.checked_mul(dim));
        columns.unwrap_or_else(|| panic!("{operation}: `heads` are too many: {self:?}"))
    }
}

/// softmax(q kᵀ / √dim) v of every segment: q `[rows, kv × group × dim]`, k and v `[given + rows, kv × dim]` →
/// (`[rows, kv × group × dim]`, log Σ exp of every query's scores `[rows, kv × group]`).
///
/// # Panics
/// If the shapes are not these, rows being those of the segments.
pub fn attention(
    q: &Tensor<2>,
    k: &Tensor<2>,
    v: &Tensor<2>,
    visibility: &Visibility,
) -> (Tensor<2>, Tensor<2>) {
    visibility.check("attention", q, k, v);
    if visibility.rows() == 0 {
        let log_sum = Tensor::zeros([0, visibility.heads.queries()], (&q.device(), q.dtype()));
        return (q.clone(), log_sum);
    }
    #[cfg(feature = "flex")]
    if visibility.blocks.is_none()
        && let Some(operands) = on_host::Operands::open(q, k, v)
    {
        return on_host::forward(&operands, visibility);
    }
    #[cfg(feature = "gpu")]
    if let Some(blocks) = &visibility.on_gpu
        && let Some(output) = on_gpu::forward(q, k, v, visibility.heads, blocks)
    {
        return output;
    }
    let blocks = visibility.blocks(&q.device());
    portable::forward(q, k, v, visibility.heads, &blocks)
}

/// Gradients at q, k and v, from `d_out` at the output; `out` and `log_sum` are what [`attention`] gave.
///
/// With P the weights of a segment, exp(q kᵀ / √dim − log_sum): ∂v = Pᵀ ∂o, ∂P = ∂o vᵀ,
/// ∂S = P ⊙ (∂P − rowsum(∂o ⊙ o)), ∂q = ∂S k / √dim, ∂k = ∂Sᵀ q / √dim.
///
/// # Panics
/// If the shapes are not those of [`attention`], that of `d_out` being that of `out`, or rows are given.
pub fn attention_backward(
    q: &Tensor<2>,
    k: &Tensor<2>,
    v: &Tensor<2>,
    out: &Tensor<2>,
    log_sum: &Tensor<2>,
    d_out: &Tensor<2>,
    visibility: &Visibility,
) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    let operation = "attention_backward";
    assert!(
        visibility.given == 0,
        "{operation}: {} rows are given, expected none: their keys have no gradient",
        visibility.given
    );
    visibility.check(operation, q, k, v);
    shape::same(operation, "out", out.dims(), q.dims(), "as in `q`");
    shape::same(operation, "d_out", d_out.dims(), q.dims(), "as in `q`");
    let queries = (visibility.heads.queries(), "for kv × group of `heads`");
    let log_sum_is = [(visibility.rows(), "as in `q`"), queries];
    shape::check(operation, "log_sum", log_sum.dims(), log_sum_is);
    if visibility.rows() == 0 {
        return (q.clone(), k.clone(), v.clone());
    }
    #[cfg(feature = "flex")]
    if visibility.blocks.is_none()
        && let Some(operands) = on_host::Operands::open(q, k, v)
        && let Some(result) = on_host::Result::open(out, log_sum, d_out)
    {
        return on_host::backward(&operands, &result, visibility);
    }
    let output = portable::Output {
        out,
        log_sum,
        d_out,
    };
    #[cfg(feature = "gpu")]
    if let Some(blocks) = &visibility.on_gpu
        && let Some(gradients) = on_gpu::backward(q, k, v, &output, visibility.heads, blocks)
    {
        return gradients;
    }
    let blocks = visibility.blocks(&q.device());
    portable::backward(q, k, v, &output, visibility.heads, &blocks)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn_tensor::FloatDType;

    use super::*;
    use crate::test_support::{assert_close, random};

    fn segments() -> Vec<Segment> {
        vec![
            Segment {
                prefix: 0..0,
                own: 0..100,
            },
            Segment {
                prefix: 0..100,
                own: 100..170,
            },
            Segment {
                prefix: 0..100,
                own: 170..171,
            },
            Segment {
                prefix: 0..0,
                own: 171..174,
            },
            Segment {
                prefix: 171..174,
                own: 174..260,
            },
            Segment {
                prefix: 0..0,
                own: 260..330,
            },
        ]
    }

    #[test]
    fn both_forms_agree() {
        let heads = Heads {
            kv: 2,
            group: 3,
            dim: 8,
        };
        // Empty segments among them change nothing.
        let mut with_empty = segments();
        for (i, prefix, at) in [(0, 0..0, 0), (2, 0..100, 100), (8, 0..0, 330)] {
            let own = at..at;
            with_empty.insert(i, Segment { prefix, own });
        }
        for (window, segments) in [
            (None, segments()),
            (Some(5), segments()),
            (Some(90), with_empty),
        ] {
            let device = Device::flex();
            let fused = Visibility::new(segments, heads, window, &device);
            let mut masked = fused.clone();
            masked.build_blocks(&device);
            let (q, k, v) = (random([330, 48]), random([330, 16]), random([330, 16]));
            let d_out = random([330, 48]);
            let (out, log_sum) = attention(&q, &k, &v, &fused);
            let (expected, expected_log_sum) = attention(&q, &k, &v, &masked);
            assert_close("out", &out, &expected);
            assert_close("log_sum", &log_sum, &expected_log_sum);
            let found = attention_backward(&q, &k, &v, &out, &log_sum, &d_out, &fused);
            let expected = attention_backward(&q, &k, &v, &out, &log_sum, &d_out, &masked);
            assert_close("d_q", &found.0, &expected.0);
            assert_close("d_k", &found.1, &expected.1);
            assert_close("d_v", &found.2, &expected.2);
        }
    }

    /// The ends of sequences whose beginnings are given see what they see where the whole sequences are in the batch.
    #[test]
    fn given_rows_are_seen_as_if_they_had_queries() {
        let heads = Heads {
            kv: 2,
            group: 3,
            dim: 8,
        };
        let device = Device::flex();
        // Rows of each sequence, and how many of them are given.
        let sequences = [(100, 70), (9, 0), (130, 1), (70, 69)];
        let (mut whole, mut starts, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        let given = 70 + 1 + 69;
        let (mut ends_at, mut given_before, mut behind) = (given, 0, Vec::new());
        for (length, known) in sequences {
            let first = whole.last().map_or(0, |segment: &Segment| segment.own.end);
            whole.push(Segment {
                prefix: 0..0,
                own: first..first + length,
            });
            starts.extend(first..first + known);
            ends.extend(first + known..first + length);
            behind.push(Segment {
                prefix: given_before..given_before + known,
                own: ends_at..ends_at + length - known,
            });
            given_before += known;
            ends_at += length - known;
        }
        let (q, k, v) = (random([309, 48]), random([309, 16]), random([309, 16]));
        let rows = |x: &Tensor<2>, rows: &[usize]| {
            let [_, width] = x.dims();
            let row = |&row: &usize| x.clone().slice([row..row + 1, 0..width]);
            Tensor::cat(rows.iter().map(row).collect(), 0)
        };
        let reordered = [starts, ends.clone()].concat();
        let own = [&k, &v].map(|x| rows(x, &reordered));
        for window in [None, Some(1), Some(40), Some(90)] {
            let visibility = Visibility::new(whole.clone(), heads, window, &device);
            let (expected, expected_log_sum) = attention(&q, &k, &v, &visibility);
            let fused = Visibility::behind(given, behind.clone(), heads, window, &device);
            let mut masked = fused.clone();
            masked.build_blocks(&device);
            for visibility in [fused, masked] {
                let (out, log_sum) = attention(&rows(&q, &ends), &own[0], &own[1], &visibility);
                assert_close("out", &out, &rows(&expected, &ends));
                assert_close("log_sum", &log_sum, &rows(&expected_log_sum, &ends));
            }
        }
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let heads = Heads {
            kv: 1,
            group: 2,
            dim: 4,
        };
        let segments = vec![
            Segment {
                prefix: 0..0,
                own: 0..3,
            },
            Segment {
                prefix: 0..3,
                own: 3..5,
            },
            Segment {
                prefix: 0..3,
                own: 5..9,
            },
        ];
        let visibility = Visibility::new(segments, heads, None, &Device::flex());
        let inputs = [random([9, 8]), random([9, 4]), random([9, 4])];
        let d_out = random([9, 8]);
        let value = |[q, k, v]: &[Tensor<2>; 3]| -> f64 {
            let (out, _) = attention(q, k, v, &visibility);
            f64::from((out * d_out.clone()).sum().into_scalar::<f32>())
        };
        let [q, k, v] = &inputs;
        let (out, log_sum) = attention(q, k, v, &visibility);
        let (d_q, d_k, d_v) = attention_backward(q, k, v, &out, &log_sum, &d_out, &visibility);
        for (i, gradient) in [d_q, d_k, d_v].into_iter().enumerate() {
            // Along a random direction.
            let direction = random(gradient.dims());
            let expected: f32 = (gradient * direction.clone()).sum().into_scalar();
            let moved = |h: f64| {
                let mut inputs = inputs.clone();
                inputs[i] = inputs[i].clone() + direction.clone() * h;
                value(&inputs)
            };
            let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            let error = (slope - f64::from(expected)).abs();
            assert!(
                error < 5e-3 * (1.0 + slope.abs()),
                "{i}: {expected} against {slope}"
            );
        }
    }

    /// Elements that are not f32 are left to burn, also on the CPU.
    #[test]
    fn doubles_on_the_cpu_are_masked() {
        let heads = Heads {
            kv: 2,
            group: 1,
            dim: 4,
        };
        let segments = || {
            vec![Segment {
                prefix: 0..0,
                own: 0..7,
            }]
        };
        let visibility = Visibility::new(segments(), heads, Some(3), &Device::flex());
        let single = [(); 4].map(|()| random([7, 8]));
        let double = single.clone().map(|x| x.cast(FloatDType::F64));
        let back = |x: Tensor<2>| x.cast(FloatDType::F32);
        let all = |[q, k, v, d_out]: &[Tensor<2>; 4]| {
            let (out, log_sum) = attention(q, k, v, &visibility);
            let (d_q, d_k, d_v) = attention_backward(q, k, v, &out, &log_sum, d_out, &visibility);
            [out, log_sum, d_q, d_k, d_v]
        };
        for (found, expected) in all(&double).into_iter().zip(all(&single)) {
            assert_close("f64", &back(found), &expected);
        }
    }

    #[test]
    fn nothing_is_attended_to_by_no_row() {
        let heads = Heads {
            kv: 1,
            group: 2,
            dim: 3,
        };
        let device = Device::flex();
        let fused = Visibility::new(vec![], heads, None, &device);
        let (q, k) = (
            Tensor::<2>::zeros([0, 6], &device),
            Tensor::<2>::zeros([0, 3], &device),
        );
        let (out, log_sum) = attention(&q, &k, &k, &fused);
        assert_eq!((out.dims(), log_sum.dims()), ([0, 6], [0, 2]));
        let (d_q, d_k, d_v) = attention_backward(&q, &k, &k, &out, &log_sum, &out, &fused);
        assert_eq!(
            (d_q.dims(), d_k.dims(), d_v.dims()),
            ([0, 6], [0, 3], [0, 3])
        );
    }
}
