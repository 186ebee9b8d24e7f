//! SmolLM2-135M-Instruct against reference values of transformers.
//!
//! `PANACEA_MODEL=FILE cargo test -p panacea-pretrained golden_smollm2 -- --ignored`, with the model as a GGUF file or folder
//! (`cargo xtask fetch smollm2-135m-instruct`). `PANACEA_GOLDEN` may name another folder with a `smollm2.json`.

use std::path::Path;

use panacea_pretrained::{ChatTokenizer, Message, Pretrained};
use panacea_test_support::golden;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    tokenize: Vec<Tokenised>,
    chat: Vec<Chat>,
    next_token: Vec<NextToken>,
    response_logprob: Vec<Pair>,
}

#[derive(Deserialize)]
struct Tokenised {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<Message>,
    rendered: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct NextToken {
    greedy_24: Vec<u32>,
    greedy_text: String,
}

#[derive(Deserialize)]
struct Pair {
    prompt: String,
    prompt_ids: Vec<u32>,
    chosen: String,
    chosen_ids: Vec<u32>,
    rejected: String,
    rejected_ids: Vec<u32>,
}

fn model() -> Pretrained {
    let path = std::env::var("PANACEA_MODEL").expect("PANACEA_MODEL names the model");
    Pretrained::open(Path::new(&path)).unwrap_or_else(|error| panic!("{error}"))
}

fn with_tokenizer(check: impl Fn(&ChatTokenizer, &Golden)) {
    let model = model();
    check(model.tokenizer().unwrap(), &golden("smollm2.json"));
}

#[test]
#[ignore = "needs PANACEA_MODEL=FILE"]
fn golden_smollm2_tokenizer() {
    with_tokenizer(|tokenizer, golden| {
        assert!(!golden.tokenize.is_empty());
        for case in &golden.tokenize {
            let ids = tokenizer.encode(&case.text, true).unwrap();
            assert_eq!(ids, case.ids, "{:?}", case.text);
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), case.text);
        }
        for case in &golden.next_token {
            assert_eq!(
                tokenizer.decode(&case.greedy_24, true).unwrap(),
                case.greedy_text
            );
        }
    });
}

#[test]
#[ignore = "needs PANACEA_MODEL=FILE"]
fn golden_smollm2_chat_template() {
    with_tokenizer(|tokenizer, golden| {
        assert!(!golden.chat.is_empty() && !golden.response_logprob.is_empty());
        for case in &golden.chat {
            assert_eq!(
                tokenizer.render(&case.messages, true).unwrap(),
                case.rendered
            );
            assert_eq!(tokenizer.encode_prompt(&case.messages).unwrap(), case.ids);
        }
        for case in &golden.response_logprob {
            let prompt = Message::new("user", &*case.prompt);
            let prompt = tokenizer.prompt(&[prompt]).unwrap();
            let answered = tokenizer
                .answered(
                    &prompt,
                    &[case.chosen.as_str().into(), case.rejected.as_str().into()],
                )
                .unwrap();
            assert_eq!(prompt.ids(), case.prompt_ids);
            assert_eq!(answered.prompt, case.prompt_ids);
            assert_eq!(
                answered.responses,
                [&case.chosen_ids[..], &case.rejected_ids]
            );
            assert!(answered.notes.is_empty(), "{:?}", answered.notes);
        }
        assert_eq!(tokenizer.stop_ids(), [tokenizer.end_of_turn()]);
    });
}

#[test]
#[ignore = "needs PANACEA_MODEL=FILE"]
fn golden_smollm2_configuration() {
    let model = model();
    model.check().unwrap();
    let config = model.config();
    assert_eq!(config.model_type, "llama");
    assert_eq!(
        (
            config.vocab_size,
            config.hidden_size,
            config.intermediate_size
        ),
        (49152, 576, 1536)
    );
    assert_eq!(
        (
            config.num_hidden_layers,
            config.num_attention_heads,
            config.num_key_value_heads
        ),
        (30, 9, 3)
    );
    assert_eq!(
        (
            config.head_dim,
            config.rms_norm_eps,
            config.attention[0].rope.theta
        ),
        (64, 1e-5, 1e5)
    );
    assert!(config.tie_word_embeddings && !model.has_tensor("lm_head.weight"));
    assert_eq!(config.eos_token_ids, [2]);
    let queries = model
        .tensor("model.layers.0.self_attn.q_proj.weight")
        .unwrap();
    assert_eq!(queries.shape, [576, 576]);
    assert!(queries.data.iter().all(|weight| weight.is_finite()));
}
