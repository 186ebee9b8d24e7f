//! Files as a stream of rows: JSON Lines, JSON arrays, Parquet; the first two also gzipped.
//!
//! JSON Lines and Parquet are read piece by piece; a JSON array must fit into memory once.
//! Whether a text file holds lines or an array is told by its first character, not by its
//! name: many files called `.json` hold lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use panacea_files::is_lfs_pointer;
use serde_json::Value;

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
            for_each_json(file, bytes, visit)?
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
        FileKind::Text => for_each_json(file, opened, visit),
        FileKind::Gzip => for_each_json(file, BufReader::new(MultiGzDecoder::new(opened)), visit),
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

fn for_each_json(
    file: &Path,
    mut reader: impl BufRead,
    visit: &mut Visit<'_>,
) -> Result<usize, DataError> {
    let mut line = Vec::new();
    let mut line_number = 0;
    let mut rows = 0;
    while next_line(file, &mut reader, &mut line, &mut line_number)? {
        let marked = without_mark(&line);
        let begun = marked.trim_ascii_start();
        let text = begun.trim_ascii_end();
        if text.is_empty() {
            continue;
        }
        if rows == 0 && text.starts_with(b"[") {
            return for_each_element(file, reader, line, line_number, visit);
        }
        let row = row_of(text, line.len() - begun.len());
        if line.capacity() > LONG_LINE {
            line = Vec::new();
        }
        visit(Source::new(file, line_number), row)?;
        rows += 1;
    }
    Ok(rows)
}

/// The memory of a longer line is not kept for the next one.
const LONG_LINE: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

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

/// Reads a line and its number; false at the end of the file.
fn next_line(
    file: &Path,
    reader: &mut impl BufRead,
    line: &mut Vec<u8>,
    line_number: &mut usize,
) -> Result<bool, DataError> {
    line.clear();
    *line_number += 1;
    let read = reader.read_until(b'\n', line).map_err(|error| {
        let message = format!("line {line_number}: {error}");
        read_error(file, io::Error::new(error.kind(), message))
    })?;
    if line.capacity() > LONG_LINE {
        // It was doubled until the line had room.
        line.shrink_to_fit();
    }
    Ok(read > 0)
}

/// Reads the whole file as one array that begins at `first_line`.
fn for_each_element(
    file: &Path,
    mut reader: impl Read,
    mut bytes: Vec<u8>,
    first_line: usize,
    visit: &mut Visit<'_>,
) -> Result<usize, DataError> {
    reader
        .read_to_end(&mut bytes)
        .map_err(|error| read_error(file, error))?;
    let array = without_mark(&bytes);
    let mark = bytes.len() - array.len();
    // What is broken here is the file, and no record can be left out.
    let elements: Vec<Value> = serde_json::from_slice(array).map_err(|error| {
        let before = if error.line() == 1 { mark } else { 0 };
        let problem = RecordProblem::Json {
            column: before + error.column(),
            message: without_place(&error),
        };
        problem.of(Source::new(file, first_line + error.line() - 1))
    })?;
    drop(bytes);
    let rows = elements.len();
    for (index, element) in elements.into_iter().enumerate() {
        visit(Source::new(file, index + 1), object(element))?;
    }
    Ok(rows)
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
