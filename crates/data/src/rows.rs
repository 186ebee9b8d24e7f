//! Files as a stream of rows: JSON Lines, JSON arrays, Parquet; the first two also gzipped.
//!
//! JSON Lines and Parquet are read piece by piece; a JSON array must fit into memory once.
//! Whether a text file holds lines or an array is told by its first character, not by its
//! name: many files called `.json` hold lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::error::{DataError, FieldProblem};
use crate::parquet_rows;
use crate::readers::fields::{Row, describe};
use crate::record::Source;

/// Calls `visit` with every row of the file and stops at the first error.
pub(crate) fn for_each_row(
    file: &Path,
    visit: &mut dyn FnMut(Source, &Row) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let kind = FileKind::of(file)?;
    let opened = File::open(file).map_err(|error| read_error(file, error))?;
    let rows = match kind {
        FileKind::Parquet => parquet_rows::for_each_row(file, opened, visit)?,
        FileKind::Text => for_each_json(file, BufReader::new(opened), visit)?,
        FileKind::Gzip => for_each_json(file, BufReader::new(MultiGzDecoder::new(opened)), visit)?,
    };
    if rows == 0 {
        return Err(DataError::EmptyFile {
            file: file.to_owned(),
        });
    }
    Ok(())
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
    visit: &mut dyn FnMut(Source, &Row) -> Result<(), DataError>,
) -> Result<usize, DataError> {
    let mut line = String::new();
    let mut line_number = 0;
    let mut rows = 0;
    while next_line(file, &mut reader, &mut line, &mut line_number)? {
        let text = line.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            continue;
        }
        if rows == 0 && text.starts_with('[') {
            return for_each_element(file, reader, line, line_number, visit);
        }
        let value = serde_json::from_str(text).map_err(|error| DataError::Json {
            file: file.to_owned(),
            line: line_number,
            column: error.column(),
            message: without_place(&error),
        })?;
        let source = Source::new(file, line_number);
        let row = object(value, &source)?;
        visit(source, &row)?;
        rows += 1;
    }
    Ok(rows)
}

/// Reads a line and its number; false at the end of the file.
fn next_line(
    file: &Path,
    reader: &mut impl BufRead,
    line: &mut String,
    line_number: &mut usize,
) -> Result<bool, DataError> {
    line.clear();
    *line_number += 1;
    let read = reader.read_line(line).map_err(|error| {
        let message = format!("line {line_number}: {error}");
        read_error(file, io::Error::new(error.kind(), message))
    })?;
    Ok(read > 0)
}

/// Reads the whole file as one array that begins at `first_line`.
fn for_each_element(
    file: &Path,
    mut reader: impl Read,
    mut text: String,
    first_line: usize,
    visit: &mut dyn FnMut(Source, &Row) -> Result<(), DataError>,
) -> Result<usize, DataError> {
    reader
        .read_to_string(&mut text)
        .map_err(|error| read_error(file, error))?;
    let elements: Vec<Value> =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
            DataError::Json {
                file: file.to_owned(),
                line: first_line + error.line() - 1,
                column: error.column(),
                message: without_place(&error),
            }
        })?;
    let rows = elements.len();
    for (index, element) in elements.into_iter().enumerate() {
        let source = Source::new(file, index + 1);
        let row = object(element, &source)?;
        visit(source, &row)?;
    }
    Ok(rows)
}

fn object(value: Value, source: &Source) -> Result<Row, DataError> {
    match value {
        Value::Object(row) => Ok(row),
        other => Err(DataError::Field {
            record: source.clone(),
            problem: FieldProblem {
                field: "(the record)".to_owned(),
                found: describe(&other),
                expected: "an object".to_owned(),
            },
        }),
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
