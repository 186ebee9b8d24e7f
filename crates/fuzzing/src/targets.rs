//! The targets, each with the memory that its reader may hold. Where a constant is large, it is said for what.

use panacea_config::{Overrides, Plan, Spec};
use panacea_elicit::Session;
use panacea_evaluator::{Front, read_points};
use panacea_pretrained::Pretrained;
use panacea_runs::{RunRecord, training_totals};
use panacea_svd_lora::Adapters;

use crate::memory::Bound;
use crate::model::{open_and_use_tokenizer, use_model};
use crate::records::load_records;
use crate::scratch::Scratch;
use crate::seeds::{CONFIG, tiny};

/// A reader of people's files.
pub struct Target {
    /// What it is called by, here and in `fuzz/`.
    pub name: &'static str,
    /// How much memory it may hold at once.
    pub bound: Bound,
    /// Writes what stands beside an input, once.
    pub(crate) prepare: fn(&Scratch),
    /// Writes an input as the files that it stands for; false where it stands for none.
    pub(crate) lay: fn(&Scratch, &[u8]) -> bool,
    /// Reads them, and asks for what a program asks for. This is what is measured.
    pub(crate) read: fn(&Scratch, &[u8]),
}

/// What a chat template may make, of which there are two forms at a time.
const BY_TEMPLATES: usize = 160 << 20;

/// All of them.
pub const TARGETS: [Target; 14] = [
    GGUF,
    SAFETENSORS,
    CONFIG_JSON,
    TOKENIZER_JSON,
    TOKENIZER_CONFIG,
    CHAT_TEMPLATE,
    RECORDS,
    PARQUET,
    POINTS,
    FRONT,
    PROFILE,
    CONFIGURATION,
    RUN,
    ADAPTER,
];

/// A whole model in one file: metadata, tensors, tokenizer and chat template.
const GGUF: Target = Target {
    name: "gguf",
    bound: Bound {
        constant: BY_TEMPLATES,
        times: 200,
    },
    prepare: |_| {},
    lay: |folder, input| folder.write("model.gguf", input),
    read: |folder, _| {
        if let Ok(model) = Pretrained::open(&folder.path().join("model.gguf")) {
            use_model(&model);
        }
    },
};

/// A folder of weights: `model.safetensors`, or an index with its shards.
///
/// The first byte says which of the two. With an index, two bytes for its length, it and the shard follow; the index may
/// call the shard `a.safetensors` or `b.safetensors`.
const SAFETENSORS: Target = Target {
    name: "safetensors",
    bound: Bound {
        constant: 1 << 20,
        times: 300,
    },
    prepare: |folder| {
        folder.write("config.json", CONFIG.as_bytes());
    },
    lay: |folder, input| match input {
        [0, file @ ..] => {
            folder.remove("model.safetensors.index.json");
            folder.write("model.safetensors", file)
        }
        [_, low, high, rest @ ..] => {
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
            let (index, shard) = rest.split_at(length);
            folder.remove("model.safetensors");
            folder.write("model.safetensors.index.json", index)
                && folder.write("a.safetensors", shard)
                && folder.write("b.safetensors", shard)
        }
        _ => false,
    },
    read: |folder, _| {
        if let Ok(model) = Pretrained::open(folder.path()) {
            use_model(&model);
        }
    },
};

/// `config.json`, beside the weights of a tiny model.
const CONFIG_JSON: Target = Target {
    name: "config_json",
    // The constant is for the names of the tensors of as many layers as a model may have.
    bound: Bound {
        constant: 64 << 20,
        times: 300,
    },
    prepare: |folder| tiny("llama").write_without_tokenizer(folder.path()),
    lay: |folder, input| folder.write("config.json", input),
    read: |folder, _| {
        if let Ok(model) = Pretrained::open(folder.path()) {
            use_model(&model);
            let rope = &model.config().attention[0].rope;
            let _ = rope.inverse_frequencies(model.config().head_dim);
        }
    },
};

/// `tokenizer.json`: a tokenizer of any kind, with a chat template beside it.
const TOKENIZER_JSON: Target = Target {
    name: "tokenizer_json",
    bound: Bound {
        constant: BY_TEMPLATES,
        times: 2000,
    },
    prepare: |folder| tiny("llama").write(folder.path()),
    lay: |folder, input| folder.write("tokenizer.json", input),
    read: |folder, _| open_and_use_tokenizer(folder.path()),
};

/// `tokenizer_config.json`, with the special tokens and the chat template that it names, beside a small tokenizer.
const TOKENIZER_CONFIG: Target = Target {
    name: "tokenizer_config",
    lay: |folder, input| folder.write("tokenizer_config.json", input),
    ..TOKENIZER_JSON
};

/// A chat template, on a small conversation.
const CHAT_TEMPLATE: Target = Target {
    name: "chat_template",
    lay: |folder, input| folder.write("chat_template.jinja", input),
    ..TOKENIZER_JSON
};

/// Records in JSON Lines or a JSON array, in every format and for every kind of training, from a file or gzipped.
///
/// The first byte chooses the format, the second the kind of records, the labels and the compression.
const RECORDS: Target = Target {
    name: "records",
    bound: Bound {
        constant: 1 << 20,
        times: 1000,
    },
    prepare: |_| {},
    lay: |folder, input| match input {
        [_, kind, file @ ..] => folder.write(records_name(*kind), file),
        _ => false,
    },
    read: |folder, input| {
        let path = folder.path().join(records_name(input[1]));
        load_records(&path, input[0], input[1]);
    },
};

fn records_name(kind: u8) -> &'static str {
    match kind & 128 {
        0 => "records.jsonl",
        _ => "records.jsonl.gz",
    }
}

/// Records in Parquet. The first two bytes are those of `records`.
const PARQUET: Target = Target {
    name: "parquet",
    // The constant is for pages, which may be small and tell of much.
    bound: Bound {
        constant: 256 << 20,
        times: 1000,
    },
    prepare: |_| {},
    lay: |folder, input| match input {
        [_, _, file @ ..] => folder.write("records.parquet", file),
        _ => false,
    },
    read: |folder, input| {
        load_records(&folder.path().join("records.parquet"), input[0], input[1]);
    },
};

/// Points of a front, as CSV or JSON.
const POINTS: Target = Target {
    name: "points",
    bound: Bound {
        constant: 1 << 20,
        times: 300,
    },
    prepare: |_| {},
    lay: |folder, input| folder.write("points.csv", input),
    read: |folder, _| {
        let _ = read_points(&folder.path().join("points.csv")).map_err(|error| error.to_string());
    },
};

/// `front.json`, laid over itself as that of two runs.
const FRONT: Target = Target {
    name: "front",
    bound: Bound {
        constant: 1 << 20,
        times: 300,
    },
    prepare: |_| {},
    lay: |folder, input| folder.write("front.json", input),
    read: |folder, _| match Front::read(&folder.path().join("front.json")) {
        Ok(front) => {
            let both = ["a", "b"].map(|run| (run.to_owned(), front.clone()));
            match Front::overlay(both.to_vec(), None) {
                Ok(front) => drop(front.warnings()),
                Err(error) => drop(error.to_string()),
            }
        }
        Err(error) => drop(error.to_string()),
    },
};

/// A person's profile: what was asked, and what they answered.
const PROFILE: Target = Target {
    name: "profile",
    // The constant is for the points of a belief.
    bound: Bound {
        constant: 16 << 20,
        times: 300,
    },
    prepare: |_| {},
    lay: |_, input| std::str::from_utf8(input).is_ok(),
    read: |_, input| {
        let text = std::str::from_utf8(input).unwrap_or_default();
        match Session::replay(text) {
            Ok(session) => {
                let written = session.to_text();
                let again = Session::replay(&written).expect("what is written can be read");
                assert_eq!(again.entries(), session.entries());
                let _ = session.estimate();
            }
            Err(error) => drop(error.to_string()),
        }
    },
};

/// A configuration: all of its checks, and what is written back of the plan.
const CONFIGURATION: Target = Target {
    name: "configuration",
    bound: Bound {
        constant: 1 << 20,
        times: 2000,
    },
    prepare: |_| {},
    lay: |_, input| std::str::from_utf8(input).is_ok(),
    read: |_, input| {
        let text = std::str::from_utf8(input).unwrap_or_default();
        let resolved = |spec| Plan::resolve(spec, &Overrides::default());
        match resolved(Spec::from_toml(text, "any.toml")) {
            Ok(plan) => {
                let again = resolved(plan.to_spec()).expect("what a plan says is a configuration");
                assert_eq!(again.to_spec(), plan.to_spec());
                let _ = plan.warnings();
            }
            Err(errors) => drop(errors.to_string()),
        }
        // A line of it, as the command line has it.
        let line = text.lines().next().unwrap_or_default();
        let overrides = Overrides {
            set: vec![line.to_owned()],
            ..Overrides::default()
        };
        let _ = Plan::resolve(Spec::default(), &overrides).map_err(|errors| errors.to_string());
    },
};

/// What stands in a run's folder beside tensors: `run.toml`, and `metrics.jsonl` behind a zero byte.
const RUN: Target = Target {
    name: "run",
    bound: Bound {
        constant: 1 << 20,
        times: 2000,
    },
    prepare: |_| {},
    lay: |folder, input| {
        let mut parts = input.splitn(2, |byte| *byte == 0);
        let mut part = || parts.next().unwrap_or_default();
        folder.write("run.toml", part()) && folder.write("metrics.jsonl", part())
    },
    read: |folder, _| {
        match RunRecord::read(&folder.path().join("run.toml")) {
            Ok(record) => {
                let differences = record.differences(&record);
                let differences = differences.expect("what was read can be written");
                // What older versions knew cannot go on.
                if record.facts.gone.is_empty() {
                    assert_eq!(differences.conflicts, [""; 0]);
                }
                let _ = record.to_toml();
            }
            Err(error) => drop(error.to_string()),
        }
        let totals = training_totals(&folder.path().join("metrics.jsonl"));
        let _ = totals.map_err(|error| error.to_string());
    },
};

/// An adapter: `svd_lora_config.json`, of whose length the first two bytes tell, and `adapter.safetensors` behind it.
const ADAPTER: Target = Target {
    name: "adapter",
    bound: Bound {
        constant: 1 << 20,
        times: 300,
    },
    prepare: |_| {},
    lay: |folder, input| match input {
        [low, high, rest @ ..] => {
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
            let (config, tensors) = rest.split_at(length);
            folder.write("svd_lora_config.json", config)
                && folder.write("adapter.safetensors", tensors)
        }
        _ => false,
    },
    read: |folder, _| {
        let device = panacea_devices::of_environment();
        match Adapters::load(folder.path(), &device) {
            Ok(adapters) => {
                let shapes = [("layers.0.q_proj".to_owned(), [6, 3])];
                if adapters.check(&shapes).is_ok() {
                    let adapter = adapters.get("layers.0.q_proj");
                    let adapter = adapter.expect("it was checked that it is there");
                    let _ = (adapter.scale, adapter.factors.u.dims());
                }
            }
            Err(error) => drop(error.to_string()),
        }
    },
};
