//! Sums of squares, for norms.

use burn_tensor::Tensor;

/// Σ x² over the elements of all tensors. Where all lie on one GPU, it is waited for once, and sums in a fixed order.
pub fn sum_of_squares(tensors: &[&Tensor<2>]) -> f64 {
    #[cfg(feature = "gpu")]
    if let Some(sums) = on_gpu::sums(tensors) {
        return sums.into_iter().map(f64::from).sum();
    }
    let of_one = |&x: &&Tensor<2>| {
        let sum: f32 = (x.clone() * x.clone()).sum().into_scalar();
        f64::from(sum)
    };
    tensors.iter().map(of_one).sum()
}

#[cfg(feature = "gpu")]
mod on_gpu {
    use burn_cubecl::cubecl;
    use burn_cubecl::cubecl::prelude::*;
    use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
    use burn_cubecl::ops::numeric::empty_device_dtype;
    use burn_cubecl::tensor::CubeTensor;
    use burn_tensor::{DType, Tensor as BurnTensor};

    use crate::gpu::{open, tensor};

    /// Threads of a [`squares_kernel`], a power of two.
    const THREADS: u32 = 256;

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
    pub fn sums(tensors: &[&BurnTensor<2>]) -> Option<Vec<f32>> {
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
                CubeDim::new_1d(THREADS),
                x.into_linear_view(),
                sums.clone().into_linear_view(),
                i as u32,
                THREADS as usize,
            );
        }
        let sums = tensor::<1>(sums).into_data();
        Some(sums.try_to_vec().expect("they were made as f32"))
    }
}
