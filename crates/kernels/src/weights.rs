//! The weights of linear layers, as floats or in few bits, and their products.

use std::ops::Range;

use burn_tensor::{Device, Int, Tensor, TensorData};

#[cfg(feature = "gpu")]
use crate::gpu;
#[cfg(feature = "flex")]
use crate::host::{self, Factor, Host, Write};
use crate::matmul::{matmul, matmul_add};
use crate::packed::PackedMatrix;
use crate::panels::Rows;
use crate::shape;

/// A weight W `[n, k]` of a layer y = x Wᵀ.
#[derive(Debug, Clone, Copy)]
pub enum Weight<'a> {
    /// In floats.
    Dense(&'a Tensor<2>),
    /// In few bits an element, multiplied like the floats that it stands for. They are there a panel at a time.
    Packed(&'a PackedMatrix),
    /// In few bits an element, multiplied as integers where x has few rows ([`is_thin`]): x is rounded to 8 or 16 bits for that,
    /// each block of 32 with its own scale. All else is as with [`Weight::Packed`].
    Integers(&'a PackedMatrix),
}

impl<'a> Weight<'a> {
    /// `[n, k]`
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(dense) => dense.dims(),
            Self::Packed(packed) | Self::Integers(packed) => packed.shape(),
        }
    }

    /// Rows of W, in the order of `indices`: `[indices, k]`, on W's device, which is `device` where W is packed.
    ///
    /// # Panics
    /// If W has no row of an index.
    pub fn select(&self, indices: &[u32], device: &Device) -> Tensor<2> {
        let [rows, _] = self.shape();
        for (i, &index) in indices.iter().enumerate() {
            let name = format_args!("indices[{i}]");
            shape::below("select", name, index as usize, rows, "axis 0 of the weight");
        }
        match self {
            Self::Dense(dense) => {
                let indices: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
                let shape = [indices.len()];
                let indices = TensorData::new(indices, shape);
                let indices = Tensor::<1, Int>::from_data(indices, &dense.device());
                (*dense).clone().select(0, indices)
            }
            Self::Packed(packed) | Self::Integers(packed) => packed.select(indices, device),
        }
    }

    /// The part of W that these rows are, as it stands in products that are not of integers.
    pub(crate) fn part(&self, rows: Range<usize>) -> Part<'a> {
        match *self {
            Self::Dense(dense) => {
                let [_, columns] = dense.dims();
                Part::Dense(Box::new(dense.clone().slice([rows, 0..columns])))
            }
            Self::Packed(packed) | Self::Integers(packed) => Part::Packed(packed.rows(rows)),
        }
    }

    fn whole(&self) -> Part<'a> {
        match *self {
            Self::Dense(dense) => Part::Dense(Box::new(dense.clone())),
            Self::Packed(packed) | Self::Integers(packed) => Part::Packed(packed.all_rows()),
        }
    }
}

/// Rows of a weight.
pub(crate) enum Part<'a> {
    Dense(Box<Tensor<2>>),
    Packed(Rows<'a>),
}

impl Part<'_> {
    /// x Wᵀ
    pub fn product(&self, x: &Tensor<2>) -> Tensor<2> {
        let packed = match self {
            Self::Dense(dense) => return matmul(x, &Tensor::clone(dense).transpose()),
            Self::Packed(packed) => packed,
        };
        #[cfg(feature = "flex")]
        if let Some(x) = Host::open(x)
            && let Some(x) = x.matrix()
        {
            let shape = [x.shape()[0], packed.shape()[0]];
            let mut out = vec![0.0; shape[0] * shape[1]];
            packed.product_into(&mut out, Write::Over, x);
            return host::tensor(out, shape);
        }
        matmul(x, &packed.tensor(&x.device()).transpose())
    }

    /// onto + x Wᵀ
    fn add_product(&self, onto: Tensor<2>, x: &Tensor<2>) -> Tensor<2> {
        let packed = match self {
            Self::Dense(dense) => return matmul_add(onto, x, &Tensor::clone(dense).transpose()),
            Self::Packed(packed) => packed,
        };
        #[cfg(feature = "flex")]
        if Host::can_open(&onto)
            && let Some(x) = Host::open(x)
            && let Some(x) = x.matrix()
        {
            return host::update(onto, |out| packed.product_into(out, Write::Onto, x));
        }
        matmul_add(onto, x, &packed.tensor(&x.device()).transpose())
    }

    /// onto + dy W
    pub fn add_transposed_product(&self, onto: Tensor<2>, dy: &Tensor<2>) -> Tensor<2> {
        let packed = match self {
            Self::Dense(dense) => return matmul_add(onto, dy, dense),
            Self::Packed(packed) => packed,
        };
        #[cfg(feature = "flex")]
        if Host::can_open(&onto)
            && let Some(dy) = Host::open(dy)
            && let Some(dy) = dy.matrix()
        {
            return host::update(onto, |out| {
                packed.transposed_product_into(out, Write::Onto, dy);
            });
        }
        matmul_add(onto, dy, &packed.tensor(&dy.device()))
    }

    /// dy W
    fn transposed_product(&self, dy: &Tensor<2>) -> Tensor<2> {
        let packed = match self {
            Self::Dense(dense) => return matmul(dy, dense),
            Self::Packed(packed) => packed,
        };
        #[cfg(feature = "flex")]
        if let Some(dy) = Host::open(dy)
            && let Some(dy) = dy.matrix()
        {
            let shape = [dy.shape()[0], packed.shape()[1]];
            let mut out = vec![0.0; shape[0] * shape[1]];
            packed.transposed_product_into(&mut out, Write::Over, dy);
            return host::tensor(out, shape);
        }
        matmul(dy, &packed.tensor(&dy.device()))
    }
}

/// x Wᵀ for every W: x `[rows, k]`, W `[n, k]` → `[rows, n]`. Where x has few rows ([`is_thin`]), the threads of the
/// CPU are woken once for all of them, unless one is [`Weight::Packed`].
///
/// # Panics
/// If a W has another number of columns than x.
pub fn linear_each(x: &Tensor<2>, weights: &[Weight<'_>]) -> Vec<Tensor<2>> {
    let (operation, [_, k]) = ("linear_each", x.dims());
    for (i, weight) in weights.iter().enumerate() {
        let name = format_args!("weights[{i}]");
        shape::axis(operation, name, 1, weight.shape()[1], k, "as in `x`");
    }
    #[cfg(feature = "flex")]
    if let Some(products) = thin_on_host(x, weights) {
        return products;
    }
    #[cfg(feature = "gpu")]
    {
        let factor = |weight: &Weight<'_>| match weight {
            Weight::Dense(dense) => Some((*dense).clone().transpose()),
            Weight::Packed(_) | Weight::Integers(_) => None,
        };
        let factors: Option<Vec<Tensor<2>>> = weights.iter().map(factor).collect();
        if let Some(factors) = factors
            && let Some(products) = gpu::products(x, &factors)
        {
            return products;
        }
    }
    (weights.iter().map(|weight| weight.whole().product(x))).collect()
}

/// onto + x Wᵀ: onto `[rows, n]`, x `[rows, k]`, W `[n, k]`, in place where nobody else holds `onto`. Its product is not of
/// integers.
///
/// # Panics
/// If the shapes are not these.
pub fn linear_add(onto: Tensor<2>, x: &Tensor<2>, weight: Weight<'_>) -> Tensor<2> {
    let (operation, [rows, k], [n, width]) = ("linear_add", x.dims(), weight.shape());
    shape::axis(operation, "weight", 1, width, k, "as in `x`");
    let expected = [(rows, "as in `x`"), (n, "as axis 0 of `weight`")];
    shape::check(operation, "onto", onto.dims(), expected);
    weight.whole().add_product(onto, x)
}

/// The gradient dy W at x of y = x Wᵀ, added to `onto` if there is one: dy `[rows, n]`, W `[n, k]`, onto `[rows, k]` →
/// `[rows, k]`.
///
/// # Panics
/// If the shapes are not these.
pub fn linear_backward(dy: &Tensor<2>, weight: Weight<'_>, onto: Option<Tensor<2>>) -> Tensor<2> {
    let (operation, [rows, n], [count, k]) = ("linear_backward", dy.dims(), weight.shape());
    shape::axis(operation, "weight", 0, count, n, "as axis 1 of `dy`");
    let Some(onto) = onto else {
        return weight.whole().transposed_product(dy);
    };
    let expected = [(rows, "as in `dy`"), (k, "as axis 1 of `weight`")];
    shape::check(operation, "onto", onto.dims(), expected);
    weight.whole().add_transposed_product(onto, dy)
}

/// Whether products of x `[rows, k]` are computed by reading the weights once, in their own order, on the CPU.
#[cfg_attr(
    not(feature = "flex"),
    expect(unused_variables, reason = "the CPU is not there")
)]
pub fn is_thin(x: &Tensor<2>) -> bool {
    #[cfg(feature = "flex")]
    return x.dims()[0] <= crate::thin::MOST_ROWS && Host::can_open(x);
    #[cfg(not(feature = "flex"))]
    return false;
}

#[cfg(feature = "flex")]
fn thin_on_host(x: &Tensor<2>, weights: &[Weight<'_>]) -> Option<Vec<Tensor<2>>> {
    let x = Host::open(x)?;
    let x = x.matrix()?;
    let mut opened = Vec::with_capacity(weights.len());
    for weight in weights {
        opened.push(match weight {
            Weight::Dense(dense) => Some(Host::open(dense)?),
            Weight::Integers(_) => None,
            Weight::Packed(_) => return None,
        });
    }
    let mut factors = Vec::with_capacity(weights.len());
    for (weight, dense) in weights.iter().zip(&opened) {
        factors.push(match (weight, dense) {
            (_, Some(dense)) => Factor::Dense(dense.matrix()?.transposed()),
            (Weight::Integers(packed), None) => Factor::Packed(packed),
            _ => return None,
        });
    }
    let [rows, _] = x.shape();
    let products = host::thin_products(x, &factors, 1.0)?;
    let each = products.into_iter().zip(factors);
    let product =
        |(values, factor): (Vec<f32>, Factor<'_>)| host::tensor(values, [rows, factor.columns()]);
    Some(each.map(product).collect())
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use half::f16;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::interleaved::takes_words;
    use crate::rounded::Rounded;
    use crate::test_support::{assert_close, random, values};
    use crate::{Bits, Blocks, head_log_probs};

    const FORMS: [Blocks; 5] = [
        Blocks::Q8_0,
        Blocks::Q4_0,
        Blocks::Q4_1,
        Blocks::Q4K,
        Blocks::Q6K,
    ];

    /// Any codes, under scales of common size; and what they stand for.
    fn packed(form: Blocks, [rows, columns]: [usize; 2]) -> (PackedMatrix, Tensor<2>) {
        let mut numbers = ChaCha8Rng::seed_from_u64((rows * columns) as u64);
        let bytes = rows * (columns / form.weights()) * form.bytes();
        let mut bytes: Vec<u8> = (0..bytes).map(|_| numbers.random()).collect();
        for block in bytes.chunks_mut(form.bytes()) {
            for &at in form.floats() {
                let scale = f16::from_f32(0.01 * numbers.random::<f32>());
                block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        let packed = PackedMatrix::from_blocks(form, [rows, columns], bytes).expect("whole blocks");
        let dense = host::tensor(packed.unpack(), [rows, columns]);
        (packed, dense)
    }

    fn bits(x: &Tensor<2>) -> Vec<u32> {
        values(x).into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn each_product_is_as_if_it_were_alone() {
        for rows in [1, 5, 40] {
            let x = random([rows, 96]);
            let dense = [random([300, 96]), random([1, 96]), random([700, 96])];
            let packed = [Bits::Eight, Bits::Four]
                .map(|bits| PackedMatrix::pack(&dense[2], bits).expect("three blocks a row"));
            let mut weights: Vec<Weight<'_>> = dense.iter().map(Weight::Dense).collect();
            let mut expected: Vec<Tensor<2>> = dense.to_vec();
            for packed in &packed {
                weights.push(Weight::Integers(packed));
                expected.push(host::tensor(packed.unpack(), packed.shape()));
            }
            let on_host = Host::open(&x).expect("it is on the CPU");
            let on_host = on_host.matrix().expect("its strides are positive");
            let words = host::tensor(Rounded::<i16>::new(on_host).values(), [rows, 96]);
            let bytes = host::tensor(Rounded::<i8>::new(on_host).values(), [rows, 96]);
            let together = linear_each(&x, &weights);
            for ((found, weight), expected) in together.iter().zip(&weights).zip(expected) {
                let x = match weight {
                    Weight::Integers(packed) if is_thin(&x) => match takes_words(packed.form()) {
                        true => &words,
                        false => &bytes,
                    },
                    _ => &x,
                };
                assert_close("each", found, &x.clone().matmul(expected.transpose()));
            }
        }
    }

    /// For few rows and many, for matrices of one panel and of several.
    #[test]
    fn a_packed_matrix_is_multiplied_bit_for_bit_like_the_one_that_it_stands_for() {
        let shapes = [[1, 256], [37, 512], [2305, 512], [4100, 256], [300, 4352]];
        for (form, [n, k]) in FORMS
            .into_iter()
            .flat_map(|form| shapes.map(|shape| (form, shape)))
        {
            let (packed, dense) = packed(form, [n, k]);
            let (packed, dense) = (Weight::Packed(&packed), Weight::Dense(&dense));
            for rows in [1, 7, 50, 150] {
                let what = format!("{form:?} [{n}, {k}], {rows} rows");
                let (x, side, onto) = (random([rows, k]), random([k, 20]), random([rows, n]));
                let side = side.transpose();
                // Among others, as beside an adapter.
                let each = |weight| linear_each(&x, &[weight, Weight::Dense(&side)]);
                let ([found, beside], [expected, alone]) = (
                    each(packed).try_into().expect("two"),
                    each(dense).try_into().expect("two"),
                );
                assert_eq!(bits(&found), bits(&expected), "{what}");
                assert_close("beside", &beside, &alone);
                let add = |weight| linear_add(onto.clone(), &x, weight);
                assert_eq!(bits(&add(packed)), bits(&add(dense)), "{what}, added");
                // Integers are for few rows.
                if !is_thin(&x) {
                    let Weight::Packed(packed) = packed else {
                        unreachable!()
                    };
                    let [found] = linear_each(&x, &[Weight::Integers(packed)])
                        .try_into()
                        .expect("one");
                    assert_eq!(bits(&found), bits(&expected), "{what}");
                }
            }
        }
    }

    /// The terms of one panel are added before those of the next, so the last bits may differ.
    #[test]
    fn gradients_go_back_through_packed_matrices() {
        for (form, [n, k]) in [
            (Blocks::Q4_1, [70, 64]),
            (Blocks::Q8_0, [2305, 512]),
            (Blocks::Q6K, [300, 4352]),
        ] {
            let (packed, dense) = packed(form, [n, k]);
            for rows in [3, 40] {
                let (dy, onto) = (random([rows, n]), random([rows, k]));
                for onto in [None, Some(onto)] {
                    let found = linear_backward(&dy, Weight::Packed(&packed), onto.clone());
                    let expected = linear_backward(&dy, Weight::Dense(&dense), onto);
                    assert_close("dy W", &found, &expected);
                }
            }
        }
    }

    #[test]
    fn rows_of_a_packed_matrix_are_those_of_the_one_that_it_stands_for() {
        for form in FORMS {
            let (packed, dense) = packed(form, [50, 512]);
            let (indices, device) = ([49, 0, 7, 7], dense.device());
            let [found, integers, expected] = [
                Weight::Packed(&packed),
                Weight::Integers(&packed),
                Weight::Dense(&dense),
            ]
            .map(|weight| bits(&weight.select(&indices, &device)));
            assert_eq!((&found, &integers), (&expected, &expected));
            assert_eq!(found.len(), 4 * 512);
        }
    }

    #[test]
    fn log_probs_under_a_packed_head_are_those_under_the_one_that_it_stands_for() {
        for form in FORMS {
            let (packed, dense) = packed(form, [5000, 256]);
            for (rows, cap) in [(1, None), (60, Some(3.0)), (1500, None)] {
                let h = random([rows, 256]);
                let tokens: Vec<u32> = (0..rows as u32).map(|row| row * 611 % 5000).collect();
                let under = |weight| head_log_probs(&h, weight, &tokens, cap, true);
                let (found, slopes) = under(Weight::Packed(&packed));
                let (expected, expected_slopes) = under(Weight::Dense(&dense));
                assert_eq!(found, expected);
                let slopes = (slopes.expect("kept"), expected_slopes.expect("kept"));
                assert_close("slopes", &slopes.0, &slopes.1);
            }
        }
    }

    /// Doubles take the way of devices that are not the CPU.
    #[test]
    fn other_devices_have_the_same_products() {
        let (packed, dense) = packed(Blocks::Q4K, [33, 256]);
        let double = |x: Tensor<2>| x.cast(burn_tensor::FloatDType::F64);
        let (x, dy) = (double(random([5, 256])), double(random([5, 33])));
        let close = |what: &str, of: &dyn Fn(Weight<'_>) -> Tensor<2>| {
            let single = |x: Tensor<2>| x.cast(burn_tensor::FloatDType::F32);
            let expected = of(Weight::Dense(&dense));
            assert_close(
                what,
                &single(of(Weight::Packed(&packed))),
                &single(expected),
            );
        };
        close("x W", &|weight| linear_each(&x, &[weight]).remove(0));
        close("added", &|weight| linear_add(dy.clone(), &x, weight));
        close("dy W", &|weight| linear_backward(&dy, weight, None));
        close("dy W, added", &|weight| {
            linear_backward(&dy, weight, Some(x.clone()))
        });
    }
}
