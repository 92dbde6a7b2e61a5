//! The witness whose log is not known: what acknowledgements and reads allow by themselves. Every
//! acknowledgement names its entry and every item its revision, so they tell most of the log.
//!
//! It demands what [`super::witness`] does as far as it can be known:
//! - no two writes name one entry, terms never fall along the entries that are named, and the writes
//!   of a session come in the order of their seq;
//! - an item that no acknowledgement explains is that of a write of unknown outcome, which thereby
//!   took effect, once, and is known from then on;
//! - no state lacks a write that is known to come before it, or has one that comes after;
//! - of a key whose writes are all known, outcomes and items are exactly those of the model;
//! - real time and connections, as the witness does.
//!
//! Keys that ranges, txns and appends touch are judged only if all writes are known, and then by
//! the pages that were read and by what the writes were told.

use std::borrow::Cow;
use std::collections::BTreeMap;

use wire::client::ScanMode;
use wire::command::{Outcome, SessionId};
use wire::types::{EntryId, Epoch, Index};

use super::model::Model;
use super::verdict::{Breach, Summary, Violation};
use super::{Answer, Command, History, Item, Operation, Page, Query, Scan, touched, witness};

/// Judges a history by itself.
///
/// # Errors
/// The first breach found.
pub fn check(history: &History) -> Result<Summary, Violation> {
    witness::well_formed(history)?;
    named_once(history)?;
    let mut indexes: Vec<_> = history.records.iter().map(super::Record::index).collect();
    let mut summary = Summary::default();
    let mut keys = gather(history);
    let mut complete = touched::compound(history).all(|(place, _)| indexes[place].is_some());
    for known in keys.values_mut() {
        known.find_strays(history, &mut indexes)?;
        known.compare(history)?;
        known.replay(history, &indexes)?;
        complete &= known.is_complete(&indexes);
    }
    if complete {
        compare_pages(history, &indexes)?;
    }
    witness::behind_their_entries(history)?;
    witness::in_real_time(history, &indexes)?;
    witness::on_connections(history)?;
    witness::count_reads(history, &mut summary);
    for (place, record) in history.records.iter().enumerate() {
        if let Operation::Write { .. } = record.operation {
            match (&record.answer, indexes[place]) {
                (Answer::NotApplied, _) => summary.not_applied += 1,
                (Answer::Unknown, Some(_)) => summary.unknown_applied += 1,
                (Answer::Unknown, None) => summary.unknown_lost += 1,
                _ => summary.written += 1,
            }
        }
    }
    Ok(summary)
}

/// Entries, their terms, and the order of each session.
fn named_once(history: &History) -> Result<(), Violation> {
    let breach =
        |breach, shown: [usize; 2], why: &str| Err(Violation::new(breach, history, &shown, why));
    let mut entries: BTreeMap<Index, (EntryId, usize)> = BTreeMap::new();
    let mut sessions: BTreeMap<(SessionId, u64), (Index, usize)> = BTreeMap::new();
    for (place, record) in history.records.iter().enumerate() {
        if let (Operation::Write { session, seq, .. }, Answer::Written { id, .. }) =
            (&record.operation, &record.answer)
        {
            if let Some((_, other)) = entries.insert(id.index, (*id, place)) {
                return breach(Breach::OtherEntry, [other, place], "both name one entry");
            }
            sessions.insert((*session, *seq), (id.index, place));
        }
    }
    let ids: Vec<_> = entries.into_values().collect();
    for pair in ids.windows(2) {
        let [(before, first), (after, second)] = [pair[0], pair[1]];
        if after.term < before.term {
            return breach(Breach::BrokenLog, [first, second], "the term falls");
        }
    }
    let order: Vec<_> = sessions.into_iter().collect();
    for pair in order.windows(2) {
        let [(before, first), (after, second)] = [pair[0], pair[1]];
        if before.0 == after.0 && second.0 <= first.0 {
            let why = "a session's writes are not in the order of their seq";
            return breach(Breach::OtherEntry, [first.1, second.1], why);
        }
    }
    Ok(())
}

/// What somebody saw of a key.
#[derive(Clone, Copy, Debug)]
enum Sight<'h> {
    Absent,
    Item(&'h Item),
    /// The item without its value: only keys were asked for.
    Key(&'h Item),
    /// Nothing but the revision: a condition did not hold.
    Revision(Index),
}

/// A key, seen by `record` as the entry `at` left it.
#[derive(Clone, Copy, Debug)]
struct Seen<'h> {
    at: Index,
    record: usize,
    sight: Sight<'h>,
}

/// A write that had an effect.
#[derive(Clone, Debug)]
struct Wrote<'h> {
    /// The write; or, if it may be one of several, the first read that saw it.
    record: usize,
    /// The new value, or `None` if it removed the key.
    value: Option<Cow<'h, [u8]>>,
}

/// What is known of one key.
#[derive(Debug, Default)]
struct Known<'h> {
    /// Effects by index.
    wrote: BTreeMap<Index, Wrote<'h>>,
    /// Acknowledged writes, also those without effect.
    acknowledged: Vec<usize>,
    /// Writes of unknown outcome.
    strays: Vec<usize>,
    seen: Vec<Seen<'h>>,
}

/// Sorts what the records tell by key.
fn gather(history: &History) -> BTreeMap<&[u8], Known<'_>> {
    let mut keys: BTreeMap<&[u8], Known<'_>> = BTreeMap::new();
    for (record, asked) in history.records.iter().enumerate() {
        match (&asked.operation, &asked.answer) {
            (Operation::Write { command, .. }, Answer::Written { id, outcome }) => {
                let Some(key) = command.single_key() else {
                    continue;
                };
                let known = keys.entry(key).or_default();
                known.acknowledged.push(record);
                known.take(record, id.index, command, outcome);
            }
            (Operation::Write { command, .. }, Answer::Unknown) => {
                if let Some(key) = command.single_key() {
                    keys.entry(key).or_default().strays.push(record);
                }
            }
            (Operation::Read { query, .. }, Answer::Got { index, item }) => {
                let Query::Get { key } = query else {
                    unreachable!("a get is answered by its kind");
                };
                keys.entry(key).or_default().seen.push(Seen {
                    at: *index,
                    record,
                    sight: item.as_ref().map_or(Sight::Absent, Sight::Item),
                });
            }
            _ => {}
        }
    }
    for (record, asked) in history.records.iter().enumerate() {
        if let (Operation::Read { query, .. }, Answer::Scanned { index, page }) =
            (&asked.operation, &asked.answer)
        {
            let Query::Scan(scan) = query else {
                unreachable!("a scan is answered by its kind");
            };
            look_at_page(record, *index, scan, page, &mut keys);
        }
    }
    touched::leave_out(history, &mut keys);
    keys
}

/// A page tells of each of its keys, and of every key that should be between them and is not.
fn look_at_page<'h>(
    record: usize,
    at: Index,
    scan: &'h Scan,
    page: &'h Page,
    keys: &mut BTreeMap<&'h [u8], Known<'h>>,
) {
    if scan.mode == ScanMode::Count {
        return;
    }
    for item in &page.items {
        let sight = match scan.mode {
            ScanMode::Keys => Sight::Key(item),
            ScanMode::Items | ScanMode::Count => Sight::Item(item),
        };
        let known = keys.entry(item.key.as_slice()).or_default();
        known.seen.push(Seen { at, record, sight });
    }
    for (key, known) in keys {
        let is_behind = |other: &[u8]| match scan.reverse {
            true => *key < other,
            false => *key > other,
        };
        let is_asked_for = *key >= scan.from.as_slice()
            && scan.to.as_deref().is_none_or(|to| *key < to)
            && scan.after.as_deref().is_none_or(is_behind)
            && page
                .more_after
                .as_deref()
                .is_none_or(|last| !is_behind(last));
        if is_asked_for && !page.items.iter().any(|item| item.key == *key) {
            let sight = Sight::Absent;
            known.seen.push(Seen { at, record, sight });
        }
    }
}

impl<'h> Known<'h> {
    /// An acknowledged write: what it did, and what it saw before that.
    fn take(&mut self, record: usize, index: Index, command: &'h Command, outcome: &Outcome) {
        let value = match (command, outcome) {
            (Command::Put { value, .. }, Outcome::Put)
            | (Command::CompareAndSwap { value, .. }, Outcome::Swapped) => {
                Some(Cow::Borrowed(value.as_slice()))
            }
            (_, Outcome::Incremented(sum)) => Some(Cow::Owned(sum.to_string().into_bytes())),
            (_, Outcome::Deleted(1)) => None,
            (_, outcome) => {
                let sight = match outcome {
                    Outcome::Deleted(0) | Outcome::NotSwapped(None) => Sight::Absent,
                    Outcome::NotSwapped(Some(revision)) => Sight::Revision(*revision),
                    _ => return,
                };
                let at = index.prev();
                return self.seen.push(Seen { at, record, sight });
            }
        };
        self.wrote.insert(index, Wrote { record, value });
    }

    /// Items at revisions that nobody claims were written by strays.
    fn find_strays(
        &mut self,
        history: &'h History,
        indexes: &mut [Option<Index>],
    ) -> Result<(), Violation> {
        for seen in &self.seen {
            let Sight::Item(item) = seen.sight else {
                continue;
            };
            let breach =
                |breach, why: &str| Err(Violation::new(breach, history, &[seen.record], why));
            if self.wrote.contains_key(&item.revision) {
                continue;
            }
            let reader = &history.records[seen.record];
            let mut may_be = self.strays.iter().copied().filter(|stray| {
                let stray = &history.records[*stray];
                Some(stray.invoked_ns) <= reader.ended_ns
                    && may_write(&stray.operation, &item.value)
            });
            let writer = match (may_be.next(), may_be.next()) {
                (None, _) => {
                    let why = "nobody who may have written it was ever asked to";
                    return breach(Breach::NobodyAsked, why);
                }
                (Some(stray), None) => {
                    if let Some(other) = indexes[stray].replace(item.revision) {
                        let why = format!("its only writer also wrote revision {other}");
                        return breach(Breach::AppliedTwice, &why);
                    }
                    stray
                }
                // One of several: that it is there is known, not who wrote it.
                (Some(_), Some(_)) => seen.record,
            };
            let wrote = Wrote {
                record: writer,
                value: Some(Cow::Borrowed(&item.value)),
            };
            self.wrote.insert(item.revision, wrote);
        }
        Ok(())
    }

    /// Whether the effect of every write is known.
    fn is_complete(&self, indexes: &[Option<Index>]) -> bool {
        self.strays.iter().all(|stray| indexes[*stray].is_some())
    }

    /// Every sight against the effects known before it.
    fn compare(&self, history: &History) -> Result<(), Violation> {
        for seen in &self.seen {
            let before = self.wrote.range(..=seen.at).next_back();
            let breach = |why: &str| {
                let mut shown = vec![seen.record];
                shown.extend(before.map(|(_, wrote)| wrote.record));
                Err(Violation::new(Breach::OtherState, history, &shown, why))
            };
            let (revision, value) = match seen.sight {
                Sight::Absent => {
                    let is_there = before.is_some_and(|(_, wrote)| wrote.value.is_some());
                    let may_be_gone = self.strays.iter().any(|stray| {
                        matches!(
                            history.records[*stray].operation,
                            Operation::Write {
                                command: Command::Delete { .. },
                                ..
                            }
                        )
                    });
                    if is_there && !may_be_gone {
                        return breach("the key was written and not removed before that");
                    }
                    continue;
                }
                Sight::Item(item) => (item.revision, Some(&item.value)),
                Sight::Key(item) => (item.revision, None),
                Sight::Revision(revision) => (revision, None),
            };
            if revision > seen.at {
                return breach("it was written after it was seen");
            }
            if before.is_some_and(|(last, _)| *last > revision) {
                return breach("a newer write is missing");
            }
            let Some(wrote) = self.wrote.get(&revision) else {
                // A stray whose value nobody saw, or nobody at all.
                if self.strays.is_empty() {
                    return breach("nobody wrote that revision");
                }
                continue;
            };
            let fits = match (&wrote.value, value) {
                (Some(written), Some(value)) => written.as_ref() == value.as_slice(),
                (written, _) => written.is_some(),
            };
            if !fits {
                return breach("that revision has another value");
            }
        }
        Ok(())
    }

    /// If the effect of every write is known, the model tells every outcome and every item.
    fn replay(&self, history: &History, indexes: &[Option<Index>]) -> Result<(), Violation> {
        if !self.is_complete(indexes) {
            return Ok(());
        }
        let mut seen = self.seen.clone();
        seen.sort_by_key(|seen| seen.at);
        let mut seen = seen.iter().peekable();
        let mut model = Model::new(Epoch(0), 1);
        let mut judge = |model: &Model<'_>, end: Option<Index>| {
            while let Some(seen) = seen.next_if(|seen| end.is_none_or(|end| seen.at < end)) {
                if let Sight::Item(item) = seen.sight
                    && !model.has(&item.key, Some(item))
                {
                    let why = format!("the key's state is {:?}", model.get(&item.key));
                    let shown = [seen.record];
                    return Err(Violation::new(Breach::OtherState, history, &shown, &why));
                }
            }
            Ok(())
        };
        for (index, place) in in_order(self.acknowledged.iter().chain(&self.strays), indexes) {
            judge(&model, Some(index))?;
            execute(history, &mut model, index, place)?;
        }
        judge(&model, None)
    }
}

/// The records that are somewhere, in the order of their indexes.
fn in_order<'a>(
    places: impl Iterator<Item = &'a usize>,
    indexes: &[Option<Index>],
) -> Vec<(Index, usize)> {
    let mut order: Vec<_> = places
        .filter_map(|place| Some((indexes[*place]?, *place)))
        .collect();
    order.sort_unstable();
    order
}

/// Runs a write in the model and compares its outcome, if that was told.
fn execute<'h>(
    history: &'h History,
    model: &mut Model<'h>,
    index: Index,
    place: usize,
) -> Result<(), Violation> {
    let record = &history.records[place];
    let Operation::Write { command, .. } = &record.operation else {
        unreachable!("only writes are executed");
    };
    let did = model.execute(index, command.to_wire());
    match &record.answer {
        Answer::Written { outcome, .. } if *outcome != did => {
            let why = format!("it did {did:?}");
            let shown = [place];
            Err(Violation::new(Breach::OtherOutcome, history, &shown, &why))
        }
        _ => Ok(()),
    }
}

/// Whether the write may leave `value` behind.
fn may_write(operation: &Operation, value: &[u8]) -> bool {
    let Operation::Write { command, .. } = operation else {
        return false;
    };
    match command {
        Command::Put { value: own, .. } | Command::CompareAndSwap { value: own, .. } => {
            own == value
        }
        Command::Increment { .. } => super::model::number(value).is_some(),
        Command::Delete { .. }
        | Command::Append { .. }
        | Command::DeleteRange { .. }
        | Command::Txn { .. } => false,
    }
}

/// All writes are known: every page is exactly the model's.
fn compare_pages(history: &History, indexes: &[Option<Index>]) -> Result<(), Violation> {
    let mut model = Model::new(Epoch(0), 1);
    let all: Vec<usize> = (0..history.records.len()).collect();
    let (reads, writes): (Vec<usize>, Vec<usize>) = all
        .into_iter()
        .partition(|place| matches!(history.records[*place].operation, Operation::Read { .. }));
    let mut writes = in_order(writes.iter(), indexes).into_iter().peekable();
    for (at, place) in in_order(reads.iter(), indexes) {
        while let Some((index, write)) = writes.next_if(|(index, _)| *index <= at) {
            execute(history, &mut model, index, write)?;
        }
        let record = &history.records[place];
        if let Operation::Read { query, .. } = &record.operation
            && let (Query::Scan(scan), Answer::Scanned { page, .. }) = (query, &record.answer)
            && !model.has_page(scan, page)
        {
            let why = format!("the page at that index is {:?}", model.page(scan));
            let shown = [place];
            return Err(Violation::new(Breach::OtherState, history, &shown, &why));
        }
    }
    Ok(())
}
