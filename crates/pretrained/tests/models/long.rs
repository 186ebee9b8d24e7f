//! Long texts, of which only a beginning is tokenised: they have the tokens that they have as a whole.

use panacea_pretrained::{Answer, ChatTokenizer, JsonObject, Message, Pretrained};
use panacea_test_support::{CHAT_TEMPLATE, tokenizer_config, tokenizer_json, write_json};
use serde_json::json;

use crate::tiny::tiny_model;

/// A tiny model with this chat template, or without one.
fn model(template: Option<&str>) -> Pretrained {
    let folder = tempfile::tempdir().unwrap();
    tiny_model("llama").write(folder.path());
    let mut config = tokenizer_config();
    config["chat_template"] = json!(template);
    write_json(&folder.path().join("tokenizer_config.json"), &config);
    write_json(&folder.path().join("tokenizer.json"), &tokenizer_json());
    let model = Pretrained::open(folder.path()).unwrap();
    // The folder is gone after this.
    model.tokenizer().unwrap();
    model
}

/// Texts that are much longer than what is kept of them.
fn texts() -> Vec<String> {
    let sentence = "hello world, it's <b>3.14</b>\n  naïve – 東京 🚀 ";
    let ordinary = sentence.repeat(700);
    let with = |token: &str, at: usize| {
        let mut text = ordinary.clone();
        text.insert_str(text.ceil_char_boundary(at), token);
        text
    };
    vec![
        ordinary.clone(),
        "h".repeat(40_000),
        "0123456789".repeat(4_000),
        "-".repeat(40_000),
        "東京".repeat(6_000),
        "🚀".repeat(10_000),
        " ".repeat(40_000) + "x",
        format!(" \n{ordinary}<|im_end|> "),
        format!("<think>hello</think>{ordinary}"),
        with("<|im_start|>", 70),
        with("<|im_start|>", 30_000),
        // An end of turn where nothing ends.
        with("<|im_end|>", 0),
        with("<|im_end|>", 10),
        with("</s>", 70),
        with("</s>", 30_000),
        with("<|im_end|>", 30_000),
        with("<|im_end|><|im_end|>", ordinary.len()),
    ]
}

/// What the first tokens of a text's are, or what is wrong with it.
fn first(tokenizer: &ChatTokenizer, text: &str, most: usize) -> Result<(Vec<u32>, usize), String> {
    let prompt = tokenizer.prompt(&[Message::new("user", "hello")]).unwrap();
    let answers = [Answer::from(text), Answer::from("hello")];
    let found = tokenizer.answered_within(&prompt, &answers, most);
    let mut found = found.map_err(|error| error.to_string())?;
    assert_eq!(found.prompt, prompt.ids());
    assert_eq!(found.responses[1].last(), Some(&tokenizer.end_of_turn()));
    let mut ids = found.responses.swap_remove(0);
    let length = ids.len();
    ids.truncate(most);
    Ok((ids, length))
}

const THINKING: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content.split('</think>')[-1] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

#[test]
fn a_long_response_begins_as_it_does_as_a_whole() {
    for template in [Some(CHAT_TEMPLATE), Some(THINKING), None] {
        let model = model(template);
        let tokenizer = model.tokenizer().unwrap();
        let mut cut = 0;
        for text in texts() {
            let what = text.chars().take(40).collect::<String>();
            let whole = first(tokenizer, &text, usize::MAX);
            for most in [1, 12, 100] {
                match (&whole, first(tokenizer, &text, most)) {
                    (Ok((whole, length)), Ok((found, at_least))) => {
                        assert_eq!(found, whole[..most], "{what}");
                        assert!(most < at_least && at_least <= *length, "{what}");
                        cut += usize::from(at_least < *length);
                    }
                    (whole, found) => {
                        assert_eq!(whole.as_ref().err(), found.as_ref().err(), "{what}");
                        assert!(found.is_err(), "{what}");
                    }
                }
            }
        }
        assert!(cut >= 3 * 7, "{cut}");
    }
}

#[test]
fn a_long_prompt_is_too_long_where_it_is_as_a_whole() {
    for template in [Some(CHAT_TEMPLATE), None] {
        let model = model(template);
        let tokenizer = model.tokenizer().unwrap();
        for text in texts() {
            let talk = [Message::new("user", text)];
            let whole = tokenizer.prompt(&talk).unwrap();
            let within = |most: usize| {
                let found = tokenizer.prompt_within(&talk, &JsonObject::new(), most);
                found.unwrap().map(|prompt| prompt.ids().to_vec())
            };
            let length = whole.ids().len();
            for most in [1, 100, length - 1] {
                assert_eq!(within(most), None);
            }
            assert_eq!(within(length).as_deref(), Some(whole.ids()));
        }
    }
}

#[test]
fn a_long_rendered_prompt_is_cut_like_any() {
    let model = model(Some(CHAT_TEMPLATE));
    let tokenizer = model.tokenizer().unwrap();
    // Repeated begin-of-text tokens count once.
    let text = "<s>".repeat(20_000) + "hello";
    let (text, none) = (Message::new("user", text), JsonObject::new());
    let whole = tokenizer.rendered_prompt(&text, &none).unwrap();
    assert_eq!(whole.ids().len(), 2);
    let within = |most: usize| (tokenizer.rendered_prompt_within(&text, &none, most)).unwrap();
    assert!(within(1).is_none());
    let prompt = within(2).unwrap();
    assert_eq!(prompt.ids().len(), 2);
    let begin = Message::new("user", "<|im_start|>assistant\n");
    let prompt = tokenizer.rendered_prompt(&begin, &none).unwrap();
    let long = "hello ".repeat(20_000);
    let whole = tokenizer
        .answered(&prompt, &[long.as_str().into()])
        .unwrap();
    let cut = (tokenizer.answered_within(&prompt, &[long.as_str().into()], 9)).unwrap();
    assert_eq!(cut.responses[0][..9], whole.responses[0][..9]);
    assert!(cut.responses[0].len() < 100);
}

/// What a template may write grows with the conversation.
#[test]
fn a_long_answer_is_no_endless_loop() {
    let model = model(Some(CHAT_TEMPLATE));
    let tokenizer = model.tokenizer().unwrap();
    let (ids, length) = first(tokenizer, &"hello ".repeat(6 << 20), 5).unwrap();
    assert_eq!((ids.len(), length < 100), (5, true));
}
