//! One file, row by row: texts are unpacked, the format is told, columns are noted, and what cannot be used is refused or counted.

use crate::RecordKind;
use crate::columns::Columns;
use crate::error::{DataError, RecordProblem, Trouble};
use crate::readers::fields::Row;
use crate::readers::{Format, packed};
use crate::record::Source;
use crate::report::{DataReport, FileReport};
use crate::rows::{Rows, for_each_row};
use crate::tolerance::Tolerance;

/// How the rows of a file are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileReader<'a> {
    /// What its records are for.
    pub(crate) kind: RecordKind,
    /// Its format; without one, told by the columns of its first record.
    pub(crate) format: Option<Format>,
    pub(crate) tolerance: Tolerance,
    /// See [`Loader::as_written`](crate::Loader::as_written).
    pub(crate) as_written: bool,
    /// The objective whose own data set it is.
    pub(crate) objective: Option<&'a str>,
}

/// Who takes the rows of a file.
pub(crate) trait Taker {
    /// What is counted.
    fn report(&mut self) -> &mut DataReport;

    /// Whether a column is read beside those of the format.
    fn reads(&self, column: &str) -> bool;

    /// Takes what a row has, and returns what the report says of how it was read.
    fn take(
        &mut self,
        source: &Source,
        row: &Row,
        format: Format,
    ) -> Result<Option<String>, Trouble>;

    /// A row was taken, and its memory is free again.
    fn row_is_done(&mut self) -> Result<(), DataError> {
        Ok(())
    }
}

impl FileReader<'_> {
    /// Hands every row to `taker`.
    pub(crate) fn read(self, rows: Rows<'_>, taker: &mut impl Taker) -> Result<(), DataError> {
        let read_before = taker.report().read;
        let mut format = self.format;
        let mut columns = Columns::default();
        let mut without_format = None;
        for_each_row(rows, &mut |source, row| {
            taker.report().read += 1;
            let taken = row
                .map_err(Trouble::Record)
                .and_then(|row| self.row(&source, &row, &mut format, &mut columns, taker));
            match taken {
                Ok(()) => taker.row_is_done(),
                Err(Trouble::Load(error)) => Err(error),
                Err(Trouble::Record(problem)) => {
                    let refusal = problem.of(source);
                    if matches!(refusal.problem, RecordProblem::Columns { .. }) {
                        without_format.get_or_insert_with(|| refusal.clone());
                    }
                    self.tolerance.refuse(refusal, taker.report())
                }
            }
        })?;
        // Not one record has the columns of a format: that is the file's fault.
        if let (None, Some(refusal)) = (format, without_format) {
            return Err(refusal.into());
        }
        let report = taker.report();
        report.files.extend(format.map(|format| FileReport {
            file: rows.name().to_owned(),
            format,
            records: report.read - read_before,
            objective: self.objective.map(str::to_owned),
            unread_columns: columns.unread(),
        }));
        Ok(())
    }

    fn row(
        self,
        source: &Source,
        row: &Row,
        format: &mut Option<Format>,
        columns: &mut Columns,
        taker: &mut impl Taker,
    ) -> Result<(), Trouble> {
        let unpacked = match self.as_written {
            true => None,
            false => packed::unpacked(row).map_err(RecordProblem::Field)?,
        };
        let row = unpacked.as_ref().map_or(row, |unpacked| &unpacked.row);
        let format = match *format {
            Some(format) => format,
            None => *format.insert(Format::detect(source, row, self.kind)?),
        };
        columns.add(row, |column| {
            format.reads(row, column) || taker.reads(column)
        });
        let kept = taker.report().kept;
        let note = taker.take(source, row, format)?;
        // Notes are about records that are used.
        let report = taker.report();
        if report.kept > kept {
            let of_texts = unpacked.iter().flat_map(|unpacked| &unpacked.notes);
            of_texts.for_each(|note| report.note(note));
            note.iter().for_each(|note| report.note(note));
        }
        Ok(())
    }
}
