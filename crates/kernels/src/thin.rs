//! x Wᵀ for a few rows x, as in decoding: W is read once, in its own order, and nothing is packed.
//!
//! A general product copies W into panels first, which costs more than the product itself where x has few rows.

use std::mem::MaybeUninit;

use pulp::{Arch, Simd, WithSimd};

use crate::blocks::{Blocks, Format, Q4_0, Q4_1, Q4K, Q6K, Q8_0};
use crate::fresh;
use crate::host::Matrix;
#[cfg(target_arch = "x86_64")]
use crate::lanes::Avx2;
use crate::lanes::{Lanes, Portable};
use crate::packed::PackedMatrix;
use crate::rounded::{Rounded, RoundedBlock, TILE};
use crate::team;

/// Rows of x up to which reading W in its own order is the fastest.
pub(crate) const MOST_ROWS: usize = 16;

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
        let count = count.div_ceil(runs);
        for (i, out) in spare.chunks_mut(count * rows).enumerate() {
            let first = i * count;
            tasks.push((w, first, out));
        }
    }
    let is_packed = |w: &Weight<'_>| matches!(w, Weight::Packed(_));
    let rounded = weights.iter().any(is_packed).then(|| Rounded::new(x));
    let run = |(w, first, out): (Weight<'_>, usize, &mut [MaybeUninit<f32>])| match (w, &rounded) {
        (Weight::Dense(w), _) => {
            let w = w.part(first, out.len() / rows);
            Arch::new().dispatch(Product::new(x, w, scale, out));
        }
        (Weight::Packed(w), Some(x)) => PackedProduct::new(x, w, first, scale, out).run(),
        (Weight::Packed(_), None) => unreachable!("x is rounded for every packed W"),
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

/// [`Product`] with a packed W, from its row `first` on, and x rounded to 8 bits: products of integers. It writes every
/// element of `out`: `run` takes each row of W once, the odd last one alone, and `rows_of_w` each row of x with it, in the
/// order of [`Rounded`]; `tile` writes the element of each such pair at its own place, and `new` has seen that `out` has
/// no more places than there are pairs.
struct PackedProduct<'a, 'o> {
    x: &'a Rounded,
    w: &'a PackedMatrix,
    first: usize,
    scale: f32,
    out: &'o mut [MaybeUninit<f32>],
}

impl<'a, 'o> PackedProduct<'a, 'o> {
    fn new(
        x: &'a Rounded,
        w: &'a PackedMatrix,
        first: usize,
        scale: f32,
        out: &'o mut [MaybeUninit<f32>],
    ) -> Self {
        let [rows, columns] = x.shape();
        assert_eq!(columns, w.shape()[1], "the inner axes of a product");
        assert!(
            out.len().is_multiple_of(rows),
            "the elements of a thin product"
        );
        Self {
            x,
            w,
            first,
            scale,
            out,
        }
    }

    fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = Avx2::try_new() {
            return avx2.vectorize(OnAvx2(avx2, self));
        }
        Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn with_lanes<L: Lanes>(self, lanes: L) {
        match self.w.form() {
            Blocks::Q8_0 => self.in_form::<Q8_0, L>(lanes),
            Blocks::Q4_0 => self.in_form::<Q4_0, L>(lanes),
            Blocks::Q4_1 => self.in_form::<Q4_1, L>(lanes),
            Blocks::Q4K => self.in_form::<Q4K, L>(lanes),
            Blocks::Q6K => self.in_form::<Q6K, L>(lanes),
        }
    }

    #[inline(always)]
    fn in_form<F: Format, L: Lanes>(mut self, lanes: L) {
        let count = self.out.len() / self.x.shape()[0];
        let paired = count / 2 * 2;
        for row in (0..paired).step_by(2) {
            self.rows_of_w::<F, L, 2>(lanes, row);
        }
        for row in paired..count {
            self.rows_of_w::<F, L, 1>(lanes, row);
        }
    }

    /// Every row of x with J rows of W.
    #[inline(always)]
    fn rows_of_w<F: Format, L: Lanes, const J: usize>(&mut self, lanes: L, first_w: usize) {
        let x = self.x;
        let mut first_x = 0;
        for tile in x.tiles() {
            self.tile::<F, L, TILE, J>(lanes, tile, first_x, first_w);
            first_x += TILE;
        }
        for row in x.alone() {
            self.tile::<F, L, 1, J>(lanes, row, first_x, first_w);
            first_x += 1;
        }
    }

    #[inline(always)]
    fn tile<F: Format, L: Lanes, const R: usize, const J: usize>(
        &mut self,
        lanes: L,
        x: &[RoundedBlock<R>],
        first_x: usize,
        first_w: usize,
    ) {
        let row = self.first + first_w;
        let w = std::array::from_fn(|j| self.w.row::<F>(row + j));
        let ahead = self.w.behind(row + AHEAD * J);
        let sums = integer_products::<F, L, R, J>(lanes, x, w, ahead);
        for (j, sums) in sums.into_iter().enumerate() {
            let at = (first_w + j) * self.x.shape()[0] + first_x;
            for (out, sum) in self.out[at..at + R].iter_mut().zip(sums) {
                out.write(self.scale * sum);
            }
        }
    }
}

impl WithSimd for PackedProduct<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.with_lanes(Portable);
    }
}

#[cfg(target_arch = "x86_64")]
struct OnAvx2<'a, 'o>(Avx2, PackedProduct<'a, 'o>);

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for OnAvx2<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(avx2, product) = self;
        product.with_lanes(avx2);
    }
}

/// The dot product of every row of W with every row of x.
#[inline(always)]
fn integer_products<F: Format, L: Lanes, const R: usize, const J: usize>(
    lanes: L,
    x: &[RoundedBlock<R>],
    w: [&[F::Block]; J],
    ahead: &[u8],
) -> [[f32; R]; J] {
    let mut sums = [[lanes.halves(0.0, 0.0); R]; J];
    // What the minima add.
    let mut more = [[0.0; R]; J];
    let n = x.len() / F::GROUPS;
    let w = w.map(|w| &w[..n]);
    let step = J * size_of::<F::Block>();
    let lines = step.div_ceil(LINE);
    for (block, x) in x.chunks_exact(F::GROUPS).enumerate() {
        for line in 0..lines {
            prefetch(ahead, block * step + line * LINE);
        }
        for (j, w) in w.iter().enumerate() {
            for (group, x) in x.iter().enumerate() {
                let group = F::group(lanes, &w[block], group);
                for r in 0..R {
                    let scale = lanes.times(group.scale, x.scale[r]);
                    let codes = lanes.load(&x.codes[r]);
                    let sum = &mut sums[j][r];
                    *sum = lanes.add_products(*sum, scale, group.codes, codes, F::SIGNED);
                    if !F::SIGNED {
                        more[j][r] += group.minimum * x.sum[r];
                    }
                }
            }
        }
    }
    std::array::from_fn(|j| std::array::from_fn(|r| lanes.sum(sums[j][r]) + more[j][r]))
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

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Asks for the line of the cache that holds the element at `index`, or would hold it; on x86 only.
#[inline(always)]
fn prefetch<T>(values: &[T], index: usize) {
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

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;

    const FORMS: [Blocks; 5] = [
        Blocks::Q8_0,
        Blocks::Q4_0,
        Blocks::Q4_1,
        Blocks::Q4K,
        Blocks::Q6K,
    ];

    /// A matrix of any bytes, but for its scales.
    fn packed(form: Blocks, [rows, columns]: [usize; 2], mut bytes: Vec<u8>) -> PackedMatrix {
        for (i, block) in bytes.chunks_mut(form.bytes()).enumerate() {
            for (j, &at) in form.floats().iter().enumerate() {
                let scale = f16::from_f32(0.01 * (1 + i % 7) as f32 - 0.03 * j as f32);
                block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        PackedMatrix::from_blocks(form, [rows, columns], bytes).expect("whole blocks")
    }

    fn run<L: Lanes>(lanes: Option<L>, x: &Rounded, w: &PackedMatrix) -> Vec<f32> {
        let mut out = vec![MaybeUninit::new(f32::NAN); w.shape()[0] * x.shape()[0]];
        let product = PackedProduct::new(x, w, 0, 0.5, &mut out);
        match lanes {
            Some(lanes) => product.with_lanes(lanes),
            None => product.run(),
        }
        // SAFETY: all of them were initialised when the vector was made.
        out.iter().map(|x| unsafe { x.assume_init() }).collect()
    }

    /// Both forms give the same bits, and what the numbers that stand there give in 64 bits; x is off by what
    /// [`RoundedBlock`] says.
    fn check(w: &PackedMatrix, rows: usize, x: &[f32]) {
        let [count, columns] = w.shape();
        let matrix = Matrix::new(x, [rows, columns], [columns, 1]);
        let rounded = Rounded::new(matrix);
        let portable = run(Some(Portable), &rounded, w);
        let chosen = run(None::<Portable>, &rounded, w);
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&portable), bits(&chosen), "{w:?} {x:?}");

        let (weights, near) = (w.unpack(), rounded.values());
        for row in 0..rows {
            let at = row * columns;
            let (x, near) = (&x[at..at + columns], &near[at..at + columns]);
            for (x, near) in x.chunks(32).zip(near.chunks(32)) {
                let largest = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                for (x, near) in x.iter().zip(near) {
                    assert!(
                        (x - near).abs() <= largest / 254.0 * (1.0 + 1e-4),
                        "{x} {near}"
                    );
                }
            }
            for i in 0..count {
                let w = &weights[i * columns..(i + 1) * columns];
                let terms = w
                    .iter()
                    .zip(near)
                    .map(|(&w, &x)| f64::from(w) * f64::from(x));
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| {
                    (sum + term, size + term.abs())
                });
                let found = f64::from(chosen[i * rows + row]);
                // A minimum is summed apart from the codes, so the sums may be larger than their difference.
                let parts: f64 = near.iter().map(|x| f64::from(x.abs())).sum();
                let largest = weights.iter().fold(0.0f32, |most, w| most.max(w.abs()));
                let tolerance = 2e-6 * (size + parts * (1.0 + f64::from(largest)));
                assert!(
                    (found - 0.5 * sum).abs() <= tolerance,
                    "{found} {}",
                    0.5 * sum
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn products_of_integers_are_the_same_in_both_forms_and_near_those_of_floats(
            form in prop::sample::select(&FORMS[..]),
            (rows, count, blocks) in (1..=MOST_ROWS, 1usize..6, 1usize..4),
            seed in any::<u64>(),
            scale in prop::sample::select(&[1.0f32, 1e-4, 1e4][..]),
        ) {
            use rand::{RngExt, SeedableRng};
            let mut numbers = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let columns = blocks * form.weights();
            let bytes = (0..count * blocks * form.bytes()).map(|_| numbers.random()).collect();
            let w = packed(form, [count, columns], bytes);
            let x: Vec<f32> = (0..rows * columns)
                .map(|i| {
                    // A block of zeros now and then.
                    let is_zero = (i / 32).wrapping_add(seed as usize) % 5 == 0;
                    if is_zero { 0.0 } else { scale * (numbers.random::<f32>() - 0.5) }
                })
                .collect();
            check(&w, rows, &x);
        }
    }

    #[test]
    fn codes_at_their_limits_do_not_overflow() {
        for form in FORMS {
            for byte in [0, 0x0f, 0x7f, 0x80, 0x81, 0xf0, 0xff] {
                let columns = 256;
                let bytes = vec![byte; 3 * columns / form.weights() * form.bytes()];
                let w = packed(form, [3, columns], bytes);
                for sign in [1.0f32, -1.0] {
                    check(&w, 5, &vec![2.5 * sign; 5 * columns]);
                    let turns: Vec<f32> = (0..5 * columns)
                        .map(|i| if i % 2 == 0 { sign } else { -sign })
                        .collect();
                    check(&w, 5, &turns);
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_makes_nan_and_what_is_tiny_nothing() {
        let w = packed(Blocks::Q8_0, [2, 64], vec![3; 2 * 2 * 34]);
        for (bad, is_nan) in [
            (f32::NAN, true),
            (f32::from_bits(0xffff_ffff), true),
            (f32::INFINITY, true),
            (f32::NEG_INFINITY, true),
            (f32::MIN_POSITIVE / 4.0, false),
        ] {
            let mut x = vec![0.0; 5 * 64];
            x[40] = bad;
            x[4 * 64 + 63] = bad;
            let rounded = Rounded::new(Matrix::new(&x, [5, 64], [64, 1]));
            let products = run(None::<Portable>, &rounded, &w);
            for (i, product) in products.iter().enumerate() {
                let meets = [0, 4].contains(&(i % 5));
                assert_eq!(product.is_nan(), is_nan && meets, "{i} {product}");
                assert!(product.is_nan() || product.abs() < 1e-36);
            }
        }
    }

    #[test]
    fn a_row_alone_has_the_products_it_has_among_others() {
        let bytes: Vec<u8> = (0..7 * 18 * 20).map(|i| (i * 37 % 251) as u8).collect();
        let w = packed(Blocks::Q4_1, [7, 576], bytes);
        let x: Vec<f32> = (0..7 * 576)
            .map(|i| ((i * 31 % 101) as f32).sin())
            .collect();
        let together = Rounded::new(Matrix::new(&x, [7, 576], [576, 1]));
        let together = run(None::<Portable>, &together, &w);
        for (row, x) in x.chunks(576).enumerate() {
            let alone = Rounded::new(Matrix::new(x, [1, 576], [576, 1]));
            for (i, alone) in run(None::<Portable>, &alone, &w).iter().enumerate() {
                assert_eq!(*alone, together[i * 7 + row]);
            }
        }
    }
}
