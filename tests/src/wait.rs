//! Waiting for a condition, with a bound: the only place where tests sleep.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until `look` has an answer.
///
/// # Panics
/// With `what` if there is none within `bound`.
pub fn until<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + bound;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < end, "not within {bound:?}: {what}");
        thread::sleep(PAUSE);
    }
}

/// Looks until `holds` is true.
///
/// # Panics
/// With `what` if it is not within `bound`.
pub fn until_true(what: &str, bound: Duration, mut holds: impl FnMut() -> bool) {
    until(what, bound, || holds().then_some(()));
}
