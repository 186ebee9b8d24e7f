//! Where the lines of a chat come from: a person at a terminal, or a file or program.

use std::io::{self, IsTerminal, Lines as PlainLines, StdinLock};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{
    Cmd, ConditionalEventHandler, Config, Editor, Event, EventContext, EventHandler, KeyEvent,
    Movement, RepeatCount,
};
use signal_hook::consts::SIGINT;
use signal_hook::flag;

/// The file of what was typed, among the runs.
const HISTORY: &str = ".chat-history";
/// The lines of it that are kept, at most.
const KEPT: usize = 10_000;

/// Ctrl-C while an answer is written. The first one ends the answer; one more before that is noticed ends the process.
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn install() -> io::Result<Self> {
        const EXIT_INTERRUPTED: i32 = 130;
        let raised = Arc::new(AtomicBool::new(false));
        flag::register_conditional_shutdown(SIGINT, EXIT_INTERRUPTED, Arc::clone(&raised))?;
        flag::register(SIGINT, Arc::clone(&raised))?;
        Ok(Self(raised))
    }

    /// From here on Ctrl-C ends an answer.
    pub fn listen(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    pub fn is_asked_for(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// From here on Ctrl-C ends the process: there is nothing else to end.
    fn step_aside(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The lines, one after the other.
pub enum Lines {
    Terminal {
        editor: Box<Editor<(), FileHistory>>,
        /// Where they are kept; nowhere, where there are no runs.
        history: Option<PathBuf>,
    },
    Plain(PlainLines<StdinLock<'static>>),
}

impl Lines {
    /// With line editing where a person types and reads.
    pub fn open(runs: &Path) -> Result<Self> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(Self::Plain(io::stdin().lines()));
        }
        let config = Config::builder().max_history_size(KEPT)?.build();
        let mut editor = Box::new(Editor::with_config(config)?);
        let clear_first = EventHandler::Conditional(Box::new(ClearFirst));
        editor.bind_sequence(KeyEvent::ctrl('C'), clear_first);
        let mut history = runs.is_dir().then(|| runs.join(HISTORY));
        if let Some(path) = history.as_deref().filter(|path| path.exists())
            && let Err(error) = editor.load_history(path)
        {
            note!(
                "what was typed before is left out: {}: {error}",
                path.display()
            );
            history = None;
        }
        Ok(Self::Terminal { editor, history })
    }

    /// Whether a person reads what is printed.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// Where what is typed is kept.
    pub fn history(&self) -> Option<&Path> {
        match self {
            Self::Terminal { history, .. } => history.as_deref(),
            Self::Plain(_) => None,
        }
    }

    /// The next line; none where the person leaves, or the input ends.
    pub fn next(&mut self, stop: &Stop) -> Result<Option<String>> {
        let (editor, history) = match self {
            Self::Plain(lines) => {
                stop.step_aside();
                return Ok(lines.next().transpose()?);
            }
            Self::Terminal { editor, history } => (editor, history),
        };
        // Who wants to end an answer may be a moment late, and would lose the conversation.
        let mut is_warned = false;
        let line = loop {
            match editor.readline("> ") {
                Ok(line) => break line,
                Err(ReadlineError::Interrupted) if !is_warned => {
                    note!("Ctrl-C once more, or Ctrl-D, leaves");
                    is_warned = true;
                }
                Err(ReadlineError::Eof | ReadlineError::Interrupted) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        if !line.trim().is_empty() && editor.add_history_entry(&line)? {
            let kept = history.as_deref().map(|path| editor.append_history(path));
            if let Some(Err(error)) = kept {
                note!("what is typed is no longer kept: {error}");
                *history = None;
            }
        }
        Ok(Some(line))
    }
}

/// Ctrl-C clears what was typed; where there is nothing, it asks to leave.
struct ClearFirst;

impl ConditionalEventHandler for ClearFirst {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, context: &EventContext) -> Option<Cmd> {
        let is_empty = context.line().is_empty();
        (!is_empty).then_some(Cmd::Kill(Movement::WholeBuffer))
    }
}
