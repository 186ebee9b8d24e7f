//! Beginnings of nasty texts, against what the texts are as a whole.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ADDED: [&str; 3] = ["<|end|>", "<|", "ab<"];

/// How the usual models make words of texts: pre-tokenizer and normalizer.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Gpt2,
    Digits,
    Llama3,
    Qwen2,
    Qwen3_5,
    O200k,
    Tekken,
    SentencePiece,
    Metaspace,
}

const KINDS: [Kind; 9] = [
    Kind::Gpt2,
    Kind::Digits,
    Kind::Llama3,
    Kind::Qwen2,
    Kind::Qwen3_5,
    Kind::O200k,
    Kind::Tekken,
    Kind::SentencePiece,
    Kind::Metaspace,
];

impl Kind {
    fn has_bytes(self) -> bool {
        !matches!(self, Self::SentencePiece | Self::Metaspace)
    }

    fn splitter(self) -> Value {
        let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": use_regex, "trim_offsets": true, "use_regex": use_regex});
        let regex = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let steps = match self {
            Self::Gpt2 => return bytes(true),
            Self::Digits => {
                vec![
                    json!({"type": "Digits", "individual_digits": true}),
                    bytes(true),
                ]
            }
            Self::Llama3 => vec![regex(LLAMA3_WORDS), bytes(false)],
            Self::Qwen2 => vec![regex(QWEN2_WORDS), bytes(false)],
            Self::Qwen3_5 => vec![regex(QWEN3_5_WORDS), bytes(false)],
            Self::O200k => vec![regex(O200K_WORDS), bytes(false)],
            Self::Tekken => vec![regex(TEKKEN_WORDS), bytes(false)],
            Self::SentencePiece => return Value::Null,
            Self::Metaspace => {
                return json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
            }
        };
        json!({"type": "Sequence", "pretokenizers": steps})
    }

    fn normalizer(self) -> Value {
        match self {
            Self::Qwen2 | Self::Qwen3_5 => json!({"type": "NFC"}),
            Self::SentencePiece => json!({"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
            ]}),
            _ => Value::Null,
        }
    }

    /// What merges begin with.
    fn alphabet(self) -> Vec<char> {
        match self.has_bytes() {
            true => (0..=255).map(character_of_byte).collect(),
            false => "abA1'-▁\néx中文<|end>\u{301}".chars().collect(),
        }
    }

    /// A tokenizer with merges that `choices` choose, each of two tokens that there are.
    fn tokenizer(self, choices: &[(usize, usize)]) -> Tokenizer {
        let alphabet = self.alphabet();
        let mut tokens: Vec<String> = alphabet.iter().map(char::to_string).collect();
        if !self.has_bytes() {
            tokens.push("<unk>".to_owned());
            tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
        }
        // Those that texts have, so that merges are met.
        let form = |character: char| match character {
            ' ' if !self.has_bytes() => vec!['▁'],
            character if self.has_bytes() => character
                .to_string()
                .bytes()
                .map(character_of_byte)
                .collect(),
            character => vec![character],
        };
        let mut parts: Vec<String> = "aaab b1'-  é中AA"
            .chars()
            .flat_map(form)
            .map(String::from)
            .collect();
        let mut merges = Vec::new();
        for &(left, right) in choices {
            let (left, right) = (&parts[left % parts.len()], &parts[right % parts.len()]);
            let (pair, whole) = ((left.clone(), right.clone()), format!("{left}{right}"));
            if whole.chars().count() <= 6 && !merges.contains(&pair) {
                merges.push(pair);
                if !tokens.contains(&whole) {
                    tokens.push(whole.clone());
                }
                parts.push(whole);
            }
        }
        // Tokens that no merge makes, which some models take all the same.
        tokens.extend(
            ["aab", "bbb"]
                .map(str::to_owned)
                .into_iter()
                .filter(|t| !parts.contains(t)),
        );
        let vocabulary: serde_json::Map<String, Value> = (tokens.iter().enumerate())
            .map(|(id, token)| (token.clone(), json!(id)))
            .collect();
        let added: Vec<Value> = (ADDED.iter().enumerate())
            .map(|(i, token)| {
                json!({"id": tokens.len() + i, "content": token, "single_word": false, "lstrip": i == 0, "rstrip": i == 1,
                       "normalized": i == 2 && !matches!(self, Self::Qwen2 | Self::Qwen3_5), "special": true})
            })
            .collect();
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": self.normalizer(), "pre_tokenizer": self.splitter(), "post_processor": null, "decoder": null,
            "model": {"type": "BPE", "dropout": null, "unk_token": (!self.has_bytes()).then_some("<unk>"),
                      "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
                      "byte_fallback": !self.has_bytes(), "ignore_merges": matches!(self, Self::Llama3 | Self::Tekken),
                      "vocab": vocabulary, "merges": merges}
        });
        Tokenizer::from_bytes(tokenizer.to_string()).unwrap()
    }
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, tokenizers::Error> {
    Ok(tokenizer.encode_fast(text, false)?.get_ids().to_vec())
}

/// Checks that what is told of a text's beginning is so, and says how often something was told.
fn told(tokenizer: &Tokenizer, text: &str) -> usize {
    let beginnings = Beginnings::of(tokenizer, usize::MAX).expect("known");
    let whole = encode(tokenizer, text).unwrap();
    let mut told = 0;
    for wanted in [1, 7, 40] {
        let first = beginnings.first(text, wanted, |text| encode(tokenizer, text));
        if let Some(first) = first.unwrap() {
            assert_eq!(first, whole[..wanted], "{wanted} of {text:?}");
            told += 1;
        }
    }
    told
}

/// Texts of pieces at which beginnings go wrong if anything does.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => prop::sample::select(vec![
            "a", "b", "ab", "aab", "bbb", " ", " a", " b", "1", "12", "-", "--", "x", "é", "中", "文", "A", "bA", "中A", "/",
        ]),
        2 => prop::sample::select(vec![
            "  ", "\n", "\n\n", " \n ", "'s", "'re", "'r", "'", "'S", "e\u{301}", "\u{301}", "\u{212b}", "🚀", "▁", "\u{a0}",
            "<|end|>", " <|end|> ", "<|", "<", "ab<", "<|en", "\u{1100}\u{1161}", "가", "\u{11a8}", "\0", "か\u{3099}", "ſ", "ǅ", "A\u{301}", "ª", "/\n",
        ]),
    ];
    let few = prop::collection::vec(piece, 1..6);
    // Long runs, and mixtures.
    let part = (few, 1..60_usize).prop_map(|(pieces, times)| pieces.concat().repeat(times));
    prop::collection::vec(part, 3..12).prop_map(|parts| parts.concat())
}

fn merges() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((0..64_usize, 0..64_usize), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(120) })]
    #[test]
    fn a_beginning_is_that_of_the_whole(kind in prop::sample::select(KINDS.to_vec()), merges in merges(), text in texts()) {
        told(&kind.tokenizer(&merges), &text);
    }
}

#[test]
fn usual_texts_have_one() {
    let merges: Vec<(usize, usize)> = (0..30).map(|i| (i * 7 % 13, i * 5 % 11)).collect();
    let long = |text: &str| text.repeat(2000 / text.len());
    for kind in KINDS {
        let tokenizer = kind.tokenizer(&merges);
        for text in [
            long("ab b abba x, aab 12.\n"),
            long("a"),
            long("ab1-"),
            long("x"),
        ] {
            assert_eq!(told(&tokenizer, &text), 3, "{kind:?}: {text}");
        }
    }
}

/// A token may be long and reach over spaces: one place is then not enough.
#[test]
fn no_token_reaches_over_all_places() {
    for kind in [Kind::SentencePiece, Kind::Metaspace] {
        let tokenizer = kind.tokenizer(&[(0, 5), (15, 0), (16, 16), (17, 17)]);
        let beginnings = Beginnings::of(&tokenizer, usize::MAX).unwrap();
        let text = "a a ".repeat(500);
        told(&tokenizer, &text);
        for places in (0..200).filter_map(|from| beginnings.places(&text, from)) {
            let over = text[places[0] - 1..places[places.len() - 1] + 1].replace(' ', "▁");
            assert!(
                tokenizer
                    .get_vocab(false)
                    .keys()
                    .all(|token| !token.contains(&over))
            );
        }
    }
}

/// Where words are split by case, `ひB` alone is two words, and one in `ひBa`.
#[test]
fn no_place_is_behind_a_capital_where_these_begin_words() {
    let text = "ひBaǅa".repeat(500);
    for (kind, has_such) in [
        (Kind::Qwen2, true),
        (Kind::O200k, false),
        (Kind::Tekken, false),
    ] {
        let tokenizer = kind.tokenizer(&[]);
        let beginnings = Beginnings::of(&tokenizer, usize::MAX).unwrap();
        let places = (0..200).filter_map(|from| beginnings.places(&text, from));
        let is_behind_capital = |place: usize| text[..place].ends_with(['B', 'ǅ']);
        let found: Vec<bool> = places.flatten().map(is_behind_capital).collect();
        assert!(found.len() > 50, "{kind:?}");
        assert_eq!(found.contains(&true), has_such, "{kind:?}");
        told(&tokenizer, &text);
    }
}

#[test]
fn of_other_tokenizers_nothing_is_said() {
    let json = |tokenizer: &Tokenizer| serde_json::to_value(tokenizer).unwrap();
    let usual = json(&Kind::Gpt2.tokenizer(&[]));
    let is_known = |changes: &[(&str, Value)]| {
        let mut changed = usual.clone();
        for (pointer, value) in changes {
            *changed.pointer_mut(pointer).unwrap() = value.clone();
        }
        let tokenizer = Tokenizer::from_bytes(changed.to_string()).unwrap();
        Beginnings::of(&tokenizer, usize::MAX).is_some()
    };
    assert!(is_known(&[]));
    let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    for (pointer, value) in [
        ("/pre_tokenizer", split(r"a.*b")),
        (
            "/pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [usual["pre_tokenizer"], split(QWEN2_WORDS)]}),
        ),
        ("/pre_tokenizer", json!({"type": "Whitespace"})),
        ("/normalizer", json!({"type": "NFKC"})),
        (
            "/normalizer",
            json!({"type": "Replace", "pattern": {"Regex": " +"}, "content": "▁"}),
        ),
        ("/model/dropout", json!(0.1)),
        ("/model/end_of_word_suffix", json!("</w>")),
        ("/added_tokens/0/single_word", json!(true)),
    ] {
        assert!(!is_known(&[(pointer, value.clone())]), "{pointer}: {value}");
    }
    let unigram = json!({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]], "byte_fallback": false});
    assert!(!is_known(&[("/model", unigram)]));
    // A token without an embedding is an error wherever it stands.
    let tokenizer = Kind::Gpt2.tokenizer(&[]);
    let all = tokenizer.get_vocab(true).len();
    assert!(
        Beginnings::of(&tokenizer, all).is_some() && Beginnings::of(&tokenizer, all - 1).is_none()
    );
}

/// What step 3 says of these characters.
#[test]
fn plain_characters_stay_what_they_are() {
    let nfc = |text: &str| {
        let mut text = tokenizers::NormalizedString::from(text);
        tokenizers::Normalizer::normalize(&tokenizers::normalizers::NFC, &mut text).unwrap();
        text.get().to_owned()
    };
    let before = [
        "", "a", "e\u{301}", "\u{1100}", "가", "か", "\u{915}", "中", "🚀", "\u{9c7}", "α",
    ];
    let plain: BTreeSet<char> = ('\0'..=char::MAX).filter(|c| is_plain(*c)).collect();
    assert!(plain.len() > 30_000);
    for begin in before {
        let normal = nfc(begin);
        for character in &plain {
            assert_eq!(
                nfc(&format!("{begin}{character}")),
                format!("{normal}{character}")
            );
        }
    }
}
