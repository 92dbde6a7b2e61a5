//! How far work has come: a bar for a person who waits. For anybody else there is none.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use raftd::disk::Meter;

use crate::format::Style;

/// Between two looks at a meter.
const LOOK: Duration = Duration::from_millis(200);

/// A bar for so many bytes, 0 if nobody knows how many, unless it is not wanted.
pub(crate) fn bar(bytes: u64, style: &Style) -> ProgressBar {
    if style.no_progress {
        return ProgressBar::hidden();
    }
    on_terminal((bytes > 0).then_some(bytes))
}

/// A bar for so many bytes, if that is known.
pub(crate) fn on_terminal(bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, form) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {bytes} {bytes_per_sec} {elapsed} {msg}",
        ),
    };
    bar.with_style(ProgressStyle::with_template(form).expect("the template is one"))
}

/// Does work that a meter counts.
pub(crate) fn metered<T>(bar: &ProgressBar, meter: &Meter, work: impl FnOnce() -> T) -> T {
    let done = meter.watch(LOOK, |bytes| bar.set_position(bytes), work);
    bar.finish_and_clear();
    done
}
