//! What the service promises to do with the committed entries, written a second time: from
//! rules C2, C3 and the protocol's words, without a look at `raftd::store`. It serves tests, so it
//! is as plain as can be.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::BytesMut;
use wire::client::ScanMode;
use wire::command::{
    Command, Compare, Condition, Expect, Operation, OperationResult, Outcome, Results, SessionId,
    Txn, Undone, Write,
};
use wire::entry::{Entry, EntryKind};
use wire::limits::{
    ENTRY_KEYS_MAX, PAGE_BYTES_MAX, PAGE_ITEMS_MAX, RESULTS_BYTES_MAX, VALUE_BYTES_MAX,
};
use wire::types::{Epoch, Index};

use super::{Item, Page, Scan};

/// A key's state.
#[derive(Clone, Debug)]
struct Cell<'a> {
    value: Cow<'a, [u8]>,
    revision: Index,
    create_revision: Index,
    version: u64,
}

/// What is known of a session.
#[derive(Clone, Copy, Debug)]
struct Session {
    last_seq: u64,
    last_index: Index,
}

/// Store and sessions after some prefix of the log.
///
/// It does not count kept replies: they change no effect but the eviction of sessions when more
/// than 262,144 are unsettled at once, which no run here comes near.
#[derive(Debug)]
pub(super) struct Model<'a> {
    epoch: Epoch,
    sessions_max: usize,
    cells: BTreeMap<&'a [u8], Cell<'a>>,
    sessions: BTreeMap<SessionId, Session>,
    /// The sessions by the index of their last write.
    by_age: BTreeMap<Index, SessionId>,
    /// The highest `born` of an evicted session.
    horizon: Option<Index>,
}

/// A write that took effect.
#[derive(Clone, Debug)]
pub(super) struct Effect<'a> {
    pub(super) write: Write<'a>,
    pub(super) outcome: Outcome,
}

impl<'a> Model<'a> {
    pub(super) fn new(epoch: Epoch, sessions_max: usize) -> Self {
        Self {
            epoch,
            sessions_max,
            cells: BTreeMap::new(),
            sessions: BTreeMap::new(),
            by_age: BTreeMap::new(),
            horizon: None,
        }
    }

    /// Applies the next entry. `None` if it was nobody's write, or one without effect.
    pub(super) fn apply(&mut self, entry: &'a Entry) -> Option<Effect<'a>> {
        if entry.kind() != EntryKind::Command {
            return None;
        }
        let write = Write::decode_body(entry.body()).ok()?;
        let index = entry.index();
        if !self.takes_effect(index, &write) {
            return None;
        }
        let outcome = self.execute(index, write.command);
        self.remember(index, &write);
        Some(Effect { write, outcome })
    }

    /// Rules C2 and C3: it does if its seq is the next one and its session is not over.
    fn takes_effect(&self, index: Index, write: &Write<'_>) -> bool {
        if write.session.epoch != self.epoch {
            return false;
        }
        let last = match self.sessions.get(&write.session) {
            Some(session) => session.last_seq,
            None if write.session.born >= index => return false,
            None if Some(write.session.born) <= self.horizon => return false,
            None => 0,
        };
        write.seq == write.floor.max(last + 1)
    }

    fn remember(&mut self, index: Index, write: &Write<'_>) {
        let session = Session {
            last_seq: write.seq,
            last_index: index,
        };
        if let Some(before) = self.sessions.insert(write.session, session) {
            self.by_age.remove(&before.last_index);
        }
        self.by_age.insert(index, write.session);
        if self.sessions.len() > self.sessions_max
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.sessions.remove(&oldest);
            self.horizon = self.horizon.max(Some(oldest.born));
        }
    }

    /// Does what the command says, whatever its session.
    pub(super) fn execute(&mut self, index: Index, command: Command<'a>) -> Outcome {
        match command {
            Command::Put { key, value } => {
                self.set(index, key, Cow::Borrowed(value));
                Outcome::Put
            }
            Command::Delete { key } => match self.cells.remove(key) {
                Some(_) => Outcome::Deleted(1),
                None => Outcome::Deleted(0),
            },
            Command::CompareAndSwap { key, expect, value } => {
                let cell = self.cells.get(key);
                let holds = match expect {
                    Expect::Absent => cell.is_none(),
                    Expect::Revision(revision) => {
                        cell.is_some_and(|cell| cell.revision == revision)
                    }
                    Expect::Value(value) => cell.is_some_and(|cell| cell.value == value),
                };
                if !holds {
                    return Outcome::NotSwapped(cell.map(|cell| cell.revision));
                }
                self.set(index, key, Cow::Borrowed(value));
                Outcome::Swapped
            }
            Command::Increment { key, delta } => {
                let before = match self.cells.get(key) {
                    Some(cell) => number(&cell.value),
                    None => Some(0),
                };
                let Some(before) = before else {
                    return Outcome::NotANumber;
                };
                let Some(sum) = before.checked_add(delta) else {
                    return Outcome::Overflow;
                };
                self.set(index, key, Cow::Owned(sum.to_string().into_bytes()));
                Outcome::Incremented(sum)
            }
            Command::Append { key, value } => {
                let before = self.cells.get(key).map_or(&[][..], |cell| &cell.value);
                let after = [before, value].concat();
                let length = after.len();
                if length > VALUE_BYTES_MAX {
                    return Outcome::TooLong;
                }
                self.set(index, key, Cow::Owned(after));
                Outcome::Appended(length as u64)
            }
            Command::DeleteRange { from, to, expect } => {
                let keys = self.keys_in(from, to);
                if expect.is_some_and(|expect| expect != keys.len() as u64)
                    || (expect.is_some() && keys.len() > ENTRY_KEYS_MAX)
                {
                    return Outcome::NotDeleted(keys.len().min(ENTRY_KEYS_MAX + 1) as u64);
                }
                let doomed = &keys[..keys.len().min(ENTRY_KEYS_MAX)];
                for key in doomed {
                    self.cells.remove(key);
                }
                Outcome::Deleted(doomed.len() as u64)
            }
            Command::Txn(txn) => self.txn(index, txn),
        }
    }

    fn keys_in(&self, from: &[u8], to: Option<&[u8]>) -> Vec<&'a [u8]> {
        let cells = self.cells.iter();
        let inside = cells.filter(|(key, _)| **key >= from && to.is_none_or(|to| **key < to));
        inside.map(|(key, _)| *key).collect()
    }

    fn txn(&mut self, index: Index, txn: Txn<'a>) -> Outcome {
        let compares: Vec<_> = txn.compares.iter().collect();
        let held = compares.iter().all(|compare| self.holds(compare));
        let before = self.cells.clone();
        let branch = if held { txn.then } else { txn.or_else };
        let (mut touched, mut told) = (compares.len(), BytesMut::new());
        for (operation, what) in (0..).zip(branch.iter()) {
            if let Err(why) = self.operate(index, what, &mut touched, &mut told) {
                self.cells = before;
                return Outcome::Undone {
                    held,
                    operation,
                    why,
                };
            }
        }
        let results = Some(Results::new(&told));
        Outcome::Txn { held, results }
    }

    fn operate(
        &mut self,
        index: Index,
        operation: Operation<'a>,
        touched: &mut usize,
        told: &mut BytesMut,
    ) -> Result<(), Undone> {
        *touched += match operation {
            Operation::Change(Command::DeleteRange { from, to, .. }) => {
                self.keys_in(from, to).len()
            }
            _ => 1,
        };
        if *touched > ENTRY_KEYS_MAX {
            return Err(Undone::TooManyKeys);
        }
        match operation {
            Operation::Get { key } => match self.cells.get(key) {
                Some(cell) => OperationResult::Found(wire::client::Item {
                    key,
                    value: &cell.value,
                    revision: cell.revision,
                    create_revision: cell.create_revision,
                    version: cell.version,
                })
                .encode(told),
                None => OperationResult::Missing.encode(told),
            },
            Operation::Change(command) => match self.execute(index, command) {
                Outcome::NotANumber => return Err(Undone::NotANumber),
                Outcome::Overflow => return Err(Undone::Overflow),
                Outcome::TooLong => return Err(Undone::TooLong),
                outcome => OperationResult::Did(outcome).encode(told),
            },
        }
        if told.len() > RESULTS_BYTES_MAX {
            return Err(Undone::TooMuchToTell);
        }
        Ok(())
    }

    fn holds(&self, compare: &Compare<'_>) -> bool {
        let cell = self.cells.get(compare.key);
        let (revision, created, version) = match cell {
            Some(cell) => (cell.revision.0, cell.create_revision.0, cell.version),
            None => (0, 0, 0),
        };
        match compare.condition {
            Condition::Exists => cell.is_some(),
            Condition::Absent => cell.is_none(),
            Condition::Value(relation, value) => match cell {
                Some(cell) => relation.holds(&*cell.value, value),
                None => false,
            },
            Condition::Revision(relation, given) => relation.holds(&revision, &given),
            Condition::CreateRevision(relation, given) => relation.holds(&created, &given),
            Condition::Version(relation, given) => relation.holds(&version, &given),
        }
    }

    fn set(&mut self, index: Index, key: &'a [u8], value: Cow<'a, [u8]>) {
        let (create_revision, version) = match self.cells.get(key) {
            Some(cell) => (cell.create_revision, cell.version + 1),
            None => (index, 1),
        };
        let cell = Cell {
            value,
            revision: index,
            create_revision,
            version,
        };
        self.cells.insert(key, cell);
    }

    /// Whether a read of `key` gives `found`; compared without a copy, since most are equal.
    pub(super) fn has(&self, key: &[u8], found: Option<&Item>) -> bool {
        match (self.cells.get_key_value(key), found) {
            (None, None) => true,
            (Some((key, cell)), Some(item)) => cell.is(key, item, ScanMode::Items),
            _ => false,
        }
    }

    /// What a read of `key` gives.
    pub(super) fn get(&self, key: &[u8]) -> Option<Item> {
        let (key, cell) = self.cells.get_key_value(key)?;
        Some(cell.item(key, ScanMode::Items))
    }

    /// Whether a scan gives `page`.
    pub(super) fn has_page(&self, scan: &Scan, page: &Page) -> bool {
        let mut items = page.items.iter();
        let mut matches = true;
        let (count, more_after) = self.walk(scan, |key, cell, mode| {
            matches &= mode == ScanMode::Count
                || items.next().is_some_and(|item| cell.is(key, item, mode));
        });
        matches
            && items.next().is_none()
            && count == page.count
            && more_after == page.more_after.as_deref()
    }

    /// What a scan gives.
    pub(super) fn page(&self, scan: &Scan) -> Page {
        let mut items = Vec::new();
        let (count, more_after) = self.walk(scan, |key, cell, mode| {
            if mode != ScanMode::Count {
                items.push(cell.item(key, mode));
            }
        });
        Page {
            count,
            more_after: more_after.map(<[u8]>::to_vec),
            items,
        }
    }

    /// Shows a scan's page key by key; returns how many there were, and the last if more follow.
    fn walk(
        &self,
        scan: &Scan,
        mut show: impl FnMut(&[u8], &Cell<'_>, ScanMode),
    ) -> (u64, Option<&'a [u8]>) {
        let Scan {
            mode,
            from,
            to,
            reverse,
            after,
            limit,
        } = scan;
        let asked_for = |key: &[u8]| {
            let (from, after) = (from.as_slice(), after.as_deref());
            let behind = |after| if *reverse { key < after } else { key > after };
            key >= from && to.as_deref().is_none_or(|to| key < to) && after.is_none_or(behind)
        };
        let all = self
            .cells
            .range::<[u8], _>((Bound::Included(from.as_slice()), Bound::Unbounded));
        let mut asked: Vec<_> = all.filter(|(key, _)| asked_for(key)).collect();
        if *reverse {
            asked.reverse();
        }
        let limit = u64::from((*limit).min(PAGE_ITEMS_MAX));
        let (mut count, mut bytes, mut last) = (0, 0, None);
        for (key, cell) in asked {
            bytes += match mode {
                ScanMode::Items => key.len() + cell.value.len(),
                ScanMode::Keys => key.len(),
                ScanMode::Count => 0,
            };
            if count >= limit || (count > 0 && bytes > PAGE_BYTES_MAX as usize) {
                return (count, last);
            }
            show(key, cell, *mode);
            count += 1;
            last = Some(*key);
        }
        (count, None)
    }
}

impl Cell<'_> {
    fn item(&self, key: &[u8], mode: ScanMode) -> Item {
        Item {
            key: key.to_vec(),
            value: match mode {
                ScanMode::Items => self.value.to_vec(),
                ScanMode::Keys | ScanMode::Count => Vec::new(),
            },
            revision: self.revision,
            create_revision: self.create_revision,
            version: self.version,
        }
    }

    fn is(&self, key: &[u8], item: &Item, mode: ScanMode) -> bool {
        let value: &[u8] = match mode {
            ScanMode::Items => &self.value,
            ScanMode::Keys | ScanMode::Count => &[],
        };
        item.key == key
            && item.value == value
            && item.revision == self.revision
            && item.create_revision == self.create_revision
            && item.version == self.version
    }
}

/// An i64 in decimal digits, with `-` in front if it is negative: what increments add to.
pub(super) fn number(value: &[u8]) -> Option<i64> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}
