//! Sequence classifiers against transformers: the head on the last token's hidden state.

use burn_tensor::{Device, Tensor, TensorData};
use panacea_model::{Decoder, PackedBatch, Sequence, ValueHead};
use panacea_pretrained::{Pretrained, TensorF32};
use panacea_test_support::{floats, golden, golden_path};
use serde_json::Value;

/// The head of a classifier; transformers' has no bias.
fn score(model: &Pretrained, device: &Device) -> ValueHead {
    let TensorF32 { shape, data } = model.tensor("score.weight").unwrap();
    let [outputs, hidden] = shape[..] else {
        panic!("a matrix, found {shape:?}")
    };
    ValueHead {
        weight: Tensor::from_data(TensorData::new(data, [outputs, hidden]), device),
        ..ValueHead::zeros(outputs, hidden, device)
    }
}

/// The outputs of the model in `folder` for every sequence, each cut into prompt and response at every place where that can
/// be: it is one text all the same.
fn check(folder: &str, labels: &[&str]) {
    let device = panacea_devices::of_environment();
    let pretrained = Pretrained::open(&golden_path(folder)).unwrap();
    let expected: Value = golden(&format!("{folder}/expected.json"));
    assert_eq!(pretrained.config().labels.as_deref().unwrap(), labels);
    assert_eq!(expected["labels"], serde_json::json!(labels));

    let model = Decoder::load(&pretrained, &device).unwrap();
    let head = score(&pretrained, &device);
    let texts: Vec<Vec<u32>> = serde_json::from_value(expected["tokens"].clone()).unwrap();
    let logits: Vec<_> = expected["logits"].as_array().unwrap().iter().collect();
    assert_eq!(texts.len(), logits.len());
    let largest = floats(&expected["logits"])
        .into_iter()
        .fold(0.0_f64, |largest, logit| largest.max(logit.abs()));

    let cuts: Vec<(usize, usize)> = (0..texts.len())
        .flat_map(|text| (1..texts[text].len()).map(move |cut| (text, cut)))
        .collect();
    let sequences: Vec<_> = cuts
        .iter()
        .map(|&(text, cut)| Sequence {
            prompt: &texts[text][..cut],
            responses: vec![&texts[text][cut..]],
            preference: &[],
        })
        .collect();
    let batch = PackedBatch::ends(&sequences).unwrap();
    let found = model.values(&batch, None, &head).unwrap();
    assert_eq!(found.len(), cuts.len() * labels.len());
    for ((text, cut), found) in cuts.into_iter().zip(found.chunks(labels.len())) {
        for (found, expected) in found.iter().zip(floats(logits[text])) {
            assert!(
                (found - expected).abs() <= 1e-5 * largest,
                "{folder}, text {text} cut at {cut}: {found} against {expected}"
            );
        }
    }
}

#[test]
fn golden_classifiers_llama_with_one_output() {
    check("tiny_classifiers/llama", &["LABEL_0"]);
}

#[test]
fn golden_classifiers_qwen2_with_named_outputs() {
    check(
        "tiny_classifiers/qwen2",
        &["helpful", "concise", "harmless"],
    );
}
