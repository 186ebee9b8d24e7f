//! Conversations in tokens: what the template writes, tokenised as a whole.

use std::fs;

use panacea_pretrained::{
    Answer, Answered, ChatOptions, ChatTokenizer, JsonObject, Message, Pretrained, TemplateValue,
    are_spelt_alike,
};
use panacea_test_support::{CHAT_TEMPLATE, Noise, tokenizer_json, tokens, write_json};
use serde_json::{Value, json};

use crate::tiny::tiny_model;

fn message(role: &str, content: &str) -> Message {
    Message::new(role, content)
}

/// A model with this template and tokenizer.
fn model(template: &str, tokenizer: &Value) -> Pretrained {
    let folder = tempfile::tempdir().unwrap();
    tiny_model("llama").write(folder.path());
    fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    write_json(&folder.path().join("tokenizer.json"), tokenizer);
    let model = Pretrained::open(folder.path()).unwrap();
    // The folder is gone after this.
    model.tokenizer().unwrap();
    model
}

/// The byte-level tokenizer with this in front of every piece of text between special tokens, as SentencePiece has it.
fn sentencepiece_like() -> Value {
    let mut tokenizer = tokenizer_json();
    tokenizer["normalizer"] = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": " "}, {"type": "Replace", "pattern": {"String": "  "}, "content": " "}]});
    tokenizer["pre_tokenizer"]["use_regex"] = json!(false);
    tokenizer
}

/// The byte-level tokenizer with a space in front of the first word alone.
fn space_before_the_first() -> Value {
    let mut tokenizer = tokenizer_json();
    tokenizer["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": true},
        tokenizer["pre_tokenizer"]]});
    tokenizer
}

/// The byte-level tokenizer with special tokens that take the space after them, one with space before it, and one that contains
/// another.
fn greedy_tokens() -> Value {
    let mut tokenizer = tokenizer_json();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    added[2]["rstrip"] = json!(true);
    added[0]["lstrip"] = json!(true);
    added.push(json!({"id": 5, "content": "x<|im_start|>", "single_word": false, "lstrip": false, "rstrip": false,
                      "normalized": false, "special": true}));
    tokenizer
}

/// The byte-level tokenizer with a token that may overlap itself.
fn doubled_token() -> Value {
    let mut tokenizer = tokenizer_json();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    added.push(
        json!({"id": 266, "content": "##", "single_word": false, "lstrip": false, "rstrip": false,
                      "normalized": false, "special": false}),
    );
    tokenizer
}

fn answered(tokenizer: &ChatTokenizer, messages: &[Message], responses: &[&str]) -> Answered {
    let prompt = tokenizer.prompt(messages).unwrap();
    let responses: Vec<Answer> = responses.iter().map(|text| Answer::from(*text)).collect();
    tokenizer.answered(&prompt, &responses).unwrap()
}

/// Prompt and response as texts.
fn texts(tokenizer: &ChatTokenizer, messages: &[Message], response: &str) -> [String; 2] {
    let Answered {
        prompt, responses, ..
    } = answered(tokenizer, messages, &[response]);
    // What is generated goes on from the same tokens.
    assert_eq!(prompt, tokenizer.encode_prompt(messages).unwrap());
    [&prompt, &responses[0]].map(|ids| tokenizer.decode(ids, false).unwrap())
}

const TURN: &str = "'<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n'";

#[test]
fn a_think_block_that_only_the_generation_prompt_opens_is_no_part_of_the_prompt() {
    let template = format!(
        "{{% for m in messages %}}{{{{ {TURN} }}}}{{% endfor %}}\
         {{% if add_generation_prompt %}}{{{{ '<|im_start|>assistant\\n<think>\\n' }}}}{{% endif %}}"
    );
    let model = model(&template, &tokenizer_json());
    let tokenizer = model.tokenizer().unwrap();
    let talk = [message("user", "hello")];
    let header = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n";
    for answer in ["At seven.", "<b>At seven.", "panacea"] {
        assert_eq!(
            texts(tokenizer, &talk, answer),
            [header.to_owned(), format!("{answer}<|im_end|>")]
        );
    }
    let notes = answered(tokenizer, &talk, &["a", "b"]).notes;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains(r#"no "<think>\n" before the answer"#),
        "{notes:?}"
    );
}

#[test]
fn what_a_template_writes_before_answers_is_trained_with_them() {
    let template = format!(
        "{{% for m in messages %}}{{% if m.role == 'assistant' and loop.last %}}\
         {{{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + m.content + '<|im_end|>\\n' }}}}\
         {{% else %}}{{{{ {TURN} }}}}{{% endif %}}{{% endfor %}}\
         {{% if add_generation_prompt %}}{{{{ '<|im_start|>assistant\\n' }}}}{{% endif %}}"
    );
    let model = model(&template, &tokenizer_json());
    let tokenizer = model.tokenizer().unwrap();
    let talk = [
        message("user", "a"),
        message("assistant", "b"),
        message("user", "c"),
    ];
    assert_eq!(
        texts(tokenizer, &talk, "d"),
        [
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n\
             <|im_start|>assistant\n",
            "<think>\n\n</think>\n\nd<|im_end|>"
        ]
    );
    let notes = answered(tokenizer, &talk, &["d"]).notes;
    assert!(
        notes[0].contains(r#"writes "<think>\n\n</think>\n\n" before the answer"#),
        "{notes:?}"
    );
}

#[test]
fn a_template_without_a_generation_prompt_leaves_the_header_to_the_answer() {
    let model = model(
        &format!("{{% for m in messages %}}{{{{ {TURN} }}}}{{% endfor %}}"),
        &tokenizer_json(),
    );
    let tokenizer = model.tokenizer().unwrap();
    assert_eq!(
        texts(tokenizer, &[message("user", "a")], "b"),
        [
            "<|im_start|>user\na<|im_end|>\n",
            "<|im_start|>assistant\nb<|im_end|>"
        ]
    );
}

/// As Mistral's third version does: the system message stands in the last turn, which is no longer the user's once there is an
/// answer.
#[test]
fn a_prompt_that_an_answer_would_rewrite_stays_as_it_is() {
    let template = "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}\
                    {% set messages = messages[1:] %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}\
                    {% if loop.last and system is defined %}{{ '[' + system + ' ' + m.content + ']' }}\
                    {% else %}{{ '[' + m.content + ']' }}{% endif %}{% else %}{{ m.content + eos_token }}{% endif %}\
                    {% endfor %}";
    let model = model(template, &tokenizer_json());
    let tokenizer = model.tokenizer().unwrap();
    let talk = [message("system", "short"), message("user", "hello")];
    assert_eq!(
        texts(tokenizer, &talk, "well"),
        ["[short hello]", "well</s>"]
    );
    let notes = answered(tokenizer, &talk, &["well"]).notes;
    assert!(
        notes[0].contains("differently once an answer follows"),
        "{notes:?}"
    );
    assert_eq!(
        texts(tokenizer, &talk[1..], "well"),
        ["[hello]", "well</s>"]
    );
    assert!(answered(tokenizer, &talk[1..], &["well"]).notes.is_empty());
}

/// As where one turn of the assistant follows another, or where nothing is to be written.
#[test]
fn an_answer_that_the_template_refuses_or_leaves_out_stands_behind_the_prompt() {
    let template = format!(
        "{{% for m in messages %}}{{% if not loop.first and m.role == messages[loop.index0 - 1].role %}}\
         {{{{ raise_exception('roles must alternate') }}}}{{% endif %}}{{% if m.content %}}{{{{ {TURN} }}}}{{% endif %}}\
         {{% endfor %}}{{% if add_generation_prompt %}}{{{{ '<|im_start|>assistant\\n' }}}}{{% endif %}}"
    );
    let model = model(&template, &tokenizer_json());
    let tokenizer = model.tokenizer().unwrap();
    let talk = [message("user", "a"), message("assistant", "b")];
    let header = "<|im_start|>assistant\n";
    let [before, after] = ["<|im_start|>user\na<|im_end|>\n", "b<|im_end|>\n"];
    assert_eq!(
        texts(tokenizer, &talk, "c"),
        [
            format!("{before}{header}{after}{header}"),
            "c<|im_end|>".to_owned()
        ]
    );
    let notes = answered(tokenizer, &talk, &["c"]).notes;
    assert!(notes[0].contains("or refuses it"), "{notes:?}");
    let found = answered(tokenizer, &talk[..1], &["", "d"]);
    let of = |ids: &[u32]| tokenizer.decode(ids, false).unwrap();
    assert_eq!(of(&found.prompt), format!("{before}{header}"));
    assert_eq!(of(&found.responses[0]), "<|im_end|>");
    assert_eq!(of(&found.responses[1]), "d<|im_end|>");
    // A conversation that is refused itself stays so.
    let twice = [message("user", "a"), message("user", "b")];
    let error = tokenizer.prompt(&twice).unwrap_err().to_string();
    assert!(error.contains("roles must alternate"), "{error}");
}

/// R1's distillates leave out the reasoning of an answer.
#[test]
fn what_the_template_makes_of_an_answer_is_trained() {
    let template = format!(
        "{{% for m in messages %}}{{% set content = m.content.split('</think>')[-1] %}}{{{{ {} }}}}{{% endfor %}}\
         {{% if add_generation_prompt %}}{{{{ '<|im_start|>assistant\\n' }}}}{{% endif %}}",
        TURN.replace("m.content", "content")
    );
    let model = model(&template, &tokenizer_json());
    let tokenizer = model.tokenizer().unwrap();
    let talk = [message("user", "a")];
    assert_eq!(texts(tokenizer, &talk, "so</think>b")[1], "b<|im_end|>");
    let notes = answered(tokenizer, &talk, &["so</think>b"]).notes;
    assert!(
        notes[0].contains("answers differently from how the records"),
        "{notes:?}"
    );
}

#[test]
fn the_first_token_of_an_answer_is_that_of_the_whole_text() {
    let model = model(CHAT_TEMPLATE, &sentencepiece_like());
    let tokenizer = model.tokenizer().unwrap();
    let Answered {
        prompt, responses, ..
    } = answered(tokenizer, &[message("user", "a")], &["hello", " hello"]);
    let id = |text: &str| tokens().iter().position(|token| token == text).unwrap() as u32;
    // On its own, the answer would begin with a space.
    assert_eq!(responses[0], [id("hello"), 3]);
    assert_eq!(responses[1], [id("Ġ"), id("hello"), 3]);
    let whole = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>";
    assert_eq!(
        [prompt, responses[0].clone()].concat(),
        tokenizer.encode(whole, false).unwrap()
    );
}

/// Pieces of conversations: whatever people write, special tokens and their halves included.
const PIECES: [&str; 20] = [
    "#",
    "##",
    "x<|im_start|>",
    "  <s>",
    "hello",
    " w",
    "world",
    "\n",
    " ",
    "  ",
    "<|im_start|>",
    "<s>",
    "x",
    "<|im_",
    "start|>",
    "é",
    "12",
    "</think>",
    "🚀",
    "_",
];

fn some_text(noise: &mut Noise) -> String {
    let count = noise.next() % 6;
    (0..count)
        .map(|_| PIECES[noise.next() as usize % PIECES.len()])
        .collect()
}

/// Prompt and responses are taken apart and tokenised in parts; together they must be the whole text in tokens.
#[test]
fn tokens_of_parts_are_those_of_the_whole_text() {
    let with_bos = format!("{{{{ bos_token }}}}{CHAT_TEMPLATE}");
    let without_tokens = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n\n' }}{% endfor %}\
                          {% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}";
    // The last special token of a prompt may be one that somebody wrote.
    let without_header = "{% for m in messages %}{{ '<s><|im_start|>' + m.content + '|' }}\
                          {% if m.role == 'assistant' %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}";
    // What may overlap itself stands before the answer.
    let doubled = "{% for m in messages %}{{ m.content + '##' }}{% if m.role == 'assistant' %}{{ '<|im_end|>\n' }}\
                   {% endif %}{% endfor %}";
    let trimmed = CHAT_TEMPLATE.replace("message.content", "message.content.strip()");
    let mut noise = Noise(19);
    let mut moved = 0;
    for template in [
        CHAT_TEMPLATE,
        &with_bos,
        without_tokens,
        without_header,
        doubled,
        &trimmed,
    ] {
        for json in [
            tokenizer_json(),
            sentencepiece_like(),
            space_before_the_first(),
            greedy_tokens(),
            doubled_token(),
        ] {
            let model = model(template, &json);
            let tokenizer = model.tokenizer().unwrap();
            for _ in 0..60 {
                let mut talk: Vec<Message> = Vec::new();
                for turn in 0..1 + 2 * (noise.next() % 2) {
                    talk.push(message(
                        ["user", "assistant"][turn as usize % 2],
                        &some_text(&mut noise),
                    ));
                }
                let texts = [some_text(&mut noise), some_text(&mut noise)];
                let found = answered(tokenizer, &talk, &[&texts[0], &texts[1]]);
                let asked = tokenizer.encode_prompt(&talk).unwrap();
                assert!(asked.starts_with(&found.prompt));
                moved += usize::from(found.prompt != asked);
                for (text, response) in texts.iter().zip(&found.responses) {
                    talk.push(message("assistant", text));
                    let whole = tokenizer.render(&talk, false).unwrap();
                    talk.pop();
                    let whole = match template == without_tokens {
                        true => whole.strip_suffix("\n\n").unwrap(),
                        false => whole.strip_suffix('\n').unwrap(),
                    };
                    let mut expected = tokenizer.encode(whole, false).unwrap();
                    if template == without_tokens {
                        expected.push(1);
                    }
                    let begins = expected.iter().take_while(|&&id| id == 0).count();
                    expected.drain(..begins.saturating_sub(1));
                    assert_eq!(
                        [&found.prompt[..], response].concat(),
                        expected,
                        "{talk:?} {text:?}"
                    );
                }
            }
        }
    }
    assert!(moved > 0, "tokens never reached over the boundary");
}

/// As transformers 5.23 adds them: by their ids, by role, then others, each behind the last id.
#[test]
fn special_tokens_that_the_vocabulary_lacks_are_added() {
    let with = |config: Value, vocabulary: usize| {
        let folder = tempfile::tempdir().unwrap();
        let mut model = tiny_model("llama");
        model.config["vocab_size"] = json!(vocabulary);
        model.write_without_tokenizer(folder.path());
        write_json(&folder.path().join("tokenizer.json"), &tokenizer_json());
        write_json(&folder.path().join("tokenizer_config.json"), &config);
        let model = Pretrained::open(folder.path()).unwrap();
        (folder, model)
    };
    let known = tokens().len() as u32;
    let config = json!({
        "pad_token": "<pad>", "eos_token": "<new>", "extra_special_tokens": ["<more>"],
        "added_tokens_decoder": {"300": {"content": "<first>", "special": true}, "2": {"content": "<|im_start|>"}}
    });
    let (_folder, model) = with(config.clone(), 272);
    let tokenizer = model.tokenizer().unwrap();
    assert_eq!(known, 266);
    assert_eq!(
        tokenizer.encode("<more><pad><new><first>", false).unwrap(),
        [known + 3, known + 2, known + 1, known]
    );
    assert_eq!(tokenizer.end_of_turn(), known + 1);
    // A model without a row for it could never write the end of an answer.
    let (_folder, model) = with(config, 267);
    let error = model.tokenizer().unwrap_err().to_string();
    assert!(error.contains("\"<new>\", has the id 267"), "{error}");
    // Without one for a token that no conversation needs, that is ordinary text.
    let lone = json!({"pad_token": "[PAD]", "eos_token": "</s>", "chat_template": CHAT_TEMPLATE});
    let (_folder, model) = with(lone.clone(), 266);
    let tokenizer = model.tokenizer().unwrap();
    let text = tokenizer.encode("a [PAD] b", false).unwrap();
    assert_eq!(tokenizer.decode(&text, true).unwrap(), "a [PAD] b");
    // One that the template writes is missed where it is written.
    let mut written = lone;
    written["chat_template"] = json!(format!("{{{{ pad_token }}}}{CHAT_TEMPLATE}"));
    let (_folder, model) = with(written, 266);
    let prompt = model
        .tokenizer()
        .unwrap()
        .encode_prompt(&[message("user", "a")]);
    let error = prompt.unwrap_err().to_string();
    assert!(error.contains("\"[PAD]\" has the id 266"), "{error}");
}

/// As transformers has it: under the id that the vocabulary gives it, and found in a text before words are split.
#[test]
fn special_tokens_of_the_vocabulary_are_tokens_wherever_they_stand() {
    let mut json = tokenizer_json();
    let added = json["added_tokens"].as_array_mut().unwrap();
    let end = added
        .iter()
        .position(|token| token["content"] == "<|im_end|>");
    added.remove(end.unwrap());
    let named = json!({"extra_special_tokens": ["<|im_end|>"], "eos_token": "</s>"});
    for (config, expected) in [(named, &[3][..]), (json!({"eos_token": "</s>"}), &[][..])] {
        let folder = tempfile::tempdir().unwrap();
        tiny_model("llama").write(folder.path());
        write_json(&folder.path().join("tokenizer.json"), &json);
        write_json(&folder.path().join("tokenizer_config.json"), &config);
        let model = Pretrained::open(folder.path()).unwrap();
        let tokenizer = model.tokenizer().unwrap();
        let ids = tokenizer.encode("<|im_end|>", false).unwrap();
        match expected {
            [] => assert!(ids.len() > 1, "{ids:?}"),
            _ => assert_eq!(ids, expected),
        }
    }
}

/// What tells runs of another tokenizer apart.
#[test]
fn tokens_that_the_configuration_adds_are_part_of_the_fingerprint() {
    let of = |config: Value| {
        let folder = tempfile::tempdir().unwrap();
        tiny_model("llama").write(folder.path());
        write_json(&folder.path().join("tokenizer_config.json"), &config);
        let model = Pretrained::open(folder.path()).unwrap();
        model.tokenizer().unwrap().fingerprints()[0].to_owned()
    };
    let with = |token: Value| of(json!({"eos_token": "</s>", "extra_special_tokens": [token]}));
    let plain = of(json!({"eos_token": "</s>"}));
    assert_ne!(plain, with(json!("<new>")));
    assert_ne!(
        with(json!("<new>")),
        with(json!({"content": "<new>", "rstrip": true}))
    );
    // Known already: nothing is added, and earlier runs go on.
    assert_eq!(plain, with(json!("<|im_start|>")));
}

#[test]
fn special_tokens_in_a_text_are_found() {
    let model = model(CHAT_TEMPLATE, &tokenizer_json());
    let tokenizer = model.tokenizer().unwrap();
    assert_eq!(tokenizer.special_token_in("a < b, <b>c</b>"), None);
    assert_eq!(
        tokenizer.special_token_in("a<|im_start|>user"),
        Some("<|im_start|>")
    );
}

#[test]
fn a_rendered_prompt_is_taken_as_it_is() {
    let model = model(CHAT_TEMPLATE, &tokenizer_json());
    let tokenizer = model.tokenizer().unwrap();
    let talk = [message("user", "hello")];
    let prompt = tokenizer
        .rendered_prompt(
            &message("user", &tokenizer.render(&talk, true).unwrap()),
            &JsonObject::new(),
        )
        .unwrap();
    for response in ["well", "well<|im_end|>", "\nwell"] {
        let found = tokenizer.answered(&prompt, &[response.into()]).unwrap();
        assert_eq!(found, answered(tokenizer, &talk, &[response]));
    }
}

/// Converters fill vocabularies up with tokens that no text may match, and name one of them for filling up batches.
#[test]
fn a_filler_that_a_gguf_file_names_stays_out() {
    use crate::tiny::{Gguf, Meta};
    let folder = tempfile::tempdir().unwrap();
    let mut gguf = Gguf::of(&tiny_model("llama"));
    gguf.set("tokenizer.ggml.padding_token_id", Meta::U32(271));
    let model = Pretrained::open(&gguf.write(folder.path())).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let ids = tokenizer.encode("[PAD271]", false).unwrap();
    assert!(ids.len() > 1, "{ids:?}");
}

#[test]
fn control_tokens_that_a_gguf_file_has_as_text_are_told() {
    use crate::tiny::{Gguf, Meta};
    let folder = tempfile::tempdir().unwrap();
    let mut gguf = Gguf::of(&tiny_model("llama"));
    let types = (0..272).map(|id| if id < 2 { 3 } else { 1 });
    gguf.set("tokenizer.ggml.token_type", Meta::I32s(types.collect()));
    let model = Pretrained::open(&gguf.write(folder.path())).unwrap();
    let notes = model.tokenizer().unwrap().notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains(r#"writes "<|im_start|>", "<|im_end|>", which"#),
        "{notes:?}"
    );

    // The tokenizer of a folder takes its place.
    let original = tempfile::tempdir().unwrap();
    tiny_model("llama").write(original.path());
    let chat = ChatOptions {
        tokenizer: Some(original.path().to_owned()),
        ..ChatOptions::default()
    };
    let model = model.with_chat(chat);
    assert!(model.tokenizer().unwrap().notes().is_empty());
    assert_eq!(
        model
            .tokenizer()
            .unwrap()
            .encode("<|im_start|>", false)
            .unwrap(),
        [2]
    );
}

#[test]
fn variables_date_and_template_are_the_users() {
    let folder = tempfile::tempdir().unwrap();
    tiny_model("llama").write(folder.path());
    let template = folder.path().join("mine.jinja");
    fs::write(
        &template,
        "{{ strftime_now('%d %b %Y') }} {{ tone }} {{ think is false }} {{ image_token }}",
    )
    .unwrap();
    let chat = ChatOptions {
        template: Some(template),
        date: Some("2024-02-29".to_owned()),
        variables: [
            ("tone".to_owned(), TemplateValue::Text("dry".to_owned())),
            ("think".to_owned(), TemplateValue::Bool(false)),
            ("image_token".to_owned(), TemplateValue::Int(7)),
        ]
        .into(),
        ..ChatOptions::default()
    };
    let model = Pretrained::open(folder.path()).unwrap();
    let usual = model.tokenizer().unwrap().fingerprints().map(str::to_owned);
    let model = model.with_chat(chat);
    let tokenizer = model.tokenizer().unwrap();
    assert_eq!(
        tokenizer.render(&[], false).unwrap(),
        "29 Feb 2024 dry True 7"
    );
    assert!(model.template_asks_for_the_date().unwrap());
    let own = tokenizer.fingerprints();
    assert!(own[0] == usual[0] && own[1] != usual[1]);
    fs::write(folder.path().join("mine.jinja"), "{% if %}").unwrap();
    let error = model.with_chat(ChatOptions {
        template: Some(folder.path().join("mine.jinja")),
        ..ChatOptions::default()
    });
    assert!(
        error
            .tokenizer()
            .unwrap_err()
            .to_string()
            .contains("mine.jinja: chat template")
    );
}

/// Writes calls, reasoning and tools, and ends every turn in the same way.
const CALLING: &str = "{% if tools %}{{ '<|im_start|>tools\\n' + (tools | tojson) + '<|im_end|>\\n' }}{% endif %}\
    {% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}\
    {% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}\
    {% if m.content is string %}{{ m.content }}{% endif %}\
    {% for call in m.tool_calls or [] %}{{ '<call>' + call.function.name + '</call>' }}{% endfor %}\
    {{ '<|im_end|>\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn called() -> Value {
    json!([{"type": "function", "function": {"name": "hours", "arguments": {}}}])
}

#[test]
fn calls_reasoning_and_tools_are_in_the_tokens() {
    let model = model(CALLING, &tokenizer_json());
    let tokenizer = model.tokenizer().unwrap();
    let talk: Vec<Message> = from_json(json!([
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": null, "tool_calls": called()},
        {"role": "tool", "content": "07:00"}
    ]));
    let tools = json!({"tools": [{"name": "hours"}]});
    let prompt = tokenizer
        .prompt_with(&talk, tools.as_object().unwrap())
        .unwrap();
    let text = |ids: &[u32]| tokenizer.decode(ids, false).unwrap();
    let expected = "<|im_start|>tools\n[{\"name\": \"hours\"}]<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n\
                    <|im_start|>assistant\n<call>hours</call><|im_end|>\n<|im_start|>tool\n07:00<|im_end|>\n\
                    <|im_start|>assistant\n";
    assert_eq!(text(prompt.ids()), expected);

    let answers: Vec<Message> = from_json(json!([
        {"role": "assistant", "content": "At seven."},
        {"role": "assistant", "content": "At seven.<|im_end|>", "reasoning_content": "hm"},
        {"role": "assistant", "content": null, "tool_calls": called()},
        {"role": "assistant", "tool_calls": called(), "reasoning_content": "hm"},
        {"role": "assistant", "content": "", "tool_calls": called(), "weight": 1}
    ]));
    let answers: Vec<Answer> = answers.into_iter().map(Answer::from).collect();
    let found = tokenizer.answered(&prompt, &answers).unwrap();
    let responses: Vec<String> = found.responses.iter().map(|ids| text(ids)).collect();
    assert_eq!(
        responses,
        [
            "At seven.<|im_end|>",
            "<think>hm</think>At seven.<|im_end|>",
            "<call>hours</call><|im_end|>",
            "<think>hm</think><call>hours</call><|im_end|>",
            "<call>hours</call><|im_end|>",
        ]
    );
    assert_eq!(found.prompt, prompt.ids());
    assert!(found.notes.is_empty(), "{:?}", found.notes);
    let unread: Vec<&str> = found.unread.iter().map(String::as_str).collect();
    assert_eq!(unread, ["weight"]);
}

#[test]
fn what_no_template_would_write_is_refused() {
    let plain = format!(
        "{{% for m in messages %}}{{{{ {TURN} }}}}{{% endfor %}}\
         {{% if add_generation_prompt %}}{{{{ '<|im_start|>assistant\\n' }}}}{{% endif %}}"
    );
    let call: Message =
        from_json(json!({"role": "assistant", "content": null, "tool_calls": called()}));
    let talk = [
        message("user", "hello"),
        call.clone(),
        message("user", "hello"),
    ];
    let answer = [Answer::from(call)];
    let of_plain = model(&plain, &tokenizer_json());
    let tokenizer = of_plain.tokenizer().unwrap();
    let refused =
        |result: Result<(), panacea_pretrained::PretrainedError>| result.unwrap_err().to_string();
    let said = refused(tokenizer.prompt(&talk).map(|_| ()));
    assert!(
        said.contains(
            "turn 2 (assistant) has no text, and the template reads nothing of `tool_calls`"
        ),
        "{said}"
    );
    let prompt = tokenizer.prompt(&talk[..1]).unwrap();
    let said = refused(tokenizer.answered(&prompt, &answer).map(|_| ()));
    assert!(
        said.contains("the answer has no text, and the template reads nothing of `tool_calls`"),
        "{said}"
    );
    let rendered = tokenizer
        .rendered_prompt(
            &message("user", "<|im_start|>assistant\n"),
            &JsonObject::new(),
        )
        .unwrap();
    let said = refused(tokenizer.answered(&rendered, &answer).map(|_| ()));
    assert!(
        said.contains("no template writes what it has instead"),
        "{said}"
    );

    // A template that ends calls with another token than answers.
    let other = CALLING.replace(
        "{{ '<|im_end|>\\n' }}{% endfor %}",
        "{{ '<|im_end|>\\n' if not m.tool_calls else '!' }}{% endfor %}",
    );
    assert_ne!(other, CALLING);
    let of_other = model(&other, &tokenizer_json());
    let tokenizer = of_other.tokenizer().unwrap();
    let prompt = tokenizer.prompt(&talk[..1]).unwrap();
    let said = refused(tokenizer.answered(&prompt, &answer).map(|_| ()));
    assert!(
        said.contains("it writes no end of this answer with `tool_calls`"),
        "{said}"
    );
}

#[test]
fn a_developer_is_the_system_where_the_template_knows_none() {
    let knows = format!(
        "{{% for m in messages %}}{{% if m.role == 'developer' %}}D{{% endif %}}{{{{ {TURN} }}}}{{% endfor %}}"
    );
    for (template, begin) in [
        (CALLING, "<|im_start|>system\n"),
        (&knows, "D<|im_start|>developer\n"),
    ] {
        let model = model(template, &tokenizer_json());
        let talk = [message("developer", "x"), message("user", "y")];
        let text = model.tokenizer().unwrap().render(&talk, false).unwrap();
        assert!(text.starts_with(begin), "{text}");
    }
}

/// What the template does not ask a turn for stands nowhere in its text, whatever it asks other turns for.
#[test]
fn what_is_left_out_is_known_by_its_turn() {
    let template = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}\
        {% if m.role == 'user' and m.name %}{{ m.name + ': ' }}{% endif %}\
        {% if m.tool_calls %}{% for call in m.tool_calls %}{{ call.name }}{% endfor %}{% else %}{{ m.content }}{% endif %}\
        {{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    let model = model(template, &tokenizer_json());
    let tokenizer = model.tokenizer().unwrap();
    let call = json!([{"name": "hours"}]);
    let talk: Vec<Message> = from_json(json!([
        {"role": "system", "content": "x", "name": "rules"},
        {"role": "user", "content": "hello", "name": "Ann"},
        {"role": "assistant", "content": "hm", "tool_calls": call},
        {"role": "assistant", "content": "", "tool_calls": call, "weight": null},
        {"role": "tool", "content": "7", "tool_call_id": "c"}
    ]));
    let variables = json!({"tools": [], "add": 1});
    let variables = variables.as_object().unwrap();
    let prompt = tokenizer.prompt_with(&talk, variables).unwrap();
    let unread: Vec<(Option<usize>, String)> = (prompt.unread().into_iter())
        .map(|unread| (unread.turn, unread.key))
        .collect();
    let of = |turn: Option<usize>, key: &str| (turn, key.to_owned());
    assert_eq!(
        unread,
        [
            of(Some(0), "name"),
            of(Some(2), "content"),
            of(Some(3), "weight"),
            of(Some(4), "tool_call_id"),
            of(None, "tools"),
            of(None, "add"),
        ]
    );
    // An answer adds its own.
    let answer: Message =
        from_json(json!({"role": "assistant", "content": "a", "name": "b", "tool_calls": []}));
    let unread = tokenizer
        .answered(&prompt, &[answer.into()])
        .unwrap()
        .unread;
    let expected = ["add", "content", "name", "tool_call_id", "tools", "weight"];
    assert!(unread.iter().eq(expected), "{unread:?}");

    // Where no template is asked, the texts are all that is read.
    let text: Message = from_json(json!({"role": "user", "content": "hello", "name": "Ann"}));
    let prompt = tokenizer.rendered_prompt(&text, variables).unwrap();
    let answer: Message = from_json(json!({"role": "assistant", "content": "a", "id": 1}));
    let unread = tokenizer
        .answered(&prompt, &[answer.into()])
        .unwrap()
        .unread;
    assert!(
        unread.iter().eq(["add", "id", "name", "tools"]),
        "{unread:?}"
    );
}

/// Behind a turn of the assistant's no answer can be written, though the template would write its calls elsewhere.
#[test]
fn calls_that_the_template_cannot_write_here_are_refused() {
    let template = format!(
        "{{% for m in messages %}}{{% if not loop.first and m.role == messages[loop.index0 - 1].role %}}\
         {{{{ raise_exception('roles must alternate') }}}}{{% endif %}}{{% for call in m.tool_calls or [] %}}\
         {{{{ call.function.name }}}}{{% endfor %}}{{{{ {TURN} }}}}{{% endfor %}}\
         {{% if add_generation_prompt %}}{{{{ '<|im_start|>assistant\\n' }}}}{{% endif %}}"
    );
    let model = model(&template, &tokenizer_json());
    let tokenizer = model.tokenizer().unwrap();
    let prompt = tokenizer.prompt(&[message("user", "a"), message("assistant", "b")]);
    let with = |key: &str| -> Answer {
        let answer: Message =
            from_json(json!({"role": "assistant", "content": "c", key: called()}));
        answer.into()
    };
    let prompt = prompt.unwrap();
    let error = tokenizer
        .answered(&prompt, &[with("tool_calls")])
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the answer's `tool_calls` cannot be written"),
        "{error}"
    );
    let unread = tokenizer
        .answered(&prompt, &[with("weight")])
        .unwrap()
        .unread;
    assert!(unread.iter().eq(["weight"]), "{unread:?}");
}

#[test]
fn turns_that_say_the_same_may_be_spelt_otherwise() {
    let turns = |text: &str| -> Vec<Message> { serde_json::from_str(text).unwrap() };
    let one =
        turns(r#"[{"role": "user", "content": "a", "x": {"b": [{"c": 1, "d": 2}]}, "y": 1}]"#);
    let inside =
        turns(r#"[{"role": "user", "content": "a", "x": {"b": [{"d": 2, "c": 1}]}, "y": 1}]"#);
    let outside =
        turns(r#"[{"content": "a", "role": "user", "y": 1, "x": {"b": [{"c": 1, "d": 2}]}}]"#);
    let other =
        turns(r#"[{"role": "user", "content": "a", "x": {"b": [{"c": 1, "d": 3}]}, "y": 1}]"#);
    assert!(one == inside && one == outside && one != other);
    assert!(are_spelt_alike(&one, &one.clone()));
    assert!(!are_spelt_alike(&one, &inside) && !are_spelt_alike(&one, &outside));
}
