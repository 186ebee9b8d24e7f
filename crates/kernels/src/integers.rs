//! x Wᵀ for a few rows x and a packed W, by products of integers.
//!
//! W is read and unpacked once, eight rows beside each other, and meets all rows of x while it lies in registers.

use std::mem::MaybeUninit;

use pulp::{Arch, Simd, WithSimd};

use crate::blocks::{Blocks, Q4_0, Q4_1, Q4K, Q6K, Q8_0};
use crate::host::Matrix;
use crate::interleaved::{Factor, Interleaved, takes_words};
use crate::lanes::{FOURS, Lanes, Portable, ROWS};
use crate::packed::PackedMatrix;
use crate::prefetch::{LINE, prefetch};
use crate::rounded::{Activations, Code, Rounded, RoundedBlock, TILE};
#[cfg(target_arch = "x86_64")]
use crate::x86::{Avx2, Sums, Vnni, X86};

/// Rows of x that there is room for.
pub(crate) const MOST_ROWS: usize = 16;

/// x, whose rows are contiguous, rounded for weights of these forms.
pub(crate) fn activations(x: Matrix<'_>, forms: impl Iterator<Item = Blocks>) -> Activations {
    let (words, bytes): (Vec<_>, Vec<_>) = forms.partition(|&form| takes_words(form));
    Activations {
        shape: x.shape(),
        bytes: (!bytes.is_empty()).then(|| Rounded::new(x)),
        words: (!words.is_empty()).then(|| Rounded::new(x)),
    }
}

/// scale · x Wᵀ on one thread for rows of W from `first` on, `[rows of W, rows of x]`. It writes every element of `out`:
/// `in_form` cuts it into the elements of [`ROWS`] rows of W, of which the last may be fewer, and writes for each row of x
/// one element of each of them.
pub(crate) struct PackedProduct<'a, 'o> {
    x: &'a Activations,
    w: &'a PackedMatrix,
    first: usize,
    scale: f32,
    out: &'o mut [MaybeUninit<f32>],
}

impl<'a, 'o> PackedProduct<'a, 'o> {
    /// # Panics
    /// If x has another number of columns than W or more than [`MOST_ROWS`] rows, or `out` is not whole rows of W.
    pub fn new(
        x: &'a Activations,
        w: &'a PackedMatrix,
        first: usize,
        scale: f32,
        out: &'o mut [MaybeUninit<f32>],
    ) -> Self {
        let [rows, columns] = x.shape;
        assert_eq!(columns, w.shape()[1], "the inner axes of a product");
        assert!(rows <= MOST_ROWS, "{rows} rows in a thin product");
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

    /// # Panics
    /// If x is not rounded for the form of W.
    pub fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = Avx2::try_new() {
            return match Vnni::detect() {
                Some(sums) => sums.vectorize(OnX86(X86 { avx2, sums }, self)),
                None => avx2.vectorize(OnX86(X86 { avx2, sums: avx2 }, self)),
            };
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
    fn in_form<F: Factor, L: Lanes>(self, lanes: L) {
        let [rows, _] = self.x.shape;
        let x = F::X::of(self.x).expect("x is rounded for the form of W");
        let end = self.first + self.out.len() / rows;
        for (index, out) in self.out.chunks_mut(ROWS * rows).enumerate() {
            let row = self.first + index * ROWS;
            let ahead = self.w.behind(row + ROWS);
            let w = std::array::from_fn(
                #[inline(always)]
                // Where rows are missing, the last one stands in for them, and its products are left out.
                |j| self.w.row::<F>((row + j).min(end - 1)),
            );
            let sums = products::<F, L>(lanes, x, w, ahead);
            for (r, sums) in sums[..rows].iter().enumerate() {
                let of_row = out[r..].iter_mut().step_by(rows);
                for (out, sum) in of_row.zip(lanes.values(*sums)) {
                    out.write(self.scale * sum);
                }
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
struct OnX86<'a, 'o, S>(X86<S>, PackedProduct<'a, 'o>);

#[cfg(target_arch = "x86_64")]
impl<S: Sums> pulp::NullaryFnOnce for OnX86<'_, '_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(lanes, product) = self;
        product.with_lanes(lanes);
    }
}

/// The dot products of eight rows of W with every row of x.
#[inline(always)]
fn products<F: Factor, L: Lanes>(
    lanes: L,
    x: &Rounded<F::X>,
    [a, b, c, d, e, f, g, h]: [&[F::Block]; ROWS],
    ahead: &[u8],
) -> [L::Floats; MOST_ROWS] {
    let mut sums = [lanes.splat(0.0); MOST_ROWS];
    // The same length for all, so that one check of bounds does for the loop.
    let n = a.len();
    let (b, c, d, e) = (&b[..n], &c[..n], &d[..n], &e[..n]);
    let (f, g, h) = (&f[..n], &g[..n], &h[..n]);
    // Each group prefetches as many bytes of the next eight rows as it reads of these.
    let step = ROWS * size_of::<F::Block>() / F::GROUPS;
    let lines = step.div_ceil(LINE);
    for i in 0..n {
        let blocks = [&a[i], &b[i], &c[i], &d[i], &e[i], &f[i], &g[i], &h[i]];
        F::unpack(
            lanes,
            blocks,
            #[inline(always)]
            |group, weights| {
                let index = i * F::GROUPS + group;
                for line in 0..lines {
                    prefetch(ahead, index * step + line * LINE);
                }
                let (tiles, alone) = x.block(index);
                let (of_tiles, of_alone) = sums.split_at_mut(tiles.len() * TILE);
                for (sums, x) in of_tiles.as_chunks_mut().0.iter_mut().zip(tiles) {
                    add_products::<F, L, TILE>(lanes, sums, &weights, x);
                }
                for (sums, x) in of_alone.as_chunks_mut().0.iter_mut().zip(alone) {
                    add_products::<F, L, 1>(lanes, sums, &weights, x);
                }
            },
        );
    }
    sums
}

/// Adds those of one group with R rows of x.
#[inline(always)]
fn add_products<F: Factor, L: Lanes, const R: usize>(
    lanes: L,
    sums: &mut [L::Floats; R],
    weights: &Interleaved<L>,
    x: &RoundedBlock<F::X, R>,
) {
    if F::HALVES_DIFFER {
        for half in 0..2 {
            let w: &[[L::Bytes; FOURS / 2]] = weights.codes.as_chunks().0;
            let codes = x.codes.each_ref().map(
                #[inline(always)]
                |codes| &codes.as_chunks().0[half],
            );
            let products = F::X::products(lanes, &w[half], codes);
            for r in 0..R {
                let scale = lanes.product(weights.scales[half], lanes.splat(x.scale[r]));
                sums[r] = lanes.plus(sums[r], lanes.product(scale, products[r]));
            }
        }
    } else {
        let products = F::X::products(lanes, &weights.codes, x.codes.each_ref());
        for r in 0..R {
            let scale = lanes.product(weights.scales[0], lanes.splat(x.scale[r]));
            let mut term = lanes.product(scale, products[r]);
            if F::HAS_MINIMA {
                let minima = lanes.product(weights.minima, lanes.splat(x.sum[r]));
                term = lanes.plus(term, minima);
            }
            sums[r] = lanes.plus(sums[r], term);
        }
    }
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

    /// The products with a matrix `[rows, columns]`, which were computed by `with`.
    fn run(
        x: &Activations,
        w: &PackedMatrix,
        with: impl FnOnce(PackedProduct<'_, '_>),
    ) -> Vec<f32> {
        let mut out = vec![MaybeUninit::new(f32::NAN); w.shape()[0] * x.shape[0]];
        with(PackedProduct::new(x, w, 0, 0.5, &mut out));
        // SAFETY: all of them were initialised when the vector was made.
        out.iter().map(|x| unsafe { x.assume_init() }).collect()
    }

    fn rounded(x: &[f32], shape: [usize; 2], form: Blocks) -> Activations {
        let x = Matrix::new(x, shape, [shape[1], 1]);
        activations(x, [form].into_iter())
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    /// Every form that this machine has gives the same bits, and what the numbers that stand there give in 64 bits; x is
    /// off by what [`RoundedBlock`] says.
    fn check(w: &PackedMatrix, rows: usize, x: &[f32]) {
        let [count, columns] = w.shape();
        let rounded = rounded(x, [rows, columns], w.form());
        let found = run(&rounded, w, |product| product.run());
        let portable = run(&rounded, w, |product| product.with_lanes(Portable));
        assert_eq!(bits(&portable), bits(&found), "{w:?} {x:?}");
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = Avx2::try_new() {
            let lanes = X86 { avx2, sums: avx2 };
            let on_avx2 = run(&rounded, w, |product| avx2.vectorize(OnX86(lanes, product)));
            assert_eq!(bits(&portable), bits(&on_avx2), "{w:?} {x:?}");
        }

        let near = rounded.bytes.as_ref().map(Rounded::values);
        let (near, most) = match (near, &rounded.words) {
            (Some(near), None) => (near, 127.0),
            (None, Some(words)) => (words.values(), 32767.0),
            _ => panic!("x is rounded in one way for one form"),
        };
        for (x, near) in x.chunks(32).zip(near.chunks(32)) {
            let largest = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let limit = largest * (0.5 / most + 0.25f32.powi(11));
            for (x, near) in x.iter().zip(near) {
                assert!((x - near).abs() <= limit, "{x} {near}");
            }
        }
        let weights = w.unpack();
        for (row, near) in near.chunks(columns).enumerate() {
            for (i, w) in weights.chunks(columns).enumerate() {
                let terms = w
                    .iter()
                    .zip(near)
                    .map(|(&w, &x)| f64::from(w) * f64::from(x));
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| {
                    (sum + term, size + term.abs())
                });
                let found = f64::from(found[i * rows + row]);
                // A minimum is multiplied apart from the codes, so both may be larger than their sum.
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
        assert_eq!(weights.len(), count * columns);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn products_of_integers_are_the_same_in_both_forms_and_near_those_of_floats(
            form in prop::sample::select(&FORMS[..]),
            (rows, count, blocks) in (1..=MOST_ROWS, 1usize..20, 1usize..4),
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
            let products = run(&rounded(&x, [5, 64], w.form()), &w, |product| product.run());
            for (i, product) in products.iter().enumerate() {
                let meets = [0, 4].contains(&(i % 5));
                assert_eq!(product.is_nan(), is_nan && meets, "{i} {product}");
                assert!(product.is_nan() || product.abs() < 1e-36);
            }
        }
    }

    #[test]
    fn a_row_alone_has_the_products_it_has_among_others() {
        for form in FORMS {
            let (columns, count) = (256 * 3, 13);
            let size = count * columns / form.weights() * form.bytes();
            let w = packed(
                form,
                [count, columns],
                (0..size).map(|i| (i * 37 % 251) as u8).collect(),
            );
            let x: Vec<f32> = (0..7 * columns)
                .map(|i| ((i * 31 % 101) as f32).sin())
                .collect();
            let together = run(&rounded(&x, [7, columns], form), &w, |product| {
                product.run()
            });
            for (row, x) in x.chunks(columns).enumerate() {
                let alone = run(&rounded(x, [1, columns], form), &w, |product| product.run());
                for (i, alone) in alone.iter().enumerate() {
                    assert_eq!(*alone, together[i * 7 + row]);
                }
            }
        }
    }

    /// How far rounding x moves the products, with `--nocapture`: root mean squares.
    #[test]
    fn products_are_off_by_what_rounding_x_makes() {
        use rand::{RngExt, SeedableRng};
        let mut numbers = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let (rows, count, columns) = (4, 40, 1536);
        // Sums of 12 numbers are nearly normal.
        let mut normal = || (0..12).map(|_| numbers.random::<f32>() - 0.5).sum::<f32>();
        let x: Vec<f32> = (0..rows * columns).map(|_| normal()).collect();
        for form in FORMS {
            let size = count * columns / form.weights() * form.bytes();
            let bytes = (0..size).map(|_| numbers.random()).collect();
            let w = packed(form, [count, columns], bytes);
            let found = run(&rounded(&x, [rows, columns], form), &w, |p| p.run());
            let (mut error, mut size) = (0.0, 0.0);
            for (i, w) in w.unpack().chunks(columns).enumerate() {
                for (row, x) in x.chunks(columns).enumerate() {
                    let terms = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
                    let exact = 0.5 * terms.sum::<f64>();
                    error += (f64::from(found[i * rows + row]) - exact).powi(2);
                    size += exact.powi(2);
                }
            }
            let relative = (error / size).sqrt();
            println!("{form:?}: {:.4} %", 100.0 * relative);
            let limit = if takes_words(form) { 5e-5 } else { 1e-2 };
            assert!(0.0 < relative && relative < limit, "{form:?}: {relative}");
        }
    }

    #[test]
    fn rows_from_any_on_have_the_products_that_they_have_among_all() {
        let (columns, count) = (64, 21);
        let bytes = (0..count * 2 * 34).map(|i| (i * 37 % 251) as u8).collect();
        let w = packed(Blocks::Q8_0, [count, columns], bytes);
        let x: Vec<f32> = (0..2 * columns).map(|i| (i as f32).sin()).collect();
        let x = rounded(&x, [2, columns], w.form());
        let all = run(&x, &w, |product| product.run());
        for first in [1, 8, 20] {
            let mut out = vec![MaybeUninit::new(f32::NAN); (count - first) * 2];
            PackedProduct::new(&x, &w, first, 0.5, &mut out).run();
            // SAFETY: all of them were initialised when the vector was made.
            let part: Vec<f32> = out.iter().map(|x| unsafe { x.assume_init() }).collect();
            assert_eq!(part, all[first * 2..]);
        }
    }
}
