//! What kernels of our own share on GPUs: operands, room for results, who computes what, and sums and maxima over a cube, which is a
//! group of threads that can wait for each other.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_dispatch::backends::Cube;
use burn_tensor::{DType, Int, Tensor as BurnTensor};

use crate::gpu::open;

/// Most threads of a cube, a power of two.
pub(crate) const MOST_THREADS: usize = 256;

/// `None` unless all lie on one GPU, have 32 bits and elements that 32 bits count, and are not tracked by autodiff.
pub(crate) fn operands<const D: usize, const N: usize>(
    tensors: [&BurnTensor<D>; N],
) -> Option<[CubeTensor; N]> {
    let counted = |x: &CubeTensor| (1..u32::MAX as usize).contains(&x.meta.num_elements());
    let usable = |x: &CubeTensor| x.dtype == DType::F32 && counted(x);
    let opened = tensors.map(|x| open(x.clone()).filter(usable));
    if opened.iter().any(Option::is_none) {
        return None;
    }
    let opened = opened.map(|x| x.expect("all were opened"));
    let together = opened.iter().all(|x| x.device == opened[0].device);
    together.then_some(opened)
}

/// Whether a kernel may bind so many buffers where `x` lies.
pub(crate) fn binds(x: &CubeTensor, buffers: usize) -> bool {
    buffers <= x.client.properties().hardware.max_bindings as usize
}

/// How many tensors of `each` buffers a launch takes beside `others`: as many as the GPU binds, `most` at most.
pub(crate) fn together(x: &CubeTensor, each: usize, others: usize, most: usize) -> usize {
    let bound = x.client.properties().hardware.max_bindings as usize;
    (bound.saturating_sub(others) / each).clamp(1, most)
}

/// What [`operands`] would open, to be overwritten. What others hold stays as it is for them, and no element is written twice.
pub(crate) fn single<const D: usize>(x: BurnTensor<D>) -> CubeTensor {
    let x = open(x).expect("it was opened before");
    if x.can_mut() && x.is_nonoverlapping() {
        x
    } else {
        x.copy()
    }
}

/// `None` where they lie elsewhere, or have not 32 bits.
pub(crate) fn open_ints(x: BurnTensor<1, Int>) -> Option<CubeTensor> {
    let opened = x.try_into_primitive::<Cube>().ok();
    opened.filter(|x| x.dtype == DType::I32)
}

/// Room for numbers of 32 bits where `x` lies.
pub(crate) fn room<const D: usize>(x: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    let (client, device) = (x.client.clone(), x.device.clone());
    empty_device_dtype(client, device, shape.into(), DType::F32)
}

/// A thread for each element, and some that have none.
pub(crate) fn a_thread_each(x: &CubeTensor, elements: usize) -> (CubeCount, CubeDim) {
    let threads = CubeDim::new(&x.client, elements);
    let cubes = calculate_cube_count_elemwise(&x.client, elements, threads);
    (cubes, threads)
}

/// A cube for each row, and some that have none. Its threads are as many as sums over `width` numbers keep busy, a power of
/// two.
pub(crate) fn a_cube_each(x: &CubeTensor, rows: usize, width: usize) -> (CubeCount, CubeDim) {
    let threads = width.next_power_of_two().clamp(32, MOST_THREADS);
    let dim = CubeDim::new_1d(threads as u32);
    let cubes = calculate_cube_count_elemwise(&x.client, rows * threads, dim);
    (cubes, dim)
}

/// Σ `value` over the threads of a cube, in a fixed order; the same for all of them. All call it, `threads` as there are.
#[cube]
pub(crate) fn sum_of_cube(value: f32, #[comptime] threads: usize) -> f32 {
    let mut partial = Shared::new_slice(threads);
    partial[UNIT_POS as usize] = value;
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
    let sum = partial[0];
    // Nobody writes there again before all have read it.
    sync_cube();
    sum
}

/// The largest `value` of the threads of a cube, as [`sum_of_cube`].
#[cube]
pub(crate) fn max_of_cube(value: f32, #[comptime] threads: usize) -> f32 {
    let mut partial = Shared::new_slice(threads);
    partial[UNIT_POS as usize] = value;
    sync_cube();
    let mut active = CUBE_DIM / 2;
    while active > 0 {
        if UNIT_POS < active {
            let other = partial[(UNIT_POS + active) as usize];
            if other > partial[UNIT_POS as usize] {
                partial[UNIT_POS as usize] = other;
            }
        }
        sync_cube();
        active /= 2;
    }
    let max = partial[0];
    sync_cube();
    max
}
