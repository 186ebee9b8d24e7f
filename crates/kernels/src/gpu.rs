//! What is computed on GPUs otherwise than by burn: products, AdamW, sums of squares.
//!
//! burn multiplies 32-bit numbers with 10 bits of mantissa (TF32) where a GPU has units for it. Here they are multiplied and
//! summed in 32 bits: by NVIDIA's cuBLASLt where there is one, by a kernel that needs no such units elsewhere. Products of
//! 16-bit numbers are summed in 32 bits and stay so.

use burn_backend::TensorMetadata;
use burn_backend::cubecl::dtype_to_storage_type;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_dispatch::backends::Cube;
use burn_tensor::{DType, FloatDType, Tensor as BurnTensor};
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError};
use cubek::matmul::multi_level;
use cubek::matmul::strategy::Strategy;
use cubek::std::InputBinding;

use crate::AdamWStep;
#[cfg(feature = "cuda")]
use crate::cuda;

/// a b: a `[m, k]` and b `[k, n]`, or as many of both as axis 0 says → `[m, n]`. Where b has 16 bits and a has 32, a is
/// brought to b's type; sums are of 32 bits, and so is the product. `None` where they do not lie on a GPU or have other types.
pub(crate) fn product<const D: usize>(
    a: &BurnTensor<D>,
    b: &BurnTensor<D>,
) -> Option<BurnTensor<D>> {
    let (a, b) = operands(a, b)?;
    Some(tensor(multiplied(&a, &b)))
}

/// c + a b as in [`product`], with c's type, in place where nobody else holds c; c alone where there is no such product.
#[expect(
    clippy::result_large_err,
    reason = "tensors that cannot be used come back"
)]
pub(crate) fn product_onto(
    c: BurnTensor<2>,
    a: &BurnTensor<2>,
    b: &BurnTensor<2>,
) -> Result<BurnTensor<2>, BurnTensor<2>> {
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
fn operands<const D: usize>(
    a: &BurnTensor<D>,
    b: &BurnTensor<D>,
) -> Option<(CubeTensor, CubeTensor)> {
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
fn single(x: BurnTensor<2>) -> Result<CubeTensor, BurnTensor<2>> {
    if x.dtype() != DType::F32 || open(x.clone()).is_none() {
        return Err(x);
    }
    Ok(open(x).expect("it was opened above"))
}

fn open<const D: usize>(x: BurnTensor<D>) -> Option<CubeTensor> {
    x.try_into_primitive::<Cube>().ok()
}

fn tensor<const D: usize>(x: CubeTensor) -> BurnTensor<D> {
    BurnTensor::from_primitive::<Cube>(x)
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

/// The numbers of an [`AdamWStep`], in 32 bits.
#[cube(launch)]
fn adamw_kernel(
    gradient: LinearView<'_, f32>,
    mut parameter: LinearViewMut<'_, f32>,
    mut first: LinearViewMut<'_, f32>,
    mut second: LinearViewMut<'_, f32>,
    b1: f32,
    rest1: f32,
    correction1: f32,
    b2: f32,
    rest2: f32,
    correction2: f32,
    eps: f32,
    keep: f32,
    rate: f32,
) {
    if !parameter.is_in_bounds(ABSOLUTE_POS) {
        terminate!();
    }
    let g = gradient.read(ABSOLUTE_POS);
    let m = first.read(ABSOLUTE_POS) * b1 + g * rest1;
    let v = second.read(ABSOLUTE_POS) * b2 + g * g * rest2;
    let direction = (m / correction1) / ((v / correction2).sqrt() + eps);
    parameter.write(
        ABSOLUTE_POS,
        parameter.read(ABSOLUTE_POS) * keep - direction * rate,
    );
    first.write(ABSOLUTE_POS, m);
    second.write(ABSOLUTE_POS, v);
}

/// One launch in place of fifteen. The tensors alone where they do not lie on a GPU.
#[expect(
    clippy::result_large_err,
    reason = "tensors that cannot be used come back"
)]
pub(crate) fn adamw(
    updated: [BurnTensor<2>; 3],
    gradient: &BurnTensor<2>,
    step: &AdamWStep,
) -> Result<[BurnTensor<2>; 3], [BurnTensor<2>; 3]> {
    let usable = |x: &BurnTensor<2>| x.dtype() == DType::F32 && open(x.clone()).is_some();
    let device = gradient.device();
    let together = updated.iter().all(|x| usable(x) && x.device() == device);
    let Some(gradient) = open(gradient.clone()).filter(|_| together && usable(gradient)) else {
        return Err(updated);
    };
    let [parameter, first, second] = updated.map(|x| {
        let x = open(x).expect("it was opened above");
        // What others hold stays as it is for them, and no element is written twice.
        if x.can_mut() && x.is_nonoverlapping() {
            x
        } else {
            x.copy()
        }
    });
    let client = parameter.client.clone();
    let elements = parameter.meta.num_elements();
    let threads = CubeDim::new(&client, elements);
    let cubes = calculate_cube_count_elemwise(&client, elements, threads);
    let view = |x: &CubeTensor| x.clone().into_linear_view_like(&parameter);
    let [b1, b2] = step.betas;
    let [correction1, correction2] = step.corrections;
    adamw_kernel::launch(
        &client,
        cubes,
        threads,
        view(&gradient),
        view(&parameter),
        view(&first),
        view(&second),
        b1 as f32,
        (1.0 - b1) as f32,
        correction1 as f32,
        b2 as f32,
        (1.0 - b2) as f32,
        correction2 as f32,
        step.eps as f32,
        (1.0 - step.rate * step.weight_decay) as f32,
        step.rate as f32,
    );
    Ok([parameter, first, second].map(tensor))
}

/// Threads of a [`squares_kernel`], a power of two.
const SQUARES: u32 = 256;

/// Σ x² → `sums[at]`, by one group of threads in a fixed order.
#[cube(launch)]
fn squares_kernel(
    x: LinearView<'_, f32>,
    mut sums: LinearViewMut<'_, f32>,
    at: u32,
    #[comptime] threads: usize,
) {
    let mut partial = Shared::new_slice(threads);
    let mut sum = 0.0_f32;
    let mut i = UNIT_POS as usize;
    while i < x.shape() {
        let value = x.read(i);
        sum += value * value;
        i += CUBE_DIM as usize;
    }
    partial[UNIT_POS as usize] = sum;
    sync_cube();
    let mut active = CUBE_DIM / 2;
    while active > 0 {
        if UNIT_POS < active {
            let other = partial[(UNIT_POS + active) as usize];
            partial[UNIT_POS as usize] += other;
        }
        sync_cube();
        active /= 2;
    }
    if UNIT_POS == 0 {
        sums.write(at as usize, partial[0]);
    }
}

/// Σ x² of each tensor, read once for all. `None` where one of them does not lie on a GPU.
pub(crate) fn sums_of_squares(tensors: &[&BurnTensor<2>]) -> Option<Vec<f32>> {
    let opened: Option<Vec<CubeTensor>> = tensors
        .iter()
        .map(|&x| open(x.clone()).filter(|x| x.dtype == DType::F32))
        .collect();
    let opened = opened?;
    let first = opened.first()?;
    if opened.iter().any(|x| x.device != first.device) {
        return None;
    }
    let (client, device) = (first.client.clone(), first.device.clone());
    let count = opened.len();
    let sums = empty_device_dtype(client, device, [count].into(), DType::F32);
    for (i, x) in opened.into_iter().enumerate() {
        squares_kernel::launch(
            &sums.client,
            CubeCount::new_single(),
            CubeDim::new_1d(SQUARES),
            x.into_linear_view(),
            sums.clone().into_linear_view(),
            i as u32,
            SQUARES as usize,
        );
    }
    let sums = BurnTensor::<1>::from_primitive::<Cube>(sums).into_data();
    Some(sums.try_to_vec().expect("they were made as f32"))
}
