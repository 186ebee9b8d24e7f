//! What must hold of tokens that are known: they are not read again, and nobody can tell from an answer.

use std::collections::BTreeMap;
use std::slice::from_ref;
use std::sync::Arc;

use panacea_model::{Decoder, Generation, Request, RequestId, Steering, StopReason};
use panacea_svd_lora::Adapters;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::common::{config, random_adapters, tiny_model};
use crate::{FIRST, SECOND};

/// Greedy tokens, each with its log-probability.
fn request(prompt: &[u32], steering: Option<&Steering>, max_new_tokens: usize) -> Request {
    Request {
        steering: steering.cloned(),
        likelihoods: Some(0),
        ..Request::greedy(prompt, max_new_tokens)
    }
}

fn steering(adapters: &Arc<Adapters>, preference: [f64; 2]) -> Steering {
    Steering {
        adapters: Arc::clone(adapters),
        preference: preference.to_vec(),
    }
}

/// What a session has answered so far.
#[derive(Default)]
struct Answered {
    tokens: Vec<u32>,
    log_probs: Vec<f64>,
    cached: Option<usize>,
    is_whole: bool,
}

fn step(session: &mut Generation<'_>, answers: &mut BTreeMap<RequestId, Answered>) {
    for new in session.step().unwrap() {
        let answer = answers.entry(new.request).or_default();
        assert!(!answer.is_whole && answer.cached.is_none_or(|cached| cached == new.cached));
        answer.tokens.push(new.token);
        answer.log_probs.push(new.likelihood.unwrap().log_prob);
        answer.cached = Some(new.cached);
        answer.is_whole = new.end.is_some();
    }
}

/// The answers to `requests`, which come together, and how many tokens of each one's prompt were known.
fn ask(session: &mut Generation<'_>, requests: Vec<Request>) -> Vec<Answered> {
    let ids: Vec<RequestId> = (requests.into_iter())
        .map(|request| session.push(request).unwrap())
        .collect();
    let mut answers = BTreeMap::new();
    while !session.is_idle() {
        step(session, &mut answers);
    }
    let answers = ids.iter().map(|id| answers.remove(id).unwrap());
    answers.collect()
}

fn assert_as_alone(what: &str, model: &Decoder, request: &Request, found: &Answered) {
    let alone = ask(&mut Generation::new(model, 1), vec![request.clone()]).remove(0);
    let count = found.tokens.len();
    if found.is_whole {
        assert_eq!(count, alone.tokens.len(), "{what}");
    }
    assert_eq!(found.tokens, alone.tokens[..count], "{what}");
    for (found, alone) in found.log_probs.iter().zip(&alone.log_probs) {
        assert!((found - alone).abs() < 1e-5, "{what}: {found}, {alone}");
    }
}

#[test]
fn only_what_is_not_known_is_read() {
    let device = panacea_devices::of_environment();
    let model = tiny_model(&config("llama", json!({})), &device);
    let adapters = Arc::new(random_adapters(&model, &device));
    let steered = steering(&adapters, FIRST);
    let mut session = Generation::new(&model, 3);
    let mut read_before = 0;
    let mut cached = |session: &mut Generation<'_>, requests: &[Request]| {
        let answers = ask(session, requests.to_vec());
        for (request, answer) in requests.iter().zip(&answers) {
            assert_as_alone(&format!("{request:?}"), &model, request, answer);
        }
        let cached: Vec<usize> = answers.iter().map(|a| a.cached.unwrap()).collect();
        // What is said to be known has not gone through the network.
        let prompts: usize = requests.iter().map(|r| r.prompt.len()).sum();
        let read = session.tokens_read() - read_before;
        read_before = session.tokens_read();
        assert_eq!(read as usize + cached.iter().sum::<usize>(), prompts);
        (cached, answers)
    };
    let system: Vec<u32> = (3..15).collect();
    let with = |prompt: &[u32], end: &[u32]| [prompt, end].concat();

    let first = request(&with(&system, &[20, 21]), Some(&steered), 5);
    let (known, answers) = cached(&mut session, from_ref(&first));
    assert_eq!(known, [0]);
    // The next turn: the last token of an answer was drawn and never read.
    let turn = with(&with(&first.prompt, &answers[0].tokens), &[30, 31]);
    let next = request(&turn, Some(&steered), 4);
    assert_eq!(cached(&mut session, from_ref(&next)).0, [14 + 4]);
    // Other questions behind the same beginning. The slot that knows most of the turn is not given to one of them.
    let others = [22, 23].map(|token| request(&with(&system, &[token]), Some(&steered), 3));
    assert_eq!(cached(&mut session, &others).0, [12, 12]);
    // What was asked is asked again, and of a prompt that is known whole the last token is read.
    assert_eq!(cached(&mut session, &[next]).0, [turn.len() - 1]);

    // Who comes together reads what they have in common once, also where it was never read.
    let system: Vec<u32> = (3..15).rev().collect();
    let together = [24, 25, 24].map(|token| request(&with(&system, &[token]), Some(&steered), 3));
    let (known, _) = cached(&mut session, &together);
    assert_eq!(known, [0, 12, 12]);

    // Another λ, however close, another adapter, be it one of the same numbers, and none.
    let close = steering(&adapters, [FIRST[0] + 1e-15, FIRST[1]]);
    let twin = steering(&Arc::new(random_adapters(&model, &device)), FIRST);
    for other in [Some(&close), Some(&twin), None] {
        assert_eq!(cached(&mut session, &[request(&turn, other, 2)]).0, [0]);
        assert_eq!(
            cached(&mut session, &[request(&turn, other, 2)]).0,
            [turn.len() - 1]
        );
    }
}

/// A slot keeps its adapter alive, so that one which comes later is never taken for it.
#[test]
fn an_adapter_that_is_gone_is_not_taken_for_its_successor() {
    let device = panacea_devices::of_environment();
    let model = tiny_model(&config("llama", json!({})), &device);
    let mut session = Generation::new(&model, 2);
    for _ in 0..8 {
        let adapters = Arc::new(random_adapters(&model, &device));
        let request = request(&[3, 4, 5, 6], Some(&steering(&adapters, FIRST)), 2);
        drop(adapters);
        let answer = ask(&mut session, vec![request]).remove(0);
        assert_eq!(answer.cached, Some(0));
    }
}

/// Decoding from few bits gives other keys and values than reading does: what was decoded is read anew.
#[test]
fn what_was_decoded_from_few_bits_is_read_again() {
    let device = panacea_devices::of_environment();
    if device != burn_tensor::Device::flex() {
        return;
    }
    let mut model = tiny_model(&crate::wide(), &device);
    model.pack(panacea_model::Bits::Four).unwrap();
    let mut session = Generation::new(&model, 2);
    let first = request(&[3, 4, 5, 6], None, 6);
    let answer = ask(&mut session, vec![first]).remove(0);
    let turn = [&[3, 4, 5, 6], &answer.tokens[..], &[7, 8]].concat();
    for (prompt, known) in [(&turn[..], 4), (&[3, 4, 5, 6], 3)] {
        let next = request(prompt, None, 6);
        let mut answer = ask(&mut session, vec![next.clone()]).remove(0);
        assert_eq!(answer.cached, Some(known));
        // What comes behind the prompt is decoded from few bits, which make more of the last bits of a sum.
        answer.tokens.truncate(1);
        answer.is_whole = false;
        assert_as_alone("few bits", &model, &next, &answer);
    }
}

/// A long prompt does not keep others waiting: between two pieces of it they get a token each.
#[test]
fn a_long_prompt_is_read_between_the_tokens_of_others() {
    let device = panacea_devices::of_environment();
    let config = config(
        "mistral",
        json!({ "max_position_embeddings": 6000, "sliding_window": 300 }),
    );
    let model = tiny_model(&config, &device);
    let mut session = Generation::new(&model, 2);
    let short = request(&[3, 4], None, 40);
    let prompt: Vec<u32> = (0..5000).map(|i| 3 + i * i % 37).collect();
    let long = request(&prompt, None, 3);
    let mut answers = BTreeMap::new();
    let short_id = session.push(short.clone()).unwrap();
    step(&mut session, &mut answers);
    let long_id = session.push(long.clone()).unwrap();
    let mut steps = 0;
    while !answers.contains_key(&long_id) {
        let before = answers[&short_id].tokens.len();
        step(&mut session, &mut answers);
        step(&mut session, &mut answers);
        assert!(answers[&short_id].tokens.len() > before || answers[&short_id].is_whole);
        steps += 2;
    }
    assert!(steps >= 4, "it was read in {steps} steps");
    while !session.is_idle() {
        step(&mut session, &mut answers);
    }
    assert_as_alone("short", &model, &short, &answers[&short_id]);
    assert_as_alone("long", &model, &long, &answers[&long_id]);
}

/// Random sessions: requests come, end and are cancelled, many of them with what others have seen in front, under several λ
/// and adapters. Every answer is the one that it would be alone.
#[test]
fn nobody_can_tell_what_was_known() {
    let device = panacea_devices::of_environment();
    let families = [
        config("llama", json!({ "max_position_embeddings": 400 })),
        config(
            "mistral",
            json!({ "sliding_window": 5, "max_position_embeddings": 400 }),
        ),
        config(
            "gemma3_text",
            json!({ "hidden_act": null, "sliding_window": 4, "sliding_window_pattern": 2,
                "max_position_embeddings": 400 }),
        ),
        config("qwen3", json!({ "max_position_embeddings": 400 })),
    ];
    for (seed, family) in families.iter().enumerate() {
        let model = tiny_model(family, &device);
        let adapters = [0.0, 0.5].map(|shift| {
            let mut adapters = random_adapters(&model, &device);
            for factors in adapters.factors.0.values_mut() {
                factors.sigma = factors.sigma.clone() + shift;
            }
            Arc::new(adapters)
        });
        let steerings = [
            None,
            Some(steering(&adapters[0], FIRST)),
            Some(steering(&adapters[0], SECOND)),
            Some(steering(&adapters[1], FIRST)),
        ];
        let mut rng = ChaCha8Rng::seed_from_u64(seed as u64);
        let mut session = Generation::new(&model, 4);
        let mut asked: BTreeMap<RequestId, Request> = BTreeMap::new();
        let mut answers: BTreeMap<RequestId, Answered> = BTreeMap::new();
        let (mut cancelled, mut prompts) = (Vec::new(), 0);
        let mut seen: Vec<Vec<u32>> = vec![(3..33).collect()];
        for _ in 0..150 {
            for _ in 0..rng.random_range(0..3) {
                if asked.len() == 60 {
                    break;
                }
                // Something that was seen, up to somewhere, and something new.
                let start = seen.choose(&mut rng).unwrap();
                let start = &start[..rng.random_range(start.len() / 2..=start.len())];
                let new = (0..rng.random_range(1..12)).map(|_| 3 + rng.next_u32() % 37);
                let prompt: Vec<u32> = start.iter().copied().chain(new).collect();
                let prompt = &prompt[..prompt.len().min(300)];
                let steering = steerings.choose(&mut rng).unwrap().as_ref();
                let request = Request {
                    stop: vec![2, 5],
                    ..request(prompt, steering, rng.random_range(1..12))
                };
                seen.push(prompt.to_vec());
                let id = session.push(request.clone()).unwrap();
                asked.insert(id, request);
            }
            step(&mut session, &mut answers);
            let ids: Vec<RequestId> = asked.keys().copied().collect();
            let id = ids.choose(&mut rng).copied();
            if let Some(id) = id.filter(|_| rng.random_range(0..8) == 0)
                && session.cancel(id)
            {
                cancelled.push(id);
            }
            for (id, answer) in &answers {
                if answer.is_whole && rng.random_range(0..4) == 0 {
                    seen.push([&asked[id].prompt[..], &answer.tokens].concat());
                }
            }
        }
        while !session.is_idle() {
            step(&mut session, &mut answers);
        }
        assert_eq!(session.running() + session.waiting(), 0);
        let mut known = 0;
        for (id, request) in &asked {
            let what = format!("{}, {id:?}, {request:?}", family["model_type"]);
            let Some(answer) = answers.get(id) else {
                assert!(cancelled.contains(id), "{what}");
                continue;
            };
            assert!(answer.is_whole || cancelled.contains(id), "{what}");
            assert_as_alone(&what, &model, request, answer);
            prompts += request.prompt.len();
            known += answer.cached.unwrap();
        }
        assert!(asked.len() == 60 && !cancelled.is_empty());
        assert!(10 * known > prompts, "{known} of {prompts} were known");
        assert!(session.tokens_read() as usize >= prompts - known);
    }
}

/// The last token of an answer that a stop token ended was read, one that the length ended was not.
#[test]
fn what_ended_by_a_stop_token_is_known_whole() {
    let device = panacea_devices::of_environment();
    let model = tiny_model(&config("llama", json!({})), &device);
    let free = model.generate([Request::greedy([3, 4, 5], 6)]).unwrap();
    let stop = free[0].tokens[5];
    let first = Request {
        stop: vec![stop],
        ..request(&[3, 4, 5], None, 20)
    };
    let mut session = Generation::new(&model, 1);
    let id = session.push(first).unwrap();
    let (mut tokens, mut reason) = (vec![3, 4, 5], None);
    while !session.is_idle() {
        for new in session.step().unwrap() {
            assert_eq!(new.request, id);
            tokens.push(new.token);
            reason = new.end;
        }
    }
    assert_eq!(reason, Some(StopReason::Stop(stop)));
    tokens.extend([7, 8]);
    let next = request(&tokens, None, 2);
    let answer = ask(&mut session, vec![next]).remove(0);
    assert_eq!(answer.cached, Some(tokens.len() - 3));
}
