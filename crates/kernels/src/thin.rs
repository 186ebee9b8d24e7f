//! x Wᵀ for a few rows x, as in decoding: W is read once, in its own order, and nothing is packed.
//!
//! A general product copies W into panels first, which costs more than the product itself where x has few rows.

use std::mem::MaybeUninit;

use pulp::{Arch, Simd, WithSimd};

use crate::fresh;
use crate::host::Matrix;
use crate::packed::{self, PackedMatrix};
use crate::team;

/// Rows of x up to which reading W in its own order is the fastest.
pub(crate) const MOST_ROWS: usize = 16;

/// Columns below which the vectors of a row are too few.
pub(crate) const FEWEST_COLUMNS: usize = 64;

/// Elements of W below which a product stays on one thread.
const PARALLEL: usize = 1 << 16;

/// Rows of x that a tile takes: with 2 rows of W that is 8 sums, which stay in registers.
const TILE: usize = 4;

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
        let count = count.div_ceil(runs);
        for (i, out) in spare.chunks_mut(count * rows).enumerate() {
            let first = i * count;
            tasks.push((w, first, out));
        }
    }
    let run = |(w, first, out): (Weight<'_>, usize, &mut [MaybeUninit<f32>])| match w {
        Weight::Dense(w) => {
            let w = w.part(first, out.len() / rows);
            Arch::new().dispatch(Product::new(x, w, scale, out));
        }
        Weight::Packed(w) => PackedProduct {
            x,
            w,
            first,
            scale,
            out,
        }
        .run(),
    };
    if runs == 1 {
        tasks.into_iter().for_each(run);
    } else {
        team::for_each(tasks, run);
    }
    for (count, out) in counts.into_iter().zip(&mut outs) {
        // SAFETY: `spare` has checked that the capacity is there. It was cut into the `out` of tasks, all of it, and
        // every task has been run, or this line is not reached. A task with a dense W is a `Product`, which writes
        // each element of its `out`; one with a packed W cuts its `out` into those of such products.
        unsafe { out.set_len(count * rows) };
    }
    outs
}

/// [`Product`] with a packed W, from its row `first` on: two rows at a time are unpacked, into the nearest cache.
struct PackedProduct<'a, 'o> {
    x: Matrix<'a>,
    w: &'a PackedMatrix,
    first: usize,
    scale: f32,
    out: &'o mut [MaybeUninit<f32>],
}

impl PackedProduct<'_, '_> {
    fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = pulp::x86::V3::try_new() {
            return avx2.vectorize(OnAvx2(avx2, self));
        }
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn with_unpacking<S: Simd>(self, simd: S, eight: impl Fn(u64, f32, f32) -> [f32; 8] + Copy) {
        let [rows, columns] = self.x.shape();
        let mut unpacked = vec![0.0; 2 * columns];
        for (pair, out) in self.out.chunks_mut(2 * rows).enumerate() {
            let count = out.len() / rows;
            let each = unpacked.chunks_exact_mut(columns).take(count);
            for (i, unpacked) in each.enumerate() {
                (self.w).unpack_row(self.first + 2 * pair + i, unpacked, eight);
            }
            let w = Matrix::new(&unpacked, [count, columns], [columns, 1]);
            Product::new(self.x, w, self.scale, out).with_simd(simd);
        }
    }
}

impl WithSimd for PackedProduct<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.with_unpacking(simd, packed::eight);
    }
}

/// Converts bytes to floats by AVX2: no compiler has vectorised that on its own, and scalar code takes ten times as
/// long.
#[cfg(target_arch = "x86_64")]
struct OnAvx2<'a, 'o>(pulp::x86::V3, PackedProduct<'a, 'o>);

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for OnAvx2<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(avx2, product) = self;
        product.with_unpacking(
            avx2,
            #[inline(always)]
            |codes: u64, d: f32, m: f32| {
                let bytes: pulp::u8x16 = pulp::cast([codes, 0]);
                let codes = avx2.convert_i32x8_to_f32x8(avx2.convert_u8x16_to_i32x8(bytes));
                let (d, m) = (avx2.splat_f32x8(d), avx2.splat_f32x8(m));
                pulp::cast(avx2.mul_add_f32x8(d, codes, m))
            },
        );
    }
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

/// Elements of a line of the cache.
const LINE: usize = 16;

/// Asks for the line of the cache that holds the element at `index`, or would hold it; on x86 only.
#[inline(always)]
fn prefetch(values: &[f32], index: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = values.as_ptr().wrapping_add(index);
        // SAFETY: every x86-64 has the instruction. It is a hint: it reads nothing that the program could see, and does
        // not fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, index);
}

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
    // A number that is known when this is compiled: the compiler has to unroll the loop over it.
    let lines = step.div_ceil(LINE);
    for i in 0..n {
        for line in 0..lines {
            prefetch(ahead, i * step + line * LINE);
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
