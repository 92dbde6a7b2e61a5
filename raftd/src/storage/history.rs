//! A new history: a cluster of one goes on from a state under an epoch of its own (rules C7).
//!
//! The state gets one more entry, in which this node is the only member; the log begins behind it.
//! So no member of the old history has an entry of that index and term, and a snapshot of the new
//! state takes nobody's name. Sessions end with the history that they belong to.

use bytes::BytesMut;
use raft::{HardState, Ticket, Write};
use wire::entry::{Entry, EntryKind};
use wire::membership::Membership;
use wire::types::{EntryId, Term};

use super::{fatal_of, fatal_of_disk, fatal_of_snapshot};
use crate::disk::Disk;
use crate::fatal::Fatal;
use crate::snapshot::{self, Step, Writer};
use crate::store::{Store, View};
use crate::wal::identity::Identity;
use crate::wal::segment::SegmentMaker;
use crate::wal::{self, Pending, Progress, Wal};

/// Where the peers of a node would find it, if nothing tells: the daemon's own default.
pub(super) const PEER_ADDR: &str = "127.0.0.1:7401";

/// The state goes on in the history of `identity`, whose node is its only member, at an entry of
/// `term`. It keeps the name that it has among those `known` before, and no id of theirs, or older, is
/// given to another node.
pub(super) fn begin(store: &mut Store, identity: &Identity, known: &Membership, term: Term) {
    let mut membership = Membership::initial(&identity.members, &identity.formed);
    assert!(membership.is_alone(identity.node), "a cluster of one");
    membership.newest = membership.newest.max(known.newest);
    for member in &mut membership.members {
        let before = known.get(member.id);
        member.name = before.map_or_else(String::new, |before| before.name.clone());
    }
    let mut body = BytesMut::new();
    membership.encode(&mut body);
    let id = EntryId {
        term,
        index: store.applied().index.next(),
    };
    let kind = EntryKind::Membership;
    let entry = Entry::build(&mut BytesMut::new(), id, store.wall_ms(), kind, &body);
    store.apply(&entry);
    store.begin_history(identity.epoch);
}

/// A snapshot of the state, whole and durable; nothing names it yet.
pub(super) fn publish<D: Disk>(disk: &D, view: View, identity: &Identity) -> Result<(), Fatal> {
    let failed = |error: snapshot::Error| fatal_of_snapshot(&error);
    let mut writer =
        Writer::begin(disk, view, identity.cluster, &identity.members).map_err(failed)?;
    while !matches!(writer.step(disk).map_err(failed)?, Step::Published(_)) {}
    Ok(())
}

/// The log goes on from this snapshot and forgets what was before it: that is one sync. Segments
/// that it must make are of `segment_bytes`, with salts from `seed`.
pub(super) fn go_on_from<D: Disk>(
    log: &mut Wal<D>,
    identity: &Identity,
    snapshot: EntryId,
    segment_bytes: u64,
    seed: u64,
) -> Result<(), Fatal> {
    let failed = |error: wal::Error| fatal_of(&error);
    let mut pending = Pending::default();
    pending.push(Write {
        ticket: Ticket(1),
        hard_state: HardState {
            term: snapshot.term,
            vote: None,
            lost: false,
        },
        reset: Some(snapshot),
        commit: snapshot.index,
        ..Write::default()
    });
    loop {
        match log.write(&mut pending).map_err(failed)? {
            Progress::Idle => return Ok(()),
            Progress::Durable(_) => {}
            Progress::NoRoom => {
                let (owner, id) = (identity.owner(), log.next_segment());
                let maker = SegmentMaker::begin(log.disk(), owner, id, segment_bytes, seed);
                let spare = maker.and_then(|maker| maker.finish(log.disk()));
                log.add_spare(spare.map_err(|error| fatal_of_disk(&error))?);
            }
        }
    }
}

/// Who is a cluster of one with this node.
pub(super) fn alone(identity: &Identity, peer_addr: &str) -> Identity {
    Identity {
        members: vec![(identity.node, peer_addr.to_owned())],
        formed: vec![(identity.node, identity.incarnation)],
        next_epoch: None,
        ..identity.clone()
    }
}
