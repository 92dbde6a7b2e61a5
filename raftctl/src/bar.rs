//! How far work on files has come: a bar for a person who waits. For anybody else there is none.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use raftd::disk::Meter;

use crate::format::Style;

/// Between two looks at a meter.
const LOOK: Duration = Duration::from_millis(200);

/// A bar for so many bytes; 0 if nobody knows how many.
pub(crate) fn bar(bytes: u64, style: &Style) -> ProgressBar {
    if style.no_progress || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, form) = match bytes {
        0 => (ProgressBar::new_spinner(), "{bytes} {bytes_per_sec}"),
        _ => (
            ProgressBar::new(bytes),
            "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        ),
    };
    let style = ProgressStyle::with_template(form).expect("the template is one");
    bar.with_style(style)
}

/// Does work that a meter counts.
pub(crate) fn metered<T>(bar: &ProgressBar, meter: &Meter, work: impl FnOnce() -> T) -> T {
    let done = meter.watch(LOOK, |bytes| bar.set_position(bytes), work);
    bar.finish_and_clear();
    done
}
