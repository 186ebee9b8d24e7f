//! Matrix products that can add to what is there.

use burn::tensor::Tensor;

#[cfg(feature = "flex")]
use crate::host::{self, Host, Write};

/// a b: a `[m, k]`, b `[k, n]` → `[m, n]`. Transposed and sliced operands are read where they lie.
pub fn matmul(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let (Some(a), Some(b)) = (Host::open(a), Host::open(b))
        && let (Some(left), Some(right)) = (a.matrix(), b.matrix())
    {
        let shape = [left.shape()[0], right.shape()[1]];
        return host::tensor(host::product(left, right, 1.0), shape);
    }
    a.clone().matmul(b.clone())
}

/// a b for every b, as by [`matmul`]: the threads of the CPU are woken once for all of them where a has few rows.
pub fn matmul_each<const N: usize>(a: &Tensor<2>, b: [&Tensor<2>; N]) -> [Tensor<2>; N] {
    #[cfg(feature = "flex")]
    if let Some(products) = thin_on_host(a, b) {
        return products;
    }
    b.map(|b| matmul(a, b))
}

#[cfg(feature = "flex")]
fn thin_on_host<const N: usize>(a: &Tensor<2>, b: [&Tensor<2>; N]) -> Option<[Tensor<2>; N]> {
    let a = Host::open(a)?;
    let a = a.matrix()?;
    let mut opened = Vec::with_capacity(N);
    for b in b {
        opened.push(Host::open(b)?);
    }
    let mut matrices = Vec::with_capacity(N);
    for b in &opened {
        matrices.push(b.matrix()?);
    }
    let [rows, _] = a.shape();
    let mut columns = matrices.iter().map(|b| b.shape()[1]);
    let matrices = <[_; N]>::try_from(&matrices[..]).ok()?;
    let products = host::thin_products(a, matrices, 1.0)?;
    Some(products.map(|values| {
        let columns = columns
            .next()
            .expect("there are as many shapes as products");
        host::tensor(values, [rows, columns])
    }))
}

/// c + a b: c `[m, n]`, a `[m, k]`, b `[k, n]` → `[m, n]`, in place where nobody else holds c.
pub fn matmul_add(c: Tensor<2>, a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if Host::can_open(&c)
        && let (Some(a), Some(b)) = (Host::open(a), Host::open(b))
        && let (Some(left), Some(right)) = (a.matrix(), b.matrix())
    {
        let [_, n] = c.dims();
        return host::update(c, |out| {
            host::product_into(out, n, Write::Onto, left, right, 1.0, true);
        });
    }
    c + a.clone().matmul(b.clone())
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
    fn each_product_is_as_if_it_were_alone() {
        for rows in [1, 5, 40] {
            let a = random([rows, 100]);
            let lying = |n| random([n, 100]).transpose();
            let weights = [lying(300), lying(1), lying(700)];
            let together = matmul_each(&a, weights.each_ref());
            for (weight, found) in weights.iter().zip(&together) {
                assert_close("each", found, &a.clone().matmul(weight.clone()));
            }
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

    #[test]
    #[should_panic(expected = "the inner axes of a product")]
    fn operands_that_do_not_fit_are_refused() {
        matmul(&random([2, 3]), &random([2, 3]));
    }
}
