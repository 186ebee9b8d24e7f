//! Packed matrices as the matrices that they stand for, a panel of rows at a time, so that they are never whole in floats.
//!
//! Unpacking a matrix costs as much as some of the multiplications of one row of x, and all rows of x share it.

use std::ops::Range;

use burn_tensor::{Device, Tensor, TensorData};

use crate::blocks::{Blocks, Format, Q4_0, Q4_1, Q4K, Q6K, Q8_0};
#[cfg(feature = "flex")]
use crate::host::{self, Matrix, Write};
use crate::lanes::{BLOCK, Portable};
use crate::packed::PackedMatrix;

/// Some rows of a packed matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    matrix: &'a PackedMatrix,
    first: usize,
    count: usize,
}

impl PackedMatrix {
    /// The matrix that it stands for, row by row.
    pub fn unpack(&self) -> Vec<f32> {
        self.all_rows().unpack()
    }

    /// Its rows of these numbers, in their order: `[indices, columns]`.
    pub(crate) fn select(&self, indices: &[u32], device: &Device) -> Tensor<2> {
        let [_, columns] = self.shape();
        let row = |&index: &u32| self.rows(index as usize..index as usize + 1).unpack();
        let values: Vec<f32> = indices.iter().flat_map(row).collect();
        Tensor::from_data(TensorData::new(values, [indices.len(), columns]), device)
    }

    pub(crate) fn all_rows(&self) -> Rows<'_> {
        self.rows(0..self.shape()[0])
    }

    pub(crate) fn rows(&self, rows: Range<usize>) -> Rows<'_> {
        assert!(
            rows.start <= rows.end && rows.end <= self.shape()[0],
            "rows of a packed matrix"
        );
        Rows {
            matrix: self,
            first: rows.start,
            count: rows.len(),
        }
    }
}

/// Writes the rows of a matrix from `first` on into `out`, which has room for whole ones.
struct Unpack<'a, 'o> {
    matrix: &'a PackedMatrix,
    first: usize,
    out: &'o mut [f32],
}

impl Unpack<'_, '_> {
    /// The same loops with the vectors that the machine has, where there are any.
    fn run(self) {
        #[cfg(feature = "flex")]
        pulp::Arch::new().dispatch(self);
        #[cfg(not(feature = "flex"))]
        self.in_its_form();
    }

    #[inline(always)]
    fn in_its_form(self) {
        match self.matrix.form() {
            Blocks::Q8_0 => self.in_form::<Q8_0>(),
            Blocks::Q4_0 => self.in_form::<Q4_0>(),
            Blocks::Q4_1 => self.in_form::<Q4_1>(),
            Blocks::Q4K => self.in_form::<Q4K>(),
            Blocks::Q6K => self.in_form::<Q6K>(),
        }
    }

    #[inline(always)]
    fn in_form<F: Format>(self) {
        let [_, columns] = self.matrix.shape();
        for (row, out) in self.out.chunks_exact_mut(columns).enumerate() {
            let blocks = self.matrix.row::<F>(self.first + row);
            let groups = out.as_chunks_mut::<BLOCK>().0;
            for (block, groups) in blocks.iter().zip(groups.chunks_exact_mut(F::GROUPS)) {
                for (index, out) in groups.iter_mut().enumerate() {
                    let group = F::group(Portable, block, index);
                    let halves = out.as_chunks_mut::<{ BLOCK / 2 }>().0.iter_mut();
                    let codes = group.codes.as_chunks::<{ BLOCK / 2 }>().0;
                    for ((out, codes), scale) in halves.zip(codes).zip(group.scale) {
                        for (out, &code) in out.iter_mut().zip(codes) {
                            let code = match F::SIGNED {
                                true => f32::from(code.cast_signed()),
                                false => f32::from(code),
                            };
                            *out = scale * code + group.minimum;
                        }
                    }
                }
            }
        }
    }
}

#[cfg(feature = "flex")]
impl pulp::WithSimd for Unpack<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        self.in_its_form();
    }
}

impl<'a> Rows<'a> {
    /// `[rows, columns]`
    pub fn shape(&self) -> [usize; 2] {
        [self.count, self.matrix.shape()[1]]
    }

    /// What they stand for, whole, on a device.
    pub fn tensor(&self, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(self.unpack(), self.shape()), device)
    }

    fn unpack(&self) -> Vec<f32> {
        let [rows, columns] = self.shape();
        let mut values = vec![0.0; rows * columns];
        self.unpack_part(0, &mut values);
        values
    }

    /// Writes the rows from `first` of these on into `out`.
    fn unpack_part(&self, first: usize, out: &mut [f32]) {
        if out.is_empty() {
            return;
        }
        let (matrix, first) = (self.matrix, self.first + first);
        Unpack { matrix, first, out }.run();
    }
}

#[cfg(feature = "flex")]
mod on_host {
    use std::cell::Cell;

    use rayon::prelude::*;

    use super::*;
    use crate::integers;

    /// Rows of x up to which every thread has its own panels.
    const SOME_ROWS: usize = 128;

    /// Elements of a panel of one thread: 1 MiB, which stays in its cache, where [`FEWEST_ROWS`] do not take more.
    const PANEL: usize = 1 << 18;

    /// The same for so few rows of x that a panel is multiplied row by row.
    const THIN_PANEL: usize = 1 << 15;

    /// Elements of a panel that all threads unpack and multiply together: 4 MiB, where [`FEWEST_ROWS`] do not take
    /// more.
    const SHARED_PANEL: usize = 1 << 20;

    /// The fewest rows of a panel: a product of many rows prepares x anew for each, and `gemm` adds in another order where
    /// both matrices have 64 rows or fewer.
    const FEWEST_ROWS: usize = 80;

    /// Numbers of rows are multiples of this, so that a panel ends where the vectors of a product do.
    const STEP: usize = 16;

    thread_local! {
        /// The memory of a panel stays with its thread: got anew from the system, it would cost as much as the unpacking.
        static MEMORY: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    }

    impl Rows<'_> {
        /// out ← x Wᵀ, or out + x Wᵀ: x `[m, k]`, out `[m, n]` in one run, with W `[n, k]` these rows. The terms of each
        /// element are added in the order in which the dense matrix would add them.
        ///
        /// # Panics
        /// If `out` has another length.
        pub fn product_into(self, out: &mut [f32], write: Write, x: Matrix<'_>) {
            let ([rows, _], [count, columns]) = (x.shape(), self.shape());
            assert_eq!(out.len(), rows * count, "the elements of a product");
            if out.is_empty() {
                return;
            }
            if rows <= SOME_ROWS {
                return self.product_of_some_into(out, write, x);
            }
            for panel in panels(count, many(SHARED_PANEL, columns), 1) {
                let out = &mut out[panel.start..];
                self.unpacked(panel, true, |w| {
                    host::product_into(out, count, write, x, w.transposed(), 1.0, true);
                });
            }
        }

        /// The same where x has not many rows. Each thread multiplies what it has unpacked itself: to fetch it from the cache
        /// of another would take as long as the product.
        fn product_of_some_into(self, out: &mut [f32], write: Write, x: Matrix<'_>) {
            let ([rows, _], [count, columns]) = (x.shape(), self.shape());
            let is_thin = rows <= integers::MOST_ROWS;
            let limits = match is_thin {
                true => [STEP, (THIN_PANEL / columns.max(1)).max(STEP)],
                false => many(PANEL, columns),
            };
            let panels = panels(count, limits, rayon::current_num_threads());
            let before: &[f32] = out;
            let product = |panel: &Range<usize>| {
                let width = panel.len();
                let mut product = vec![0.0; rows * width];
                if write == Write::Onto {
                    let before = before.chunks_exact(count);
                    for (product, before) in product.chunks_exact_mut(width).zip(before) {
                        product.copy_from_slice(&before[panel.clone()]);
                    }
                }
                self.unpacked(panel.clone(), false, |w| {
                    let w = w.transposed();
                    // What is thin is computed as it would be in one piece, and is mostly too small for other threads.
                    host::product_into(&mut product, width, write, x, w, 1.0, is_thin);
                });
                product
            };
            let products: Vec<Vec<f32>> = panels.par_iter().map(product).collect();
            for (panel, product) in panels.iter().zip(products) {
                let product = product.chunks_exact(panel.len());
                for (out, product) in out.chunks_exact_mut(count).zip(product) {
                    out[panel.clone()].copy_from_slice(product);
                }
            }
        }

        /// out ← dy W, or out + dy W: dy `[m, n]`, out `[m, k]` in one run, with W `[n, k]` these rows.
        pub fn transposed_product_into(self, out: &mut [f32], write: Write, dy: Matrix<'_>) {
            let [count, columns] = self.shape();
            let by_columns = dy.transposed();
            for panel in panels(count.max(1), many(SHARED_PANEL, columns), 1) {
                let panel = panel.start..panel.end.min(count);
                let write = if panel.start == 0 { write } else { Write::Onto };
                let dy = by_columns.part(panel.start, panel.len()).transposed();
                self.unpacked(panel, true, |w| {
                    host::product_into(out, columns, write, dy, w, 1.0, true);
                });
            }
        }

        /// Unpacks these rows, on all threads if `is_parallel`, and calls `multiply` with them.
        fn unpacked(
            self,
            rows: Range<usize>,
            is_parallel: bool,
            multiply: impl FnOnce(Matrix<'_>),
        ) {
            let [_, columns] = self.shape();
            let elements = rows.len() * columns;
            // Taken away, since a product on all threads may let this one begin another meanwhile.
            let mut memory = MEMORY.take();
            if memory.len() < elements {
                memory = vec![0.0; elements];
            }
            let panel = &mut memory[..elements];
            match is_parallel && columns > 0 {
                true => host::for_rows(panel, columns, |row, out| {
                    self.unpack_part(rows.start + row, out);
                }),
                false => self.unpack_part(rows.start, panel),
            }
            multiply(Matrix::new(panel, [rows.len(), columns], [columns, 1]));
            MEMORY.set(memory);
        }
    }

    /// The fewest rows and the most of panels of about so many elements, for products of many rows.
    fn many(elements: usize, columns: usize) -> [usize; 2] {
        [
            FEWEST_ROWS,
            (elements / columns.max(1)).max(2 * FEWEST_ROWS),
        ]
    }

    /// The panels of `count` rows: about `most` rows in each at most, and about equally many; as many panels for each of some
    /// threads, where each has at least `least` rows.
    fn panels(count: usize, [least, most]: [usize; 2], threads: usize) -> Vec<Range<usize>> {
        let steps = count.div_ceil(STEP);
        let panels = count.div_ceil(most).next_multiple_of(threads);
        let panels = panels.min(steps / least.div_ceil(STEP)).max(1);
        let end = |panel: usize| (steps * panel / panels * STEP).min(count);
        (0..panels)
            .map(|panel| end(panel)..end(panel + 1))
            .collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn panels_are_all_rows_and_neither_small_nor_large() {
            for count in [1, 2, 15, 16, 17, 255, 256, 257, 1000, 14_337, 128_001] {
                for (least, most, threads) in
                    [(16, 16, 1), (80, 128, 1), (80, 455, 16), (80, 4000, 3)]
                {
                    let panels = panels(count, [least, most], threads);
                    let mut next = 0;
                    for panel in &panels {
                        assert_eq!(panel.start, next);
                        assert!(panel.len() < most + least + STEP);
                        assert!(panels.len() == 1 || panel.len() + STEP > least);
                        next = panel.end;
                    }
                    assert_eq!(next, count);
                }
            }
        }
    }
}
