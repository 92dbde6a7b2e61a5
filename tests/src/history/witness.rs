//! The checker that believes the log: every answer names an index, so the log is the witness of the
//! one order that must explain everything. Near-linear in the history.
//!
//! [`check`] replays the committed log on a model of its own and demands:
//! - an acknowledged write took effect by the entry that its answer names, with that outcome;
//! - every (session, seq) took effect at most once, and only as a client sent it;
//! - a write told `NotApplied` never took effect; one of unknown outcome did once or never;
//! - every read, also a stale one, saw the state at its index;
//! - real time: a write comes after everything that had ended when it was invoked, a linearizable
//!   read not before it, by index, and one of bounded staleness not before what had ended so much
//!   earlier;
//! - a read that comes after an entry sees it;
//! - on one connection, reads never go back behind an earlier answer, and a linearizable read sees
//!   every write sent before it (rules C1).

use std::collections::BTreeMap;

use wire::command::{Outcome, SessionId};
use wire::entry::Entry;
use wire::types::{EntryId, Epoch, Index};

use super::model::Model;
use super::verdict::{Breach, Summary, Violation};
use super::{Answer, Command, History, Operation, Query};

/// The log of a cluster, as far as it is committed.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    /// The history of the data: writes of another one have no effect (rules C7).
    pub epoch: Epoch,
    /// Sessions that the members keep at a time (rules C3).
    pub sessions_max: usize,
    /// Every committed entry, from index 1 on.
    pub entries: &'a [Entry],
}

/// A write's one effect.
#[derive(Clone, Debug)]
struct Took<'a> {
    id: EntryId,
    outcome: Outcome,
    command: wire::command::Command<'a>,
}

type Name = (SessionId, u64);

/// Judges a history by the committed log.
///
/// # Errors
/// The first breach found.
pub fn check(history: &History, committed: Committed<'_>) -> Result<Summary, Violation> {
    well_formed(history)?;
    let effects = replay(history, committed)?;
    let (mut summary, indexes) = judge_writes(history, &effects, committed.entries)?;
    count_reads(history, &mut summary);
    behind_their_entries(history)?;
    in_real_time(history, &indexes)?;
    on_connections(history)?;
    Ok(summary)
}

/// The recorder's part: what [`super::Record`] promises, and no name for two writes.
pub(super) fn well_formed(history: &History) -> Result<(), Violation> {
    let malformed =
        |records: &[usize], why| Err(Violation::new(Breach::Malformed, history, records, why));
    let mut named: BTreeMap<Name, usize> = BTreeMap::new();
    for (place, record) in history.records.iter().enumerate() {
        let fits = match (&record.operation, &record.answer) {
            (_, Answer::NotApplied | Answer::Unknown)
            | (Operation::Write { .. }, Answer::Written { .. }) => true,
            (Operation::Read { query, .. }, Answer::Got { .. }) => {
                matches!(query, Query::Get { .. })
            }
            (Operation::Read { query, .. }, Answer::Scanned { .. }) => {
                matches!(query, Query::Scan(_))
            }
            _ => false,
        };
        if !fits {
            return malformed(&[place], "the answer is of another kind than the operation");
        }
        match record.ended_ns {
            None if record.answer != Answer::Unknown => {
                return malformed(&[place], "an answered operation did not end");
            }
            Some(ended_ns) if ended_ns < record.invoked_ns => {
                return malformed(&[place], "an operation ended before it was invoked");
            }
            _ => {}
        }
        if let Operation::Write { session, seq, .. } = record.operation
            && let Some(other) = named.insert((session, seq), place)
        {
            return malformed(&[other, place], "two writes have one name");
        }
    }
    Ok(())
}

/// Runs the log through the model. Reads are compared on the way, as their index comes by.
fn replay<'a>(
    history: &History,
    committed: Committed<'a>,
) -> Result<BTreeMap<Name, Took<'a>>, Violation> {
    let breach =
        |breach, records: &[usize], why: &str| Err(Violation::new(breach, history, records, why));
    let mut reads: Vec<(Index, usize)> = Vec::new();
    for (place, record) in history.records.iter().enumerate() {
        if let (Operation::Read { .. }, Some(index)) = (&record.operation, record.index()) {
            reads.push((index, place));
        }
    }
    reads.sort_unstable();
    let mut reads = reads.into_iter().peekable();
    let mut model = Model::new(committed.epoch, committed.sessions_max);
    let mut effects: BTreeMap<Name, Took<'a>> = BTreeMap::new();
    let mut applied = EntryId::default();
    loop {
        while let Some((_, place)) = reads.next_if(|(index, _)| *index == applied.index) {
            judge_read(history, place, &model)?;
        }
        let at = usize::try_from(applied.index.0).expect("the log lies in memory");
        let Some(entry) = committed.entries.get(at) else {
            break;
        };
        let id = entry.id();
        if id.index != applied.index.next() || id.term < applied.term {
            let why = format!("{id} follows {applied} in the committed log");
            return breach(Breach::BrokenLog, &[], &why);
        }
        applied = id;
        let Some(effect) = model.apply(entry) else {
            continue;
        };
        let name = (effect.write.session, effect.write.seq);
        let took = Took {
            id,
            outcome: effect.outcome,
            command: effect.write.command,
        };
        if let Some(first) = effects.insert(name, took) {
            let why = format!("{name:?} took effect by {} and by {id}", first.id);
            return breach(Breach::AppliedTwice, &[], &why);
        }
    }
    match reads.next() {
        Some((_, place)) => {
            let why = format!("the committed log ends at {applied}");
            breach(Breach::BeyondLog, &[place], &why)
        }
        None => Ok(effects),
    }
}

fn judge_read(history: &History, place: usize, model: &Model<'_>) -> Result<(), Violation> {
    let record = &history.records[place];
    let Operation::Read { query, .. } = &record.operation else {
        unreachable!("only reads are judged here");
    };
    let expected = match (query, &record.answer) {
        (Query::Get { key }, Answer::Got { item, .. }) => {
            if model.has(key, item.as_ref()) {
                return Ok(());
            }
            format!("the key's state at that index is {:?}", model.get(key))
        }
        (Query::Scan(scan), Answer::Scanned { page, .. }) => {
            if model.has_page(scan, page) {
                return Ok(());
            }
            format!("the page at that index is {:?}", model.page(scan))
        }
        _ => unreachable!("a read is answered by its kind"),
    };
    Err(Violation::new(
        Breach::OtherState,
        history,
        &[place],
        &expected,
    ))
}

/// Compares every write with its effect. Returns the index of each record, also of writes whose
/// outcome the client does not know.
fn judge_writes(
    history: &History,
    effects: &BTreeMap<Name, Took<'_>>,
    entries: &[Entry],
) -> Result<(Summary, Vec<Option<Index>>), Violation> {
    let mut summary = Summary::default();
    let mut indexes: Vec<Option<Index>> = Vec::with_capacity(history.records.len());
    let mut asked = 0;
    for (place, record) in history.records.iter().enumerate() {
        indexes.push(record.index());
        let Operation::Write {
            session,
            seq,
            command,
        } = &record.operation
        else {
            continue;
        };
        let breach = |breach, why: &str| Err(Violation::new(breach, history, &[place], why));
        let took = effects.get(&(*session, *seq));
        if let Some(took) = took {
            asked += 1;
            indexes[place] = Some(took.id.index);
            if took.command != command.to_wire() {
                let why = format!("{} carries {:?}", took.id, Command::from(took.command));
                return breach(Breach::NobodyAsked, &why);
            }
        }
        match (&record.answer, took) {
            (Answer::Written { id, outcome }, Some(took)) => {
                if *id != took.id {
                    return breach(
                        Breach::OtherEntry,
                        &format!("it took effect by {}", took.id),
                    );
                }
                // A retry is told what was kept.
                if *outcome != took.outcome && *outcome != took.outcome.to_keep() {
                    return breach(Breach::OtherOutcome, &format!("it did {:?}", took.outcome));
                }
                summary.written += 1;
            }
            (Answer::Written { id, .. }, None) => {
                if id.index.0 > entries.len() as u64 {
                    let why = format!("the committed log ends at {}", entries.len());
                    return breach(Breach::BeyondLog, &why);
                }
                return breach(Breach::OtherEntry, "it never took effect");
            }
            (Answer::NotApplied, Some(took)) => {
                let why = format!("it took effect by {}", took.id);
                return breach(Breach::AppliedAfterAll, &why);
            }
            (Answer::NotApplied, None) => summary.not_applied += 1,
            (_, Some(_)) => summary.unknown_applied += 1,
            (_, None) => summary.unknown_lost += 1,
        }
    }
    if asked != effects.len() {
        return Err(phantom(history, effects));
    }
    Ok((summary, indexes))
}

/// An effect that no record asked for.
fn phantom(history: &History, effects: &BTreeMap<Name, Took<'_>>) -> Violation {
    let mut unasked = effects.clone();
    for record in &history.records {
        if let Operation::Write { session, seq, .. } = record.operation {
            unasked.remove(&(session, seq));
        }
    }
    let first = unasked.iter().min_by_key(|(_, took)| took.id.index);
    let (name, took) = first.expect("there are more effects than writes with one");
    let why = format!("{name:?} took effect by {}: {:?}", took.id, took.command);
    Violation::new(Breach::NobodyAsked, history, &[], &why)
}

pub(super) fn count_reads(history: &History, summary: &mut Summary) {
    for record in &history.records {
        if let (Operation::Read { .. }, Some(_)) = (&record.operation, record.index()) {
            if record.is_stale_read() {
                summary.stale_reads += 1;
            } else {
                summary.reads += 1;
            }
        }
    }
}

/// A read that comes after an entry sees it.
pub(super) fn behind_their_entries(history: &History) -> Result<(), Violation> {
    for (place, record) in history.records.iter().enumerate() {
        if let (Operation::Read { after, .. }, Some(index)) = (&record.operation, record.index())
            && index < *after
        {
            let why = format!("it comes after {after}");
            return Err(Violation::new(Breach::TooEarly, history, &[place], &why));
        }
    }
    Ok(())
}

/// Real time, by index: what had ended when an operation was invoked comes before it. `indexes`
/// says where each record is, if it is anywhere.
pub(super) fn in_real_time(history: &History, indexes: &[Option<Index>]) -> Result<(), Violation> {
    let records = &history.records;
    let mut begins: Vec<(u64, usize)> = (0..records.len())
        .filter(|place| indexes[*place].is_some())
        .filter_map(|place| Some((records[place].sees_all_before_ns()?, place)))
        .collect();
    begins.sort_unstable();
    let mut ends: Vec<usize> = (0..records.len())
        .filter(|place| records[*place].index().is_some())
        .collect();
    ends.sort_unstable_by_key(|place| records[*place].ended_ns);
    let mut ends = ends.into_iter().peekable();
    let mut newest: Option<(Index, usize)> = None;
    for (before_ns, place) in begins {
        while let Some(ended) = ends.next_if(|other| records[*other].ended_ns < Some(before_ns)) {
            newest = newest.max(indexes[ended].map(|index| (index, ended)));
        }
        let (Some(index), Some((floor, before))) = (indexes[place], newest) else {
            continue;
        };
        let is_write = matches!(records[place].operation, Operation::Write { .. });
        if index < floor || (is_write && index == floor) {
            let why = format!("the first had ended at {floor}, the second is at {index}");
            let shown = [before, place];
            return Err(Violation::new(Breach::RealTime, history, &shown, &why));
        }
    }
    Ok(())
}

/// What one connection promises by itself.
pub(super) fn on_connections(history: &History) -> Result<(), Violation> {
    let mut connections: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (place, record) in history.records.iter().enumerate() {
        if let (Some(passage), Some(_)) = (record.passage, record.index()) {
            connections
                .entry(passage.connection)
                .or_default()
                .push(place);
        }
    }
    for places in connections.values_mut() {
        own_writes_seen(history, places)?;
        never_back(history, places)?;
    }
    Ok(())
}

/// A linearizable read sees the writes that were sent before it (rules C1).
fn own_writes_seen(history: &History, places: &mut [usize]) -> Result<(), Violation> {
    let records = &history.records;
    places.sort_unstable_by_key(|place| records[*place].passage);
    let mut newest: Option<(Index, usize)> = None;
    for place in places {
        let record = &records[*place];
        let index = record.index().expect("only answered ones are asked for");
        match &record.operation {
            Operation::Write { .. } => newest = newest.max(Some((index, *place))),
            Operation::Read { .. } => {
                if let Some((floor, before)) = newest
                    && index < floor
                    && !record.is_stale_read()
                {
                    let why = format!("the write is at {floor}, the read at {index}");
                    let shown = [before, *place];
                    return Err(Violation::new(
                        Breach::OwnWriteUnseen,
                        history,
                        &shown,
                        &why,
                    ));
                }
            }
        }
    }
    Ok(())
}

/// A node's applied index never falls while it lives, and a connection ends with it: a read, also a
/// stale one, is at or after everything that was answered before it was sent.
fn never_back(history: &History, places: &[usize]) -> Result<(), Violation> {
    let records = &history.records;
    let mut begins = places.to_vec();
    begins.sort_unstable_by_key(|place| records[*place].invoked_ns);
    let mut ends = places.to_vec();
    ends.sort_unstable_by_key(|place| records[*place].ended_ns);
    let mut ends = ends.into_iter().peekable();
    let mut newest: Option<(Index, usize)> = None;
    for place in begins {
        let record = &records[place];
        let invoked = Some(record.invoked_ns);
        while let Some(ended) = ends.next_if(|other| records[*other].ended_ns < invoked) {
            newest = newest.max(records[ended].index().map(|index| (index, ended)));
        }
        if let (Operation::Read { .. }, Some(index), Some((floor, before))) =
            (&record.operation, record.index(), newest)
            && index < floor
        {
            let why = format!("the first was answered at {floor}, the second at {index}");
            let shown = [before, place];
            return Err(Violation::new(Breach::WentBack, history, &shown, &why));
        }
    }
    Ok(())
}
