//! A member's turn: what is looked at before its effects leave, and what follows from them.

use raft::RoleName;
use raftd::node::io::{SnapshotRequest, StorageRequest};
use wire::entry::EntryKind;
use wire::frame::Kind as FrameKind;
use wire::types::Index;

use super::Run;
use crate::sim::faults::Moment;
use crate::sim::invariants::Turn;
use crate::sim::member::Member;
use crate::sim::net::Host;

/// So many entries that were mended are looked at.
const MENDED_MAX: u64 = 64;

impl Run {
    pub(super) fn thought(&mut self, host: Host) -> Result<(), String> {
        self.look(host);
        if self.spreads(host) {
            return Ok(());
        }
        let was_spoiled = self.invariants.is_spoiled(host);
        self.watch_over(host)?;
        if was_spoiled && !self.invariants.is_spoiled(host) {
            self.hang_up(host);
        }
        self.see_healing(host);
        if let Some(death) = self.world.carry_out(host) {
            self.died(host, &death)?;
        }
        if self.moments.is_empty() {
            return Ok(());
        }
        let mut moments = std::mem::take(&mut self.moments);
        let mut faults = std::mem::take(&mut self.faults);
        for moment in moments.drain(..) {
            self.show(|nemesis, view| nemesis.moment(moment, view, &mut faults));
        }
        self.moments = moments;
        self.faults = faults;
        self.carry_faults()
    }

    /// Holds what a turn brought against the rules and the disks, unless the disks lie.
    fn watch_over(&mut self, host: Host) -> Result<(), String> {
        if !self.disks_are_honest() {
            return Ok(());
        }
        let members = self.world.members();
        let member = &members[host];
        let (now, settings) = (self.world.now(), self.world.settings());
        self.conduct.after_turn(now, member, settings)?;
        let (Some(node), Some(effects)) = (member.node(), member.effects()) else {
            return Ok(());
        };
        let disks: Vec<_> = members.iter().map(Member::disk).collect();
        let turn = Turn {
            node,
            effects,
            disk: member.disk(),
            peer_of: &|link| member.peer_of(link),
        };
        if self.plan.faults.outside.is_none() {
            self.invariants.keeps_out(host, node)?;
        }
        let faulty = self.invariants.faulty(host);
        self.invariants.after_turn(host, turn, &disks)?;
        self.invariants.matches(host, node)?;
        match faulty.filter(|first| Some(*first) != node.raft().faulty()) {
            Some(first) => self.check_mended(host, first),
            None => Ok(()),
        }
    }

    /// Entries from `first` on are faulty no more: the disk gives back what it once held.
    fn check_mended(&self, host: Host, first: Index) -> Result<(), String> {
        let member = &self.world.members()[host];
        let next = member.node().and_then(|node| node.raft().faulty());
        let end = next.map_or(Index(first.0 + MENDED_MAX), |next| next);
        for index in (first.0..end.0).map(Index) {
            match member.read_back(index) {
                Ok(found) => self.invariants.is_mended(host, index, found)?,
                // It may be damaged once more.
                Err(_) if self.nemesis.atlas().may_refuse(host) => {}
                Err(error) => {
                    let id = member.id;
                    return Err(format!(
                        "{index} of {id} is mended, and cannot be read: {error}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a wrong state is sent on before any digest could tell: the run ends there. Whoever
    /// receives it makes a majority with it in a small cluster.
    fn spreads(&mut self, host: Host) -> bool {
        let effects = self.world.members()[host].effects();
        self.over = effects.is_some_and(|effects| self.invariants.spreads(host, effects));
        if self.over {
            self.watch.spread();
            self.world
                .note(|| format!("{} sends a wrong state on", host + 1));
        }
        self.over
    }

    /// Takes note if a member that was damaged is whole again. What was damaged while it lived it
    /// may have found out only when it started again.
    fn see_healing(&mut self, host: Host) {
        let member = &self.world.members()[host];
        let (Some(node), Some(life)) = (member.node(), self.harmed_in[host]) else {
            return;
        };
        if member.lives() <= life || !self.invariants.is_whole(host, node) {
            return;
        }
        self.nemesis.healed(host);
        if self.nemesis.atlas().is_sound(host) {
            self.harmed_in[host] = None;
            self.invariants.healed(host);
            self.watch.healed(self.operator.is_some());
            self.world.note(|| format!("{} is whole again", host + 1));
        }
    }

    /// Looks at what a turn brought before it leaves.
    fn look(&mut self, host: Host) {
        let member = &self.world.members()[host];
        let (Some(node), Some(effects)) = (member.node(), member.effects()) else {
            return;
        };
        self.watch.turn(host, node, effects);
        let raft = node.raft();
        let leads = (raft.role() == RoleName::Leader).then(|| raft.term());
        if leads != self.leads[host] {
            self.leads[host] = leads;
            if leads.is_some() {
                self.moments.push(Moment::Elected(host));
            }
        }
        let segment = member.newest_segment();
        let before = std::mem::replace(&mut self.newest_segments[host], segment);
        if before.is_some() && before < segment {
            self.moments.push(Moment::Rotates(host));
        }
        let written = FrameKind::Written.code();
        let is_written = |range: &std::ops::Range<usize>| {
            effects.reply_bytes.get(range.start + 5) == Some(&written)
        };
        if effects.replies.iter().any(|(_, range)| is_written(range)) {
            self.moments.push(Moment::Acknowledged(host));
        }
        for request in &effects.storage {
            if let StorageRequest::Snapshot(SnapshotRequest::Receive {
                total_bytes,
                offset,
                bytes,
                ..
            }) = request
            {
                let last = !bytes.is_empty() && offset + bytes.len() as u64 == *total_bytes;
                self.moments.push(Moment::Receives { host, last });
            }
            if let StorageRequest::Write(write) = request {
                if raft.role() == RoleName::Candidate && write.hard_state.vote == Some(member.id) {
                    self.moments.push(Moment::Votes(host));
                }
                if write.truncate_from.is_some() {
                    self.moments.push(Moment::Truncates(host));
                }
                let mut entries = write.entries.iter();
                if raft.role() == RoleName::Leader
                    && entries.any(|entry| entry.kind() == EntryKind::Membership)
                {
                    self.moments.push(Moment::Changes(host));
                }
            }
        }
    }
}
