//! What is said of an operation that cannot be done.

use raftctl::client::{Outcome, Undone};
use wire::limits::{ENTRY_KEYS_MAX, RESULTS_BYTES_MAX, VALUE_BYTES_MAX};

/// Why a write by itself was not done; `None` if it was.
pub(crate) fn of(outcome: &Outcome) -> Option<Undone> {
    match outcome {
        Outcome::NotANumber => Some(Undone::NotANumber),
        Outcome::Overflow => Some(Undone::Overflow),
        Outcome::TooLong => Some(Undone::TooLong),
        _ => None,
    }
}

/// For programs.
pub(crate) fn name(why: Undone) -> &'static str {
    match why {
        Undone::NotANumber => "not-a-number",
        Undone::Overflow => "overflow",
        Undone::TooLong | Undone::TooManyKeys | Undone::TooMuchToTell => "too-large",
    }
}

/// For people.
pub(crate) fn text(why: Undone) -> String {
    match why {
        Undone::NotANumber => "the value is no decimal number of 64 bits".into(),
        Undone::Overflow => "the sum does not fit 64 bits with a sign".into(),
        Undone::TooLong => format!("the value would have more than {VALUE_BYTES_MAX} bytes"),
        Undone::TooManyKeys => format!("it would touch more than {ENTRY_KEYS_MAX} keys"),
        Undone::TooMuchToTell => {
            format!("the results would have more than {RESULTS_BYTES_MAX} bytes")
        }
    }
}
