//! The gradients that are written out by hand, held against burn's autodiff on the portable operations.

use burn_tensor::{Tensor, TensorData, activation::log_softmax};
use panacea_svd_lora::{Adapters, FactorSet, Part};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::head;
use crate::{Decoder, MemoryPolicy, PackedBatch, Sequence};

#[path = "../tests/common/mod.rs"]
pub(crate) mod common;

fn families() -> Vec<Value> {
    vec![
        common::config("llama", json!({})),
        common::config(
            "qwen2",
            json!({"attention_bias": true, "tie_word_embeddings": false}),
        ),
        common::config("qwen3", json!({})),
        common::config("mistral", json!({"sliding_window": 3})),
        common::config(
            "gemma3_text",
            json!({
                "hidden_act": null, "sliding_window": 3, "sliding_window_pattern": 2,
                "query_pre_attn_scalar": 9, "rope_scaling": {"rope_type": "linear", "factor": 8.0}
            }),
        ),
        common::config(
            "gemma3_text",
            json!({"hidden_act": null, "sliding_window": 3, "final_logit_softcapping": 2.0}),
        ),
        common::config(
            "phi3",
            json!({"sliding_window": 3, "tie_word_embeddings": false}),
        ),
    ]
}

/// Two prompts of different lengths with one and two responses, under different preferences.
fn batch() -> PackedBatch {
    PackedBatch::new(&[
        Sequence {
            prompt: &[3, 14, 15, 9],
            responses: vec![&[26, 5, 35, 2], &[8, 2]],
            preference: &[0.7, 0.3],
        },
        Sequence {
            prompt: &[1, 6],
            responses: vec![&[18, 3, 39, 8, 2]],
            preference: &[0.0, 1.0],
        },
    ])
    .unwrap()
}

/// The same network and adapters twice: as it is, and on a device that records.
fn twice(config: &Value) -> [(Decoder, Adapters); 2] {
    let device = panacea_devices::of_environment();
    [device.clone(), device.autodiff()].map(|device| {
        let model = common::tiny_model(config, &device);
        let mut adapters = common::random_adapters(&model, &device);
        for factors in adapters.factors.0.values_mut() {
            for part in Part::ALL {
                if device.is_autodiff() {
                    let tensor = factors.part(part).clone().require_grad();
                    *factors.part_mut(part) = tensor;
                }
            }
        }
        (model, adapters)
    })
}

/// The same numbers at every call: whether a bound holds must not be a matter of luck.
fn random([rows, columns]: [usize; 2], seed: u64) -> Tensor<2> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..rows * columns).map(|_| 4.0 * rng.random::<f32>() - 2.0);
    let data = TensorData::new(values.collect::<Vec<f32>>(), [rows, columns]);
    Tensor::from_data(data, &panacea_devices::of_environment())
}

/// ‖found − expected‖ ≤ tolerance · ‖expected‖.
#[track_caller]
fn assert_close(what: &str, found: &Tensor<2>, expected: &Tensor<2>, tolerance: f64) {
    let values = |x| -> Vec<f64> { common::values(x).into_iter().map(f64::from).collect() };
    let (found, expected) = (values(found), values(expected));
    let norm = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
    let difference: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| a - b).collect();
    assert_eq!(found.len(), expected.len(), "{what}");
    assert!(norm(&expected) > 0.0, "{what}: nothing to compare");
    let error = norm(&difference) / norm(&expected);
    assert!(error <= tolerance, "{what}: off by {error}");
}

fn assert_factors_close(
    what: &str,
    found: &FactorSet,
    adapters: &Adapters,
    gradients: &burn_tensor::Gradients,
    tolerance: f64,
) {
    for (name, factors) in &adapters.factors.0 {
        let Some(found) = found.0.get(name) else {
            continue;
        };
        for part in Part::ALL {
            let expected = factors.part(part).grad(gradients).expect("it is tracked");
            let what = format!("{what}: {} of {name}", part.name());
            assert_close(&what, found.part(part), &expected, tolerance);
        }
    }
}

#[test]
fn one_layer() {
    for config in families() {
        let [(plain, adapters), (recording, tracked)] = twice(&config);
        let batch = batch();
        let shape = [batch.rows(), 16];
        // ∂s is one number, a sum that other draws bring close to zero: in f32 nothing agrees to 1e-5 of that.
        let (x, dy) = (random(shape, 5), random(shape, 6));

        let context = plain.context(&batch, Some(&adapters)).unwrap();
        let steering = context.mode.steering.as_ref().unwrap();
        let mut found = FactorSet::default();
        let (y, saved) = plain.layers[0].forward(x.clone(), &context, true);
        let dx =
            plain.layers[0].backward(saved.unwrap(), dy.clone(), &context, steering, &mut found);

        let context = recording.context(&batch, Some(&tracked)).unwrap();
        let x = x.autodiff().require_grad();
        let (expected, _) = recording.layers[0].forward(x.clone(), &context, false);
        let what = config["model_type"].to_string();
        assert_close(&format!("{what}: y"), &y, &expected.clone().inner(), 1e-5);
        let gradients = (expected * dy.autodiff()).sum().backward();
        assert_close(
            &format!("{what}: dx"),
            &dx,
            &x.grad(&gradients).unwrap(),
            1e-5,
        );
        assert_factors_close(&what, &found, &tracked, &gradients, 1e-5);
    }
}

#[test]
fn the_whole_network() {
    for config in families() {
        let [(plain, adapters), (recording, tracked)] = twice(&config);
        let batch = batch();
        let coefficients: Vec<f64> = (0..batch.targets()).map(|i| (i as f64).sin()).collect();

        let forward = plain
            .forward(&batch, &adapters, MemoryPolicy::Keep)
            .unwrap();
        let found = plain
            .backward(&batch, &adapters, forward.tape, &coefficients)
            .unwrap();

        let context = recording.context(&batch, Some(&tracked)).unwrap();
        let mut x = recording.embed(&batch.tokens);
        for layer in &recording.layers {
            (x, _) = layer.forward(x, &context, false);
        }
        let rows = head::indices(batch.targets.iter().map(|t| t.row), recording.device());
        let tokens = batch.targets.iter().map(|t| t.token as usize);
        let tokens = head::indices(tokens, recording.device()).reshape([batch.targets(), 1]);
        let logits = recording.logits_of(&x.select(0, rows), &context.mode);
        let log_probs = log_softmax(logits, 1).gather(1, tokens);
        let weights: Vec<f32> = coefficients.iter().map(|&c| c as f32).collect();
        let weights = Tensor::<1>::from_floats(&weights[..], recording.device());
        let objective = (log_probs.reshape([batch.targets()]) * weights).sum();
        let gradients = objective.backward();

        let what = config["model_type"].to_string();
        assert_eq!(found.0.len(), tracked.factors.0.len(), "{what}");
        assert_factors_close(&what, &found, &tracked, &gradients, 1e-4);
    }
}
