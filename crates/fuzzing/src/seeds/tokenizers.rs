//! Tokenizers of every kind, their configurations, and chat templates.

use panacea_test_support::{CHAT_TEMPLATE, golden, tokenizer_config, tokenizer_json};
use serde_json::{Value, json};

use super::Seeds;

/// A tokenizer of a few tokens with this model and these steps around it.
fn tokenizer(
    model: Value,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
) -> String {
    let added = |id: usize, content: &str, special: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": true,
               "normalized": !special, "special": special})
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0, "<s>", true), added(1, "</s>", true), added(9, "word", false)],
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": decoder,
        "model": model
    })
    .to_string()
}

pub(super) fn tokenizers(seeds: &mut Seeds) {
    seeds.add("bytes", tokenizer_json().to_string());
    let vocabulary = json!({"<s>": 0, "</s>": 1, "h": 2, "e": 3, "he": 4, "l": 5, "##l": 6, "▁": 7, "<0x0A>": 8});
    let scores = json!([
        ["<s>", 0.0],
        ["</s>", 0.0],
        ["h", -1.0],
        ["e", -2.0],
        ["he", -1.5],
        ["▁", -3.0],
        ["<0x0A>", -4.0]
    ]);
    let models = [
        json!({"type": "BPE", "dropout": null, "unk_token": "<s>", "continuing_subword_prefix": "##",
               "end_of_word_suffix": "</w>", "fuse_unk": true, "byte_fallback": true, "ignore_merges": true,
               "vocab": vocabulary, "merges": [["h", "e"]]}),
        json!({"type": "BPE", "dropout": 0.0, "unk_token": null, "vocab": vocabulary, "merges": ["h e"]}),
        json!({"type": "Unigram", "unk_id": 0, "vocab": scores, "byte_fallback": true}),
        json!({"type": "WordPiece", "unk_token": "<s>", "continuing_subword_prefix": "##",
               "max_input_chars_per_word": 100, "vocab": vocabulary}),
        json!({"type": "WordLevel", "unk_token": "<s>", "vocab": vocabulary}),
    ];
    let normalizers = [
        json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFKD"}, {"type": "Lowercase"},
               {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
               {"type": "Prepend", "prepend": "▁"}, {"type": "StripAccents"}]}),
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}),
        json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}),
        json!({"type": "Replace", "pattern": {"Regex": "a+|\\s{2,}"}, "content": "x"}),
        json!({"type": "Strip", "strip_left": true, "strip_right": false}),
        json!({"type": "Nmt"}),
        json!({"type": "ByteLevel"}),
        Value::Null,
    ];
    let pre_tokenizers = [
        json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"},
               {"type": "Digits", "individual_digits": true}]}),
        json!({"type": "Split", "pattern": {"Regex": "(?i:'s|'t)|\\p{L}+|\\s+(?!\\S)"}, "behavior": "MergedWithNext", "invert": true}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}),
        json!({"type": "BertPreTokenizer"}),
        json!({"type": "CharDelimiterSplit", "delimiter": "l"}),
        json!({"type": "UnicodeScripts"}),
        json!({"type": "FixedLength", "length": 2}),
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
    ];
    let post_processors = [
        json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
               "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
               "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}),
        json!({"type": "BertProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0]}),
        json!({"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": true}),
        json!({"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}]}),
    ];
    let decoders = [
        json!({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
               {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}),
        json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        json!({"type": "BPEDecoder", "suffix": "</w>"}),
        json!({"type": "CTC", "pad_token": "<s>", "word_delimiter_token": "h", "cleanup": true}),
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
    ];
    for place in 0..8 {
        let of = |choices: &[Value]| choices[place % choices.len()].clone();
        let file = tokenizer(
            of(&models),
            of(&normalizers),
            of(&pre_tokenizers),
            of(&post_processors),
            of(&decoders),
        );
        seeds.add(format!("kinds-{place}"), file);
    }
}

pub(super) fn tokenizer_configs(seeds: &mut Seeds) {
    seeds.add("usual", tokenizer_config().to_string());
    let more = json!({
        "bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": "[PAD]", "additional_special_tokens": ["<|im_end|>", "<x>"],
        "added_tokens_decoder": {"270": {"content": "<new>", "lstrip": true, "rstrip": true, "single_word": true, "normalized": true, "special": false}},
        "chat_template": [{"name": "default", "template": CHAT_TEMPLATE}, {"name": "tool_use", "template": "x"}]
    });
    seeds.add("more", more.to_string());
}

pub(super) fn templates(seeds: &mut Seeds) {
    let golden: Value = golden("templates.json");
    for (place, family) in golden["families"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        seeds.add(
            format!("family-{place}"),
            family["template"].as_str().unwrap_or_default(),
        );
    }
    for (place, case) in golden["expressions"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        seeds.add(
            format!("expression-{place}"),
            case[0].as_str().unwrap_or_default(),
        );
    }
    seeds.add("chatml", CHAT_TEMPLATE);
}
