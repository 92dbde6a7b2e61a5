//! Which keys, and their pages, for the verbs that walk over them.

use std::ffi::OsString;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use raftctl::client::{Deadline, Error, Page, ScanMode, Walk, Way, prefix_end};
use raftctl::failure::{Exit, Failure};

use super::fresh::Fresh;
use super::{Session, shown};
use crate::encoding::Encoding;
use crate::input;

/// Pages that are read while one is printed, and wait.
const AHEAD_MAX: usize = 1;

/// Which keys.
#[derive(Debug, clap::Args)]
pub(crate) struct Range {
    /// Keys must begin with it.
    #[arg(
        default_value = "",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    prefix: OsString,
    /// Keys from this one on.
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    from: Option<OsString>,
    /// Keys below this one.
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    to: Option<OsString>,
    /// Keys at most.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    fresh: Fresh,
}

impl Range {
    /// Bytes that all its keys begin with.
    pub(crate) fn stem_bytes(&self, encoding: Option<Encoding>) -> Result<usize, Failure> {
        Ok(input::key(&self.prefix, encoding)?.len())
    }

    /// How to walk over it.
    pub(crate) fn way(
        &self,
        mode: ScanMode,
        reverse: bool,
        encoding: Option<Encoding>,
    ) -> Result<Way, Failure> {
        let bound = |text: &Option<OsString>| match text {
            Some(text) => input::key(text, encoding).map(Some),
            None => Ok(None),
        };
        let prefix = input::key(&self.prefix, encoding)?;
        let ends = [prefix_end(&prefix), bound(&self.to)?];
        Ok(Way {
            freshness: self.fresh.freshness()?,
            mode,
            to: ends.into_iter().flatten().min(),
            from: bound(&self.from)?.unwrap_or_default().max(prefix),
            reverse,
            limit: self.limit.unwrap_or(u64::MAX),
        })
    }
}

/// The pages of a range, all of one revision. The next one is read while one is printed; if nobody
/// takes them, no more are read. The time of `-t` is that of each page.
pub(crate) struct Pages {
    pages: Receiver<Result<Page, Error>>,
    what: String,
}

impl Pages {
    /// Begins to read. `what` names it in errors.
    pub(crate) fn new(session: &Session<'_>, way: Way, what: &str) -> Result<Self, Failure> {
        let what = format!("{what} {}", shown(&way.from)).trim_end().to_owned();
        let timeout = session.timeout;
        let mut walk = Walk::new(session.client(), way);
        let (sender, pages) = sync_channel(AHEAD_MAX);
        let reader = move || {
            while let Some(page) = walk.next_page(Deadline::after(timeout)).transpose() {
                let failed = page.is_err();
                // Whoever printed them may be gone.
                if sender.send(page).is_err() || failed {
                    return;
                }
            }
        };
        let spawned = thread::Builder::new().name("pages".into()).spawn(reader);
        spawned.map_err(|error| {
            Failure::new(
                Exit::Bug,
                "thread",
                format!("no thread can be started: {error}"),
            )
        })?;
        Ok(Self { pages, what })
    }

    /// The next page; `None` after the last.
    pub(crate) fn next(&self) -> Result<Option<Page>, Failure> {
        let page = self.pages.recv().ok().transpose();
        page.map_err(|error| Failure::of(&self.what, &error))
    }
}
