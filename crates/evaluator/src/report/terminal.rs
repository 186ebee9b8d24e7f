//! Tables and texts in so many columns of a terminal.

use super::numbers::Table;

/// Between two columns of a table.
const BETWEEN: usize = 2;

impl Table {
    /// The table in at most `width` columns: as it is, or with rows and columns exchanged where only that fits, or else in blocks
    /// one below the other, each of which begins with the first `names` columns. A name that is wider by itself is not cut.
    #[must_use]
    pub fn fitted(&self, width: usize, names: usize) -> String {
        if self.width() <= width || self.header.len() <= names {
            return self.to_string();
        }
        let turned = self.turned();
        if turned.width() <= width {
            return turned.to_string();
        }
        let blocks = self.blocks(width, names);
        let blocks: Vec<String> = blocks.iter().map(Self::to_string).collect();
        blocks.join("\n\n")
    }

    fn column_width(&self, column: usize) -> usize {
        let lines = std::iter::once(&self.header).chain(&self.rows);
        let widths = lines.map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    }

    fn width(&self) -> usize {
        let widths = (0..self.header.len()).map(|column| self.column_width(column) + BETWEEN);
        widths.sum::<usize>().saturating_sub(BETWEEN)
    }

    /// What was a row is a column.
    fn turned(&self) -> Self {
        let column = |column: usize| -> Vec<String> {
            let lines = std::iter::once(&self.header).chain(&self.rows);
            lines.map(|line| line[column].clone()).collect()
        };
        Self {
            header: column(0),
            rows: (1..self.header.len()).map(column).collect(),
        }
    }

    /// The columns behind the names, shared out over as few blocks as fit.
    fn blocks(&self, width: usize, names: usize) -> Vec<Self> {
        let columns: Vec<usize> = (names..self.header.len()).collect();
        let own = |column: &usize| self.column_width(*column) + BETWEEN;
        let of_names: usize = (0..names).map(|column| own(&column)).sum();
        let room = (width + BETWEEN).saturating_sub(of_names);
        let widest = columns.iter().map(own).max().unwrap_or(1);
        let count = columns.len().div_ceil((room / widest).max(1));
        // No block is left with a single column where the others have many.
        let each = columns.len().div_ceil(count.max(1));
        let block = |part: &[usize]| {
            let take = |line: &Vec<String>| {
                let taken = (0..names).chain(part.iter().copied());
                taken.map(|column| line[column].clone()).collect()
            };
            Self {
                header: take(&self.header),
                rows: self.rows.iter().map(take).collect(),
            }
        };
        columns.chunks(each.max(1)).map(block).collect()
    }
}

/// A text on lines of at most `width` characters, broken between words.
#[must_use]
pub fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::numbers::texts;
    use super::*;

    /// So many rows of a name and values that are 5 wide.
    fn table(rows: usize, values: usize) -> Table {
        let line = |start: &str, cell: &str| {
            let cells = (0..values).map(|column| format!("{cell}{column:>4}"));
            std::iter::once(start.to_owned()).chain(cells).collect()
        };
        Table {
            header: line("λ", "c"),
            rows: (0..rows)
                .map(|row| line(&format!("row {row}"), "v"))
                .collect(),
        }
    }

    fn widest(text: &str) -> usize {
        text.lines()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let table = table(3, 4);
        assert_eq!(table.fitted(33, 1), table.to_string());
    }

    #[test]
    fn a_wide_table_of_few_rows_is_turned() {
        let text = table(2, 10).fitted(40, 1);
        assert_eq!(text.lines().next(), Some("λ      row 0  row 1"));
        assert_eq!(text.lines().nth(1), Some("c   0  v   0  v   0"));
        assert_eq!(text.lines().count(), 11);
    }

    #[test]
    fn other_wide_tables_are_split_evenly_and_repeat_their_names() {
        for width in [26, 40, 80] {
            let text = table(12, 20).fitted(width, 1);
            assert!(widest(&text) <= width, "{text}");
            let blocks: Vec<&str> = text.split("\n\n").collect();
            let columns: Vec<usize> = blocks
                .iter()
                .map(|block| {
                    block
                        .lines()
                        .next()
                        .unwrap_or_default()
                        .matches('c')
                        .count()
                })
                .collect();
            assert_eq!(columns.iter().sum::<usize>(), 20, "{text}");
            let (least, most) = (columns.iter().min(), columns.iter().max());
            assert!(
                most.zip(least)
                    .is_some_and(|(most, least)| most - least < 3),
                "{columns:?}"
            );
            assert!(
                blocks
                    .iter()
                    .all(|block| block.matches("row ").count() == 12)
            );
        }
    }

    #[test]
    fn too_narrow_is_one_column_a_block() {
        let text = table(9, 9).fitted(3, 1);
        assert_eq!(text.split("\n\n").count(), 9);
        let names = Table {
            header: texts(&["a"]),
            rows: vec![texts(&["long"]); 3],
        };
        assert_eq!(names.fitted(2, 1), names.to_string());
    }

    #[test]
    fn words_stay_whole() {
        assert_eq!(wrapped("λ moves a by 0.1", 9), "λ moves a\nby 0.1");
        assert_eq!(wrapped("unbreakable x", 4), "unbreakable\nx");
        assert_eq!(wrapped("", 4), "");
    }
}
