//! A JSON array, of which one element at a time is in memory.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, Read};

use serde::Deserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde_json::Value;

/// Why an array was not read to its end.
pub(crate) enum Broken<E> {
    /// Whoever was given an element would not go on.
    Refused(E),
    /// An element has more bytes than it may.
    TooLong,
    /// The reader failed.
    Read(io::Error),
    /// It is not JSON; lines and columns count from where the reader began.
    Json(serde_json::Error),
}

/// Calls `each` with every element of the array that the reader holds and nothing beside it. An element may have `longest` bytes.
pub(crate) fn for_each_element<E>(
    reader: impl BufRead,
    longest: usize,
    each: impl FnMut(Value) -> Result<(), E>,
) -> Result<(), Broken<E>> {
    let left = Cell::new(longest);
    let mut refused = None;
    let elements = Elements {
        each,
        longest,
        left: &left,
        refused: &mut refused,
    };
    let limited = Limited {
        reader,
        left: &left,
    };
    let mut json = serde_json::Deserializer::from_reader(limited);
    let read = json.deserialize_seq(elements).and_then(|()| {
        left.set(usize::MAX);
        json.end()
    });
    match (read, refused) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(error)) => Err(Broken::Refused(error)),
        (Err(_), None) if left.get() == 0 => Err(Broken::TooLong),
        (Err(error), None) if error.is_io() => Err(Broken::Read(error.into())),
        (Err(error), None) => Err(Broken::Json(error)),
    }
}

/// Bytes of a reader, as long as some are left to be read.
struct Limited<'a, R> {
    reader: R,
    left: &'a Cell<usize>,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other("too long"));
        }
        let most = buffer.len().min(left);
        let read = self.reader.read(&mut buffer[..most])?;
        self.left.set(left - read);
        Ok(read)
    }
}

struct Elements<'a, F, E> {
    each: F,
    longest: usize,
    left: &'a Cell<usize>,
    refused: &'a mut Option<E>,
}

impl<'de, E, F: FnMut(Value) -> Result<(), E>> Visitor<'de> for Elements<'_, F, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element()? {
            self.left.set(self.longest);
            if let Err(error) = (self.each)(element) {
                *self.refused = Some(error);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its elements, up to the first text.
    fn read(json: &str, longest: usize) -> (Vec<Value>, Result<(), Broken<String>>) {
        let mut elements = Vec::new();
        let read = for_each_element(json.as_bytes(), longest, |element| match element {
            Value::String(text) => Err(text),
            element => {
                elements.push(element);
                Ok(())
            }
        });
        (elements, read)
    }

    #[test]
    fn the_length_of_elements_is_limited_and_not_that_of_the_array() {
        let json = format!("[{}1]\n ", "[1, 2, 3], ".repeat(1000));
        let (elements, all) = read(&json, 16);
        assert!(all.is_ok());
        assert_eq!(elements.len(), 1001);
        let (elements, all) = read(&json, 8);
        assert!(matches!(all, Err(Broken::TooLong)));
        assert_eq!(elements.len(), 0);
        let endless = format!("[1, [{}", "0, ".repeat(1000));
        assert!(matches!(read(&endless, 100).1, Err(Broken::TooLong)));
    }

    #[test]
    fn what_ends_it_is_told() {
        let (elements, refused) = read(r#"[1, "no", 2]"#, 100);
        assert_eq!(elements, [1]);
        assert!(matches!(refused, Err(Broken::Refused(text)) if text == "no"));
        for (json, line, column) in [
            ("[1,\n2 3]", 2, 3),
            ("[1", 1, 2),
            ("[1] 2", 1, 5),
            ("[1,]", 1, 4),
        ] {
            let (_, broken) = read(json, 100);
            let Err(Broken::Json(error)) = broken else {
                panic!("{json}");
            };
            assert_eq!((error.line(), error.column()), (line, column), "{json}");
        }
    }

    /// What is as deep as this would need as deep a stack.
    #[test]
    fn depth_is_an_error() {
        let deep = "[".repeat(100_000);
        let (_, broken) = read(&deep, deep.len());
        assert!(
            matches!(broken, Err(Broken::Json(error)) if error.to_string().contains("recursion"))
        );
    }
}
