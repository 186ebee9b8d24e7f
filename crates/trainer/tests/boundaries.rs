//! Prompts end at the same token wherever they are read: in training, in answers of the policy, and before a response of another
//! record, also with templates that write an answer otherwise than their generation prompt begins it.

use std::fs;
use std::path::Path;

use panacea_config::{Overrides, Plan, Spec};
use panacea_data::{Example, Part};
use panacea_pretrained::{ChatTokenizer, Message, Pretrained};
use panacea_test_support::{TinyModel, tokenizer_json, write_json};
use panacea_trainer::Records;
use serde_json::json;

const TURN: &str = "'<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n'";

/// The generation prompt opens a think block that no conversation has, as that of R1's distillates does.
fn opens_a_block() -> String {
    format!(
        "{{% for m in messages %}}{{{{ {TURN} }}}}{{% endfor %}}\
         {{% if add_generation_prompt %}}{{{{ '<|im_start|>assistant\\n<think>\\n' }}}}{{% endif %}}"
    )
}

/// An empty think block stands before the last answer, as Qwen3 writes it.
fn writes_a_block() -> String {
    format!(
        "{{% for m in messages %}}{{% if m.role == 'assistant' and loop.last %}}\
         {{{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + m.content + '<|im_end|>\\n' }}}}\
         {{% else %}}{{{{ {TURN} }}}}{{% endif %}}{{% endfor %}}\
         {{% if add_generation_prompt %}}{{{{ '<|im_start|>assistant\\n' }}}}{{% endif %}}"
    )
}

/// The last character of a prompt and the first of an answer may be one token, `##`.
const JOINS: &str = "{% for m in messages %}{{ m.content + '#' }}\
                     {% if m.role == 'assistant' %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}";

/// Questions and answers.
const ROWS: [[&str; 2]; 4] = [["a", "hello"], ["b", "#world"], ["c", "x"], ["d", "# y"]];

fn model(folder: &Path, template: &str) -> Pretrained {
    let config = json!({
        "model_type": "llama", "vocab_size": 272, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8, "hidden_act": "silu",
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": false
    });
    TinyModel::well_behaved(config, 0.4).write(folder);
    fs::write(folder.join("chat_template.jinja"), template).unwrap();
    let mut tokenizer = tokenizer_json();
    tokenizer["added_tokens"].as_array_mut().unwrap().push(
        json!({"id": 266, "content": "##", "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": false}),
    );
    write_json(&folder.join("tokenizer.json"), &tokenizer);
    Pretrained::open(folder).unwrap()
}

/// The rows as a run of this method reads them.
fn read(folder: &Path, tokenizer: &ChatTokenizer, method: &str) -> Vec<Example> {
    let file = folder.join("rows.jsonl");
    let row = |(index, [prompt, completion]): (usize, &[&str; 2])| {
        json!({"prompt": prompt, "completion": completion, "good": index % 2 == 0}).to_string()
    };
    let rows: Vec<String> = ROWS.iter().enumerate().map(row).collect();
    fs::write(&file, rows.join("\n")).unwrap();
    let text = format!(
        "data = {{ train = {file:?} }}\n[model]\npath = {folder:?}\n{method}",
        file = file.display().to_string(),
        folder = folder.display().to_string(),
    );
    let plan = Plan::resolve(Spec::from_toml(&text, "test.toml"), &Overrides::default()).unwrap();
    let records = Records::load(&plan, Part::Train, &[file], tokenizer).unwrap();
    assert_eq!(records.examples.len(), ROWS.len());
    records.examples
}

const SFT: &str = "[[objective]]\nname = \"a\"\nchosen = true\n[method]\nloss = \"sft\"";
const KTO: &str = "[[objective]]\nname = \"a\"\ncolumn = \"good\"\n[method]\nloss = \"kto\"";
const RLHF: &str =
    "[[objective]]\nname = \"a\"\nreward = { rule = \"conciseness\" }\n[method]\nloss = \"rlhf\"";

fn user(text: &str) -> Message {
    Message::new("user", text)
}

/// What the template writes for a question and an answer, up to the end of the answer, in tokens.
fn whole(tokenizer: &ChatTokenizer, question: &str, answer: &str) -> Vec<u32> {
    let talk = [user(question), Message::new("assistant", answer)];
    let text = tokenizer.render(&talk, false).unwrap();
    tokenizer
        .encode(text.strip_suffix('\n').unwrap(), false)
        .unwrap()
}

#[test]
fn prompts_end_at_the_same_token_in_every_method() {
    for (template, end, before) in [
        (opens_a_block(), "<|im_start|>assistant\n", ""),
        (
            writes_a_block(),
            "<|im_start|>assistant\n",
            "<think>\n\n</think>\n\n",
        ),
        (JOINS.to_owned(), "#", ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path(), &template);
        let tokenizer = model.tokenizer().unwrap();
        let read = |method: &str| read(folder.path(), tokenizer, method);
        let text = |ids: &[u32]| tokenizer.decode(ids, false).unwrap();
        let (rollouts, trained) = (read(RLHF), read(SFT));
        let learned = read(&format!("{RLHF}\n[rlhf]\nptx_weight = 0.5"));
        for (index, [question, answer]) in ROWS.iter().enumerate() {
            // Answers go on where a server's do.
            let prompt = &rollouts[index].prompt;
            assert_eq!(*prompt, tokenizer.encode_prompt(&[user(question)]).unwrap());
            assert!(text(prompt).ends_with(end), "{}", text(prompt));
            assert!(rollouts[index].responses.is_empty());
            // And where training and scoring have the boundary, unless a token reaches over it.
            let own = &trained[index];
            let joins = template == JOINS && answer.starts_with('#');
            assert_eq!(own.prompt == *prompt, !joins, "{question}");
            assert!(prompt.starts_with(&own.prompt));
            assert_eq!(
                [&own.prompt[..], &own.responses[0]].concat(),
                whole(tokenizer, question, answer)
            );
            if !joins {
                assert!(text(&own.responses[0]).starts_with(&format!("{before}{answer}")));
            }
            // Where the record's own answer is learned from beside the policy's, both stand behind one prompt.
            assert_eq!(learned[index].prompt, own.prompt);
            assert_eq!(learned[index].responses, own.responses);
        }
    }
}

/// The prompt of one record and the response of another are put together as words, and are the tokens of what the template
/// writes for both.
#[test]
fn a_response_to_another_prompt_is_tokenised_behind_this_one() {
    let mut moved = 0;
    for template in [opens_a_block(), writes_a_block(), JOINS.to_owned()] {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path(), &template);
        let tokenizer = model.tokenizer().unwrap();
        let examples = read(folder.path(), tokenizer, KTO);
        let trained = read(folder.path(), tokenizer, SFT);
        for (index, example) in examples.iter().enumerate() {
            let [question, own] = ROWS[index];
            let [_, other] = ROWS[(index + 1) % ROWS.len()];
            assert_eq!(example.responses.len(), 2);
            for (answer, response) in [own, other].iter().zip(&example.responses) {
                let found = [&example.prompt[..], response].concat();
                assert_eq!(
                    found,
                    whole(tokenizer, question, answer),
                    "{question} {answer}"
                );
            }
            moved += usize::from(example.prompt != trained[index].prompt);
        }
    }
    assert!(moved > 0, "the other response never moves the boundary");
}
