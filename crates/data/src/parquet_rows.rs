//! Parquet files as rows of JSON values, so that every reader sees one form.

use std::fs::File;
use std::path::Path;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, GenericListArray, MapArray,
    OffsetSizeTrait, StructArray,
};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use crate::error::DataError;
use crate::readers::fields::Row;
use crate::record::Source;

/// Calls `visit` with every row and returns their number.
pub(crate) fn for_each_row(
    file: &Path,
    opened: File,
    visit: &mut dyn FnMut(Source, &Row) -> Result<(), DataError>,
) -> Result<usize, DataError> {
    let problem = |message: String| DataError::Parquet {
        file: file.to_owned(),
        message,
    };
    let batches = ParquetRecordBatchReaderBuilder::try_new(opened)
        .and_then(|builder| builder.build())
        .map_err(|error| problem(with_hint(error.to_string())))?;
    let mut rows = 0;
    for batch in batches {
        let batch = batch.map_err(|error| problem(with_hint(error.to_string())))?;
        let columns: Vec<(String, Vec<Value>)> = batch
            .schema()
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, column)| Ok((field.name().clone(), values(column, Depth::Row)?)))
            .collect::<Result<_, ArrowError>>()
            .map_err(|error| problem(error.to_string()))?;
        for row in rows_of(columns, batch.num_rows()) {
            rows += 1;
            visit(Source::new(file, rows), &row)?;
        }
    }
    Ok(rows)
}

/// The compressions that are compiled in are the ones that need no C.
fn with_hint(message: String) -> String {
    if message.contains("Disabled feature") {
        format!(
            "{message}; expected no compression, snappy or gzip: write the file with one of these"
        )
    } else {
        message
    }
}

/// Turns columns into rows.
fn rows_of(mut columns: Vec<(String, Vec<Value>)>, rows: usize) -> Vec<Row> {
    (0..rows)
        .map(|row| {
            columns
                .iter_mut()
                .map(|(name, values)| (name.clone(), values[row].take()))
                .collect::<Map<_, _>>()
        })
        .collect()
}

/// Where a value stands in a row.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
    Row,
    /// In an object, such as a turn. A column has the keys of all of its rows, so that a null further in says no more than that
    /// another row has something there: it is left out, as TRL does.
    Object,
}

/// One JSON value per entry. Numbers stay numbers (a NaN becomes null); a type that JSON does
/// not know, such as a timestamp, becomes its text, so that it never passes for a number.
fn values(array: &ArrayRef, depth: Depth) -> Result<Vec<Value>, ArrowError> {
    let values = match array.data_type() {
        DataType::Null => vec![Value::Null; array.len()],
        DataType::Boolean => {
            let array: &BooleanArray = array.as_boolean();
            array.iter().map(Value::from).collect()
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let array = cast(array, &DataType::LargeUtf8)?;
            let array = array.as_string::<i64>();
            array.iter().map(Value::from).collect()
        }
        DataType::UInt64 => {
            let array = array.as_primitive::<arrow::datatypes::UInt64Type>();
            array.iter().map(Value::from).collect()
        }
        kind if kind.is_integer() => {
            let array = cast(array, &DataType::Int64)?;
            let array = array.as_primitive::<arrow::datatypes::Int64Type>();
            array.iter().map(Value::from).collect()
        }
        kind if kind.is_floating() => {
            let array = cast(array, &DataType::Float64)?;
            let array = array.as_primitive::<arrow::datatypes::Float64Type>();
            array.iter().map(Value::from).collect()
        }
        DataType::Dictionary(_, value) => values(&cast(array, value)?, depth)?,
        DataType::List(_) => list_values::<i32>(array.as_list(), depth)?,
        DataType::LargeList(_) => list_values::<i64>(array.as_list(), depth)?,
        DataType::FixedSizeList(_, _) => fixed_list_values(array.as_fixed_size_list(), depth)?,
        DataType::Struct(_) => struct_values(array.as_struct(), depth)?,
        DataType::Map(_, _) => map_values(array.as_map())?,
        _ => texts(array)?,
    };
    Ok(values)
}

fn list_values<O: OffsetSizeTrait>(
    array: &GenericListArray<O>,
    depth: Depth,
) -> Result<Vec<Value>, ArrowError> {
    array
        .iter()
        .map(|items| match items {
            Some(items) => Ok(Value::Array(values(&items, depth)?)),
            None => Ok(Value::Null),
        })
        .collect()
}

fn fixed_list_values(array: &FixedSizeListArray, depth: Depth) -> Result<Vec<Value>, ArrowError> {
    array
        .iter()
        .map(|items| match items {
            Some(items) => Ok(Value::Array(values(&items, depth)?)),
            None => Ok(Value::Null),
        })
        .collect()
}

fn struct_values(array: &StructArray, depth: Depth) -> Result<Vec<Value>, ArrowError> {
    let columns: Vec<(String, Vec<Value>)> = array
        .column_names()
        .iter()
        .zip(array.columns())
        .map(|(name, column)| Ok(((*name).to_owned(), values(column, Depth::Object)?)))
        .collect::<Result<_, ArrowError>>()?;
    let rows = rows_of(columns, array.len());
    Ok(rows
        .into_iter()
        .enumerate()
        .map(|(row, mut fields)| {
            if array.is_null(row) {
                return Value::Null;
            }
            if depth == Depth::Object {
                fields.retain(|_, value| !value.is_null());
            }
            Value::Object(fields)
        })
        .collect())
}

/// A map column: an object with the keys as texts.
fn map_values(array: &MapArray) -> Result<Vec<Value>, ArrowError> {
    (0..array.len())
        .map(|row| {
            if array.is_null(row) {
                return Ok(Value::Null);
            }
            let entries = array.value(row);
            let keys = texts(entries.column(0))?;
            let fields = keys
                .into_iter()
                .zip(values(entries.column(1), Depth::Object)?)
                .filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value)))
                .collect();
            Ok(Value::Object(fields))
        })
        .collect()
}

fn texts(array: &ArrayRef) -> Result<Vec<Value>, ArrowError> {
    let formatter = ArrayFormatter::try_new(array.as_ref(), &FormatOptions::default())?;
    (0..array.len())
        .map(|row| {
            if array.is_null(row) {
                return Ok(Value::Null);
            }
            Ok(Value::String(formatter.value(row).try_to_string()?))
        })
        .collect()
}
