//! SmolLM2-135M-Instruct against transformers. Needs the model file:
//! `PANACEA_MODEL=FILE cargo test -p panacea-model --release golden_smollm2 -- --ignored`

use std::path::Path;

use burn_tensor::Device;
use panacea_model::{Bits, Decoder, PackedBatch, Request, Sequence};
use panacea_pretrained::{GgufType, Message, Pretrained, convert_to_gguf};
use panacea_test_support::{floats, golden};
use serde_json::Value;

/// Logits that are no further apart may change places where activations are rounded to 8 bits.
const NEARLY_TIED: f32 = 0.3;

fn open() -> (Pretrained, Decoder, Value) {
    let path =
        std::env::var_os("PANACEA_MODEL").expect("PANACEA_MODEL names the model's file or folder");
    let pretrained = Pretrained::open(Path::new(&path)).unwrap();
    let model = Decoder::load(&pretrained, &panacea_devices::of_environment()).unwrap();
    (pretrained, model, golden("smollm2.json"))
}

fn ids(value: &Value) -> Vec<u32> {
    floats(value).into_iter().map(|id| id as u32).collect()
}

#[test]
#[ignore = "needs PANACEA_MODEL=FILE"]
fn golden_smollm2_next_token() {
    let (pretrained, model, golden) = open();
    for case in golden["next_token"].as_array().unwrap() {
        let prompt = pretrained
            .tokenizer()
            .unwrap()
            .encode(case["prompt"].as_str().unwrap(), false)
            .unwrap();
        assert_eq!(prompt, ids(&case["ids"]));
        let sequence = Sequence {
            prompt: &prompt,
            responses: vec![],
            preference: &[],
        };
        let batch = PackedBatch::new(&[sequence]).unwrap();
        let logits = model.logits(&batch, None, &[prompt.len() - 1]).unwrap();
        let logits = logits.row(0);
        let (top, expected) = (ids(&case["top_ids"]), floats(&case["top_logits"]));
        for (&id, &logit) in top.iter().zip(&expected) {
            assert!(
                (f64::from(logits[id as usize]) - logit).abs() < 2e-2,
                "{}: {id}",
                case["prompt"]
            );
        }
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        for i in 0..top.len() {
            let gap = |a: usize, b: usize| (expected[a] - expected[b]).abs() > 4e-2;
            if (i == 0 || gap(i - 1, i))
                && (i + 1 == top.len() || gap(i, i + 1))
                && i + 1 < top.len()
            {
                assert_eq!(order[i], top[i], "{}: place {i}", case["prompt"]);
            }
        }
        let request = Request::greedy(&prompt[..], 24);
        let greedy = model.generate([request]).unwrap();
        assert_eq!(
            greedy[0].tokens,
            ids(&case["greedy_24"]),
            "{}",
            case["prompt"]
        );
        let text = pretrained
            .tokenizer()
            .unwrap()
            .decode(&greedy[0].tokens, true)
            .unwrap();
        assert_eq!(text, case["greedy_text"].as_str().unwrap());
    }
}

/// The greedy tokens of every golden prompt, as many as transformers has made.
fn greedy(model: &Decoder, golden: &Value) -> Vec<Vec<u32>> {
    let cases = golden["next_token"].as_array().unwrap().iter();
    let greedy = |case: &Value| {
        let count = case["greedy_24"].as_array().unwrap().len();
        let request = Request::greedy(ids(&case["ids"]), count);
        model.generate([request]).unwrap().remove(0).tokens
    };
    cases.map(greedy).collect()
}

/// For every golden prompt, how far the first token of `found` that is not the golden one lies behind that, in logits, and
/// where it stands; `None` where all are the same.
fn gaps(model: &Decoder, golden: &Value, found: &[Vec<u32>]) -> Vec<Option<(f32, usize)>> {
    let cases = golden["next_token"].as_array().unwrap().iter().zip(found);
    let gap = |(case, found): (&Value, &Vec<u32>)| {
        let (prompt, expected) = (ids(&case["ids"]), ids(&case["greedy_24"]));
        let at = (0..expected.len()).find(|&i| found[i] != expected[i])?;
        let text = [&prompt[..], &expected[..at]].concat();
        let sequence = Sequence {
            prompt: &text,
            responses: vec![],
            preference: &[],
        };
        let batch = PackedBatch::new(&[sequence]).unwrap();
        let logits = model.logits(&batch, None, &[text.len() - 1]).unwrap();
        let logit = |token: u32| logits.row(0)[token as usize];
        let gap = logit(expected[at]) - logit(found[at]);
        println!("{}: {gap} at token {at}", case["prompt"]);
        Some((gap, at))
    };
    cases.map(gap).collect()
}

/// Decoding from 8 bits multiplies integers with activations of 16 bits: the tokens are those of the same weights in
/// floats, and on these prompts those of the weights as they were before they were rounded to 8 bits.
#[test]
#[ignore = "needs PANACEA_MODEL=FILE"]
fn golden_smollm2_decoded_from_8_bits() {
    let (pretrained, mut model, golden) = open();
    if *model.device() != Device::flex() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("q8_0.gguf");
    convert_to_gguf(&path, &pretrained, GgufType::Q8_0).unwrap();
    let rounded = Pretrained::open(&path).unwrap();
    let by_floats = greedy(&Decoder::load(&rounded, model.device()).unwrap(), &golden);
    let stored = Decoder::load_as_stored(&rounded, model.device()).unwrap();
    assert!(stored.weight_memory().packed > 0);
    assert_eq!(greedy(&stored, &golden), by_floats);

    let packing = model.pack(Bits::Eight).unwrap();
    assert!(packing.relative_error() > 0.0);
    let found = greedy(&model, &golden);
    let (_, plain, _) = open();
    assert_eq!(gaps(&plain, &golden, &found), vec![None; found.len()]);
}

/// Weights of 4 bits meet activations of 8 bits: from the file's own blocks the tokens are those of floats until two are
/// nearly tied.
#[test]
#[ignore = "needs PANACEA_MODEL=FILE"]
fn golden_smollm2_decoded_from_its_file() {
    let (pretrained, model, golden) = open();
    if *model.device() != Device::flex() {
        return;
    }
    let model = Decoder::load_as_stored(&pretrained, model.device()).unwrap();
    assert!(
        model.weight_memory().packed > 0,
        "this file has no blocks that are read as they are"
    );
    let found = greedy(&model, &golden);
    let (_, plain, _) = open();
    for (gap, at) in gaps(&plain, &golden, &found).into_iter().flatten() {
        // What follows is another text.
        assert!(at > 0 && gap < NEARLY_TIED, "{gap} at token {at}");
    }
}

#[test]
#[ignore = "needs PANACEA_MODEL=FILE"]
fn golden_smollm2_response_log_probs() {
    let (pretrained, model, golden) = open();
    let tokenizer = pretrained.tokenizer().unwrap();
    for case in golden["response_logprob"].as_array().unwrap() {
        let message = Message::new("user", case["prompt"].as_str().unwrap());
        let prompt = tokenizer.prompt(&[message]).unwrap();
        let texts = ["chosen", "rejected"].map(|key| case[key].as_str().unwrap().into());
        let answered = tokenizer.answered(&prompt, &texts).unwrap();
        let prompt = answered.prompt;
        assert_eq!(prompt, ids(&case["prompt_ids"]));
        let [chosen, rejected] = answered.responses.try_into().unwrap();
        assert_eq!(
            (&chosen, &rejected),
            (&ids(&case["chosen_ids"]), &ids(&case["rejected_ids"]))
        );
        let sequence = Sequence {
            prompt: &prompt,
            responses: vec![&chosen, &rejected],
            preference: &[],
        };
        let batch = PackedBatch::new(&[sequence]).unwrap();
        let log_probs = model.log_probs(&batch, None).unwrap();
        for (range, key) in batch.responses().iter().zip(["chosen", "rejected"]) {
            let expected = floats(&case[format!("{key}_token_logprobs")]);
            for (found, expected) in log_probs[range.clone()].iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < 2e-2,
                    "{}: {found} against {expected}",
                    case["prompt"]
                );
            }
        }
    }
}
