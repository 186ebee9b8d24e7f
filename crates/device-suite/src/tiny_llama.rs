//! A tiny Llama with adapters against PyTorch in float64: logits, log-probabilities, gradients.

use burn_tensor::Device;
use panacea_model::{Decoder, MemoryPolicy, PROJECTIONS, PackedBatch, Sequence};
use panacea_pretrained::Pretrained;
use panacea_svd_lora::{Adapters, FactorSet, SvdLoraConfig};
use panacea_test_support::{TinyLlama, floats};
use serde_json::Value;

use crate::{Check, named};

pub const CHECKS: &[Check] = named!["tiny_llama":
    logits_are_those_of_pytorch,
    log_probabilities_are_those_of_pytorch,
    the_gradient_under_mixed_preferences_is_that_of_pytorch,
];

struct Golden {
    expected: Value,
    model: Decoder,
    adapters: Adapters,
    /// (prompt, response) of every row.
    rows: Vec<(Vec<u32>, Vec<u32>)>,
}

impl Golden {
    fn read(device: &Device) -> Self {
        let golden = TinyLlama::read();
        let model = Decoder::load(&Pretrained::open(&golden.dir).unwrap(), device).unwrap();
        let (rank, objectives, alpha) = golden.adapter_sizes();
        let config = SvdLoraConfig {
            base_model: "tiny".into(),
            base_fingerprint: String::new(),
            rank,
            objectives: (0..objectives).map(|i| i.to_string()).collect(),
            alpha,
            target_modules: PROJECTIONS.map(str::to_owned).to_vec(),
        };
        let factors = FactorSet::load(&golden.dir.join("adapter.safetensors"), device).unwrap();
        let adapters = Adapters { config, factors };
        let shapes = model.adapted_shapes(&adapters.config.target_modules);
        adapters.check(&shapes.unwrap()).unwrap();
        Self {
            expected: golden.expected,
            model,
            adapters,
            rows: golden.rows,
        }
    }

    /// Every row under its own λ.
    fn batch(&self, preferences: &[Vec<f64>]) -> PackedBatch {
        let sequences: Vec<_> = self
            .rows
            .iter()
            .zip(preferences)
            .map(|((prompt, response), preference)| Sequence {
                prompt,
                responses: vec![response],
                preference,
            })
            .collect();
        PackedBatch::new(&sequences).unwrap()
    }

    fn mixed(&self) -> PackedBatch {
        let rows: Vec<_> = self.expected["lam_rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(floats)
            .collect();
        self.batch(&rows)
    }

    fn shared(&self) -> PackedBatch {
        self.batch(&vec![floats(&self.expected["lam"]); self.rows.len()])
    }
}

fn assert_close(what: &str, found: &[f64], expected: &Value, tolerance: f64) {
    let expected = floats(expected);
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
        assert!((f - e).abs() <= tolerance, "{what}[{i}]: {f} against {e}");
    }
}

fn distance(found: &[f64], expected: &[f64]) -> (f64, f64) {
    let squares = found.iter().zip(expected).map(|(f, e)| (f - e) * (f - e));
    (
        squares.sum::<f64>().sqrt(),
        expected.iter().map(|e| e * e).sum::<f64>().sqrt(),
    )
}

fn logits_are_those_of_pytorch(device: &Device) {
    let golden = Golden::read(device);
    // One token more than the prompt and the response's inputs are needed at no row that is compared.
    let check = |batch: &PackedBatch, adapters, row: usize, key: &str, position: usize| {
        let first: usize = golden.rows[..row]
            .iter()
            .map(|(p, r)| p.len() + r.len() - 1)
            .sum();
        let logits = golden
            .model
            .logits(batch, adapters, &[first + position])
            .unwrap();
        let found: Vec<f64> = logits.row(0)[..10].iter().map(|&l| f64::from(l)).collect();
        assert_close(key, &found, &golden.expected[key], 1e-4);
    };
    check(&golden.mixed(), None, 0, "base_logits_row0_pos5_first10", 5);
    check(
        &golden.mixed(),
        Some(&golden.adapters),
        3,
        "mixed_logits_row3_pos7_first10",
        7,
    );
}

fn log_probabilities_are_those_of_pytorch(device: &Device) {
    let golden = Golden::read(device);
    let sums = |batch: &PackedBatch, adapters| {
        batch.sums(&golden.model.log_probs(batch, adapters).unwrap())
    };
    let adapters = Some(&golden.adapters);
    assert_close(
        "reference",
        &sums(&golden.shared(), None),
        &golden.expected["ref_sum_logprob"],
        1e-3,
    );
    assert_close(
        "policy",
        &sums(&golden.shared(), adapters),
        &golden.expected["policy_sum_logprob"],
        1e-3,
    );
    assert_close(
        "mixed",
        &sums(&golden.mixed(), adapters),
        &golden.expected["mixed_sum_logprob"],
        1e-3,
    );
}

fn the_gradient_under_mixed_preferences_is_that_of_pytorch(device: &Device) {
    let golden = Golden::read(device);
    let batch = golden.mixed();
    let coefficients = batch.spread(&floats(&golden.expected["mixed_coefficients"]));
    let forward = golden
        .model
        .forward(&batch, &golden.adapters, MemoryPolicy::Keep)
        .unwrap();
    let gradients = golden
        .model
        .backward(&batch, &golden.adapters, forward.tape, &coefficients)
        .unwrap();
    let modules = golden.expected["mixed_grad"].as_object().unwrap();
    assert_eq!(modules.len(), gradients.0.len());
    for (name, expected) in modules {
        let factors = &gradients.0[name];
        for (part, tensor) in [
            ("u", &factors.u),
            ("v", &factors.v),
            ("sigma", &factors.sigma),
            ("s", &factors.s),
        ] {
            let found = tensor.to_data().try_to_vec::<f32>().unwrap();
            let found: Vec<f64> = found.into_iter().map(f64::from).collect();
            if let Some(whole) = expected.get(part) {
                let (error, norm) = distance(&found, &floats(whole));
                assert!(
                    error <= 1e-3 * norm + 1e-6,
                    "{name}.{part}: off by {error}, norm {norm}"
                );
            } else {
                let norm = expected[format!("{part}_norm")].as_f64().unwrap();
                let (found, _) = distance(&found, &vec![0.0; found.len()]);
                assert!(
                    (found - norm).abs() <= 1e-3 * norm + 1e-6,
                    "{name}.{part}: norm {found} against {norm}"
                );
            }
        }
    }
}
