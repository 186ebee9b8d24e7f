//! What must hold for every family: gradients, packing, preferences per row.

use burn_tensor::{Tensor, TensorData};
use panacea_model::{Decoder, MemoryPolicy, PackedBatch, Sequence, ValueHead};
use panacea_svd_lora::{Adapters, Part};
use serde_json::json;

use crate::common::{config, random_adapters, tiny_model, values};
use crate::{FIRST, SECOND, families, two_prompts};

fn weighted_sum(
    model: &Decoder,
    adapters: &Adapters,
    batch: &PackedBatch,
    coefficients: &[f64],
) -> f64 {
    let log_probs = model.log_probs(batch, Some(adapters)).unwrap();
    log_probs.iter().zip(coefficients).map(|(l, c)| l * c).sum()
}

fn nudged(adapters: &Adapters, name: &str, part: Part, index: usize, by: f32) -> Adapters {
    let mut moved = adapters.clone();
    let tensor = moved.factors.0.get_mut(name).unwrap().part_mut(part);
    let (shape, device, mut numbers) = (tensor.dims(), tensor.device(), values(tensor));
    numbers[index] += by;
    *tensor = Tensor::from_data(TensorData::new(numbers, shape), &device);
    moved
}

/// Directional derivatives of Σ c · log p, one element of every tensor of every module, against central
/// differences, for every family.
#[test]
fn the_gradient_matches_finite_differences_for_every_family() {
    let device = panacea_devices::of_environment();
    let coefficients = [1.0, -0.5, 0.3, 0.8, -1.2, 0.4, 0.9, 0.6, -0.7, 0.2];
    for family in families() {
        let model = tiny_model(&family, &device);
        let adapters = random_adapters(&model, &device);
        let batch = two_prompts();
        assert_eq!(batch.targets(), coefficients.len());
        let forward = model
            .forward(&batch, &adapters, MemoryPolicy::Keep)
            .unwrap();
        let gradients = model
            .backward(&batch, &adapters, forward.tape, &coefficients)
            .unwrap();
        let largest = gradients.norm(&Part::ALL);
        for (name, factors) in &gradients.0 {
            for part in Part::ALL {
                let gradient = values(factors.part(part));
                let index = (0..gradient.len())
                    .max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()))
                    .unwrap();
                let h = 1e-2;
                let at = |by: f32| {
                    weighted_sum(
                        &model,
                        &nudged(&adapters, name, part, index, by),
                        &batch,
                        &coefficients,
                    )
                };
                let difference = (at(h) - at(-h)) / f64::from(2.0 * h);
                let error = (difference - f64::from(gradient[index])).abs();
                assert!(
                    error < 0.02 * f64::from(gradient[index]).abs() + 1e-3 * largest,
                    "{} {name}.{}[{index}]: {} against {difference}",
                    family["model_type"],
                    part.name(),
                    gradient[index]
                );
            }
        }
    }
}

/// Directional derivatives of Σ c · v for adapters and head of a critic, against central differences.
#[test]
fn the_gradient_of_values_matches_finite_differences() {
    let device = panacea_devices::of_environment();
    let model = tiny_model(&families()[0], &device);
    let adapters = random_adapters(&model, &device);
    let batch = two_prompts();
    let weight: Vec<f32> = (0..32).map(|i| (i as f32).sin()).collect();
    let head = ValueHead {
        weight: Tensor::from_data(TensorData::new(weight, [2, 16]), &device),
        bias: Tensor::from_data(TensorData::new(vec![0.3f32, -0.2], [1, 2]), &device),
    };
    let coefficients: Vec<f64> = (0..2 * batch.targets())
        .map(|i| (1.7 * i as f64).cos())
        .collect();
    let sum = |adapters: &Adapters, head: &ValueHead| -> f64 {
        let found = model.values(&batch, Some(adapters), head).unwrap();
        found.iter().zip(&coefficients).map(|(v, c)| v * c).sum()
    };
    let (found, tape) = model
        .values_forward(&batch, &adapters, &head, MemoryPolicy::Recompute)
        .unwrap();
    assert_eq!(found, model.values(&batch, Some(&adapters), &head).unwrap());
    let (gradients, d_head) = model
        .values_backward(&batch, &adapters, &head, tape, &coefficients)
        .unwrap();

    let h = 1e-2f32;
    let close = |what: &str, difference: f64, gradient: f32| {
        let error = (difference - f64::from(gradient)).abs();
        let allowed = 0.02 * f64::from(gradient).abs() + 1e-3 * gradients.norm(&Part::ALL);
        assert!(error < allowed, "{what}: {gradient} against {difference}");
    };
    for (name, factors) in &gradients.0 {
        for part in Part::ALL {
            let gradient = values(factors.part(part));
            let at = |by: f32| sum(&nudged(&adapters, name, part, 0, by), &head);
            let difference = (at(h) - at(-h)) / f64::from(2.0 * h);
            close(&format!("{name}.{}", part.name()), difference, gradient[0]);
        }
    }
    for index in 0..32 {
        let at = |by: f32| {
            let mut numbers = values(&head.weight);
            numbers[index] += by;
            let weight = Tensor::from_data(TensorData::new(numbers, [2, 16]), &device);
            let bias = head.bias.clone();
            sum(&adapters, &ValueHead { weight, bias })
        };
        let difference = (at(h) - at(-h)) / f64::from(2.0 * h);
        close("head", difference, values(&d_head.weight)[index]);
    }
    for output in 0..2 {
        let of_output = coefficients.iter().skip(output).step_by(2);
        close("bias", of_output.sum(), values(&d_head.bias)[output]);
    }
}

/// What is read behind the last token of a response is what stands before one more token.
#[test]
fn the_end_of_a_response_is_read_behind_its_last_token() {
    let device = panacea_devices::of_environment();
    let model = tiny_model(&families()[0], &device);
    let adapters = random_adapters(&model, &device);
    let weight: Vec<f32> = (0..32).map(|i| (i as f32).sin()).collect();
    let head = ValueHead {
        weight: Tensor::from_data(TensorData::new(weight, [2, 16]), &device),
        bias: Tensor::zeros([1, 2], &device),
    };
    let sequence = |responses: [&'static [u32]; 2]| Sequence {
        prompt: &[1, 2, 3],
        responses: responses.to_vec(),
        preference: &[0.3, 0.7],
    };
    let ends = PackedBatch::ends(&[sequence([&[4, 5], &[6]])]).unwrap();
    let longer = PackedBatch::new(&[sequence([&[4, 5, 9], &[6, 9]])]).unwrap();
    for adapters in [None, Some(&adapters)] {
        let found = model.values(&ends, adapters, &head).unwrap();
        let all = model.values(&longer, adapters, &head).unwrap();
        assert_eq!(found, [&all[4..6], &all[8..10]].concat());
    }
}

#[test]
fn recomputing_activations_changes_nothing() {
    let device = panacea_devices::of_environment();
    let model = tiny_model(&config("qwen3", json!({})), &device);
    let adapters = random_adapters(&model, &device);
    let batch = two_prompts();
    let coefficients = vec![0.5; batch.targets()];
    let gradient = |memory| {
        let forward = model.forward(&batch, &adapters, memory).unwrap();
        model
            .backward(&batch, &adapters, forward.tape, &coefficients)
            .unwrap()
    };
    let (kept, recomputed) = (
        gradient(MemoryPolicy::Keep),
        gradient(MemoryPolicy::Recompute),
    );
    for (name, factors) in &kept.0 {
        for part in Part::ALL {
            assert_eq!(
                values(factors.part(part)),
                values(recomputed.0[name].part(part)),
                "{name}.{}",
                part.name()
            );
        }
    }
}

#[test]
fn a_packed_batch_equals_its_rows_one_by_one() {
    let device = panacea_devices::of_environment();
    for family in families() {
        let model = tiny_model(&family, &device);
        let adapters = random_adapters(&model, &device);
        let packed = model.log_probs(&two_prompts(), Some(&adapters)).unwrap();
        let rows: [(&[u32], &[u32], &[f64]); 4] = [
            (&[3, 4, 5], &[6, 7, 8, 2], &FIRST),
            (&[3, 4, 5], &[9, 2], &FIRST),
            (&[10, 11], &[12], &SECOND),
            (&[10, 11], &[13, 14, 15], &SECOND),
        ];
        let mut alone = Vec::new();
        for (prompt, response, preference) in rows {
            let sequence = Sequence {
                prompt,
                responses: vec![response],
                preference,
            };
            let batch = PackedBatch::new(&[sequence]).unwrap();
            alone.extend(model.log_probs(&batch, Some(&adapters)).unwrap());
        }
        for (p, a) in packed.iter().zip(&alone) {
            assert!(
                (p - a).abs() < 1e-4,
                "{}: {packed:?} against {alone:?}",
                family["model_type"]
            );
        }
    }
}

#[test]
fn without_adapters_the_preference_does_not_matter_and_a_new_adapter_is_the_base() {
    let device = panacea_devices::of_environment();
    let model = tiny_model(&config("llama", json!({})), &device);
    let trained = random_adapters(&model, &device);
    let shapes = model
        .adapted_shapes(&trained.config.target_modules)
        .unwrap();
    let fresh = Adapters::init(trained.config.clone(), &shapes, 0.02, 1, &device);
    let base = model.log_probs(&two_prompts(), None).unwrap();
    assert_eq!(base, model.log_probs(&two_prompts(), Some(&fresh)).unwrap());
    assert_ne!(
        base,
        model.log_probs(&two_prompts(), Some(&trained)).unwrap()
    );
}
