//! What the rows of a file are handed to, and the one form that turns have in them.

use serde_json::Value;

use crate::error::{DataError, RecordProblem};
use crate::readers::fields::Row;
use crate::record::Source;

/// What is called with every row, or with what is wrong with a line that is none.
pub(crate) type Visit<'a> =
    dyn FnMut(Source, Result<Row, RecordProblem>) -> Result<(), DataError> + 'a;

/// Turns that are kept as an object of lists, `{"role": [..], "content": [..]}`, as a list of objects: Hugging Face's
/// `datasets` writes a `Sequence` of turns so.
pub(crate) fn spread_turns(value: &mut Value) {
    let Value::Object(columns) = value else {
        return;
    };
    let is_turns = [["role", "content"], ["from", "value"]]
        .iter()
        .any(|keys| keys.iter().all(|key| columns.contains_key(*key)));
    let mut lists = columns
        .values()
        .map(|column| column.as_array().map(Vec::len));
    let turns = lists.next().flatten();
    let Some(turns) = turns.filter(|_| is_turns && lists.all(|length| length == turns)) else {
        return;
    };
    let turn = |index: usize| {
        let fields = columns
            .iter_mut()
            .map(|(key, column)| (key.clone(), column[index].take()));
        Value::Object(fields.collect())
    };
    *value = Value::Array((0..turns).map(turn).collect());
}
