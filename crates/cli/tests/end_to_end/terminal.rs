//! A conversation at a terminal: keys, and Ctrl-C.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use panacea_test_support::TinyModel;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;

use crate::chat::{GREEDY, piped};
use crate::desk::{Desk, wait_for};

/// Ctrl-C: the answer ends, what was said is kept, and the conversation goes on; where nothing is written, it ends the chat.
#[test]
fn ctrl_c_ends_an_answer_and_keeps_it() {
    let interrupt = |child: &Child| {
        let kill = format!("kill -INT {}", child.id());
        let killed = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(killed.success());
    };
    let desk = Desk::new();
    // One whose answers do not end by themselves.
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 272, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "hidden_act": "silu", "max_position_embeddings": 100_000, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
        "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": 3
    });
    fs::create_dir(desk.path("endless")).unwrap();
    TinyModel::well_behaved(config, 0.2).write(&desk.path("endless"));
    let mut child = piped(&desk, "--model endless --greedy --max-new-tokens 90000");
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    input.write_all(b"hello\n").unwrap();
    let mut begun = Vec::new();
    // An answer of spaces is none.
    while begun.iter().all(u8::is_ascii_whitespace) {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        begun.extend(byte);
    }
    interrupt(&child);
    input.write_all(b"/save talk.jsonl\n").unwrap();
    drop(input);
    let mut text = begun;
    output.read_to_end(&mut text).unwrap();
    let ended = child.wait_with_output().unwrap();
    let error = String::from_utf8(ended.stderr).unwrap();
    assert!(
        ended.status.success() && error.contains("[stopped]"),
        "{error}"
    );
    let saved = desk.json("talk.jsonl");
    let said = saved["messages"][1]["content"].as_str().unwrap();
    assert!(!said.is_empty());
    assert_eq!(String::from_utf8(text).unwrap(), format!("{said}\n"));

    let mut child = piped(&desk, "--model endless");
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"/help\n").unwrap();
    wait_for(&mut child, "Ctrl-C ends an answer");
    // It may not wait for the next line yet.
    let ended = loop {
        interrupt(&child);
        thread::sleep(Duration::from_millis(20));
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
    };
    assert_eq!(ended.code(), Some(130));
}

/// A person at a terminal: what it prints is kept, and waited for.
struct Person {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Person {
    fn at(desk: &Desk, command: &str) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let name = name.into_string().unwrap();
        let terminal = || File::options().read(true).write(true).open(&name).unwrap();
        let child = desk
            .command(command)
            .env("TERM", "xterm")
            .stdin(terminal())
            .stdout(terminal())
            .stderr(terminal())
            .spawn()
            .unwrap();
        let keyboard = File::from(keyboard);
        let mut output = keyboard.try_clone().unwrap();
        let (sender, screen) = channel();
        // Where nobody holds the terminal any more, reading is an error.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            keyboard,
            screen,
            seen: String::new(),
        }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// What stands on the screen up to `text`, which is waited for; what comes next begins behind it.
    #[track_caller]
    fn sees(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            match self.screen.recv_timeout(Duration::from_secs(600)) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(_) => panic!("no {text:?} in {:?}", self.seen),
            }
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        // It has ended already, but for a test that fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// At a terminal: a mistake ends nothing, Ctrl-C clears a line, Ctrl-D leaves, and what was typed is there again later.
#[test]
fn a_person_at_a_terminal_may_err_and_take_it_back() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first --steps 2");
    let mut person = Person::at(&desk, &format!("chat {GREEDY}"));
    person.sees("first answers at helpfulness=0.5,conciseness=0.5");
    person.sees(".chat-history");
    person.sees("> ");
    person.types("hello\r");
    person.sees("[cut after 12 tokens");
    person.sees("> ");
    person.types("/nonsense\r");
    person.sees("there is no command /nonsense");
    person.sees("> ");
    person.types("half a question\u{3}/preference 1,3\r");
    person.sees("λ: helpfulness=0.25,conciseness=0.75");
    person.sees("> ");
    person.types("\u{4}");
    assert!(person.child.wait().unwrap().success());

    let kept = desk.path("runs/.chat-history");
    let lines = fs::read_to_string(&kept).unwrap();
    assert!(
        lines.ends_with("hello\n/nonsense\n/preference 1,3\n"),
        "{lines}"
    );
    let mode = fs::metadata(&kept).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // Up arrow: the last line of the time before.
    let mut person = Person::at(&desk, &format!("chat {GREEDY}"));
    person.sees("> ");
    person.types("\u{1b}[A\r");
    person.sees("divided by their sum, 4");
    person.sees("> ");
    person.types("\u{3}");
    person.sees("once more");
    person.sees("> ");
    person.types("\u{3}");
    assert!(person.child.wait().unwrap().success());
}

/// A person is asked before a run goes, and whatever is no yes leaves it.
#[test]
fn a_person_is_asked_before_a_run_is_removed() {
    let desk = Desk::new();
    desk.succeed("train --config run.toml --run first --steps 1");
    for (answer, outcome) in [("\r", "nothing was removed"), ("y\r", "removed runs/first")] {
        assert!(desk.path("runs/first").exists());
        let mut person = Person::at(&desk, "runs rm first");
        person.sees("runs/first: finished, step 1 of 1; 0 evaluations; ");
        person.sees("Remove 1 run, ");
        person.sees("[y/N] ");
        person.types(answer);
        person.sees(outcome);
        assert!(person.child.wait().unwrap().success());
    }
    assert!(!desk.path("runs/first").exists());
}
