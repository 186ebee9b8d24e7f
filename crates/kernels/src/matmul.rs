//! Matrix products that can add to what is there.

use burn_tensor::{FloatDType, Tensor};

#[cfg(feature = "gpu")]
use crate::gpu;
#[cfg(feature = "flex")]
use crate::host::{self, Host, Write};
use crate::shape;

/// a b: a `[m, k]`, b `[k, n]` → `[m, n]`. Transposed and sliced operands are read where they lie.
///
/// # Panics
/// If b has another number of rows than a has columns.
pub fn matmul(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    shape::axis(
        "matmul",
        "b",
        0,
        b.dims()[0],
        a.dims()[1],
        "as axis 1 of `a`",
    );
    #[cfg(feature = "flex")]
    if let (Some(a), Some(b)) = (Host::open(a), Host::open(b))
        && let (Some(left), Some(right)) = (a.matrix(), b.matrix())
    {
        let shape = [left.shape()[0], right.shape()[1]];
        return host::tensor(host::product(left, right, 1.0), shape);
    }
    product(a, b)
}

/// a b of every pair of matrices: a `[batch, m, k]`, b `[batch, k, n]` → `[batch, m, n]`.
pub(crate) fn matmul_each(a: Tensor<3>, b: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "gpu")]
    if let Some(products) = gpu::product(&a, &b) {
        return products.cast(FloatDType::from(a.dtype()));
    }
    a.matmul(b)
}

/// a b on any device, with a's type. Where b is of another type, such as weights of 16 bits, a is brought to it, and the product
/// to a's: sums over a row are the device's (32 bits in tensor cores), and what is kept between products has a's precision.
fn product(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if let Some(product) = gpu::product(a, b) {
        return product.cast(FloatDType::from(a.dtype()));
    }
    let (dtype, of_b) = (a.dtype(), b.dtype());
    if dtype == of_b {
        return a.clone().matmul(b.clone());
    }
    let a = a.clone().cast(FloatDType::from(of_b));
    a.matmul(b.clone()).cast(FloatDType::from(dtype))
}

/// c + a b: c `[m, n]`, a `[m, k]`, b `[k, n]` → `[m, n]`, in place where nobody else holds c.
///
/// # Panics
/// If the shapes are not these.
pub fn matmul_add(c: Tensor<2>, a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    let ([m, k], [inner, n]) = (a.dims(), b.dims());
    shape::axis("matmul_add", "b", 0, inner, k, "as axis 1 of `a`");
    let expected = [(m, "as in `a`"), (n, "as in `b`")];
    shape::check("matmul_add", "c", c.dims(), expected);
    #[cfg(feature = "flex")]
    if Host::can_open(&c)
        && let (Some(a), Some(b)) = (Host::open(a), Host::open(b))
        && let (Some(left), Some(right)) = (a.matrix(), b.matrix())
    {
        return host::update(c, |out| {
            host::product_into(out, n, Write::Onto, left, right, 1.0, true);
        });
    }
    #[cfg(feature = "gpu")]
    let c = match gpu::product_onto(c, a, b) {
        Ok(sum) => return sum,
        Err(c) => c,
    };
    c + product(a, b)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{address, assert_close, random};

    #[test]
    fn products_agree_with_burns_however_the_operands_lie() {
        for [m, k, n] in [
            [1, 1, 1],
            [3, 5, 2],
            [70, 33, 41],
            [300, 200, 260],
            // Few rows, short of a vector and beyond it, an odd number of columns, one thread and more.
            [1, 70, 5],
            [7, 70, 5],
            [1, 576, 301],
            [6, 576, 301],
            [16, 64, 2],
        ] {
            let (a, b, c) = (random([m, k]), random([k, n]), random([m, n]));
            let expected = a.clone().matmul(b.clone());
            assert_close("a b", &matmul(&a, &b), &expected);
            // The same operands, lying the other way round, and as parts of larger ones.
            let lying = |x: &Tensor<2>| (x.clone().transpose() + 0.0).transpose();
            assert_close("transposed", &matmul(&lying(&a), &lying(&b)), &expected);
            let part = Tensor::cat(vec![random([m, 3]), a.clone()], 1).slice([0..m, 3..k + 3]);
            assert_close("sliced", &matmul(&part, &b), &expected);
            let sum = matmul_add(c.clone(), &a, &lying(&b));
            assert_close("c + a b", &sum, &(expected + c.clone()));
        }
    }

    #[test]
    fn what_is_added_to_stays_as_it_was_for_others() {
        let (c, a, b) = (random([4, 4]), random([4, 4]), random([4, 4]));
        let before = c.to_data();
        let _sum = matmul_add(c.clone(), &a, &b);
        c.to_data().assert_eq(&before, true);
    }

    #[test]
    fn a_sum_takes_the_place_of_what_it_is_added_to() {
        let (c, a, b) = (random([4, 4]), random([4, 4]), random([4, 4]));
        let before = address(&c);
        assert_eq!(address(&matmul_add(c, &a, &b)), before);
    }
}
