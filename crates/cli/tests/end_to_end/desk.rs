//! A folder with a tiny model and its data, and the binary run in it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output};

use panacea_test_support::TinyModel;
use serde_json::{Value, json};

/// A folder with a model, records and a configuration, and the binary run in it.
pub struct Desk {
    pub dir: tempfile::TempDir,
}

/// Its configuration.
pub const CONFIG: &str = r#"
[model]
path = "model"
[data]
train = "train.jsonl"
eval = "test.jsonl"
[[objective]]
name = "helpfulness"
score = "helpfulness"
[[objective]]
name = "conciseness"
score = "conciseness"
[adapter]
rank = 4
alpha = 32
init_std = 0.02
s = "learned"
[optimizer]
steps = 30
batch_size = 3
learning_rate = 3e-2
[checkpoint]
every = 10
"#;

impl Desk {
    pub fn new() -> Self {
        let desk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 272, "hidden_size": 32,
            "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "hidden_act": "silu", "max_position_embeddings": 256,
            "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": true, "bos_token_id": 0,
            "eos_token_id": 3
        });
        fs::create_dir(desk.path("model")).unwrap();
        TinyModel::well_behaved(config, 0.2).write(&desk.path("model"));
        desk.write("run.toml", CONFIG);
        let record = |i: usize| {
            let long = format!("hello world, hello {i} and so on, at length");
            let record = json!({
                "prompt": format!("what is {i}?"), "responses": [long, format!("{i}")],
                "scores": {"helpfulness": [3.0, 1.0], "conciseness": [1.0, 3.5]}
            });
            format!("{record}\n")
        };
        desk.write("train.jsonl", &(0..9).map(record).collect::<String>());
        desk.write("test.jsonl", &(9..14).map(record).collect::<String>());
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_panacea"));
        command
            .args(arguments.split(' '))
            .current_dir(self.dir.path());
        command
    }

    pub fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a command that succeeds.
    #[track_caller]
    pub fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of a command that fails without a panic.
    #[track_caller]
    pub fn fail(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments} should have failed");
        assert!(!error.contains("panicked"), "{arguments}: {error}");
        error
    }

    /// Sums of log-probabilities that `score` prints.
    pub fn scores(&self, arguments: &str) -> Vec<f64> {
        let output = self.succeed(&format!("score --input records.jsonl {arguments}"));
        let sum = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line["tokens"].as_u64().unwrap() >= 2);
            line["sum_logprob"].as_f64().unwrap()
        };
        output.lines().map(sum).collect()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }
}

/// Reads lines of standard error up to one that contains `word`.
pub fn wait_for(child: &mut Child, word: &str) {
    let mut output = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert_ne!(
            output.read_line(&mut line).unwrap(),
            0,
            "no line with {word:?}"
        );
    }
    // What is said from here on has to be read as well, or the pipe fills up.
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
}
