//! What operations share on GPUs: tensors opened and closed, and products.
//!
//! burn multiplies 32-bit numbers with 10 bits of mantissa (TF32) where a GPU has units for it. Here they are multiplied and
//! summed in 32 bits: by NVIDIA's cuBLASLt where there is one, by a kernel that needs no such units elsewhere. Products of
//! 16-bit numbers are summed in 32 bits and stay so.

use burn_backend::TensorMetadata;
use burn_backend::cubecl::dtype_to_storage_type;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_dispatch::backends::Cube;
use burn_tensor::{DType, FloatDType, Tensor};
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError};
use cubek::matmul::multi_level;
use cubek::matmul::strategy::Strategy;
use cubek::std::InputBinding;

#[cfg(feature = "cuda")]
use crate::cuda;

/// a b: a `[m, k]` and b `[k, n]`, or as many of both as axis 0 says → `[m, n]`. Where b has 16 bits and a has 32, a is
/// brought to b's type; sums are of 32 bits, and so is the product. `None` where they do not lie on a GPU or have other types.
pub(crate) fn product<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> Option<Tensor<D>> {
    let (a, b) = operands(a, b)?;
    Some(tensor(multiplied(&a, &b)))
}

/// a b of every b as in [`product`], with a's type. a is brought to another type once for all that have it.
pub(crate) fn products(a: &Tensor<2>, factors: &[Tensor<2>]) -> Option<Vec<Tensor<2>>> {
    let mut brought: Option<Tensor<2>> = None;
    let of_a = FloatDType::from(a.dtype());
    let product_with = |b: &Tensor<2>| {
        if b.dtype() == a.dtype() {
            return Some(product(a, b)?.cast(of_a));
        }
        let fits = brought.take().filter(|x| x.dtype() == b.dtype());
        let x = fits.unwrap_or_else(|| a.clone().cast(FloatDType::from(b.dtype())));
        let product = product(brought.insert(x), b)?;
        Some(product.cast(of_a))
    };
    // Asked before anything is cast: elsewhere products have other ways.
    open(a.clone())?;
    factors.iter().map(product_with).collect()
}

/// c + a b as in [`product`], with c's type, in place where nobody else holds c; c alone where there is no such product.
#[expect(
    clippy::result_large_err,
    reason = "tensors that cannot be used come back"
)]
pub(crate) fn product_onto(
    c: Tensor<2>,
    a: &Tensor<2>,
    b: &Tensor<2>,
) -> Result<Tensor<2>, Tensor<2>> {
    let Some((a, b)) = operands(a, b) else {
        return Err(c);
    };
    #[cfg(feature = "cuda")]
    let c = match single(c) {
        Ok(c) => {
            let out = if c.can_mut() {
                c.clone()
            } else {
                empty_for(&a, &b)
            };
            if cuda::multiply(&a, &b, Some(&c), &out) {
                return Ok(tensor(out));
            }
            tensor(c)
        }
        Err(c) => c,
    };
    let product = tensor(multiplied(&a, &b)).cast(FloatDType::from(c.dtype()));
    Ok(c + product)
}

/// `None` where they do not lie on a GPU, are tracked by autodiff, have no elements, or types that are not multiplied here.
fn operands<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> Option<(CubeTensor, CubeTensor)> {
    let (of_a, of_b) = (a.dtype(), b.dtype());
    let known = |dtype| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    if !known(of_a) || !known(of_b) || a.dims().contains(&0) || b.dims().contains(&0) {
        return None;
    }
    let batch = D - 2;
    assert_eq!(a.dims()[..batch], b.dims()[..batch], "as many of a as of b");
    let b = open(b.clone())?;
    let a = open(a.clone())?;
    if of_a == of_b {
        return Some((a, b));
    }
    let a = tensor::<D>(a).cast(FloatDType::from(of_b));
    Some((open(a)?, b))
}

/// A tensor of 32 bits on a GPU, without another holder than there was.
#[cfg(feature = "cuda")]
#[expect(
    clippy::result_large_err,
    reason = "tensors that cannot be used come back"
)]
fn single(x: Tensor<2>) -> Result<CubeTensor, Tensor<2>> {
    if x.dtype() != DType::F32 || open(x.clone()).is_none() {
        return Err(x);
    }
    Ok(open(x).expect("it was opened above"))
}

/// `None` where it lies elsewhere, or is tracked by autodiff.
pub(crate) fn open<const D: usize>(x: Tensor<D>) -> Option<CubeTensor> {
    x.try_into_primitive::<Cube>().ok()
}

/// The inverse of [`open`].
pub(crate) fn tensor<const D: usize>(x: CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<Cube>(x)
}

/// Room for a product.
fn empty_for(a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
    let (mut shape, of_b) = (a.shape(), b.shape());
    let last = shape.num_dims() - 1;
    shape[last] = of_b[last];
    empty_device_dtype(a.client.clone(), a.device.clone(), shape, DType::F32)
}

fn multiplied(a: &CubeTensor, b: &CubeTensor) -> CubeTensor {
    let out = empty_for(a, b);
    #[cfg(feature = "cuda")]
    if cuda::multiply(a, b, None, &out) {
        return out;
    }
    // "Unit" is the one of cubek's ways that takes 32-bit numbers as they are.
    let way = match a.dtype {
        DType::F32 => Strategy::from(multi_level::Strategy::SimpleUnit(Default::default())),
        _ => Strategy::Auto,
    };
    if let Err(error) = launch(&way, a, b, &out) {
        panic!("no way to multiply {a:?} by {b:?} on this device: {error:?}");
    }
    out
}

fn launch(
    way: &Strategy,
    a: &CubeTensor,
    b: &CubeTensor,
    out: &CubeTensor,
) -> Result<(), MatmulSetupError> {
    let of = |x: &CubeTensor| dtype_to_storage_type(x.dtype);
    let mut types = MatmulElems::from_globals(&MatmulGlobalElems {
        lhs: of(a),
        rhs: of(b),
        out: of(out),
    });
    let input = |x: &CubeTensor| InputBinding::new(x.clone().binding(), of(x));
    let (a, b) = (input(a), input(b));
    cubek::matmul::launch::launch_ref(way, &out.client, a, b, out.clone().binding(), &mut types)
}
