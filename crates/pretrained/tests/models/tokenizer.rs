//! Tokenizers and chat templates of tiny models.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use panacea_pretrained::{ChatTokenizer, Message, Pretrained, PretrainedError, TextStream};
use panacea_test_support::{
    CHAT_TEMPLATE, Noise, tokenizer_config, tokenizer_json, tokens, write_json,
};
use serde_json::json;

use crate::tiny::{Gguf, Meta, VOCAB, text, tiny_model};

const TEXTS: [&str; 6] = [
    "hello",
    "hello world, hello\n",
    "  naïve – 東京 🚀",
    "<|im_start|>user\nhello<|im_end|>\n",
    "it's 3.14",
    "",
];

fn message(role: &str, content: &str) -> Message {
    Message::new(role, content)
}

/// The tokens of a response to a short question.
fn respond(tokenizer: &ChatTokenizer, text: &str) -> Result<Vec<u32>, PretrainedError> {
    let prompt = tokenizer.prompt(&[message("user", "hello")])?;
    let mut answered = tokenizer.answered(&prompt, &[text.into()])?;
    assert_eq!(answered.prompt, prompt.ids());
    Ok(answered.responses.remove(0))
}

/// A tiny model's folder after a change, opened.
fn folder_model(change: impl FnOnce(&Path)) -> (tempfile::TempDir, Pretrained) {
    let folder = tempfile::tempdir().unwrap();
    tiny_model("llama").write(folder.path());
    change(folder.path());
    let model = Pretrained::open(folder.path()).unwrap();
    (folder, model)
}

fn gguf_model(change: impl FnOnce(&mut Gguf)) -> (tempfile::TempDir, Pretrained) {
    let folder = tempfile::tempdir().unwrap();
    let mut gguf = Gguf::of(&tiny_model("llama"));
    change(&mut gguf);
    let model = Pretrained::open(&gguf.write(folder.path())).unwrap();
    (folder, model)
}

/// A tiny model whose `tokenizer.json` is changed.
fn with_tokenizer(change: impl FnOnce(&mut serde_json::Value)) -> (tempfile::TempDir, Pretrained) {
    folder_model(|folder| {
        let mut tokenizer = tokenizer_json();
        change(&mut tokenizer);
        write_json(&folder.join("tokenizer.json"), &tokenizer);
    })
}

#[test]
fn tables_of_a_normalizer_that_lead_nowhere_are_errors() {
    let table = |base64: &str| json!({"type": "Precompiled", "precompiled_charsmap": base64});
    // No entry, where one is looked for.
    let (_folder, model) = with_tokenizer(|tokenizer| tokenizer["normalizer"] = table("AAAAAA=="));
    let error = model.tokenizer().unwrap().encode("a", false).unwrap_err();
    assert!(error.to_string().contains("contradicts itself"), "{error}");
    // Four gigabytes of entries.
    let (_folder, model) = with_tokenizer(|tokenizer| {
        tokenizer["normalizer"] = json!({"type": "Sequence", "normalizers": [table("/////wAA")]});
    });
    let error = model.tokenizer().unwrap_err().to_string();
    assert!(error.contains("4294967295 bytes"), "{error}");
}

#[test]
fn an_end_token_that_only_the_normalised_text_has_ends_no_turn() {
    let (_folder, model) = with_tokenizer(|tokenizer| {
        tokenizer["normalizer"] = json!({"type": "Lowercase"});
        let end = &mut tokenizer["added_tokens"][3];
        (end["content"], end["normalized"]) = (json!("<|IM_END|>"), json!(true));
        let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
        vocabulary.remove("<|im_end|>");
        vocabulary.insert("<|IM_END|>".to_owned(), json!(3));
    });
    let tokenizer = model.tokenizer().unwrap();
    assert_eq!(tokenizer.end_of_turn(), 1);
}

#[test]
fn both_kinds_of_file_give_the_same_tokens() {
    let (_folder, from_folder) = folder_model(|_| ());
    let (_other, from_gguf) = gguf_model(|_| ());
    let (one, two) = (
        from_folder.tokenizer().unwrap(),
        from_gguf.tokenizer().unwrap(),
    );
    for text in TEXTS {
        let ids = one.encode(text, true).unwrap();
        assert_eq!(ids, two.encode(text, true).unwrap(), "{text:?}");
        assert_eq!(one.decode(&ids, false).unwrap(), text);
        assert_eq!(two.decode(&ids, false).unwrap(), text);
    }
    let talk = [
        message("user", "hello"),
        message("assistant", "well"),
        message("user", "world"),
    ];
    assert_eq!(
        one.encode_prompt(&talk).unwrap(),
        two.encode_prompt(&talk).unwrap()
    );
    assert_eq!(one.stop_ids(), two.stop_ids());
}

/// The pieces in which the text of `ids` comes; all of them together are that text.
fn streamed(tokenizer: &ChatTokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = TextStream::new();
    let piece = |&id| stream.push(tokenizer, id).unwrap();
    let mut pieces: Vec<String> = ids.iter().map(piece).collect();
    pieces.push(stream.finish(tokenizer).unwrap());
    let whole = tokenizer.decode(ids, true).unwrap();
    assert_eq!(pieces.concat(), whole, "{ids:?} came as {pieces:?}");
    pieces
}

#[test]
fn a_text_that_comes_token_by_token_is_the_text_of_all_tokens() {
    let (_folder, model) = folder_model(|_| ());
    let tokenizer = model.tokenizer().unwrap();
    for text in TEXTS {
        let ids = tokenizer.encode(text, false).unwrap();
        streamed(tokenizer, &ids);
    }
    // A character comes with the last of its bytes, and half a one at the end.
    let rocket = tokenizer.encode("🚀a🚀", false).unwrap();
    let pieces = streamed(tokenizer, &rocket[..rocket.len() - 1]);
    assert_eq!(
        pieces,
        ["", "", "", "🚀", "a", "", "", "", "\u{FFFD}"],
        "{rocket:?}"
    );
    // Whatever a model may write: bytes that are no text, special tokens.
    let mut noise = Noise(11);
    for _ in 0..300 {
        let length = noise.next() % 12;
        let ids: Vec<u32> = (0..length).map(|_| noise.next() % VOCAB as u32).collect();
        streamed(tokenizer, &ids);
    }
}

#[test]
fn truncation_settings_of_the_file_are_not_applied() {
    let (_folder, model) = folder_model(|_| ());
    // The file asks for at most four tokens.
    assert!(
        model
            .tokenizer()
            .unwrap()
            .encode("a b c d e f g", false)
            .unwrap()
            .len()
            > 4
    );
}

#[test]
fn prompt_and_response_meet_at_the_boundary() {
    let (_folder, model) = folder_model(|_| ());
    let tokenizer = model.tokenizer().unwrap();
    let talk = [message("user", "hello")];
    assert_eq!(
        tokenizer.render(&talk, true).unwrap(),
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    );
    let prompt = tokenizer.encode_prompt(&talk).unwrap();
    let response = respond(tokenizer, "hello world").unwrap();
    assert_eq!(tokenizer.end_of_turn(), 3);
    assert_eq!(tokenizer.stop_ids(), [3, 1]);
    assert_eq!(response.iter().filter(|&&id| id == 3).count(), 1);
    assert_eq!(response.last(), Some(&3));

    let whole = [
        message("user", "hello"),
        message("assistant", "hello world"),
    ];
    let whole = tokenizer.render(&whole, false).unwrap();
    let joined = tokenizer
        .decode(&[prompt, response].concat(), false)
        .unwrap();
    assert_eq!(whole.trim_end(), joined);
}

#[test]
fn a_response_has_exactly_one_end_of_turn() {
    let (_folder, model) = folder_model(|_| ());
    let tokenizer = model.tokenizer().unwrap();
    let plain = respond(tokenizer, "hello").unwrap();
    for ended in [
        "hello<|im_end|>",
        "hello<|im_end|>\n",
        "hello<|im_end|>\n<|im_end|>",
    ] {
        assert_eq!(respond(tokenizer, ended).unwrap(), plain, "{ended:?}");
    }
    assert_eq!(respond(tokenizer, "").unwrap(), [3]);
    let inside = respond(tokenizer, "hello<|im_end|> world")
        .unwrap_err()
        .to_string();
    assert!(
        inside.contains("<|im_end|>") && inside.contains("token 1"),
        "{inside}"
    );
}

#[test]
fn begin_of_text_is_not_doubled() {
    // The template writes it, and so would the tokenizer.
    let (_folder, model) = gguf_model(|gguf| {
        gguf.set("tokenizer.ggml.add_bos_token", Meta::Bool(true));
        gguf.set(
            "tokenizer.chat_template",
            text(&format!("{{{{ bos_token }}}}{CHAT_TEMPLATE}")),
        );
    });
    let tokenizer = model.tokenizer().unwrap();
    assert_eq!(tokenizer.encode("hello", true).unwrap()[0], 0);
    let prompt = tokenizer
        .encode_prompt(&[message("user", "hello")])
        .unwrap();
    assert_eq!(prompt[..2], [0, 2]);

    // Without a template the tokenizer decides.
    let plain = |bos: bool| {
        gguf_model(|gguf| {
            gguf.remove("tokenizer.chat_template");
            gguf.set("tokenizer.ggml.add_bos_token", Meta::Bool(bos));
        })
    };
    for (wanted, expected) in [(true, vec![0]), (false, vec![])] {
        let (_folder, model) = plain(wanted);
        let tokenizer = model.tokenizer().unwrap();
        assert!(!tokenizer.has_template());
        let text = tokenizer.encode("hello\nhello", false).unwrap();
        let expected = [expected, text].concat();
        for content in ["hello", "<s>hello"] {
            let prompt = tokenizer
                .encode_prompt(&[message("user", content), message("user", "hello")])
                .unwrap();
            if wanted || content == "hello" {
                assert_eq!(prompt, expected, "{content}");
            }
        }
        assert_eq!(
            (tokenizer.end_of_turn(), tokenizer.stop_ids()),
            (1, &[1][..])
        );
    }
}

#[test]
fn templates_are_found_where_models_keep_them() {
    let mark = |name: &str| format!("{name}{{{{ eos_token }}}}");
    let rendered = |change: &dyn Fn(&Path)| {
        let (_folder, model) = folder_model(|folder| change(folder));
        model
            .tokenizer()
            .and_then(|tokenizer| tokenizer.render(&[], false))
    };
    let config = |template: serde_json::Value| {
        move |folder: &Path| {
            let mut config = tokenizer_config();
            config["chat_template"] = template.clone();
            write_json(&folder.join("tokenizer_config.json"), &config);
        }
    };
    let named = json!([{"name": "tool_use", "template": "no"}, {"name": "default", "template": mark("list")}]);
    assert_eq!(
        rendered(&config(json!(mark("string")))).unwrap(),
        "string</s>"
    );
    assert_eq!(rendered(&config(named)).unwrap(), "list</s>");
    assert_eq!(
        rendered(&|folder| write_json(
            &folder.join("chat_template.json"),
            &json!({"chat_template": mark("json")})
        ))
        .unwrap(),
        "json</s>"
    );
    assert_eq!(
        rendered(&|folder| fs::write(folder.join("chat_template.jinja"), mark("jinja")).unwrap())
            .unwrap(),
        "jinja</s>"
    );

    let unnamed = json!([{"name": "a", "template": "a"}, {"name": "b", "template": "b"}]);
    let error = rendered(&config(unnamed)).unwrap_err().to_string();
    assert!(
        error.contains("chat_template") && error.contains("default"),
        "{error}"
    );
    let error = rendered(&config(json!("{% if %}"))).unwrap_err();
    assert!(matches!(error, PretrainedError::Template { .. }), "{error}");

    // Special tokens may be named in a file of their own.
    let apart = rendered(&|folder| {
        write_json(
            &folder.join("tokenizer_config.json"),
            &json!({"chat_template": mark("map")}),
        );
        write_json(
            &folder.join("special_tokens_map.json"),
            &json!({"eos_token": "</s>"}),
        );
    });
    assert_eq!(apart.unwrap(), "map</s>");
}

#[test]
fn a_template_may_refuse_a_conversation() {
    let (_folder, model) = folder_model(|folder| {
        let source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}x</s>";
        fs::write(folder.join("chat_template.jinja"), source).unwrap();
    });
    let tokenizer = model.tokenizer().unwrap();
    let error = tokenizer
        .encode_prompt(&[message("system", "x")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("no system role"), "{error}");
    // The template shows no answer: the end of text ends the turn.
    assert_eq!(tokenizer.end_of_turn(), 1);
}

#[test]
fn what_is_wrong_with_a_tokenizer_is_named() {
    let refused = |change: &dyn Fn(&Path)| {
        let (_folder, model) = folder_model(|folder| change(folder));
        model
            .tokenizer()
            .map(|_| ())
            .expect_err("must be refused")
            .to_string()
    };
    let message = refused(&|folder| fs::remove_file(folder.join("tokenizer.json")).unwrap());
    assert!(
        message.contains("no tokenizer") && message.contains("tokenizer.json"),
        "{message}"
    );
    let message = refused(&|folder| fs::write(folder.join("tokenizer.json"), "{").unwrap());
    assert!(message.contains("tokenizer.json"), "{message}");
    let message = refused(&|folder| {
        let mut config = tiny_model("llama").config;
        config["eos_token_id"] = json!(null);
        write_json(&folder.join("config.json"), &config);
        fs::remove_file(folder.join("tokenizer_config.json")).unwrap();
    });
    assert!(message.contains("eos_token"), "{message}");

    let refused = |change: &dyn Fn(&mut Gguf)| {
        let (_folder, model) = gguf_model(|gguf| change(gguf));
        model
            .tokenizer()
            .map(|_| ())
            .expect_err("must be refused")
            .to_string()
    };
    for (change, part) in [
        (
            (&|gguf: &mut Gguf| gguf.remove("tokenizer.ggml.model")) as &dyn Fn(&mut Gguf),
            "tokenizer.ggml.model",
        ),
        (
            &|gguf| gguf.set("tokenizer.ggml.model", text("bert")),
            "bert",
        ),
        (
            &|gguf| gguf.set("tokenizer.ggml.pre", text("falcon")),
            "falcon",
        ),
        (
            &|gguf| gguf.remove("tokenizer.ggml.merges"),
            "tokenizer.ggml.merges",
        ),
        (
            &|gguf| gguf.set("tokenizer.ggml.merges", Meta::Texts(vec!["he".to_owned()])),
            "tokenizer.ggml.merges",
        ),
        (
            &|gguf| gguf.set("tokenizer.ggml.token_type", Meta::I32s(vec![1])),
            "tokenizer.ggml.token_type",
        ),
        (
            &|gguf| gguf.set("tokenizer.ggml.eos_token_id", Meta::U32(9999)),
            "tokenizer.ggml.eos_token_id",
        ),
        (
            &|gguf| {
                gguf.set(
                    "tokenizer.ggml.tokens",
                    Meta::Texts(vec!["a".to_owned(); VOCAB]),
                )
            },
            "tokens 0 and 1",
        ),
    ] {
        let message = refused(change);
        assert!(
            message.contains("tiny.gguf") && message.contains(part),
            "{message:?} lacks {part:?}"
        );
    }
}

#[test]
fn tokens_beyond_the_embedding_are_refused() {
    let (_folder, model) = folder_model(|folder| {
        let mut tokenizer = tokenizer_json();
        let extra = json!({"id": VOCAB, "content": "<new>", "single_word": false, "lstrip": false, "rstrip": false,
                           "normalized": false, "special": true});
        tokenizer["model"]["vocab"]["<new>"] = json!(VOCAB);
        tokenizer["added_tokens"]
            .as_array_mut()
            .unwrap()
            .push(extra);
        write_json(&folder.join("tokenizer.json"), &tokenizer);
    });
    let tokenizer = model.tokenizer().unwrap();
    tokenizer.encode("old", false).unwrap();
    let error = tokenizer.encode("<new>", false).unwrap_err().to_string();
    assert!(error.contains("<new>") && error.contains("272"), "{error}");
}

#[test]
fn word_splits_are_those_of_their_models() {
    // Digits: GPT-2 keeps runs, SmolLM and Qwen take each alone, Llama 3 takes three. Merges tell them apart.
    let ids = |pre: &str, input: &str| {
        let (_folder, model) = gguf_model(|gguf| {
            let merge = |left: &str, right: &str| format!("{left} {right}");
            let mut merges: Vec<String> =
                vec![merge("1", "2"), merge("12", "3"), merge("123", "4")];
            merges.push(merge("Ġ", "1"));
            gguf.set("tokenizer.ggml.merges", Meta::Texts(merges));
            let mut tokens = tokens();
            tokens.truncate(260);
            tokens.extend(["12", "123", "1234", "Ġ1"].map(str::to_owned));
            gguf.set(
                "tokenizer.ggml.token_type",
                Meta::I32s(
                    (0..tokens.len())
                        .map(|id| if id < 4 { 3 } else { 1 })
                        .collect(),
                ),
            );
            gguf.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
            gguf.set("tokenizer.ggml.pre", text(pre));
            gguf.set("tokenizer.ggml.add_bos_token", Meta::Bool(false));
        });
        let tokenizer = model.tokenizer().unwrap();
        let ids = tokenizer.encode(input, false).unwrap();
        ids.iter()
            .map(|&id| tokenizer.decode(&[id], false).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("gpt-2", "1234"), ["1234"]);
    assert_eq!(ids("smollm", "1234"), ["1", "2", "3", "4"]);
    assert_eq!(ids("qwen2", "1234"), ["1", "2", "3", "4"]);
    assert_eq!(ids("llama-bpe", "1234"), ["123", "4"]);
    assert_eq!(ids("gpt-2", " 1"), [" 1"]);
    assert_eq!(ids("llama-bpe", " 1"), [" ", "1"]);
    // Qwen's text is composed first: e and a combining accent are the two bytes of é.
    assert_eq!(
        ids("qwen2", "e\u{301}").concat().len(),
        ids("qwen2", "é").concat().len()
    );
}

/// SentencePiece's own rule: merge the neighbours with the best joint score, the leftmost of equals, until none is known.
fn merge_by_scores(input: &str, scores: &HashMap<String, f32>) -> Vec<String> {
    let mut pieces: Vec<String> = format!(" {input}")
        .replace(' ', "▁")
        .chars()
        .map(String::from)
        .collect();
    loop {
        let mut best: Option<(f32, usize)> = None;
        for i in 1..pieces.len() {
            let joined = format!("{}{}", pieces[i - 1], pieces[i]);
            if let Some(&score) = scores.get(&joined)
                && best.is_none_or(|(best, _)| score > best)
            {
                best = Some((score, i));
            }
        }
        let Some((_, i)) = best else { return pieces };
        let right = pieces.remove(i);
        pieces[i - 1].push_str(&right);
    }
}

#[test]
fn sentencepiece_merges_follow_the_scores() {
    let mut noise = Noise(5);
    let alphabet = ["▁", "a", "b", "c", "d"];
    // A vocabulary as training makes it: every piece joins two earlier ones, and scores fall.
    let mut pieces: Vec<String> = alphabet.map(str::to_owned).to_vec();
    while pieces.len() < 60 {
        let pick = |noise: &mut Noise, pieces: &[String]| {
            pieces[noise.next() as usize % pieces.len()].clone()
        };
        let joined = pick(&mut noise, &pieces) + &pick(&mut noise, &pieces);
        if joined.chars().count() <= 6 && !pieces.contains(&joined) {
            pieces.push(joined);
        }
    }
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    let mut types = vec![2, 3, 3];
    let mut scores = vec![0.0, 0.0, 0.0];
    for byte in 0..=255 {
        tokens.push(format!("<0x{byte:02X}>"));
        types.push(6);
        scores.push(0.0);
    }
    let first = tokens.len();
    // Single characters come last in a SentencePiece vocabulary, with the lowest scores.
    for piece in pieces[alphabet.len()..]
        .iter()
        .chain(&pieces[..alphabet.len()])
    {
        scores.push(-((tokens.len() - first) as f32));
        tokens.push(piece.clone());
        types.push(1);
    }
    let known: HashMap<String, f32> = tokens
        .iter()
        .cloned()
        .zip(scores.iter().copied())
        .skip(first)
        .collect();
    let vocabulary = tokens.clone();
    let mut tiny = tiny_model("llama");
    let (rows, data) = (tokens.len(), vec![0.0; tokens.len() * 32]);
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        tiny.tensors
            .insert(name.to_owned(), (vec![rows, 32], data.clone()));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut gguf = Gguf::of(&tiny);
    gguf.set("tokenizer.ggml.model", text("llama"));
    gguf.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    gguf.set("tokenizer.ggml.token_type", Meta::I32s(types));
    gguf.set("tokenizer.ggml.scores", Meta::F32s(scores));
    gguf.set("tokenizer.ggml.unknown_token_id", Meta::U32(0));
    gguf.set("tokenizer.ggml.bos_token_id", Meta::U32(1));
    gguf.set("tokenizer.ggml.eos_token_id", Meta::U32(2));
    for key in [
        "tokenizer.ggml.pre",
        "tokenizer.ggml.merges",
        "tokenizer.chat_template",
    ] {
        gguf.remove(key);
    }
    let model = Pretrained::open(&gguf.write(folder.path())).unwrap();
    let tokenizer = model.tokenizer().unwrap();

    for _ in 0..400 {
        let input: String = (0..noise.next() % 30)
            .map(|_| ["a", "b", "c", "d", " "][noise.next() as usize % 5])
            .collect();
        if input.is_empty() {
            continue;
        }
        let ids = tokenizer.encode(&input, true).unwrap();
        assert_eq!(ids[0], 1, "a text begins with <s>");
        let found: Vec<&str> = ids[1..]
            .iter()
            .map(|&id| vocabulary[id as usize].as_str())
            .collect();
        assert_eq!(found, merge_by_scores(&input, &known), "{input:?}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), input);
        streamed(tokenizer, &ids);
    }
    // Here two bytes make a character, and take it back when the byte behind them makes none.
    let mut stream = TextStream::new();
    let bytes = [0xC3, 0xA9, 0xC3, 0x61, 0xC3].map(|byte: u32| 3 + byte);
    let mut pieces: Vec<String> = (bytes.iter())
        .map(|&id| stream.push(tokenizer, id).unwrap())
        .collect();
    pieces.push(stream.finish(tokenizer).unwrap());
    assert_eq!(
        tokenizer.decode(&bytes, true).unwrap(),
        "\u{FFFD}".repeat(5)
    );
    assert_eq!(pieces.concat(), "é\u{FFFD}\u{FFFD}\u{FFFD}", "{pieces:?}");
    // Characters outside the vocabulary become their bytes.
    let ids = tokenizer.encode("é", false).unwrap();
    assert_eq!(ids[ids.len() - 2..], [3 + 0xC3, 3 + 0xA9]);
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "é");
    assert_eq!(respond(tokenizer, "ab").unwrap().last(), Some(&2));
}
