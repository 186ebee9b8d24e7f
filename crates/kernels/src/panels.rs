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

    /// Writes the rows from `first` on into `out`, which has room for whole ones.
    #[inline(always)]
    fn unpack_into(&self, first: usize, out: &mut [f32]) {
        match self.form() {
            Blocks::Q8_0 => self.unpack_from::<Q8_0>(first, out),
            Blocks::Q4_0 => self.unpack_from::<Q4_0>(first, out),
            Blocks::Q4_1 => self.unpack_from::<Q4_1>(first, out),
            Blocks::Q4K => self.unpack_from::<Q4K>(first, out),
            Blocks::Q6K => self.unpack_from::<Q6K>(first, out),
        }
    }

    #[inline(always)]
    fn unpack_from<F: Format>(&self, first: usize, out: &mut [f32]) {
        for (row, out) in out.chunks_exact_mut(self.shape()[1]).enumerate() {
            let groups = out.as_chunks_mut::<BLOCK>().0;
            let blocks = groups.chunks_exact_mut(F::GROUPS);
            for (block, groups) in self.row::<F>(first + row).iter().zip(blocks) {
                for (index, out) in groups.iter_mut().enumerate() {
                    let group = F::group(Portable, block, index);
                    for (i, (out, &code)) in out.iter_mut().zip(&group.codes).enumerate() {
                        let code = match F::SIGNED {
                            true => f32::from(code.cast_signed()),
                            false => f32::from(code),
                        };
                        *out = group.scale[i / 4] * code + group.minimum;
                    }
                }
            }
        }
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

    /// Writes the rows from `first` of these on into `out`, on all threads.
    fn unpack_part(&self, first: usize, out: &mut [f32]) {
        let [_, columns] = self.shape();
        if out.is_empty() {
            return;
        }
        let first = self.first + first;
        #[cfg(feature = "flex")]
        host::for_rows(
            out,
            columns,
            #[inline(always)]
            |row, out| self.matrix.unpack_into(first + row, out),
        );
        #[cfg(not(feature = "flex"))]
        {
            let _ = columns;
            self.matrix.unpack_into(first, out);
        }
    }
}

#[cfg(feature = "flex")]
mod on_host {
    use std::cell::Cell;

    use super::*;

    /// Elements of a panel: 4 MiB, which stay in the caches between being unpacked and being multiplied.
    const PANEL: usize = 1 << 20;

    /// The fewest rows of a panel: a product prepares x anew for each.
    const FEWEST_ROWS: usize = 256;

    /// Numbers of rows are multiples of this, so that a panel ends where the vectors of a product do.
    const STEP: usize = 16;

    thread_local! {
        /// The memory of a panel stays with the thread: got anew from the system, it would cost as much as the unpacking.
        static MEMORY: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    }

    impl<'a> Rows<'a> {
        /// out ← x Wᵀ, or out + x Wᵀ: x `[m, k]`, out `[m, n]` in one run, with W `[n, k]` these rows. The terms of each
        /// element are added in the order in which the dense matrix would add them.
        pub fn product_into(self, out: &mut [f32], write: Write, x: Matrix<'_>) {
            let [count, _] = self.shape();
            self.for_panels(|rows, panel| {
                let out = &mut out[rows.start..];
                host::product_into(out, count, write, x, panel.transposed(), 1.0, true);
            });
        }

        /// out ← dy W, or out + dy W: dy `[m, n]`, out `[m, k]` in one run, with W `[n, k]` these rows.
        pub fn transposed_product_into(self, out: &mut [f32], write: Write, dy: Matrix<'_>) {
            let [_, columns] = self.shape();
            let by_columns = dy.transposed();
            self.for_panels(|rows, panel| {
                let write = if rows.start == 0 { write } else { Write::Onto };
                let dy = by_columns.part(rows.start, rows.len()).transposed();
                host::product_into(out, columns, write, dy, panel, 1.0, true);
            });
        }

        /// Calls `multiply` with panels of these rows and with what they stand for, from the first row to the last; at least
        /// once.
        fn for_panels(self, mut multiply: impl FnMut(Range<usize>, Matrix<'_>)) {
            let [count, columns] = self.shape();
            // Taken away, since a product of many rows may let this thread begin another one meanwhile.
            let mut memory = MEMORY.take();
            for rows in panels([count, columns]) {
                let elements = rows.len() * columns;
                if memory.len() < elements {
                    memory = vec![0.0; elements];
                }
                let panel = &mut memory[..elements];
                self.unpack_part(rows.start, panel);
                let shape = [rows.len(), columns];
                multiply(rows, Matrix::new(panel, shape, [columns, 1]));
            }
            MEMORY.set(memory);
        }
    }

    /// The panels of a matrix: about equally many rows in each, so that none is computed in another way for being small.
    pub fn panels([count, columns]: [usize; 2]) -> impl Iterator<Item = Range<usize>> {
        let most = (PANEL / columns.max(1)).max(FEWEST_ROWS);
        let (steps, panels) = (count.div_ceil(STEP), count.div_ceil(most).max(1));
        let end = move |panel: usize| (steps * panel / panels * STEP).min(count);
        (0..panels).map(move |panel| end(panel)..end(panel + 1))
    }
}
