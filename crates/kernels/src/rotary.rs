//! Rotary position embedding (Su et al., 2021) in Hugging Face's layout: element j of a head's first half is
//! rotated together with element j of its second half.

use burn_tensor::{Device, Tensor, TensorData};

#[cfg(feature = "flex")]
use crate::host::{self, Host};
use crate::shape;

/// cos and sin of every row's angles.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// `[rows, head_dim / 2]`
    cos: Tensor<2>,
    /// `[rows, head_dim / 2]`
    sin: Tensor<2>,
}

impl Rotation {
    /// The rotation of rows that stand at `positions`, by position × inverse frequency.
    ///
    /// # Panics
    /// If there is no frequency.
    pub fn new(positions: &[usize], inverse_frequencies: &[f32], device: &Device) -> Self {
        let half = inverse_frequencies.len();
        shape::some("Rotation::new", "axis 0 of `inverse_frequencies`", half);
        let angles = positions.iter().flat_map(|&position| {
            let frequencies = inverse_frequencies.iter();
            frequencies.map(move |&f| position as f32 * f)
        });
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for angle in angles {
            cos.push(angle.cos());
            sin.push(angle.sin());
        }
        let tensor = |values: Vec<f32>| {
            Tensor::from_data(TensorData::new(values, [positions.len(), half]), device)
        };
        Self {
            cos: tensor(cos),
            sin: tensor(sin),
        }
    }

    /// (a, b) → (a cos − b sin, b cos + a sin) for the halves a, b of every head:
    /// `[rows, heads × head_dim]` → the same shape.
    ///
    /// # Panics
    /// If x has another number of rows than there are positions, or heads of twice as many columns as there are
    /// frequencies do not fill its rows.
    pub fn apply(&self, x: Tensor<2>) -> Tensor<2> {
        let [rotated] = self.apply_each([x]);
        rotated
    }

    /// [`Rotation::apply`] to each, which may have different numbers of heads.
    ///
    /// # Panics
    /// As [`Rotation::apply`].
    pub fn apply_each<const N: usize>(&self, tensors: [Tensor<2>; N]) -> [Tensor<2>; N] {
        for x in &tensors {
            self.check("Rotation::apply", "x", x);
        }
        self.rotate(tensors, 1.0)
    }

    /// The transpose of [`Rotation::apply`], that is its gradient: the rotation by the opposite angle.
    ///
    /// # Panics
    /// As [`Rotation::apply`].
    pub fn apply_backward(&self, dy: Tensor<2>) -> Tensor<2> {
        let [rotated] = self.apply_backward_each([dy]);
        rotated
    }

    /// [`Rotation::apply_backward`] to each.
    ///
    /// # Panics
    /// As [`Rotation::apply`].
    pub fn apply_backward_each<const N: usize>(&self, tensors: [Tensor<2>; N]) -> [Tensor<2>; N] {
        for dy in &tensors {
            self.check("Rotation::apply_backward", "dy", dy);
        }
        self.rotate(tensors, -1.0)
    }

    fn check(&self, operation: &str, argument: &str, x: &Tensor<2>) {
        let ([rows, width], [positions, half]) = (x.dims(), self.cos.dims());
        shape::axis(
            operation,
            argument,
            0,
            rows,
            positions,
            "as `positions` of the rotation",
        );
        let why = "twice the `inverse_frequencies` of the rotation";
        shape::multiple(operation, argument, 1, width, 2 * half, why);
    }

    /// By the angle times `direction`, which is 1 or −1.
    fn rotate<const N: usize>(&self, tensors: [Tensor<2>; N], direction: f32) -> [Tensor<2>; N] {
        #[cfg(feature = "gpu")]
        if let Some(rotated) = on_gpu::rotate(&tensors, &self.cos, &self.sin, direction) {
            return rotated;
        }
        tensors.map(|x| self.rotate_elsewhere(x, direction))
    }

    fn rotate_elsewhere(&self, x: Tensor<2>, direction: f32) -> Tensor<2> {
        if x.dims().contains(&0) {
            return x;
        }
        #[cfg(feature = "flex")]
        if Host::can_open(&x)
            && let (Some(cos), Some(sin)) = (Host::open(&self.cos), Host::open(&self.sin))
        {
            return rotate_on_host(x, cos, sin, direction);
        }
        self.rotate_portably(x, direction)
    }

    fn rotate_portably(&self, x: Tensor<2>, direction: f32) -> Tensor<2> {
        let [rows, width] = x.dims();
        let [_, half] = self.cos.dims();
        let heads = width / (2 * half);
        let per_head = |angles: &Tensor<2>| angles.clone().reshape([rows, 1, half]);
        let (cos, sin) = (per_head(&self.cos), per_head(&self.sin) * direction);
        let x = x.reshape([rows, heads, 2 * half]);
        let a = x.clone().slice([0..rows, 0..heads, 0..half]);
        let b = x.slice([0..rows, 0..heads, half..2 * half]);
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        let second = b * cos + a * sin;
        Tensor::cat(vec![first, second], 2).reshape([rows, width])
    }
}

#[cfg(feature = "gpu")]
mod on_gpu {
    use burn_cubecl::cubecl;
    use burn_cubecl::cubecl::prelude::*;
    use burn_cubecl::cubecl::std::tensor::layout::linear::{LinearView, LinearViewMut};
    use burn_cubecl::tensor::CubeTensor;
    use burn_tensor::Tensor as BurnTensor;

    use crate::gpu::tensor;
    use crate::launch::{a_thread_each, operands, room};

    /// A thread for two elements that are rotated together, those of one tensor behind those of another.
    #[cube(launch)]
    fn rotate_kernel(
        tensors: Sequence<LinearView<'static, f32>>,
        mut rotated: Sequence<LinearViewMut<'static, f32>>,
        starts: Sequence<usize>,
        cos: LinearView<'_, f32>,
        sin: LinearView<'_, f32>,
        half: usize,
        direction: f32,
    ) {
        #[unroll]
        for tensor in 0..tensors.len() {
            let (start, elements) = (starts[tensor], tensors[tensor].shape());
            if ABSOLUTE_POS >= start && ABSOLUTE_POS - start < elements / 2 {
                let pair = ABSOLUTE_POS - start;
                let i = pair % half;
                // As many pairs a row as the tensor has for each row of angles.
                let angle = pair / (elements / 2 / (cos.shape() / half)) * half + i;
                let (cos, sin) = (cos.read(angle), sin.read(angle) * direction);
                let first = pair / half * 2 * half + i;
                let second = first + half;
                let (a, b) = (tensors[tensor].read(first), tensors[tensor].read(second));
                let rotated = rotated.index_mut(tensor);
                rotated.write(first, a * cos - b * sin);
                rotated.write(second, b * cos + a * sin);
            }
        }
    }

    /// One launch. `None` where the tensors do not lie on one GPU.
    pub fn rotate<const N: usize>(
        tensors: &[BurnTensor<2>; N],
        cos: &BurnTensor<2>,
        sin: &BurnTensor<2>,
        direction: f32,
    ) -> Option<[BurnTensor<2>; N]> {
        let [_, half] = cos.dims();
        let shapes = tensors.each_ref().map(|x| x.dims());
        let tensors = operands(tensors.each_ref())?;
        let [cos, sin] = operands([cos, sin])?;
        let first = tensors.first()?;
        if first.device != cos.device {
            return None;
        }
        let rotated = shapes.map(|shape| room(first, shape));
        let mut pairs = 0;
        let starts = tensors.iter().map(|x| {
            pairs += x.meta.num_elements() / 2;
            pairs - x.meta.num_elements() / 2
        });
        let starts = starts.collect();
        let (cubes, threads) = a_thread_each(first, pairs);
        rotate_kernel::launch(
            &cos.client.clone(),
            cubes,
            threads,
            tensors
                .into_iter()
                .map(CubeTensor::into_linear_view)
                .collect(),
            rotated
                .iter()
                .map(|x| x.clone().into_linear_view())
                .collect(),
            starts,
            cos.into_linear_view(),
            sin.into_linear_view(),
            half,
            direction,
        );
        Some(rotated.map(tensor))
    }
}

#[cfg(feature = "flex")]
fn rotate_on_host(x: Tensor<2>, cos: Host, sin: Host, direction: f32) -> Tensor<2> {
    let [_, width] = x.dims();
    let [_, half] = cos.shape();
    let (cos, sin) = (cos.contiguous(), sin.contiguous());
    let (cos, sin) = (cos.values(), sin.values());
    host::update(x, |x| {
        host::for_rows(
            x,
            width,
            #[inline(always)]
            |first, chunk| {
                let angles = cos[first * half..]
                    .chunks_exact(half)
                    .zip(sin[first * half..].chunks_exact(half));
                for (row, (cos, sin)) in chunk.chunks_exact_mut(width).zip(angles) {
                    for head in row.chunks_exact_mut(2 * half) {
                        let (a, b) = head.split_at_mut(half);
                        for i in 0..half {
                            let sin = sin[i] * direction;
                            let (x, y) = (a[i], b[i]);
                            a[i] = x * cos[i] - y * sin;
                            b[i] = y * cos[i] + x * sin;
                        }
                    }
                }
            },
        );
    })
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::test_support::{assert_close, random};

    #[test]
    fn both_forms_agree_and_backward_undoes_forward() {
        let positions: Vec<usize> = (0..300).map(|row| (row * 7) % 50).collect();
        let rotation = Rotation::new(&positions, &[1.0, 0.3, 0.01], &Device::flex());
        let x = random([300, 24]);
        let rotated = rotation.apply(x.clone());
        assert_close("apply", &rotated, &rotation.rotate_portably(x.clone(), 1.0));
        let back = rotation.apply_backward(rotated.clone());
        assert_close("apply_backward", &back, &x);
        assert_close("portable", &rotation.rotate_portably(rotated, -1.0), &x);
    }
}
