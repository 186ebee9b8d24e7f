//! Parquet files: compressions, and what becomes of each type of column.

use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, BinaryArray, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
    Float64Array, Int64Array, IntervalYearMonthArray, LargeBinaryArray, LargeStringArray,
    ListArray, StringArray, StringViewArray, StructArray, TimestampSecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Int32Type};
use panacea_data::{LabelSource, ObjectiveSpec, Record, RecordKind, Survey, load};
use parquet::basic::Compression;

use super::formats::parquet_file;
use super::{Files, chosen, column, message, score, shorter, turns};

fn texts(texts: [&str; 2]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

/// Two pairs, with columns in the place of these or beside them.
fn read(
    columns: Vec<(&'static str, ArrayRef)>,
    objectives: &[ObjectiveSpec],
) -> Result<Vec<Record>, String> {
    let mut all = vec![
        ("prompt", texts(["q", "r"])),
        ("chosen", texts(["long", "words"])),
        ("rejected", texts(["a", "b"])),
    ];
    for (name, array) in columns {
        all.retain(|(other, _)| *other != name);
        all.push((name, array));
    }
    let files = Files::new();
    let file = files.write("data.parquet", parquet_file(all, Compression::SNAPPY));
    let loaded = load(std::slice::from_ref(&file), objectives, RecordKind::Pair);
    loaded
        .map(|(records, _)| records)
        .map_err(|error| message(&error, &file))
}

fn chosen_texts(array: ArrayRef) -> Vec<String> {
    let records = read(vec![("chosen", array)], &[chosen()]).unwrap();
    records
        .into_iter()
        .map(|record| record.responses[0].text().to_owned())
        .collect()
}

#[test]
fn damage_anywhere_is_an_error_or_changes_a_value() {
    let files = Files::new();
    let columns = vec![
        ("prompt", texts(["q", "r"])),
        ("chosen", texts(["long", "words"])),
        ("rejected", texts(["a", "b"])),
    ];
    let bytes = parquet_file(columns, Compression::SNAPPY);
    for place in 0..bytes.len() {
        for value in [0, bytes[place] ^ 1] {
            let mut damaged = bytes.clone();
            damaged[place] = value;
            let file = files.write("data.parquet", damaged);
            // It may still be a file, with another text in it.
            if let Err(error) = load(std::slice::from_ref(&file), &[chosen()], RecordKind::Pair) {
                let error = message(&error, &file);
                assert!(error.starts_with("data.parquet"), "{place}: {error}");
            }
        }
    }
}

#[test]
fn every_kind_of_text_is_read() {
    let umlauts = ["Grüße", "ja"];
    let bytes = umlauts.map(str::as_bytes);
    let by_key: DictionaryArray<Int32Type> = umlauts.into_iter().collect();
    let arrays: [ArrayRef; 6] = [
        Arc::new(StringArray::from(umlauts.to_vec())),
        Arc::new(LargeStringArray::from(umlauts.to_vec())),
        Arc::new(StringViewArray::from(umlauts.to_vec())),
        Arc::new(BinaryArray::from(bytes.to_vec())),
        Arc::new(LargeBinaryArray::from(bytes.to_vec())),
        Arc::new(by_key),
    ];
    for array in arrays {
        assert_eq!(
            chosen_texts(Arc::clone(&array)),
            umlauts,
            "{}",
            array.data_type()
        );
    }
    let fixed = FixedSizeBinaryArray::try_from_iter(["ab", "cd"].into_iter()).unwrap();
    assert_eq!(chosen_texts(Arc::new(fixed)), ["ab", "cd"]);
}

#[test]
fn bytes_that_are_no_text_are_refused_where_they_are_read() {
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"fine"[..], b"\xff\xd8\xff"]));
    let error = read(vec![("rejected", Arc::clone(&bytes))], &[chosen()]).unwrap_err();
    assert!(
        error.starts_with(
            "data.parquet:2: field `rejected`: found bytes that are no text in UTF-8 (`rejected` has the Parquet type Binary), expected"
        ),
        "{error}"
    );
    // Nobody reads this one.
    assert_eq!(read(vec![("photo", bytes)], &[chosen()]).unwrap().len(), 2);
}

#[test]
fn other_types_are_refused_by_column_and_type() {
    let months: ArrayRef = Arc::new(IntervalYearMonthArray::from(vec![1, 2]));
    let error = read(vec![("chosen", months)], &[shorter()]).unwrap_err();
    assert!(
        error.starts_with(
            "data.parquet:1: field `chosen`: found a value that is neither a text nor a number nor a list \
             (`chosen` has the Parquet type Interval"
        ),
        "{error}"
    );
    let infinite: ArrayRef = Arc::new(Float64Array::from(vec![0.0, f64::INFINITY]));
    let error = read(vec![("better", infinite)], &[column("better")]).unwrap_err();
    assert!(
        error.starts_with(
            "data.parquet:2: field `better`: found the number inf (`better` has the Parquet type Float64), expected the index"
        ),
        "{error}"
    );
    let moments: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1, 2]));
    let error = read(vec![("better", moments)], &[column("better")]).unwrap_err();
    assert!(
        error.contains("found the text \"1970-01-01T00:00:01\""),
        "{error}"
    );
}

#[test]
fn decimals_are_numbers() {
    let decimals = |scale: i8, digits: [i128; 2]| -> ArrayRef {
        let array = Decimal128Array::from(digits.to_vec());
        Arc::new(array.with_precision_and_scale(10, scale).unwrap())
    };
    let mut sure = ObjectiveSpec::new("better", LabelSource::Column("better".to_owned()));
    sure.strength = panacea_data::Strength::BradleyTerry;
    let labels = |array| -> Vec<Option<f64>> {
        let records = read(vec![("better", array)], &[sure.clone()]).unwrap();
        records
            .iter()
            .map(|record| record.judgements[0].labels[0])
            .collect()
    };
    assert_eq!(labels(decimals(2, [25, 100])), [Some(0.75), Some(0.0)]);
    assert_eq!(labels(decimals(0, [1, 0])), [Some(0.0), Some(1.0)]);
}

/// A NaN in a column of numbers is how writers say that there is none.
#[test]
fn a_nan_is_a_missing_label() {
    let better: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, 1.0]));
    let records = read(vec![("better", better)], &[column("better")]).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].source.line, 2);
}

/// `datasets` writes `Sequence({"role": .., "content": ..})` as one struct of two lists.
#[test]
fn turns_in_a_struct_of_lists_are_turns() {
    let list = |texts: Vec<&str>, lengths: [usize; 2]| -> ArrayRef {
        let texts = StringArray::from(texts);
        let item = Arc::new(Field::new("item", texts.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths(lengths);
        Arc::new(ListArray::new(item, offsets, Arc::new(texts), None))
    };
    let sequence = |roles: ArrayRef, contents: ArrayRef| -> ArrayRef {
        let field = |name: &str, array: &ArrayRef| {
            Arc::new(Field::new(name, array.data_type().clone(), true))
        };
        Arc::new(StructArray::from(vec![
            (field("role", &roles), roles),
            (field("content", &contents), contents),
        ]))
    };
    let prompts = sequence(
        list(vec!["system", "user", "user"], [2, 1]),
        list(vec!["Be kind.", "q", "r"], [2, 1]),
    );
    let records = read(vec![("prompt", prompts)], &[chosen()]).unwrap();
    assert_eq!(
        records[0].prompt,
        turns(&[("system", "Be kind."), ("user", "q")])
    );
    assert_eq!(records[1].prompt, turns(&[("user", "r")]));
    // A role without words is no turn.
    let ragged = sequence(list(vec!["user", "user"], [1, 1]), list(vec!["q"], [1, 0]));
    let error = read(vec![("prompt", ragged)], &[chosen()]).unwrap_err();
    assert_eq!(
        error,
        "data.parquet:2: field `prompt`: found an object with `role`, `content`, expected a text or a list of turns"
    );
}

/// What may judge pairs in a table is what it is in lines of JSON.
#[test]
fn a_table_is_looked_at_for_objectives() {
    let numbers =
        |numbers: [f64; 2]| -> ArrayRef { Arc::new(Float64Array::from(numbers.to_vec())) };
    let whole = |numbers: [i64; 2]| -> ArrayRef { Arc::new(Int64Array::from(numbers.to_vec())) };
    let columns = vec![
        ("prompt", texts(["q", "r"])),
        ("chosen", texts(["long", "words"])),
        ("rejected", texts(["a", "b"])),
        ("score_chosen", numbers([1.0, 4.5])),
        ("score_rejected", numbers([2.0, 4.0])),
        ("safer", whole([0, 1])),
        ("id", whole([17, 18])),
    ];
    let files = Files::new();
    let file = files.write("data.parquet", parquet_file(columns, Compression::SNAPPY));
    let survey = Survey::of(&[file]).unwrap();
    let found = survey.candidates.iter().map(|one| {
        let differs = one.differs(&survey.candidates[0]);
        (one.objective.name.as_str(), one.labelled(), differs)
    });
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            ("preferred", 2, 0),
            ("score", 2, 1),
            ("safer", 2, 1),
            ("brevity", 2, 2)
        ]
    );
    assert!(survey.others.contains_key("id"), "{:?}", survey.others);
}

#[test]
fn every_compression_is_read() {
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::BROTLI(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(Default::default()),
    ] {
        let columns = vec![
            ("prompt", texts(["q", "r"])),
            ("chosen", texts(["long", "words"])),
            ("rejected", texts(["a", "b"])),
            ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        ];
        let files = Files::new();
        let file = files.write("data.parquet", parquet_file(columns, compression));
        let (records, _) = load(&[file], &[chosen()], RecordKind::Pair).unwrap();
        assert_eq!(records[1].responses, ["words", "b"], "{compression:?}");
    }
}

fn of_fields(fields: Vec<(&str, ArrayRef)>) -> ArrayRef {
    let field = |(name, array): (&str, ArrayRef)| {
        let kind = array.data_type().clone();
        (Arc::new(Field::new(name, kind, true)), array)
    };
    Arc::new(StructArray::from(
        fields.into_iter().map(field).collect::<Vec<_>>(),
    ))
}

/// What cannot be read within an object is not the same as an object without scores or variables.
#[test]
fn an_object_with_what_cannot_be_read_is_refused() {
    let numbers = |numbers: [f64; 4]| -> ArrayRef {
        let numbers = Float64Array::from(numbers.to_vec());
        let item = Arc::new(Field::new("item", numbers.data_type().clone(), true));
        let offsets = OffsetBuffer::from_lengths([2, 2]);
        Arc::new(ListArray::new(item, offsets, Arc::new(numbers), None))
    };
    let scores = of_fields(vec![
        ("helpfulness", numbers([f64::NEG_INFINITY, 1.0, 1.0, 2.0])),
        ("safety", numbers([1.0, 2.0, 2.0, 1.0])),
    ]);
    let error = read(vec![("scores", scores)], &[score("safety")]).unwrap_err();
    assert!(
        error.starts_with(
            "data.parquet:1: field `scores`: found the number -inf (`scores.helpfulness` has"
        ),
        "{error}"
    );
    let level: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::INFINITY]));
    let variables = of_fields(vec![("level", level)]);
    let error = read(vec![("chat_template_kwargs", variables)], &[chosen()]).unwrap_err();
    assert!(
        error.starts_with("data.parquet:2: field `chat_template_kwargs`: found the number inf"),
        "{error}"
    );
}

/// A table gives every row the keys of all of them.
#[test]
fn a_null_is_no_variable_of_the_template() {
    let of =
        |values: [Option<&str>; 2]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let variables = of_fields(vec![
        ("mode", of([Some("short"), None])),
        ("tone", of([None, Some("warm")])),
    ]);
    let records = read(vec![("chat_template_kwargs", variables)], &[chosen()]).unwrap();
    let found = records.iter().map(|record| &record.variables);
    assert_eq!(
        serde_json::json!(found.collect::<Vec<_>>()),
        serde_json::json!([{"mode": "short"}, {"tone": "warm"}])
    );
}

/// What the format has for the number of bytes of a page: twice as much, seven bits a byte, in four bytes.
fn written(bytes: usize) -> [u8; 4] {
    let twice = 2 * bytes;
    [0, 7, 14, 21].map(|shift| (twice >> shift) as u8 & 127 | if shift < 21 { 128 } else { 0 })
}

/// Two pairs with `bytes` of text, whose page says that it has `claimed`.
fn claiming(bytes: usize, claimed: usize, compression: Compression) -> String {
    let long = "a".repeat(bytes);
    let columns = vec![
        ("prompt", texts([&long, &long])),
        ("chosen", texts(["long", "words"])),
        ("rejected", texts(["a", "b"])),
    ];
    let mut file = parquet_file(columns, compression);
    // A text has its length before it.
    let place = (file.windows(4)).position(|window| window == written(4 + bytes));
    let place = place.unwrap();
    file[place..place + 4].copy_from_slice(&written(claimed));
    let files = Files::new();
    let file = files.write("data.parquet", file);
    match load(std::slice::from_ref(&file), &[chosen()], RecordKind::Pair) {
        Ok((records, _)) => format!("{} records", records.len()),
        Err(error) => message(&error, &file),
    }
}

#[test]
fn a_page_that_unpacks_to_very_much_is_refused() {
    let bytes = 24 << 20;
    for compression in [
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
    ] {
        let error = claiming(bytes, 4 + bytes, compression);
        assert!(
            error.starts_with(
                "data.parquet: cannot read the Parquet file: up to column `prompt` bytes of unpacked pages are 50331656, expected at most"
            ),
            "{error}"
        );
    }
    // Of what cannot be made so small, this much is nothing special.
    assert_eq!(claiming(bytes, 4 + bytes, Compression::SNAPPY), "2 records");
}

#[test]
fn a_page_that_lies_about_its_length_is_refused() {
    let bytes = 1 << 20;
    for compression in [
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::BROTLI(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(Default::default()),
    ] {
        assert_eq!(claiming(bytes, 4 + bytes, compression), "2 records");
        let more = claiming(bytes, 100 << 20, compression);
        assert!(
            more.contains("bytes of unpacked pages are 105906180"),
            "{compression}: {more}"
        );
        let less = claiming(bytes, 10, compression);
        let unpacked = ["gzip", "brotli"];
        let is_unpacked =
            (unpacked.iter()).any(|name| compression.to_string().to_lowercase().starts_with(name));
        match is_unpacked {
            true => assert!(
                less.contains(
                    "column `prompt`: a page says that it unpacks to 10 bytes, and has more"
                ),
                "{compression}: {less}"
            ),
            false => assert!(
                less.starts_with("data.parquet: cannot read"),
                "{compression}: {less}"
            ),
        }
    }
}
