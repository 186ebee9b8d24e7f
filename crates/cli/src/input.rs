//! What people give to commands: records and prompts in files, read as training reads its own, and how conversations are written.

use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow, bail};
use clap::Args;
use panacea_config::{InputPlan, Plan};
use panacea_data::{
    Conversations, DataError, DataReport, Example, Rendered, Responses, TextEncoder,
};
use panacea_pretrained::{ChatOptions, Message, Pretrained, Prompt, UnreadKey};

/// The name of a file that is standard input.
pub const STDIN: &str = "-";

/// What messages call standard input.
const STDIN_NAME: &str = "standard input";

/// How conversations are written.
#[derive(Args)]
pub struct ChatArguments {
    /// How conversations are written, as training's --set and section `model` say it: model.template.NAME=VALUE (a variable of the
    /// chat template, such as enable_thinking, or its date), model.chat_template=FILE, model.tokenizer=FOLDER. May be given
    /// often; it goes before what a run says.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ChatArguments {
    /// What `run` says of it, under what was set.
    pub fn over(&self, run: Option<&Plan>) -> Result<ChatOptions> {
        let input = InputPlan::resolve(run, &self.set, &[&InputPlan::CHAT_KEYS])?;
        Ok(input.chat)
    }
}

/// How conversations are written, and files read.
#[derive(Args)]
pub struct InputArguments {
    /// How files are read and conversations written, as training's --set and sections `data` and `model` say it: data.format=NAME,
    /// data.rendered=true, data.bad_records=skip, data.max_skipped=SHARE; model.template.NAME=VALUE (a variable of the chat
    /// template, such as enable_thinking, or its date), model.chat_template=FILE, model.tokenizer=FOLDER. May be given often;
    /// it goes before what the run says, which is taken for all else.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl InputArguments {
    /// What `run` says of it, under what was set.
    pub fn over(&self, run: Option<&Plan>) -> Result<InputPlan> {
        let keys: [&[&str]; 2] = [&InputPlan::CHAT_KEYS, &InputPlan::RECORD_KEYS];
        let input = InputPlan::resolve(run, &self.set, &keys)?;
        for warning in &input.warnings {
            warn!("{warning}");
        }
        Ok(input)
    }
}

/// The records of a file, or of standard input, with their responses in tokens; at least one. The report goes to standard error.
pub fn read_records(file: &Path, plan: &InputPlan, model: &Pretrained) -> Result<Vec<Example>> {
    let input = match file == Path::new(STDIN) {
        true => Records::Json(Path::new(STDIN_NAME), all_of_stdin()?),
        false => Records::File(file),
    };
    let input = Input::Records(input);
    input.read(Responses::Needed, plan, model)
}

/// The prompts of a file, or of standard input, in tokens; at least one. The prompt of each record, in any format that `train`
/// reads; of any other file every line that is not empty. The report goes to standard error.
pub fn read_prompts(file: &Path, plan: &InputPlan, model: &Pretrained) -> Result<Prompts> {
    let input = if file == Path::new(STDIN) {
        let (name, text) = (Path::new(STDIN_NAME), all_of_stdin()?);
        match Conversations::begin(&text) {
            true => Input::Records(Records::Json(name, text)),
            false => Input::Lines(name, text),
        }
    } else if Conversations::are_in(file) || file.is_dir() {
        Input::Records(Records::File(file))
    } else {
        Input::Lines(file, panacea_files::read(file)?)
    };
    Ok(Prompts {
        are_rendered: plan.rendered && !matches!(input, Input::Lines(..)),
        all: input.read(Responses::Unread, plan, model)?,
    })
}

/// What is to be answered.
pub struct Prompts {
    /// In tokens, at least one.
    pub all: Vec<Example>,
    /// Whether each is a text that already is what the chat template would write.
    pub are_rendered: bool,
}

/// Says on standard error what the chat template leaves out of a prompt of the command line, as the report does of those in files.
pub fn say_unread(prompt: &Prompt, messages: &[Message]) {
    for UnreadKey { turn, key } in prompt.unread() {
        let role = turn.map_or("", |turn| &messages[turn].role);
        warn!(
            "the chat template does not read `{key}` of the turn of {role}, so that nothing is made of it"
        );
    }
}

/// All that standard input has.
pub fn all_of_stdin() -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut text);
    read.context("cannot read standard input")?;
    Ok(text)
}

/// What is read.
enum Input<'a> {
    Records(Records<'a>),
    /// What a user says, line by line, under this name.
    Lines(&'a Path, Vec<u8>),
}

/// Where records are.
enum Records<'a> {
    /// In a file, whose name says what it is.
    File(&'a Path),
    /// In JSON, under this name.
    Json(&'a Path, Vec<u8>),
}

impl Input<'_> {
    fn read(
        &self,
        responses: Responses,
        plan: &InputPlan,
        model: &Pretrained,
    ) -> Result<Vec<Example>> {
        let tokenizer = model.tokenizer()?;
        let how = Conversations {
            responses,
            format: plan.format,
            tolerance: plan.tolerance,
            // Without a template nothing says again who speaks.
            as_written: plan.rendered || !tokenizer.has_template(),
            context: model.config().max_position_embeddings,
        };
        let (records, report) = match self {
            Self::Lines(name, text) => {
                for key in ["data.format", "data.rendered"] {
                    if plan.is_set(key) {
                        bail!(
                            "--set {key} says how records are read, but {} is a text, whose lines are what a user says; \
                             expected a file whose name ends in .jsonl, .ndjson, .json or .parquet",
                            name.display()
                        );
                    }
                }
                how.load_lines(name, text, tokenizer)?
            }
            Self::Records(records) => {
                let read = match plan.rendered {
                    true => records.load(&how, &Rendered(tokenizer)),
                    false => records.load(&how, tokenizer),
                };
                read.map_err(|error| with_advice(error, plan))?
            }
        };
        note!("{report}");
        Ok(records)
    }
}

impl Records<'_> {
    fn load(
        &self,
        how: &Conversations,
        encoder: &impl TextEncoder,
    ) -> Result<(Vec<Example>, DataReport), DataError> {
        match self {
            Self::File(file) => how.load(file, encoder),
            Self::Json(name, text) => how.load_json(name, text, encoder),
        }
    }
}

/// Says where the format comes from, where a record has another one than the run's.
fn with_advice(error: DataError, plan: &InputPlan) -> Error {
    let is_of_records = matches!(
        error,
        DataError::Record(_) | DataError::TooManyRefused { .. } | DataError::AllSkipped { .. }
    );
    match plan.format {
        Some(format) if is_of_records && !plan.is_set("data.format") => anyhow!(
            "{error}; the format `{format}` is data.format of the run: --set data.format=auto tells it by the columns"
        ),
        _ => error.into(),
    }
}
