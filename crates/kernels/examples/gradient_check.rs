//! The gradient of RMSNorm, held against finite differences, on the device that `PANACEA_DEVICE` names.
//!
//!     cargo run -p panacea-kernels --features flex --example gradient_check

use burn_tensor::{Tensor, TensorData};
use panacea_kernels::{rms_norm, rms_norm_backward};

const EPSILON: f64 = 1e-5;

fn main() {
    let device = panacea_devices::of_environment();
    let row = |values: Vec<f32>| {
        let width = values.len();
        Tensor::<2>::from_data(TensorData::new(values, [1, width]), &device)
    };
    let x = vec![0.5, -1.25, 2.0, 0.75];
    let weight = row(vec![1.0, 0.5, 2.0, -1.0]);
    let dy = row(vec![0.25, -0.5, 1.0, 0.125]);
    // Σ dy ⊙ y
    let value = |x: &[f32]| -> f32 {
        (rms_norm(&row(x.to_vec()), &weight, EPSILON) * dy.clone())
            .sum()
            .into_scalar()
    };

    let gradient = rms_norm_backward(&row(x.clone()), &weight, EPSILON, dy.clone(), None);
    let gradient: Vec<f32> = gradient.into_data().try_to_vec().expect("floats");
    println!("{:>12} {:>18}", "closed form", "finite difference");
    for (place, closed) in gradient.iter().enumerate() {
        let step = 1e-2;
        let [mut above, mut below] = [x.clone(), x.clone()];
        above[place] += step;
        below[place] -= step;
        let difference = (value(&above) - value(&below)) / (2.0 * step);
        println!("{closed:>12.5} {difference:>18.5}");
        assert!((closed - difference).abs() < 1e-3, "they disagree");
    }
}
