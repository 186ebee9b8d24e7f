//! GGUF files.

use std::fs;
use std::path::Path;

use panacea_pretrained::{Pretrained, PretrainedError, Rope, RopeScaling};
use panacea_test_support::Noise;

use crate::tiny::{Gguf, HEADS, Meta, VOCAB, text, tiny_model};

/// What opening and checking a file says; the change is made to a good one.
fn refusal(change: impl FnOnce(&mut Gguf)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut gguf = Gguf::of(&tiny_model("llama"));
    change(&mut gguf);
    let checked = Pretrained::open(&gguf.write(folder.path())).and_then(|model| model.check());
    checked.expect_err("must be refused").to_string()
}

fn assert_names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

fn opened(gguf: &Gguf, folder: &Path) -> Pretrained {
    Pretrained::open(&gguf.write(folder)).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_gguf_file_is_the_model_of_the_folder() {
    for family in ["llama", "mistral", "qwen2", "qwen3"] {
        for tiny in [tiny_model(family), tiny_model(family).tied()] {
            let folder = tempfile::tempdir().unwrap();
            tiny.write(folder.path());
            let expected = Pretrained::open(folder.path()).unwrap();

            let elsewhere = tempfile::tempdir().unwrap();
            let mut gguf = Gguf::of(&tiny);
            for version in [2, 3] {
                gguf.version = version;
                let model = opened(&gguf, elsewhere.path());
                model.check().unwrap();
                assert_eq!(model.config(), expected.config(), "{family}");
                assert_eq!(model.tensor_names(), expected.tensor_names());
                for name in model.tensor_names() {
                    assert_eq!(
                        model.tensor(&name).unwrap(),
                        expected.tensor(&name).unwrap(),
                        "{family} {name}"
                    );
                }
            }
            // The folder of a single GGUF file stands for it.
            assert_eq!(
                Pretrained::open(elsewhere.path()).unwrap().config(),
                expected.config()
            );
        }
    }
}

#[test]
fn quantised_rows_are_reordered_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = tiny_model("llama");
    let mut gguf = Gguf::of(&tiny);
    let tensor = gguf.tensor("blk.0.attn_q.weight");
    let stored: Vec<f32> = tensor
        .3
        .chunks(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    // The weights are multiples of 1/128 below 1 in magnitude: exact in Q8_0 with the scale 1/128.
    tensor.2 = 8;
    tensor.3 = stored
        .chunks(32)
        .flat_map(|block| {
            let scale = half::f16::from_f32(1.0 / 128.0).to_le_bytes();
            scale
                .into_iter()
                .chain(block.iter().map(|weight| (weight * 128.0) as i8 as u8))
        })
        .collect();
    let model = opened(&gguf, folder.path());
    let name = "model.layers.0.self_attn.q_proj.weight";
    assert_eq!(model.tensor(name).unwrap().data, tiny.tensors[name].1);
}

#[test]
fn rope_of_the_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = tiny_model("llama");
    let rope = |change: &dyn Fn(&mut Gguf)| {
        let mut gguf = Gguf::of(&tiny);
        change(&mut gguf);
        Pretrained::open(&gguf.write(folder.path()))
            .map(|model| model.config().attention[0].rope.clone())
    };
    let factors = |values: &[f32]| {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        (
            "rope_freqs.weight".to_owned(),
            vec![values.len() as u64],
            0,
            bytes,
        )
    };
    assert_eq!(
        rope(&|_| ()).unwrap(),
        Rope {
            theta: 1e5,
            scaling: RopeScaling::None
        }
    );
    let linear = rope(&|gguf| gguf.set("llama.rope.scaling.factor", Meta::F32(4.0))).unwrap();
    assert_eq!(linear.scaling, RopeScaling::Linear { factor: 4.0 });

    let divided = rope(&|gguf| gguf.tensors.push(factors(&[1.0, 1.0, 2.0, 8.0]))).unwrap();
    assert_eq!(
        divided.scaling,
        RopeScaling::Factors(vec![1.0, 1.0, 2.0, 8.0])
    );
    let plain = rope(&|_| ()).unwrap().inverse_frequencies(8);
    let expected: Vec<f32> = plain
        .iter()
        .zip([1.0, 1.0, 2.0, 8.0])
        .map(|(frequency, factor)| frequency / factor)
        .collect();
    assert_eq!(divided.inverse_frequencies(8), expected);
    assert_eq!(
        rope(&|gguf| gguf.tensors.push(factors(&[1.0; 4])))
            .unwrap()
            .scaling,
        RopeScaling::None
    );

    let wrong = rope(&|gguf| gguf.tensors.push(factors(&[1.0; 3])))
        .unwrap_err()
        .to_string();
    assert_names(&wrong, &["rope_freqs.weight", "[3]", "[4]"]);
    let zero = rope(&|gguf| gguf.tensors.push(factors(&[1.0, 0.0, 1.0, 1.0])))
        .unwrap_err()
        .to_string();
    assert_names(&zero, &["rope_freqs.weight", "above 0"]);
    let yarn = rope(&|gguf| gguf.set("llama.rope.scaling.type", text("yarn")))
        .unwrap_err()
        .to_string();
    assert_names(&yarn, &["llama.rope.scaling.type", "yarn"]);
}

#[test]
fn what_cannot_be_used_is_named() {
    /// A change to a good file, and what the refusal must name.
    type Case<'a> = (&'a dyn Fn(&mut Gguf), &'a [&'a str]);
    let cases: [Case<'_>; 15] = [
        (&|gguf| gguf.version = 1, &["version", "found 1"]),
        (&|gguf| gguf.version = 3_u32.swap_bytes(), &["big-endian"]),
        (
            &|gguf| gguf.set("general.architecture", text("mamba")),
            &["general.architecture", "mamba", "llama, qwen2, qwen3"],
        ),
        (
            &|gguf| gguf.remove("general.architecture"),
            &["general.architecture", "nothing"],
        ),
        (
            &|gguf| gguf.remove("llama.block_count"),
            &["llama.block_count", "nothing"],
        ),
        (
            &|gguf| gguf.set("llama.block_count", text("two")),
            &["llama.block_count", "\"two\""],
        ),
        (
            &|gguf| gguf.set("llama.attention.key_length", Meta::U32(6)),
            &["llama.rope.dimension_count", "found 8"],
        ),
        (
            &|gguf| gguf.set("llama.expert_count", Meta::U32(8)),
            &["llama.expert_count", "experts"],
        ),
        (
            &|gguf| gguf.set("split.count", Meta::U32(3)),
            &["split.count", "llama-gguf-split"],
        ),
        (
            &|gguf| gguf.set("general.alignment", Meta::U32(0)),
            &["general.alignment", "power of two"],
        ),
        (
            &|gguf| gguf.tensor("blk.0.attn_v.weight").2 = 10,
            &["blk.0.attn_v.weight", "Q2_K (type 10)", "Q4_K"],
        ),
        (
            &|gguf| gguf.tensor("blk.0.attn_v.weight").2 = 777,
            &["blk.0.attn_v.weight", "unknown (type 777)"],
        ),
        (
            &|gguf| gguf.tensor("blk.0.attn_v.weight").2 = 12,
            &["blk.0.attn_v.weight", "Q4_K", "multiple of 256"],
        ),
        (
            &|gguf| {
                gguf.tensors
                    .retain(|tensor| tensor.0 != "blk.1.ffn_up.weight")
            },
            &["`model.layers.1.mlp.up_proj.weight` is missing"],
        ),
        (
            &|gguf| gguf.tensor("blk.1.attn_norm.weight").1 = vec![16, 2],
            &[
                "`model.layers.1.input_layernorm.weight` has shape [2, 16]",
                "[32]",
            ],
        ),
    ];
    for (change, parts) in cases {
        let message = refusal(change);
        assert_names(&message, &["tiny.gguf"]);
        assert_names(&message, parts);
    }
    let message = refusal(|gguf| {
        gguf.tensor("blk.0.ffn_up.weight").0 = "blk.0.ffn_up_exps.weight".to_owned()
    });
    assert_names(
        &message,
        &[
            "2 problems",
            "blk.0.ffn_up_exps.weight",
            "not part of a llama model",
        ],
    );
    let message = refusal(|gguf| gguf.tensor("blk.0.ffn_up.weight").1 = vec![u64::MAX, u64::MAX]);
    assert_names(&message, &["blk.0.ffn_up.weight", "impossible shape"]);
    let message = refusal(|gguf| gguf.tensor("blk.0.ffn_up.weight").1 = vec![1 << 40, 1 << 20]);
    assert_names(&message, &["blk.0.ffn_up.weight", "the file has"]);
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let whole = Gguf::of(&tiny_model("llama")).bytes();
    let path = folder.path().join("tiny.gguf");
    let cuts = (0..whole.len().min(6000))
        .step_by(7)
        .chain((6000..whole.len()).step_by(1013))
        .chain([whole.len() - 1]);
    for length in cuts {
        fs::write(&path, &whole[..length]).unwrap();
        let message = Pretrained::open(&path)
            .expect_err("must be refused")
            .to_string();
        assert_names(
            &message,
            &["tiny.gguf", "truncated or damaged", "the file has"],
        );
    }
}

/// Lengths and types that lie lead to errors, or to numbers; never to a panic or to memory that the file cannot fill.
#[test]
fn damage_anywhere_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let whole = Gguf::of(&tiny_model("llama").tied()).bytes();
    let path = folder.path().join("tiny.gguf");
    let mut noise = Noise(3);
    let header = whole.len()
        - tiny_model("llama")
            .tied()
            .tensors
            .values()
            .map(|(_, data)| data.len() * 4)
            .sum::<usize>();
    for round in 0..600 {
        let mut damaged = whole.clone();
        for _ in 0..1 + round % 3 {
            let at = noise.next() as usize % header;
            damaged[at] = if round % 2 == 0 {
                0xFF
            } else {
                noise.next() as u8
            };
        }
        fs::write(&path, &damaged).unwrap();
        let Ok(model) = Pretrained::open(&path) else {
            continue;
        };
        let _ = model.check();
        for name in model.tensor_names() {
            let _ = model.tensor(&name);
        }
        if let Ok(tokenizer) = model.tokenizer() {
            let _ = tokenizer.encode("hello", true);
        }
    }
}

#[test]
fn counts_that_cannot_be_are_refused_before_memory_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    for at in [8, 16] {
        let mut bytes = Gguf::of(&tiny_model("llama")).bytes();
        bytes[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let message = Pretrained::open(&path)
            .expect_err("must be refused")
            .to_string();
        assert_names(&message, &["cannot fit into"]);
    }
}

#[test]
fn more_layers_than_any_model_has_are_refused_before_memory_is_taken() {
    let message = refusal(|gguf| gguf.set("llama.block_count", Meta::U32(5000)));
    assert_names(&message, &["`llama.block_count`", "5000", "at most 4096"]);
}

#[test]
fn a_quantised_matrix_of_another_shape_is_not_handed_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut gguf = Gguf::of(&tiny_model("llama"));
    let name = "model.layers.0.self_attn.q_proj.weight";
    // One row a head, and none of more bytes than can be counted.
    for axes in [[32, HEADS as u64], [u64::MAX - 31, 0]] {
        let tensor = gguf.tensor("blk.0.attn_q.weight");
        (tensor.1, tensor.2) = (axes.to_vec(), 8);
        let model = Pretrained::open(&gguf.write(folder.path())).unwrap();
        assert!(model.quantised(name).is_none(), "{axes:?}");
        assert!(matches!(
            model.tensor(name),
            Err(PretrainedError::Shape { .. })
        ));
    }
}

/// A second text of a megabyte is a piece that can be cut at a million places.
#[test]
fn long_pieces_are_read_in_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut gguf = Gguf::of(&tiny_model("llama"));
    let mut tokens: Vec<String> = (0..VOCAB).map(|id| format!("<{id}>")).collect();
    (tokens[4], tokens[5]) = ("a".repeat(1 << 20), "ab".repeat(1 << 19));
    (tokens[6], tokens[7], tokens[8]) = ("a".into(), "b".into(), "ab".into());
    gguf.set("tokenizer.ggml.model", text("llama"));
    gguf.set("tokenizer.ggml.scores", Meta::F32s(vec![0.0; VOCAB]));
    gguf.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    let model = opened(&gguf, folder.path());
    let ids = model.tokenizer().unwrap().encode("ab", false).unwrap();
    assert!(ids.contains(&8), "{ids:?}");
}

#[test]
fn one_number_for_each_layer_counts_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut gguf = Gguf::of(&tiny_model("llama"));
    gguf.set(
        "llama.attention.head_count",
        Meta::I32s(vec![HEADS as i32; 2]),
    );
    assert_eq!(
        opened(&gguf, folder.path()).config().num_attention_heads,
        HEADS
    );
    gguf.set("llama.attention.head_count", Meta::I32s(vec![4, 2]));
    let error = Pretrained::open(&gguf.write(folder.path())).unwrap_err();
    assert!(matches!(error, PretrainedError::Field { .. }), "{error}");
}
