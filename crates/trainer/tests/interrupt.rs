//! Signals, sent to a process of its own: this test binary starts itself again as the process that is
//! interrupted.
#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use panacea_trainer::{EXIT_INTERRUPTED, Interrupt};

const ROLE: &str = "PANACEA_TEST_INTERRUPT_ROLE";

/// What the started process does; a test that passes at once when nobody gave it a role.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let interrupt = Interrupt::install().unwrap();
    println!("\nlistening");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(30) {
        if interrupt.requested() && role == "patient" {
            std::process::exit(EXIT_INTERRUPTED);
        }
        if interrupt.requested() {
            println!("\nrequested");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    std::process::exit(99);
}

fn start(role: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["role", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

fn wait_for(output: &mut BufReader<ChildStdout>, word: &str) {
    let mut line = String::new();
    while line.trim() != word {
        line.clear();
        assert_ne!(
            output.read_line(&mut line).unwrap(),
            0,
            "no line \"{word}\""
        );
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

#[test]
fn the_first_signal_lets_the_loop_stop_by_itself() {
    for name in ["INT", "TERM"] {
        let (mut child, mut output) = start("patient");
        wait_for(&mut output, "listening");
        signal(&child, name);
        assert_eq!(
            child.wait().unwrap().code(),
            Some(EXIT_INTERRUPTED),
            "{name}"
        );
    }
}

#[test]
fn the_second_signal_ends_a_loop_that_does_not_stop() {
    let (mut child, mut output) = start("stubborn");
    wait_for(&mut output, "listening");
    signal(&child, "INT");
    wait_for(&mut output, "requested");
    signal(&child, "INT");
    drop(output);
    assert_eq!(child.wait().unwrap().code(), Some(EXIT_INTERRUPTED));
}
