//! Losses, aggregates and three AdamW steps under every aggregation against PyTorch in float64; and what must
//! hold of a batch's gradient.

use panacea_data::{Example, Judgement, Source};
use panacea_model::{Decoder, MemoryPolicy, PROJECTIONS};
use panacea_objectives::{Aggregation, Dpo, DpoLoss, Loss, Preference};
use panacea_pretrained::Pretrained;
use panacea_svd_lora::{Adapters, FactorSet, Part, SvdLoraConfig};
use panacea_test_support::{TinyLlama, floats};
use panacea_trainer::{
    AdamW, AdamWSettings, BatchResult, Lanes, Objective, Prepared, batch_gradient,
    response_log_probs,
};
use serde_json::Value;

struct Golden {
    expected: Value,
    model: Decoder,
    adapters: Adapters,
    examples: Vec<Example>,
    references: Vec<Vec<f64>>,
    loss: Loss,
}

impl Golden {
    fn read() -> Self {
        let golden = TinyLlama::read();
        let device = panacea_devices::of_environment();
        let model = Decoder::load(&Pretrained::open(&golden.dir).unwrap(), &device).unwrap();
        let (rank, objectives, alpha) = golden.adapter_sizes();
        let config = SvdLoraConfig {
            base_model: "tiny".into(),
            base_fingerprint: String::new(),
            rank,
            objectives: (0..objectives).map(|i| i.to_string()).collect(),
            alpha,
            target_modules: PROJECTIONS.map(str::to_owned).to_vec(),
        };
        let factors = FactorSet::load(&golden.dir.join("adapter.safetensors"), &device).unwrap();
        let labels = golden.labels().into_iter();
        let examples: Vec<Example> = golden
            .rows
            .chunks(2)
            .zip(labels)
            .enumerate()
            .map(|(pair, (rows, labels))| Example {
                source: Source {
                    file: "golden".into(),
                    line: pair + 1,
                },
                prompt: rows[0].0.clone(),
                responses: rows.iter().map(|(_, response)| response.clone()).collect(),
                judgements: vec![Judgement::pair(0, 1, labels)],
                scores: Vec::new(),
                words: panacea_data::Words::default(),
            })
            .collect();
        let references = examples
            .iter()
            .map(|example| response_log_probs(&model, None, example).unwrap())
            .collect();
        let plain = DpoLoss::Sigmoid {
            label_smoothing: 0.0,
        };
        let beta = golden.expected["beta"].as_f64().unwrap();
        let loss = Loss::Dpo(Dpo::new(beta, plain, 0.0).unwrap());
        Self {
            expected: golden.expected,
            model,
            adapters: Adapters { config, factors },
            examples,
            references,
            loss,
        }
    }

    fn gradient(
        &self,
        adapters: &Adapters,
        aggregation: &Aggregation,
        preferences: &[Preference],
        micro_batch_size: usize,
    ) -> BatchResult {
        let batch: Vec<_> = self
            .examples
            .iter()
            .zip(&self.references)
            .map(|(example, reference)| Prepared { example, reference })
            .collect();
        let objective = Objective {
            loss: &self.loss,
            aggregation,
        };
        let memory = MemoryPolicy::Keep;
        batch_gradient(
            &Lanes::one(&self.model, adapters),
            objective,
            &batch,
            preferences,
            micro_batch_size,
            memory,
        )
        .unwrap()
    }
}

fn tchebycheff() -> Aggregation {
    Aggregation::Tchebycheff {
        ideal: Vec::new(),
        smoothing: 0.0,
    }
}

fn values(set: &FactorSet) -> Vec<(String, Vec<f32>)> {
    set.0
        .iter()
        .flat_map(|(name, factors)| {
            Part::ALL.map(|part| {
                let data = factors.part(part).to_data().try_to_vec::<f32>().unwrap();
                (format!("{name}.{}", part.name()), data)
            })
        })
        .collect()
}

/// ‖a − b‖ ≤ tolerance · ‖a‖ + 1e-6 for every tensor.
fn assert_same_gradients(a: &FactorSet, b: &FactorSet, tolerance: f32) {
    for ((name, a), (_, b)) in values(a).iter().zip(&values(b)) {
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|v| v * v).sum::<f32>().sqrt();
        let difference = norm(&mut a.iter().zip(b).map(|(a, b)| a - b));
        let size = norm(&mut a.iter().copied());
        assert!(
            difference <= tolerance * size + 1e-6,
            "{name}: off by {difference}, norm {size}"
        );
    }
}

#[test]
fn golden_tiny_llama_optimizer_steps() {
    let golden = Golden::read();
    let settings = AdamWSettings {
        learning_rate: 1e-2,
        learning_rate_singular: 1e-2,
        betas: [0.9, 0.999],
        eps: 1e-8,
        weight_decay: 0.0,
        holds_s: false,
    };
    for (key, aggregation) in [
        ("linear", Aggregation::Linear),
        ("tchebycheff", tchebycheff()),
        ("tchebycheff_switch", tchebycheff()),
    ] {
        let case = &golden.expected[key];
        let preference = Preference::new(floats(&case["lam"])).unwrap();
        let mut adapters = golden.adapters.clone();
        let mut optimizer = AdamW::new(settings, &adapters.factors);
        for (index, expected) in case["steps"].as_array().unwrap().iter().enumerate() {
            let result = golden.gradient(
                &adapters,
                &aggregation,
                std::slice::from_ref(&preference),
                5,
            );
            for (i, expected) in floats(&expected["losses"]).into_iter().enumerate() {
                let tolerance = if index == 0 { 1e-4 } else { 1e-3 };
                let losses = result.terms.iter().flat_map(|record| record.of(i));
                let losses: Vec<f64> = losses.map(|term| term.loss).collect();
                let found = losses.iter().sum::<f64>() / losses.len() as f64;
                assert!(
                    (found - expected).abs() < tolerance,
                    "{key} step {index}: {found} against {expected}"
                );
            }
            let aggregate = expected["aggregate"].as_f64().unwrap();
            assert!(
                (result.aggregate - aggregate).abs() < 1e-3,
                "{key} step {index}"
            );
            if index == 0 {
                let norm = case["grad_norm"].as_f64().unwrap();
                let found = result.gradients.norm(&Part::ALL);
                assert!(
                    (found - norm).abs() < 1e-3 * norm,
                    "{key}: norm {found} against {norm}"
                );
                for (name, gradient) in case["grad"].as_object().unwrap() {
                    for part in [Part::Sigma, Part::S, Part::U, Part::V] {
                        let Some(whole) = gradient.get(part.name()) else {
                            continue;
                        };
                        let found = result.gradients.0[name].part(part).to_data();
                        let found = found.try_to_vec::<f32>().unwrap();
                        let squares =
                            |x: &mut dyn Iterator<Item = f64>| x.map(|v| v * v).sum::<f64>().sqrt();
                        let whole = floats(whole);
                        let error =
                            squares(&mut found.iter().zip(&whole).map(|(f, e)| f64::from(*f) - e));
                        let size = squares(&mut whole.iter().copied());
                        assert!(
                            error <= 1e-3 * size + 1e-6,
                            "{key} {name}.{}: off by {error}",
                            part.name()
                        );
                    }
                }
            }
            optimizer.update(&mut adapters.factors, &result.gradients, index + 1, 1.0);
        }
    }
}

#[test]
fn accumulation_equals_the_large_batch_under_both_aggregations() {
    let golden = Golden::read();
    let preferences = [Preference::new(vec![0.2, 0.5, 0.3]).unwrap()];
    for aggregation in [Aggregation::Linear, tchebycheff()] {
        let whole = golden.gradient(&golden.adapters, &aggregation, &preferences, 5);
        for micro_batch_size in [1, 2, 3] {
            let parts = golden.gradient(
                &golden.adapters,
                &aggregation,
                &preferences,
                micro_batch_size,
            );
            assert!((whole.aggregate - parts.aggregate).abs() < 1e-6);
            assert_eq!(whole.weights, parts.weights);
            assert_same_gradients(&whole.gradients, &parts.gradients, 1e-4);
        }
    }
}

#[test]
fn the_gradient_of_groups_is_the_mean_of_their_gradients() {
    let golden = Golden::read();
    let preferences = [
        Preference::new(vec![0.2, 0.5, 0.3]).unwrap(),
        Preference::new(vec![0.7, 0.1, 0.2]).unwrap(),
    ];
    let together = golden.gradient(&golden.adapters, &Aggregation::Linear, &preferences, 5);
    let mut mean = FactorSet::default();
    for (group, preference) in preferences.iter().enumerate() {
        let own: Vec<_> = (0..golden.examples.len())
            .filter(|record| record % 2 == group)
            .collect();
        let batch: Vec<_> = own
            .iter()
            .map(|&i| Prepared {
                example: &golden.examples[i],
                reference: &golden.references[i],
            })
            .collect();
        let objective = Objective {
            loss: &golden.loss,
            aggregation: &Aggregation::Linear,
        };
        let alone = batch_gradient(
            &Lanes::one(&golden.model, &golden.adapters),
            objective,
            &batch,
            std::slice::from_ref(preference),
            5,
            MemoryPolicy::Keep,
        )
        .unwrap();
        mean.add(alone.gradients);
    }
    mean.scale(0.5);
    assert_same_gradients(&together.gradients, &mean, 1e-4);
}
