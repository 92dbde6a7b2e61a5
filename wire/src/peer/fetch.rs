//! Entries that are damaged on one disk and whole on others (rules D4).

use alloc::vec::Vec;

use bytes::{BufMut, BytesMut};

use crate::buf::{Reader, malformed, put_count, put_entry_id};
use crate::entry::{Entry, Identity};
use crate::error::Error;
use crate::limits::FETCH_ENTRIES_MAX;
use crate::peer::{put_records, read_records};
use crate::types::EntryId;

/// Bytes of an identity.
const IDENTITY_BYTES: usize = 20;

/// Asks for entries whose payload is damaged on the sender's disk. It concerns no term: an entry is
/// the same whoever leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// At most [`FETCH_ENTRIES_MAX`].
    pub entries: Vec<Identity>,
}

impl Fetch {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_count(out, self.entries.len(), FETCH_ENTRIES_MAX);
        for identity in &self.entries {
            put_entry_id(out, identity.id);
            out.put_u32(identity.crc);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let count = reader.count(FETCH_ENTRIES_MAX, IDENTITY_BYTES)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let id = reader.entry_id()?;
            if id == EntryId::default() {
                return Err(malformed("the entry before the log is asked for"));
            }
            let crc = reader.u32()?;
            entries.push(Identity { id, crc });
        }
        Ok(Self { entries })
    }
}

/// The answer to [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Of what was asked for that which the answering node has, in the order asked, as much as fits:
    /// at most [`FETCH_ENTRIES_MAX`], and [`crate::limits::APPEND_BYTES_MAX`] together. That an
    /// entry is not among them means nothing.
    pub entries: Vec<Entry>,
}

impl Fetched {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_records(out, &self.entries, FETCH_ENTRIES_MAX);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let entries = read_records(reader, "fetched", FETCH_ENTRIES_MAX)?;
        Ok(Self { entries })
    }
}
