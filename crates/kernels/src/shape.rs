//! Checks of what the caller gives: every public operation makes them before it chooses between its two forms, so
//! that both refuse the same, in release too. They cost some comparisons a call, none an element.

use std::fmt::Display;

/// Panics unless axis `axis` of `argument` has the `expected` length; `why` says where that comes from.
#[track_caller]
pub(crate) fn axis(
    operation: &str,
    argument: impl Display,
    axis: usize,
    found: usize,
    expected: usize,
    why: &str,
) {
    assert!(
        found == expected,
        "{operation}: axis {axis} of `{argument}` is {found}, expected {expected} {why}"
    );
}

/// Panics unless every axis of `argument` has the length that stands beside the reason for it.
#[track_caller]
pub(crate) fn check<const D: usize>(
    operation: &str,
    argument: impl Display,
    found: [usize; D],
    expected: [(usize, &str); D],
) {
    for (i, (found, (expected, why))) in found.into_iter().zip(expected).enumerate() {
        axis(operation, &argument, i, found, expected, why);
    }
}

/// Panics unless `argument` has the same shape as another one; `why` names that.
#[track_caller]
pub(crate) fn same<const D: usize>(
    operation: &str,
    argument: impl Display,
    found: [usize; D],
    expected: [usize; D],
    why: &str,
) {
    check(operation, argument, found, expected.map(|n| (n, why)));
}

/// Panics unless axis `axis` of `argument` is a multiple of `of`.
#[track_caller]
pub(crate) fn multiple(
    operation: &str,
    argument: &str,
    axis: usize,
    found: usize,
    of: usize,
    why: &str,
) {
    assert!(
        found.is_multiple_of(of),
        "{operation}: axis {axis} of `{argument}` is {found}, expected a multiple of {of}, {why}"
    );
}

/// Panics unless there is at least one of what `argument` counts.
#[track_caller]
pub(crate) fn some(operation: &str, argument: impl Display, found: usize) {
    assert!(
        found > 0,
        "{operation}: {argument} is 0, expected at least 1"
    );
}

/// Panics unless the index `found` lies below `limit`; `why` says where that comes from.
#[track_caller]
pub(crate) fn below(
    operation: &str,
    argument: impl Display,
    found: usize,
    limit: usize,
    why: &str,
) {
    assert!(
        found < limit,
        "{operation}: `{argument}` is {found}, expected less than {limit}, {why}"
    );
}
