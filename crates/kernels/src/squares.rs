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
    use burn_cubecl::tensor::CubeTensor;
    use burn_tensor::Tensor as BurnTensor;

    use crate::gpu::tensor;
    use crate::launch::{MOST_THREADS, a_cube_each, operands, room, sum_of_cube, together};

    /// Most tensors of one launch.
    const TENSORS: usize = 7;

    /// A cube a tensor, which sums in a fixed order: Σ x² → `sums[first + tensor]`.
    #[cube(launch)]
    fn squares_kernel(
        tensors: Sequence<LinearView<'static, f32>>,
        mut sums: LinearViewMut<'_, f32>,
        first: usize,
        #[comptime] threads: usize,
    ) {
        let mut sum = 0.0_f32;
        #[unroll]
        for tensor in 0..tensors.len() {
            if CUBE_POS == tensor {
                let x = tensors.index(tensor);
                let mut i = UNIT_POS as usize;
                while i < x.shape() {
                    let value = x.read(i);
                    sum += value * value;
                    i += threads;
                }
            }
        }
        let sum = sum_of_cube(sum, threads);
        if UNIT_POS == 0 && CUBE_POS < tensors.len() {
            sums.write(first + CUBE_POS, sum);
        }
    }

    /// Σ x² of each tensor, read once for all. `None` where one of them does not lie on a GPU.
    pub fn sums(tensors: &[&BurnTensor<2>]) -> Option<Vec<f32>> {
        let opened: Option<Vec<CubeTensor>> = tensors
            .iter()
            .map(|&x| operands([x]).map(|[x]| x))
            .collect();
        let opened = opened?;
        let first = opened.first()?.clone();
        if opened.iter().any(|x| x.device != first.device) {
            return None;
        }
        let sums = room(&first, [opened.len()]);
        let together = together(&first, 1, 1, TENSORS);
        for (i, tensors) in opened.chunks(together).enumerate() {
            let (cubes, threads) = a_cube_each(&first, tensors.len(), MOST_THREADS);
            squares_kernel::launch(
                &first.client,
                cubes,
                threads,
                tensors
                    .iter()
                    .map(|x| x.clone().into_linear_view())
                    .collect(),
                sums.clone().into_linear_view(),
                i * together,
                threads.num_elems() as usize,
            );
        }
        let sums = tensor::<1>(sums).into_data();
        Some(sums.try_to_vec().expect("they were made as f32"))
    }
}
