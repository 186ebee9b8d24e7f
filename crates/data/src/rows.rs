//! Files as a stream of rows: JSON Lines, JSON arrays, Parquet; the first two also gzipped.
//!
//! All are read piece by piece. A record of a gzipped file that is out of all proportion to the file is refused before it is in
//! memory: a few KB may be gzipped from gigabytes.
//!
//! Whether a text file holds lines or an array is told by its first character, not by its
//! name: many files called `.json` hold lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use panacea_files::is_lfs_pointer;
use serde_json::Value;

use crate::array::{self, Broken};

use crate::error::{DataError, FieldProblem, RecordProblem};
use crate::parquet_rows;
use crate::readers::fields::{Row, describe};
use crate::record::Source;
use crate::visit::{Visit, spread_turns};

/// Where rows are read from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// A file, whose name says what it is.
    File(&'a Path),
    /// JSON that was read already, under this name.
    Json(&'a Path, &'a [u8]),
}

impl<'a> Rows<'a> {
    /// The name that messages have for them.
    pub(crate) fn name(self) -> &'a Path {
        match self {
            Self::File(name) | Self::Json(name, _) => name,
        }
    }
}

/// Calls `visit` with every row, and stops at the first error.
pub(crate) fn for_each_row(rows: Rows<'_>, visit: &mut Visit<'_>) -> Result<(), DataError> {
    let file = rows.name();
    let found = match rows {
        Rows::File(_) => for_each_of_file(file, visit)?,
        Rows::Json(_, bytes) => {
            refuse_pointer(file, bytes)?;
            for_each_json(file, bytes, usize::MAX, visit)?
        }
    };
    if found == 0 {
        return Err(DataError::EmptyFile {
            file: file.to_owned(),
        });
    }
    Ok(())
}

fn for_each_of_file(file: &Path, visit: &mut Visit<'_>) -> Result<usize, DataError> {
    let kind = FileKind::of(file)?;
    let opened = File::open(file).map_err(|error| read_error(file, error))?;
    let mut opened = BufReader::new(opened);
    let begin = opened.fill_buf().map_err(|error| read_error(file, error))?;
    refuse_pointer(file, begin)?;
    match kind {
        FileKind::Parquet => parquet_rows::for_each_row(file, opened.into_inner(), visit),
        FileKind::Text => for_each_json(file, opened, usize::MAX, visit),
        FileKind::Gzip => {
            let metadata = opened.get_ref().metadata();
            let length = metadata.map_err(|error| read_error(file, error))?.len();
            let longest = ROOM.saturating_add(TIMES.saturating_mul(length as usize));
            let opened = BufReader::new(MultiGzDecoder::new(opened));
            for_each_json(file, opened, longest, visit)
        }
    }
}

/// Refuses a file that begins like a Git LFS pointer.
pub(crate) fn refuse_pointer(file: &Path, begin: &[u8]) -> Result<(), DataError> {
    match is_lfs_pointer(begin) {
        true => Err(DataError::LfsPointer {
            file: file.to_owned(),
        }),
        false => Ok(()),
    }
}

/// Whether a text without a name holds records: it begins with an object, or a list of objects.
pub(crate) fn is_json(text: &[u8]) -> bool {
    let begun = without_mark(text).trim_ascii_start();
    match begun.strip_prefix(b"[") {
        Some(inside) => inside.trim_ascii_start().starts_with(b"{"),
        None => begun.starts_with(b"{"),
    }
}

/// A text without the mark that some editors begin it with.
pub(crate) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

pub(crate) enum FileKind {
    Text,
    Gzip,
    Parquet,
}

impl FileKind {
    pub(crate) fn of(file: &Path) -> Result<Self, DataError> {
        let wrong = |found: &str| DataError::FileType {
            file: file.to_owned(),
            found: found.to_owned(),
        };
        if file.is_dir() {
            return Err(wrong("a folder"));
        }
        let name = file
            .file_name()
            .map(|name| name.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        let (name, gzipped) = match name.strip_suffix(".gz") {
            Some(inner) => (inner, true),
            None => (name.as_str(), false),
        };
        let is_json = [".jsonl", ".ndjson", ".json"]
            .iter()
            .any(|ending| name.ends_with(ending));
        match (is_json, gzipped) {
            (true, false) => Ok(Self::Text),
            (true, true) => Ok(Self::Gzip),
            (false, false) if name.ends_with(".parquet") => Ok(Self::Parquet),
            (false, true) if name.ends_with(".parquet") => {
                Err(wrong("a gzipped Parquet file (Parquet compresses inside)"))
            }
            _ => Err(wrong("another name")),
        }
    }
}

/// Bytes that a record of a gzipped file may have without regard to the file.
const ROOM: usize = 16 << 20;
/// How many more it may have for each byte of the file: gzip's own limit is about 1000, and words come nowhere near this.
const TIMES: usize = 64;

/// Visits records of at most `longest` bytes.
fn for_each_json(
    file: &Path,
    reader: impl BufRead,
    longest: usize,
    visit: &mut Visit<'_>,
) -> Result<usize, DataError> {
    let failed = |error| line_error(file, 1, &error);
    let (mut begin, mut reader) = behind_mark(reader).map_err(failed)?;
    begin.skip_space(&mut reader).map_err(failed)?;
    let first = reader.fill_buf().map_err(failed)?.first();
    match first {
        Some(b'[') => for_each_element(file, reader, begin, longest, visit),
        _ => for_each_line(file, reader, begin, longest, visit),
    }
}

/// The memory of a longer line is not kept for the next one.
const LONG_LINE: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Where the first record begins.
struct Begin {
    /// From 1.
    line: usize,
    /// Bytes of its line that stand before it.
    before: usize,
}

/// What is behind a byte order mark, if there is one.
fn behind_mark(mut reader: impl BufRead) -> io::Result<(Begin, impl BufRead)> {
    let mut head = Vec::new();
    let most = BYTE_ORDER_MARK.len() as u64;
    reader.by_ref().take(most).read_to_end(&mut head)?;
    let before = match head == BYTE_ORDER_MARK {
        true => std::mem::take(&mut head).len(),
        false => 0,
    };
    Ok((Begin { line: 1, before }, Cursor::new(head).chain(reader)))
}

impl Begin {
    /// Reads up to the first byte that says something.
    fn skip_space(&mut self, reader: &mut impl BufRead) -> io::Result<()> {
        while let Some(&byte) = reader.fill_buf()?.first()
            && byte.is_ascii_whitespace()
        {
            reader.consume(1);
            self.before += 1;
            if byte == b'\n' {
                *self = Self {
                    line: self.line + 1,
                    before: 0,
                };
            }
        }
        Ok(())
    }
}

fn for_each_line(
    file: &Path,
    mut reader: impl BufRead,
    begin: Begin,
    longest: usize,
    visit: &mut Visit<'_>,
) -> Result<usize, DataError> {
    let Begin {
        mut line,
        mut before,
    } = begin;
    let mut bytes = Vec::new();
    let mut rows = 0;
    loop {
        let is_whole = next_line(&mut reader, &mut bytes, longest);
        let is_whole = is_whole.map_err(|error| line_error(file, line, &error))?;
        if bytes.is_empty() {
            return Ok(rows);
        }
        let marked = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        let begun = marked.trim_ascii_start();
        let text = begun.trim_ascii_end();
        if !text.is_empty() {
            let row = match is_whole {
                true => row_of(text, before + bytes.len() - begun.len()),
                false => Err(RecordProblem::TooLarge { longest }),
            };
            if bytes.capacity() > LONG_LINE {
                bytes = Vec::new();
            }
            visit(Source::new(file, line), row)?;
            rows += 1;
        }
        line += 1;
        before = 0;
    }
}

/// Reads a line; false where it is longer than any record: its end is then not kept. At the end of the file it is empty.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>, longest: usize) -> io::Result<bool> {
    line.clear();
    let most = (longest as u64).saturating_add(1);
    reader.by_ref().take(most).read_until(b'\n', line)?;
    if line.capacity() > LONG_LINE {
        // It was doubled until the line had room.
        line.shrink_to_fit();
    }
    if line.len() <= longest || line.ends_with(b"\n") {
        return Ok(true);
    }
    loop {
        let more = reader.fill_buf()?;
        match more.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                reader.consume(end + 1);
                return Ok(false);
            }
            None if more.is_empty() => return Ok(false),
            None => {
                let length = more.len();
                reader.consume(length);
            }
        }
    }
}

/// The row of a line, which stands behind `before` bytes that say nothing.
fn row_of(line: &[u8], before: usize) -> Result<Row, RecordProblem> {
    let text = std::str::from_utf8(line).map_err(|error| RecordProblem::NotUtf8 {
        byte: before + error.valid_up_to() + 1,
    })?;
    let value = serde_json::from_str(text).map_err(|error| RecordProblem::Json {
        column: before + error.column(),
        message: without_place(&error),
    })?;
    object(value)
}

/// Reads the whole file as one array.
fn for_each_element(
    file: &Path,
    reader: impl BufRead,
    begin: Begin,
    longest: usize,
    visit: &mut Visit<'_>,
) -> Result<usize, DataError> {
    let mut rows = 0;
    let read = array::for_each_element(reader, longest, |element| {
        rows += 1;
        visit(Source::new(file, rows), object(element))
    });
    // What is broken here is the file, and no record can be left out.
    match read {
        Ok(()) => Ok(rows),
        Err(Broken::Refused(error)) => Err(error),
        Err(Broken::TooLong) => Err(RecordProblem::TooLarge { longest }
            .of(Source::new(file, rows + 1))
            .into()),
        Err(Broken::Read(error)) => Err(read_error(file, error)),
        Err(Broken::Json(error)) => {
            let before = if error.line() == 1 { begin.before } else { 0 };
            let problem = RecordProblem::Json {
                column: before + error.column(),
                message: without_place(&error),
            };
            let line = begin.line + error.line() - 1;
            Err(problem.of(Source::new(file, line)).into())
        }
    }
}

fn object(value: Value) -> Result<Row, RecordProblem> {
    match value {
        Value::Object(mut row) => {
            row.values_mut().for_each(spread_turns);
            Ok(row)
        }
        other => Err(RecordProblem::Field(FieldProblem {
            field: "(the record)".to_owned(),
            found: describe(&other),
            expected: "an object".to_owned(),
        })),
    }
}

/// serde_json's message without its own line and column: a line of a file is its line 1.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(end) => message[..end].to_owned(),
        None => message,
    }
}

fn read_error(file: &Path, error: io::Error) -> DataError {
    DataError::Read {
        file: file.to_owned(),
        error,
    }
}

fn line_error(file: &Path, line: usize, error: &io::Error) -> DataError {
    let message = format!("line {line}: {error}");
    read_error(file, io::Error::new(error.kind(), message))
}
