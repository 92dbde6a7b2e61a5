//! A node without a state: the snapshot that its log goes on from is damaged or missing, or its
//! state is not what a quorum holds (rules D5). The log and the vote are good, and it goes on with
//! both; it serves nothing and does not campaign until the leader's snapshot is installed.

use log::Level;
use raft::RoleName;
use wire::error::Error;
use wire::peer::Digest;
use wire::types::{Index, NodeId};

use super::Node;
use super::io::{Effects, SnapshotRequest};
use crate::store::Store;

impl Node {
    /// Whether this node has no state to serve from, or none that it should: other members have
    /// it, or nobody knows what is right.
    pub(super) fn state_in_doubt(&self) -> Option<Error> {
        let doubt = self.raft.is_rebuilding() || self.condemned || self.digests.split().is_some();
        doubt.then_some(Error::StateInDoubt)
    }

    /// Entries were applied up to here, where all compare their states.
    pub(super) fn compare_state(&mut self, index: Index) {
        let sum = self.store.digest();
        let mut differs = self.digests.take(Digest { index, sum });
        if self.raft.role() == RoleName::Leader {
            let members = self.raft.membership();
            differs |= self.digests.judge(index, self.config.id, members);
        }
        self.note_comparison(index, differs);
    }

    /// A follower told the digest of its state; a leader tells that of the quorum.
    pub(super) fn digest_told(&mut self, from: NodeId, digest: Digest) {
        if !self.digests.is_due(digest.index) {
            return;
        }
        let differs = if self.raft.role() == RoleName::Leader {
            self.digests.told(from, digest);
            let members = self.raft.membership();
            self.digests.judge(digest.index, self.config.id, members)
        } else {
            self.digests.learn(digest)
        };
        self.note_comparison(digest.index, differs);
    }

    fn note_comparison(&mut self, index: Index, differs: bool) {
        if let Some(split) = self.digests.split() {
            let text = format!("no quorum agrees on the state, reads stop index={split}");
            self.journal
                .repeated(self.now.monotonic, Level::Error, ("split", 0), || text);
        }
        if differs && !self.condemned {
            let agreed = self.digests.agreed_upto();
            let text = format!("the state differs from the quorum's index={index} agreed={agreed}");
            self.journal.line(Level::Error, text);
            self.condemned = true;
        }
    }

    /// What the next messages tell of the state.
    pub(super) fn tell_digest(&mut self) {
        self.raft
            .set_digest(if self.raft.role() == RoleName::Leader {
                self.digests.newest_right()
            } else {
                self.digests.newest_own()
            });
    }

    /// Throws a state away that is not the quorum's, and every snapshot that may hold it. A leader
    /// hands over first.
    pub(super) fn rebuild_if_condemned(&mut self, effects: &mut Effects) {
        if !self.condemned || self.raft.role() == RoleName::Leader {
            return;
        }
        self.condemned = false;
        let agreed = self.digests.agreed_upto();
        self.snapshots.distrust(agreed, &mut self.freeing, effects);
        self.rebuild(effects);
    }

    /// Throws the state away, and waits for the leader's.
    pub(super) fn rebuild(&mut self, effects: &mut Effects) {
        let empty = Store::new(self.config.epoch, self.config.limits.sessions_max);
        let old = std::mem::replace(&mut self.store, empty);
        effects.snapshot(SnapshotRequest::Free(Box::new(old)));
        self.views.clear(&mut self.freeing);
        self.loader.forget();
        self.digests.forget_own();
        self.raft.rebuild(self.now.monotonic);
        self.abandon_proposals_upto(self.committed, effects);
        // What would be served later may meet a state that is older than what it has to see.
        let reads = self.reads.take_all();
        self.refuse_reads(reads, effects);
        self.replay_to = self.committed;
    }
}
