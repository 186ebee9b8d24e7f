//! An adapter of one matrix, under three preferences: its update is linear in λ.
//!
//!     cargo run -p panacea-svd-lora --example steer_one_matrix

use burn_tensor::{Device, Tensor};
use panacea_svd_lora::{Adapters, SvdLoraConfig};

fn main() {
    let device = Device::flex();
    let config = SvdLoraConfig {
        base_model: "none".to_owned(),
        base_fingerprint: String::new(),
        rank: 2,
        objectives: vec!["brevity".to_owned(), "detail".to_owned()],
        alpha: 4.0,
        target_modules: vec!["q_proj".to_owned()],
    };
    let name = "model.layers.0.self_attn.q_proj";
    let mut adapters = Adapters::init(config, &[(name.to_owned(), [3, 4])], 0.5, 17, &device);
    // An untrained adapter changes nothing: σ and s are 0.
    let factors = adapters.factors.0.get_mut(name).expect("it was just made");
    factors.s = Tensor::ones([1, 1], &device);

    let matrix = adapters.get(name).expect("it was just made");
    let update = |weights: [f64; 2]| -> Vec<f32> {
        let row = adapters.preference_row(&weights, &device);
        matrix.delta(&row).into_data().try_to_vec().expect("floats")
    };
    let [short, long, half] = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]].map(update);
    println!("ΔW at (1, 0), (0, 1) and (½, ½), first row:");
    for row in [&short, &long, &half] {
        println!("{:+.3?}", &row[..4]);
    }
    for ((short, long), half) in short.iter().zip(&long).zip(&half) {
        assert!(((short + long) / 2.0 - half).abs() < 1e-6);
    }
}
