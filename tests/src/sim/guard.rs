//! Panics of a run, caught without a word on stderr: what was said, and where.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// A run is under way in this thread.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
    /// What its panic said.
    static WORDS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs it; a panic is an error with its message and place.
///
/// # Errors
/// It panicked.
pub fn catch<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    install();
    GUARDED.set(true);
    // What a panic leaves half-done is only looked at for its trace.
    let outcome = panic::catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(false);
    outcome.map_err(|_| WORDS.take())
}

/// Panics elsewhere are told as ever.
fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                return before(info);
            }
            let payload = info.payload();
            let message = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned());
            let place = info
                .location()
                .map_or_else(String::new, ToString::to_string);
            let message = message.unwrap_or_else(|| "a panic without words".to_owned());
            WORDS.set(format!("{message}, at {place}"));
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place() {
        let told = catch(|| panic!("seven is {}", 8)).unwrap_err();
        assert!(
            told.starts_with("seven is 8, at ") && told.contains("guard.rs"),
            "{told}"
        );
        assert_eq!(catch(|| 7), Ok(7));
    }
}
