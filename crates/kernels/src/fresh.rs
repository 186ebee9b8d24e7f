//! New memory that is not zeroed first, and the proof that all of it is written before anybody reads it.
//!
//! With debug assertions new memory holds NaN: an element that is not written shows in whatever is computed from it.

use std::mem::MaybeUninit;

use crate::host;

/// Elements of which none is written yet.
///
/// The lifetime is a name for these very elements: it is invariant, and [`new_rows`] and [`Fresh::fill_runs`] make a
/// new one for every call of their closure. So that closure can give back a [`Filled`] of that name only by filling
/// what it was given.
pub(crate) struct Fresh<'a> {
    elements: &'a mut [MaybeUninit<f32>],
    _name: Name<'a>,
}

/// The proof that every element of the [`Fresh`] of this name is written.
#[must_use]
pub(crate) struct Filled<'a>(Name<'a>);

/// Neither a longer nor a shorter lifetime will do.
type Name<'a> = std::marker::PhantomData<fn(&'a ()) -> &'a ()>;

impl<'a> Fresh<'a> {
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Private: a second one of the same name would prove nothing about the first.
    #[inline(always)]
    fn new(elements: &'a mut [MaybeUninit<f32>]) -> Self {
        Self {
            elements,
            _name: Name::default(),
        }
    }

    /// Writes `value(i)` into every element i. Slices that `value` reads are best cut to [`Fresh::len`] before, so that
    /// no index is checked in the loop.
    #[inline(always)]
    pub fn fill(self, value: impl Fn(usize) -> f32) -> Filled<'a> {
        for (i, element) in self.elements.iter_mut().enumerate() {
            element.write(value(i));
        }
        Filled(Name::default())
    }

    /// Calls `write(index, run)` for every run of `length` elements; the last may be shorter.
    #[inline(always)]
    pub fn fill_runs(
        self,
        length: usize,
        mut write: impl for<'b> FnMut(usize, Fresh<'b>) -> Filled<'b>,
    ) -> Filled<'a> {
        for (index, run) in self.elements.chunks_mut(length).enumerate() {
            let Filled(_) = write(index, Fresh::new(run));
        }
        Filled(Name::default())
    }
}

/// `rows` × `width` new elements. `write(first, chunk)` is called for runs of whole rows, `first` being the index of
/// the run's first row.
pub(crate) fn new_rows(
    rows: usize,
    width: usize,
    write: impl for<'a> Fn(usize, Fresh<'a>) -> Filled<'a> + Sync,
) -> Vec<f32> {
    let count = elements([rows, width]);
    let mut values = Vec::with_capacity(count);
    host::for_rows(
        spare(&mut values, count),
        width,
        #[inline(always)]
        |first, chunk| {
            let Filled(_) = write(first, Fresh::new(chunk));
        },
    );
    // SAFETY: `spare` has checked that the capacity is there. `for_rows` has called its closure with chunks that
    // together are all of it, or has panicked; and each call has come back with the proof that its chunk is written.
    unsafe { values.set_len(count) };
    values
}

/// The first `count` elements behind those of `values`, which the caller is about to write. They hold NaN with debug
/// assertions, anything without.
///
/// # Panics
/// If the capacity is not there.
pub(crate) fn spare(values: &mut Vec<f32>, count: usize) -> &mut [MaybeUninit<f32>] {
    let spare = &mut values.spare_capacity_mut()[..count];
    if cfg!(debug_assertions) {
        spare.fill(MaybeUninit::new(f32::NAN));
    }
    spare
}

/// The number of elements of a matrix. A broadcast tensor repeats what it holds, so it may have more elements than a
/// `usize` can count; a result that is computed from it may not.
///
/// # Panics
/// If they are too many.
pub(crate) fn elements([rows, columns]: [usize; 2]) -> usize {
    let count = rows.checked_mul(columns);
    count.unwrap_or_else(|| panic!("a matrix of {rows} × {columns} does not fit into memory"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::ELEMENTS_PER_TASK;

    #[test]
    fn every_element_is_written_on_one_thread_and_on_all() {
        for [rows, width] in [
            [0, 3],
            [1, 1],
            [7, 5],
            [3 * ELEMENTS_PER_TASK, 2],
            [2, 40_000],
        ] {
            let values = new_rows(rows, width, |first, chunk| {
                chunk.fill_runs(width, |row, out| {
                    out.fill(|i| ((first + row) * width + i) as f32)
                })
            });
            assert_eq!(values.len(), rows * width);
            let expected = (0..rows * width).map(|i| i as f32);
            assert!(values.into_iter().eq(expected));
        }
    }

    #[test]
    #[should_panic(expected = "does not fit into memory")]
    fn more_elements_than_can_be_counted_are_refused() {
        let _ = elements([1 << (usize::BITS / 2), 1 << (usize::BITS / 2)]);
    }

    #[cfg(debug_assertions)]
    #[test]
    fn new_memory_is_poisoned() {
        let mut values = Vec::with_capacity(100);
        for element in spare(&mut values, 100) {
            // SAFETY: with debug assertions `spare` has written NaN.
            assert!(unsafe { element.assume_init() }.is_nan());
        }
    }
}
