//! What must hold of generation: it follows whole passes, and an answer does not depend on its neighbours.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn_tensor::Device;
use panacea_kernels::{Blocks, PackedMatrix};
use panacea_model::{
    Bits, Decoder, Generated, Generation, ModelError, PackedBatch, Request, Sampling, Sequence,
    Steering, StopReason,
};
use panacea_svd_lora::Adapters;
use panacea_test_support::floats;
use serde_json::{Value, json};

use crate::common::{config, random_adapters, tiny_model};
use crate::{FIRST, SECOND, families, two_prompts, wide};

/// Greedy tokens under an adapter.
fn steered(
    prompt: &[u32],
    adapters: &Arc<Adapters>,
    preference: &[f64],
    max_new_tokens: usize,
) -> Request {
    Request {
        steering: Some(Steering {
            adapters: Arc::clone(adapters),
            preference: preference.to_vec(),
        }),
        ..Request::greedy(prompt, max_new_tokens)
    }
}

#[test]
fn greedy_generation_follows_the_argmax_of_whole_passes_for_every_row_and_family() {
    let device = panacea_devices::of_environment();
    let prompts: [(&[u32], [f64; 2]); 3] = [
        (&[3, 4, 5, 6, 7], FIRST),
        (&[8, 9], SECOND),
        (&[10], [0.5, 0.5]),
    ];
    for family in families().into_iter().chain([wide()]) {
        let model = tiny_model(&family, &device);
        let adapters = Arc::new(random_adapters(&model, &device));
        let requests = prompts
            .iter()
            .map(|(prompt, preference)| steered(prompt, &adapters, preference, 8));
        let together = model.generate(requests).unwrap();
        for ((prompt, preference), generated) in prompts.iter().zip(&together) {
            let mut tokens = prompt.to_vec();
            for _ in 0..8 {
                let sequence = Sequence {
                    prompt: &tokens,
                    responses: vec![],
                    preference,
                };
                let batch = PackedBatch::new(&[sequence]).unwrap();
                let logits = model
                    .logits(&batch, Some(&adapters), &[tokens.len() - 1])
                    .unwrap();
                let logits = logits.row(0);
                let best = (0..logits.len())
                    .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
                    .unwrap();
                tokens.push(best as u32);
            }
            assert_eq!(
                generated.tokens,
                tokens[prompt.len()..],
                "{}",
                family["model_type"]
            );
        }
    }
}

#[test]
fn a_row_is_sampled_the_same_whatever_its_neighbours() {
    let device = panacea_devices::of_environment();
    let model = tiny_model(&config("llama", json!({})), &device);
    let sampling = Sampling {
        temperature: 1.0,
        top_k: 20,
        top_p: 0.95,
        repetition_penalty: 1.1,
    };
    // More of them than are continued together, of all lengths, each prompt twice under the same λ, some with nothing to
    // say; `2` stops a few early.
    let adapters = Arc::new(random_adapters(&model, &device));
    let prompts: Vec<Vec<u32>> = (0..40u32)
        .map(|row| row / 4 * 2 + row % 2)
        .map(|row| (0..=row % 7).map(|i| 3 + (row * 5 + i) % 30).collect())
        .collect();
    let requests: Vec<_> = (prompts.iter().zip([FIRST, SECOND].iter().cycle()))
        .enumerate()
        .map(|(row, (prompt, preference))| Request {
            sampling: sampling.clone(),
            stop: vec![2],
            seed: row as u64,
            ..steered(prompt, &adapters, preference, row * 7 % 13)
        })
        .collect();
    let generate = |requests: &[Request]| model.generate(requests.iter().cloned()).unwrap();
    let together = generate(&requests);
    assert!(together.iter().any(|g| g.reason == StopReason::Stop(2)));
    for (request, together) in requests.iter().zip(together) {
        assert!(together.tokens.len() <= request.max_new_tokens);
        let [alone] = generate(std::slice::from_ref(request)).try_into().unwrap();
        assert_eq!(
            (alone.tokens, alone.reason),
            (together.tokens, together.reason)
        );
        assert_eq!(alone.log_probs.len(), together.log_probs.len());
        for (alone, together) in alone.log_probs.iter().zip(together.log_probs) {
            assert!((alone - together).abs() < 1e-4, "{alone}, {together}");
        }
    }
}

/// Answers do not depend on who comes and goes: requests under two adapters and none join a session while it runs, more of
/// them than run together, and some are cancelled, waiting or running.
#[test]
fn a_session_answers_as_if_each_request_were_alone() {
    let device = panacea_devices::of_environment();
    let model = tiny_model(&config("llama", json!({})), &device);
    let first = Arc::new(random_adapters(&model, &device));
    let second = Arc::new({
        let mut other = random_adapters(&model, &device);
        for factors in other.factors.0.values_mut() {
            factors.sigma = factors.sigma.clone() * -1.0;
        }
        other
    });
    let request = |index: usize| {
        let prompt: Vec<u32> = (0..=index as u32 % 5).map(|i| 3 + (7 * i) % 30).collect();
        let mut request = Request {
            sampling: Sampling::exact(),
            stop: vec![2, 3 + index as u32],
            seed: index as u64,
            ..Request::greedy(prompt, 1 + index * 5 % 17)
        };
        let adapters = [None, Some(&first), Some(&second)][index % 3];
        request.steering = adapters.map(|adapters| Steering {
            adapters: Arc::clone(adapters),
            preference: [FIRST, SECOND][index % 2].to_vec(),
        });
        request
    };
    let (count, limit) = (24, 4);
    let mut session = Generation::new(&model, limit);
    let mut indices = BTreeMap::new();
    let (mut found, mut ends) = (vec![Vec::new(); count], vec![None; count]);
    let mut cancelled = Vec::new();
    let mut pushed = 0;
    while pushed < count || !session.is_idle() {
        // Six at once, so that some wait; then another before each step.
        let until = count.min(pushed + if pushed == 0 { 6 } else { 1 });
        for index in pushed..until {
            let id = session.push(request(index)).unwrap();
            indices.insert(id, index);
            if index % 7 == 3 {
                // It has no slot yet.
                assert!(session.cancel(id) && !session.cancel(id));
                cancelled.push(index);
            }
        }
        pushed = until;
        for new in session.step().unwrap() {
            let index = indices[&new.request];
            assert!(ends[index].is_none() && !cancelled.contains(&index));
            found[index].push((new.token, new.log_prob));
            ends[index] = new.end;
            if index % 7 == 5 && found[index].len() == 2 && new.end.is_none() {
                // It has one.
                assert!(session.cancel(new.request) && !session.cancel(new.request));
                cancelled.push(index);
            }
        }
        assert!(session.running() <= limit);
    }
    assert!(session.step().unwrap().is_empty());
    assert!(cancelled.iter().any(|index| !found[*index].is_empty()));
    for index in 0..count {
        let alone = model.generate([request(index)]).unwrap().remove(0);
        let mut tokens = alone.tokens;
        if let StopReason::Stop(token) = alone.reason {
            tokens.push(token);
        }
        let expected: Vec<(u32, f64)> = tokens.into_iter().zip(alone.log_probs).collect();
        if !cancelled.contains(&index) {
            assert_eq!(ends[index], Some(alone.reason), "{index}");
            assert_eq!(found[index].len(), expected.len(), "{index}");
        }
        for (found, expected) in found[index].iter().zip(expected) {
            assert_eq!(found.0, expected.0, "{index}");
            assert!((found.1 - expected.1).abs() < 1e-4, "{index}");
        }
    }
}

/// The cache grows while answers run, and what stood in it stays.
#[test]
fn an_answer_may_outgrow_the_first_cache() {
    let device = panacea_devices::of_environment();
    let config = config("llama", json!({ "max_position_embeddings": 400 }));
    let model = tiny_model(&config, &device);
    let adapters = Arc::new(random_adapters(&model, &device));
    let request = steered(&[5, 6, 7], &adapters, &FIRST, 300);
    let mut session = Generation::new(&model, 4);
    let id = session.push(request.clone()).unwrap();
    let mut tokens = request.prompt;
    let mut has_company = false;
    while !session.is_idle() {
        if tokens.len() == 100 && !has_company {
            // The cache gets a second row as well.
            has_company = true;
            session.push(steered(&[8], &adapters, &SECOND, 5)).unwrap();
        }
        let new = session.step().unwrap();
        let own = new.iter().filter(|new| new.request == id);
        tokens.extend(own.map(|new| new.token));
    }
    assert_eq!(tokens.len(), 303);
    let sequence = Sequence {
        prompt: &tokens,
        responses: vec![],
        preference: &FIRST,
    };
    let batch = PackedBatch::new(&[sequence]).unwrap();
    let rows: Vec<usize> = (2..tokens.len() - 1).collect();
    let logits = model.logits(&batch, Some(&adapters), &rows).unwrap();
    for (row, logits) in rows.iter().zip(logits.rows()) {
        let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let found = logits[tokens[row + 1] as usize];
        assert!(
            best - found < 1e-3,
            "token {}: {found} against {best}",
            row + 1
        );
    }
}

/// The part of the tokens `expected` that come before the first that differs, over all answers.
fn agreement(found: &[Vec<u32>], expected: &[Vec<u32>]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let same = |(found, expected): (&Vec<u32>, &Vec<u32>)| {
        let pairs = found.iter().zip(expected);
        pairs
            .take_while(|(found, expected)| found == expected)
            .count()
    };
    let same: usize = found.iter().zip(expected).map(same).sum();
    same as f64 / expected.iter().map(Vec::len).sum::<usize>() as f64
}

fn tokens(answers: &[Generated]) -> Vec<Vec<u32>> {
    answers.iter().map(|answer| answer.tokens.clone()).collect()
}

/// With more slots than the CPU decodes rows at once, every row still reads the packed weights.
#[test]
fn a_session_of_many_slots_answers_alike() {
    let device = panacea_devices::of_environment();
    let mut model = tiny_model(&wide(), &device);
    let adapters = Arc::new(random_adapters(&model, &device));
    let request = |index: u32| steered(&[3 + index, 7], &adapters, &FIRST, 6 + index as usize % 5);
    let each_alone = |model: &Decoder| -> Vec<Vec<u32>> {
        let alone = |index: u32| tokens(&model.generate([request(index)]).unwrap()).remove(0);
        (0..25).map(alone).collect()
    };
    let exact = each_alone(&model);
    let is_packed = device == Device::flex();
    if is_packed {
        model.pack(Bits::Four).unwrap();
    }
    let mut session = Generation::new(&model, 40);
    let ids: Vec<_> = (0..25)
        .map(|index| session.push(request(index)).unwrap())
        .collect();
    let mut found = vec![Vec::new(); ids.len()];
    while !session.is_idle() {
        for new in session.step().unwrap() {
            let index = ids.iter().position(|&id| id == new.request).unwrap();
            found[index].push(new.token);
        }
    }
    let with_alone = agreement(&found, &each_alone(&model));
    assert!(with_alone > 0.8, "{with_alone}");
    // Every row reads the packed weights, which answer otherwise than the exact ones.
    let with_exact = agreement(&found, &exact);
    assert!(!is_packed || with_exact < 0.8 * with_alone, "{with_exact}");
}

#[test]
fn who_runs_is_not_starved_by_who_comes() {
    let device = panacea_devices::of_environment();
    let model = tiny_model(&config("llama", json!({})), &device);
    let mut session = Generation::new(&model, 2);
    let long = session.push(Request::greedy([3, 4], 10)).unwrap();
    let mut steps = 0;
    loop {
        session.push(Request::greedy([5], 1)).unwrap();
        steps += 1;
        let new = session.step().unwrap();
        if new
            .iter()
            .any(|new| new.request == long && new.end.is_some())
        {
            break;
        }
        assert!(steps < 30, "ten tokens take more than thirty steps");
    }
}

#[test]
fn an_answer_comes_with_its_log_probabilities() {
    let device = panacea_devices::of_environment();
    let model = tiny_model(&config("llama", json!({})), &device);
    let adapters = Arc::new(random_adapters(&model, &device));
    let request = |seed| Request {
        sampling: Sampling::exact(),
        stop: vec![2, 9, 11],
        seed,
        ..steered(&[5, 6, 7], &adapters, &SECOND, 9)
    };
    let all = model.generate((0..20).map(request)).unwrap();
    assert!(all.iter().any(|g| g.reason != StopReason::Length));
    for generated in all {
        let mut tokens = generated.tokens;
        if let StopReason::Stop(token) = generated.reason {
            tokens.push(token);
        }
        let sequence = Sequence {
            prompt: &[5, 6, 7],
            responses: vec![&tokens],
            preference: &SECOND,
        };
        let batch = PackedBatch::new(&[sequence]).unwrap();
        let expected = model.log_probs(&batch, Some(&adapters)).unwrap();
        assert_eq!(generated.log_probs.len(), expected.len());
        for (found, expected) in generated.log_probs.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-4, "{found}, {expected}");
        }
    }
}

#[test]
fn packed_weights_are_read_in_decoding_only() {
    let device = panacea_devices::of_environment();
    let mut model = tiny_model(&wide(), &device);
    if device != Device::flex() {
        let refused = model.pack(Bits::Eight).map(|packing| packing.dense);
        assert!(
            matches!(refused, Err(ModelError::NotPacked { .. })),
            "only the CPU reads packed weights: {refused:?}"
        );
        return;
    }
    let adapters = Arc::new(random_adapters(&model, &device));
    let exact = model.log_probs(&two_prompts(), Some(&adapters)).unwrap();
    let generate = |model: &Decoder| {
        let request = |row: u32| steered(&[3 + row, 7, 11], &adapters, &FIRST, 12);
        model.generate((0..4).map(request)).unwrap()
    };
    let with_all_bits = generate(&model);

    for (bits, limit) in [(Bits::Eight, 0.01), (Bits::Four, 0.1)] {
        let packing = model.pack(bits).unwrap();
        let error = packing.relative_error();
        assert!(0.0 < error && error < limit, "{bits:?}: {error}");
        assert_eq!(packing.dense, 0);
        let again = model.log_probs(&two_prompts(), Some(&adapters)).unwrap();
        assert_eq!(exact, again);
        let generated = generate(&model);
        // The first token comes from the prompt, which is read with all bits.
        for (packed, exact) in generated.iter().zip(&with_all_bits) {
            assert_eq!(packed.tokens[0], exact.tokens[0]);
        }
        let agreement = agreement(&tokens(&generated), &tokens(&with_all_bits));
        match bits {
            Bits::Eight => assert!(agreement > 0.6, "{agreement}"),
            Bits::Four => assert!(agreement < 1.0, "four bits are read, and are not exact"),
        }
    }
}

/// What the package `gguf` makes of two random blocks of each format (see `panacea-pretrained`).
#[test]
fn blocks_stand_for_what_the_gguf_package_makes_of_them() {
    let text = include_str!("../../../pretrained/tests/golden/ggml_blocks.json");
    let cases: Vec<Value> = serde_json::from_str(text).unwrap();
    let mut known = 0;
    for case in cases {
        let Some(form) = Blocks::named(case["name"].as_str().unwrap()) else {
            continue;
        };
        known += 1;
        let digits = case["bytes"].as_str().unwrap();
        let byte = |i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
        let packed = PackedMatrix::from_blocks(form, [2, form.weights()], bytes.clone()).unwrap();
        let expected: Vec<f32> = floats(&case["values"])
            .into_iter()
            .map(|x| x as f32)
            .collect();
        assert_eq!(packed.unpack(), expected, "{form:?}");
        // Neither more nor less, nor a scale that is no number.
        let refused = |shape, bytes| PackedMatrix::from_blocks(form, shape, bytes).is_none();
        assert!(refused([3, form.weights()], bytes.clone()));
        assert!(refused([1, form.weights() + 1], bytes.clone()));
        let infinite = bytes.iter().map(|_| 0x7c).collect();
        assert!(refused([2, form.weights()], infinite));
    }
    assert_eq!(known, 5);
}

#[test]
fn a_request_that_cannot_be_met_is_an_error() {
    let device = panacea_devices::of_environment();
    let model = tiny_model(&config("llama", json!({})), &device);
    let adapters = Arc::new(random_adapters(&model, &device));
    let ask = |prompt: &[u32], preference: &[f64], max_new_tokens| {
        let fine = steered(&[4], &adapters, &SECOND, 3);
        let wrong = steered(prompt, &adapters, preference, max_new_tokens);
        let message = model.generate([fine, wrong]).unwrap_err().to_string();
        assert!(message.starts_with("row 1: "), "{message}");
        message
    };
    assert!(ask(&[99], &FIRST, 1).contains("token id 99"));
    assert!(ask(&[3], &[1.0], 1).contains("preference of 1 weights"));
    assert!(ask(&[3], &FIRST, 64).contains("65 tokens"));
    assert!(ask(&[], &FIRST, 1).contains("empty prompt"));
    assert!(ask(&[3], &[f64::NAN, 1.0], 1).contains("a weight of NaN"));
    // Nothing is to be generated, and still it is looked at.
    assert!(ask(&[99], &FIRST, 0).contains("token id 99"));
    let other = tiny_model(&wide(), &device);
    let of_other = Arc::new(random_adapters(&other, &device));
    let request = steered(&[3], &of_other, &FIRST, 2);
    let message = model.generate([request]).unwrap_err().to_string();
    assert!(message.contains("layers.0.q_proj.u"), "{message}");
    let too_far = Sequence {
        prompt: &[3, 4],
        responses: vec![&[5, 6], &[7, 40]],
        preference: &FIRST,
    };
    let lacks_one = Sequence {
        responses: vec![&[5]],
        preference: &[1.0],
        ..too_far.clone()
    };
    let in_range = Sequence {
        responses: vec![&[5, 6]],
        ..too_far.clone()
    };
    for (second, expected) in [
        (too_far, "row 1: token id 40"),
        (lacks_one, "row 1: there is a preference of 1 weights"),
    ] {
        let batch = PackedBatch::new(&[in_range.clone(), second]).unwrap();
        let message = model.log_probs(&batch, Some(&adapters)).unwrap_err();
        assert!(message.to_string().starts_with(expected), "{message}");
    }
    let unknown = model
        .adapted_shapes(&["lm_head".to_owned()])
        .unwrap_err()
        .to_string();
    assert!(unknown.contains("lm_head") && unknown.contains("down_proj"));
}
