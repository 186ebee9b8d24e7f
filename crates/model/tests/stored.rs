//! Models whose matrices stay in the blocks of their GGUF file: what they compute, and the memory that they take.

#[path = "common/mod.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod common;
#[path = "common/gguf.rs"]
mod gguf;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use burn_tensor::Device;
use common::{config, random_adapters};
use gguf::FORMS;
use panacea_kernels::Blocks;
use panacea_model::{
    Bits, Decoder, MemoryPolicy, PackedBatch, Request, Sequence, Steering, ValueHead,
};
use panacea_pretrained::{GgufType, Pretrained, write_gguf};
use panacea_test_support::TinyModel;
use serde_json::{Value, json};

const PREFERENCE: [f64; 2] = [0.7, 0.3];

/// Counts what is held, and the most that was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all memory comes from the system's allocator and goes back to it, with the layout that was asked for.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        // SAFETY: the caller promises what `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `alloc` above, which had it from `System` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time, since memory is counted for all threads together.
static ALONE: Mutex<()> = Mutex::new(());

/// Wide enough for the blocks of all formats; only the outputs of attention, 64 wide, are not in those of 256.
fn wide(tied: bool) -> Value {
    config(
        "llama",
        json!({ "hidden_size": 256, "intermediate_size": 512, "head_dim": 16, "vocab_size": 320,
            "tie_word_embeddings": tied }),
    )
}

/// Rows enough for products that are not thin.
fn batch() -> PackedBatch {
    let prompt: Vec<u32> = (0..30).map(|i| 3 + i * 7 % 300).collect();
    PackedBatch::new(&[Sequence {
        prompt: &prompt,
        responses: vec![&[6, 7, 8, 2], &[9, 2]],
        preference: &PREFERENCE,
    }])
    .unwrap()
}

#[test]
fn a_stored_model_computes_what_the_dense_one_does() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
    for (form, tied) in FORMS
        .into_iter()
        .flat_map(|form| [(form, true), (form, false)])
    {
        let what = format!("{form:?}, tied: {tied}");
        let path = folder.path().join("model.gguf");
        gguf::write(&path, &wide(tied), form, 0.1, 5);
        let file = Pretrained::open(&path).unwrap();
        let dense = Decoder::load(&file, &device).unwrap();
        let stored = Decoder::load_as_stored(&file, &device).unwrap();
        let adapters = random_adapters(&dense, &device);

        let batch = batch();
        for adapters in [None, Some(&adapters)] {
            let log_probs = |model: &Decoder| model.log_probs(&batch, adapters).unwrap();
            assert_eq!(log_probs(&stored), log_probs(&dense), "{what}");
        }
        let logits = |model: &Decoder| {
            let logits = model.logits(&batch, Some(&adapters), &[0, 29]).unwrap();
            logits.rows().map(<[f32]>::to_vec).collect::<Vec<_>>()
        };
        assert_eq!(logits(&stored), logits(&dense), "{what}");
        let head = ValueHead::zeros(1, 256, &device);
        let values = |model: &Decoder| model.values(&batch, Some(&adapters), &head).unwrap();
        assert_eq!(values(&stored), values(&dense), "{what}");
        for memory in [MemoryPolicy::Keep, MemoryPolicy::Recompute] {
            let gradients = |model: &Decoder| {
                let forward = model.forward(&batch, &adapters, memory).unwrap();
                let coefficients: Vec<f64> =
                    (1..=forward.log_probs.len()).map(|i| i as f64).collect();
                let gradients = model.backward(&batch, &adapters, forward.tape, &coefficients);
                gradients.unwrap().0
            };
            let (found, expected) = (gradients(&stored), gradients(&dense));
            assert!(found.keys().eq(expected.keys()), "{what}");
            for (name, found) in found {
                let expected = &expected[&name];
                let size = expected.u.clone().abs().max().into_scalar::<f32>();
                let error = (found.u - expected.u.clone())
                    .abs()
                    .max()
                    .into_scalar::<f32>();
                assert!(error <= 1e-4 * size, "{what}, {name}: {error} of {size}");
            }
        }

        let memory = stored.weight_memory();
        let is_wide = form.0.weights() == 256;
        assert_eq!(memory.dense, if is_wide { 2 } else { 0 }, "{what}");
        assert_eq!(
            memory.packed + memory.dense,
            14 + 1 + usize::from(!tied),
            "{what}"
        );
        if !is_wide {
            let bits = 8.0 * form.0.bytes() as f64 / form.0.weights() as f64;
            assert_eq!(memory.bits(), bits, "{what}");
        }
        assert_eq!(memory.count, dense.weight_memory().count);
        assert_eq!(dense.weight_memory().bits(), 32.0);
    }
}

/// Decoding rounds what it multiplies to 8 bits, and prompts are read exactly.
#[test]
fn a_stored_model_answers_as_the_dense_one_does() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, device) = (tempfile::tempdir().unwrap(), Device::flex());
    for form in FORMS {
        let path = folder.path().join("model.gguf");
        gguf::write(&path, &wide(true), form, 0.1, 6);
        let file = Pretrained::open(&path).unwrap();
        let dense = Decoder::load(&file, &device).unwrap();
        let mut stored = Decoder::load_as_stored(&file, &device).unwrap();
        let adapters = Arc::new(random_adapters(&dense, &device));
        let generate = |model: &Decoder| {
            let request = |row: u32| Request {
                steering: Some(Steering {
                    adapters: Arc::clone(&adapters),
                    preference: PREFERENCE.to_vec(),
                }),
                ..Request::greedy([3 + row, 7, 11], 12)
            };
            let answers = model.generate((0..4).map(request)).unwrap();
            answers
                .into_iter()
                .map(|answer| answer.tokens)
                .collect::<Vec<_>>()
        };
        let (found, expected) = (generate(&stored), generate(&dense));
        let mut alike = 0;
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found[0], expected[0], "{form:?}");
            alike += found.iter().zip(expected).filter(|(a, b)| a == b).count();
        }
        // Weights of 8 and 6 bits meet activations of 16 bits, which round less than two tokens are apart.
        let least = match form.0 {
            Blocks::Q8_0 | Blocks::Q6K => 48,
            // Of 48; by chance it would be none of 320.
            _ => 20,
        };
        assert!(alike >= least, "{form:?}: {alike}");
        // There is nothing that it could be rounded from.
        let before = stored.weight_memory();
        stored.pack(Bits::Four).unwrap();
        if form.0.weights() == 32 {
            assert_eq!(stored.weight_memory(), before);
        }
        assert_eq!(generate(&stored)[0][0], expected[0][0]);
    }
}

#[test]
fn a_damaged_scale_is_refused() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    gguf::write(&path, &wide(true), (Blocks::Q4_1, 3), f32::INFINITY, 7);
    let model = Decoder::load_as_stored(&Pretrained::open(&path).unwrap(), &Device::flex());
    let message = model.expect_err("must be refused").to_string();
    assert!(message.contains("expected finite numbers"), "{message}");
}

/// Neither while the model is loaded nor while it reads is there a dense copy: of all that the process holds on the heap
/// nothing but blocks grows with the model.
#[test]
fn a_stored_model_is_never_dense() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let config = config(
        "llama",
        json!({ "hidden_size": 256, "intermediate_size": 1024, "head_dim": 64, "vocab_size": 16384,
            "num_hidden_layers": 6 }),
    );
    {
        TinyModel::well_behaved(config, 0.1).write(folder.path());
        let floats = Pretrained::open(folder.path()).unwrap();
        write_gguf(&path, &floats, &BTreeMap::new(), GgufType::Q8_0).unwrap();
    }
    let file = Pretrained::open(&path).unwrap();
    let measured = |run: &mut dyn FnMut()| {
        let before = HELD.load(Relaxed);
        MOST.store(before, Relaxed);
        run();
        (HELD.load(Relaxed) - before, MOST.load(Relaxed) - before)
    };
    let mut model = None;
    let (held, most) = measured(&mut || {
        model = Some(Decoder::load_as_stored(&file, &Device::flex()).unwrap());
    });
    let model = model.unwrap();
    let memory = model.weight_memory();
    let (blocks, embedding) = (memory.bytes as usize, 16384 * 256 / 32 * 34);
    assert_eq!(blocks as u64, memory.count / 32 * 34);
    let small = 256 * 1024;
    assert!(held < blocks + small, "{held} for {blocks}");
    // The largest matrix is read as bytes, whose rows are then put in order.
    assert!(most < blocks + embedding + small, "{most} for {blocks}");

    let batch = batch();
    let mut read = || drop(model.log_probs(&batch, None).unwrap());
    // One panel of floats at a time, the activations and a piece of the logits of a few rows; the embedding alone would
    // be 16 MiB of floats.
    let (_, most) = measured(&mut read);
    assert!(most < 9 << 20, "{most}");
    let (left, _) = measured(&mut read);
    assert!(left < small, "{left}");
}
