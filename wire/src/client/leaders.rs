//! The leaders that a node has known.

use alloc::vec::Vec;

use bytes::{BufMut, BytesMut};

use crate::buf::{Reader, put_count};
use crate::error::Error;
use crate::leadership::Cause;
use crate::limits::LEADER_CHANGES_MAX;
use crate::types::{NodeId, Term};

/// A change of leaders, as one node saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderChange {
    /// The new leader's term.
    pub term: Term,
    /// Who it is.
    pub leader: NodeId,
    /// When the node learned of it: its wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
    /// How long it knew of no leader before, in milliseconds; since its start for the first.
    pub without_ms: u64,
    /// Why the last one leads no more.
    pub cause: Cause,
}

/// Bytes of a change without its cause's details.
const CHANGE_BYTES_MIN: usize = 33;

impl LeaderChange {
    /// Appends a list, oldest first.
    pub(super) fn encode_all(changes: &[Self], out: &mut BytesMut) {
        put_count(out, changes.len(), LEADER_CHANGES_MAX);
        for change in changes {
            out.put_u64(change.term.0);
            out.put_u64(change.leader.0);
            out.put_u64(change.wall_ms);
            out.put_u64(change.without_ms);
            change.cause.encode(out);
        }
    }

    pub(super) fn decode_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, Error> {
        let count = reader.count(LEADER_CHANGES_MAX, CHANGE_BYTES_MIN)?;
        let mut changes = Vec::with_capacity(count);
        for _ in 0..count {
            changes.push(Self {
                term: reader.term()?,
                leader: reader.node()?,
                wall_ms: reader.u64()?,
                without_ms: reader.u64()?,
                cause: Cause::decode(reader)?,
            });
        }
        Ok(changes)
    }
}
