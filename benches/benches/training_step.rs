//! The hot pieces on a small model: a forward pass, a step with its gradient under both memory policies, a
//! batch under one λ against a batch under one λ a row.

use criterion::{Criterion, criterion_group, criterion_main};
use panacea_benches::{SMALL, adapters, pairs, random_model};
use panacea_model::{MemoryPolicy, PackedBatch, Sequence};

fn training_step(criterion: &mut Criterion) {
    let model = random_model(SMALL, "flex").expect("the model is made here");
    let adapters = adapters(&model).expect("its modules exist");
    let examples = pairs(4, 64, 64, SMALL.vocabulary);
    let pack = |preferences: &[[f64; 2]]| {
        let sequences: Vec<_> = examples
            .iter()
            .zip(preferences.iter().cycle())
            .map(|(example, preference)| Sequence {
                prompt: &example.prompt,
                responses: example.responses.iter().map(Vec::as_slice).collect(),
                preference,
            })
            .collect();
        PackedBatch::new(&sequences).expect("nothing is empty")
    };
    let same = pack(&[[0.4, 0.6]]);
    let mixed = pack(&[[1.0, 0.0], [0.7, 0.3], [0.3, 0.7], [0.0, 1.0]]);
    let coefficients = vec![0.01; same.targets()];

    let mut group = criterion.benchmark_group("training_step");
    group.sample_size(10);
    group.bench_function("log_probs", |b| {
        b.iter(|| model.log_probs(&same, Some(&adapters)).expect("valid"))
    });
    for (name, batch, memory) in [
        ("gradient", &same, MemoryPolicy::Keep),
        ("gradient_mixed_preferences", &mixed, MemoryPolicy::Keep),
        ("gradient_recompute", &same, MemoryPolicy::Recompute),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let forward = model.forward(batch, &adapters, memory).expect("valid");
                model
                    .backward(batch, &adapters, forward.tape, &coefficients)
                    .expect("valid")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, training_step);
criterion_main!(benches);
