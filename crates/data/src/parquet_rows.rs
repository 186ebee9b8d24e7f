//! Parquet files as rows of JSON values, so that every reader sees one form.
//!
//! What JSON has no form for is no value: bytes that are no text, an infinite number, a type such as an interval. A row that
//! has one is read all the same, for the column may be nobody's; whoever reads it is told what stands there.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;
use serde_json::{Map, Value};

use crate::error::DataError;
use crate::pages::rows_at_once;
use crate::readers::fields::{Row, unreadable};
use crate::record::Source;
use crate::visit::{Visit, spread_turns};

/// Calls `visit` with every row and returns their number.
pub(crate) fn for_each_row(
    file: &Path,
    opened: File,
    visit: &mut Visit<'_>,
) -> Result<usize, DataError> {
    let problem = |message: String| DataError::Parquet {
        file: file.to_owned(),
        message,
    };
    let beside = opened.try_clone().map_err(|error| DataError::Read {
        file: file.to_owned(),
        error,
    })?;
    let mut batches = whole(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(opened).map_err(in_words)?;
        check_compression(builder.metadata())?;
        let rows = rows_at_once(&beside, builder.metadata(), builder.schema())?;
        let rows = rows.min(rows_of_a_megabyte(builder.metadata()));
        builder.with_batch_size(rows).build().map_err(in_words)
    })
    .map_err(problem)?;
    let mut next = || {
        whole(|| {
            let batch = batches.next().transpose().map_err(in_words)?;
            Ok(batch.map(|batch| (batch.num_rows(), columns(&batch))))
        })
    };
    let mut rows = 0;
    while let Some((count, mut columns)) = next().map_err(problem)? {
        for index in 0..count {
            let row: Row = (columns.iter_mut())
                .map(|(name, values)| (name.clone(), values[index].take()))
                .collect();
            rows += 1;
            visit(Source::new(file, rows), Ok(row))?;
        }
    }
    Ok(rows)
}

/// As many rows as have about a megabyte, by the average of the part of the file where rows are longest.
fn rows_of_a_megabyte(metadata: &ParquetMetaData) -> usize {
    const USUAL: i64 = 1024;
    const BYTES: i64 = 1 << 20;
    let average = |bytes: i64, rows: i64| bytes / rows.max(1);
    let groups = metadata.row_groups().iter();
    let longest = groups
        .map(|group| average(group.total_byte_size(), group.num_rows()))
        .max();
    (BYTES / longest.unwrap_or(1).max(1)).clamp(1, USUAL) as usize
}

fn in_words(error: impl ToString) -> String {
    error.to_string()
}

/// Calls the crate `parquet`, with an error in place of a panic: in a damaged file it follows some lengths and counts without
/// asking whether there is as much.
fn whole<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // After an error nothing is asked of the reader again.
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err("the file contradicts itself: it is damaged".to_owned()))
}

/// The values of each column, with its name.
fn columns(batch: &RecordBatch) -> Vec<(String, Vec<Value>)> {
    let schema = batch.schema();
    (schema.fields().iter().zip(batch.columns()))
        .map(|(field, column)| (field.name().clone(), column_values(column, field.name())))
        .collect()
}

/// Refuses the one compression that Parquet has had and nobody reads any more.
fn check_compression(metadata: &ParquetMetaData) -> Result<(), String> {
    for column in metadata
        .row_groups()
        .iter()
        .flat_map(|group| group.columns())
    {
        if column.compression() == Compression::LZO {
            return Err(format!(
                "column `{}` is compressed with LZO, expected no compression, Snappy, Gzip, Brotli, LZ4 or Zstandard: write the file with one of these",
                column.column_path().string()
            ));
        }
    }
    Ok(())
}

/// A value, or what stands there that is none.
type Cell = Result<Value, String>;

/// The values of a column.
fn column_values(array: &ArrayRef, name: &str) -> Vec<Value> {
    let value = |cell: Cell| {
        let mut value = cell.unwrap_or_else(|found| unreadable(&found));
        spread_turns(&mut value);
        value
    };
    cells(array, name, 0).into_iter().map(value).collect()
}

/// One cell per entry of the column or the part of one that is called `name`, which is in `depth` objects.
fn cells(array: &ArrayRef, name: &str, depth: usize) -> Vec<Cell> {
    match array.data_type() {
        DataType::List(_) => lists(array.as_list::<i32>().iter(), name, depth),
        DataType::LargeList(_) => lists(array.as_list::<i64>().iter(), name, depth),
        DataType::FixedSizeList(_, _) => lists(array.as_fixed_size_list().iter(), name, depth),
        DataType::Struct(_) => structs(array, name, depth),
        DataType::Map(_, _) => maps(array, name, depth),
        DataType::Dictionary(_, value) => match cast(array, value) {
            Ok(values) => cells(&values, name, depth),
            Err(_) => nothing(array),
        },
        kind => {
            let found = leaves(array).unwrap_or_else(|_| nothing(array));
            let located = |found| format!("{found} (`{name}` has the Parquet type {kind})");
            let located = |cell: Cell| cell.map_err(located);
            found.into_iter().map(located).collect()
        }
    }
}

/// Cells of a type without parts. Numbers stay numbers, and a NaN is a value that is missing; dates and times become texts
/// in the form of ISO 8601, so that they never pass for numbers.
fn leaves(array: &ArrayRef) -> Result<Vec<Cell>, ArrowError> {
    Ok(match array.data_type() {
        DataType::Null => vec![Ok(Value::Null); array.len()],
        DataType::Boolean => (array.as_boolean().iter())
            .map(|flag| Ok(flag.into()))
            .collect(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => texts(array)?,
        DataType::UInt64 => {
            let array = array.as_primitive::<UInt64Type>();
            array.iter().map(|number| Ok(number.into())).collect()
        }
        kind if kind.is_integer() => {
            let array = cast(array, &DataType::Int64)?;
            let array = array.as_primitive::<Int64Type>();
            array.iter().map(|number| Ok(number.into())).collect()
        }
        kind if kind.is_floating() => {
            let array = cast(array, &DataType::Float64)?;
            let array = array.as_primitive::<Float64Type>();
            array.iter().map(float).collect()
        }
        kind if kind.is_decimal() => texts(array)?.into_iter().map(decimal).collect(),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => bytes(array)?,
        DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(_, _) => moments(array)?,
        _ => nothing(array),
    })
}

/// Cells of a type that nothing is made of.
fn nothing(array: &ArrayRef) -> Vec<Cell> {
    let cell = |row| match array.is_null(row) {
        true => Ok(Value::Null),
        false => Err("a value that is neither a text nor a number nor a list".to_owned()),
    };
    (0..array.len()).map(cell).collect()
}

fn texts(array: &ArrayRef) -> Result<Vec<Cell>, ArrowError> {
    let array = cast(array, &DataType::LargeUtf8)?;
    let texts = array.as_string::<i64>().iter();
    Ok(texts.map(|text| Ok(text.into())).collect())
}

/// A NaN is how a missing number is kept in columns of floating-point numbers.
fn float(number: Option<f64>) -> Cell {
    match number {
        Some(number) if number.is_infinite() => Err(format!("the number {number}")),
        number => Ok(number.into()),
    }
}

/// A number from its digits: a whole one, as long as it is one of 64 bits, and otherwise the nearest of floating point.
fn decimal(digits: Cell) -> Cell {
    let digits = digits?;
    let Some(text) = digits.as_str() else {
        return Ok(digits);
    };
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(whole), _) => Ok(whole.into()),
        (_, Ok(number)) => float(Some(number)),
        _ => Err(format!("the digits {text:?}")),
    }
}

/// Bytes are read as texts where they are UTF-8: many writers do not say that a column holds text.
fn bytes(array: &ArrayRef) -> Result<Vec<Cell>, ArrowError> {
    let array = cast(array, &DataType::LargeBinary)?;
    let cell = |bytes: Option<&[u8]>| match bytes.map(str::from_utf8).transpose() {
        Ok(text) => Ok(text.into()),
        Err(_) => Err("bytes that are no text in UTF-8".to_owned()),
    };
    Ok(array.as_binary::<i64>().iter().map(cell).collect())
}

fn moments(array: &ArrayRef) -> Result<Vec<Cell>, ArrowError> {
    let formatter = ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())?;
    let cell = |row| match array.is_null(row) {
        true => Ok(Ok(Value::Null)),
        false => Ok(Ok(Value::String(formatter.value(row).try_to_string()?))),
    };
    (0..array.len()).map(cell).collect()
}

/// A list can be read where all of its items can.
fn lists(lists: impl Iterator<Item = Option<ArrayRef>>, name: &str, depth: usize) -> Vec<Cell> {
    let list = |items: Option<ArrayRef>| match items {
        Some(items) => cells(&items, name, depth).into_iter().collect::<Cell>(),
        None => Ok(Value::Null),
    };
    lists.map(list).collect()
}

/// An object can be read where all of its fields can.
fn structs(array: &ArrayRef, name: &str, depth: usize) -> Vec<Cell> {
    let array = array.as_struct();
    let names = array.column_names();
    let mut columns: Vec<Vec<Cell>> = (names.iter().zip(array.columns()))
        .map(|(field, column)| cells(column, &format!("{name}.{field}"), depth + 1))
        .collect();
    let mut object = |row: usize| {
        if array.is_null(row) {
            return Ok(Value::Null);
        }
        let mut fields = Map::new();
        for (field, column) in names.iter().zip(&mut columns) {
            let cell = std::mem::replace(&mut column[row], Ok(Value::Null));
            let cell = cell?;
            // A column has the keys of all of its rows: in a part of a turn, a null says no more than that another row has
            // something there. It is left out, as TRL does.
            if !(cell.is_null() && depth > 0) {
                fields.insert((*field).to_owned(), cell);
            }
        }
        Ok(Value::Object(fields))
    };
    (0..array.len()).map(&mut object).collect()
}

/// A map column: an object with the keys as texts.
fn maps(array: &ArrayRef, name: &str, depth: usize) -> Vec<Cell> {
    let array = array.as_map();
    let object = |row: usize| {
        if array.is_null(row) {
            return Ok(Value::Null);
        }
        let entries = array.value(row);
        let keys = cells(entries.column(0), name, depth + 1);
        let mut fields = Map::new();
        for (key, value) in keys
            .into_iter()
            .zip(cells(entries.column(1), name, depth + 1))
        {
            let key = match key? {
                Value::String(key) => key,
                other => other.to_string(),
            };
            fields.insert(key, value?);
        }
        Ok(Value::Object(fields))
    };
    (0..array.len()).map(object).collect()
}
