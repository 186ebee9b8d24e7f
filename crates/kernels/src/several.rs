//! Several tensors added to or scaled at once.

use burn_tensor::Tensor;

use crate::shape;

/// x + y of each pair, in place where nobody else holds x.
///
/// # Panics
/// If there are not as many of both, or the shapes of a pair differ.
pub fn add_each(sums: Vec<Tensor<2>>, more: &[Tensor<2>]) -> Vec<Tensor<2>> {
    let operation = "add_each";
    let count = sums.len();
    shape::axis(operation, "more", 0, more.len(), count, "as in `sums`");
    for (i, (sum, more)) in sums.iter().zip(more).enumerate() {
        let name = format_args!("more[{i}]");
        shape::same(operation, name, more.dims(), sum.dims(), "as in `sums`");
    }
    #[cfg(feature = "gpu")]
    let sums = match on_gpu::update(sums, Some(more), 1.0) {
        Ok(sums) => return sums,
        Err(sums) => sums,
    };
    let pairs = sums.into_iter().zip(more);
    pairs.map(|(sum, more)| sum + more.clone()).collect()
}

/// `factor` · x of each, in place where nobody else holds x.
pub fn scale_each(tensors: Vec<Tensor<2>>, factor: f64) -> Vec<Tensor<2>> {
    #[cfg(feature = "gpu")]
    let tensors = match on_gpu::update(tensors, None, factor) {
        Ok(scaled) => return scaled,
        Err(tensors) => tensors,
    };
    tensors.into_iter().map(|x| x * factor).collect()
}

#[cfg(feature = "gpu")]
mod on_gpu {
    use burn_cubecl::cubecl;
    use burn_cubecl::cubecl::prelude::*;
    use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
    use burn_cubecl::tensor::CubeTensor;
    use burn_tensor::Tensor as BurnTensor;

    use crate::gpu::tensor;
    use crate::launch::{a_thread_each, operands, single, together};

    /// Most tensors of one launch.
    const TENSORS: usize = 4;

    /// A thread an element, those of one tensor behind those of another. `more` may be empty.
    #[cube(launch)]
    fn update_kernel(
        mut tensors: Sequence<LinearViewMut<'static, f32>>,
        more: Sequence<LinearView<'static, f32>>,
        starts: Sequence<usize>,
        factor: f32,
        #[comptime] adds: bool,
    ) {
        #[unroll]
        for tensor in 0..tensors.len() {
            let start = starts[tensor];
            if ABSOLUTE_POS >= start && ABSOLUTE_POS - start < tensors[tensor].shape() {
                let at = ABSOLUTE_POS - start;
                let mut x = tensors[tensor].read(at) * factor;
                if adds {
                    x += more[tensor].read(at);
                }
                tensors.index_mut(tensor).write(at, x);
            }
        }
    }

    /// `factor` · x, plus what is added to it. The tensors alone where not all lie on one GPU.
    pub fn update(
        tensors: Vec<BurnTensor<2>>,
        more: Option<&[BurnTensor<2>]>,
        factor: f64,
    ) -> Result<Vec<BurnTensor<2>>, Vec<BurnTensor<2>>> {
        let Some(device) = tensors.first().map(|x| x.device()) else {
            return Err(tensors);
        };
        let usable = |x: &BurnTensor<2>| x.device() == device && operands([x]).is_some();
        let mut all = tensors.iter().chain(more.unwrap_or(&[]));
        if !all.all(usable) {
            return Err(tensors);
        }
        let opened: Vec<CubeTensor> = tensors.into_iter().map(single).collect();
        let together = together(&opened[0], 2, 0, TENSORS);
        let added = more.unwrap_or(&[]).chunks(together);
        let mut added = added.map(|more| -> Vec<CubeTensor> {
            let opened = more.iter().filter_map(|x| operands([x]));
            opened.map(|[x]| x).collect()
        });
        for tensors in opened.chunks(together) {
            let mut elements = 0;
            let starts = tensors.iter().map(|x| {
                elements += x.meta.num_elements();
                elements - x.meta.num_elements()
            });
            let starts = starts.collect();
            let (cubes, threads) = a_thread_each(&tensors[0], elements);
            update_kernel::launch(
                &tensors[0].client,
                cubes,
                threads,
                tensors
                    .iter()
                    .map(|x| x.clone().into_linear_view())
                    .collect(),
                (added.next().into_iter().flatten())
                    .map(CubeTensor::into_linear_view)
                    .collect(),
                starts,
                factor as f32,
                more.is_some(),
            );
        }
        Ok(opened.into_iter().map(tensor).collect())
    }
}
