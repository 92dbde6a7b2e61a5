//! A range of keys, page by page, all as of one revision.

use wire::client::{Consistency, Freshness, KeyRange, ScanMode, ViewChoice, prefix_end};
use wire::limits::PAGE_ITEMS_MAX;
use wire::types::Index;

use super::Client;
use super::error::Error;
use super::read::{Page, Scan};
use super::route::Deadline;

/// Which keys a [`Walk`] reads, and how.
#[derive(Clone, Debug)]
pub struct Way {
    /// How fresh the revision is.
    pub freshness: Freshness,
    /// What to return of each key.
    pub mode: ScanMode,
    /// The first key that counts; may be empty.
    pub from: Vec<u8>,
    /// The first key that does not count any more; `None`: all do.
    pub to: Option<Vec<u8>>,
    /// The highest key comes first.
    pub reverse: bool,
    /// Keys at most.
    pub limit: u64,
}

impl Way {
    /// All keys from one on, up to another, as they are now; upwards.
    #[must_use]
    pub fn range(mode: ScanMode, from: &[u8], to: Option<&[u8]>) -> Self {
        Self {
            freshness: Consistency::Linearizable.into(),
            mode,
            from: from.to_vec(),
            to: to.map(<[u8]>::to_vec),
            reverse: false,
            limit: u64::MAX,
        }
    }

    /// All keys that begin with this, as they are now; upwards.
    #[must_use]
    pub fn prefix(mode: ScanMode, prefix: &[u8]) -> Self {
        Self::range(mode, prefix, prefix_end(prefix).as_deref())
    }
}

/// How far a [`Walk`] has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The revision that all its pages show.
    pub revision: Index,
    /// Keys in the pages so far, without one that no other follows; with [`ScanMode::Count`] those
    /// that were counted.
    pub count: u64,
    /// The last of these keys: the next page comes behind it.
    pub last: Vec<u8>,
}

/// Reads a range page by page. The node that sends the first page keeps a view of its state for the
/// others, so that all of them show the revision of the first one, however long it takes: up to an
/// hour, and five minutes between two pages.
///
/// Invariants: pages follow each other without gap and overlap; together they hold `limit` keys at
/// most; all are of one index.
#[derive(Debug)]
pub struct Walk {
    client: Client,
    way: Way,
    reached: Option<Reached>,
    view: ViewChoice,
    left: u64,
    ended: bool,
}

impl Walk {
    /// Nothing is asked before [`Walk::next_page`].
    #[must_use]
    pub fn new(client: Client, way: Way) -> Self {
        Self {
            client,
            left: way.limit,
            way,
            reached: None,
            view: ViewChoice::Keep,
            ended: false,
        }
    }

    /// How far it has come; `None` as long as there is nothing but one page.
    #[must_use]
    pub fn reached(&self) -> Option<&Reached> {
        self.reached.as_ref()
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// [`Error`], never `Unknown`. With `ViewGone` the rest of that revision is not to be had.
    pub fn next_page(&mut self, deadline: Deadline) -> Result<Option<Page>, Error> {
        if self.ended || self.left == 0 {
            return Ok(None);
        }
        let limit = u32::try_from(self.left).unwrap_or(u32::MAX);
        let scan = Scan {
            freshness: self.way.freshness,
            mode: self.way.mode,
            range: KeyRange {
                from: &self.way.from,
                to: self.way.to.as_deref(),
            },
            reverse: self.way.reverse,
            after: self.reached.as_ref().map(|reached| &*reached.last),
            limit: limit.min(PAGE_ITEMS_MAX),
            view: self.view,
        };
        let mut page = self.client.scan(scan, deadline)?;
        match (page.more_after.take(), page.view) {
            (Some(last), Some(id)) => {
                self.left = self.left.saturating_sub(page.count);
                self.view = ViewChoice::Of(id);
                self.reached = Some(Reached {
                    revision: page.index,
                    count: self.way.limit - self.left,
                    last,
                });
            }
            (Some(_), None) => {
                return Err(Error::NotApplied {
                    why: super::Why::Server(wire::error::Error::ViewGone),
                    place: self.client.session.place.clone(),
                });
            }
            (None, _) => self.ended = true,
        }
        Ok(Some(page))
    }
}
