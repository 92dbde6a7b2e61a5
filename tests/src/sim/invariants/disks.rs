//! What stands on the disks, and when: all of it was handed over, and nothing goes that is committed.

#[cfg(test)]
mod tests;

use raft::HardState;
use raftd::disk::sim::SimDisk;
use wire::types::{EntryId, Index, NodeId, Term};

use super::Invariants;
use super::logs::{Committed, Written};
use crate::sim::audit::{Batch, Held};
use crate::sim::net::Host;

impl Invariants {
    /// Reads what has become durable on a member's disk, if anything can have.
    pub(super) fn look(
        &mut self,
        host: Host,
        disk: &SimDisk,
        after_start: bool,
    ) -> Result<(), String> {
        let member = &mut self.members[host];
        let changes = Some((disk.syncs(), disk.name_changes()));
        if member.changes == changes && !after_start {
            return Ok(());
        }
        member.changes = changes;
        let (id, handed_over, harmed) = (member.id, &member.handed_over, member.harmed);
        let (elections, written, committed) = (&mut self.elections, &self.written, &self.committed);
        let mut verdict = Ok(());
        let (gone, below) = (&mut member.gone, &mut member.below);
        let mut marker = member.audit.snapshot();
        let mut term = member.audit.hard_state().term;
        let (mut lost, mut regained) = (member.audit.hard_state().lost, false);
        let owed = committed.last().min(member.acknowledged_upto);
        let owes = &mut member.owes;
        let mut show = |batch: &Batch<'_>| {
            if !batch.cut.is_empty() {
                gone.push((batch.cut_from, batch.cut.to_vec()));
            }
            if verdict.is_ok() {
                verdict = elections
                    .durable(id, batch.hard_state)
                    .and_then(|()| check_written(written, handed_over, id, batch))
                    .and_then(|()| match (batch.anew, harmed) {
                        (false, _) => check_marker(committed, id, marker, batch)
                            .and_then(|()| check_durable_cut(committed, id, term, batch)),
                        (true, true) => Ok(()),
                        (true, false) => Err(format!("the log of {id} begins anew, undamaged")),
                    });
            }
            if verdict.is_ok() && batch.resets {
                verdict = committed.upto(batch.snapshot).map(|held| *below = held);
            }
            if batch.hard_state.lost && !lost {
                *owes = owed.max(*owes);
            }
            regained |= lost && !batch.hard_state.lost;
            lost = batch.hard_state.lost;
            term = batch.hard_state.term;
            marker = batch.snapshot;
        };
        while member.audit.step(disk, &mut show) {}
        verdict?;
        if regained {
            member.has_regained(&self.committed)?;
        }
        self.snapshots
            .look(member, disk, &self.committed, &self.states)
    }
}

/// Everything in a batch was handed to this disk, and a cut brings its replacement (rules A6).
fn check_written(
    written: &Written,
    handed_over: &[HardState],
    id: NodeId,
    batch: &Batch<'_>,
) -> Result<(), String> {
    let state = batch.hard_state;
    // Recovery says by itself that entries are lost.
    let found = |known: &HardState| (known.term, known.vote) == (state.term, state.vote);
    let known = handed_over.contains(&state)
        || (batch.anew && (state.term == Term(0) || handed_over.iter().any(found)));
    if state != HardState::default() && !known {
        return Err(format!(
            "the disk of {id} holds {state:?}, which was never written"
        ));
    }
    if !batch.cut.is_empty() && batch.entries.is_empty() && !batch.resets {
        let first = batch.first;
        return Err(format!(
            "a batch of {id} cuts {first} and puts nothing there"
        ));
    }
    let mut before = batch.before.term;
    for (entry, index) in batch.entries.iter().zip(batch.first.0..) {
        if !written.knows(before, Index(index), *entry) {
            return Err(format!(
                "the disk of {id} holds {entry:?} at {index}, which was never written"
            ));
        }
        before = entry.term;
    }
    Ok(())
}

/// The marker never falls and names a committed entry, which this disk holds or whose place the
/// snapshot takes (rules E6).
fn check_marker(
    committed: &Committed,
    id: NodeId,
    before: EntryId,
    batch: &Batch<'_>,
) -> Result<(), String> {
    let marker = batch.snapshot;
    if marker.index < before.index {
        return Err(format!(
            "the marker of {id} falls from {before} to {marker}"
        ));
    }
    if marker == before {
        return Ok(());
    }
    let known = committed.held(marker.index).map(|held| held.term);
    let last = batch.first.0 - 1 + batch.entries.len() as u64;
    if known != Some(marker.term) || marker.index.0 > last {
        return Err(format!(
            "{id} marks {marker}, where {known:?} is committed; its disk ends at {last}"
        ));
    }
    Ok(())
}

/// As [`check_cut`]; what the snapshot covers that takes the place of the log is not lost.
fn check_durable_cut(
    committed: &Committed,
    id: NodeId,
    term: Term,
    batch: &Batch<'_>,
) -> Result<(), String> {
    let covered = batch.first.0.saturating_sub(batch.cut_from.0) as usize;
    let cut = batch.cut.get(covered..).unwrap_or_default();
    check_cut(committed, id, term, batch.first, cut)
}

/// Nothing is cut that was committed up to the term that the member was in before. What later terms
/// commit it may hold by chance: a leader elected before them, without that entry, has it cut.
pub(super) fn check_cut(
    committed: &Committed,
    id: NodeId,
    term: Term,
    from: Index,
    cut: &[Held],
) -> Result<(), String> {
    let last = committed.last_before(term.next());
    for (entry, index) in cut.iter().zip(from.0..=last.0) {
        if committed.held(Index(index)) == Some(*entry) {
            return Err(format!("{id} cuts the committed {index} from its log"));
        }
    }
    Ok(())
}
