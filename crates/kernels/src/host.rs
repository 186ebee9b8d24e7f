//! Tensors that lie in this machine's memory as f32, and loops over their rows on all cores.

use burn_backend::tensor::FloatTensor;
use burn_flex::Flex;
use burn_tensor::{DType, Device, Tensor, TensorData};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::fresh;
use crate::packed::PackedMatrix;
use crate::thin::{self, Weight};

/// Elements below which a loop stays on one thread: waking another costs some 10 µs, about as long as
/// this many multiplications take.
pub(crate) const ELEMENTS_PER_TASK: usize = 1 << 14;

/// Multiplications below which a matrix product stays on one thread (192³).
const PARALLEL_PRODUCT: usize = 192 * 192 * 192;

/// A tensor on the CPU, read only.
pub(crate) struct Host(FloatTensor<Flex>);

impl Host {
    /// Whether [`Host::open`] would open the tensor. It holds nothing of it afterwards: an opened tensor is
    /// shared for as long as it is open, and a shared one is not updated in place.
    pub fn can_open<const D: usize>(x: &Tensor<D>) -> bool {
        Self::open(x).is_some()
    }

    /// `None` where the tensor lies on another device, is tracked by autodiff, or is not f32.
    pub fn open<const D: usize>(x: &Tensor<D>) -> Option<Self> {
        if x.dtype() != DType::F32 {
            return None;
        }
        x.clone().try_into_primitive::<Flex>().ok().map(Self)
    }

    /// The same elements, row by row in one run.
    pub fn contiguous(self) -> Self {
        if self.0.is_contiguous() {
            self
        } else {
            Self(self.0.to_contiguous())
        }
    }

    /// Elements of a [`Host::contiguous`] tensor.
    pub fn values(&self) -> &[f32] {
        self.0.as_slice().expect("it is contiguous and f32")
    }

    /// `[rows, columns]`
    pub fn shape(&self) -> [usize; 2] {
        let shape = self.0.layout().shape();
        [shape[0], shape[1]]
    }

    /// As a matrix with its strides, without a copy; `None` where a stride is negative.
    pub fn matrix(&self) -> Option<Matrix<'_>> {
        let layout = self.0.layout();
        let stride = |axis: usize| usize::try_from(layout.strides()[axis]).ok();
        let storage: &[f32] = self.0.storage();
        Some(Matrix::new(
            &storage[layout.start_offset()..],
            self.shape(),
            [stride(0)?, stride(1)?],
        ))
    }
}

/// A tensor of these elements.
pub(crate) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// Lets `change` overwrite the elements of a tensor on the CPU, row by row: in its own buffer where nobody
/// else holds it, in a copy otherwise.
///
/// # Panics
/// If [`Host::can_open`] is false.
pub(crate) fn update<const D: usize>(x: Tensor<D>, change: impl FnOnce(&mut [f32])) -> Tensor<D> {
    let shape = x.dims();
    let x = x.try_into_primitive::<Flex>();
    let x = Host(x.expect("the tensor was found on the CPU")).contiguous();
    if x.0.is_unique() {
        let mut data = x.0.into_data();
        change(data.as_mut_slice().expect("the tensor was found to be f32"));
        return Tensor::from_data(data, &Device::flex());
    }
    let mut values = x.values().to_vec();
    change(&mut values);
    tensor(values, shape)
}

/// Calls `change(first, chunk)` for runs of whole rows of `width` elements, on all cores where there are
/// enough, compiled for the vector instructions that the machine has. Together the chunks are all of `values`, and
/// it comes back when every call has come back.
pub(crate) fn for_rows<T: Send>(
    values: &mut [T],
    width: usize,
    change: impl Fn(usize, &mut [T]) + Sync,
) {
    let (arch, change) = (Arch::new(), &change);
    if values.len() <= ELEMENTS_PER_TASK {
        let first = 0;
        return arch.dispatch(Chunk {
            first,
            values,
            change,
        });
    }
    let rows = (ELEMENTS_PER_TASK / width).max(1);
    let chunks = values.par_chunks_mut(rows * width).enumerate();
    chunks.for_each(|(i, values)| {
        let first = i * rows;
        arch.dispatch(Chunk {
            first,
            values,
            change,
        });
    });
}

/// A closure in place of this would be called through a function of the standard library, which is not always inlined;
/// and what is not inlined into the dispatch is compiled without its vector instructions.
struct Chunk<'a, T, F> {
    first: usize,
    values: &'a mut [T],
    change: &'a F,
}

impl<T, F: Fn(usize, &mut [T])> WithSimd for Chunk<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        (self.change)(self.first, self.values);
    }
}

/// Where the element at `[row, column]` lies, if that can be counted.
fn offset([row, column]: [usize; 2], strides: [usize; 2]) -> Option<usize> {
    let row = row.checked_mul(strides[0])?;
    row.checked_add(column.checked_mul(strides[1])?)
}

/// A view of a matrix, all of whose elements lie within `values`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// # Panics
    /// If the last element lies outside of `values`.
    pub fn new(values: &'a [f32], [rows, columns]: [usize; 2], strides: [usize; 2]) -> Self {
        let [row_stride, column_stride] = strides;
        let is_empty = rows == 0 || columns == 0;
        assert!(
            is_empty
                || offset([rows - 1, columns - 1], strides).is_some_and(|last| last < values.len()),
            "a matrix of {rows} × {columns} reaches beyond its {} elements",
            values.len()
        );
        Self {
            values,
            rows,
            columns,
            row_stride,
            column_stride,
        }
    }

    /// The same elements with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// `[rows, columns]`
    #[inline(always)]
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// A row whose elements are contiguous.
    #[inline(always)]
    pub fn row(&self, index: usize) -> &'a [f32] {
        let start = index * self.row_stride;
        &self.values[start..start + self.columns]
    }

    /// All elements from the row `first` on, as they lie; none where there is no such row.
    #[inline(always)]
    pub fn behind(&self, first: usize) -> &'a [f32] {
        &self.values[(first * self.row_stride).min(self.values.len())..]
    }

    /// `count` rows from `first` on.
    pub fn part(&self, first: usize, count: usize) -> Self {
        let strides = [self.row_stride, self.column_stride];
        Self::new(
            &self.values[first * self.row_stride..],
            [count, self.columns],
            strides,
        )
    }
}

/// scale · a b as a new matrix, row by row.
pub(crate) fn product(a: Matrix<'_>, b: Matrix<'_>, scale: f32) -> Vec<f32> {
    let count = fresh::elements([a.rows, b.columns]);
    if a.columns == 0 {
        return vec![0.0; count];
    }
    if let Some(mut products) = thin_products(a, &[Factor::Dense(b)], scale)
        && let Some(product) = products.pop()
    {
        return product;
    }
    let mut out = Vec::with_capacity(count);
    let elements = fresh::spare(&mut out, count).as_mut_ptr().cast();
    // SAFETY: `elements` are a.rows rows of b.columns elements, one behind the other, which nobody else has. They are
    // not read.
    unsafe { multiply(elements, b.columns, false, a, b, scale, true) };
    // SAFETY: `spare` has checked that the capacity is there. The product has as many elements, and has written all.
    unsafe { out.set_len(count) };
    out
}

/// What a product does to the elements that it is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// Replaces them.
    Over,
    /// Adds to them.
    Onto,
}

/// Writes scale · a b into `out`, whose rows begin `stride` elements apart; on one thread or on all.
pub(crate) fn product_into(
    out: &mut [f32],
    stride: usize,
    write: Write,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    is_parallel: bool,
) {
    let ([rows, inner], columns) = (a.shape(), b.columns);
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(
        columns <= stride
            && offset([rows - 1, columns - 1], [stride, 1]).is_some_and(|last| last < out.len()),
        "a product of {rows} × {columns} does not fit"
    );
    if inner == 0 {
        if write == Write::Over {
            out.chunks_mut(stride)
                .take(rows)
                .for_each(|row| row[..columns].fill(0.0));
        }
        return;
    }
    // It may wake other threads.
    if is_parallel
        && let Some(product) = thin_columns(a, &[Factor::Dense(b)], scale)
        && let [product] = &product[..]
    {
        for (row, out) in out.chunks_mut(stride).take(rows).enumerate() {
            let product = product[row..].iter().step_by(rows);
            for (out, &product) in out[..columns].iter_mut().zip(product) {
                *out = if write == Write::Onto {
                    *out + product
                } else {
                    product
                };
            }
        }
        return;
    }
    // SAFETY: the rows begin `stride` elements apart, and the assertion above says that the last element lies in `out`
    // and that no row reaches into the next. `out` is borrowed for this alone, and initialised.
    unsafe {
        multiply(
            out.as_mut_ptr(),
            stride,
            write == Write::Onto,
            a,
            b,
            scale,
            is_parallel,
        );
    }
}

/// scale · a b for every b, where a has few rows and every b can be read column by column.
pub(crate) fn thin_products(a: Matrix<'_>, b: &[Factor<'_>], scale: f32) -> Option<Vec<Vec<f32>>> {
    let columns = thin_columns(a, b, scale)?;
    let products = columns.into_iter().zip(b);
    Some(
        products
            .map(|(columns, b)| transposed(columns, b.columns(), a.rows))
            .collect(),
    )
}

/// [`thin_products`], column by column.
fn thin_columns(a: Matrix<'_>, b: &[Factor<'_>], scale: f32) -> Option<Vec<Vec<f32>>> {
    let is_thin = (1..=thin::MOST_ROWS).contains(&a.rows) && a.columns >= thin::FEWEST_COLUMNS;
    if !is_thin || a.column_stride != 1 {
        return None;
    }
    let weights: Option<Vec<Weight<'_>>> = b.iter().map(Factor::transposed).collect();
    Some(thin::products(a, &weights?, scale))
}

/// The right side of a product.
#[derive(Clone, Copy)]
pub(crate) enum Factor<'a> {
    Dense(Matrix<'a>),
    /// Its transpose.
    Packed(&'a PackedMatrix),
}

impl<'a> Factor<'a> {
    pub fn columns(&self) -> usize {
        match self {
            Self::Dense(matrix) => matrix.columns,
            Self::Packed(transposed) => transposed.shape()[0],
        }
    }

    /// `None` where there is no column, or their elements are not contiguous.
    fn transposed(&self) -> Option<Weight<'a>> {
        match self {
            Self::Dense(matrix) => {
                let w = matrix.transposed();
                (w.column_stride == 1 && w.rows > 0).then_some(Weight::Dense(w))
            }
            Self::Packed(w) => (w.shape()[0] > 0).then_some(Weight::Packed(w)),
        }
    }
}

/// `rows` runs of `columns` elements as `columns` runs of `rows` elements.
fn transposed(values: Vec<f32>, rows: usize, columns: usize) -> Vec<f32> {
    if rows == 1 || columns == 1 {
        return values;
    }
    let mut out = vec![0.0; values.len()];
    for (row, values) in values.chunks_exact(columns).enumerate() {
        for (column, &value) in values.iter().enumerate() {
            out[column * rows + row] = value;
        }
    }
    out
}

/// out ← (out if `reads`) + scale · a b; every element of the product is written.
///
/// # Safety
/// `out` points to a.rows rows of b.columns elements, `stride` apart, that nobody else uses; they are
/// initialised if `reads`.
unsafe fn multiply(
    out: *mut f32,
    stride: usize,
    reads: bool,
    a: Matrix<'_>,
    b: Matrix<'_>,
    scale: f32,
    is_parallel: bool,
) {
    assert_eq!(a.columns, b.rows, "the inner axes of a product");
    let work = a.rows * a.columns * b.columns;
    let parallelism = if is_parallel && work >= PARALLEL_PRODUCT {
        gemm::Parallelism::Rayon(0)
    } else {
        gemm::Parallelism::None
    };
    // SAFETY: a is rows × inner and b inner × columns with the same inner axis, as asserted above. `Matrix::new` has
    // checked that their last elements, and so all of them, lie in their slices; strides are below the slices' lengths
    // wherever they are used, so they fit into isize. The caller promises `out`; without `reads` gemm takes its factor
    // for 0 and writes without reading.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            stride as isize,
            reads,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// eˣ to about 1e-7 of its value, without a branch, so that loops over it are vectorised. x is clamped to
/// [−87, 88], where the result is a normal number; NaN stays NaN.
///
/// Cephes' `expf`: with n = round(x / ln 2) and r = x − n ln 2 (ln 2 in two parts), eˣ = 2ⁿ · P(r).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to an integer and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_65;
    p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    f32::from_bits(y.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// 1 / (1 + e⁻ˣ)
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Partial sums that a reduction keeps apart, so that it is vectorised and the order of its additions does
/// not depend on the machine.
const LANES: usize = 16;

/// Σ f(i) over 0..n.
#[inline(always)]
pub(crate) fn sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let whole = n / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(start + lane);
        }
    }
    let rest: f32 = (whole..n).map(&f).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Σ a_i b_i
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// The largest element; −∞ of none, NaN where there is one.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let mut max = f32::NEG_INFINITY;
    let greater = |max: f32, x: f32| if x > max || x.is_nan() { x } else { max };
    for &x in chunks.remainder() {
        max = greater(max, x);
    }
    for chunk in chunks {
        for (lane, max) in lanes.iter_mut().enumerate() {
            *max = greater(*max, chunk[lane]);
        }
    }
    lanes.iter().fold(max, |max, &x| greater(max, x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::address;

    impl Matrix<'_> {
        fn at(&self, row: usize, column: usize) -> f32 {
            self.values[row * self.row_stride + column * self.column_stride]
        }
    }

    #[test]
    fn exp_is_close_to_the_exact_one() {
        let worst = (-870..=880)
            .flat_map(|i| (0..7).map(move |j| i as f32 / 10.0 + j as f32 * 0.013))
            .filter(|x| (-87.0..=88.0).contains(x))
            .map(|x| {
                let exact = f64::from(x).exp();
                ((f64::from(exp(x)) - exact) / exact).abs()
            })
            .fold(0.0, f64::max);
        assert!(worst < 2e-7, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 2e-38 && exp(1e9).is_finite());
    }

    #[test]
    fn reductions_see_every_element_and_nan() {
        for n in [0, 1, 15, 16, 17, 100] {
            let values: Vec<f32> = (0..n).map(|i| (i % 7) as f32 - 9.0).collect();
            let expected: f32 = values.iter().sum();
            assert_eq!(sum(n, |i| values[i]), expected);
            assert_eq!(dot(&values, &vec![1.0; n]), expected);
            let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(largest(&values), max);
            for i in 0..n {
                let mut broken = values.clone();
                broken[i] = f32::NAN;
                assert!(largest(&broken).is_nan(), "{i} of {n}");
            }
        }
    }

    #[test]
    fn an_update_is_in_place_unless_somebody_else_holds_the_tensor() {
        let x = tensor(vec![1.0, 2.0], [1, 2]);
        assert!(Host::can_open(&x));
        let before = address(&x);
        let x = update(x, |x| x[0] = 3.0);
        assert_eq!(address(&x), before);
        let other = x.clone();
        let x = update(x, |x| x[0] = 4.0);
        assert_ne!(address(&x), before);
        assert_eq!(Host::open(&other).unwrap().values(), [3.0, 2.0]);
        assert_eq!(Host::open(&x).unwrap().values(), [4.0, 2.0]);
    }

    #[test]
    #[should_panic(expected = "reaches beyond")]
    fn a_view_beyond_its_elements_is_refused() {
        let _ = Matrix::new(&[0.0; 5], [2, 3], [3, 1]);
    }

    #[test]
    #[should_panic(expected = "reaches beyond")]
    fn a_view_so_large_that_its_size_wraps_around_is_refused() {
        let _ = Matrix::new(&[0.0; 5], [3, 1], [1 << (usize::BITS - 1), 1]);
    }

    #[test]
    #[should_panic(expected = "does not fit into memory")]
    fn a_product_so_large_that_its_size_wraps_around_is_refused() {
        let many = 1 << (usize::BITS / 2);
        let (a, b) = (
            Matrix::new(&[1.0], [many, 1], [0, 0]),
            Matrix::new(&[1.0], [1, many], [0, 0]),
        );
        let _ = product(a, b, 1.0);
    }

    #[test]
    fn every_element_of_a_product_is_written_however_gemm_computes_it() {
        let values: Vec<f32> = (0..300 * 300).map(|i| (i % 13) as f32 - 6.0).collect();
        let sizes = [1, 2, 3, 8, 17, 40, 300];
        for m in sizes {
            for n in sizes {
                for k in sizes {
                    let lying = |[rows, columns]: [usize; 2]| {
                        let shape = [rows, columns];
                        [
                            Matrix::new(&values, shape, [columns, 1]),
                            Matrix::new(&values, shape, [1, rows]),
                        ]
                    };
                    for a in lying([m, k]) {
                        for b in lying([k, n]) {
                            let product = product(a, b, 1.0);
                            assert_eq!(product.len(), m * n);
                            // Whole numbers, so that the order of additions does not matter.
                            for (i, &found) in product.iter().enumerate().step_by(1 + m * n / 50) {
                                let at = |j| a.at(i / n, j) * b.at(j, i % n);
                                let expected: f32 = (0..k).map(at).sum();
                                assert_eq!(found, expected, "{m} {k} {n}");
                            }
                            let sum: f32 = product.iter().sum();
                            assert!(!sum.is_nan(), "{m} {k} {n}");
                        }
                    }
                }
            }
        }
    }
}
