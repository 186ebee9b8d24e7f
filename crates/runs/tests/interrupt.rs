//! Signals, sent to a process of its own: this test binary starts itself again as the process that is
//! interrupted.
#![cfg(unix)]

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use panacea_runs::{EXIT_INTERRUPTED, Interrupt};

const ROLE: &str = "PANACEA_TEST_INTERRUPT_ROLE";

/// What the started process does; a test that passes at once when nobody gave it a role.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    // It lives as long as the test that holds the other end of its input, however slow the machine is.
    thread::spawn(|| {
        io::copy(&mut io::stdin(), &mut io::sink()).ok();
        std::process::exit(99);
    });
    let interrupt = Interrupt::install().unwrap();
    println!("\nlistening");
    while !interrupt.requested() {
        thread::sleep(Duration::from_millis(5));
    }
    if role == "patient" {
        std::process::exit(EXIT_INTERRUPTED);
    }
    println!("\nrequested");
    loop {
        thread::park();
    }
}

/// A started process, its input and its output.
struct Started {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

fn start(role: &str) -> Started {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["role", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Taken out of it, since waiting for a child closes the input that it still has.
    let input = child.stdin.take().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    Started {
        child,
        input,
        output,
    }
}

impl Started {
    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while line.trim() != word {
            line.clear();
            assert_ne!(
                self.output.read_line(&mut line).unwrap(),
                0,
                "no line \"{word}\""
            );
        }
    }

    /// By the shell's own `kill`: not every machine has a program of that name.
    fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    fn end(mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        drop(self.input);
        status
    }
}

#[test]
fn the_first_signal_lets_the_loop_stop_by_itself() {
    for name in ["INT", "TERM"] {
        let mut started = start("patient");
        started.wait_for("listening");
        started.signal(name);
        assert_eq!(started.end().code(), Some(EXIT_INTERRUPTED), "{name}");
    }
}

#[test]
fn the_second_signal_ends_a_loop_that_does_not_stop() {
    let mut started = start("stubborn");
    started.wait_for("listening");
    started.signal("INT");
    started.wait_for("requested");
    started.signal("INT");
    assert_eq!(started.end().code(), Some(EXIT_INTERRUPTED));
}
