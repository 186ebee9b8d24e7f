//! What stands around the network: tokenisation, batches, hypervolume.

use std::path::Path;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use panacea_benches::{SMOLLM2_135M, on_the_sphere, pairs};
use panacea_data::{
    BatchPlan, DataReport, LabelSource, ObjectiveSpec, Record, RecordKind, TokenLimits, Tolerance,
    load, tokenize,
};
use panacea_evaluator::hypervolume;
use panacea_model::{PackedBatch, Sequence};
use panacea_pretrained::Pretrained;

fn data(criterion: &mut Criterion) {
    let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/quickstart");
    let base = Pretrained::open(&quickstart.join("base")).expect("it is part of the project");
    let tokenizer = base.tokenizer().expect("it has one");
    let objectives = ["brevity", "detail"]
        .map(|name| ObjectiveSpec::new(name, LabelSource::Score(name.to_owned())));
    let file = quickstart.join("menus.jsonl");
    let (records, _) = load(&[file], &objectives, RecordKind::Pair).expect("it is well-formed");
    let limits = TokenLimits {
        max_prompt_tokens: 256,
        max_response_tokens: 256,
        overlong_prompts: Default::default(),
    };
    let mut group = criterion.benchmark_group("data");
    group.bench_function("tokenize_the_quickstart", |b| {
        let tokenized = |records: Vec<Record>| {
            let mut report = DataReport::default();
            tokenize(
                records,
                tokenizer,
                &limits,
                Tolerance::default(),
                &mut report,
            )
            .expect("it is text")
        };
        b.iter_batched(|| records.clone(), tokenized, BatchSize::LargeInput);
    });
    group.bench_function("batch_plan_of_10000", |b| {
        b.iter(|| BatchPlan::new(10_000, 8, 17).batch(3));
    });
    let examples = pairs(4, 128, 128, SMOLLM2_135M.vocabulary);
    group.bench_function("pack_4_pairs", |b| {
        b.iter(|| {
            let sequences: Vec<_> = examples
                .iter()
                .map(|example| Sequence {
                    prompt: &example.prompt,
                    responses: example.responses.iter().map(Vec::as_slice).collect(),
                    preference: &[0.5, 0.5],
                })
                .collect();
            PackedBatch::new(&sequences).expect("nothing is empty")
        });
    });
    group.finish();
}

fn fronts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hypervolume");
    group.sample_size(10);
    for (m, n) in [(2, 1000), (3, 1000), (5, 200), (10, 30)] {
        let points = on_the_sphere(n, m);
        let reference = vec![0.0; m];
        group.bench_function(BenchmarkId::new(format!("m{m}"), n), |b| {
            b.iter(|| hypervolume(&points, &reference).expect("they are finite"));
        });
    }
    group.finish();
}

criterion_group!(benches, data, fronts);
criterion_main!(benches);
