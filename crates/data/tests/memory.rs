//! What a long record takes of memory while it is loaded.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use panacea_data::{
    LabelSource, Loader, ObjectiveSpec, OverlongPrompts, RecordKind, Rule, TokenLimits,
};
use panacea_pretrained::Pretrained;
use panacea_test_support::TinyModel;
use serde_json::{Value, json};

/// Counts what is held, and the most that was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn hold(size: usize) {
    let held = HELD.fetch_add(size, Relaxed) + size;
    MOST.fetch_max(held, Relaxed);
}

// SAFETY: all memory comes from the system's allocator and goes back to it, with the layout that was asked for.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        hold(layout.size());
        // SAFETY: the caller promises what `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `at` came from `alloc` or `realloc`, which had it from `System` with this layout.
        unsafe { System.dealloc(at, layout) }
    }

    /// The system moves the pages of what is large, and copies nothing.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_sub(layout.size(), Relaxed);
        hold(size);
        // SAFETY: as in `dealloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A template as most are.
const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// One that joins texts before it writes them, which copies them.
const JOINING: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn model(folder: &Path, template: &str) -> Pretrained {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 272, "hidden_size": 8, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 64, "tie_word_embeddings": true
    });
    TinyModel::well_behaved(config, 0.1).write(folder);
    fs::write(folder.join("chat_template.jinja"), template).unwrap();
    Pretrained::open(folder).unwrap()
}

/// The most that is held while a file is loaded that has a long record among short ones, beside the bytes of the longest line.
fn most(folder: &Path, model: &Pretrained, long: Value) -> (usize, usize) {
    let short = |i: usize| json!({"prompt": format!("question {i}"), "chosen": "a long answer", "rejected": "no"});
    let mut lines: Vec<String> = (0..50).map(|i| short(i).to_string()).collect();
    lines.insert(25, long.to_string());
    let longest = lines[25].len();
    let file = folder.join("train.jsonl");
    fs::write(&file, lines.join("\n")).unwrap();
    drop((lines, long));

    let tokenizer = model.tokenizer().unwrap();
    let limits = TokenLimits {
        max_prompt_tokens: 64,
        max_response_tokens: 32,
        overlong_prompts: OverlongPrompts::Truncate,
    };
    let objective = ObjectiveSpec::new("shorter", LabelSource::Rule(Rule::Shorter));
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    let loaded = Loader::new(RecordKind::Pair).examples(&[file], &[objective], tokenizer, &limits);
    let most = MOST.load(Relaxed) - before;
    let (examples, report) = loaded.unwrap();
    assert_eq!(examples.len(), 51, "{report}");
    assert_eq!(report.truncated_prompts + report.truncated_responses, 1);
    (most, longest)
}

/// Here is one test only, since memory is counted for all threads together.
#[test]
fn a_long_record_takes_a_few_times_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let text = "What was said, \"word by word\", and\non many lines. ".repeat(120_000);
    let answer = json!({"prompt": "question", "chosen": text, "rejected": "no"});
    let prompt = json!({"prompt": text, "chosen": "a long answer", "rejected": "no"});
    for (template, long, limit) in [
        (TEMPLATE, &answer, 4),
        (TEMPLATE, &prompt, 4),
        (JOINING, &answer, 4),
        // What a prompt comes to is written twice: with the header of an answer and without.
        (JOINING, &prompt, 5),
    ] {
        let model = model(folder.path(), template);
        let (most, longest) = most(folder.path(), &model, long.clone());
        assert!(longest > 6_000_000);
        println!("{:.2}", most as f64 / longest as f64);
        assert!(most < limit * longest, "{most} for {longest}");
    }
}
