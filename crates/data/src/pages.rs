//! What the pages of a Parquet file say of themselves, before any of them is read.
//!
//! The crate `parquet` believes it: that a page of ten bytes unpacks to two gigabytes, or holds a billion values. And some pages
//! unpack to more than they say. So their headers are walked first, and a file is refused that would take memory out of all
//! proportion to its length.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use arrow::datatypes::{DataType, Schema};
use flate2::bufread::MultiGzDecoder;
use parquet::basic::{Compression, PageType};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

/// Bytes that the pages which are held at once may unpack to, besides [`TIMES`] for each byte of the file.
const ROOM: u64 = 16 << 20;
/// Values that a group of rows may have, besides [`TIMES`] for each byte of the file.
const VALUES: u64 = 1 << 20;
/// How many more bytes, or values, there may be for each byte of the file.
const TIMES: u64 = 64;

/// Rows that are read together, where they are small.
const MOST_ROWS: u64 = 1024;

/// Refuses files whose pages unpack to too much, and says how many rows of the others can be read together.
///
/// # Panics
/// Where the metadata contradicts itself.
pub(crate) fn rows_at_once(
    file: &File,
    metadata: &ParquetMetaData,
    schema: &Schema,
) -> Result<usize, String> {
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let room = ROOM + TIMES * length;
    let mut most = padding(schema);
    for group in metadata.row_groups() {
        let (mut held, mut values) = (padding(schema), 0);
        for column in group.columns() {
            let name = column.column_path().string();
            let pages = Pages::of(file, length, column).map_err(|what| {
                format!("column `{name}`: {what}: the file is damaged, or made to fill the memory")
            })?;
            // A dictionary is held beside the page that needs it, and so is a value that every null takes the room of.
            held += pages.dictionary + pages.largest + width(column);
            values += pages.values;
            let too_much = |what: &str, found: u64, most: u64| {
                format!(
                    "up to column `{name}` {what} {found}, expected at most {most} in a file of {length} bytes: it is damaged, or made \
                     to fill the memory; if it is neither, write it anew with pages of 1 MB"
                )
            };
            if held > room {
                return Err(too_much("bytes of unpacked pages are", held, room));
            }
            let most_values = VALUES + TIMES * length;
            if values > most_values {
                return Err(too_much("values are", values, most_values));
            }
        }
        most = most.max(held);
    }
    if most > room {
        return Err(format!("lists of a fixed length take {most} bytes a row"));
    }
    // One value may be as long as its page, and every row may name it.
    let rows = (room / most.max(1)).clamp(1, MOST_ROWS);
    Ok(rows as usize)
}

/// Bytes of a value that has the same length in every row.
fn width(column: &ColumnChunkMetaData) -> u64 {
    column.column_descr().type_length().max(0) as u64
}

/// Bytes that a row without values takes in lists of a fixed length.
fn padding(schema: &Schema) -> u64 {
    fn of(kind: &DataType) -> u64 {
        match kind {
            DataType::FixedSizeList(item, length) => {
                let each = of(item.data_type()).max(16);
                each.saturating_mul(u64::from(length.unsigned_abs()))
            }
            DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
                of(item.data_type())
            }
            DataType::Struct(fields) => (fields.iter())
                .map(|field| of(field.data_type()))
                .fold(0, u64::saturating_add),
            _ => 0,
        }
    }
    (schema.fields().iter())
        .map(|field| of(field.data_type()))
        .fold(0, u64::saturating_add)
}

/// What the pages of a column say.
#[derive(Debug, Default)]
struct Pages {
    /// Bytes of its dictionary.
    dictionary: u64,
    /// Bytes of its largest other page.
    largest: u64,
    /// Values of all of them.
    values: u64,
}

impl Pages {
    fn of(file: &File, length: u64, column: &ColumnChunkMetaData) -> Result<Self, String> {
        let (start, size) = column.byte_range();
        if start.checked_add(size).is_none_or(|end| end > length) {
            return Err(format!(
                "it should have {size} bytes from byte {start} on, the file has {length}"
            ));
        }
        let mut reader = BufReader::new(file);
        let sought = reader.seek(SeekFrom::Start(start));
        sought.map_err(|error| error.to_string())?;
        let mut reader = reader.take(size);
        let mut pages = Self::default();
        while reader.limit() > 0 {
            // What is wrong with a header is said by who reads the page.
            let Ok(header) = Header::read(&mut reader) else {
                break;
            };
            let claimed = match column.compression() {
                Compression::UNCOMPRESSED => header.packed.max(0) as u64,
                _ => header.unpacked(),
            };
            if header.kind == PageType::DICTIONARY_PAGE as i64 {
                pages.dictionary = pages.dictionary.max(claimed);
            } else {
                pages.largest = pages.largest.max(claimed);
                pages.values += header.values.max(0) as u64;
            }
            let mut page = reader.by_ref().take(header.packed.max(0) as u64);
            if header.is_packed {
                header.skip_levels(&mut page).ok();
                let claimed = claimed.saturating_sub(header.levels());
                check_length(&mut page, column.compression(), claimed)?;
            }
            if io::copy(&mut page, &mut io::sink()).is_err() {
                break;
            }
        }
        Ok(pages)
    }
}

/// Unpacks what has no length of its own, to see whether it is longer than it says.
fn check_length(
    page: &mut impl BufRead,
    compression: Compression,
    claimed: u64,
) -> Result<(), String> {
    let count = |unpacked: &mut dyn Read| {
        // What cannot be unpacked is told by who reads the page.
        io::copy(&mut unpacked.take(claimed + 1), &mut io::sink()).unwrap_or(0)
    };
    let found = match compression {
        Compression::GZIP(_) => count(&mut MultiGzDecoder::new(page)),
        Compression::BROTLI(_) => count(&mut brotli::Decompressor::new(page, 4096)),
        // The others unpack to the length that was said, or not at all.
        _ => 0,
    };
    match found > claimed {
        true => Err(format!(
            "a page says that it unpacks to {claimed} bytes, and has more"
        )),
        false => Ok(()),
    }
}

/// What is needed of the header of a page, which is a structure in Thrift's compact protocol
/// (<https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>).
#[derive(Debug)]
struct Header {
    kind: i64,
    unpacked: i64,
    packed: i64,
    values: i64,
    /// Bytes of both kinds of levels, which are not packed in pages of the second version.
    levels: [i64; 2],
    is_packed: bool,
}

impl Header {
    fn read(reader: &mut impl Read) -> io::Result<Self> {
        let mut header = Self {
            kind: 0,
            unpacked: 0,
            packed: 0,
            values: 0,
            levels: [0; 2],
            is_packed: true,
        };
        Thrift { reader }.structure(0, &mut |path, value| match path {
            [1, 0] => header.kind = value,
            [2, 0] => header.unpacked = value,
            [3, 0] => header.packed = value,
            // Of data pages, dictionaries, and data pages of the second version.
            [5 | 7 | 8, 1] => header.values = value,
            [8, 5] => header.levels[0] = value,
            [8, 6] => header.levels[1] = value,
            [8, 7] => header.is_packed = value != 0,
            _ => {}
        })?;
        Ok(header)
    }

    fn unpacked(&self) -> u64 {
        self.unpacked.max(0) as u64
    }

    /// Bytes of the levels, never more than the page has.
    fn levels(&self) -> u64 {
        let levels = self.levels.iter().map(|&bytes| bytes.max(0) as u64);
        levels.sum::<u64>().min(self.unpacked())
    }

    fn skip_levels(&self, page: &mut impl Read) -> io::Result<u64> {
        io::copy(&mut page.take(self.levels()), &mut io::sink())
    }
}

/// The deepest that structures stand in one another.
const DEEPEST: usize = 8;

/// Reads values in Thrift's compact protocol
/// (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>).
struct Thrift<'a, R> {
    reader: &'a mut R,
}

impl<R: Read> Thrift<'_, R> {
    /// Calls `see` with the numbers and flags of a structure and of those in it: the field's number, and that of the field
    /// within it, which is 0 where there is none.
    fn structure(&mut self, outer: i64, see: &mut impl FnMut([i64; 2], i64)) -> io::Result<()> {
        let mut field = 0;
        loop {
            let head = self.byte()?;
            let kind = head & 15;
            if kind == 0 {
                return Ok(());
            }
            field = match head >> 4 {
                0 => self.number()?,
                more => field + i64::from(more),
            };
            let path = match outer {
                0 => [field, 0],
                outer => [outer, field],
            };
            match kind {
                1 | 2 => see(path, i64::from(kind == 1)),
                4..=6 => see(path, self.number()?),
                12 if outer == 0 => self.structure(field, see)?,
                _ => self.skip(kind, 0)?,
            }
        }
    }

    fn skip(&mut self, kind: u8, depth: usize) -> io::Result<()> {
        let wrong = || io::Error::other("not a value of Thrift's");
        if depth > DEEPEST {
            return Err(wrong());
        }
        match kind {
            1..=3 => self.byte().map(|_| ()),
            4..=6 => self.number().map(|_| ()),
            7 => self.pass(8),
            8 => {
                let length = self.natural()?;
                self.pass(length)
            }
            9 | 10 => {
                let head = self.byte()?;
                let length = match head >> 4 {
                    15 => self.natural()?,
                    length => u64::from(length),
                };
                (0..length).try_for_each(|_| self.skip(head & 15, depth + 1))
            }
            12 => loop {
                let head = self.byte()?;
                match head & 15 {
                    0 => return Ok(()),
                    _ if head >> 4 == 0 => self.number().map(|_| ())?,
                    _ => {}
                }
                // A flag in a structure is its own value.
                if !matches!(head & 15, 1 | 2) {
                    self.skip(head & 15, depth + 1)?;
                }
            },
            _ => Err(wrong()),
        }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// A number without sign, seven bits a byte, the lowest first.
    fn natural(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 127) << shift;
            if byte < 128 {
                break;
            }
        }
        Ok(number)
    }

    /// One with a sign, which is its lowest bit.
    fn number(&mut self) -> io::Result<i64> {
        let number = self.natural()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.reader.by_ref().take(bytes), &mut io::sink())?;
        match passed == bytes {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header as the format's own library writes it, with statistics, which are of no interest.
    #[test]
    fn of_a_header_the_lengths_are_read() {
        let header = [
            0x15, 0x06, // 1: the second version of data pages
            0x15, 0x80, 0x80, 0x80, 0x01, // 2: unpacked
            0x15, 0x14, // 3: packed
            0x15, 0x01, // 4: a checksum, -1
            0x4c, // 8: the page
            0x15, 0x0c, 0x15, 0x00, 0x15, 0x0c, 0x15, 0x00, // values, nulls, rows, encoding
            0x15, 0x06, 0x15, 0x04, // levels
            0x12, // not packed
            0x1c, 0x18, 0x02, b'a', b'b', 0x11, 0x19, 0x21, 0x01, 0x02, 0x00, // statistics
            0x00, 0x00,
        ];
        let mut reader = &header[..];
        let read = Header::read(&mut reader).unwrap();
        assert!(reader.is_empty());
        assert_eq!((read.kind, read.unpacked, read.packed), (3, 1 << 20, 10));
        assert_eq!(
            (read.values, read.levels, read.is_packed),
            (6, [3, 2], false)
        );
        for end in 0..header.len() {
            assert!(Header::read(&mut &header[..end]).is_err(), "{end}");
        }
        // Lists in lists without an end.
        let deep: Vec<u8> = [0x19].into_iter().chain([0x19; 100_000]).collect();
        assert!(Header::read(&mut &deep[..]).is_err());
    }
}
