//! The ordered map of keys, what the commands do to it, and what reads see of it.

mod change;
mod txn;

use std::ops::Bound;

use bytes::BytesMut;
use wire::client::{Item, KeyRange, ScanMode};
use wire::limits::{PAGE_BYTES_MAX, PAGE_ITEMS_MAX};

use super::record::{Record, Sums};
use super::tree::{Remains, Tree};

/// Keys in bytewise order. A clone is a view as of now, taken in constant time; it costs the memory
/// of what changes while it lives.
///
/// Invariants:
/// - a key was created by the entry that last modified it or by an earlier one, both applied;
/// - its `version` counts its writes since then: 1 only if the two are the same entry, and more in
///   one entry only by a txn that writes it again;
/// - a key's record follows from the applied entries alone: the same on every node;
/// - `sums` is what summing up all records comes to.
#[derive(Clone, Debug, Default)]
pub struct Map {
    records: Tree,
    sums: Sums,
}

/// What a scan asks for.
#[derive(Clone, Copy, Debug)]
pub struct PageQuery<'a> {
    /// What to return of each key.
    pub mode: ScanMode,
    /// Keys must be in it.
    pub range: KeyRange<'a>,
    /// The highest key comes first.
    pub reverse: bool,
    /// Keys must come behind it, in the order that is asked for.
    pub after: Option<&'a [u8]>,
    /// Items at most; capped at [`PAGE_ITEMS_MAX`].
    pub limit: u32,
}

/// A page: its items are encoded in the buffer that the caller gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// Keys of this page.
    pub count: u64,
    /// The last key of the page if there are more.
    pub more_after: Option<&'a [u8]>,
}

impl Map {
    pub(super) fn restored(records: Tree, sums: Sums) -> Self {
        Self { records, sums }
    }

    /// Gives it up: to be freed piece by piece.
    pub fn discard(self, remains: &mut Remains) {
        remains.add(self.records);
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.len() == 0
    }

    /// Bytes of all keys and values together.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.sums.data_bytes
    }

    /// The keys' part of the state's digest.
    pub(super) fn digest(&self) -> u128 {
        self.sums.digest
    }

    /// The item under `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Item<'_>> {
        self.records.get(key).map(Record::item)
    }

    /// All items in order: for digests and tests.
    pub fn iter(&self) -> impl Iterator<Item = Item<'_>> {
        self.records.iter().map(Record::item)
    }

    /// The items behind a key, in order; all without one.
    pub fn iter_after(&self, after: Option<&[u8]>) -> impl Iterator<Item = Item<'_>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.records.range(from).map(Record::item)
    }

    /// Encodes a page of keys into `out`, in order. Its work and its bytes are bounded whatever
    /// the mode, so that no scan or count holds up the loop; one item always fits.
    pub fn page(&self, query: PageQuery<'_>, out: &mut BytesMut) -> Page<'_> {
        let KeyRange { from, to } = query.range;
        if query.reverse {
            let end = [to, query.after].into_iter().flatten().min();
            let end = end.map_or(Bound::Unbounded, Bound::Excluded);
            let records = self.records.range_back(end);
            fill(
                records.take_while(|record| record.key() >= from),
                query,
                out,
            )
        } else {
            let begin = match query.after {
                Some(after) if after >= from => Bound::Excluded(after),
                _ => Bound::Included(from),
            };
            let records = self.records.range(begin);
            let below = |record: &&Record| to.is_none_or(|to| record.key() < to);
            fill(records.take_while(below), query, out)
        }
    }
}

/// Encodes records until the page is full.
fn fill<'a>(
    records: impl Iterator<Item = &'a Record>,
    query: PageQuery<'_>,
    out: &mut BytesMut,
) -> Page<'a> {
    let limit = query.limit.min(PAGE_ITEMS_MAX);
    let mut page = Page {
        count: 0,
        more_after: None,
    };
    let mut last: Option<&[u8]> = None;
    let mut bytes = 0_usize;
    for record in records {
        let size = match query.mode {
            ScanMode::Items => record.key().len() + record.value().len(),
            ScanMode::Keys => record.key().len(),
            ScanMode::Count => 0,
        };
        let full = page.count >= u64::from(limit)
            || (page.count > 0 && bytes + size > PAGE_BYTES_MAX as usize);
        if full {
            page.more_after = last;
            break;
        }
        match query.mode {
            ScanMode::Items => record.item().encode(out),
            ScanMode::Keys => Item {
                value: &[],
                ..record.item()
            }
            .encode(out),
            ScanMode::Count => {}
        }
        bytes += size;
        page.count += 1;
        last = Some(record.key());
    }
    page
}
