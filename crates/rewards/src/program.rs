//! A program of the user's that reads records and writes numbers.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Map, json};

use crate::error::{ScoreError, SpecError, quoted};
use crate::scorer::{Sample, Scorer, Verdict};

/// The scorer of a program, which lives from call to call.
pub(crate) struct Program {
    name: String,
    /// The longest wait for a number.
    limit: Duration,
    /// The column whose text it sees as the reference.
    reference: Option<String>,
    process: Process,
}

impl Program {
    pub(crate) fn new(
        name: String,
        command: &[String],
        folder: &Path,
        seconds: u64,
        reference: Option<String>,
    ) -> Result<Self, SpecError> {
        let process = Process::start(command, folder).map_err(|error| {
            let found = format!("{} ({error})", quoted(&command[0]));
            let place = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            let expected = format!(
                "a program that can be started; correct the path, which begins in {} where it is relative, or install it",
                place.display()
            );
            SpecError::new("program", found, expected)
        })?;
        Ok(Self {
            name,
            limit: Duration::from_secs(seconds),
            reference,
            process,
        })
    }

    /// A number that is left from an earlier call would shift all that follow.
    fn check_idle(&mut self) -> Result<(), String> {
        match self.process.output.try_recv() {
            Ok(line) => Err(unasked(&line)),
            Err(TryRecvError::Disconnected) => Err(self.process.ended()),
            Err(TryRecvError::Empty) => Ok(()),
        }
    }

    fn number(&mut self) -> Result<f64, String> {
        match self.process.output.recv_timeout(self.limit) {
            Ok(line) => line.parse().map_err(|_| {
                let line = quoted(&line);
                let stderr = self.process.last_words();
                format!("the program printed {line}, {EXPECTED}; {stderr}")
            }),
            Err(RecvTimeoutError::Disconnected) => Err(self.process.ended()),
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "the program gave no number for {} s; raise `timeout_seconds`, or see that it flushes every number at once (in Python: `print(score, flush=True)`); {}",
                self.limit.as_secs(),
                self.process.last_words()
            )),
        }
    }
}

fn unasked(line: &str) -> String {
    let line = quoted(line);
    format!("the program printed {line} without having been asked, {EXPECTED}")
}

const EXPECTED: &str =
    "expected one number for each line that it reads; let it print everything else to stderr";

impl Scorer for Program {
    fn name(&self) -> &str {
        &self.name
    }

    fn waits(&self) -> bool {
        true
    }

    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, ScoreError> {
        self.check_idle()
            .map_err(|problem| ScoreError::new(&self.name, None, problem))?;
        // A writer that has stopped is the program's doing, and shows in its output.
        let lines = lines_of(samples, self.reference.as_deref());
        self.process.input.send(lines).ok();
        let scores = samples.iter().map(|sample| {
            let number = self.number().map(Verdict::from);
            number.map_err(|problem| ScoreError::new(&self.name, Some(sample), problem))
        });
        let scores = scores.collect::<Result<_, _>>();
        // One number too many, and it is not known which of them were for which answer.
        let scores = scores.and_then(|scores| match self.process.output.try_recv() {
            Ok(line) => Err(ScoreError::new(&self.name, None, unasked(&line))),
            Err(_) => Ok(scores),
        });
        // Its answers belong to no question from here on.
        scores.inspect_err(|_| self.process.kill())
    }
}

/// A running program. Three threads stand at its three streams, so that neither side ever waits for the other to read.
struct Process {
    child: Child,
    /// Lines for its standard input, which closes when this is dropped.
    input: Sender<Vec<u8>>,
    /// The lines of its standard output; no more when that has ended.
    output: Receiver<String>,
    stderr: LastLines,
    /// The longest wait for what ends at about the same time as something else has ended.
    moment: Duration,
}

impl Process {
    /// Starts the command in this folder. A name without a slash is looked for where programs are.
    fn start(command: &[String], folder: &Path) -> io::Result<Self> {
        let program = match command[0].contains(std::path::is_separator) {
            // Systems differ in whether a relative path begins in the folder that the program is started in.
            true => std::path::absolute(folder.join(&command[0]))?,
            false => PathBuf::from(&command[0]),
        };
        let mut command_line = Command::new(program);
        command_line
            .args(&command[1..])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A process group: the program is killed with all that it has started, and Ctrl-C, which lets a training
        // finish its step, does not end it in the middle.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command_line, 0);
        let mut child = command_line.spawn()?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three streams are piped");
        };

        let (input, batches) = channel::<Vec<u8>>();
        thread::spawn(move || batches.iter().try_for_each(|batch| stdin.write_all(&batch)));

        // Bounded, so that a program which prints without end is held up rather than remembered.
        const WAITING_LINES: usize = 4096;
        let (lines, output) = sync_channel(WAITING_LINES);
        thread::spawn(move || read_lines(stdout, |line| lines.send(line).is_ok()));

        Ok(Self {
            child,
            input,
            output,
            stderr: LastLines::of(stderr),
            moment: Duration::from_millis(500),
        })
    }

    /// What is to be said once the standard output has ended, which it does a moment before the process.
    fn ended(&mut self) -> String {
        let status = within(self.moment, || self.child.try_wait().ok().flatten());
        let status = status.map_or("it closed its output".to_owned(), |it| it.to_string());
        let stderr = self.last_words();
        format!(
            "the program has ended ({status}), expected it to go on until its input ends; {stderr}"
        )
    }

    fn last_words(&self) -> String {
        self.stderr.shown(self.moment)
    }

    fn kill(&mut self) {
        // The number of a process that was waited for may be somebody else's by now.
        if let Ok(None) = self.child.try_wait() {
            #[cfg(unix)]
            kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn lines_of(samples: &[Sample<'_>], reference: Option<&str>) -> Vec<u8> {
    let none = Map::new();
    let mut lines = String::new();
    for (i, sample) in samples.iter().enumerate() {
        let line = json!({
            "prompt": sample.prompt,
            "messages": sample.turns,
            "variables": sample.variables.unwrap_or(&none),
            "response": sample.response,
            "response_tokens": sample.response_tokens,
            "reference": sample.reference_in(reference),
            "origin": sample.origin,
            "left": samples.len() - 1 - i,
        });
        lines.push_str(&line.to_string());
        lines.push('\n');
    }
    lines.into_bytes()
}

/// Hands on the lines of a stream until it ends or nobody wants them. One of many megabytes comes in pieces.
fn read_lines(stream: impl Read, mut hand_on: impl FnMut(String) -> bool) {
    const LONGEST_LINE: u64 = 1 << 16;
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = stream
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) || !hand_on(String::from_utf8_lossy(&line).trim().to_owned()) {
            return;
        }
    }
}

/// The last lines of a program's standard error.
struct LastLines {
    lines: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
}

impl LastLines {
    fn of(stderr: impl Read + Send + 'static) -> Self {
        const KEPT: usize = 10;
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let last = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            read_lines(stderr, |line| {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                last.push_back(line);
                if last.len() > KEPT {
                    last.pop_front();
                }
                true
            });
        });
        Self { lines, reader }
    }

    /// The lines below one another, after a moment for those that are still on their way.
    fn shown(&self, moment: Duration) -> String {
        within(moment, || self.reader.is_finished().then_some(()));
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return "it wrote nothing to stderr".to_owned();
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        format!("its last lines on stderr:\n  {}", lines.join("\n  "))
    }
}

/// Asks again and again until there is an answer, or for so long.
fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..limit.as_millis() / PAUSE.as_millis() {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        thread::sleep(PAUSE);
    }
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::scorer::Turn;
    use crate::scorer::tests::{assert_says, numbers, sample};

    /// A program that has all the time it may need on a machine with much else to do.
    fn shell(script: &str) -> Program {
        const LONG: u64 = 60;
        let mut program = shell_within(script, LONG);
        program.process.moment = Duration::from_secs(LONG);
        program
    }

    fn shell_within(script: &str, seconds: u64) -> Program {
        let command = ["sh", "-c", script].map(str::to_owned);
        Program::new(
            "program judge".to_owned(),
            &command,
            Path::new("."),
            seconds,
            None,
        )
        .unwrap()
    }

    fn error(program: &mut Program) -> ScoreError {
        program.score(&[sample("a", "b")]).unwrap_err()
    }

    #[test]
    fn a_program_lives_from_call_to_call() {
        let script = "n=0; while read -r line; do n=$((n+1)); echo $n.5; done";
        let mut program = shell(script);
        let two = [sample("a", "b"), sample("c", "d")];
        assert_eq!(numbers(program.score(&two).unwrap()), [1.5, 2.5]);
        assert_eq!(program.score(&[]).unwrap(), []);
        assert_eq!(numbers(program.score(&two[..1]).unwrap()), [3.5]);
    }

    #[test]
    fn a_line_holds_one_record() {
        let lines = lines_of(&[sample("a\n\"b\"", "c"), sample("d", "e")], None);
        let expected = r#"{"prompt":"a\n\"b\"","messages":[],"variables":{},"response":"c","response_tokens":1,"reference":null,"origin":"train.jsonl:12","left":1}
{"prompt":"d","messages":[],"variables":{},"response":"e","response_tokens":1,"reference":null,"origin":"train.jsonl:12","left":0}
"#;
        assert_eq!(String::from_utf8(lines).unwrap(), expected);
    }

    /// The programs that `docs/scorers.md` shows, as they stand there.
    #[test]
    fn programs_of_the_documentation_score() {
        let page = include_str!("../../../docs/scorers.md");
        let programs: Vec<&str> = (page.split("```python\n").skip(1))
            .filter_map(|behind| Some(behind.split_once("```")?.0))
            .collect();
        assert_eq!(programs.len(), 2);
        let (stiff, plain) = (
            sample("a", "We utilise it."),
            sample("a", "We really use it."),
        );
        let expected = [[-1.0 / 3.0, 0.0], [-14.0 / 17.0, -1.0]];
        for (program, expected) in programs.into_iter().zip(expected) {
            let command = ["python3", "-c", program].map(str::to_owned);
            let started = Program::new("documented".to_owned(), &command, Path::new("."), 60, None);
            let mut program = match started {
                Ok(program) => program,
                Err(error) => return eprintln!("not checked, for there is no python3: {error}"),
            };
            for _ in 0..2 {
                let scores = numbers(program.score(&[stiff, plain]).unwrap());
                assert_eq!(scores, expected);
            }
        }
    }

    /// A turn without a text is one, and what it has instead is there.
    #[test]
    fn turns_are_as_the_record_has_them() {
        let turns = json!([
            {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "hours", "arguments": {"z": 1, "a": null}}}]},
            {"role": "assistant", "reasoning_content": "hm"}
        ]);
        let as_turns: Vec<Turn> = serde_json::from_value(turns.clone()).unwrap();
        let variables = json!({"tools": [{"type": "function"}]});
        let sample = Sample {
            turns: &as_turns,
            variables: variables.as_object(),
            reference: Some("own"),
            ..sample("d", "e")
        };
        let line = String::from_utf8(lines_of(&[sample], None)).unwrap();
        assert!(
            line.contains(&format!(r#""messages":{turns},"variables":{variables},"#)),
            "{line}"
        );
        assert!(line.contains(r#""reference":"own""#), "{line}");
        // Another column than the record's own response.
        let line = String::from_utf8(lines_of(&[sample], Some("answer"))).unwrap();
        assert!(line.contains(r#""reference":null"#), "{line}");
    }

    #[test]
    fn large_batches_do_not_block() {
        // Far more than a pipe holds goes through each of the three.
        let script = r#"while read -r line; do echo "$line" >&2; printf '%0200d\n' 1; done"#;
        let response = "word ".repeat(400);
        let samples = vec![sample("a prompt", &response); 1000];
        let scores = shell(script).score(&samples).unwrap();
        assert_eq!(numbers(scores), vec![1.0; 1000]);
    }

    #[test]
    fn a_batch_may_be_gathered_before_it_is_answered() {
        let script = r#"n=0; while read -r line; do n=$((n+1)); case "$line" in
            *'"left":0}') while [ $n -gt 0 ]; do echo $n; n=$((n-1)); done;; esac; done"#;
        let samples = vec![sample("a", "b"); 3];
        let scores = shell(script).score(&samples).unwrap();
        assert_eq!(numbers(scores), [3.0, 2.0, 1.0]);
    }

    #[test]
    fn a_program_that_ends_is_named_with_its_last_words() {
        let error = error(&mut shell("read -r line; echo no model >&2; exit 3"));
        let end = "until its input ends; its last lines on stderr:\n  no model";
        assert_says(
            &error,
            "program judge, train.jsonl:12: the program has ended (exit status: 3), ",
        );
        assert_says(&error, end);
    }

    #[test]
    fn a_program_that_prints_something_else_is_told() {
        let error = error(&mut shell("read -r line; echo very good"));
        assert_says(
            error,
            "the program printed \"very good\", expected one number for each line",
        );
    }

    #[test]
    fn a_number_too_many_does_not_shift_the_next() {
        let mut program = shell(r"while read -r line; do printf '1\n2\n'; done");
        // At once, where the second number is here by then; else asked for nothing, until it is.
        let error = program.score(&[sample("a", "b")]).err();
        let error = error.or_else(|| within(Duration::from_secs(60), || program.score(&[]).err()));
        assert_says(
            error.expect("the second number is noticed"),
            "printed \"2\" without having been asked",
        );
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_all_that_it_started() {
        // It never gives a number, so that the time is up on every machine.
        let mut program = shell_within("sh -c 'sleep 600; true'; true", 1);
        assert_says(
            error(&mut program),
            "gave no number for 1 s; raise `timeout_seconds`",
        );
        program.limit = Duration::from_secs(60);
        // Its output would be open still if the inner shell lived.
        assert_says(error(&mut program), "has ended (signal: 9 (SIGKILL))");
    }

    #[test]
    fn relative_paths_begin_in_the_folder_of_the_program() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let judge = folder.path().join("judge.sh");
        std::fs::write(
            &judge,
            "#!/bin/sh\nwhile read -r line; do cat number; done\n",
        )
        .unwrap();
        std::fs::set_permissions(&judge, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(folder.path().join("number"), "4.5\n").unwrap();
        for command in [&["./judge.sh"][..], &["sh", "judge.sh"]] {
            let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            let name = "program judge".to_owned();
            let mut program = Program::new(name, &command, folder.path(), 60, None).unwrap();
            assert_eq!(numbers(program.score(&[sample("a", "b")]).unwrap()), [4.5]);
        }
        let command = ["./absent.sh".to_owned()];
        let error = Program::new(
            "program judge".to_owned(),
            &command,
            folder.path(),
            60,
            None,
        );
        let place = folder.path().display().to_string();
        assert_says(error.map(drop).unwrap_err(), &format!("begins in {place}"));
    }

    #[test]
    fn a_program_that_is_not_there_is_refused() {
        let command = ["/nowhere/judge".to_owned()];
        let error = Program::new(String::new(), &command, Path::new("."), 1, None)
            .err()
            .unwrap();
        assert_says(error, "`program`: found \"/nowhere/judge\" (No such file");
    }
}
