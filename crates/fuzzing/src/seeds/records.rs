//! Records in every format, as text and in Parquet.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
};
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::json;

use super::Seeds;

pub(super) fn records(seeds: &mut Seeds) {
    let turns = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [{"type": "text", "text": "Yo"}]}]);
    let other = json!([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "No"}]);
    let rows = [
        json!({"prompt": "a", "responses": ["b", "cc"], "scores": {"a": [1, 2.5]}}),
        json!({"prompt": "a", "response_0": "b", "response_1": "c", "better_response_id": 0, "safer_response_id": 1, "a": 1}),
        json!({"chosen_messages": turns, "rejected_messages": other}),
        json!({"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "b"}, "rejected": {"from": "gpt", "value": "c"}}),
        json!({"chosen": "\n\nHuman: Hi\n\nAssistant: b", "rejected": "\n\nHuman: Hi\n\nAssistant: c"}),
        json!({"prompt": "a", "chosen": "b", "rejected": "c", "a": true, "system": "s"}),
        json!({"messages": turns, "a": ["a"]}),
        json!({"prompt": "a", "completion": "b", "a": 0.5}),
        json!({"instruction": "a", "input": "b", "output": "c"}),
        json!({"prompt": turns}),
    ];
    for (format, row) in rows.iter().enumerate() {
        let lines = format!("{row}\n{row}\n");
        for kind in [0, 1, 2, 3, 20, 41] {
            let head = [if kind % 2 == 0 { 255 } else { format as u8 }, kind as u8];
            seeds.add(
                format!("{format}-{kind}"),
                [&head[..], lines.as_bytes()].concat(),
            );
        }
        let gzipped = gzip(lines.as_bytes());
        seeds.add(
            format!("{format}-gzip"),
            [&[255, 128], &gzipped[..]].concat(),
        );
        seeds.add(
            format!("{format}-array"),
            [&[255, 12], json!([row, row]).to_string().as_bytes()].concat(),
        );
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), flate2::Compression::default());
    let written = writer.write_all(bytes).and_then(|()| writer.finish());
    written.expect("it is kept in memory")
}

/// Files of two rows, plain and compressed, with texts, lists and numbers, some of them absent.
pub(super) fn parquets(seeds: &mut Seeds) {
    let texts =
        |values: [Option<&str>; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let mut responses = ListBuilder::new(StringBuilder::new());
    for _ in 0..2 {
        responses.append_value([Some("b"), Some("c")]);
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("prompt", texts([Some("a"), Some("a")])),
        ("chosen", texts([Some("b"), None])),
        ("rejected", texts([Some("c"), Some("d")])),
        ("responses", Arc::new(responses.finish())),
        ("a", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("b", Arc::new(BooleanArray::from(vec![true, false]))),
    ];
    for (name, compression) in [
        ("plain", Compression::UNCOMPRESSED),
        ("snappy", Compression::SNAPPY),
        ("gzip", Compression::GZIP(GzipLevel::default())),
        ("brotli", Compression::BROTLI(BrotliLevel::default())),
        ("zstd", Compression::ZSTD(ZstdLevel::default())),
        ("lz4", Compression::LZ4),
        ("lz4-raw", Compression::LZ4_RAW),
    ] {
        for (kind, columns) in [("pair", &columns[..3]), ("list", &columns[..])] {
            let batch =
                RecordBatch::try_from_iter(columns.iter().cloned()).expect("columns of two rows");
            let properties = WriterProperties::builder()
                .set_compression(compression)
                .build();
            let mut bytes = Vec::new();
            let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))
                .expect("known types");
            writer
                .write(&batch)
                .and_then(|()| writer.close())
                .expect("it is kept in memory");
            seeds.add(format!("{kind}-{name}"), [&[255, 0], &bytes[..]].concat());
        }
    }
}
