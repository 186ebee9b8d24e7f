//! Calls of the crate `tokenizers`, which believes what a `tokenizer.json` says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde_json::Value;

/// Refuses a file that would have it take memory beyond all measure: a table of replacements begins with its own length.
pub(crate) fn check(tokenizer_json: &[u8]) -> tokenizers::Result<()> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        normalizer: Value,
    }
    let file: File = serde_json::from_slice(tokenizer_json)?;
    check_tables(&file.normalizer)
}

fn check_tables(normalizer: &Value) -> tokenizers::Result<()> {
    const TABLE: &str = "precompiled_charsmap";
    match normalizer {
        Value::Array(parts) => parts.iter().try_for_each(check_tables),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            match value.as_str().filter(|_| name == TABLE) {
                Some(table) if table_length(table) > table.len() as u64 => Err(format!(
                    "the normalizer's `{TABLE}` says that it has {} bytes, it has {} in base64",
                    table_length(table),
                    table.len()
                )
                .into()),
                _ => check_tables(value),
            }
        }),
        _ => Ok(()),
    }
}

/// The number of 32 bits, least byte first, that a text in base64 begins with; 0 where that is none.
fn table_length(base64: &str) -> u64 {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |character: u8| DIGITS.iter().position(|digit| *digit == character);
    let digits = base64.bytes().take(6).filter_map(digit);
    let bits = digits.fold(0_u64, |bits, digit| bits << 6 | digit as u64);
    // 36 bits, of which the first 32 are four bytes.
    u64::from(((bits >> 4) as u32).swap_bytes())
}

/// Calls it, with an error in place of a panic. The crate follows places that the file names, in tables, vocabularies and
/// templates, without asking whether there are such: to find all of them beforehand would be to write it again.
pub(crate) fn call<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    // What a panic leaves half done are caches and a text in the making, which are asked for again or thrown away.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = (panic.downcast_ref::<String>().map(String::as_str))
            .or_else(|| panic.downcast_ref::<&str>().copied());
        let said = said.unwrap_or("no reason");
        Err(format!("the file contradicts itself, so that the tokenizer broke off: {said}").into())
    })
}
