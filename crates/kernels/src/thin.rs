//! x Wᵀ for a few rows x, as in decoding: W is read once, in its own order, and nothing is packed.
//!
//! A general product copies W into panels first, which costs more than the product itself where x has few rows.

use std::mem::MaybeUninit;

use pulp::{Arch, Simd, WithSimd};

use crate::fresh;
use crate::host::Matrix;
use crate::integers::{self, PackedProduct};
use crate::lanes::ROWS;
use crate::packed::PackedMatrix;
use crate::prefetch::{LINE, prefetch};
use crate::rounded::TILE;
use crate::team;

/// Rows of x up to which reading W in its own order is the fastest.
pub(crate) const MOST_ROWS: usize = integers::MOST_ROWS;

/// Columns below which the vectors of a row are too few.
pub(crate) const FEWEST_COLUMNS: usize = 64;

/// Elements of W below which a product stays on one thread.
const PARALLEL: usize = 1 << 16;

/// W `[n, k]`.
#[derive(Clone, Copy)]
pub(crate) enum Weight<'a> {
    /// Its rows are contiguous.
    Dense(Matrix<'a>),
    Packed(&'a PackedMatrix),
}

impl<'a> Weight<'a> {
    /// `[n, k]`
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(matrix) => matrix.shape(),
            Self::Packed(matrix) => matrix.shape(),
        }
    }
}

/// scale · x Wᵀ for every W, x `[rows, k]` with contiguous rows and W `[n, k]`: n runs of `rows` elements, that is
/// `[n, rows]`. The threads are woken once for all of them.
///
/// # Panics
/// If x or a W has no row, or their columns differ.
pub(crate) fn products(x: Matrix<'_>, weights: &[Weight<'_>], scale: f32) -> Vec<Vec<f32>> {
    let [rows, columns] = x.shape();
    for w in weights {
        assert_eq!(columns, w.shape()[1], "the inner axes of a product");
        assert!(rows > 0 && w.shape()[0] > 0, "a product without rows");
    }
    let counts: Vec<usize> = weights.iter().map(|w| w.shape()[0]).collect();
    let work = columns * counts.iter().sum::<usize>();
    // Two runs of each W a thread: long enough to read ahead, short enough to even out.
    let runs = if work < PARALLEL {
        1
    } else {
        2 * rayon::current_num_threads()
    };
    let space = |&count: &usize| Vec::with_capacity(fresh::elements([count, rows]));
    let mut outs: Vec<Vec<f32>> = counts.iter().map(space).collect();
    let mut tasks = Vec::with_capacity(weights.len() * runs);
    for ((&w, &count), out) in weights.iter().zip(&counts).zip(&mut outs) {
        let spare = fresh::spare(out, count * rows);
        // Products with packed weights take whole lanes of rows.
        let count = match w {
            Weight::Dense(_) => count.div_ceil(runs),
            Weight::Packed(_) => count.div_ceil(runs).next_multiple_of(ROWS),
        };
        for (i, out) in spare.chunks_mut(count * rows).enumerate() {
            let first = i * count;
            tasks.push((w, first, out));
        }
    }
    let forms = weights.iter().filter_map(|w| match w {
        Weight::Dense(_) => None,
        Weight::Packed(w) => Some(w.form()),
    });
    let rounded = integers::activations(x, forms);
    let run = |(w, first, out): (Weight<'_>, usize, &mut [MaybeUninit<f32>])| match w {
        Weight::Dense(w) => {
            let w = w.part(first, out.len() / rows);
            Arch::new().dispatch(Product::new(x, w, scale, out));
        }
        Weight::Packed(w) => PackedProduct::new(&rounded, w, first, scale, out).run(),
    };
    if runs == 1 {
        tasks.into_iter().for_each(run);
    } else {
        team::for_each(tasks, run);
    }
    for (count, out) in counts.into_iter().zip(&mut outs) {
        // SAFETY: `spare` has checked that the capacity is there. It was cut into the `out` of tasks, all of it, and
        // every task has been run, or this line is not reached. A task is a `Product` or a `PackedProduct`, which
        // write each element of their `out`.
        unsafe { out.set_len(count * rows) };
    }
    outs
}

/// scale · x Wᵀ on one thread, `[rows of W, rows of x]`. It writes every element of `out`: `with_simd` takes each row of
/// W once, the odd last one alone, and `rows_of_w` each row of x with it; `tile` writes the element of each such pair at
/// its own place, and `out` has no more places than there are pairs.
struct Product<'a, 'o> {
    x: Matrix<'a>,
    w: Matrix<'a>,
    scale: f32,
    out: &'o mut [MaybeUninit<f32>],
}

impl<'a, 'o> Product<'a, 'o> {
    #[inline(always)]
    fn new(x: Matrix<'a>, w: Matrix<'a>, scale: f32, out: &'o mut [MaybeUninit<f32>]) -> Self {
        let ([rows, _], [count, _]) = (x.shape(), w.shape());
        assert_eq!(out.len(), count * rows, "the elements of a thin product");
        Self { x, w, scale, out }
    }
}

impl WithSimd for Product<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let [count, _] = self.w.shape();
        let paired = count / 2 * 2;
        for row in (0..paired).step_by(2) {
            self.rows_of_w::<S, 2>(simd, row);
        }
        for row in paired..count {
            self.rows_of_w::<S, 1>(simd, row);
        }
    }
}

impl Product<'_, '_> {
    /// Every row of x with J rows of W.
    #[inline(always)]
    fn rows_of_w<S: Simd, const J: usize>(&mut self, simd: S, first_w: usize) {
        let [count, _] = self.x.shape();
        let whole = count / TILE * TILE;
        for first_x in (0..whole).step_by(TILE) {
            self.tile::<S, TILE, J>(simd, first_x, first_w);
        }
        for first_x in whole..count {
            self.tile::<S, 1, J>(simd, first_x, first_w);
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const J: usize>(
        &mut self,
        simd: S,
        first_x: usize,
        first_w: usize,
    ) {
        let x = std::array::from_fn(|r| self.x.row(first_x + r));
        let w = std::array::from_fn(|j| self.w.row(first_w + j));
        let ahead = self.w.behind(first_w + AHEAD * J);
        let sums = dot_products::<S, R, J>(simd, x, w, ahead);
        for (j, sums) in sums.into_iter().enumerate() {
            let at = (first_w + j) * self.x.shape()[0] + first_x;
            for (out, sum) in self.out[at..at + R].iter_mut().zip(sums) {
                out.write(self.scale * sum);
            }
        }
    }
}

/// How many turns ahead rows of W are prefetched: the processor's own prefetcher starts anew with every row.
const AHEAD: usize = 4;

/// The dot product of every row of W with every row of x.
#[inline(always)]
fn dot_products<S: Simd, const R: usize, const J: usize>(
    simd: S,
    x: [&[f32]; R],
    w: [&[f32]; J],
    ahead: &[f32],
) -> [[f32; R]; J] {
    let x = x.map(S::as_simd_f32s);
    let w = w.map(S::as_simd_f32s);
    // The same length for all, so that one check of bounds does for the loop.
    let n = w[0].0.len();
    let x_vectors = x.map(|(vectors, _)| &vectors[..n]);
    let w_vectors = w.map(|(vectors, _)| &vectors[..n]);
    let mut sums = [[simd.splat_f32s(0.0); R]; J];
    // A turn prefetches as many elements of `ahead` as it reads of W.
    let step = J * size_of::<S::f32s>() / size_of::<f32>();
    let line_elements = LINE / size_of::<f32>();
    // A number that is known when this is compiled: the compiler has to unroll the loop over it.
    let lines = step.div_ceil(line_elements);
    for i in 0..n {
        for line in 0..lines {
            prefetch(ahead, i * step + line * line_elements);
        }
        for (sums, w) in sums.iter_mut().zip(w_vectors) {
            for (sum, x) in sums.iter_mut().zip(x_vectors) {
                *sum = simd.mul_add_e_f32s(w[i], x[i], *sum);
            }
        }
    }
    let mut out = [[0.0; R]; J];
    for (j, out) in out.iter_mut().enumerate() {
        for (r, out) in out.iter_mut().enumerate() {
            let rest: f32 = w[j].1.iter().zip(x[r].1).map(|(w, x)| w * x).sum();
            *out = simd.reduce_sum_f32s(sums[j][r]) + rest;
        }
    }
    out
}
