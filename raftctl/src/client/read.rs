//! Reads: one key, a page of keys, the state of a node.

use std::time::Duration;

use wire::client::{
    Consistency, Freshness, Item, Items, KeyRange, Reply, Request, ScanMode, Status, ViewChoice,
};
use wire::error::Error as WireError;
use wire::hello::Welcome;
use wire::limits::PAGE_ITEMS_MAX;
use wire::types::{EntryId, Index};

use super::call::{Meeting, Read, Stop, Whom};
use super::error::{Cause, Error, Why};
use super::route::Deadline;
use super::{Client, Options, limits};

/// A key's value with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Vec<u8>,
    /// Index of the log entry that last wrote the key.
    pub revision: Index,
    /// Index of the log entry that made the key.
    pub create_revision: Index,
    /// Writes since it was made; 1 for a new key.
    pub version: u64,
}

/// Which keys to read.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// How fresh. Each page is linearizable by itself; a later one shows later writes, unless it is
    /// of a view.
    pub freshness: Freshness,
    /// What to return of each key.
    pub mode: ScanMode,
    /// Keys must be in it.
    pub range: KeyRange<'a>,
    /// The highest key comes first.
    pub reverse: bool,
    /// Keys must come behind this key, in the order asked for; `None` begins with the range.
    pub after: Option<&'a [u8]>,
    /// Keys in this page at most. The server may return fewer: never more than
    /// [`wire::limits::PAGE_ITEMS_MAX`] or, unless it is one item, than
    /// [`wire::limits::PAGE_BYTES_MAX`].
    pub limit: u32,
    /// Which state is read: [`super::Walk`] reads all pages of one.
    pub view: ViewChoice,
}

impl<'a> Scan<'a> {
    /// The first page of a range, as of now.
    #[must_use]
    pub fn new(mode: ScanMode, range: KeyRange<'a>) -> Self {
        Self {
            freshness: Consistency::Linearizable.into(),
            mode,
            range,
            reverse: false,
            after: None,
            limit: PAGE_ITEMS_MAX,
            view: ViewChoice::Now,
        }
    }
}

/// A page of keys. Memory is bounded by what a server may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The revision that it shows.
    pub index: Index,
    /// Keys in the page; with [`ScanMode::Count`] the keys counted.
    pub count: u64,
    /// If there are more: the next page's `after`.
    pub more_after: Option<Vec<u8>>,
    /// The view of the next page, if there are more and it was to be kept.
    pub view: Option<u64>,
    /// The items, encoded and checked.
    items: Vec<u8>,
}

impl Page {
    /// Its items, in order.
    #[must_use]
    pub fn items(&self) -> Items<'_> {
        Items { bytes: &self.items }
    }
}

impl Client {
    /// Reads one key; `None` if there is no such key. Sends the queued writes first. Sees every
    /// write of this client that was settled before if it is linearizable; a weaker read may be
    /// answered by a node that has not got it yet, unless [`Freshness::after`] names its
    /// [`super::Written::revision`].
    ///
    /// # Errors
    /// [`Error`], never `Unknown`; [`Error::Refused`] for a key that is empty or longer than
    /// [`wire::limits::KEY_BYTES_MAX`], before anything is sent.
    pub fn get(
        &mut self,
        key: &[u8],
        freshness: impl Into<Freshness>,
        deadline: Deadline,
    ) -> Result<Option<Entry>, Error> {
        limits::check_key(key)?;
        let freshness = freshness.into();
        let request = |deadline_ms| Request::Get {
            deadline_ms,
            freshness,
            key,
        };
        let mut entry = None;
        self.read(&request, Whom::of(freshness), deadline, &mut |reply| {
            match reply {
                Reply::Value { item, .. } => entry = Some(Entry::of(item)),
                Reply::Missing { .. } => entry = None,
                _ => return false,
            }
            true
        })?;
        Ok(entry)
    }

    /// Reads one page of keys; of the writes of this client it sees what [`Client::get`] sees.
    ///
    /// # Errors
    /// [`Error`], never `Unknown`; [`Error::NotApplied`] with `ViewGone` if the view is no more,
    /// which goes with its connection.
    pub fn scan(&mut self, scan: Scan<'_>, deadline: Deadline) -> Result<Page, Error> {
        limits::check_bounds(scan.range.from, scan.range.to)?;
        scan.after.map_or(Ok(()), limits::check_key)?;
        let request = |deadline_ms| Request::Scan {
            deadline_ms,
            freshness: scan.freshness,
            mode: scan.mode,
            range: scan.range,
            reverse: scan.reverse,
            after: scan.after,
            limit: scan.limit,
            view: scan.view,
        };
        let mut page = None;
        let whom = match scan.view {
            ViewChoice::Of(_) => Whom::Here,
            ViewChoice::Now | ViewChoice::Keep => Whom::of(scan.freshness),
        };
        self.read(&request, whom, deadline, &mut |reply| {
            let Reply::Page {
                index,
                count,
                more_after,
                view,
                items,
            } = reply
            else {
                return false;
            };
            page = Some(Page {
                index: *index,
                count: *count,
                more_after: more_after.map(<[u8]>::to_vec),
                view: *view,
                items: items.bytes.to_vec(),
            });
            true
        })?;
        Ok(page.expect("a read that succeeds took its reply"))
    }

    /// Asks the node that the client is connected to, or any, how it sees its cluster.
    ///
    /// # Errors
    /// [`Error`], never `Unknown`.
    pub fn status(&mut self, deadline: Deadline) -> Result<Status, Error> {
        let mut status = None;
        let request = |_| Request::Status;
        self.read(&request, Whom::Anyone, deadline, &mut |reply| {
            let Reply::Status(answer) = reply else {
                return false;
            };
            status = Some(answer.clone());
            true
        })?;
        Ok(status.expect("a read that succeeds took its reply"))
    }

    /// Has every member take a snapshot at one entry, and returns that entry once it is applied.
    /// Asking twice takes two.
    ///
    /// # Errors
    /// [`Error`], never `Unknown`: a snapshot changes no data.
    pub fn snapshot(&mut self, deadline: Deadline) -> Result<EntryId, Error> {
        let mut taken = EntryId::default();
        let request = |_| Request::Snapshot;
        self.read(&request, Whom::Leader, deadline, &mut |reply| {
            let Reply::Written { term, index, .. } = *reply else {
                return false;
            };
            taken = EntryId { term, index };
            true
        })?;
        Ok(taken)
    }

    /// Reads a piece of the file of a snapshot that the connected node has, from `offset` on;
    /// `each` is called with it. Returns the size of the whole file: 0 if the node does not have
    /// that snapshot, or no more. Meant for a client of one endpoint.
    ///
    /// # Errors
    /// [`Error`], never `Unknown`.
    pub fn read_snapshot(
        &mut self,
        snapshot: EntryId,
        offset: u64,
        deadline: Deadline,
        mut each: impl FnMut(&[u8]),
    ) -> Result<u64, Error> {
        let mut total = 0;
        let request = |_| Request::ReadSnapshot { snapshot, offset };
        self.read(&request, Whom::Anyone, deadline, &mut |reply| {
            let Reply::SnapshotPiece { total_bytes, bytes } = reply else {
                return false;
            };
            total = *total_bytes;
            each(bytes);
            true
        })?;
        Ok(total)
    }

    pub(super) fn read<'a>(
        &mut self,
        request: &'a dyn Fn(u32) -> Request<'a>,
        whom: Whom,
        deadline: Deadline,
        take: &'a mut dyn FnMut(&Reply<'_>) -> bool,
    ) -> Result<(), Error> {
        self.settle(&mut Read::new(request, take), whom, deadline)
    }

    /// Like [`Client::read`], for what has an effect: once it left without a verdict, no later answer
    /// but that it is done tells of it (rules C4).
    pub(super) fn act<'a>(
        &mut self,
        request: &'a dyn Fn(u32) -> Request<'a>,
        meet: Option<&'a mut dyn FnMut(&Welcome) -> Meeting>,
        deadline: Deadline,
        take: &'a mut dyn FnMut(&Reply<'_>) -> bool,
    ) -> Result<(), Error> {
        let mut read = Read::new(request, take);
        read.meet = meet;
        let result = self.settle(&mut read, Whom::Leader, deadline);
        match result {
            Err(Error::NotApplied { why, place }) if read.exposed || read.frame_id.is_some() => {
                Err(Error::Open { why, place })
            }
            Err(Error::Refused { error, place }) if read.exposed => {
                let why = Why::Server(error);
                Err(Error::Open { why, place })
            }
            result => result,
        }
    }

    fn settle(&mut self, read: &mut Read<'_>, whom: Whom, deadline: Deadline) -> Result<(), Error> {
        let mut call = self.begin(whom, deadline);
        loop {
            let stopped = self.turn(&mut call, Some(read)).err();
            let place = self.session.place.clone();
            match (read.result.take(), stopped) {
                (Some(Ok(())), _) => return Ok(()),
                // Nothing was wrong with the request: it may be made anew.
                (Some(Err(error @ WireError::ViewGone)), _) => {
                    let why = Why::Server(error);
                    return Err(Error::NotApplied { why, place });
                }
                (Some(Err(error)), _) => return Err(Error::Refused { error, place }),
                (None, Some(Stop::Unreachable(causes))) => {
                    return Err(Error::Unreachable { causes });
                }
                (None, Some(Stop::Why(why))) => return Err(Error::NotApplied { why, place }),
                (None, None) => {}
            }
        }
    }
}

impl<'a> Read<'a> {
    fn new(
        request: &'a dyn Fn(u32) -> Request<'a>,
        take: &'a mut dyn FnMut(&Reply<'_>) -> bool,
    ) -> Self {
        Self {
            request,
            meet: None,
            take,
            frame_id: None,
            exposed: false,
            result: None,
        }
    }
}

impl Whom {
    fn of(freshness: Freshness) -> Self {
        if freshness.is_served_anywhere() {
            Self::Anyone
        } else {
            Self::Leader
        }
    }
}

impl Entry {
    pub(super) fn of(item: &Item<'_>) -> Self {
        Self {
            value: item.value.to_vec(),
            revision: item.revision,
            create_revision: item.create_revision,
            version: item.version,
        }
    }

    /// The entry with its key.
    #[must_use]
    pub fn item<'a>(&'a self, key: &'a [u8]) -> Item<'a> {
        Item {
            key,
            value: &self.value,
            revision: self.revision,
            create_revision: self.create_revision,
            version: self.version,
        }
    }
}

/// Asks exactly one node how it sees its cluster.
///
/// # Errors
/// The cause, for a person: it could not be reached, or gave no answer in time.
pub fn status_of(endpoint: &str, timeout: Duration) -> Result<Status, Cause> {
    let mut client = Client::new(Options::new(vec![endpoint.into()]));
    client
        .status(Deadline::after(timeout))
        .map_err(|error| Cause::of(endpoint, error))
}
