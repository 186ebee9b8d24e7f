//! Strings that end an answer.

use std::sync::Arc;

/// A text that ends in front of the first of some strings to be complete. Text that may be the beginning of one is kept back.
#[derive(Debug)]
pub struct Stops {
    strings: Arc<[String]>,
    held: String,
}

impl Stops {
    /// Empty strings end nothing.
    pub fn new(strings: Arc<[String]>) -> Self {
        Self {
            strings,
            held: String::new(),
        }
    }

    /// What is certain to be part of the answer once `text` has come, and whether that is its end.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held += text;
        let strings = || self.strings.iter().filter(|string| !string.is_empty());
        let found = strings().filter_map(|string| {
            let start = self.held.find(string.as_str())?;
            Some((start + string.len(), start))
        });
        if let Some((_, start)) = found.min() {
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), true);
        }
        let begins_a_stop =
            |at: &usize| strings().any(|string| string.starts_with(&self.held[*at..]));
        let mut places = self.held.char_indices().map(|(at, _)| at);
        let certain = places.find(begins_a_stop);
        let held = self.held.split_off(certain.unwrap_or(self.held.len()));
        (std::mem::replace(&mut self.held, held), false)
    }

    /// What was kept back, where nothing more comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that comes out of pieces, and whether a string ended it.
    fn cut(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut filter = Stops::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut out = String::new();
        for piece in pieces {
            let (text, is_end) = filter.push(piece);
            out += &text;
            if is_end {
                return (out, true);
            }
        }
        (out + &filter.finish(), false)
    }

    #[test]
    fn an_answer_ends_before_the_first_stop_however_it_is_cut_into_pieces() {
        let text = "one ##\ntwo é###three";
        let cases: [(&[&str], &str, bool); 7] = [
            (&["###"], "one ##\ntwo é", true),
            (&["two", "one #"], "", true),
            (&["#\nt"], "one #", true),
            (&["é"], "one ##\ntwo ", true),
            (&["wo é##", "o é"], "one ##\ntw", true),
            (&["threes", ""], text, false),
            (&[], text, false),
        ];
        let characters: Vec<String> = text.chars().map(String::from).collect();
        for (stops, expected, is_end) in cases {
            for size in 1..=characters.len() {
                let pieces: Vec<String> = characters.chunks(size).map(|c| c.concat()).collect();
                let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
                let found = cut(stops, &pieces);
                assert_eq!(found, (expected.to_owned(), is_end), "{stops:?} by {size}");
            }
        }
    }

    #[test]
    fn nothing_is_kept_back_without_need() {
        let mut stops = Stops::new(["ab".to_owned()].into());
        assert_eq!(stops.push("xa"), ("x".to_owned(), false));
        assert_eq!(stops.push("a"), ("a".to_owned(), false));
        assert_eq!(stops.push("c"), ("ac".to_owned(), false));
    }
}
