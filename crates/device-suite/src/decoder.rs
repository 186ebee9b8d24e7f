//! Whole networks: what they read, their gradients, and what they answer.

use std::sync::Arc;

use burn_tensor::{DType, Device, FloatDType};
use panacea_model::{
    Decoder, Generation, MemoryPolicy, NewToken, PROJECTIONS, PackedBatch, Request, Sampling,
    Sequence, Steering, ValueHead,
};
use panacea_pretrained::Pretrained;
use panacea_svd_lora::{Adapters, FactorSet, Factors, Part, SvdLoraConfig};
use panacea_test_support::{TinyModel, tiny_config};
use serde_json::{Value, json};

use crate::near::{Noise, assert_close, values};
use crate::{Check, named};

pub const CHECKS: &[Check] = named!["decoder":
    llama_is_as_on_the_cpu,
    a_window_and_two_kinds_of_layers_are_as_on_the_cpu,
    norms_of_queries_and_keys_are_as_on_the_cpu,
    joined_matrices_are_as_on_the_cpu,
    biases_and_a_head_of_its_own_are_as_on_the_cpu,
    packed_rows_are_as_alone,
    activations_that_are_computed_again_change_nothing,
    values_of_a_head_are_as_on_the_cpu,
    weights_of_16_bits_change_little,
    greedy_answers_under_mixed_preferences_are_those_of_the_cpu,
    drawn_answers_are_the_same_twice_and_alone,
    sixty_four_answers_are_drawn_from_blocks_as_from_whole_rows,
    answers_behind_a_prompt_that_is_known_are_the_same,
];

/// λ of the records, and of the rows that are answered.
const PREFERENCES: [[f64; 2]; 3] = [[0.8, 0.2], [0.1, 0.9], [0.5, 0.5]];

/// c of Σ c · log p, one for each target of [`two_prompts`].
const COEFFICIENTS: [f64; 10] = [1.0, -0.5, 0.3, 0.8, -1.2, 0.4, 0.9, 0.6, -0.7, 0.2];

/// Two small layers.
fn plain() -> Value {
    tiny_config("llama", json!({}))
}

fn load(config: &Value, device: &Device, weights: FloatDType) -> Decoder {
    let dir = tempfile::tempdir().expect("a folder for a model");
    TinyModel::well_behaved(config.clone(), 0.4).write_without_tokenizer(dir.path());
    let pretrained = Pretrained::open(dir.path()).expect("it was written above");
    Decoder::load_in(&pretrained, device, weights).expect("a whole model")
}

/// Adapters on every projection, with random numbers in all four kinds of tensors.
fn adapters(model: &Decoder) -> Adapters {
    let config = SvdLoraConfig {
        base_model: "tiny".into(),
        base_fingerprint: String::new(),
        rank: 3,
        objectives: vec!["first".into(), "second".into()],
        alpha: 3.0,
        target_modules: PROJECTIONS.map(str::to_owned).to_vec(),
    };
    let shapes = model.adapted_shapes(&config.target_modules);
    let shapes = shapes.expect("every model has these");
    let mut adapters = Adapters::init(config, &shapes, 0.3, 9, model.device());
    let mut noise = Noise::of(6);
    for factors in adapters.factors.0.values_mut() {
        for part in [Part::Sigma, Part::S] {
            let tensor = factors.part_mut(part);
            *tensor = noise.tensor(tensor.dims(), model.device()) * 0.5;
        }
    }
    adapters
}

fn two_prompts() -> PackedBatch {
    let first = Sequence {
        prompt: &[3, 4, 5],
        responses: vec![&[6, 7, 8, 2], &[9, 2]],
        preference: &PREFERENCES[0],
    };
    let second = Sequence {
        prompt: &[10, 11],
        responses: vec![&[12], &[13, 14, 15]],
        preference: &PREFERENCES[1],
    };
    PackedBatch::new(&[first, second]).expect("both have tokens")
}

fn pass(model: &Decoder, memory: MemoryPolicy) -> (Vec<f64>, FactorSet) {
    let (batch, adapters) = (two_prompts(), adapters(model));
    let forward = model.forward(&batch, &adapters, memory);
    let forward = forward.expect("they fit");
    let gradients = model.backward(&batch, &adapters, forward.tape, &COEFFICIENTS);
    (forward.log_probs, gradients.expect("they fit"))
}

/// All numbers, by matrix and part.
fn numbers(factors: &FactorSet) -> Vec<(String, Vec<f32>)> {
    let of = |(name, factors): (&String, &Factors)| {
        Part::ALL.map(|part| {
            let name = format!("{name}.{}", part.name());
            (name, values(factors.part(part).clone()))
        })
    };
    factors.0.iter().flat_map(of).collect()
}

/// Log-probabilities, and the gradient of a sum of them.
fn assert_family_as_on_the_cpu(device: &Device, config: &Value) {
    let [(found, gradients), (expected, on_the_cpu)] = [device, &Device::flex()].map(|device| {
        let model = load(config, device, FloatDType::F32);
        pass(&model, MemoryPolicy::Keep)
    });
    let found: Vec<f32> = found.into_iter().map(|x| x as f32).collect();
    assert_close("log p", &found, &expected, 1e-4);
    let expected = numbers(&on_the_cpu).into_iter();
    for ((name, found), (_, expected)) in numbers(&gradients).into_iter().zip(expected) {
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        assert_close(&name, &found, &expected, 1e-4);
    }
}

fn llama_is_as_on_the_cpu(device: &Device) {
    assert_family_as_on_the_cpu(device, &plain());
}

fn a_window_and_two_kinds_of_layers_are_as_on_the_cpu(device: &Device) {
    let more = json!({
        "hidden_act": null, "sliding_window": 3, "sliding_window_pattern": 2, "final_logit_softcapping": 2.0,
        "query_pre_attn_scalar": 9, "rope_scaling": { "rope_type": "linear", "factor": 8.0 }
    });
    assert_family_as_on_the_cpu(device, &tiny_config("gemma3_text", more));
}

fn norms_of_queries_and_keys_are_as_on_the_cpu(device: &Device) {
    assert_family_as_on_the_cpu(device, &tiny_config("qwen3", json!({})));
}

fn joined_matrices_are_as_on_the_cpu(device: &Device) {
    let more = json!({ "sliding_window": 4 });
    assert_family_as_on_the_cpu(device, &tiny_config("phi3", more));
}

fn biases_and_a_head_of_its_own_are_as_on_the_cpu(device: &Device) {
    let more = json!({ "tie_word_embeddings": false });
    assert_family_as_on_the_cpu(device, &tiny_config("qwen2", more));
}

fn packed_rows_are_as_alone(device: &Device) {
    let model = load(&plain(), device, FloatDType::F32);
    let adapters = adapters(&model);
    let read = |batch: &PackedBatch| {
        let log_probs = model.log_probs(batch, Some(&adapters));
        log_probs.expect("they fit")
    };
    let packed: Vec<f32> = (read(&two_prompts()).into_iter())
        .map(|x| x as f32)
        .collect();
    let rows: [(&[u32], &[u32], usize); 4] = [
        (&[3, 4, 5], &[6, 7, 8, 2], 0),
        (&[3, 4, 5], &[9, 2], 0),
        (&[10, 11], &[12], 1),
        (&[10, 11], &[13, 14, 15], 1),
    ];
    let alone = |(prompt, response, preference): (&[u32], &[u32], usize)| {
        let sequence = Sequence {
            prompt,
            responses: vec![response],
            preference: &PREFERENCES[preference],
        };
        read(&PackedBatch::new(&[sequence]).expect("it has tokens"))
    };
    let alone: Vec<f64> = rows.into_iter().flat_map(alone).collect();
    assert_close("log p", &packed, &alone, 1e-4);
}

fn activations_that_are_computed_again_change_nothing(device: &Device) {
    let model = load(&plain(), device, FloatDType::F32);
    let (log_probs, kept) = pass(&model, MemoryPolicy::Keep);
    let (again, recomputed) = pass(&model, MemoryPolicy::Recompute);
    assert_eq!(log_probs, again);
    assert_eq!(numbers(&kept), numbers(&recomputed));
}

/// Two outputs at every response token, as a critic has them, and the gradients of adapters and head.
fn values_of_a_head_are_as_on_the_cpu(device: &Device) {
    let read = |device: &Device| {
        let model = load(&plain(), device, FloatDType::F32);
        let (batch, adapters) = (two_prompts(), adapters(&model));
        let mut noise = Noise::of(8);
        let head = ValueHead {
            weight: noise.tensor([2, 16], device),
            bias: noise.tensor([1, 2], device),
        };
        let forward = model.values_forward(&batch, &adapters, &head, MemoryPolicy::Recompute);
        let (found, tape) = forward.expect("they fit");
        let coefficients = [COEFFICIENTS, COEFFICIENTS].concat();
        let backward = model.values_backward(&batch, &adapters, &head, tape, &coefficients);
        let (gradients, d_head) = backward.expect("they fit");
        let mut all = numbers(&gradients);
        let found = found.into_iter().map(|x| x as f32).collect();
        all.push(("values".into(), found));
        all.push(("head".into(), values(d_head.weight)));
        all.push(("bias".into(), values(d_head.bias)));
        all
    };
    let expected = read(&Device::flex()).into_iter();
    for ((name, found), (_, expected)) in read(device).into_iter().zip(expected) {
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        assert_close(&name, &found, &expected, 1e-4);
    }
}

/// A number of 16 bits has 8 bits of precision (bf16) or 11 (f16): what comes out is off by that order, and not by nothing.
fn weights_of_16_bits_change_little(device: &Device) {
    let config = tiny_config("llama", json!({ "tie_word_embeddings": false }));
    let of = |weights| pass(&load(&config, device, weights), MemoryPolicy::Keep);
    let (exact, exact_gradients) = of(FloatDType::F32);
    for (weights, bound) in [(FloatDType::BF16, 0.06), (FloatDType::F16, 0.008)] {
        if !device.supports_dtype(DType::from(weights)) {
            continue;
        }
        let (found, gradients) = of(weights);
        let off = found.iter().zip(&exact).map(|(a, b)| (a - b).abs());
        let off = off.fold(0.0, f64::max);
        assert!(
            off > 0.0 && off < bound,
            "{weights:?}: log p is off by {off}"
        );
        let mut difference = exact_gradients.clone();
        difference.scale(-1.0);
        difference.add(gradients);
        let off = difference.norm(&Part::ALL) / exact_gradients.norm(&Part::ALL);
        assert!(
            off > 0.0 && off < bound,
            "{weights:?}: the gradient is off by {off}"
        );
    }
}

/// Prompts of different lengths, each under its own λ.
fn requests(adapters: &Arc<Adapters>, max_new_tokens: usize) -> Vec<Request> {
    let prompts: [&[u32]; 6] = [
        &[3, 4, 5, 6, 7],
        &[8, 9],
        &[10],
        &[3, 4, 5, 11],
        &[20, 21, 22, 23, 24, 25, 26],
        &[8, 9],
    ];
    let request = |(prompt, preference): (&[u32], &[f64; 2])| Request {
        steering: Some(Steering {
            adapters: Arc::clone(adapters),
            preference: preference.to_vec(),
        }),
        ..Request::greedy(prompt, max_new_tokens)
    };
    let preferences = PREFERENCES.iter().cycle();
    prompts.into_iter().zip(preferences).map(request).collect()
}

/// The tokens of all answers.
fn answers(model: &Decoder, requests: &[Request]) -> Vec<Vec<u32>> {
    let generated = model.generate(requests.iter().cloned());
    let generated = generated.expect("they fit").into_iter();
    generated.map(|answer| answer.tokens).collect()
}

fn greedy_answers_under_mixed_preferences_are_those_of_the_cpu(device: &Device) {
    // Wide enough for the products that decoding has of its own.
    let wide = json!({ "hidden_size": 64, "intermediate_size": 128, "head_dim": 16 });
    for config in [plain(), tiny_config("llama", wide)] {
        let [found, expected] = [device, &Device::flex()].map(|device| {
            let model = load(&config, device, FloatDType::F32);
            answers(&model, &requests(&Arc::new(adapters(&model)), 12))
        });
        assert!(expected.iter().all(|answer| answer.len() == 12));
        assert_ne!(expected[1], expected[5], "λ makes no difference");
        assert_eq!(found, expected);
    }
}

fn drawn_answers_are_the_same_twice_and_alone(device: &Device) {
    let model = load(&plain(), device, FloatDType::F32);
    let sampling = Sampling {
        temperature: 1.0,
        top_k: 20,
        top_p: 0.95,
        repetition_penalty: 1.1,
    };
    let mut requests = requests(&Arc::new(adapters(&model)), 12);
    for (row, request) in requests.iter_mut().enumerate() {
        request.sampling = sampling.clone();
        request.seed = row as u64;
    }
    let together = answers(&model, &requests);
    assert_eq!(together, answers(&model, &requests));
    let alone = requests.iter().map(std::slice::from_ref);
    let alone: Vec<Vec<u32>> = alone.flat_map(|one| answers(&model, one)).collect();
    assert_eq!(together, alone);
}

/// Each row has a λ of its own. The vocabulary has so many blocks that not all of them are read at first, and tokens that are
/// likely enough for rounding to leave the draws as they are.
fn sixty_four_answers_are_drawn_from_blocks_as_from_whole_rows(device: &Device) {
    let ways = [
        (0.0, 0, 1.0),
        (0.4, 0, 1.0),
        (0.3, 0, 0.9),
        (0.5, 40, 1.0),
        (0.4, 300, 0.95),
    ];
    let config = tiny_config("llama", json!({ "vocab_size": 6000 }));
    let model = load(&config, device, FloatDType::F32);
    let adapters = Arc::new(adapters(&model));
    let answers = |repetition_penalty: f64| {
        let mut session = Generation::new(&model, 64);
        for row in 0..64 {
            let (temperature, top_k, top_p) = ways[row % ways.len()];
            let weight = row as f64 / 63.0;
            let request = Request {
                steering: Some(Steering {
                    adapters: Arc::clone(&adapters),
                    preference: vec![weight, 1.0 - weight],
                }),
                sampling: Sampling {
                    repetition_penalty,
                    temperature,
                    top_k,
                    top_p,
                },
                seed: row as u64,
                likelihoods: (row % 4 == 0).then_some(row),
                ..Request::greedy([3 + row as u32, 900, 7], 6)
            };
            session.push(request).expect("it fits");
        }
        let mut all = Vec::new();
        while !session.is_idle() {
            all.extend(session.step().expect("it fits"));
        }
        all.sort_by_key(|new| new.request);
        all
    };
    // Rows with a penalty are read whole, and this one changes no number of 32 bits.
    let (found, expected) = (answers(1.0), answers(1.0 + 1e-12));
    assert_eq!((found.len(), expected.len()), (64 * 6, 64 * 6));
    let tokens = |new: &NewToken| {
        let likeliest = new.likelihood.iter().flat_map(|of| of.likeliest.iter());
        (new.token, likeliest.map(|of| of.0).collect::<Vec<_>>())
    };
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(tokens(found), tokens(expected));
        let mut pairs = vec![(found.log_prob, expected.log_prob)];
        if let (Some(found), Some(expected)) = (&found.likelihood, &expected.likelihood) {
            pairs.push((found.log_prob, expected.log_prob));
            let likeliest = found.likeliest.iter().zip(&expected.likeliest);
            pairs.extend(likeliest.map(|(found, expected)| (found.1, expected.1)));
        }
        for (found, expected) in pairs {
            assert!(
                (found - expected).abs() < 1e-5,
                "{found}, expected {expected}"
            );
        }
    }
}

/// A session reads no token again that a slot still knows under the same adapter and λ.
fn answers_behind_a_prompt_that_is_known_are_the_same(device: &Device) {
    let model = load(&plain(), device, FloatDType::F32);
    let adapters = Arc::new(adapters(&model));
    let [first, second] =
        [(3..30).collect(), (3..28).chain([35, 36]).collect()].map(|prompt: Vec<u32>| Request {
            prompt,
            ..requests(&adapters, 6).remove(0)
        });
    let anew = answers(&model, std::slice::from_ref(&second));
    let mut session = Generation::new(&model, 1);
    let (mut cached, mut tokens) = (0, Vec::new());
    for request in [first, second] {
        tokens.clear();
        session.push(request).expect("it fits");
        while !session.is_idle() {
            for new in session.step().expect("it fits") {
                tokens.push(new.token);
                cached = new.cached;
            }
        }
    }
    assert!(cached >= 20, "only {cached} tokens were known");
    assert_eq!(vec![tokens], anew);
}
