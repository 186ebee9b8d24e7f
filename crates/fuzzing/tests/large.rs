//! Large inputs that were made to take memory, time or stack: each is read or refused within its target's bound. One that
//! exceeds it ends the process. With `--nocapture` a line for each says how much was held.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use panacea_fuzzing::{Target, seeds, target};

/// Nothing else may allocate meanwhile, so this is the one test here.
#[test]
fn no_input_takes_more_than_its_bound() {
    for (name, inputs) in inputs() {
        let target: &Target = target(name);
        let ready = target.ready();
        for (what, input) in inputs {
            let held = ready.read(&input);
            let held = held.unwrap_or_else(|| panic!("{name}: {what} is no input"));
            println!(
                "{name:<17} {what:<38} {:>9} bytes, held {held:>10}: {:>6.1} times",
                input.len(),
                held as f64 / input.len() as f64
            );
            assert!(held <= target.bound.of(input.len()));
        }
    }
}

type Inputs = Vec<(&'static str, Vec<u8>)>;

fn inputs() -> Vec<(&'static str, Inputs)> {
    vec![
        ("gguf", ggufs()),
        ("safetensors", with_head(&[0], safetensors())),
        ("config_json", [jsons(), configs()].concat()),
        ("tokenizer_json", [jsons(), tokenizers()].concat()),
        ("tokenizer_config", [jsons(), templates_in_json()].concat()),
        ("chat_template", templates()),
        ("records", records()),
        ("points", points()),
        ("front", [jsons(), fronts()].concat()),
        ("profile", jsons()),
        ("configuration", configurations()),
        ("run", configurations()),
        ("adapter", adapters()),
    ]
}

fn with_head(head: &[u8], inputs: Inputs) -> Inputs {
    let with = |(what, input): (_, Vec<u8>)| (what, [head, &input].concat());
    inputs.into_iter().map(with).collect()
}

/// Depth, and many values of few bytes.
fn jsons() -> Inputs {
    vec![
        ("lists in one another", "[".repeat(100_000).into()),
        ("objects in one another", "{\"a\":".repeat(100_000).into()),
        (
            "a list of numbers",
            format!("[0{}]", ",0".repeat(500_000)).into(),
        ),
        (
            "a list of lists",
            format!("[[]{}]", ",[]".repeat(300_000)).into(),
        ),
        (
            "a field of numbers",
            format!("{{\"a\":[0{}]}}", ",0".repeat(500_000)).into(),
        ),
        (
            "a field of objects",
            format!("{{\"a\":[{{}}{}]}}", ",{}".repeat(300_000)).into(),
        ),
        ("many fields", {
            let fields: Vec<String> = (0..100_000).map(|i| format!("\"{i}\":0")).collect();
            format!("{{{}}}", fields.join(",")).into()
        }),
    ]
}

/// An integer of 64 bits as files of both kinds have it.
fn number(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

/// The beginning of a GGUF file with so many tensors and keys.
fn gguf(tensors: u64, keys: u64) -> Vec<u8> {
    [&b"GGUF\x03\0\0\0"[..], &number(tensors), &number(keys)].concat()
}

fn ggufs() -> Inputs {
    let key =
        |name: &str, value: &[u8]| [&number(name.len() as u64), name.as_bytes(), value].concat();
    // The number of the type of arrays is 9, that of texts 8, of 32 bits without sign 4, of flags 7.
    let array = |kind: u8, count: u64| [&[9, 0, 0, 0, kind, 0, 0, 0][..], &number(count)].concat();
    let keys: Vec<u8> = (0..50_000)
        .flat_map(|i| key(&format!("{i}"), &[7, 0, 0, 0, 1]))
        .collect();
    let tensors: Vec<u8> = (0..30_000)
        .flat_map(|i| key(&format!("{i}"), &[0; 4 + 4 + 8]))
        .collect();
    let nested = [
        &array(9, 1)[..],
        &[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0].repeat(100_000),
    ]
    .concat();
    vec![
        ("as many tensors as can be said", gguf(u64::MAX, 0)),
        ("as many keys as can be said", gguf(0, u64::MAX)),
        (
            "an array of as many numbers",
            [gguf(0, 1), key("a", &array(4, u64::MAX / 4))].concat(),
        ),
        (
            "an array of as many texts",
            [gguf(0, 1), key("a", &array(8, u64::MAX / 8))].concat(),
        ),
        (
            "arrays in one another",
            [gguf(0, 1), key("a", &nested)].concat(),
        ),
        ("a text as long as can be said", {
            let text = [&[8, 0, 0, 0][..], &number(u64::MAX)].concat();
            [gguf(0, 1), key("a", &text)].concat()
        }),
        ("many keys", [gguf(0, 50_000), keys].concat()),
        ("many tensors", [gguf(30_000, 0), tensors].concat()),
        ("a vocabulary of empty texts", {
            let texts = [array(8, 200_000), vec![0; 8 * 200_000]].concat();
            let model = key(
                "tokenizer.ggml.model",
                &[&[8, 0, 0, 0][..], &number(4), b"gpt2"].concat(),
            );
            let tokens = key("tokenizer.ggml.tokens", &texts);
            replaced_seed("gguf", &model, &tokens)
        }),
    ]
}

/// The first seed of GGUF with two more keys behind those that it has.
fn replaced_seed(name: &str, first: &[u8], second: &[u8]) -> Vec<u8> {
    let seed = seeds(name).remove(0).input;
    let keys = u64::from_le_bytes(seed[16..24].try_into().unwrap());
    [&seed[..16], &number(keys + 2), first, second, &seed[24..]].concat()
}

fn safetensors() -> Inputs {
    let with_header = |header: &str| [&number(header.len() as u64), header.as_bytes()].concat();
    let empty: Vec<String> = (0..40_000)
        .map(|i| format!(r#""{i}.u":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    let mut inputs = vec![
        (
            "the longest header",
            [&number(u64::MAX)[..], b"{}"].concat(),
        ),
        (
            "a header longer than the file",
            [&number(1 << 40)[..], b"{}"].concat(),
        ),
        (
            "many tensors",
            with_header(&format!("{{{}}}", empty.join(","))),
        ),
        ("the largest shape", {
            let size = u64::MAX;
            let shape = format!("[{size},{size},{size}]");
            with_header(&format!(
                r#"{{"a.u":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}"#
            ))
        }),
    ];
    for (what, json) in jsons() {
        inputs.push((what, with_header(std::str::from_utf8(&json).unwrap())));
    }
    inputs
}

/// A seed in JSON with this in place of one of its parts.
fn changed(target: &str, seed: usize, path: &str, value: serde_json::Value) -> Vec<u8> {
    let seed = seeds(target).remove(seed).input;
    let mut json: serde_json::Value = serde_json::from_slice(&seed).unwrap();
    *json.pointer_mut(path).unwrap() = value;
    json.to_string().into()
}

fn configs() -> Inputs {
    vec![
        (
            "as many layers as can be said",
            changed("config_json", 0, "/num_hidden_layers", u64::MAX.into()),
        ),
        (
            "as many layers as may be",
            changed("config_json", 0, "/num_hidden_layers", 1000.into()),
        ),
        (
            "the largest vocabulary",
            changed("config_json", 0, "/vocab_size", (1_u64 << 40).into()),
        ),
        (
            "many ends",
            changed("config_json", 1, "/eos_token_id", vec![1; 500_000].into()),
        ),
        ("many kinds of layers", {
            let kinds = vec!["sliding_attention"; 100_000];
            changed("config_json", 1, "/layer_types", kinds.into())
        }),
    ]
}

fn tokenizers() -> Inputs {
    let token = |i: usize| format!("t{i}");
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        (0..100_000).map(|i| (token(i), i.into())).collect();
    let added: Vec<serde_json::Value> = (0..20_000)
        .map(|i| {
            serde_json::json!({"id": i, "content": token(i), "single_word": false, "lstrip": false, "rstrip": false,
                               "normalized": false, "special": true})
        })
        .collect();
    let merges = vec!["h e"; 200_000];
    let splits = vec![serde_json::json!({"type": "WhitespaceSplit"}); 20_000];
    // Those with BPE, WordPiece and a sequence of steps before it.
    vec![
        (
            "a large vocabulary",
            changed("tokenizer_json", 5, "/model/vocab", vocabulary.into()),
        ),
        (
            "the same merge again and again",
            changed("tokenizer_json", 2, "/model/merges", merges.into()),
        ),
        (
            "many added tokens",
            changed("tokenizer_json", 2, "/added_tokens", added.into()),
        ),
        (
            "many steps",
            changed(
                "tokenizer_json",
                1,
                "/pre_tokenizer/pretokenizers",
                splits.into(),
            ),
        ),
        (
            "a token at the largest place",
            changed("tokenizer_json", 2, "/added_tokens/0/id", u32::MAX.into()),
        ),
        ("a large pattern", {
            let pattern = serde_json::json!({"Regex": "(?:a{0,1000}){0,1000}"});
            changed("tokenizer_json", 4, "/normalizer/pattern", pattern)
        }),
    ]
}

fn templates() -> Inputs {
    let again = |part: &str, times: usize| part.repeat(times).into_bytes();
    vec![
        ("an endless loop", "{% for i in range(10**9) %}x{% endfor %}".into()),
        ("the longest range", "{{ range(99999999999999) | list | length }}".into()),
        ("the longest text", "{{ 'x' * 10**12 }}".into()),
        ("ten loops in one another", {
            let begin: String = (0..10).map(|i| format!("{{% for i{i} in range(1000) %}}")).collect();
            format!("{begin}xxxxxxxx{}", "{% endfor %}".repeat(10)).into()
        }),
        ("a text that doubles", "{% set ns = namespace(x='x') %}{% for i in range(999) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}".into()),
        ("brackets in one another", [b"{{ ".to_vec(), again("(", 100_000)].concat()),
        ("lists in one another", [b"{{ ".to_vec(), again("[", 100_000)].concat()),
        ("conditions in one another", again("{% if 1 %}", 50_000)),
        ("loops in one another", again("{% for a in b %}", 50_000)),
        ("one not after the other", [b"{{ ".to_vec(), again("not ", 60_000), b"1 }}".to_vec()].concat()),
        ("one sign after the other", [b"{{ ".to_vec(), again("-", 250_000), b"1 }}".to_vec()].concat()),
        ("one sum", [b"{{ 1".to_vec(), again("+1", 120_000), b" }}".to_vec()].concat()),
        ("one chain of attributes", [b"{{ a".to_vec(), again(".a", 120_000), b" }}".to_vec()].concat()),
        ("one chain of filters", [b"{{ a".to_vec(), again("|e", 120_000), b" }}".to_vec()].concat()),
        ("one list", [b"{{ [1".to_vec(), again(",1", 120_000), b"] | length }}".to_vec()].concat()),
        ("many expressions", again("{{ a }}", 30_000)),
        ("a long text", again("x", 2_000_000)),
        ("a macro that calls itself", "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}".into()),
    ]
}

fn templates_in_json() -> Inputs {
    let in_json = |(what, template): (_, Vec<u8>)| {
        let template = String::from_utf8(template).unwrap();
        let json = serde_json::json!({"eos_token": "</s>", "chat_template": template});
        (what, json.to_string().into_bytes())
    };
    templates().into_iter().map(in_json).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::best());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn records() -> Inputs {
    // Any format; pairs by `chosen`; bad records are left out.
    let lines = [255, 16];
    let gzipped = [255, 16 | 128];
    let good = "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n";
    let in_lines = [
        jsons(),
        vec![
            ("empty lines", vec![b'\n'; 1_000_000]),
            ("lines of one byte", b"1\n".repeat(300_000)),
            ("good lines", good.repeat(20_000).into()),
            ("an array of good records", {
                let array = good.trim().to_owned() + &format!(",{}", good.trim()).repeat(20_000);
                format!("[{array}]").into()
            }),
            ("a line with many turns", {
                let turn = "{\"role\":\"user\",\"content\":\"\"},".repeat(50_000);
                format!("{{\"prompt\":[{turn}{{}}],\"chosen\":\"b\",\"rejected\":\"c\"}}").into()
            }),
        ],
    ]
    .concat();
    let bombs = vec![
        ("gzip of one long line", gzip(&vec![b'a'; 64 << 20])),
        ("gzip of empty lines", gzip(&vec![b'\n'; 64 << 20])),
        ("gzip of an array without an end", {
            gzip(format!("[\"{}", "a".repeat(64 << 20)).as_bytes())
        }),
        ("gzip of an array of many records", {
            gzip(format!("[1{}]", ",1".repeat(3_000)).as_bytes())
        }),
    ];
    [with_head(&lines, in_lines), with_head(&gzipped, bombs)].concat()
}

fn points() -> Inputs {
    let csv = vec![
        (
            "many rows",
            [b"a,b\n".to_vec(), b"1,1\n".repeat(200_000)].concat(),
        ),
        ("many columns", b"a,".repeat(300_000)),
        ("many columns and rows", {
            let row = format!("1{}\n", ",1".repeat(500));
            row.repeat(500).into()
        }),
        ("empty lines", vec![b'\n'; 500_000]),
    ];
    [jsons(), csv].concat()
}

fn fronts() -> Inputs {
    let points = vec![serde_json::json!({"lambda": [1.0], "values": [2.0], "stderr": [0.1]}); 2000];
    let names: Vec<String> = (0..20_000).map(|i| i.to_string()).collect();
    vec![
        (
            "many points",
            changed("front", 2, "/methods/0/points", points.into()),
        ),
        (
            "many objectives",
            changed("front", 2, "/objectives", names.into()),
        ),
    ]
}

fn configurations() -> Inputs {
    let sections: String = (0..6_000).map(|i| format!("[s{i}]\n")).collect();
    let keys: String = (0..6_000).map(|i| format!("k{i} = 1\n")).collect();
    vec![
        (
            "lists in one another",
            format!("a = {}", "[".repeat(100_000)).into(),
        ),
        (
            "tables in one another",
            format!("a = {}", "{a=".repeat(100_000)).into(),
        ),
        (
            "a path of names",
            format!("a{} = 1", ".a".repeat(50_000)).into(),
        ),
        (
            "a section of a path of names",
            format!("[a{}]", ".a".repeat(50_000)).into(),
        ),
        (
            "a list of numbers",
            format!("a = [{}]", "0,".repeat(300_000)).into(),
        ),
        (
            "a list of lists",
            format!("a = [{}]", "[],".repeat(200_000)).into(),
        ),
        ("many sections", sections.into()),
        ("many unknown keys", keys.clone().into()),
        (
            "many unknown keys of a section",
            format!("[data]\n{keys}").into(),
        ),
        ("many objectives", "[[objective]]\n".repeat(20_000).into()),
        ("many good objectives", {
            let each = |i: usize| format!("[[objective]]\nname = \"o{i}\"\nscore = \"s\"\n");
            (0..2000).map(each).collect::<String>().into()
        }),
        ("a long name", format!("{} = 1", "a".repeat(500_000)).into()),
        (
            "many files",
            format!("[data]\ntrain = [{}]", "\"a\",".repeat(100_000)).into(),
        ),
    ]
}

fn adapters() -> Inputs {
    let seed = seeds("adapter").remove(0).input;
    let config = 2 + usize::from(u16::from_le_bytes([seed[0], seed[1]]));
    let behind = with_head(&seed[..config], safetensors());
    let rank = String::from_utf8_lossy(&seed[2..config])
        .replace("\"rank\": 2", "\"rank\": 18446744073709551615");
    let mut largest = (rank.len() as u16).to_le_bytes().to_vec();
    largest.extend(rank.bytes());
    largest.extend(&seed[config..]);
    let alone = with_head(&[255, 255], jsons());
    [behind, alone, vec![("the largest rank", largest)]].concat()
}
