//! Event files that TensorBoard reads: scalars by tag and step.
//!
//! A file is a row of TFRecord frames
//!
//! ```text
//! length: u64   masked crc32c(length): u32   data: [u8; length]   masked crc32c(data): u32      little endian
//! masked(c) = rotate_right(c, 15) + 0xa282ead8
//! ```
//!
//! whose data are `Event` messages in protocol buffers' wire format. Sources: TensorFlow's
//! `core/lib/io/record_writer.h`, `core/util/event.proto` and `core/framework/summary.proto`. Three
//! messages with seven fields are written, so that a protobuf compiler would be more than the thing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::RunError;

/// Writes one event file of a run.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Opens a new event file in `folder`, which is made if it is absent.
    pub fn create(folder: &Path) -> Result<Self, RunError> {
        fs::create_dir_all(folder).map_err(RunError::io("create the folder", folder))?;
        let (path, file) = new_file(folder)?;
        let mut writer = Self { path, file };
        writer.write_event(None, Payload::FileVersion)?;
        Ok(writer)
    }

    /// Opens a further event file, after `step` finished steps. TensorBoard is told to forget what
    /// earlier files say about later steps, since these are computed again.
    pub fn resume(folder: &Path, step: usize) -> Result<Self, RunError> {
        let mut writer = Self::create(folder)?;
        writer.write_event(Some(step + 1), Payload::SessionStart)?;
        Ok(writer)
    }

    /// Writes the scalars of a step; they are in the file when this returns.
    pub fn write(&mut self, step: usize, scalars: &[(String, f64)]) -> Result<(), RunError> {
        self.write_event(Some(step), Payload::Scalars(scalars))
    }

    fn write_event(&mut self, step: Option<usize>, payload: Payload) -> Result<(), RunError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let frame = frame(&event(now.as_secs_f64(), step, payload));
        self.file
            .write_all(&frame)
            .map_err(RunError::io("write", &self.path))
    }
}

/// TensorBoard reads the files of a folder in the order of their names, so the time comes first.
fn new_file(folder: &Path) -> Result<(PathBuf, File), RunError> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    for attempt in 0.. {
        let name = format!(
            "events.out.tfevents.{:010}.panacea.{attempt:03}",
            now.as_secs()
        );
        let path = folder.join(name);
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(RunError::io("write", &path)(error)),
        }
    }
    unreachable!("every number is taken")
}

enum Payload<'a> {
    FileVersion,
    SessionStart,
    Scalars(&'a [(String, f64)]),
}

/// An `Event`: wall_time = 1, step = 2, and one of file_version = 3, summary = 5, session_log = 7.
fn event(wall_time: f64, step: Option<usize>, payload: Payload) -> Vec<u8> {
    let mut event = Vec::new();
    put_key(&mut event, 1, Wire::Fixed64);
    event.extend(wall_time.to_le_bytes());
    if let Some(step) = step {
        put_key(&mut event, 2, Wire::Varint);
        put_varint(&mut event, step as u64);
    }
    match payload {
        Payload::FileVersion => put_bytes(&mut event, 3, b"brain.Event:2"),
        Payload::SessionStart => {
            // A `SessionLog`: status = 1, where START is 1.
            let mut session = Vec::new();
            put_key(&mut session, 1, Wire::Varint);
            put_varint(&mut session, 1);
            put_bytes(&mut event, 7, &session);
        }
        Payload::Scalars(scalars) => {
            let mut summary = Vec::new();
            for (tag, value) in scalars {
                // A `Summary.Value`: tag = 1, simple_value = 2.
                let mut scalar = Vec::new();
                put_bytes(&mut scalar, 1, tag.as_bytes());
                put_key(&mut scalar, 2, Wire::Fixed32);
                scalar.extend((*value as f32).to_le_bytes());
                put_bytes(&mut summary, 1, &scalar);
            }
            put_bytes(&mut event, 5, &summary);
        }
    }
    event
}

#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

fn put_key(message: &mut Vec<u8>, field: u64, wire: Wire) {
    put_varint(message, field << 3 | wire as u64);
}

fn put_bytes(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(message, field, Wire::Bytes);
    put_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut frame = Vec::with_capacity(data.len() + 16);
    frame.extend(length);
    frame.extend(masked_crc(&length).to_le_bytes());
    frame.extend(data);
    frame.extend(masked_crc(data).to_le_bytes());
    frame
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum bit by bit, from its definition (reflected polynomial 0x82f63b78).
    fn slow_crc32c(data: &[u8]) -> u32 {
        !data.iter().fold(!0_u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
            })
        })
    }

    fn take<'a>(rest: &mut &'a [u8], n: usize) -> &'a [u8] {
        let (head, tail) = rest.split_at(n);
        *rest = tail;
        head
    }

    fn varint(rest: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = take(rest, 1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn frames(mut rest: &[u8]) -> Vec<&[u8]> {
        let unmasked = |bytes: &[u8]| {
            let masked = u32::from_le_bytes(bytes.try_into().unwrap());
            masked.wrapping_sub(0xa282_ead8).rotate_left(15)
        };
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let length = take(&mut rest, 8);
            assert_eq!(unmasked(take(&mut rest, 4)), slow_crc32c(length));
            let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            let data = take(&mut rest, length);
            assert_eq!(unmasked(take(&mut rest, 4)), slow_crc32c(data));
            frames.push(data);
        }
        frames
    }

    /// The fields of a message: number and raw content (varints as eight bytes).
    fn fields(mut rest: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let key = varint(&mut rest);
            let content = match key & 7 {
                0 => varint(&mut rest).to_le_bytes().to_vec(),
                1 => take(&mut rest, 8).to_vec(),
                5 => take(&mut rest, 4).to_vec(),
                2 => {
                    let length = varint(&mut rest) as usize;
                    take(&mut rest, length).to_vec()
                }
                wire => panic!("wire type {wire}"),
            };
            fields.push((key >> 3, content));
        }
        fields
    }

    fn events(path: &Path) -> Vec<Vec<(u64, Vec<u8>)>> {
        frames(&fs::read(path).unwrap())
            .into_iter()
            .map(fields)
            .collect()
    }

    #[test]
    fn the_checksum_is_crc32c() {
        // The check value that the catalogues of checksums give for CRC-32C.
        assert_eq!(slow_crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn an_event_file_reads_back_as_it_was_written() {
        let place = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(&place.path().join("tensorboard")).unwrap();
        let scalars = [
            ("loss/helpfulness".to_owned(), 0.625),
            ("λ".to_owned(), -3.0),
        ];
        writer.write(300, &scalars).unwrap();

        let events = events(&writer.path);
        assert_eq!(events.len(), 2);
        assert_eq!(events[0][1], (3, b"brain.Event:2".to_vec()));
        assert_eq!(events[1][1], (2, 300_u64.to_le_bytes().to_vec()));
        let (number, summary) = &events[1][2];
        assert_eq!(*number, 5);
        let values: Vec<_> = fields(summary)
            .iter()
            .map(|(_, value)| fields(value))
            .collect();
        let expected = |tag: &str, value: f32| {
            vec![
                (1, tag.as_bytes().to_vec()),
                (2, value.to_le_bytes().to_vec()),
            ]
        };
        assert_eq!(
            values,
            [expected("loss/helpfulness", 0.625), expected("λ", -3.0)]
        );
    }

    #[test]
    fn resuming_adds_a_file_that_sorts_later_and_restarts_the_session() {
        let place = tempfile::tempdir().unwrap();
        let first = EventWriter::create(place.path()).unwrap();
        let second = EventWriter::resume(place.path(), 100).unwrap();
        assert!(second.path > first.path);
        let events = events(&second.path);
        assert_eq!(events[1][1], (2, 101_u64.to_le_bytes().to_vec()));
        assert_eq!(events[1][2].0, 7);
        assert_eq!(fields(&events[1][2].1), [(1, 1_u64.to_le_bytes().to_vec())]);
    }

    #[test]
    fn an_unwritable_folder_is_named() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        let message = EventWriter::create(&file.join("tensorboard"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("file/tensorboard"), "{message}");
    }
}
